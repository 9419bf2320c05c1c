//! Another master key for what is sealed already, while no server runs.
//!
//! The new key is written down, then every secret is sealed anew in one transaction, then the new key takes the place of the
//! old one. Before the transaction the old key opens everything, after it the new one does; whatever is cut off in between is
//! finished by running it again, or by starting the server.

use std::path::{Path, PathBuf};

use portcullis_model::credential::Seed;
use portcullis_model::source::Installation;
use portcullis_model::time::UnixTime;
use portcullis_store::{Channel, Fresh, OpenError, Store, StoreError};
use secrecy::SecretString;
use serde_json::json;

use crate::DATABASE;
use crate::audit::{Unlocked, by_portcullis, unlock};
use crate::error::StartError;
use crate::master_key::{MasterKey, MasterKeyError, MasterKeySource};
use crate::seal::Sealer;

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rekeyed {
    /// So many secrets are sealed under the new key, which is in its place.
    Done {
        /// How many.
        secrets: u64,
    },
    /// An earlier change of the key had been cut off, and is finished. No other key was made.
    Finished,
}

/// Why the master key is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// There is nothing to seal anew.
    #[error("there is no installation in `{}`: name the data folder of one", .path.display())]
    NoInstallation {
        /// The folder.
        path: PathBuf,
    },
    /// The store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The present key does not open what is sealed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The present or the new key cannot be used.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The store did not take it.
    #[error("nothing was sealed anew: {0}")]
    Store(#[from] StoreError),
    /// The present key is given, the new one is not.
    #[error(
        "the master key is in `{by}`, which this program cannot change: give the new one, 64 hex digits, in `{new}`"
    )]
    NoNewKey {
        /// Where the present one is.
        by: &'static str,
        /// Where the new one belongs.
        new: &'static str,
    },
    /// Both are the same.
    #[error("the new master key is the one in use: give another")]
    SameKey,
}

/// Seals every secret under another master key: under `new`, or where none is given, under one that is made. `new` comes
/// with the name of what gives it.
///
/// # Errors
/// Any [`RekeyError`]; the key that opened everything before still does, unless the commit itself is in doubt.
pub async fn rekey(
    data: &Path,
    source: &MasterKeySource,
    (new, new_by): (Option<&SecretString>, &'static str),
    now: UnixTime,
) -> Result<Rekeyed, RekeyError> {
    let database = data.join(DATABASE);
    if !database.exists() {
        return Err(RekeyError::NoInstallation { path: data.to_owned() });
    }
    let new = new.map(|key| MasterKey::given(key, new_by)).transpose()?;
    // There is a database, so nothing of this is looked at.
    let fresh = Fresh { seed: Seed([0; 16]), at: now, installation: Installation::default() };
    let store = Store::open(&database, &fresh).await?;
    let done = within(&store, source, new, new_by, now).await;
    store.close().await;
    done
}

async fn within(
    store: &Store,
    source: &MasterKeySource,
    new: Option<MasterKey>,
    new_by: &'static str,
    now: UnixTime,
) -> Result<Rekeyed, RekeyError> {
    if let (MasterKeySource::Given { by, .. }, None) = (source, &new) {
        return Err(RekeyError::NoNewKey { by, new: new_by });
    }
    let Unlocked { master_key, sealer, seal, finished_rekey } = match unlock(store, source).await {
        // A run before this one may have got as far as the transaction.
        Err(StartError::MasterKey(MasterKeyError::Wrong { from })) => {
            let stored = store.audit_key().await?;
            let opens = |key: &MasterKey| stored.as_ref().is_some_and(|stored| opens(key, stored));
            return match new {
                Some(new) if opens(&new) => {
                    if let MasterKeySource::File(path) = source {
                        new.prepare(path)?;
                        MasterKey::replace(path)?;
                    }
                    Ok(Rekeyed::Finished)
                }
                Some(_) | None => Err(MasterKeyError::Wrong { from }.into()),
            };
        }
        unlocked => unlocked?,
    };
    if finished_rekey {
        return Ok(Rekeyed::Finished);
    }
    let new = new.unwrap_or_else(MasterKey::random);
    if new == master_key {
        return Err(RekeyError::SameKey);
    }
    if let MasterKeySource::File(path) = source {
        new.prepare(path)?;
    }
    let resealer = Sealer::new(&new);
    let reseal = move |place: &str, sealed: &[u8]| {
        let secret = sealer.open_sealed(sealed, place).ok()?;
        resealer.seal(&secret, place).ok()
    };
    let told = move |revision, secrets| {
        by_portcullis(now, revision, Channel::Offline, ("rekey", "master-key"), &json!({ "secrets": secrets }))
    };
    let secrets = store.reseal(reseal, told).await?;
    if let MasterKeySource::File(path) = source {
        MasterKey::replace(path)?;
    }
    // Where this fails, the next start signs.
    let _ = store.sign_checkpoint(now, &seal.notary).await;
    Ok(Rekeyed::Done { secrets })
}

fn opens(key: &MasterKey, stored: &portcullis_store::AuditKey) -> bool {
    crate::audit::opens(&Sealer::new(key), stored)
}
