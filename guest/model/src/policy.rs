//! The compiled policy.
//!
//! A policy is a **base**, immutable and read in place, and an **overlay** of everything that changed since. Both are made
//! of *fragments* in one format by one builder: the base is a fragment that is complete, a delta one that names what it
//! does not hold. See [`format`](self::format) for the bytes.
//!
//! ```
//! use portcullis_model::credential::Seed;
//! use portcullis_model::id::Revision;
//! use portcullis_model::policy::{Policy, build};
//! use portcullis_model::source::Source;
//!
//! let source = Source::empty(Revision(1), Seed([0; 16]));
//! let policy = Policy::open(build(&source).unwrap()).unwrap();
//! assert_eq!(policy.revision(), Revision(1));
//! ```

mod build;
pub mod format;
mod index;
mod inspect;
mod layers;
mod overlay;
mod paths;
mod prepare;
mod proof;
mod ranges;
mod records;

pub use build::{BuildError, build, build_delta};
pub use format::{LoadError, MAX_POLICY_BYTES};
pub use inspect::{Compiled, Contents, Tally};
pub use layers::{ClientVersions, Counts, Policy};
pub use overlay::{MAX_OVERLAY_BYTES, MAX_OVERLAY_LAYERS};
pub use paths::{MAX_SEGMENTS, Segments, Target};
pub use prepare::PreparedDelta;
pub use proof::{Profile, TokenKey, TokenKeyBytes};
pub use ranges::Ranges;
pub use records::{
    Accept, ApplicationSet, Creator, Credential, Endpoint, EndpointSet, Grant, Group, MAX_ACCEPTED, Matched, NoMatch,
    Place, ReplayMode, Service, Settings, SignatureMode, Signer, Tenant, TokenRevocation, User,
};

/// A part of the policy lies outside its bytes or says something impossible.
///
/// A policy that was checked on loading never gives this; one that was damaged in memory may. The request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part of the policy cannot be read")]
pub struct Unreadable;
