//! From records to policy: what is stored of a record, and what the policy gets of it.
//!
//! Records outlive what they name: settings survive the removal of their endpoint, a key the deletion of its creator. The
//! policy must not name what is not there, so this is where dead references are left out, always to the side of denying.

pub(crate) mod token_endpoint;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id, Revision};
use portcullis_model::source::{
    CreatorRule, Credential, CredentialState, Delta, Endpoint, EndpointSettings, Group, SOURCE_FORMAT, Service, Source,
    Tenant, User,
};
use portcullis_store::{Snapshot, Store, StoreError, TenantRecord, Write};

use crate::catalogue::admin_service;
use crate::token;

/// The services of the installation with their catalogues, the admin API among them.
#[derive(Clone, Default)]
pub(crate) struct Catalogue {
    /// As they are stored. What is granted, set or shown is of these.
    services: BTreeMap<Id, Service>,
    /// The prefixes of paths that services keep for Portcullis.
    reserved: BTreeMap<Id, String>,
}

impl Catalogue {
    pub(crate) fn new(stored: impl IntoIterator<Item = (Service, Option<String>)>) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (service, reserved) in stored.into_iter().chain(admin_service().map(|admin| (admin, None))) {
            catalogue.put(service, reserved);
        }
        catalogue
    }

    fn put(&mut self, service: Service, reserved: Option<String>) {
        self.reserved.remove(&service.id);
        self.reserved.extend(reserved.map(|prefix| (service.id.clone(), prefix)));
        self.services.insert(service.id.clone(), service);
    }

    /// The services as the gate has them: those that keep a prefix for Portcullis have a token endpoint.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = Service> {
        self.services.values().map(|service| match self.reserved.get(&service.id) {
            Some(reserved) => token_endpoint::with(service.clone(), reserved),
            None => service.clone(),
        })
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    pub(crate) fn service(&self, id: &Id) -> Option<&Service> {
        self.services.get(id)
    }

    pub(crate) fn endpoint(&self, name: &EndpointRef) -> Option<&Endpoint> {
        self.service(&name.service)?.endpoints.iter().find(|endpoint| endpoint.id == name.endpoint)
    }

    /// The stable name of an endpoint that people may call by an alias.
    pub(crate) fn stable(&self, name: &EndpointRef) -> EndpointRef {
        let service = self.service(&name.service).filter(|_| self.endpoint(name).is_none());
        let alias = service.and_then(|service| service.endpoints.iter().find(|e| e.aliases.contains(&name.endpoint)));
        EndpointRef {
            service: name.service.clone(),
            endpoint: alias.map_or_else(|| name.endpoint.clone(), |endpoint| endpoint.id.clone()),
        }
    }

    /// The catalogue as it is once `writes` are done: its own where one of them changes it.
    pub(crate) fn after(&self, writes: &[Write]) -> Cow<'_, Catalogue> {
        let mut after = Cow::Borrowed(self);
        for write in writes {
            match write {
                Write::PutService(record) => {
                    after.to_mut().put(record.service.clone(), record.delivery.reserved_prefix.clone());
                }
                Write::RemoveService(id) => {
                    let after = after.to_mut();
                    after.services.remove(id);
                    after.reserved.remove(id);
                }
                Write::PutInstallation(_)
                | Write::PutTenant(_)
                | Write::PutSettings { .. }
                | Write::RemoveSettings { .. }
                | Write::PutGroup(_)
                | Write::RemoveGroup { .. }
                | Write::PutApplication(_)
                | Write::RemoveApplication { .. }
                | Write::PutFeed(_)
                | Write::RemoveFeed(_)
                | Write::PutUser(_)
                | Write::RemoveUser { .. }
                | Write::PutCredential(_)
                | Write::AddCredentials(_)
                | Write::RemoveCredential(_)
                | Write::PutErrorLogSettings { .. }
                | Write::PutTokenKey(_)
                | Write::RemoveTokenKey(_) => {}
            }
        }
        after
    }
}

/// What a credential names that is there.
struct Present<'p> {
    catalogue: &'p Catalogue,
    group: bool,
    creator: bool,
    applications: &'p dyn Fn(&Id) -> bool,
}

/// The whole policy as of a snapshot.
pub(crate) fn source(snapshot: Snapshot, issuer: &str, checkpoint: Option<String>) -> Source {
    let catalogue = Catalogue::new(snapshot.services);
    let mut settings: BTreeMap<Id, Vec<EndpointSettings>> = BTreeMap::new();
    for (tenant, of_endpoint) in snapshot.settings {
        settings.entry(tenant).or_default().push(of_endpoint);
    }
    // By tenant, so that a look-up for each of a million keys copies no ids.
    let pairs = |ids: &mut dyn Iterator<Item = (&Id, &Id)>| {
        let mut by_tenant: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
        for (tenant, id) in ids {
            by_tenant.entry(tenant.clone()).or_default().insert(id.clone());
        }
        by_tenant
    };
    let groups = pairs(&mut snapshot.groups.iter().map(|group| (&group.tenant, &group.id)));
    let users = pairs(&mut snapshot.users.iter().map(|user| (&user.tenant, &user.id)));
    let applications = pairs(&mut snapshot.applications.iter().map(|app| (&app.tenant, &app.id)));
    let of =
        |set: &BTreeMap<Id, BTreeSet<Id>>, tenant: &Id, id: &Id| set.get(tenant).is_some_and(|ids| ids.contains(id));
    let credentials = snapshot.credentials.into_iter().filter_map(|stored| {
        let tenant = stored.tenant.clone();
        let present = Present {
            catalogue: &catalogue,
            group: stored.group.as_ref().is_none_or(|group| of(&groups, &tenant, group)),
            creator: stored.creator.as_ref().is_some_and(|creator| of(&users, &tenant, creator)),
            applications: &|application| of(&applications, &tenant, application),
        };
        credential(stored, &present)
    });
    let credentials = credentials.collect();
    Source {
        format: SOURCE_FORMAT,
        revision: snapshot.revision,
        seed: snapshot.seed,
        installation: snapshot.installation,
        tenants: snapshot
            .tenants
            .into_iter()
            .map(|record| {
                let settings = settings.remove(&record.id).unwrap_or_default();
                tenant(record, settings, &catalogue, issuer)
            })
            .collect(),
        applications: snapshot.applications,
        users: snapshot
            .users
            .into_iter()
            .map(|stored| {
                let has_group = stored.group.as_ref().is_some_and(|group| of(&groups, &stored.tenant, group));
                user(stored, has_group)
            })
            .collect(),
        groups: snapshot.groups.into_iter().map(|stored| group(stored, &catalogue)).collect(),
        credentials,
        services: catalogue.in_force().collect(),
        checkpoint,
    }
}

fn tenant(record: TenantRecord, mut settings: Vec<EndpointSettings>, catalogue: &Catalogue, issuer: &str) -> Tenant {
    let token_issuer = token::issuer_of(&record, issuer).map(str::to_owned);
    settings.retain(|of_endpoint| catalogue.endpoint(&of_endpoint.endpoint).is_some());
    Tenant {
        id: record.id,
        state: record.state,
        modules: record.modules,
        endpoints: settings,
        token_issuer,
        token_revocation: record.rules.token_revocation,
    }
}

fn group(mut stored: Group, catalogue: &Catalogue) -> Group {
    stored.permissions.retain(|permission| catalogue.endpoint(&permission.endpoint).is_some());
    stored
}

fn user(mut stored: User, has_group: bool) -> User {
    if !has_group {
        stored.group = None;
    }
    stored
}

/// Nothing where the policy cannot express the credential; to a caller it is then unknown, which looks like revoked.
fn credential(mut stored: Credential, present: &Present<'_>) -> Option<Credential> {
    let is_told = match stored.kind {
        // A revoked client stays: whether the tokens that it has are dead as well is its tenant's to say.
        Kind::Workspace | Kind::Tenant | Kind::Management | Kind::Client => true,
        Kind::Session | Kind::Personal => present.creator,
    };
    if !is_told || stored.secrets.is_empty() || !present.group {
        return None;
    }
    if stored.secrets.iter().all(|secret| secret.signing_slot.is_none()) {
        // What has no place in the key sheets signs nothing: a revoked key, or one that could not be used at all.
        if stored.signed_only && stored.state == CredentialState::Active {
            return None;
        }
        (stored.signature_profile, stored.signed_only) = (None, false);
    }
    if stored.creator.is_some() && !present.creator {
        stored.creator = None;
        if stored.creator_rule == CreatorRule::FollowCreator {
            // Dead for good: the policy cannot name a user who is not there, but it can say revoked.
            stored.state = CredentialState::Revoked;
            stored.creator_rule = CreatorRule::Independent;
        }
    }
    let confined = !stored.applications.is_empty();
    stored.applications.retain(|application| (present.applications)(application));
    if confined && stored.applications.is_empty() {
        // An empty list means all applications, so a key that has lost its last one must not keep it.
        stored.state = CredentialState::Revoked;
    }
    stored
        .endpoints
        .retain(|name| present.catalogue.endpoint(name).is_some_and(|endpoint| endpoint.per_application || !confined));
    Some(stored)
}

/// What leads from one revision to the next, for writes that are about to be done.
pub(crate) async fn delta(
    store: &Store,
    before: &Catalogue,
    revisions: (Revision, Revision),
    writes: &[Write],
    issuer: &str,
) -> Result<Delta, StoreError> {
    let catalogue = before.after(writes);
    let mut delta = match &catalogue {
        Cow::Borrowed(_) => Delta::empty(revisions.0, revisions.1, store.seed()),
        Cow::Owned(after) => services(store, before, after, revisions),
    };
    let mut tenants = BTreeSet::new();
    let mut groups = Vec::new();
    let mut credentials = Vec::new();
    for write in writes {
        match write {
            Write::PutInstallation(installation) => delta.installation = Some(installation.clone()),
            Write::PutService(record) => {
                refer(store, &record.service.id, &mut tenants, &mut groups, &mut credentials).await?
            }
            Write::RemoveService(id) => refer(store, id, &mut tenants, &mut groups, &mut credentials).await?,
            Write::PutTenant(record) => {
                tenants.insert(record.id.clone());
            }
            Write::PutSettings { tenant, .. } | Write::RemoveSettings { tenant, .. } => {
                tenants.insert(tenant.clone());
            }
            Write::PutGroup(record) => groups.push(record.group.clone()),
            Write::RemoveGroup { tenant, group } => delta.removed.groups.push((tenant.clone(), group.clone())),
            // Applications are in no delta: the gate compares ids with what the key lists.
            Write::PutApplication(_) | Write::RemoveApplication { .. } => {}
            // A feed is a part of the policy and in none.
            Write::PutFeed(_) | Write::RemoveFeed(_) => {}
            // The gate keeps no error log, and of a key that signs it has the public half, in the installation.
            Write::PutErrorLogSettings { .. } | Write::PutTokenKey(_) | Write::RemoveTokenKey(_) => {}
            Write::PutUser(record) => {
                let user_record = record.user.clone();
                let has_group = has_group(store, &user_record.tenant, user_record.group.as_ref()).await?;
                delta.users.push(user(user_record, has_group));
            }
            Write::RemoveUser { tenant, user } => delta.removed.users.push((tenant.clone(), user.clone())),
            Write::PutCredential(record) => credentials.push(record.credential.clone()),
            Write::AddCredentials(records) => {
                credentials.extend(records.iter().map(|record| record.credential.clone()));
            }
            Write::RemoveCredential(id) => {
                let gone = store.credential(id).await?;
                let secrets = gone.into_iter().flat_map(|gone| gone.record.credential.secrets);
                delta.removed.digests.extend(secrets.map(|secret| secret.sha256));
            }
        }
    }
    for id in tenants {
        if let Some(record) = tenant_after(store, &id, writes).await? {
            let settings = settings_after(store, &id, writes).await?;
            delta.tenants.push(tenant(record, settings, &catalogue, issuer));
        }
    }
    delta.groups = groups.into_iter().map(|stored| group(stored, &catalogue)).collect();
    let mut groups = KnownGroups::default();
    for stored in credentials {
        if let Some(compiled) = credential_now(store, &catalogue, &mut groups, stored).await? {
            delta.credentials.push(compiled);
        }
    }
    Ok(delta)
}

/// The part of a delta that is about services and hosts.
fn services(store: &Store, before: &Catalogue, after: &Catalogue, (from, to): (Revision, Revision)) -> Delta {
    let of = |revision, catalogue: &Catalogue| Source {
        services: catalogue.in_force().collect(),
        ..Source::empty(revision, store.seed())
    };
    Delta::between(&of(from, before), &of(to, after))
}

/// Adds the records that name endpoints of a service whose catalogue changes: what they name may have come or gone.
async fn refer(
    store: &Store,
    service: &Id,
    tenants: &mut BTreeSet<Id>,
    groups: &mut Vec<Group>,
    credentials: &mut Vec<Credential>,
) -> Result<(), StoreError> {
    let referring = store.referring(service).await?;
    tenants.extend(referring.tenants);
    for (tenant, id) in referring.groups {
        groups.extend(store.group(&tenant, &id).await?.map(|stored| stored.record.group));
    }
    for id in referring.credentials {
        credentials.extend(store.credential(&id).await?.map(|stored| stored.record.credential));
    }
    Ok(())
}

async fn tenant_after(store: &Store, id: &Id, writes: &[Write]) -> Result<Option<TenantRecord>, StoreError> {
    let put = writes.iter().find_map(|write| {
        if let Write::PutTenant(record) = write
            && record.id == *id
        {
            Some(record.clone())
        } else {
            None
        }
    });
    match put {
        Some(record) => Ok(Some(record)),
        None => Ok(store.tenant(id).await?.map(|stored| stored.record)),
    }
}

async fn settings_after(store: &Store, id: &Id, writes: &[Write]) -> Result<Vec<EndpointSettings>, StoreError> {
    let stored = store.settings(id).await?.into_iter().map(|stored| stored.record);
    let mut settings: BTreeMap<EndpointRef, EndpointSettings> =
        stored.map(|of_endpoint| (of_endpoint.endpoint.clone(), of_endpoint)).collect();
    for write in writes {
        if let Write::PutSettings { tenant, settings: put } = write
            && tenant == id
        {
            settings.insert(put.endpoint.clone(), put.clone());
        }
        if let Write::RemoveSettings { tenant, endpoint } = write
            && tenant == id
        {
            settings.remove(endpoint);
        }
    }
    Ok(settings.into_values().collect())
}

/// A credential with what it names looked up. What it names is stored before it, never in the same change.
async fn credential_now(
    store: &Store,
    catalogue: &Catalogue,
    groups: &mut KnownGroups,
    stored: Credential,
) -> Result<Option<Credential>, StoreError> {
    let tenant = stored.tenant.clone();
    let creator = match &stored.creator {
        Some(creator) => store.user(&tenant, creator).await?.is_some(),
        None => false,
    };
    let mut applications = BTreeSet::new();
    for application in &stored.applications {
        if store.application(&tenant, application).await?.is_some() {
            applications.insert(application.clone());
        }
    }
    let group = match &stored.group {
        None => true,
        Some(group) => groups.has(store, &tenant, group).await?,
    };
    let present =
        Present { catalogue, group, creator, applications: &|application| applications.contains(application) };
    Ok(credential(stored, &present))
}

/// Groups that were looked up while a delta is made: thousands of keys of an import have the same few.
#[derive(Default)]
struct KnownGroups(BTreeMap<(Id, Id), bool>);

impl KnownGroups {
    async fn has(&mut self, store: &Store, tenant: &Id, group: &Id) -> Result<bool, StoreError> {
        let key = (tenant.clone(), group.clone());
        if let Some(known) = self.0.get(&key) {
            return Ok(*known);
        }
        let found = has_group(store, tenant, Some(group)).await?;
        self.0.insert(key, found);
        Ok(found)
    }
}

async fn has_group(store: &Store, tenant: &Id, group: Option<&Id>) -> Result<bool, StoreError> {
    match group {
        Some(group) => Ok(store.group(tenant, group).await?.is_some()),
        None => Ok(false),
    }
}
