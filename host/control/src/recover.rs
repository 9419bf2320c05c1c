//! The beginning, and the way back in: the system tenant, its first user, and a key for whoever has the data folder.

use portcullis_model::credential::Kind;
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{
    CreatorRule, Credential, CredentialState, Role, SecretVersion, TenantState, User, UserState,
};
use portcullis_model::time::Expiry;
use portcullis_store::{
    Actor, Channel, CredentialFilter, CredentialRecord, Entry, MAX_PAGE, Origin, Outcome, Paging, Stored, TenantRecord,
    TenantRules, UserRecord, Write,
};
use serde_json::json;

use crate::change::{Done, Issued, Lane, Repetition};
use crate::error::{CommandError, Failed};
use crate::{Control, admin_endpoints, secret, system_tenant};

/// The user that answers for keys made by recovery.
const ROOT_USER: &str = "root";
/// How many of them are tried. Who deletes this many superusers has other troubles.
const MAX_ROOTS: u32 = 1000;

/// What becomes of the superuser keys that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtherKeys {
    /// They stay as they are.
    Keep,
    /// They are revoked: for when one has leaked, or whoever had them has gone.
    Revoke,
}

impl Control {
    /// Makes the system tenant and its first user where they are missing.
    pub(crate) async fn found(&self, lane: &mut Lane) -> Result<(), Failed> {
        let tenant = system_tenant();
        if self.store.tenant(&tenant).await?.is_some() {
            return Ok(());
        }
        let record = TenantRecord {
            id: tenant,
            name: "System".to_owned(),
            state: TenantState::Active,
            modules: Vec::new(),
            key_limit: 0,
            rules: TenantRules::default(),
        };
        self.by_portcullis(lane, ("create", "tenant"), json!({}), Channel::System, vec![Write::PutTenant(record)])
            .await?;
        Ok(())
    }

    /// Makes a new superuser key, with every endpoint of the admin API, for whoever may write to the data folder.
    ///
    /// # Errors
    /// Where the change fails; nothing has changed then.
    pub async fn recover(&self, name: &str, expires: Expiry, others: OtherKeys) -> Result<Done, CommandError> {
        let mut lane = self.lane.lock().await;
        let tenant = system_tenant();
        let mut writes = Vec::new();
        let mut revoked = Vec::new();
        if others == OtherKeys::Revoke {
            for mut record in self.superuser_keys().await? {
                revoked.push(record.credential.id.clone());
                record.credential.state = CredentialState::Revoked;
                writes.push(Write::PutCredential(record));
            }
        }
        let root = self.ensure_root(&mut lane).await?;
        let id = secret::new_id().ok_or(Failed::Interrupted)?;
        let key = secret::new_key(&id);
        let credential = Credential {
            id: id.clone(),
            tenant: tenant.clone(),
            kind: Kind::Management,
            state: CredentialState::Active,
            expires: Some(expires),
            secrets: vec![SecretVersion { version: 1, sha256: key.digest, until: None, signing_slot: None }],
            group: None,
            ip_allowlist: Vec::new(),
            endpoints: admin_endpoints(),
            applications: Vec::new(),
            creator: Some(root),
            creator_rule: CreatorRule::FollowCreator,
            signature_profile: None,
            signed_only: false,
        };
        let created_by = Actor { tenant, credential: None, user: None };
        let record = CredentialRecord {
            credential,
            name: name.to_owned(),
            description: String::new(),
            created_by,
            sealed_key: None,
            sealed_secret: None,
            terms: None,
        };
        writes.push(Write::PutCredential(record.clone()));
        let details = json!({ "key": id, "expires": expires, "revoked": revoked });
        let revision =
            self.by_portcullis(&mut lane, ("recover", "management-key"), details, Channel::Offline, writes).await?;
        let record = Stored { record, changed: revision, created: (self.clock)() };
        let issued = Some(Issued { key: key.key, signing_secret: None, record });
        Ok(Done { revision, object: id.to_string(), issued, repetition: Repetition::First, imported: Vec::new() })
    }

    /// A superuser who is there and active: `root`, or where that one was deleted and cannot come back, `root-2` and so on.
    async fn ensure_root(&self, lane: &mut Lane) -> Result<Id, Failed> {
        let tenant = system_tenant();
        for number in 1..=MAX_ROOTS {
            let name = if number == 1 { ROOT_USER.to_owned() } else { format!("{ROOT_USER}-{number}") };
            let id: Id = name.parse().map_err(|_| Failed::Interrupted)?;
            match self.store.user(&tenant, &id).await? {
                Some(stored) if stored.record.user.state == UserState::Active => return Ok(id),
                Some(_) => {}
                None if self.store.user_id_is_taken(&tenant, &id).await? => continue,
                None => {}
            }
            let user = User { id: id.clone(), tenant, role: Role::Superuser, state: UserState::Active, group: None };
            let write = Write::PutUser(UserRecord { user, name: "Superuser".to_owned() });
            self.by_portcullis(lane, ("put", "user"), json!({ "user": id }), Channel::Offline, vec![write]).await?;
            return Ok(id);
        }
        Err(Failed::Interrupted)
    }

    async fn superuser_keys(&self) -> Result<Vec<CredentialRecord>, Failed> {
        let filter = CredentialFilter {
            state: Some(CredentialState::Active),
            ..CredentialFilter::all(system_tenant(), Kind::Management)
        };
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.credentials(&filter, Paging { after, limit: MAX_PAGE }).await?;
            keys.extend(page.items.into_iter().map(|stored| stored.record));
            after = page.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }

    /// A change that nobody ordered over the admin API.
    pub(crate) async fn by_portcullis(
        &self,
        lane: &mut Lane,
        (action, object_kind): (&'static str, &'static str),
        details: serde_json::Value,
        channel: Channel,
        writes: Vec<Write>,
    ) -> Result<Revision, Failed> {
        let at = (self.clock)();
        let to = lane.next();
        let tenant = system_tenant();
        let entry = Entry {
            at,
            actor: Actor { tenant: tenant.clone(), credential: None, user: None },
            tenant,
            origin: Origin { channel, address: None },
            action,
            object_kind,
            object: String::new(),
            outcome: Outcome::Done { revision: to },
            details: details.to_string(),
        };
        match self.put_in_force(lane, to, at, writes, vec![entry], None).await {
            Ok(()) => Ok(to),
            Err(CommandError::Failed(failed)) => Err(failed),
            // Its records are made here, so that they are refused is a fault of this file.
            Err(CommandError::Refused(refused)) => {
                tracing::error!(%refused, "a change by portcullis itself was refused");
                Err(Failed::Interrupted)
            }
        }
    }
}
