//! From a source document or a delta to bytes: the one builder.
//!
//! The same records give the same bytes, in whatever order the document lists them.
//!
//! | module | holds |
//! |---|---|
//! | [`check`] | what must hold of a document |
//! | [`order`] | credentials in the order of the bytes |
//! | [`names`] | the ids of each kind of record, numbered |
//! | [`draft`] | the bytes that are being written |
//! | [`services`], [`tenants`], [`proof`], [`credentials`] | one section each, or a few |

mod check;
mod credentials;
pub(crate) mod draft;
mod names;
mod order;
mod proof;
mod services;
mod tenants;

use std::fmt;

use self::draft::Draft;
use self::names::AllNames;
use self::order::InOrder;
use super::format::{FORMAT, FragmentKind, HEADER_BYTES, MAGIC, MAX_POLICY_BYTES, SECTIONS, keys};
use super::index;
use crate::credential::Seed;
use crate::id::Revision;
use crate::source::{Delta, Fault, Group, Installation, Removed, Route, Service, Source, Tenant, User, routes};

/// Compiles a whole source document into the bytes of a base.
///
/// # Errors
/// [`BuildError::Faults`] with the first faults of the document: dangling references, duplicates, fields that a kind does
/// not have, paths that cannot match; the others where the result would exceed the format.
pub fn build(source: &Source) -> Result<Vec<u8>, BuildError> {
    let credentials = InOrder::of(&source.credentials);
    check::source(source, &credentials).map_err(BuildError::Faults)?;
    let routes = routes(source);
    encode(&Records {
        kind: FragmentKind::Base,
        from: source.revision,
        revision: source.revision,
        seed: source.seed,
        installation: Some(&source.installation),
        services: &source.services,
        routes: &routes,
        tenants: &source.tenants,
        groups: &source.groups,
        users: &source.users,
        credentials,
        removed: &Removed::default(),
        checkpoint: source.checkpoint.as_deref(),
    })
}

/// Compiles a delta.
///
/// References to records that the delta does not hold are left to the policy that it is applied to.
///
/// # Errors
/// As [`build`], for the records that the delta does hold.
pub fn build_delta(delta: &Delta) -> Result<Vec<u8>, BuildError> {
    let credentials = InOrder::of(&delta.credentials);
    check::delta(delta, &credentials).map_err(BuildError::Faults)?;
    encode(&Records {
        kind: FragmentKind::Delta,
        from: delta.from,
        revision: delta.revision,
        seed: delta.seed,
        installation: delta.installation.as_ref(),
        services: &delta.services,
        routes: &delta.routes,
        tenants: &delta.tenants,
        groups: &delta.groups,
        users: &delta.users,
        credentials,
        removed: &delta.removed,
        checkpoint: delta.checkpoint.as_deref(),
    })
}

/// Why a policy could not be built. Nothing has been made then.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// What is wrong with the document, each with its place; the first [`check::MAX_FAULTS`] of them.
    Faults(Vec<Fault>),
    /// Too many digests fall into one place of the table. By chance that does not happen: they were chosen so.
    IndexFull {
        /// The credential, or the host, that found no place.
        record: String,
    },
    /// The policy would be longer than [`MAX_POLICY_BYTES`].
    TooLarge,
}

impl std::error::Error for BuildError {}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Faults(faults) => {
                for (position, fault) in faults.iter().enumerate() {
                    let separator = if position == 0 { "" } else { "\n" };
                    write!(f, "{separator}{fault}")?;
                }
                Ok(())
            }
            BuildError::IndexFull { record } => {
                write!(f, "no place in the table for `{record}`: its digest was chosen to collide")
            }
            BuildError::TooLarge => write!(f, "the policy would be longer than {MAX_POLICY_BYTES} bytes"),
        }
    }
}

/// Checked records, of a source or of a delta.
struct Records<'s> {
    kind: FragmentKind,
    from: Revision,
    revision: Revision,
    seed: Seed,
    installation: Option<&'s Installation>,
    services: &'s [Service],
    routes: &'s [Route],
    tenants: &'s [Tenant],
    groups: &'s [Group],
    users: &'s [User],
    credentials: InOrder<'s>,
    removed: &'s Removed,
    checkpoint: Option<&'s str>,
}

/// Everything that is being put together.
struct Encoder<'s> {
    records: &'s Records<'s>,
    names: &'s AllNames<'s>,
    draft: Draft,
}

fn encode(records: &Records<'_>) -> Result<Vec<u8>, BuildError> {
    let names = AllNames::of(records)?;
    let draft = Draft::new(counts(records, &names), keys(records.seed))?;
    Encoder { records, names: &names, draft }.encode()
}

/// The number of records in each section but the arena.
fn counts(records: &Records<'_>, names: &AllNames<'_>) -> [usize; SECTIONS - 1] {
    let credentials = || records.credentials.iter();
    let secrets: usize = credentials().map(|credential| credential.secrets.len()).sum();
    // Each is found by its id too.
    let clients = credentials().filter(|credential| credential.kind.is_client()).count();
    let routes = records.routes.len() + records.removed.routes.len();
    let buckets = |count: usize| match records.kind {
        FragmentKind::Base => count.div_ceil(index::LOAD),
        FragmentKind::Delta => 0,
    };
    [
        usize::from(records.installation.is_some()),
        names.tenants.count(),
        names.services.count(),
        names.endpoints.count(),
        names.groups.count(),
        names.users.count(),
        routes,
        secrets + records.removed.digests.len(),
        buckets(secrets + clients),
        buckets(routes),
    ]
}

impl Encoder<'_> {
    fn encode(mut self) -> Result<Vec<u8>, BuildError> {
        // In this order they come to stand in the arena.
        self.installation();
        self.tenants();
        self.services()?;
        self.endpoints();
        self.groups();
        self.users();
        self.routes()?;
        self.credentials()?;
        let checkpoint = self.records.checkpoint.unwrap_or_default().as_bytes().iter().map(|byte| [*byte]);
        let checkpoint = self.draft.list(checkpoint);
        let header = self.header(checkpoint)?;
        Ok(self.draft.finish(&header))
    }

    fn header(&self, checkpoint: u32) -> Result<[u8; HEADER_BYTES], BuildError> {
        let length = self.draft.length();
        if length > MAX_POLICY_BYTES {
            return Err(BuildError::TooLarge);
        }
        let word = |number: usize| u32::try_from(number).map_err(|_| BuildError::TooLarge);
        let kind: u32 = match self.records.kind {
            FragmentKind::Base => 0,
            FragmentKind::Delta => 1,
        };
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&self.records.from.0.to_le_bytes());
        out.extend_from_slice(&self.records.revision.0.to_le_bytes());
        out.extend_from_slice(&self.records.seed.0);
        for number in [word(length)?, word(SECTIONS)?, checkpoint, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (offset, count) in self.draft.places() {
            out.extend_from_slice(&word(offset)?.to_le_bytes());
            out.extend_from_slice(&word(count)?.to_le_bytes());
        }
        out.try_into().map_err(|_| BuildError::TooLarge)
    }
}

/// Words as a record or an entry of a list has them.
fn bytes<const N: usize, const M: usize>(words: [u32; N]) -> [u8; M] {
    let mut bytes = [0; M];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
