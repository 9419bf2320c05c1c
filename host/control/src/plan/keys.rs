//! Keys: one record and one state machine for all kinds, and what is particular to each.
//! The states and the steps between them are in [`transitions`](super::transitions).

use std::collections::BTreeSet;

use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{CreatorRule, Credential, CredentialState, Role, SecretVersion, UserState};
use portcullis_model::time::{Expiry, UnixTime};
use portcullis_store::{CredentialRecord, GroupKind, Stored, Write};
use serde_json::json;

use super::transitions::{self, Step};
use super::{Faults, KEY_NAME_CHARS, MAX_DESCRIPTION_CHARS, Situation, missing, require_confirmed};
use crate::change::{Issued, Plan};
use crate::command::{Confirmation, KeyRef, NewManagementKey, NewTenantKey, Rotation, TenantKeyEdit, key_name};
use crate::error::{CommandError, Refused};
use crate::secret::{self, NewKey};

/// How often an id is drawn until one is free. With ten million credentials the first fails once in 20 million times.
pub(super) const ID_ATTEMPTS: usize = 8;
/// The longest that an earlier secret goes on working beside the new one, in seconds: 30 days (REQUIREMENTS P2).
pub const MAX_OVERLAP_S: u32 = 30 * 86_400;

pub(super) async fn create_tenant(s: &Situation<'_>, tenant: &Id, new: &NewTenantKey) -> Result<Plan, CommandError> {
    let mut faults = Faults::default();
    faults.text("name", &new.name, KEY_NAME_CHARS);
    faults.text("description", &new.description, (0, MAX_DESCRIPTION_CHARS));
    faults.list("ip_allowlist", &new.ip_allowlist);
    future(s, &mut faults, new.expires);
    faults.end()?;
    require_group(s, tenant, &new.group).await?;
    require_room(s, tenant).await?;
    let id = free_id(s).await?;
    let key = secret::new_key(&id);
    let mut credential = credential(tenant, id.clone(), Kind::Tenant, &key);
    credential.expires = new.expires;
    credential.group = Some(new.group.clone());
    credential.ip_allowlist = unique(&new.ip_allowlist);
    let details = json!({
        "name": new.name,
        "group": new.group,
        "expires": new.expires,
        "ip_allowlist": credential.ip_allowlist,
    });
    let record = record(s, credential, &new.name, &new.description);
    Ok(issue(s.stored(record, s.now), key, details))
}

pub(super) async fn edit_tenant(s: &Situation<'_>, key: &KeyRef, edit: &TenantKeyEdit) -> Result<Plan, CommandError> {
    let stored = find(s, key).await?;
    s.require_unchanged("key", &stored)?;
    let mut record = stored.record;
    transitions::require(&record, Step::Edit)?;
    let mut faults = Faults::default();
    let mut details = serde_json::Map::new();
    if let Some(name) = &edit.name {
        faults.text("name", name, KEY_NAME_CHARS);
        record.name.clone_from(name);
        details.insert("name".to_owned(), json!(name));
    }
    if let Some(description) = &edit.description {
        faults.text("description", description, (0, MAX_DESCRIPTION_CHARS));
        record.description.clone_from(description);
        details.insert("description".to_owned(), json!(description));
    }
    if let Some(allowlist) = &edit.ip_allowlist {
        faults.list("ip_allowlist", allowlist);
        record.credential.ip_allowlist = unique(allowlist);
        details.insert("ip_allowlist".to_owned(), json!(record.credential.ip_allowlist));
    }
    faults.end()?;
    if let Some(group) = &edit.group {
        require_group(s, &key.tenant, group).await?;
        record.credential.group = Some(group.clone());
        details.insert("group".to_owned(), json!(group));
    }
    Ok(Plan::new(vec![Write::PutCredential(record)], details.into()))
}

pub(super) async fn create_management(
    s: &Situation<'_>,
    tenant: &Id,
    new: &NewManagementKey,
) -> Result<Plan, CommandError> {
    let mut faults = Faults::default();
    faults.text("name", &new.name, KEY_NAME_CHARS);
    faults.text("description", &new.description, (0, MAX_DESCRIPTION_CHARS));
    faults.list("endpoints", &new.endpoints);
    faults.list("applications", &new.applications);
    future(s, &mut faults, Some(new.expires));
    if new.endpoints.is_empty() {
        faults.add("endpoints", "it is empty, so the key could do nothing: name the endpoints it may use");
    }
    let endpoints: Vec<EndpointRef> = new.endpoints.iter().map(|name| s.lane.catalogue.stable(name)).collect();
    check_endpoints(s, &mut faults, &endpoints, !new.applications.is_empty());
    for (index, application) in new.applications.iter().enumerate() {
        if s.control.store.application(tenant, application).await?.is_none() {
            faults.add(format!("applications[{index}]"), format!("there is no application `{application}`"));
        }
    }
    let creator = creator(s, tenant, new, &mut faults).await?;
    faults.end()?;
    s.require_power(tenant, endpoints.iter().cloned(), &new.applications, "endpoints")?;
    let id = free_id(s).await?;
    let key = secret::new_key(&id);
    let mut credential = credential(tenant, id.clone(), Kind::Management, &key);
    credential.expires = Some(new.expires);
    credential.endpoints = unique(&endpoints);
    credential.applications = unique(&new.applications);
    credential.creator = creator;
    credential.creator_rule = new.creator_rule;
    let details = json!({
        "name": new.name,
        "expires": new.expires,
        "endpoints": credential.endpoints,
        "applications": credential.applications,
        "creator": credential.creator,
        "creator_rule": credential.creator_rule,
    });
    let record = record(s, credential, &new.name, &new.description);
    Ok(issue(s.stored(record, s.now), key, details))
}

pub(super) async fn rotate(s: &Situation<'_>, key: &KeyRef, rotation: &Rotation) -> Result<Plan, CommandError> {
    transitions::require_kind(key.kind, Step::Rotate)?;
    let stored = find(s, key).await?;
    s.require_unchanged("key", &stored)?;
    let (created, mut record) = (stored.created, stored.record);
    transitions::require(&record, Step::Rotate)?;
    require_power_of(s, &record).await?;
    let is_expired = record.credential.expires.is_some_and(|expires| s.now >= expires.instant());
    let mut faults = Faults::default();
    future(s, &mut faults, rotation.expires);
    if rotation.overlap_s > MAX_OVERLAP_S {
        faults.add("overlap_s", format!("at most {MAX_OVERLAP_S} seconds, which are 30 days"));
    } else if rotation.overlap_s > 0 && is_expired {
        faults.add("overlap_s", "the key has expired, and its old secret does not come back to life: leave it out");
    }
    faults.end()?;
    if is_expired && rotation.expires.is_none() {
        let what = "the key has expired: give it a new `expires` to rotate it".to_owned();
        return Err(Refused::State { code: "key_expired", what }.into());
    }
    if is_expired && key.kind == Kind::Tenant {
        // While it was expired it did not count.
        require_room(s, &key.tenant).await?;
    }
    let (newest, earlier) = versions(&record, s.now);
    let kept = newest.filter(|_| rotation.overlap_s > 0);
    if kept.is_none() {
        let consequence = format!("the present secret of `{}` is dead at once, and its clients are denied", key.id);
        require_confirmed(rotation.confirmation, consequence)?;
    } else if let Some(earlier) = earlier {
        let version = earlier.version;
        let consequence =
            format!("version {version} of the secret of `{}`, which still works, is dead at once", key.id);
        require_confirmed(rotation.confirmation, consequence)?;
    }
    let version = next_version(&record)?;
    let new = secret::new_key(&key.id);
    let until = s.now.as_secs().saturating_add(u64::from(rotation.overlap_s));
    let until = Expiry::at(UnixTime::from_secs(until).unwrap_or(UnixTime::MAX));
    let kept = kept.map(|kept| SecretVersion { until: Some(until), ..kept });
    let overlap_until = kept.as_ref().map(|_| until);
    record.credential.secrets = kept
        .into_iter()
        .chain([SecretVersion { version, sha256: new.digest, until: None, signing_slot: None }])
        .collect();
    if rotation.expires.is_some() {
        record.credential.expires = rotation.expires;
    }
    let details = json!({
        "version": version,
        "expires": record.credential.expires,
        "overlap_until": overlap_until,
    });
    Ok(issue(s.stored(record, created), new, details))
}

pub(super) async fn end_overlap(
    s: &Situation<'_>,
    key: &KeyRef,
    confirmation: Confirmation,
) -> Result<Plan, CommandError> {
    transitions::require_kind(key.kind, Step::EndOverlap)?;
    let stored = find(s, key).await?;
    s.require_unchanged("key", &stored)?;
    let mut record = stored.record;
    transitions::require(&record, Step::EndOverlap)?;
    let (newest, earlier) = versions(&record, s.now);
    let (Some(newest), Some(earlier)) = (newest, earlier) else {
        let what = format!("the key `{}` has one secret, no earlier one works beside it", key.id);
        return Err(Refused::State { code: "no_overlap", what }.into());
    };
    let version = earlier.version;
    let consequence =
        format!("version {version} of the secret of `{}` is dead at once, and its clients are denied", key.id);
    require_confirmed(confirmation, consequence)?;
    record.credential.secrets = vec![newest];
    Ok(Plan::new(vec![Write::PutCredential(record)], json!({ "ended_version": version })))
}

/// The newest version of a secret, and the one before it where that still works.
fn versions(record: &CredentialRecord, now: UnixTime) -> (Option<SecretVersion>, Option<SecretVersion>) {
    let mut versions = record.credential.secrets.clone();
    versions.sort_unstable_by_key(|secret| secret.version);
    let newest = versions.pop();
    let works = |secret: &SecretVersion| secret.until.is_none_or(|until| now < until.instant());
    (newest, versions.pop().filter(works))
}

/// The number of the next version of a secret.
pub(super) fn next_version(record: &CredentialRecord) -> Result<u16, Refused> {
    let last = record.credential.secrets.iter().map(|secret| secret.version).max().unwrap_or(0);
    last.checked_add(1).ok_or_else(|| Refused::State {
        code: "too_many_rotations",
        what: "the key has been rotated as often as a key can be: make a new one".to_owned(),
    })
}

pub(super) async fn revoke(s: &Situation<'_>, key: &KeyRef, confirmation: Confirmation) -> Result<Plan, CommandError> {
    let stored = find(s, key).await?;
    s.require_unchanged("key", &stored)?;
    transitions::require(&stored.record, Step::Revoke)?;
    let consequence = format!("the {} `{}` is dead at once and for good", key_name(key.kind), key.id);
    require_confirmed(confirmation, consequence)?;
    Ok(Plan::new(vec![Write::PutCredential(revoked(stored.record))], json!({})))
}

pub(super) async fn delete(s: &Situation<'_>, key: &KeyRef, confirmation: Confirmation) -> Result<Plan, CommandError> {
    transitions::require_kind(key.kind, Step::Delete)?;
    let stored = find(s, key).await?;
    s.require_unchanged("key", &stored)?;
    transitions::require(&stored.record, Step::Delete)?;
    require_confirmed(confirmation, format!("the management key `{}` is gone at once and for good", key.id))?;
    Ok(Plan::new(vec![Write::RemoveCredential(key.id.clone())], json!({})))
}

/// Which secret of which credential a sealed text is.
pub(crate) fn sealed_place(id: &Id, what: &str) -> String {
    format!("credential/{id}/{what}")
}

pub(super) fn credential(tenant: &Id, id: Id, kind: Kind, key: &NewKey) -> Credential {
    Credential {
        id,
        tenant: tenant.clone(),
        kind,
        state: CredentialState::Active,
        expires: None,
        secrets: vec![SecretVersion { version: 1, sha256: key.digest, until: None, signing_slot: None }],
        group: None,
        ip_allowlist: Vec::new(),
        endpoints: Vec::new(),
        applications: Vec::new(),
        creator: None,
        creator_rule: CreatorRule::default(),
        signature_profile: None,
        signed_only: false,
    }
}

pub(super) fn record(s: &Situation<'_>, credential: Credential, name: &str, description: &str) -> CredentialRecord {
    CredentialRecord {
        credential,
        name: name.to_owned(),
        description: description.to_owned(),
        created_by: s.authorized.actor.clone(),
        sealed_key: None,
        sealed_secret: None,
        terms: None,
    }
}

pub(super) fn issue(stored: Stored<CredentialRecord>, key: NewKey, details: serde_json::Value) -> Plan {
    let object = Some(stored.record.credential.id.clone());
    let writes = vec![Write::PutCredential(stored.record.clone())];
    let issued = Some(Issued { key: key.key, signing_secret: None, record: stored });
    Plan { object, issued, ..Plan::new(writes, details) }
}

/// A dead key keeps no secret that could be opened, and no place for one in the key sheets.
pub(crate) fn revoked(mut record: CredentialRecord) -> CredentialRecord {
    record.credential.state = CredentialState::Revoked;
    record.credential.secrets.iter_mut().for_each(|secret| secret.signing_slot = None);
    record.sealed_key = None;
    record.sealed_secret = None;
    record
}

async fn find(s: &Situation<'_>, key: &KeyRef) -> Result<Stored<CredentialRecord>, CommandError> {
    let stored = s.control.store.credential(&key.id).await?;
    let is_meant = |stored: &Stored<CredentialRecord>| {
        let credential = &stored.record.credential;
        credential.tenant == key.tenant && credential.kind == key.kind
    };
    Ok(stored.filter(is_meant).ok_or_else(|| missing(key_name(key.kind), &key.id))?)
}

pub(super) async fn require_group(s: &Situation<'_>, tenant: &Id, group: &Id) -> Result<(), CommandError> {
    let Some(stored) = s.control.store.group(tenant, group).await? else {
        return Err(Refused::field("group", format!("there is no group `{group}`")).into());
    };
    if stored.record.kind != GroupKind::TenantKey {
        let what = format!("`{group}` is of the type member, a tenant key needs a group of the type tenant key");
        return Err(Refused::field("group", what).into());
    }
    let endpoints = stored.record.group.permissions.into_iter().map(|permission| permission.endpoint);
    Ok(s.require_power(tenant, endpoints, &[], "group")?)
}

/// Whoever gets a key's new secret has the key's power, so it must not exceed the caller's.
async fn require_power_of(s: &Situation<'_>, record: &CredentialRecord) -> Result<(), CommandError> {
    let credential = &record.credential;
    if let Some(group) = &credential.group {
        return require_group(s, &credential.tenant, group).await;
    }
    let endpoints = credential.endpoints.iter().cloned();
    Ok(s.require_power(&credential.tenant, endpoints, &credential.applications, "endpoints")?)
}

async fn require_room(s: &Situation<'_>, tenant: &Id) -> Result<(), CommandError> {
    require_room_for(s, tenant, 1).await
}

/// Whether so many more keys stay within the tenant's limit.
pub(super) async fn require_room_for(s: &Situation<'_>, tenant: &Id, more: u64) -> Result<(), CommandError> {
    let limit = s.control.store.tenant(tenant).await?.map_or(0, |stored| stored.record.key_limit);
    let live = s.control.store.count_live(tenant, Kind::Tenant, s.now).await?;
    if live.saturating_add(more) > u64::from(limit) {
        let which = if more == 1 { "revoke one".to_owned() } else { format!("{more} more do not fit") };
        let what = format!("{live}/{limit} keys are in use: {which}, or have the operator raise `key_limit`");
        return Err(Refused::State { code: "key_limit_reached", what }.into());
    }
    Ok(())
}

fn check_endpoints(s: &Situation<'_>, faults: &mut Faults, endpoints: &[EndpointRef], confined: bool) {
    for (index, name) in endpoints.iter().enumerate() {
        let field = format!("endpoints[{index}]");
        match s.lane.catalogue.endpoint(name) {
            None => faults.add(field, format!("there is no endpoint `{name}`")),
            Some(endpoint) if confined && !endpoint.per_application => {
                let what = format!(
                    "`{name}` does not work with individual applications, to which the key is confined: leave it out, or \
                     leave `applications` empty"
                );
                faults.add(field, what);
            }
            Some(_) => {}
        }
    }
}

/// The admin who answers for a management key: named, or the one who answers for the caller's own key.
async fn creator(
    s: &Situation<'_>,
    tenant: &Id,
    new: &NewManagementKey,
    faults: &mut Faults,
) -> Result<Option<Id>, CommandError> {
    let own = s.authorized.actor.user.clone().filter(|_| s.authorized.actor.tenant == *tenant);
    let Some(id) = new.creator.clone().or(own) else {
        if new.creator_rule == CreatorRule::FollowCreator {
            let what = "name an admin of the tenant, or set `creator_rule` to `independent`";
            faults.add("creator", what);
        }
        return Ok(None);
    };
    match s.control.store.user(tenant, &id).await? {
        None => faults.add("creator", format!("there is no user `{id}`")),
        Some(stored) if stored.record.user.role == Role::Member => {
            faults.add("creator", format!("`{id}` is a member, management keys are made by admins"));
        }
        Some(stored) if stored.record.user.state == UserState::Disabled => {
            faults.add("creator", format!("`{id}` is disabled, so the key would be dead"));
        }
        Some(_) => {}
    }
    Ok(Some(id))
}

pub(super) async fn free_id(s: &Situation<'_>) -> Result<Id, CommandError> {
    for _ in 0..ID_ATTEMPTS {
        if let Some(id) = secret::new_id()
            && !s.control.store.credential_id_is_taken(&id).await?
        {
            return Ok(id);
        }
    }
    Err(no_free_id().into())
}

pub(super) fn no_free_id() -> Refused {
    Refused::State { code: "no_free_id", what: "no free id was found for the key: try again".to_owned() }
}

pub(super) fn future(s: &Situation<'_>, faults: &mut Faults, expires: Option<Expiry>) {
    if expires.is_some_and(|expires| expires.instant() <= s.now) {
        faults.add("expires", "it is not in the future");
    }
}

pub(super) fn unique<T: Ord + Clone>(list: &[T]) -> Vec<T> {
    list.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}
