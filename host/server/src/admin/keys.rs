//! `/v1/tenants/{tenant}/workspace-keys`, `/tenant-keys`, `/management-keys`: the life of keys.
//!
//! A secret is in the answer to the call that made it, and in no other answer.

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::store::{Actor, CredentialRecord, Stored};
use portcullis_control::{
    Caller, Command, Done, Expiration, Issued, KeyRef, NewManagementKey, NewTenantKey, NewWorkspaceKey, Refused,
    Repetition, Rotation, TenantKeyEdit, key_name,
};
use portcullis_model::address::Cidr;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{CreatorRule, CredentialState};
use portcullis_model::time::{Expiry, UnixTime};
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::answer::{Created, List, Removed, Shown, Uncached, created, shown};
use super::extract::{Asked, At, Body, Confirm, Creation, IfMatch, confirmation, paging};
use super::lines::{Lines, ranges};
use super::problem::Problem;
use super::{Api, schema};

/// A key without its secret. Fields that its kind does not have are left out.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub(super) struct KeyView {
    #[schemars(with = "schema::Id")]
    id: Id,
    #[schemars(with = "schema::Kind")]
    kind: Kind,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[schemars(with = "schema::CredentialState")]
    state: CredentialState,
    /// How it stands to its expiry: `valid`, `expiring_soon` (7 days) or `expired`.
    expiration: &'static str,
    #[schemars(with = "Option<schema::Expiry>")]
    expires: Option<Expiry>,
    secret_version: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Id>")]
    group: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<schema::Cidr>>")]
    ip_allowlist: Option<Vec<Cidr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<schema::EndpointRef>>")]
    endpoints: Option<Vec<EndpointRef>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<schema::Id>>")]
    applications: Option<Vec<Id>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Id>")]
    creator: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::CreatorRule>")]
    creator_rule: Option<CreatorRule>,
    /// When it was made, as RFC 3339.
    created_at: String,
    created_by: Option<String>,
    /// The revision that changed it last, which is its `ETag`.
    changed: u64,
    /// The key, once; a workspace key also where its owner looks at it, for it is the id of a pair. Null where the call that
    /// made it is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    key: Option<Option<Secret>>,
    /// The secret to sign requests with, once. Null where the call that made it is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    signing_secret: Option<Option<Secret>>,
    /// There, and true, where the call that made the key is repeated: the answer to the first one had the secret.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    secret_already_shown: bool,
}

/// A secret on its way out. It has no `Debug`.
struct Secret(secrecy::SecretString);

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl KeyView {
    fn of(stored: Stored<CredentialRecord>, now: UnixTime) -> Self {
        let CredentialRecord { credential, name, description, created_by, .. } = stored.record;
        let of = |kind| credential.kind == kind;
        KeyView {
            name,
            description,
            state: credential.state,
            expiration: Expiration::at(now, credential.expires).as_str(),
            expires: credential.expires,
            secret_version: credential.secrets.iter().map(|secret| secret.version).max().unwrap_or(0),
            group: credential.group,
            ip_allowlist: of(Kind::Tenant).then_some(credential.ip_allowlist),
            endpoints: of(Kind::Management).then_some(credential.endpoints),
            applications: of(Kind::Management).then_some(credential.applications),
            creator: credential.creator,
            creator_rule: of(Kind::Management).then_some(credential.creator_rule),
            created_at: stored.created.to_string(),
            created_by: Some(who(&created_by)),
            changed: stored.changed.0,
            key: None,
            signing_secret: None,
            secret_already_shown: false,
            kind: credential.kind,
            id: credential.id,
        }
    }

    /// With the secrets that were just made.
    fn issued(issued: Issued, now: UnixTime) -> Self {
        let mut view = KeyView::of(issued.record, now);
        view.key = Some(Some(Secret(issued.key)));
        view.signing_secret = issued.signing_secret.map(|secret| Some(Secret(secret)));
        view
    }

    /// As it is now, where the call that made it is repeated.
    fn again(stored: Stored<CredentialRecord>, now: UnixTime) -> Self {
        let mut view = KeyView::of(stored, now);
        view.key = Some(None);
        view.signing_secret = (view.kind == Kind::Workspace).then_some(None);
        view.secret_already_shown = true;
        view
    }
}

/// Who made a record, in one word.
pub(super) fn who(actor: &Actor) -> String {
    match (&actor.user, &actor.credential) {
        (Some(user), _) => format!("{}/{user}", actor.tenant),
        (None, Some(credential)) => format!("{}/{credential}", actor.tenant),
        (None, None) => "portcullis".to_owned(),
    }
}

/// `?state=active&after=CURSOR&limit=N`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyQuery {
    /// In this stored state alone.
    #[schemars(with = "Option<schema::CredentialState>")]
    state: Option<CredentialState>,
    /// `next` of the page before.
    after: Option<u64>,
    /// The most records: 50 where it is left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkspaceBody {
    #[serde(default)]
    name: String,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantKeyBody {
    name: String,
    #[serde(default)]
    description: String,
    #[schemars(with = "schema::Id")]
    group: Id,
    #[schemars(with = "Option<schema::Expiry>")]
    expires: Option<Expiry>,
    #[serde(default)]
    ip_allowlist: Lines,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantKeyPatch {
    name: Option<String>,
    description: Option<String>,
    #[schemars(with = "Option<schema::Id>")]
    group: Option<Id>,
    ip_allowlist: Option<Lines>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ManagementBody {
    name: String,
    #[serde(default)]
    description: String,
    #[schemars(with = "schema::Expiry")]
    expires: Expiry,
    #[schemars(with = "Vec<schema::EndpointRef>")]
    endpoints: Vec<EndpointRef>,
    #[serde(default)]
    #[schemars(with = "Vec<schema::Id>")]
    applications: Vec<Id>,
    #[schemars(with = "Option<schema::Id>")]
    creator: Option<Id>,
    #[serde(default)]
    #[schemars(with = "schema::CreatorRule")]
    creator_rule: CreatorRule,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateBody {
    #[schemars(with = "Option<schema::Expiry>")]
    expires: Option<Expiry>,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeBody {
    #[serde(default)]
    confirm: bool,
}

pub(super) async fn list(
    api: Api,
    caller: Caller,
    kind: Kind,
    tenant: Id,
    query: KeyQuery,
) -> Result<Json<List<KeyView>>, Problem> {
    let paging = paging(query.after, query.limit)?;
    let page = api.control.tenant_view(&caller, &tenant).await?.keys(kind, query.state, paging).await?;
    let now = api.control.now();
    Ok(Json(List::of(page, |stored| KeyView::of(stored, now))))
}

pub(super) async fn get(api: Api, caller: Caller, key: KeyRef) -> Result<Uncached<Shown<KeyView>>, Problem> {
    let view = api.control.tenant_view(&caller, &key.tenant).await?;
    let stored = view.key(key.kind, &key.id).await?;
    let shown_again = view.workspace_key(&caller, &stored.record).await?;
    let changed = stored.changed;
    let mut key = KeyView::of(stored, api.control.now());
    key.key = shown_again.map(|key| Some(Secret(key)));
    Ok(Uncached(shown(changed, key)))
}

pub(super) async fn create_workspace(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Creation(body, idempotency): Creation<WorkspaceBody>,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let new = NewWorkspaceKey { name: body.name, confirmation: confirmation(body.confirm) };
    let done = api.create(&caller, None, idempotency, Command::CreateWorkspaceKey(tenant.clone(), new)).await?;
    issued(&api, &caller, (&tenant, Kind::Workspace), done).await
}

pub(super) async fn create_tenant(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Creation(body, idempotency): Creation<TenantKeyBody>,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let new = NewTenantKey {
        name: body.name,
        description: body.description,
        group: body.group,
        expires: body.expires,
        ip_allowlist: ranges("ip_allowlist", body.ip_allowlist)?,
    };
    let done = api.create(&caller, None, idempotency, Command::CreateTenantKey(tenant.clone(), new)).await?;
    issued(&api, &caller, (&tenant, Kind::Tenant), done).await
}

pub(super) async fn edit_tenant(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Body(patch): Body<TenantKeyPatch>,
) -> Result<Uncached<Shown<KeyView>>, Problem> {
    let ip_allowlist = patch.ip_allowlist.map(|lines| ranges("ip_allowlist", lines)).transpose()?;
    let edit = TenantKeyEdit { name: patch.name, description: patch.description, group: patch.group, ip_allowlist };
    let key = KeyRef { tenant, kind: Kind::Tenant, id };
    api.order(&caller, if_match, Command::EditTenantKey(key.clone(), edit)).await?;
    get(api, caller, key).await
}

pub(super) async fn create_management(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Creation(body, idempotency): Creation<ManagementBody>,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let new = NewManagementKey {
        name: body.name,
        description: body.description,
        expires: body.expires,
        endpoints: body.endpoints,
        applications: body.applications,
        creator: body.creator,
        creator_rule: body.creator_rule,
    };
    let done = api.create(&caller, None, idempotency, Command::CreateManagementKey(tenant.clone(), new)).await?;
    issued(&api, &caller, (&tenant, Kind::Management), done).await
}

pub(super) async fn rotate(
    api: Api,
    caller: Caller,
    key: KeyRef,
    IfMatch(if_match): IfMatch,
    Creation(body, idempotency): Creation<RotateBody>,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let rotation = Rotation { expires: body.expires, confirmation: confirmation(body.confirm) };
    let done = api.create(&caller, if_match, idempotency, Command::RotateKey(key.clone(), rotation)).await?;
    issued(&api, &caller, (&key.tenant, key.kind), done).await
}

pub(super) async fn revoke(
    api: Api,
    caller: Caller,
    key: KeyRef,
    IfMatch(if_match): IfMatch,
    Body(body): Body<RevokeBody>,
) -> Result<Uncached<Shown<KeyView>>, Problem> {
    api.order(&caller, if_match, Command::RevokeKey(key.clone(), confirmation(body.confirm))).await?;
    get(api, caller, key).await
}

pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Asked(confirm): Asked<Confirm>,
) -> Result<Removed, Problem> {
    let key = KeyRef { tenant, kind: Kind::Management, id };
    api.order(&caller, if_match, Command::DeleteKey(key, confirm.confirmation())).await?;
    Ok(Removed)
}

/// The answer with the secret that was made. A rotation answers like a creation: there is a new key at that place. A
/// repetition answers with the key as it is now.
async fn issued(
    api: &Api,
    caller: &Caller,
    (tenant, kind): (&Id, Kind),
    done: Done,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let now = api.control.now();
    let at = format!("/v1/tenants/{tenant}/{}s/{}", key_name(kind), done.object);
    let (changed, view) = match (done.issued, done.repetition) {
        (Some(issued), _) => (done.revision, KeyView::issued(issued, now)),
        (None, Repetition::Replayed) => {
            let missing = || Refused::NotFound { kind: key_name(kind), id: done.object.clone() };
            let id: Id = done.object.parse().map_err(|_| missing())?;
            let stored = api.control.tenant_view(caller, tenant).await?.key(kind, &id).await?;
            (stored.changed, KeyView::again(stored, now))
        }
        (None, Repetition::First) => return Err(portcullis_control::Failed::Interrupted.into()),
    };
    Ok(Uncached(created(done.repetition, changed, at, view)))
}
