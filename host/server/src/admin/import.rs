//! `/v1/tenants/{tenant}/tenant-keys/import`: keys of another system, by their digests; and
//! `/v1/tenants/{tenant}/workspace-keys/import`: the pair of a key id and a secret, sealed at once.

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::{Caller, Command, Existing, ImportKeys, ImportPair, Imported, ImportedKey, ImportedSecret};
use portcullis_model::credential::{Kind, SecretDigest};
use portcullis_model::id::Id;
use portcullis_model::time::Expiry;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::answer::{Created, Uncached, created};
use super::extract::{At, Body, confirmation};
use super::keys;
use super::lines::{Lines, ranges};
use super::problem::Problem;
use super::{Api, schema};

/// The longest body of an import in bytes: as many keys as one takes, each with a name, a description of 1000 characters and
/// some address ranges.
const MAX_IMPORT_BYTES: usize = 16 << 20;

/// Keys to be imported.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportBody {
    keys: Vec<KeyBody>,
    /// Keys that the tenant has already stay as they are, and are no fault.
    #[serde(default)]
    skip_existing: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ImportedKeyBody")]
struct KeyBody {
    /// The SHA-256 of the key, in hex.
    #[schemars(with = "schema::Sha256")]
    sha256: SecretDigest,
    name: String,
    #[serde(default)]
    description: String,
    #[schemars(with = "schema::Id")]
    group: Id,
    #[schemars(with = "Option<schema::Expiry>")]
    expires: Option<Expiry>,
    #[serde(default)]
    ip_allowlist: Lines,
    /// What the other system calls it.
    external_id: Option<String>,
}

/// What became of them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Import")]
pub(super) struct ImportView {
    imported: usize,
    already_there: usize,
    /// In force from this revision on.
    revision: u64,
    /// Each key, in the order of the call.
    keys: Vec<KeyView>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ImportedKey")]
struct KeyView {
    #[schemars(with = "schema::Id")]
    id: Id,
    already_there: bool,
}

/// A key id and its secret to be imported.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ImportedPairBody")]
pub(super) struct PairBody {
    #[serde(default)]
    name: String,
    /// The id by which signatures name the key.
    #[schemars(with = "String")]
    key_id: SecretString,
    /// The secret that requests are signed with.
    #[schemars(with = "String")]
    secret: SecretString,
    /// The signature profile: the only one there is where it is left out.
    #[schemars(with = "Option<schema::Id>")]
    profile: Option<Id>,
    /// Whether it is proven by signatures alone. Where it is not, whoever knows the key id has a key.
    #[serde(default = "yes")]
    signed_only: bool,
    #[serde(default)]
    confirm: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn import_pair(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Body(body): Body<PairBody>,
) -> Result<Uncached<Created<keys::KeyView>>, Problem> {
    let new = ImportPair {
        name: body.name,
        key_id: ImportedSecret(body.key_id),
        secret: ImportedSecret(body.secret),
        profile: body.profile,
        signed_only: body.signed_only,
        confirmation: confirmation(body.confirm),
    };
    let done = api.order(&caller, None, Command::ImportPair(tenant.clone(), new)).await?;
    let (changed, key) = keys::made(&api, &caller, (&tenant, Kind::Workspace), &done).await?;
    let at = format!("/v1/tenants/{tenant}/workspace-keys/{}", done.object);
    Ok(Uncached(created(done.repetition, changed, at, key)))
}

pub(super) async fn import(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Body(body): Body<ImportBody, MAX_IMPORT_BYTES>,
) -> Result<Json<ImportView>, Problem> {
    let existing = if body.skip_existing { Existing::Keep } else { Existing::Refuse };
    let keys = body.keys.into_iter().enumerate().map(|(index, key)| {
        Ok(ImportedKey {
            ip_allowlist: ranges(&format!("keys[{index}].ip_allowlist"), key.ip_allowlist)?,
            sha256: key.sha256,
            name: key.name,
            description: key.description,
            group: key.group,
            expires: key.expires,
            external_id: key.external_id,
        })
    });
    let keys = keys.collect::<Result<Vec<ImportedKey>, Problem>>()?;
    let done = api.order(&caller, None, Command::ImportKeys(tenant, ImportKeys { keys, existing })).await?;
    let already_there = done.imported.iter().filter(|key| key.was_there).count();
    Ok(Json(ImportView {
        imported: done.imported.len() - already_there,
        already_there,
        revision: done.revision.0,
        keys: done
            .imported
            .into_iter()
            .map(|Imported { id, was_there }| KeyView { id, already_there: was_there })
            .collect(),
    }))
}
