//! `/v1/tenants/{tenant}/workspace-keys`, `/tenant-keys`, `/management-keys`, `/clients`: the life of credentials.
//!
//! A secret is in the answer to the call that made it, and in no other answer.

use std::net::IpAddr;

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::store::{Actor, ClientTerms, CredentialRecord, SecretUsed, Stored, TenantRules};
use portcullis_control::{
    Caller, Command, Done, Expiration, Issued, KeyFilter, KeyRef, NewClient, NewManagementKey, NewTenantKey,
    NewWorkspaceKey, Refused, Repetition, Rotation, TenantKeyEdit, key_name,
};
use portcullis_model::address::Cidr;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id, Revision};
use portcullis_model::source::{CreatorRule, CredentialState, SecretVersion};
use portcullis_model::time::{Expiry, UnixTime};
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::answer::{Created, List, Shown, Uncached, created, shown};
use super::extract::{Asked, At, Body, Creation, IfMatch, confirmation, paging};
use super::lines::{Lines, ranges};
use super::nodes::{ConfirmedWait, ReceiptsView, RemovedEverywhere, WaitQuery};
use super::problem::Problem;
use super::{Api, schema};

/// A key without its secret. Fields that its kind does not have are left out.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub(super) struct KeyView {
    /// Of personal keys and clients this is the client id (RFC 6749 section 2.2).
    #[schemars(with = "schema::Id")]
    id: Id,
    #[schemars(with = "schema::Kind")]
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
    #[schemars(with = "schema::CredentialState")]
    state: CredentialState,
    /// How it stands to its expiry: `valid`, `expiring_soon` (by the rules of its tenant) or `expired`.
    expiration: &'static str,
    #[schemars(with = "Option<schema::Expiry>")]
    expires: Option<Expiry>,
    secret_version: u16,
    /// Until when the secret before this one works as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Expiry>")]
    overlap_until: Option<Expiry>,
    /// Clients: what their tokens may be for, and what the system sets for them.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    client: Option<ClientView>,
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
    /// Workspace keys: the profile by which its requests are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Id>")]
    signature_profile: Option<Id>,
    /// Workspace keys: whether it is proven by signatures alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_only: Option<bool>,
    /// When it was made, as RFC 3339.
    created_at: String,
    created_by: Option<String>,
    /// The revision that changed it last, which is its `ETag`.
    changed: u64,
    /// When and from where it was used last; null where it never was.
    last_used: Option<LastUsed>,
    /// The versions of its secret that stand, with their uses; only where one key is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<Vec<SecretView>>,
    /// The key, once; a workspace key also where its owner looks at it, for it is the id of a pair. Null where the call that
    /// made it is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    key: Option<Option<Secret>>,
    /// The secret to sign requests with, once. Null where the call that made it is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    signing_secret: Option<Option<Secret>>,
    /// Personal keys and clients: the secret beside the client id, once. Null where the call that made it is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    client_secret: Option<Option<Secret>>,
    /// There, and true, where the call that made the key is repeated: the answer to the first one had the secret.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    secret_already_shown: bool,
    /// Who decides by it; only where a revocation was asked to wait for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipts: Option<ReceiptsView>,
}

/// What only clients have. Issuer and validity are the tenant's and cannot be set here.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ClientFields")]
struct ClientView {
    #[serde(flatten)]
    #[schemars(with = "schema::ClientTerms")]
    terms: ClientTerms,
    /// What its tokens name as their issuer.
    issuer: String,
    /// How long its tokens live, in seconds.
    token_validity_s: u32,
}

/// The last use of a key or of one version of its secret.
#[derive(Clone, Serialize, JsonSchema)]
struct LastUsed {
    /// As RFC 3339.
    at: String,
    address: Option<IpAddr>,
}

/// A version of a key's secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SecretUses")]
struct SecretView {
    version: u16,
    /// When it ends, where another one takes its place.
    #[schemars(with = "Option<schema::Expiry>")]
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
pub(super) struct Secret(pub(super) secrecy::SecretString);

impl Serialize for Secret {
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
            issuer: rules.token_issuer.clone().unwrap_or_default(),
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
            signed_only: of(Kind::Workspace).then_some(credential.signed_only),
            signature_profile: credential.signature_profile,
            created_at: stored.created.to_string(),
            created_by: Some(who(&created_by)),
            changed: stored.changed.0,
            last_used: None,
            secrets: None,
            key: None,
            signing_secret: None,
            client_secret: None,
            secret_already_shown: false,
            receipts: None,
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
        let secret = Some(Some(Secret(issued.key)));
        match view.kind {
            Kind::Personal | Kind::Client => view.client_secret = secret,
            Kind::Workspace | Kind::Tenant | Kind::Management | Kind::Session => view.key = secret,
        }
        view.signing_secret = issued.signing_secret.map(|secret| Some(Secret(secret)));
        view
    }

    /// As it is now, where the call that made it is repeated.
    fn again(stored: Stored<CredentialRecord>, now: UnixTime, rules: &TenantRules) -> Self {
        let mut view = KeyView::of(stored, now, rules);
        match view.kind {
            Kind::Personal | Kind::Client => view.client_secret = Some(None),
            Kind::Workspace | Kind::Tenant | Kind::Management | Kind::Session => view.key = Some(None),
        }
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

/// `?state=active&expiration=expiring_soon&after=CURSOR&limit=N`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyQuery {
    /// In this stored state alone.
    #[schemars(with = "Option<schema::CredentialState>")]
    state: Option<CredentialState>,
    /// So far from its end alone.
    expiration: Option<ExpirationName>,
    /// `next` of the page before.
    after: Option<u64>,
    /// The most records: 50 where it is left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

/// How the query calls an [`Expiration`].
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkspaceBody {
    #[serde(default)]
    name: String,
    /// The signature profile by which its requests are signed: the only one there is where it is left out.
    #[schemars(with = "Option<schema::Id>")]
    profile: Option<Id>,
    /// Whether it is proven by signatures alone. Its key is then the id of a pair and nothing more.
    #[serde(default)]
    signed_only: bool,
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

/// An OAuth client to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientBody {
    name: String,
    /// What it is for.
    #[serde(default)]
    purpose: String,
    #[schemars(with = "Option<schema::Expiry>")]
    expires: Option<Expiry>,
    /// The scopes that its tokens may have (RFC 6749 section 3.3).
    scopes: Vec<String>,
    /// The audiences that its tokens may be for (RFC 7519 section 4.1.3).
    audiences: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateBody {
    #[schemars(with = "Option<schema::Expiry>")]
    expires: Option<Expiry>,
    /// How long the secret before works as well, in seconds.
    #[serde(default)]
    overlap_s: u32,
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
    let view = api.control.tenant_view(&caller, &tenant).await?;
    let filter = KeyFilter { kind, state: query.state, expiration: query.expiration.map(Expiration::from) };
    let page = view.keys(filter, paging).await?;
    let ids: Vec<Id> = page.items.iter().map(|stored| stored.record.credential.id.clone()).collect();
    let uses = view.uses(&ids).await?;
    let (now, rules) = (api.control.now(), &view.tenant().record.rules);
    Ok(Json(List::of(page, |stored: Stored<CredentialRecord>| {
        let used = uses.get(&stored.record.credential.id);
        KeyView::of(stored, now, rules).used(used)
    })))
}

pub(super) async fn get(api: Api, caller: Caller, key: KeyRef) -> Result<Uncached<Shown<KeyView>>, Problem> {
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
    key.key = shown_again.map(|key| Some(Secret(key)));
    Ok(Uncached(shown(changed, key)))
}

pub(super) async fn create_workspace(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Creation(body, idempotency): Creation<WorkspaceBody>,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let new = NewWorkspaceKey {
        name: body.name,
        profile: body.profile,
        signed_only: body.signed_only,
        confirmation: confirmation(body.confirm),
    };
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

pub(super) async fn create_client(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Creation(body, idempotency): Creation<ClientBody>,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let new = NewClient {
        name: body.name,
        purpose: body.purpose,
        expires: body.expires,
        terms: ClientTerms { scopes: body.scopes, audiences: body.audiences },
    };
    let done = api.create(&caller, None, idempotency, Command::CreateClient(tenant.clone(), new)).await?;
    issued(&api, &caller, (&tenant, Kind::Client), done).await
}

pub(super) async fn end_overlap(
    api: Api,
    caller: Caller,
    key: KeyRef,
    IfMatch(if_match): IfMatch,
    Body(body): Body<RevokeBody>,
) -> Result<Uncached<Shown<KeyView>>, Problem> {
    api.order(&caller, if_match, Command::EndOverlap(key.clone(), confirmation(body.confirm))).await?;
    get(api, caller, key).await
}

pub(super) async fn rotate(
    api: Api,
    caller: Caller,
    key: KeyRef,
    IfMatch(if_match): IfMatch,
    Creation(body, idempotency): Creation<RotateBody>,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let rotation =
        Rotation { expires: body.expires, overlap_s: body.overlap_s, confirmation: confirmation(body.confirm) };
    let done = api.create(&caller, if_match, idempotency, Command::RotateKey(key.clone(), rotation)).await?;
    issued(&api, &caller, (&key.tenant, key.kind), done).await
}

pub(super) async fn revoke(
    api: Api,
    caller: Caller,
    key: KeyRef,
    IfMatch(if_match): IfMatch,
    wait: WaitQuery,
    Body(body): Body<RevokeBody>,
) -> Result<Uncached<Shown<KeyView>>, Problem> {
    let Some(wait) = wait.wait(&api)? else {
        api.order(&caller, if_match, Command::RevokeKey(key.clone(), confirmation(body.confirm))).await?;
        return get(api, caller, key).await;
    };
    let stored = api.control.tenant_view(&caller, &key.tenant).await?.key(key.kind, &key.id).await?;
    let revision = match stored.record.credential.state {
        // Whoever did not get the answer asks once more, and the record is what it was then.
        CredentialState::Revoked => stored.changed,
        CredentialState::Active => {
            let command = Command::RevokeKey(key.clone(), confirmation(body.confirm));
            api.order(&caller, if_match, command).await?.revision
        }
    };
    let receipts = wait.receipts(&api.nodes, revision).await;
    let Uncached(Shown { changed, mut view }) = get(api, caller, key).await?;
    view.receipts = Some(receipts);
    Ok(Uncached(shown(changed, view)))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Asked(asked): Asked<ConfirmedWait>,
) -> Result<RemovedEverywhere, Problem> {
    let key = KeyRef { tenant, kind: Kind::Management, id };
    let wait = asked.wait(&api)?;
    let done = api.order(&caller, if_match, Command::DeleteKey(key, confirmation(asked.confirm))).await?;
    Ok(match wait {
        None => RemovedEverywhere { receipts: None },
        Some(wait) => RemovedEverywhere { receipts: Some(wait.receipts(&api.nodes, done.revision).await) },
    })
}

/// A key that a command has made, without its secrets.
pub(super) async fn made(
    api: &Api,
    caller: &Caller,
    (tenant, kind): (&Id, Kind),
    done: &Done,
) -> Result<(Revision, KeyView), Problem> {
    let missing = || Refused::NotFound { kind: key_name(kind), id: done.object.clone() };
    let id: Id = done.object.parse().map_err(|_| missing())?;
    let view = api.control.tenant_view(caller, tenant).await?;
    let stored = view.key(kind, &id).await?;
    Ok((stored.changed, KeyView::of(stored, api.control.now(), &view.tenant().record.rules)))
}

/// The answer with the secret that was made. A rotation answers like a creation: there is a new key at that place. A
/// repetition answers with the key as it is now.
pub(super) async fn issued(
    api: &Api,
    caller: &Caller,
    (tenant, kind): (&Id, Kind),
    done: Done,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let now = api.control.now();
    let rules = api.control.rules(tenant).await?;
    let at = match kind {
        Kind::Personal => "/v1/me/personal-key".to_owned(),
        kind @ (Kind::Workspace | Kind::Tenant | Kind::Management | Kind::Client | Kind::Session) => {
            format!("/v1/tenants/{tenant}/{}s/{}", key_name(kind), done.object)
        }
    };
    let (changed, view) = match (done.issued, done.repetition) {
        (Some(issued), _) => (done.revision, KeyView::issued(issued, now, &rules)),
        (None, Repetition::Replayed) => {
            let missing = || Refused::NotFound { kind: key_name(kind), id: done.object.clone() };
            let id: Id = done.object.parse().map_err(|_| missing())?;
            let stored = api.control.tenant_view(caller, tenant).await?.key(kind, &id).await?;
            (stored.changed, KeyView::again(stored, now, &rules))
        }
        (None, Repetition::First) => return Err(portcullis_control::Failed::Interrupted.into()),
    };
    Ok(Uncached(created(done.repetition, changed, at, view)))
}
