//! Keys of another system: what is told of each, and what came of it.

use portcullis_model::address::Cidr;
use portcullis_model::credential::SecretDigest;
use portcullis_model::id::Id;
use portcullis_model::time::Expiry;
use secrecy::{ExposeSecret as _, SecretString};

use crate::command::Confirmation;
use crate::secret;

/// The most keys that one command imports. It is one transaction and one delta: they wait for it who change something else,
/// about a fifth of a second.
pub const MAX_IMPORT: usize = 5000;

/// Keys to be imported into a tenant.
#[derive(Clone, PartialEq, Debug)]
pub struct ImportKeys {
    /// The keys, 1 to [`MAX_IMPORT`].
    pub keys: Vec<ImportedKey>,
    /// What becomes of keys that the tenant has already.
    pub existing: Existing,
}

/// What becomes of keys that the tenant has already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existing {
    /// The whole import is refused.
    Refuse,
    /// They stay as they are, and the others are imported: so an import that broke off can be repeated. A key that was revoked
    /// since stays revoked, and a secret that was rotated away stays dead.
    Keep,
}

/// A tenant key that another system has made. Its clients go on presenting it.
#[derive(Clone, PartialEq, Debug)]
pub struct ImportedKey {
    /// The SHA-256 of the key.
    pub sha256: SecretDigest,
    /// Its display name, 2 to 200 characters.
    pub name: String,
    /// What it is for, at most 1000 characters.
    pub description: String,
    /// Its authorization group, of the type tenant key.
    pub group: Id,
    /// When it ends; never where left out.
    pub expires: Option<Expiry>,
    /// The addresses it may be used from; any where empty.
    pub ip_allowlist: Vec<Cidr>,
    /// What the other system calls it. It stands in the audit, beside the id that it gets here.
    pub external_id: Option<String>,
}

/// A key id and its signing secret that another system has made. Its clients go on signing with them.
#[derive(Clone, PartialEq, Debug)]
pub struct ImportPair {
    /// Its display name.
    pub name: String,
    /// The id by which signatures name the key.
    pub key_id: ImportedSecret,
    /// The secret that requests are signed with.
    pub secret: ImportedSecret,
    /// The profile by which its requests are signed; where left out the only one there is.
    pub profile: Option<Id>,
    /// Whether it is proven by signatures alone. Else its key id is a key that needs nothing beside it.
    pub signed_only: bool,
    /// Needed where the tenant has an active pair, which dies with this.
    pub confirmation: Confirmation,
}

/// A secret that comes from outside; redacted in `Debug`, wiped when dropped.
#[derive(Clone, Debug)]
pub struct ImportedSecret(pub SecretString);

impl ImportedSecret {
    pub(crate) fn text(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for ImportedSecret {
    /// By digests, so that how long it takes tells nothing of the secrets.
    fn eq(&self, other: &Self) -> bool {
        secret::digest(self.text()) == secret::digest(other.text())
    }
}

/// What became of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// The key's id here.
    pub id: Id,
    /// Whether it was there before.
    pub was_there: bool,
}
