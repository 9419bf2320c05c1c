//! The audit's key and what it signs: checkpoints, made regularly; old entries, removed behind a stub; and both checked.
//!
//! The key is made at the first start and sealed under the master key. Its public half may be known to everybody: with it,
//! whoever has an exported log checks the checkpoint in it.

use std::sync::Arc;

use ed25519_dalek::{Signature as Ed25519, Signer as _, SigningKey, VerifyingKey};
use portcullis_model::id::Revision;
use portcullis_model::time::UnixTime;
use portcullis_store::{
    Actor, AuditKey, AuditReport, Channel, Checkpoint, Checkpointed, Entry, Notary, Origin, Outcome, Pruned, Retention,
    Store, StoreError,
};
use rand::Rng as _;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::error::{CommandError, StartError};
use crate::master_key::{MasterKey, MasterKeyError, MasterKeySource};
use crate::seal::{SealError, Sealer};
use crate::{Control, system_tenant};

/// The public half of the audit's key.
pub type PublicKey = [u8; 32];

/// What the key of the audit is sealed for.
const PLACE: &str = "audit/key";

/// The seconds of a day.
const DAY_S: u64 = 86_400;

/// Whether the installation whose key this is has signed the checkpoint.
#[must_use]
pub fn has_signed(key: &PublicKey, checkpoint: &Checkpoint) -> bool {
    is_signature(key, &checkpoint.digest(), &checkpoint.signature) && checkpoint.is_in_order()
}

fn is_signature(key: &PublicKey, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key) else { return false };
    // Strictly (RFC 8032 leaves room): one signature, one meaning, for every verifier.
    key.verify_strict(digest, &Ed25519::from_bytes(signature)).is_ok()
}

/// The audit's key, open.
pub(crate) struct Seal {
    pub(crate) public: PublicKey,
    pub(crate) notary: Notary,
}

impl Seal {
    fn new(key: SigningKey) -> Seal {
        let public = key.verifying_key().to_bytes();
        let notary = Notary {
            sign: Arc::new(move |digest| key.sign(digest).to_bytes()),
            has_signed: Arc::new(move |digest, signature| is_signature(&public, digest, signature)),
        };
        Seal { public, notary }
    }

    /// Opens the sealed key.
    fn open(sealer: &Sealer, stored: &AuditKey) -> Result<Seal, SealError> {
        let text = sealer.open_sealed(&stored.sealed, PLACE)?;
        let mut secret = Zeroizing::new([0; 32]);
        let decoded = base16ct::lower::decode(text.expose_secret(), secret.as_mut_slice()).map(<[u8]>::len);
        let seal = Seal::new(SigningKey::from_bytes(&secret));
        if decoded == Ok(32) && seal.public == stored.public { Ok(seal) } else { Err(SealError) }
    }

    /// Makes a key and keeps it.
    async fn make(store: &Store, sealer: &Sealer) -> Result<Seal, StartError> {
        let mut secret = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(secret.as_mut_slice());
        let seal = Seal::new(SigningKey::from_bytes(&secret));
        let text = Zeroizing::new(base16ct::lower::encode_string(secret.as_slice()));
        let sealed = sealer.seal(&SecretString::from(text.as_str()), PLACE).map_err(crate::Failed::from)?;
        store.put_audit_key(&AuditKey { public: seal.public, sealed }).await?;
        Ok(seal)
    }
}

/// Whether the sealed key opens.
pub(crate) fn opens(sealer: &Sealer, stored: &AuditKey) -> bool {
    Seal::open(sealer, stored).is_ok()
}

/// What the master key opens.
pub(crate) struct Unlocked {
    pub(crate) master_key: MasterKey,
    pub(crate) sealer: Sealer,
    pub(crate) seal: Seal,
    /// Whether the key in the file was replaced now, because doing that was cut off after the secrets were sealed anew.
    pub(crate) finished_rekey: bool,
}

/// Finds the master key that the store's secrets are sealed under. Where nothing is sealed yet, it may be made, and the
/// audit's key is.
pub(crate) async fn unlock(store: &Store, source: &MasterKeySource) -> Result<Unlocked, StartError> {
    let is_new = !store.has_sealed().await?;
    let master_key = MasterKey::of(source, is_new)?;
    let sealer = Sealer::new(&master_key);
    let Some(stored) = store.audit_key().await? else {
        let seal = Seal::make(store, &sealer).await?;
        return Ok(Unlocked { master_key, sealer, seal, finished_rekey: false });
    };
    if let Ok(seal) = Seal::open(&sealer, &stored) {
        return Ok(Unlocked { master_key, sealer, seal, finished_rekey: false });
    }
    let wrong = || MasterKeyError::Wrong { from: source.to_string() };
    let MasterKeySource::File(path) = source else { return Err(wrong().into()) };
    let master_key = MasterKey::in_place_of(path).ok_or_else(wrong)?;
    let sealer = Sealer::new(&master_key);
    let seal = Seal::open(&sealer, &stored).map_err(|_| wrong())?;
    MasterKey::replace(path)?;
    tracing::warn!(path = %path.display(), "a change of the master key was cut off after the secrets were sealed anew; it is done now");
    Ok(Unlocked { master_key, sealer, seal, finished_rekey: true })
}

/// How much of the audit is kept; everything where nothing is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AuditRetention {
    /// For so many days.
    pub days: Option<u64>,
    /// The newest so many entries of each tenant.
    pub entries: Option<u64>,
}

/// What came of checking the audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditVerification {
    /// What was found in the chains.
    pub report: AuditReport,
    /// What the checkpoint is worth that they were compared with.
    pub checkpoint: CheckpointState,
    /// The public half of the key that signs.
    pub public_key: PublicKey,
}

/// What a checkpoint is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckpointState {
    /// This installation's key has signed it.
    Signed,
    /// It was not signed by that key, or changed since.
    Forged,
    /// There is none, where there always is one.
    Missing,
}

impl AuditVerification {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.report.is_intact() && self.checkpoint == CheckpointState::Signed
    }

    /// How many entries the chains have got since the checkpoint: these are vouched for by their hashes alone.
    #[must_use]
    pub fn unsigned(&self) -> u64 {
        let checkpoint = self.report.checkpoint.as_ref();
        let signed = |tenant| checkpoint.and_then(|checkpoint| checkpoint.mark(tenant)).map_or(0, |mark| mark.count);
        self.report.chains.iter().map(|chain| chain.rows.saturating_sub(signed(&chain.tenant))).sum()
    }
}

impl Control {
    /// The public half of the key that signs checkpoints of the audit.
    #[must_use]
    pub fn audit_public_key(&self) -> PublicKey {
        self.seal.public
    }

    /// Signs how long every chain of the audit is, unless nothing was added since.
    ///
    /// # Errors
    /// Where somebody else has changed the checkpoint that there is, or the store fails.
    pub async fn sign_checkpoint(&self) -> Result<Checkpoint, StoreError> {
        let Checkpointed { checkpoint, is_new, broken } =
            self.store.sign_checkpoint(self.now(), &self.seal.notary).await?;
        for chain in broken {
            let fault = chain.fault.map(|fault| fault.to_string()).unwrap_or_default();
            tracing::error!(tenant = %chain.tenant, fault, "the audit was changed and is not signed further");
        }
        if is_new {
            self.witness.take_note(&checkpoint, &self.seal.public);
            // Whoever keeps the log elsewhere has a witness in it.
            let digest = base16ct::lower::encode_string(&checkpoint.digest());
            tracing::info!(number = checkpoint.number, revision = %checkpoint.revision, digest, "audit checkpoint");
        }
        Ok(checkpoint)
    }

    /// The same, where nobody waits for it: what goes wrong is logged, and found again by whoever verifies.
    pub async fn keep_checkpoint(&self) {
        if let Err(error) = self.sign_checkpoint().await {
            tracing::error!(%error, "no checkpoint of the audit was signed");
        }
    }

    /// Adds entries for what was refused before it became a command.
    ///
    /// # Errors
    /// Where the store fails; none was added then.
    pub async fn record_refusals(&self, entries: &[Entry]) -> Result<(), StoreError> {
        self.store.append_audit(entries).await
    }

    /// Removes what is too old of the audit, behind stubs that are signed.
    ///
    /// # Errors
    /// Where the store fails, or the checkpoint that there is was changed; what was removed before stays so.
    pub async fn prune_audit(&self, keep: AuditRetention) -> Result<Pruned, StoreError> {
        if keep == AuditRetention::default() {
            return Ok(Pruned::default());
        }
        let now = self.now();
        let before = keep.days.map(|days| {
            let seconds = now.as_secs().saturating_sub(days.saturating_mul(DAY_S));
            UnixTime::from_secs(seconds).unwrap_or_default()
        });
        // What was added last is signed first, so that what is old can go.
        self.sign_checkpoint().await?;
        let retention = Retention { before, keep_rows: keep.entries };
        self.store.prune_audit(retention, now, &self.seal.notary, pruned).await
    }

    pub(crate) async fn verify_audit(&self) -> Result<AuditVerification, CommandError> {
        let report = self.store.verify_audit(None).await?;
        let checkpoint = match &report.checkpoint {
            Some(checkpoint) if has_signed(&self.seal.public, checkpoint) => CheckpointState::Signed,
            Some(_) => CheckpointState::Forged,
            None => CheckpointState::Missing,
        };
        Ok(AuditVerification { report, checkpoint, public_key: self.seal.public })
    }
}

/// What the audit says of its own old entries.
fn pruned(at: UnixTime, revision: Revision, Pruned { chains, rows }: Pruned) -> Entry {
    by_portcullis(at, revision, Channel::System, ("prune", "audit"), &json!({ "chains": chains, "removed": rows }))
}

/// An entry for what Portcullis does by itself, or is made to do by whoever has its files.
pub(crate) fn by_portcullis(
    at: UnixTime,
    revision: Revision,
    channel: Channel,
    (action, object_kind): (&'static str, &'static str),
    details: &serde_json::Value,
) -> Entry {
    let tenant = system_tenant();
    Entry {
        at,
        actor: Actor { tenant: tenant.clone(), credential: None, user: None },
        tenant,
        origin: Origin { channel, address: None },
        action,
        object_kind,
        object: String::new(),
        outcome: Outcome::Done { revision },
        details: details.to_string(),
    }
}
