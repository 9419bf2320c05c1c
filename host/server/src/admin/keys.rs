//! `/v1/tenants/{tenant}/workspace-keys`, `/tenant-keys`, `/management-keys`, `/clients`: the life of credentials.
//!
//! A secret is in the answer to the call that made it, and in no other answer.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::{Extension, Json};
use portcullis_control::store::{Actor, ClientTerms, CredentialRecord, SecretUsed, Stored, TenantRules};
use portcullis_control::{
    Caller, Command, Done, Expiration, Issued, KeyFilter, KeyRef, NewClient, NewManagementKey, NewTenantKey,
    NewWorkspaceKey, Rotation, TenantKeyEdit, key_name,
};
use portcullis_model::address::Cidr;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{CreatorRule, CredentialState, SecretVersion};
use portcullis_model::time::{Expiry, UnixTime};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::extract::{Asked, At, Body, Confirm, IfMatch, confirmation, paging};
use super::lines::{Lines, ranges};
use super::problem::Problem;
use super::{Api, List, created, no_content, shown};

/// A key without its secret. Fields that its kind does not have are left out.
#[derive(Serialize)]
pub(super) struct KeyView {
    /// Of personal keys and clients this is the client id (RFC 6749 section 2.2).
    id: Id,
    kind: Kind,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    /// Clients: what it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    /// In one word: active, expired or revoked.
    status: &'static str,
    state: CredentialState,
    expiration: &'static str,
    expires: Option<Expiry>,
    secret_version: u16,
    /// Until when the secret before this one works as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_until: Option<Expiry>,
    /// Clients: what their tokens may be for, and what the system sets for them.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    client: Option<ClientView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_allowlist: Option<Vec<Cidr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<EndpointRef>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applications: Option<Vec<Id>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creator: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creator_rule: Option<CreatorRule>,
    created_at: String,
    created_by: Option<String>,
    changed: u64,
    /// When and from where it was used last; null where it never was.
    last_used: Option<LastUsed>,
    /// The versions of its secret that stand, with their uses; only where one key is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<Vec<SecretView>>,
    /// The key, once; a workspace key also where its owner looks at it, for it is the id of a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Shown>,
    /// The secret to sign requests with, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<Shown>,
    /// Personal keys and clients: the secret beside the client id, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<Shown>,
}

/// What only clients have. Issuer and validity are the tenant's and cannot be set here.
#[derive(Serialize)]
struct ClientView {
    #[serde(flatten)]
    terms: ClientTerms,
    issuer: String,
    token_validity_s: u32,
}

/// The last use of a key or of one version of its secret.
#[derive(Clone, Serialize)]
struct LastUsed {
    at: String,
    address: Option<IpAddr>,
}

/// A version of a key's secret.
#[derive(Serialize)]
struct SecretView {
    version: u16,
    /// When it ends, where another one takes its place.
    until: Option<Expiry>,
    last_used: Option<LastUsed>,
    /// How many requests were allowed by it.
    count: u64,
    /// Its part of the key's allowed requests today and yesterday (UTC), in per cent; null where there were none.
    share: Option<f64>,
}

impl LastUsed {
    fn of(used: &SecretUsed) -> LastUsed {
        LastUsed { at: used.last.to_string(), address: used.address }
    }

    /// The last use of any version.
    fn among(uses: &[SecretUsed]) -> Option<LastUsed> {
        uses.iter().max_by_key(|used| used.last).map(LastUsed::of)
    }
}

impl SecretView {
    fn of(secret: &SecretVersion, uses: &[SecretUsed], recent: u64) -> SecretView {
        let used = uses.iter().find(|used| used.version == secret.version);
        // Per mille first, so that one place is left after the point.
        let part = |used: &SecretUsed| used.recent.saturating_mul(1000).checked_div(recent);
        let share = used.and_then(part).or((recent > 0).then_some(0));
        SecretView {
            version: secret.version,
            until: secret.until,
            last_used: used.map(LastUsed::of),
            count: used.map_or(0, |used| used.count),
            share: share.and_then(|share| u32::try_from(share).ok()).map(|share| f64::from(share) / 10.0),
        }
    }
}

/// A secret on its way out. It has no `Debug`.
pub(super) struct Shown(pub(super) secrecy::SecretString);

impl Serialize for Shown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl KeyView {
    pub(super) fn of(stored: Stored<CredentialRecord>, now: UnixTime, rules: &TenantRules) -> Self {
        let CredentialRecord { credential, name, description, created_by, terms, .. } = stored.record;
        let of = |kind| credential.kind == kind;
        let expiration = Expiration::at(now, credential.expires, rules);
        let client = terms.map(|terms| ClientView {
            terms,
            issuer: rules.token_issuer.clone(),
            token_validity_s: rules.token_validity_s,
        });
        let (purpose, description) =
            if client.is_some() { (Some(description), String::new()) } else { (None, description) };
        let works = |until: &Expiry| now < until.instant();
        KeyView {
            name,
            description,
            purpose,
            status: match (credential.state, expiration) {
                (CredentialState::Revoked, _) => "revoked",
                (CredentialState::Active, Expiration::Expired) => "expired",
                (CredentialState::Active, Expiration::Valid | Expiration::ExpiringSoon) => "active",
            },
            state: credential.state,
            expiration: expiration.as_str(),
            overlap_until: credential.secrets.iter().filter_map(|secret| secret.until).filter(works).max(),
            client,
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
            last_used: None,
            secrets: None,
            key: None,
            signing_secret: None,
            client_secret: None,
            kind: credential.kind,
            id: credential.id,
        }
    }

    /// With what is known of its uses.
    fn used(mut self, uses: Option<&Vec<SecretUsed>>) -> Self {
        self.last_used = uses.and_then(|uses| LastUsed::among(uses));
        self
    }

    /// With the secrets that were just made.
    fn issued(issued: Issued, now: UnixTime, rules: &TenantRules) -> Self {
        let mut view = KeyView::of(issued.record, now, rules);
        match view.kind {
            Kind::Personal | Kind::Client => view.client_secret = Some(Shown(issued.key)),
            Kind::Workspace | Kind::Tenant | Kind::Management | Kind::Session => view.key = Some(Shown(issued.key)),
        }
        view.signing_secret = issued.signing_secret.map(Shown);
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

/// `?state=active&expiration=expiring_soon&after=CURSOR&limit=N`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyQuery {
    state: Option<CredentialState>,
    expiration: Option<ExpirationName>,
    after: Option<u64>,
    limit: Option<u32>,
}

/// How the query calls an [`Expiration`].
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExpirationName {
    Valid,
    ExpiringSoon,
    Expired,
}

impl From<ExpirationName> for Expiration {
    fn from(name: ExpirationName) -> Expiration {
        match name {
            ExpirationName::Valid => Expiration::Valid,
            ExpirationName::ExpiringSoon => Expiration::ExpiringSoon,
            ExpirationName::Expired => Expiration::Expired,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkspaceBody {
    #[serde(default)]
    name: String,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantKeyBody {
    name: String,
    #[serde(default)]
    description: String,
    group: Id,
    expires: Option<Expiry>,
    #[serde(default)]
    ip_allowlist: Lines,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantKeyPatch {
    name: Option<String>,
    description: Option<String>,
    group: Option<Id>,
    ip_allowlist: Option<Lines>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManagementBody {
    name: String,
    #[serde(default)]
    description: String,
    expires: Expiry,
    endpoints: Vec<EndpointRef>,
    #[serde(default)]
    applications: Vec<Id>,
    creator: Option<Id>,
    #[serde(default)]
    creator_rule: CreatorRule,
}

/// An OAuth client to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientBody {
    name: String,
    #[serde(default)]
    purpose: String,
    expires: Option<Expiry>,
    scopes: Vec<String>,
    audiences: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateBody {
    expires: Option<Expiry>,
    #[serde(default)]
    overlap_s: u32,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize)]
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
) -> Result<Response, Problem> {
    let paging = paging(query.after, query.limit)?;
    let view = api.control.tenant_view(&caller, &tenant).await?;
    let filter = KeyFilter { kind, state: query.state, expiration: query.expiration.map(Expiration::from) };
    let page = view.keys(filter, paging).await?;
    let ids: Vec<Id> = page.items.iter().map(|stored| stored.record.credential.id.clone()).collect();
    let uses = view.uses(&ids).await?;
    let (now, rules) = (api.control.now(), &view.tenant().record.rules);
    let shown = |stored: Stored<CredentialRecord>| {
        let used = uses.get(&stored.record.credential.id);
        KeyView::of(stored, now, rules).used(used)
    };
    Ok(axum::response::IntoResponse::into_response(Json(List::of(page, shown))))
}

pub(super) async fn get(api: Api, caller: Caller, key: KeyRef) -> Result<Response, Problem> {
    let view = api.control.tenant_view(&caller, &key.tenant).await?;
    let stored = view.key(key.kind, &key.id).await?;
    let shown_again = view.workspace_key(&caller, &stored.record).await?;
    let changed = stored.changed;
    let uses = view.uses(std::slice::from_ref(&key.id)).await?.remove(&key.id).unwrap_or_default();
    let stands = |used: &&SecretUsed| stored.record.credential.secrets.iter().any(|s| s.version == used.version);
    let recent = uses.iter().filter(stands).map(|used| used.recent).sum();
    let secrets = stored.record.credential.secrets.iter();
    let secrets = secrets.map(|secret| SecretView::of(secret, &uses, recent)).collect();
    let mut key = KeyView::of(stored, api.control.now(), &view.tenant().record.rules).used(Some(&uses));
    key.secrets = Some(secrets);
    key.key = shown_again.map(Shown);
    Ok(uncached(shown(changed, key)))
}

pub(super) async fn create_workspace(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Body(body): Body<WorkspaceBody>,
) -> Result<Response, Problem> {
    let new = NewWorkspaceKey { name: body.name, confirmation: confirmation(body.confirm) };
    let done = api.order(&caller, None, Command::CreateWorkspaceKey(tenant, new)).await?;
    issued(&api, done).await
}

pub(super) async fn create_tenant(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Body(body): Body<TenantKeyBody>,
) -> Result<Response, Problem> {
    let new = NewTenantKey {
        name: body.name,
        description: body.description,
        group: body.group,
        expires: body.expires,
        ip_allowlist: ranges("ip_allowlist", body.ip_allowlist)?,
    };
    let done = api.order(&caller, None, Command::CreateTenantKey(tenant, new)).await?;
    issued(&api, done).await
}

pub(super) async fn edit_tenant(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Body(patch): Body<TenantKeyPatch>,
) -> Result<Response, Problem> {
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
    Body(body): Body<ManagementBody>,
) -> Result<Response, Problem> {
    let new = NewManagementKey {
        name: body.name,
        description: body.description,
        expires: body.expires,
        endpoints: body.endpoints,
        applications: body.applications,
        creator: body.creator,
        creator_rule: body.creator_rule,
    };
    let done = api.order(&caller, None, Command::CreateManagementKey(tenant, new)).await?;
    issued(&api, done).await
}

pub(super) async fn create_client(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Body(body): Body<ClientBody>,
) -> Result<Response, Problem> {
    let new = NewClient {
        name: body.name,
        purpose: body.purpose,
        expires: body.expires,
        terms: ClientTerms { scopes: body.scopes, audiences: body.audiences },
    };
    let done = api.order(&caller, None, Command::CreateClient(tenant, new)).await?;
    issued(&api, done).await
}

pub(super) async fn end_overlap(
    api: Api,
    caller: Caller,
    key: KeyRef,
    IfMatch(if_match): IfMatch,
    Body(body): Body<RevokeBody>,
) -> Result<Response, Problem> {
    api.order(&caller, if_match, Command::EndOverlap(key.clone(), confirmation(body.confirm))).await?;
    get(api, caller, key).await
}

pub(super) async fn rotate(
    api: Api,
    caller: Caller,
    key: KeyRef,
    IfMatch(if_match): IfMatch,
    Body(body): Body<RotateBody>,
) -> Result<Response, Problem> {
    let rotation =
        Rotation { expires: body.expires, overlap_s: body.overlap_s, confirmation: confirmation(body.confirm) };
    let done = api.order(&caller, if_match, Command::RotateKey(key, rotation)).await?;
    issued(&api, done).await
}

pub(super) async fn revoke(
    api: Api,
    caller: Caller,
    key: KeyRef,
    IfMatch(if_match): IfMatch,
    Body(body): Body<RevokeBody>,
) -> Result<Response, Problem> {
    api.order(&caller, if_match, Command::RevokeKey(key.clone(), confirmation(body.confirm))).await?;
    get(api, caller, key).await
}

pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Asked(confirm): Asked<Confirm>,
) -> Result<Response, Problem> {
    let key = KeyRef { tenant, kind: Kind::Management, id };
    api.order(&caller, if_match, Command::DeleteKey(key, confirm.confirmation())).await?;
    Ok(no_content())
}

/// The answer with the secret that was made. A rotation answers like a creation: there is a new key at that place.
pub(super) async fn issued(api: &Api, done: Done) -> Result<Response, Problem> {
    let issued = done.issued.ok_or(portcullis_control::Failed::Interrupted)?;
    let credential = &issued.record.record.credential;
    let at = match credential.kind {
        Kind::Personal => "/v1/me/personal-key".to_owned(),
        kind => format!("/v1/tenants/{}/{}s/{}", credential.tenant, key_name(kind), credential.id),
    };
    let rules = api.control.rules(&credential.tenant).await?;
    Ok(uncached(created(done.revision, &at, KeyView::issued(issued, api.control.now(), &rules))))
}

pub(super) fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
