//! `/v1/tenants` and what tenants set: modules, settings per endpoint, applications.

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::store::{ApplicationRecord, Stored, TenantRecord, TenantRules};
use portcullis_control::{Caller, Command, NewApplication, NewTenant, RulesEdit, SettingsOf, TenantEdit};
use portcullis_model::address::Cidr;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{EndpointSettings, Module, ReplayMode, SignatureMode, TenantState, TokenRevocation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Created, List, Removed, Shown, created, shown};
use super::extract::{Asked, At, Body, Creation, IfMatch, Paged, confirmation};
use super::lines::{Lines, ranges};
use super::problem::Problem;
use super::{Api, schema};

/// How many tenant keys a tenant may have where nobody says.
const USUAL_KEY_LIMIT: u32 = 100;

/// A tenant.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tenant")]
pub(super) struct TenantView {
    #[schemars(with = "schema::Id")]
    id: Id,
    name: String,
    #[schemars(with = "schema::TenantState")]
    state: TenantState,
    #[schemars(with = "Vec<schema::Module>")]
    modules: Vec<Module>,
    key_limit: u32,
    #[serde(flatten)]
    #[schemars(with = "schema::TenantRules")]
    rules: TenantRules,
    /// Tenant keys that are active and unexpired; only where one tenant is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_in_use: Option<u64>,
    /// When it was made, as RFC 3339.
    created_at: String,
    /// The revision that changed it last, which is its `ETag`.
    changed: u64,
}

impl TenantView {
    fn of(stored: &Stored<TenantRecord>, keys_in_use: Option<u64>) -> Self {
        let tenant = &stored.record;
        TenantView {
            id: tenant.id.clone(),
            name: tenant.name.clone(),
            state: tenant.state,
            modules: tenant.modules.clone(),
            key_limit: tenant.key_limit,
            rules: tenant.rules.clone(),
            keys_in_use,
            created_at: stored.created.to_string(),
            changed: stored.changed.0,
        }
    }
}

/// A tenant to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantBody {
    #[schemars(with = "schema::Id")]
    id: Id,
    #[serde(default)]
    name: String,
    #[serde(default)]
    #[schemars(with = "Vec<schema::Module>")]
    modules: Vec<Module>,
    #[serde(default = "usual_key_limit")]
    key_limit: u32,
    expiring_soon_days: Option<u16>,
    token_issuer: Option<String>,
    token_validity_s: Option<u32>,
    #[schemars(with = "Option<schema::TokenRevocation>")]
    token_revocation: Option<TokenRevocation>,
}

fn usual_key_limit() -> u32 {
    USUAL_KEY_LIMIT
}

/// What changes of a tenant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantPatch {
    name: Option<String>,
    #[schemars(with = "Option<schema::TenantState>")]
    state: Option<TenantState>,
    #[schemars(with = "Option<Vec<schema::Module>>")]
    modules: Option<Vec<Module>>,
    key_limit: Option<u32>,
    expiring_soon_days: Option<u16>,
    token_issuer: Option<String>,
    token_validity_s: Option<u32>,
    #[schemars(with = "Option<schema::TokenRevocation>")]
    token_revocation: Option<TokenRevocation>,
    #[serde(default)]
    confirm: bool,
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Paged(paging): Paged,
) -> Result<Json<List<TenantView>>, Problem> {
    let page = api.control.system_view(&caller)?.tenants(paging).await?;
    Ok(Json(List::of(page, |stored| TenantView::of(&stored, None))))
}

pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Creation(body, idempotency): Creation<TenantBody>,
) -> Result<Created<TenantView>, Problem> {
    let id = body.id.clone();
    let rules = RulesEdit {
        expiring_soon_days: body.expiring_soon_days,
        token_issuer: body.token_issuer,
        token_validity_s: body.token_validity_s,
        token_revocation: body.token_revocation,
    };
    let new = NewTenant { id: body.id, name: body.name, modules: body.modules, key_limit: body.key_limit, rules };
    let done = api.create(&caller, None, idempotency, Command::CreateTenant(new)).await?;
    let view = api.control.tenant_view(&caller, &id).await?;
    let stored = view.tenant();
    Ok(created(done.repetition, stored.changed, format!("/v1/tenants/{id}"), TenantView::of(stored, Some(0))))
}

pub(super) async fn get(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
) -> Result<Shown<TenantView>, Problem> {
    let view = api.control.tenant_view(&caller, &id).await?;
    let stored = view.tenant();
    Ok(shown(stored.changed, TenantView::of(stored, Some(view.live_keys().await?))))
}

pub(super) async fn edit(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
    IfMatch(if_match): IfMatch,
    Body(patch): Body<TenantPatch>,
) -> Result<Shown<TenantView>, Problem> {
    let edit = TenantEdit {
        name: patch.name,
        state: patch.state,
        modules: patch.modules,
        key_limit: patch.key_limit,
        rules: RulesEdit {
            expiring_soon_days: patch.expiring_soon_days,
            token_issuer: patch.token_issuer,
            token_validity_s: patch.token_validity_s,
            token_revocation: patch.token_revocation,
        },
        confirmation: confirmation(patch.confirm),
    };
    state.order(&caller, if_match, Command::EditTenant(id.clone(), edit)).await?;
    get(state, Extension(caller), At(id)).await
}

/// What a tenant has set for an endpoint.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Settings")]
pub(super) struct SettingsView {
    #[schemars(with = "schema::EndpointRef")]
    endpoint: EndpointRef,
    #[schemars(with = "Vec<schema::Cidr>")]
    ip_ranges: Vec<Cidr>,
    #[schemars(with = "schema::SignatureMode")]
    signature: SignatureMode,
    #[schemars(with = "schema::ReplayMode")]
    replay: ReplayMode,
    /// The revision that changed it last, which is its `ETag`.
    changed: u64,
}

impl SettingsView {
    fn of(stored: Stored<EndpointSettings>) -> Self {
        let EndpointSettings { endpoint, ip_ranges, signature, replay } = stored.record;
        SettingsView { endpoint, ip_ranges, signature, replay, changed: stored.changed.0 }
    }
}

/// The settings of an endpoint, as a whole.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsBody {
    #[serde(default)]
    ip_ranges: Lines,
    #[serde(default)]
    #[schemars(with = "schema::SignatureMode")]
    signature: SignatureMode,
    #[serde(default)]
    #[schemars(with = "schema::ReplayMode")]
    replay: ReplayMode,
}

/// `?entry=RANGE`: a range has a slash, which no path of ours may.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The range, percent-encoded.
    entry: String,
}

pub(super) async fn settings(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
) -> Result<Json<List<SettingsView>>, Problem> {
    let settings = api.control.tenant_view(&caller, &tenant).await?.settings().await?;
    Ok(Json(List { items: settings.into_iter().map(SettingsView::of).collect(), next: None }))
}

pub(super) async fn get_settings(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, service, endpoint)): At<(Id, Id, Id)>,
) -> Result<Shown<SettingsView>, Problem> {
    let endpoint = EndpointRef { service, endpoint };
    let stored = api.control.tenant_view(&caller, &tenant).await?.settings_of(&endpoint).await?;
    Ok(shown(stored.changed, SettingsView::of(stored)))
}

pub(super) async fn put_settings(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, service, endpoint)): At<(Id, Id, Id)>,
    IfMatch(if_match): IfMatch,
    Body(body): Body<SettingsBody>,
) -> Result<Shown<SettingsView>, Problem> {
    let settings = SettingsOf {
        endpoint: EndpointRef { service: service.clone(), endpoint: endpoint.clone() },
        ip_ranges: ranges("ip_ranges", body.ip_ranges)?,
        signature: body.signature,
        replay: body.replay,
    };
    state.order(&caller, if_match, Command::PutSettings(tenant.clone(), settings)).await?;
    get_settings(state, Extension(caller), At((tenant, service, endpoint))).await
}

pub(super) async fn remove_range(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, service, endpoint)): At<(Id, Id, Id)>,
    IfMatch(if_match): IfMatch,
    Asked(Entry { entry }): Asked<Entry>,
) -> Result<Shown<SettingsView>, Problem> {
    let range: Cidr = entry.parse().map_err(|error: portcullis_model::address::CidrError| {
        Problem::invalid(vec![portcullis_control::FieldFault { field: "entry".to_owned(), what: error.to_string() }])
    })?;
    let of = EndpointRef { service: service.clone(), endpoint: endpoint.clone() };
    state.order(&caller, if_match, Command::RemoveRange(tenant.clone(), of, range)).await?;
    get_settings(state, Extension(caller), At((tenant, service, endpoint))).await
}

pub(super) async fn remove_settings(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, service, endpoint)): At<(Id, Id, Id)>,
    IfMatch(if_match): IfMatch,
) -> Result<Removed, Problem> {
    api.order(&caller, if_match, Command::RemoveSettings(tenant, EndpointRef { service, endpoint })).await?;
    Ok(Removed)
}

/// An application.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Application")]
pub(super) struct ApplicationView {
    #[schemars(with = "schema::Id")]
    id: Id,
    name: String,
    /// When it was made, as RFC 3339.
    created_at: String,
    /// The revision that changed it last, which is its `ETag`.
    changed: u64,
}

impl ApplicationView {
    fn of(stored: Stored<ApplicationRecord>) -> Self {
        ApplicationView {
            id: stored.record.application.id,
            name: stored.record.name,
            created_at: stored.created.to_string(),
            changed: stored.changed.0,
        }
    }
}

/// An application to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplicationBody {
    #[schemars(with = "schema::Id")]
    id: Id,
    #[serde(default)]
    name: String,
}

pub(super) async fn applications(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Paged(paging): Paged,
) -> Result<Json<List<ApplicationView>>, Problem> {
    let page = api.control.tenant_view(&caller, &tenant).await?.applications(paging).await?;
    Ok(Json(List::of(page, ApplicationView::of)))
}

pub(super) async fn create_application(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Creation(body, idempotency): Creation<ApplicationBody>,
) -> Result<Created<ApplicationView>, Problem> {
    let id = body.id.clone();
    let new = NewApplication { id: body.id, name: body.name };
    let done = api.create(&caller, None, idempotency, Command::CreateApplication(tenant.clone(), new)).await?;
    let stored = api.control.tenant_view(&caller, &tenant).await?.application(&id).await?;
    let at = format!("/v1/tenants/{tenant}/applications/{id}");
    Ok(created(done.repetition, stored.changed, at, ApplicationView::of(stored)))
}

pub(super) async fn application(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
) -> Result<Shown<ApplicationView>, Problem> {
    let stored = api.control.tenant_view(&caller, &tenant).await?.application(&id).await?;
    Ok(shown(stored.changed, ApplicationView::of(stored)))
}

pub(super) async fn remove_application(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
) -> Result<Removed, Problem> {
    api.order(&caller, if_match, Command::RemoveApplication(tenant, id)).await?;
    Ok(Removed)
}
