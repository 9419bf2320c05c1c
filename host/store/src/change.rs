//! What goes in and comes out as a whole: a first start, a change, the policy's records.

use portcullis_model::credential::Seed;
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{Application, Credential, EndpointSettings, Group, Installation, Service, User};
use portcullis_model::time::UnixTime;

use crate::audit::Entry;
use crate::record::{FeedRecord, TenantRecord, Write};

/// The revision of a new installation: it has no record but the installation's own.
pub const FIRST_REVISION: Revision = Revision(1);

/// What a first start needs. Randomness and time are arguments; a store that exists already does not look at them.
#[derive(Clone, PartialEq, Debug)]
pub struct Fresh {
    /// The installation's seed: 16 random bytes.
    pub seed: Seed,
    /// Now.
    pub at: UnixTime,
    /// What holds for the whole installation.
    pub installation: Installation,
}

/// One transaction: rows, audit entries and the next revision.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// The revision it was made from; if the store is at another, nothing happens.
    pub from: Revision,
    /// The revision it leads to, greater than `from`.
    pub to: Revision,
    /// When.
    pub at: UnixTime,
    /// The records, in order.
    pub writes: Vec<Write>,
    /// What the audit says of it.
    pub audit: Vec<Entry>,
    /// For a creation that may be repeated: what its repetition is known by.
    pub remember: Option<Remember>,
}

/// A creation that may be repeated without being done again.
#[derive(Clone, PartialEq, Debug)]
pub struct Remember {
    /// The tenant of the credential.
    pub tenant: Id,
    /// The credential that asks for it.
    pub credential: Id,
    /// The key that its caller gave to it.
    pub key: String,
    /// What is asked for.
    pub fingerprint: [u8; 32],
    /// What is made.
    pub object: String,
    /// What is remembered since then or longer may be forgotten.
    pub outdated: UnixTime,
}

/// What came of a creation.
#[derive(Clone, PartialEq, Debug)]
pub struct Remembered {
    /// What was asked for.
    pub fingerprint: [u8; 32],
    /// What was made.
    pub object: String,
    /// The revision that it was made at.
    pub revision: Revision,
}

/// All that a policy is compiled from, as of one revision. Each list is in order of creation.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the lists are named after what they hold")]
pub struct Snapshot {
    pub revision: Revision,
    pub seed: Seed,
    pub installation: Installation,
    /// Services, each with the prefix of the paths that it keeps for Portcullis.
    pub services: Vec<(Service, Option<String>)>,
    pub tenants: Vec<TenantRecord>,
    /// What tenants have set for endpoints, each with its tenant.
    pub settings: Vec<(Id, EndpointSettings)>,
    pub applications: Vec<Application>,
    pub feeds: Vec<FeedRecord>,
    pub groups: Vec<Group>,
    /// Users that are not deleted.
    pub users: Vec<User>,
    /// Credentials that are not deleted; revoked ones are here.
    pub credentials: Vec<Credential>,
}

/// Who has a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupUse {
    /// Active credentials, expired ones too.
    pub credentials: u64,
    /// Users that are not deleted.
    pub members: u64,
}

/// What names a service's endpoints: all of it, because each such record may mean something else once the catalogue changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Referring {
    /// Tenants with settings for them.
    pub tenants: Vec<Id>,
    /// Groups with permissions for them, as tenant and group.
    pub groups: Vec<(Id, Id)>,
    /// Management keys that are allowed them and are not deleted.
    pub credentials: Vec<Id>,
}
