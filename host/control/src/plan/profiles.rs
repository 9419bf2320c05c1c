//! Signature profiles: how requests are signed. They are part of the installation's record, and changed one at a time.

use portcullis_model::id::Id;
use portcullis_model::source::{Installation, SignatureProfile};
use portcullis_store::{Stored, Write};
use serde_json::json;

use super::{Faults, Situation, missing};
use crate::change::Plan;
use crate::error::{CommandError, Refused};

pub(super) async fn put(s: &Situation<'_>, profile: &SignatureProfile) -> Result<Plan, CommandError> {
    let mut installation = read(s).await?;
    let profiles = &mut installation.signature_profiles;
    match profiles.iter_mut().find(|existing| existing.id == profile.id) {
        Some(existing) => {
            if let Some(key) = s.control.store.signer_by(&profile.id).await? {
                keep_keys(existing, profile, &key)?;
            }
            existing.clone_from(profile);
        }
        None => profiles.push(profile.clone()),
    }
    let details = json!({ "profile": profile });
    Ok(Plan::new(vec![Write::PutInstallation(installation)], details))
}

pub(super) async fn remove(s: &Situation<'_>, id: &Id) -> Result<Plan, CommandError> {
    let mut installation = read(s).await?;
    let before = installation.signature_profiles.len();
    installation.signature_profiles.retain(|profile| profile.id != *id);
    if installation.signature_profiles.len() == before {
        return Err(missing("signature-profile", id).into());
    }
    let accepts = |service: &&portcullis_model::source::Service| {
        service.accept.iter().any(|given| given.signature.as_ref() == Some(id))
    };
    if let Some(service) = s.lane.catalogue.services().find(accepts) {
        let what =
            format!("the service `{}` accepts signatures by `{id}`: take that from its `accept` first", service.id);
        return Err(Refused::State { code: "profile_in_use", what }.into());
    }
    if let Some(key) = s.control.store.signer_by(id).await? {
        let what = format!("the workspace key `{key}` signs by `{id}`: revoke it first");
        return Err(Refused::State { code: "profile_in_use", what }.into());
    }
    Ok(Plan::new(vec![Write::PutInstallation(installation)], json!({})))
}

async fn read(s: &Situation<'_>) -> Result<Installation, CommandError> {
    let stored: Stored<Installation> = s.control.store.installation().await?;
    s.require_unchanged("installation", &stored)?;
    Ok(stored.record)
}

/// What a profile's day keys are derived from stays as long as keys sign by it: clients sign by what they were told.
fn keep_keys(before: &SignatureProfile, after: &SignatureProfile, key: &Id) -> Result<(), Refused> {
    let mut faults = Faults::default();
    let fixed = [
        ("algorithm_prefix", before.algorithm_prefix == after.algorithm_prefix),
        ("hash", before.hash == after.hash),
        ("credential_scope", before.credential_scope == after.credential_scope),
    ];
    for (field, is_same) in fixed {
        if !is_same {
            faults.add(field, format!("the workspace key `{key}` signs by it as it is: make another profile"));
        }
    }
    faults.end()
}
