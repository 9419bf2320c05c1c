//! Keys of another system, many in one change: one revision, and an audit entry for each.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_model::credential::{Kind, SecretDigest};
use portcullis_model::id::Id;
use portcullis_model::source::{CreatorRule, Credential, CredentialState, SecretVersion};
use portcullis_store::Write;
use serde_json::json;

use super::keys::{ID_ATTEMPTS, future, no_free_id, record, require_group, require_room_for, unique};
use super::{Faults, KEY_NAME_CHARS, MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Situation};
use crate::change::{Item, Plan};
use crate::error::{CommandError, FieldFault, Refused};
use crate::import::{Existing, ImportKeys, Imported, ImportedKey, MAX_IMPORT};
use crate::secret;

/// The most faults that are told at once.
const MAX_FAULTS: usize = 20;

pub(super) async fn import(s: &Situation<'_>, tenant: &Id, new: &ImportKeys) -> Result<Plan, CommandError> {
    let count = new.keys.len();
    if count == 0 || count > MAX_IMPORT {
        let what = format!("it has {count} keys: give 1 to {MAX_IMPORT} at once");
        return Err(Refused::field("keys", what).into());
    }
    check(s, &new.keys)?;
    check_groups(s, tenant, &new.keys).await?;
    let there = already_there(s, tenant, new).await?;
    let missing: Vec<&ImportedKey> = new.keys.iter().filter(|key| !there.contains_key(&key.sha256)).collect();
    if !missing.is_empty() {
        require_room_for(s, tenant, missing.len() as u64).await?;
    }
    let mut ids = free_ids(s, missing.len()).await?.into_iter();
    let mut plan = Plan::new(Vec::new(), json!({}));
    let (mut records, mut imported) = (Vec::with_capacity(missing.len()), Vec::with_capacity(count));
    for key in &new.keys {
        if let Some(id) = there.get(&key.sha256) {
            imported.push(Imported { id: id.clone(), was_there: true });
            continue;
        }
        let id = ids.next().ok_or_else(no_free_id)?;
        let credential = credential(tenant, &id, key);
        let details = json!({
            "name": key.name,
            "group": key.group,
            "expires": key.expires,
            "ip_allowlist": credential.ip_allowlist,
            "external_id": key.external_id,
        });
        plan.items.push(Item { object: id.clone(), details });
        records.push(record(s, credential, &key.name, &key.description));
        imported.push(Imported { id, was_there: false });
    }
    if !records.is_empty() {
        plan.writes.push(Write::AddCredentials(records));
    }
    plan.imported = imported;
    Ok(plan)
}

/// What can be seen of the keys themselves.
fn check(s: &Situation<'_>, keys: &[ImportedKey]) -> Result<(), Refused> {
    let of_nothing = secret::digest("");
    let mut faults = Faults::default();
    let mut first: BTreeMap<SecretDigest, usize> = BTreeMap::new();
    for (index, key) in keys.iter().enumerate() {
        let mut own = Faults::default();
        own.text("name", &key.name, KEY_NAME_CHARS);
        own.text("description", &key.description, (0, MAX_DESCRIPTION_CHARS));
        own.list("ip_allowlist", &key.ip_allowlist);
        if let Some(external_id) = &key.external_id {
            own.text("external_id", external_id, (1, MAX_NAME_CHARS));
        }
        future(s, &mut own, key.expires);
        if key.sha256 == of_nothing {
            own.add("sha256", "it is the digest of an empty text: leave the key out, there is none");
        }
        if let Some(other) = first.insert(key.sha256, index) {
            own.add("sha256", format!("it is the digest of `keys[{other}]` too: a key can be imported once"));
        }
        take(&mut faults, index, own.0);
        if faults.0.len() >= MAX_FAULTS {
            break;
        }
    }
    faults.end()
}

/// Each group once, however many keys have it.
async fn check_groups(s: &Situation<'_>, tenant: &Id, keys: &[ImportedKey]) -> Result<(), CommandError> {
    let mut faults = Faults::default();
    let mut seen: BTreeSet<&Id> = BTreeSet::new();
    for (index, key) in keys.iter().enumerate() {
        if faults.0.len() >= MAX_FAULTS || !seen.insert(&key.group) {
            continue;
        }
        match require_group(s, tenant, &key.group).await {
            Err(CommandError::Refused(Refused::Invalid(own))) => take(&mut faults, index, own),
            other => other?,
        }
    }
    Ok(faults.end()?)
}

fn take(faults: &mut Faults, index: usize, own: Vec<FieldFault>) {
    for FieldFault { field, what } in own {
        faults.add(format!("keys[{index}].{field}"), what);
    }
}

/// The keys that the tenant has, by their digests. One that another tenant has is refused: a digest names one credential.
async fn already_there(
    s: &Situation<'_>,
    tenant: &Id,
    new: &ImportKeys,
) -> Result<BTreeMap<SecretDigest, Id>, CommandError> {
    let digests: Vec<SecretDigest> = new.keys.iter().map(|key| key.sha256).collect();
    let taken = s.control.store.taken_digests(&digests).await?;
    let taken: BTreeMap<SecretDigest, (Id, Id)> =
        taken.into_iter().map(|taken| (taken.sha256, (taken.tenant, taken.credential))).collect();
    let mut faults = Faults::default();
    for (index, key) in new.keys.iter().enumerate() {
        if faults.0.len() >= MAX_FAULTS {
            break;
        }
        match taken.get(&key.sha256) {
            Some((owner, id)) if owner == tenant && new.existing == Existing::Refuse => {
                let what = format!("it is the key `{id}` already: leave it out, or set `skip_existing`");
                faults.add(format!("keys[{index}].sha256"), what);
            }
            Some((owner, _)) if owner != tenant => {
                let what = "another credential of this installation has that digest: leave the key out, and replace it";
                faults.add(format!("keys[{index}].sha256"), what);
            }
            Some(_) | None => {}
        }
    }
    faults.end()?;
    Ok(taken.into_iter().map(|(sha256, (_, id))| (sha256, id)).collect())
}

/// So many ids that are free and differ.
async fn free_ids(s: &Situation<'_>, count: usize) -> Result<BTreeSet<Id>, CommandError> {
    let mut ids = BTreeSet::new();
    for _ in 0..ID_ATTEMPTS {
        let drawn: Vec<Id> = (ids.len()..count).filter_map(|_| secret::new_id()).collect();
        if !drawn.is_empty() {
            let taken = s.control.store.taken_credential_ids(&drawn).await?;
            ids.extend(drawn.into_iter().filter(|id| !taken.contains(id)));
        }
        if ids.len() == count {
            return Ok(ids);
        }
    }
    Err(no_free_id().into())
}

fn credential(tenant: &Id, id: &Id, key: &ImportedKey) -> Credential {
    Credential {
        id: id.clone(),
        tenant: tenant.clone(),
        kind: Kind::Tenant,
        state: CredentialState::Active,
        expires: key.expires,
        secrets: vec![SecretVersion { version: 1, sha256: key.sha256, until: None, signing_slot: None }],
        group: Some(key.group.clone()),
        ip_allowlist: unique(&key.ip_allowlist),
        endpoints: Vec::new(),
        applications: Vec::new(),
        creator: None,
        creator_rule: CreatorRule::default(),
        signature_profile: None,
        signed_only: false,
    }
}
