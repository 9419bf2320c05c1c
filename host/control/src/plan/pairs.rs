//! Workspace keys: pairs of a key id and a signing secret, made here or taken over from another system.

use portcullis_model::credential::Kind;
use portcullis_model::id::Id;
use portcullis_model::source::{Credential, CredentialState, SecretVersion, SignatureProfile};
use portcullis_store::{CredentialFilter, Paging, Write};
use secrecy::SecretString;
use serde_json::json;

use super::keys::{credential, free_id, record, revoked, sealed_place};
use super::{Faults, MAX_NAME_CHARS, Situation, require_confirmed};
use crate::change::{Issued, Plan};
use crate::command::{Confirmation, NewWorkspaceKey};
use crate::error::{CommandError, Failed, Refused};
use crate::import::ImportPair;
use crate::secret::{self, NewKey};

/// The longest key id of another system in characters. A signature names it between slashes.
const MAX_KEY_ID_CHARS: usize = 128;
/// The shortest and the longest signing secret of another system in characters.
const SIGNING_SECRET_CHARS: (usize, usize) = (8, 256);

pub(super) async fn create(s: &Situation<'_>, tenant: &Id, new: &NewWorkspaceKey) -> Result<Plan, CommandError> {
    let mut faults = Faults::default();
    faults.text("name", &new.name, (0, MAX_NAME_CHARS));
    let profile = profile(s, new.profile.as_ref(), &mut faults).await?;
    if new.signed_only && profile.is_none() {
        faults.add("signed_only", "there is no signature profile, so the key could not be used at all");
    }
    faults.end()?;
    let (mut writes, replaces) = replaced(s, tenant, new.confirmation).await?;
    let id = free_id(s).await?;
    let key = secret::new_key(&id);
    let signing_secret = secret::new_signing_secret();
    let credential = signing(s, credential(tenant, id.clone(), Kind::Workspace, &key), profile, new.signed_only)?;
    let mut record = record(s, credential, &new.name, "");
    let sealer = &s.control.sealer;
    record.sealed_key = Some(sealer.seal(&key.key, &sealed_place(&id, "key")).map_err(Failed::from)?);
    record.sealed_secret = Some(sealer.seal(&signing_secret, &sealed_place(&id, "secret")).map_err(Failed::from)?);
    writes.push(Write::PutCredential(record.clone()));
    let details = json!({
        "name": new.name,
        "replaces": replaces,
        "signature_profile": record.credential.signature_profile,
        "signed_only": new.signed_only,
    });
    let record = s.stored(record, s.now);
    let issued = Issued { key: key.key, signing_secret: Some(signing_secret), record };
    Ok(Plan { object: Some(id), issued: Some(issued), ..Plan::new(writes, details) })
}

pub(super) async fn import(s: &Situation<'_>, tenant: &Id, new: &ImportPair) -> Result<Plan, CommandError> {
    let mut faults = Faults::default();
    faults.text("name", &new.name, (0, MAX_NAME_CHARS));
    let key_id = new.key_id.text();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if key_id.is_empty() || key_id.len() > MAX_KEY_ID_CHARS || !key_id.bytes().all(is_plain) {
        let what = format!("it is not 1 to {MAX_KEY_ID_CHARS} letters, digits, `-`, `_` and `.`");
        faults.add("key_id", what);
    }
    let chars = new.secret.text().chars().count();
    let (shortest, longest) = SIGNING_SECRET_CHARS;
    if chars < shortest || chars > longest || new.secret.text().chars().any(char::is_control) {
        // How long it is would tell something of it.
        faults.add("secret", format!("it is not {shortest} to {longest} characters without control characters"));
    }
    let profile = profile(s, new.profile.as_ref(), &mut faults).await?;
    if profile.is_none() && faults.0.iter().all(|fault| fault.field != "profile") {
        faults.add("profile", "there is no signature profile to sign by: have the operator make one");
    }
    faults.end()?;
    let digest = secret::digest(key_id);
    if !s.control.store.taken_digests(&[digest]).await?.is_empty() {
        let what = "a credential of this installation has or had it: make a new pair, or end that one";
        return Err(Refused::field("key_id", what).into());
    }
    let (mut writes, replaces) = replaced(s, tenant, new.confirmation).await?;
    let id = free_id(s).await?;
    let key = NewKey { key: SecretString::from(key_id), digest };
    let credential = signing(s, credential(tenant, id.clone(), Kind::Workspace, &key), profile, new.signed_only)?;
    let mut record = record(s, credential, &new.name, "");
    let sealer = &s.control.sealer;
    record.sealed_key = Some(sealer.seal(&key.key, &sealed_place(&id, "key")).map_err(Failed::from)?);
    record.sealed_secret = Some(sealer.seal(&new.secret.0, &sealed_place(&id, "secret")).map_err(Failed::from)?);
    let details = json!({
        "name": new.name,
        "replaces": replaces,
        "signature_profile": record.credential.signature_profile,
        "signed_only": new.signed_only,
    });
    writes.push(Write::PutCredential(record));
    Ok(Plan { object: Some(id), ..Plan::new(writes, details) })
}

/// The end of the pair that the tenant has, where it has one: there is one at a time.
async fn replaced(
    s: &Situation<'_>,
    tenant: &Id,
    confirmation: Confirmation,
) -> Result<(Vec<Write>, Option<Id>), CommandError> {
    if *tenant == crate::system_tenant() {
        let what = "the system tenant is administered with management keys and has no workspace".to_owned();
        return Err(Refused::State { code: "built_in", what }.into());
    }
    let filter = CredentialFilter {
        state: Some(CredentialState::Active),
        ..CredentialFilter::all(tenant.clone(), Kind::Workspace)
    };
    let active = s.control.store.credentials(&filter, Paging { after: None, limit: 1 }).await?.items.pop();
    let Some(stored) = active else { return Ok((Vec::new(), None)) };
    let id = stored.record.credential.id.clone();
    require_confirmed(confirmation, format!("the active pair `{id}` is dead at once, and its clients are denied"))?;
    Ok((vec![Write::PutCredential(revoked(stored.record))], Some(id)))
}

/// The profile of a new pair: the one that is named, or the only one there is. Without any it signs nothing.
async fn profile(
    s: &Situation<'_>,
    named: Option<&Id>,
    faults: &mut Faults,
) -> Result<Option<SignatureProfile>, CommandError> {
    let mut profiles = s.control.store.installation().await?.record.signature_profiles;
    let Some(named) = named else {
        if profiles.len() > 1 {
            let ids: Vec<String> = profiles.iter().map(|profile| format!("`{}`", profile.id)).collect();
            faults.add("profile", format!("there are several signature profiles: name one of {}", ids.join(", ")));
            return Ok(None);
        }
        return Ok(profiles.pop());
    };
    let found = profiles.into_iter().find(|profile| profile.id == *named);
    if found.is_none() {
        faults.add("profile", format!("there is no signature profile `{named}`"));
    }
    Ok(found)
}

/// A credential whose requests are signed by a profile, with a place for its day keys.
fn signing(
    s: &Situation<'_>,
    mut credential: Credential,
    profile: Option<SignatureProfile>,
    signed_only: bool,
) -> Result<Credential, Refused> {
    let Some(profile) = profile else { return Ok(credential) };
    let slot = s.lane.signers.free().ok_or_else(|| Refused::State {
        code: "too_many_signers",
        what: "as many keys sign requests as an installation may have: revoke one".to_owned(),
    })?;
    let versions = credential.secrets.into_iter();
    credential.secrets = versions.map(|secret| SecretVersion { signing_slot: Some(slot), ..secret }).collect();
    credential.signature_profile = Some(profile.id);
    credential.signed_only = signed_only;
    Ok(credential)
}
