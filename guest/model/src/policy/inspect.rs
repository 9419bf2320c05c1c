//! What a compiled policy or delta says of itself, without loading it.

use super::format::{FORMAT, Fragment, FragmentKind, LoadError, MAGIC, Presence, Section, word};
use super::layers::damaged;
use crate::id::Revision;

/// A compiled policy or delta whose header, checksum and bounds have been checked.
///
/// ```
/// use portcullis_model::credential::Seed;
/// use portcullis_model::id::Revision;
/// use portcullis_model::policy::{Compiled, build};
/// use portcullis_model::source::Source;
///
/// let compiled = Compiled::open(build(&Source::empty(Revision(7), Seed([0; 16]))).unwrap()).unwrap();
/// assert_eq!((compiled.applies_to(), compiled.revision()), (None, Revision(7)));
/// ```
pub struct Compiled {
    fragment: Fragment,
    contents: Contents,
}

/// How many records a compiled policy or delta holds, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// Services.
    pub services: Tally,
    /// Endpoints; those of a removed service are not counted.
    pub endpoints: Tally,
    /// Hosts.
    pub hosts: Tally,
    /// Tenants.
    pub tenants: Tally,
    /// Groups.
    pub groups: Tally,
    /// Users.
    pub users: Tally,
    /// Versions of secrets.
    pub secrets: Tally,
}

/// How many records of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Records that are there, new or replaced where it is a delta.
    pub put: u32,
    /// Records that a delta removes.
    pub removed: u32,
}

impl Compiled {
    /// Checks the bytes and takes them.
    ///
    /// # Errors
    /// Any [`LoadError`] of damaged, foreign or newer bytes.
    pub fn open(bytes: Vec<u8>) -> Result<Compiled, LoadError> {
        let fragment = Fragment::open(bytes.into())?;
        let tally = |section| tally(&fragment, section);
        let contents = Contents {
            services: tally(Section::Services)?,
            endpoints: tally(Section::Endpoints)?,
            hosts: tally(Section::Routes)?,
            tenants: tally(Section::Tenants)?,
            groups: tally(Section::Groups)?,
            users: tally(Section::Users)?,
            secrets: tally(Section::Credentials)?,
        };
        Ok(Compiled { fragment, contents })
    }

    /// Whether bytes begin as a compiled policy or delta does. Nothing more is checked.
    #[must_use]
    pub fn is_likely(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// The revision that a delta applies to; nothing for a whole policy.
    #[must_use]
    pub fn applies_to(&self) -> Option<Revision> {
        match self.fragment.kind {
            FragmentKind::Base => None,
            FragmentKind::Delta => Some(self.fragment.from),
        }
    }

    /// The revision of a whole policy, or the one that a delta leads to.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.fragment.revision
    }

    /// How many records it holds.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.contents
    }

    /// The version of the format that the bytes are in.
    #[must_use]
    pub fn format(&self) -> u32 {
        FORMAT
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.fragment.bytes()
    }

    /// Gives the bytes back.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.fragment.into_bytes()
    }
}

fn tally(fragment: &Fragment, section: Section) -> Result<Tally, LoadError> {
    let flags_at = if section == Section::Credentials { 40 } else { 4 };
    let size = section.record_bytes();
    let mut tally = Tally::default();
    for record in fragment.section(section).map_err(damaged)?.chunks_exact(size) {
        match word(record, flags_at).and_then(Presence::of).map_err(damaged)? {
            Presence::Defined => tally.put += 1,
            Presence::Removed => tally.removed += 1,
            Presence::Named => {}
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Seed;
    use crate::policy::{build, build_delta};
    use crate::source::{Delta, Source};

    const SOURCE: &str = r#"{
        "format": 1, "revision": 1, "seed": "000102030405060708090a0b0c0d0e0f",
        "services": [{"id": "shop", "hosts": ["a.example"], "endpoints": [{"id": "events", "paths": ["/events"]}]}],
        "tenants": [{"id": "acme"}],
        "groups": [{"id": "all", "tenant": "acme", "permissions": [{"endpoint": "shop/events"}]}]
    }"#;

    #[test]
    fn a_base_counts_what_it_has_and_a_delta_what_it_changes() {
        let old = Source::from_json(SOURCE.as_bytes()).unwrap();
        let compiled = Compiled::open(build(&old).unwrap()).unwrap();
        let one = Tally { put: 1, removed: 0 };
        let all =
            Contents { services: one, endpoints: one, hosts: one, tenants: one, groups: one, ..Contents::default() };
        assert_eq!((compiled.applies_to(), compiled.contents()), (None, all));

        let new = Source { revision: Revision(2), groups: Vec::new(), ..old.clone() };
        let compiled = Compiled::open(build_delta(&Delta::between(&old, &new)).unwrap()).unwrap();
        let removed = Contents { groups: Tally { put: 0, removed: 1 }, ..Contents::default() };
        assert_eq!((compiled.applies_to(), compiled.revision()), (Some(Revision(1)), Revision(2)));
        assert_eq!(compiled.contents(), removed);
    }

    #[test]
    fn likely_bytes_are_not_yet_sound_ones() {
        let mut bytes = build(&Source::empty(Revision(1), Seed([0; 16]))).unwrap();
        bytes.pop();
        assert!(Compiled::is_likely(&bytes));
        assert!(matches!(Compiled::open(bytes), Err(LoadError::Length { .. })));
        assert!(!Compiled::is_likely(b"{}"));
    }
}
