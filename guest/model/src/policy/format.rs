//! The bytes of a fragment.
//!
//! Little-endian; every reference is an offset from the fragment's start or a record's number in its section. A fragment is
//! read where it lies: opening it checks the header, the checksum and the bounds of each section, and copies nothing. Every
//! offset inside is checked again where it is used.
//!
//! ```text
//! 0    [8]      "PTCLPOL\n"
//! 8    u64      XXH3-64 of everything from offset 16
//! 16   u32      format, 3
//! 20   u32      0 base, 1 delta
//! 24   u64      revision that it applies to (a base: its own)
//! 32   u64      revision
//! 40   [16]     seed
//! 56   u32      length of the whole
//! 60   u32      number of sections, 11
//! 64   u32      the newest checkpoint of the audit, a list of bytes; 0 where there is none
//! 68   u32      0
//! 72   (u32, u32) per section: offset, number of records
//! ```
//!
//! Sections in order, with the size of a record in bytes:
//!
//! | section | bytes | record |
//! |---|---|---|
//! | installation | 20 | clock skew s, maximum staleness s, trusted proxies (ranges), signature profiles, token keys |
//! | tenants | 16 | id, flags, settings, token issuer |
//! | services | 24 | id, flags, pinned tenant, accepted places, endpoint paths, challenge |
//! | endpoints | 20 | id `service/endpoint`, flags, name, scope, audience |
//! | groups | 12 | id `tenant/group`, flags, permissions |
//! | users | 12 | id `tenant/user`, flags, group |
//! | routes | 12 | host pattern, flags, service paths |
//! | credentials | 64 | digest, id, tenant, flags, expiry u64, three words by kind, 4 spare bytes |
//! | credential index | 64 | bucket; by digest, and clients by id too |
//! | route index | 64 | bucket |
//! | arena | 1 | texts behind u16 lengths, lists, ranges, path tables; each list on a multiple of 4 |
//!
//! The first byte of a record's flags is its presence: 0 defined here, 1 named only (a delta refers to what the policy
//! already has), 2 removed. Sections are sorted by id (credentials by id and version), so the same records give the same
//! bytes.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::Unreadable;
use crate::credential::Seed;
use crate::id::Revision;

/// The longest fragment in bytes. Offsets are u32, and proxies cap the memory of a guest near here.
pub const MAX_POLICY_BYTES: usize = 2 << 30;

pub(crate) const MAGIC: [u8; 8] = *b"PTCLPOL\n";
pub(crate) const FORMAT: u32 = 3;
/// Where the header's table of sections begins.
const SECTIONS_AT: usize = 72;
pub(crate) const HEADER_BYTES: usize = SECTIONS_AT + 8 * SECTIONS;
pub(crate) const SECTIONS: usize = 11;
/// Stands where a reference to a record is left out.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Section {
    Installation,
    Tenants,
    Services,
    Endpoints,
    Groups,
    Users,
    Routes,
    Credentials,
    CredentialIndex,
    RouteIndex,
    Arena,
}

impl Section {
    pub(crate) const ALL: [Section; SECTIONS] = [
        Section::Installation,
        Section::Tenants,
        Section::Services,
        Section::Endpoints,
        Section::Groups,
        Section::Users,
        Section::Routes,
        Section::Credentials,
        Section::CredentialIndex,
        Section::RouteIndex,
        Section::Arena,
    ];

    pub(crate) const fn record_bytes(self) -> usize {
        match self {
            Section::Groups | Section::Users | Section::Routes => 12,
            Section::Tenants => 16,
            Section::Installation | Section::Endpoints => 20,
            Section::Services => 24,
            Section::Credentials | Section::CredentialIndex | Section::RouteIndex => 64,
            Section::Arena => 1,
        }
    }
}

/// Whether a record is in this fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    Defined,
    Named,
    Removed,
}

impl Presence {
    pub(crate) fn of(flags: u32) -> Result<Presence, Unreadable> {
        match flags & 0xff {
            0 => Ok(Presence::Defined),
            1 => Ok(Presence::Named),
            2 => Ok(Presence::Removed),
            _ => Err(Unreadable),
        }
    }

    pub(crate) fn bits(self) -> u32 {
        match self {
            Presence::Defined => 0,
            Presence::Named => 1,
            Presence::Removed => 2,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FragmentKind {
    Base,
    Delta,
}

/// A fragment's bytes, opened.
pub(crate) struct Fragment {
    bytes: Bytes,
    sections: [(usize, u32); SECTIONS],
    pub(crate) kind: FragmentKind,
    pub(crate) from: Revision,
    pub(crate) revision: Revision,
    pub(crate) keys: (u64, u64),
}

impl Fragment {
    pub(crate) fn open(bytes: Bytes) -> Result<Fragment, LoadError> {
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(LoadError::NotAPolicy)?;
        if !head.starts_with(&MAGIC) {
            return Err(LoadError::NotAPolicy);
        }
        let word = |at: usize| word(head, at).map_err(|Unreadable| LoadError::NotAPolicy);
        let long = |at: usize| long(head, at).map_err(|Unreadable| LoadError::NotAPolicy);
        let found = word(16)?;
        if found > FORMAT {
            return Err(LoadError::NewerFormat { found });
        }
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(LoadError::TooLarge);
        }
        let length = usize::try_from(word(56)?).map_err(|_| LoadError::TooLarge)?;
        if length != bytes.len() {
            return Err(LoadError::Length { expected: length, found: bytes.len() });
        }
        if long(8)? != checksum(&bytes) {
            return Err(LoadError::Checksum);
        }
        if found != FORMAT || word(60)? as usize != SECTIONS {
            return Err(LoadError::Damaged);
        }
        let kind = match word(20)? {
            0 => FragmentKind::Base,
            1 => FragmentKind::Delta,
            _ => return Err(LoadError::Damaged),
        };
        let mut sections = [(0, 0); SECTIONS];
        for (number, (place, section)) in sections.iter_mut().zip(Section::ALL).enumerate() {
            let (offset, count) = (word(SECTIONS_AT + 8 * number)? as usize, word(SECTIONS_AT + 4 + 8 * number)?);
            let size = (count as usize).checked_mul(section.record_bytes()).ok_or(LoadError::Damaged)?;
            if offset < HEADER_BYTES || offset.checked_add(size).is_none_or(|end| end > bytes.len()) {
                return Err(LoadError::Damaged);
            }
            *place = (offset, count);
        }
        let (from, revision) = (Revision(long(24)?), Revision(long(32)?));
        let keys = (long(40)?, long(48)?);
        Ok(Fragment { bytes, sections, kind, from, revision, keys })
    }

    /// Bytes without a header, for tests of what lies in an arena.
    #[cfg(test)]
    pub(crate) fn of(bytes: Vec<u8>, keys: (u64, u64)) -> Fragment {
        let sections = [(0, 0); SECTIONS];
        let bytes = bytes.into();
        Fragment { bytes, sections, kind: FragmentKind::Base, from: Revision(0), revision: Revision(0), keys }
    }

    /// The newest checkpoint of the audit that came with the fragment.
    pub(crate) fn checkpoint(&self) -> Result<&str, Unreadable> {
        let bytes = self.list::<1>(word(&self.bytes, 64)?)?.as_flattened();
        std::str::from_utf8(bytes).map_err(|_| Unreadable)
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }

    #[expect(clippy::indexing_slicing, reason = "a section's number is below the array's length")]
    pub(crate) fn count(&self, section: Section) -> u32 {
        self.sections[section as usize].1
    }

    /// The whole of a section.
    #[expect(clippy::indexing_slicing, reason = "a section's number is below the array's length")]
    pub(crate) fn section(&self, section: Section) -> Result<&[u8], Unreadable> {
        let (offset, count) = self.sections[section as usize];
        let end = offset + count as usize * section.record_bytes();
        self.bytes.get(offset..end).ok_or(Unreadable)
    }

    /// The record of that number, as its bytes.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a section's number is below the array's length")]
    pub(crate) fn record<const N: usize>(&self, section: Section, number: u32) -> Result<&[u8; N], Unreadable> {
        let (offset, count) = self.sections[section as usize];
        if number >= count {
            return Err(Unreadable);
        }
        let at = offset + number as usize * section.record_bytes();
        self.bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Unreadable)
    }

    /// The bytes from an offset on.
    pub(crate) fn at(&self, offset: u32) -> Result<&[u8], Unreadable> {
        self.bytes.get(offset as usize..).ok_or(Unreadable)
    }

    /// The text at an offset. An offset of 0 is the empty text.
    #[inline]
    pub(crate) fn text(&self, offset: u32) -> Result<&str, Unreadable> {
        std::str::from_utf8(self.raw_text(offset)?).map_err(|_| Unreadable)
    }

    /// The bytes of the text at an offset, for where they are only compared.
    #[inline]
    pub(crate) fn raw_text(&self, offset: u32) -> Result<&[u8], Unreadable> {
        if offset == 0 {
            return Ok(&[]);
        }
        let (length, rest) = self.at(offset)?.split_first_chunk().ok_or(Unreadable)?;
        rest.get(..usize::from(u16::from_le_bytes(*length))).ok_or(Unreadable)
    }

    /// The list at an offset: its entries of `N` bytes behind their number. An offset of 0 is the empty list.
    #[inline]
    pub(crate) fn list<const N: usize>(&self, offset: u32) -> Result<&[[u8; N]], Unreadable> {
        if offset == 0 {
            return Ok(&[]);
        }
        let rest = self.at(offset)?;
        let (count, rest) = rest.split_first_chunk().ok_or(Unreadable)?;
        let bytes = (u32::from_le_bytes(*count) as usize).checked_mul(N).ok_or(Unreadable)?;
        let (entries, _) = rest.get(..bytes).ok_or(Unreadable)?.as_chunks();
        Ok(entries)
    }
}

/// The word at a fixed place of a record.
#[inline]
pub(crate) fn word(record: &[u8], at: usize) -> Result<u32, Unreadable> {
    record.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_le_bytes(*bytes)).ok_or(Unreadable)
}

/// The double word at a fixed place of a record.
#[inline]
pub(crate) fn long(record: &[u8], at: usize) -> Result<u64, Unreadable> {
    record.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Unreadable)
}

pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes.get(16..).unwrap_or_default())
}

/// The two keys of the tables' hash.
pub(crate) fn keys(seed: Seed) -> (u64, u64) {
    let bits = u128::from_le_bytes(seed.0);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    (bits as u64, (bits >> 64) as u64)
}

/// Why bytes were not accepted as a policy or as a delta of one. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// They do not begin as a policy does.
    #[error("these bytes are not a compiled policy; make one with `portcullis policy build`")]
    NotAPolicy,
    /// They are of a format from after this build.
    #[error("the policy has format {found}, this build reads up to {FORMAT}: use a newer portcullis or build it again")]
    NewerFormat {
        /// The format they say.
        found: u32,
    },
    /// They exceed [`MAX_POLICY_BYTES`].
    #[error("the policy is longer than {MAX_POLICY_BYTES} bytes")]
    TooLarge,
    /// There are fewer or more of them than the header says.
    #[error("the policy has {found} bytes and should have {expected}: it was cut off or added to")]
    Length {
        /// The length in the header.
        expected: usize,
        /// The bytes there are.
        found: usize,
    },
    /// They changed since they were made.
    #[error("the policy's checksum does not match: it was damaged")]
    Checksum,
    /// The checksum holds but the structure does not.
    #[error("the policy is malformed")]
    Damaged,
    /// A delta was given for a base, or the other way round.
    #[error("expected a {expected}")]
    WrongKind {
        /// `base` or `delta`.
        expected: &'static str,
    },
    /// The delta has another seed than the policy.
    #[error("the delta is of another installation: its seed is not the policy's")]
    ForeignInstallation,
    /// The delta is for another revision.
    #[error("the delta applies to revision {from}, the policy is at revision {at}")]
    WrongRevision {
        /// The revision it applies to.
        from: Revision,
        /// The revision that is loaded.
        at: Revision,
    },
    /// The delta refers to something that the policy does not have.
    #[error("the delta refers to the {kind} `{id}`, which the policy does not have")]
    Dangling {
        /// The kind of thing.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// The overlay has reached its limit.
    #[error("the overlay is full: load a new base")]
    OverlayFull,
    /// There is no delta checked and waiting with that revision.
    #[error("no checked delta leads to revision {revision}")]
    NotPrepared {
        /// The revision that was asked for.
        revision: Revision,
    },
    /// No policy has been loaded that a delta could apply to.
    #[error("no base has been loaded")]
    NoBase,
    /// The memory that the policy needs cannot be had.
    #[error("not enough memory for the policy")]
    OutOfMemory,
}
