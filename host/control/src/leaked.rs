//! Keys that got out: whoever holds a whole key can end it (REQUIREMENTS P1).

use std::sync::Arc;

use portcullis_model::credential::{Kind, SecretDigest};
use portcullis_model::source::CredentialState;
use portcullis_store::{Actor, CredentialRecord, Entry, Origin, Outcome, Write};
use serde_json::json;

use crate::Control;
use crate::command::key_name;
use crate::error::{CommandError, Failed};
use crate::plan::keys::revoked;
use crate::secret;

impl Control {
    /// Ends the credential that a key is of, at once and for good. Of a rotated key whose earlier secret got out, that secret
    /// alone ends. A text that is no key, or none any more, changes nothing. Whether there was one must not be told to
    /// whoever reported it.
    ///
    /// # Errors
    /// [`CommandError::Failed`] where the store or the gate fails.
    pub async fn end_leaked(self: &Arc<Self>, key: &str, origin: Origin) -> Result<(), CommandError> {
        let (control, digest) = (Arc::clone(self), secret::digest(key));
        // Looked up before the lane is asked for: reports come from strangers, and what is nobody's must keep no change waiting.
        if self.store.credential_of(&digest).await?.is_none() {
            return Ok(());
        }
        // Once begun it goes on, whoever stops waiting.
        let change = tokio::spawn(async move { control.end_credential_of(&digest, origin).await });
        change.await.map_err(|_| CommandError::Failed(Failed::Interrupted))?
    }

    async fn end_credential_of(&self, digest: &SecretDigest, origin: Origin) -> Result<(), CommandError> {
        let mut lane = self.lane.lock().await;
        // Once more: it may have changed meanwhile.
        let Some(record) = self.store.credential_of(digest).await?.map(|stored| stored.record) else { return Ok(()) };
        let credential = &record.credential;
        if credential.state == CredentialState::Revoked {
            return Ok(());
        }
        let newest = credential.secrets.iter().max_by_key(|secret| secret.version);
        let version = credential.secrets.iter().find(|secret| secret.sha256 == *digest).map(|secret| secret.version);
        let is_newest = newest.is_some_and(|newest| Some(newest.version) == version);
        let (tenant, id, kind) = (credential.tenant.clone(), credential.id.clone(), credential.kind);
        let writes = match kind {
            Kind::Personal | Kind::Session => vec![Write::RemoveCredential(id.clone())],
            Kind::Workspace | Kind::Tenant | Kind::Management | Kind::Client if is_newest => {
                vec![Write::PutCredential(revoked(record))]
            }
            Kind::Workspace | Kind::Tenant | Kind::Management | Kind::Client => {
                vec![Write::PutCredential(without(record, version))]
            }
        };
        let (at, to) = ((self.clock)(), lane.next());
        let entry = Entry {
            at,
            tenant: tenant.clone(),
            actor: Actor { tenant, credential: None, user: None },
            origin,
            action: "leaked",
            object_kind: key_name(kind),
            object: id.to_string(),
            outcome: Outcome::Done { revision: to },
            details: json!({ "version": version, "revoked": is_newest }).to_string(),
        };
        self.put_in_force(&mut lane, to, at, writes, vec![entry], None).await
    }
}

fn without(mut record: CredentialRecord, version: Option<u16>) -> CredentialRecord {
    record.credential.secrets.retain(|secret| Some(secret.version) != version);
    record
}
