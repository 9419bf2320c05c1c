//! Reading: what a caller may see, by type. Whoever holds a view has shown that the caller may look through it.

use portcullis_model::address::Cidr;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{CredentialState, Endpoint, EndpointSettings, Installation, Service};
use portcullis_model::time::{Expiry, UnixTime};
use portcullis_store::{
    ApplicationRecord, AuditFilter, AuditRow, Checkpoint, CredentialFilter, CredentialRecord, DecisionFilter,
    DecisionItem, DecisionRecord, Ends, FeedRecord, GroupRecord, Page, Paging, ServiceRecord, StoreError, Stored,
    TenantRecord, TenantRules, UserRecord,
};
use secrecy::SecretString;

use crate::Control;
use crate::audit::{AuditVerification, PublicKey};
use crate::catalogue::ADMIN_SERVICE;
use crate::command::{Caller, key_name};
use crate::compile::Catalogue;
use crate::error::{CommandError, Failed, Refused};
use crate::plan::keys::sealed_place;
use crate::token::TokenKeyView;

/// How a credential stands to its expiry, whatever its stored state is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiration {
    /// It does not end, or not soon.
    Valid,
    /// It ends within the days that the tenant's rules say, seven unless they say otherwise.
    ExpiringSoon,
    /// It has ended.
    Expired,
}

impl Expiration {
    /// The state at a time, under a tenant's rules.
    #[must_use]
    pub fn at(now: UnixTime, expires: Option<Expiry>, rules: &TenantRules) -> Expiration {
        let left = expires.map(|expires| expires.instant().as_secs().saturating_sub(now.as_secs()));
        match left {
            Some(0) => Expiration::Expired,
            Some(left) if left <= soon_s(rules) => Expiration::ExpiringSoon,
            Some(_) | None => Expiration::Valid,
        }
    }

    /// Which ends of credentials mean this state at a time.
    fn ends(self, now: UnixTime, rules: &TenantRules) -> Ends {
        let soon = UnixTime::from_secs(now.as_secs().saturating_add(soon_s(rules))).unwrap_or(UnixTime::MAX);
        match self {
            Expiration::Valid => Ends::After(soon),
            Expiration::ExpiringSoon => Ends::Between(now, soon),
            Expiration::Expired => Ends::By(now),
        }
    }

    /// The state's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Expiration::Valid => "valid",
            Expiration::ExpiringSoon => "expiring_soon",
            Expiration::Expired => "expired",
        }
    }
}

fn soon_s(rules: &TenantRules) -> u64 {
    u64::from(rules.expiring_soon_days) * 86_400
}

/// The keys that a list has: of one kind, in a stored state, in an expiration state; any where left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are named after what they compare")]
pub struct KeyFilter {
    pub kind: Kind,
    pub state: Option<CredentialState>,
    pub expiration: Option<Expiration>,
}

/// One person, for that person alone.
pub struct OwnView<'c> {
    control: &'c Control,
    user: Stored<UserRecord>,
    session: CredentialRecord,
}

/// One tenant, for a caller who may see it.
pub struct TenantView<'c> {
    pub(crate) control: &'c Control,
    tenant: Stored<TenantRecord>,
}

/// The whole installation, for a superuser.
pub struct SystemView<'c> {
    pub(crate) control: &'c Control,
}

impl Control {
    /// The tenant `id`, if the caller may see it. To a caller of another tenant it is not there.
    ///
    /// # Errors
    /// [`Refused::NotFound`], or where the store fails.
    pub async fn tenant_view(&self, caller: &Caller, id: &Id) -> Result<TenantView<'_>, CommandError> {
        let missing = || Refused::NotFound { kind: "tenant", id: id.to_string() };
        if !caller.is_superuser() && caller.tenant != *id {
            return Err(missing().into());
        }
        let mut tenant = self.store.tenant(id).await?.ok_or_else(missing)?;
        self.with_issuer(&mut tenant.record.rules);
        Ok(TenantView { control: self, tenant })
    }

    /// The installation, if the caller administers it.
    ///
    /// # Errors
    /// [`Refused::Forbidden`].
    pub fn system_view(&self, caller: &Caller) -> Result<SystemView<'_>, Refused> {
        if !caller.is_superuser() {
            let what = "this is for keys of the system tenant: ask whoever operates this installation";
            return Err(Refused::Forbidden(what.to_owned()));
        }
        Ok(SystemView { control: self })
    }

    /// The person whose session the caller used.
    ///
    /// # Errors
    /// [`Refused::Forbidden`] where the caller used something else.
    pub async fn own_view(&self, caller: &Caller) -> Result<OwnView<'_>, CommandError> {
        let session = self.own_key(caller).await?.record;
        let person = session.credential.creator.clone().filter(|_| session.credential.kind == Kind::Session);
        let Some(person) = person else {
            return Err(Refused::Forbidden("this is for a person who has signed in, not for keys".to_owned()).into());
        };
        let user = found(self.store.user(&caller.tenant, &person).await?, "user", &person)?;
        Ok(OwnView { control: self, user, session })
    }

    /// The personal key of a user.
    /// Rules as people read them: the issuer is named, whoever has set it.
    fn with_issuer(&self, rules: &mut TenantRules) {
        rules.token_issuer.get_or_insert_with(|| self.token_issuer().to_owned());
    }

    pub(crate) async fn personal_of(
        &self,
        tenant: &Id,
        user: &Id,
    ) -> Result<Option<Stored<CredentialRecord>>, StoreError> {
        let filter =
            CredentialFilter { creator: Some(user.clone()), ..CredentialFilter::all(tenant.clone(), Kind::Personal) };
        Ok(self.store.credentials(&filter, Paging { after: None, limit: 1 }).await?.items.pop())
    }

    /// The rules of a tenant, by which its credentials are shown.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn rules(&self, tenant: &Id) -> Result<TenantRules, CommandError> {
        let tenant = self.store.tenant(tenant).await?;
        let mut rules = tenant.map(|stored| stored.record.rules).unwrap_or_default();
        self.with_issuer(&mut rules);
        Ok(rules)
    }

    /// The credential that the caller used.
    ///
    /// # Errors
    /// Where it is gone since, or the store fails.
    pub async fn own_key(&self, caller: &Caller) -> Result<Stored<CredentialRecord>, CommandError> {
        let stored = self.store.credential(&caller.credential).await?;
        Ok(stored.ok_or_else(|| Refused::NotFound { kind: "key", id: caller.credential.to_string() })?)
    }

    /// The time by which control goes.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        (self.clock)()
    }
}

#[expect(clippy::missing_errors_doc, reason = "each fails only where the store does, or a record is not there")]
impl TenantView<'_> {
    /// The tenant itself.
    #[must_use]
    pub fn tenant(&self) -> &Stored<TenantRecord> {
        &self.tenant
    }

    /// How many tenant keys are active and unexpired, as the limit counts them.
    pub async fn live_keys(&self) -> Result<u64, CommandError> {
        let now = self.control.now();
        Ok(self.control.store.count_live(self.id(), Kind::Tenant, now).await?)
    }

    /// What the tenant has set for endpoints.
    pub async fn settings(&self) -> Result<Vec<Stored<EndpointSettings>>, CommandError> {
        Ok(self.control.store.settings(self.id()).await?)
    }

    /// What the tenant has set for one endpoint, which may be named by an alias.
    pub async fn settings_of(&self, name: &EndpointRef) -> Result<Stored<EndpointSettings>, CommandError> {
        let service = self.control.store.service(&name.service).await?.map(|stored| stored.record.service);
        let stable = Catalogue::new(service.map(|service| (service, None))).stable(name);
        let of_it = self.settings().await?.into_iter().find(|stored| stored.record.endpoint == stable);
        found(of_it, "settings for endpoint", name)
    }

    /// The services that the tenant's credentials work on, with their endpoints.
    pub async fn services(&self) -> Result<Vec<Service>, CommandError> {
        let services = self.control.store.services().await?.into_iter().map(|stored| stored.record.service);
        Ok(services.filter(|service| service.tenant.as_ref().is_none_or(|tenant| tenant == self.id())).collect())
    }

    /// The proxies whose word about clients is believed. A tenant learns of them what concerns its own calls.
    pub async fn trusted_proxies(&self) -> Result<Vec<Cidr>, CommandError> {
        Ok(self.control.store.installation().await?.record.trusted_proxies)
    }

    /// Groups.
    pub async fn groups(&self, paging: Paging) -> Result<Page<Stored<GroupRecord>>, CommandError> {
        Ok(self.control.store.groups(self.id(), paging).await?)
    }

    /// One group.
    pub async fn group(&self, id: &Id) -> Result<Stored<GroupRecord>, CommandError> {
        found(self.control.store.group(self.id(), id).await?, "group", id)
    }

    /// Applications.
    pub async fn applications(&self, paging: Paging) -> Result<Page<Stored<ApplicationRecord>>, CommandError> {
        Ok(self.control.store.applications(self.id(), paging).await?)
    }

    /// One application.
    pub async fn application(&self, id: &Id) -> Result<Stored<ApplicationRecord>, CommandError> {
        found(self.control.store.application(self.id(), id).await?, "application", id)
    }

    /// Users that are not deleted.
    pub async fn users(&self, paging: Paging) -> Result<Page<Stored<UserRecord>>, CommandError> {
        Ok(self.control.store.users(self.id(), paging).await?)
    }

    /// One user.
    pub async fn user(&self, id: &Id) -> Result<Stored<UserRecord>, CommandError> {
        found(self.control.store.user(self.id(), id).await?, "user", id)
    }

    /// Whether a user has a personal key. Nobody but its owner sees more of it.
    pub async fn has_personal_key(&self, user: &Id) -> Result<bool, CommandError> {
        Ok(self.control.personal_of(self.id(), user).await?.is_some())
    }

    /// Keys that are not deleted.
    pub async fn keys(&self, keys: KeyFilter, paging: Paging) -> Result<Page<Stored<CredentialRecord>>, CommandError> {
        let ends = keys.expiration.map(|expiration| expiration.ends(self.control.now(), &self.tenant.record.rules));
        let filter =
            CredentialFilter { state: keys.state, ends, ..CredentialFilter::all(self.id().clone(), keys.kind) };
        Ok(self.control.store.credentials(&filter, paging).await?)
    }

    /// One key.
    pub async fn key(&self, kind: Kind, id: &Id) -> Result<Stored<CredentialRecord>, CommandError> {
        let stored = self.control.store.credential(id).await?;
        let is_meant = |stored: &Stored<CredentialRecord>| {
            stored.record.credential.tenant == *self.id() && stored.record.credential.kind == kind
        };
        found(stored.filter(is_meant), key_name(kind), id)
    }

    /// A workspace key as its clients send it: the one key that is shown again, because it is the id of a pair. It is a bearer
    /// key wherever signatures are not enforced, so a key that may only read gets nothing; nor does anyone once it is revoked.
    pub async fn workspace_key(
        &self,
        caller: &Caller,
        record: &CredentialRecord,
    ) -> Result<Option<SecretString>, CommandError> {
        let own = self.control.own_key(caller).await?.record.credential;
        let may_change = own.endpoints.iter().any(|endpoint| {
            endpoint.service.as_str() == ADMIN_SERVICE && endpoint.endpoint.as_str() == "workspace-keys"
        });
        let place = sealed_place(&record.credential.id, "key");
        let open = |sealed: &Vec<u8>| self.control.sealer.open_sealed(sealed, &place);
        let shown = record.sealed_key.as_ref().filter(|_| may_change);
        Ok(shown.map(open).transpose().map_err(Failed::from)?)
    }

    /// What was done and refused in the tenant, newest first.
    pub async fn audit(&self, filter: AuditFilter, paging: Paging) -> Result<Page<AuditRow>, CommandError> {
        let own = AuditFilter { tenant: Some(self.id().clone()), ..filter };
        Ok(self.control.store.audit(&own, paging).await?)
    }

    pub(crate) fn id(&self) -> &Id {
        &self.tenant.record.id
    }
}

impl OwnView<'_> {
    /// Who it is.
    #[must_use]
    pub fn user(&self) -> &Stored<UserRecord> {
        &self.user
    }

    /// When the session ends.
    #[must_use]
    pub fn session_ends(&self) -> Option<Expiry> {
        self.session.credential.expires
    }

    /// The personal key.
    ///
    /// # Errors
    /// [`Refused::NotFound`] where there is none, or where the store fails.
    pub async fn personal_key(&self) -> Result<Stored<CredentialRecord>, CommandError> {
        let user = &self.user.record.user;
        found(self.control.personal_of(&user.tenant, &user.id).await?, "personal-key", &user.id)
    }
}

#[expect(clippy::missing_errors_doc, reason = "each fails only where the store does, or a record is not there")]
impl SystemView<'_> {
    /// What holds for the whole installation.
    pub async fn installation(&self) -> Result<Stored<Installation>, CommandError> {
        Ok(self.control.store.installation().await?)
    }

    /// Services with their catalogues.
    pub async fn services(&self) -> Result<Vec<Stored<ServiceRecord>>, CommandError> {
        Ok(self.control.store.services().await?)
    }

    /// One service.
    pub async fn service(&self, id: &Id) -> Result<Stored<ServiceRecord>, CommandError> {
        found(self.control.store.service(id).await?, "service", id)
    }

    /// One endpoint of a service.
    pub async fn endpoint(&self, service: &Id, id: &Id) -> Result<Stored<Endpoint>, CommandError> {
        let Stored { record, changed, created } = self.service(service).await?;
        let endpoint = record.service.endpoints.into_iter().find(|endpoint| endpoint.id == *id);
        found(endpoint.map(|record| Stored { record, changed, created }), "endpoint", id)
    }

    /// Feeds, in order of creation.
    pub async fn feeds(&self) -> Result<Vec<Stored<FeedRecord>>, CommandError> {
        Ok(self.control.store.feeds().await?)
    }

    /// One feed.
    pub async fn feed(&self, id: &Id) -> Result<Stored<FeedRecord>, CommandError> {
        found(self.control.store.feed(id).await?, "feed", id)
    }

    /// Tenants.
    pub async fn tenants(&self, paging: Paging) -> Result<Page<Stored<TenantRecord>>, CommandError> {
        let mut tenants = self.control.store.tenants(paging).await?;
        tenants.items.iter_mut().for_each(|tenant| self.control.with_issuer(&mut tenant.record.rules));
        Ok(tenants)
    }

    /// What was done and refused anywhere, newest first.
    pub async fn audit(&self, filter: &AuditFilter, paging: Paging) -> Result<Page<AuditRow>, CommandError> {
        Ok(self.control.store.audit(filter, paging).await?)
    }

    /// A part of the audit, of one tenant or of all, the oldest first.
    pub async fn export_audit(&self, tenant: Option<&Id>, after: Option<u64>) -> Result<Page<AuditRow>, CommandError> {
        Ok(self.control.store.export_audit(tenant, after).await?)
    }

    /// A checkpoint of the audit as it is now.
    pub async fn checkpoint(&self) -> Result<(Checkpoint, PublicKey), CommandError> {
        Ok((self.control.sign_checkpoint().await?, self.control.audit_public_key()))
    }

    /// The keys that sign access tokens, in the order in which they sign.
    pub async fn token_keys(&self) -> Result<Vec<TokenKeyView>, CommandError> {
        Ok(self.control.token_key_views().await?)
    }

    /// Recomputes every chain, and compares them with the newest checkpoint.
    pub async fn verify_audit(&self) -> Result<AuditVerification, CommandError> {
        self.control.verify_audit().await
    }

    /// Decisions, newest first.
    pub async fn decisions(&self, filter: &DecisionFilter, limit: u32) -> Result<Page<DecisionItem>, CommandError> {
        Ok(self.control.store.decisions(filter, limit).await?)
    }

    /// One decision.
    pub async fn decision(&self, id: u64, shown: &str) -> Result<DecisionRecord, CommandError> {
        found(self.control.store.decision(id).await?, "decision", &shown)
    }
}

pub(crate) fn found<T>(stored: Option<T>, kind: &'static str, id: &impl ToString) -> Result<T, CommandError> {
    Ok(stored.ok_or_else(|| Refused::NotFound { kind, id: id.to_string() })?)
}
