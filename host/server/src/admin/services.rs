//! `/v1/installation`, `/v1/services`: what is guarded, and how.

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::store::{Delivery, Preflight, ServiceRecord, Stored};
use portcullis_control::{Caller, Command, NewService, Preset, ServiceEdit};
use portcullis_model::address::Cidr;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{Endpoint, HostPattern, Installation, Presentation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Created, List, Removed, Shown, TakenOut, created, shown};
use super::extract::{Asked, At, Body, Confirm, Creation, IfMatch};
use super::problem::Problem;
use super::{Api, schema};

/// What holds for the whole installation.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Installation")]
pub(super) struct InstallationView {
    #[schemars(with = "Vec<schema::Cidr>")]
    trusted_proxies: Vec<Cidr>,
    clock_skew_s: u32,
    max_staleness_s: u32,
    /// The revision that changed it last, which is its `ETag`.
    changed: u64,
}

/// What changes of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InstallationEdit {
    #[schemars(with = "Option<Vec<schema::Cidr>>")]
    trusted_proxies: Option<Vec<Cidr>>,
    clock_skew_s: Option<u32>,
    max_staleness_s: Option<u32>,
}

pub(super) async fn installation(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Shown<InstallationView>, Problem> {
    let stored = api.control.system_view(&caller)?.installation().await?;
    Ok(shown(stored.changed, InstallationView::of(&stored)))
}

pub(super) async fn edit_installation(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    IfMatch(if_match): IfMatch,
    Body(edit): Body<InstallationEdit>,
) -> Result<Shown<InstallationView>, Problem> {
    let stored = api.control.system_view(&caller)?.installation().await?;
    // Between the reading and the change nobody else may change it, or the fields left out would go back.
    let if_match = if_match.or(Some(stored.changed));
    let now = stored.record;
    let installation = Installation {
        trusted_proxies: edit.trusted_proxies.unwrap_or(now.trusted_proxies),
        clock_skew_s: edit.clock_skew_s.unwrap_or(now.clock_skew_s),
        max_staleness_s: edit.max_staleness_s.unwrap_or(now.max_staleness_s),
        signature_profiles: Vec::new(),
        token_keys: Vec::new(),
    };
    api.order(&caller, if_match, Command::EditInstallation(installation)).await?;
    let stored = api.control.system_view(&caller)?.installation().await?;
    Ok(shown(stored.changed, InstallationView::of(&stored)))
}

impl InstallationView {
    fn of(stored: &Stored<Installation>) -> Self {
        let installation = &stored.record;
        InstallationView {
            trusted_proxies: installation.trusted_proxies.clone(),
            clock_skew_s: installation.clock_skew_s,
            max_staleness_s: installation.max_staleness_s,
            changed: stored.changed.0,
        }
    }
}

/// A service.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Service")]
pub(super) struct ServiceView {
    #[schemars(with = "schema::Id")]
    id: Id,
    name: String,
    #[schemars(with = "Vec<schema::HostPattern>")]
    hosts: Vec<HostPattern>,
    prefix: String,
    #[schemars(with = "Option<schema::Id>")]
    tenant: Option<Id>,
    #[schemars(with = "Vec<schema::Presentation>")]
    accept: Vec<Presentation>,
    #[serde(flatten)]
    #[schemars(with = "schema::Delivery")]
    delivery: Delivery,
    #[schemars(with = "Vec<schema::Endpoint>")]
    endpoints: Vec<Endpoint>,
    /// Counts the changes of the endpoints.
    catalogue_version: u32,
    /// The preset that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    /// When it was made, as RFC 3339.
    created_at: String,
    /// The revision that changed it last, which is its `ETag`.
    changed: u64,
}

impl ServiceView {
    fn of(stored: Stored<ServiceRecord>) -> Self {
        let ServiceRecord { service, name, delivery, catalogue } = stored.record;
        ServiceView {
            id: service.id,
            name,
            hosts: service.hosts,
            prefix: service.prefix,
            tenant: service.tenant,
            accept: service.accept,
            delivery,
            endpoints: service.endpoints,
            catalogue_version: catalogue.version,
            preset: catalogue.preset,
            created_at: stored.created.to_string(),
            changed: stored.changed.0,
        }
    }
}

/// A service to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceBody {
    #[schemars(with = "schema::Id")]
    id: Id,
    #[serde(default)]
    name: String,
    #[schemars(with = "Vec<schema::HostPattern>")]
    hosts: Vec<HostPattern>,
    #[serde(default = "root")]
    prefix: String,
    #[schemars(with = "Option<schema::Id>")]
    tenant: Option<Id>,
    #[serde(default = "Presentation::usual")]
    #[schemars(with = "Vec<schema::Presentation>")]
    accept: Vec<Presentation>,
    upstream: String,
    #[serde(default = "yes")]
    preserve_host: bool,
    #[serde(default = "usual_timeout")]
    response_timeout_s: u32,
    #[schemars(with = "Option<schema::Preflight>")]
    preflight: Option<Preflight>,
    /// A path of the service that Portcullis keeps for itself: below it lies `/v1/leaked`.
    reserved_prefix: Option<String>,
    preset: Option<String>,
}

fn root() -> String {
    "/".to_owned()
}

fn yes() -> bool {
    true
}

fn usual_timeout() -> u32 {
    30
}

/// What changes of a service.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServicePatch {
    name: Option<String>,
    #[schemars(with = "Option<Vec<schema::HostPattern>>")]
    hosts: Option<Vec<HostPattern>>,
    #[schemars(with = "Option<Vec<schema::Presentation>>")]
    accept: Option<Vec<Presentation>>,
    upstream: Option<String>,
    preserve_host: Option<bool>,
    response_timeout_s: Option<u32>,
    /// `null` takes the rule away.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<Option<schema::Preflight>>")]
    preflight: Option<Option<Preflight>>,
    /// `null` turns it off.
    #[serde(default, deserialize_with = "given")]
    reserved_prefix: Option<Option<String>>,
}

/// Tells a field that is `null` from one that is left out.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(json: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(json).map(Some)
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<List<ServiceView>>, Problem> {
    let services = api.control.system_view(&caller)?.services().await?;
    Ok(Json(List { items: services.into_iter().map(ServiceView::of).collect(), next: None }))
}

pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Creation(body, idempotency): Creation<ServiceBody>,
) -> Result<Created<ServiceView>, Problem> {
    let preset = body.preset.map(|name| {
        let unknown = format!("there is no preset `{name}`: `antavo` is one");
        let fault = portcullis_control::FieldFault { field: "preset".to_owned(), what: unknown };
        Preset::from_name(&name).ok_or_else(|| Problem::invalid(vec![fault]))
    });
    let new = NewService {
        id: body.id.clone(),
        name: body.name,
        hosts: body.hosts,
        prefix: body.prefix,
        tenant: body.tenant,
        accept: body.accept,
        delivery: Delivery {
            upstream: body.upstream,
            preserve_host: body.preserve_host,
            response_timeout_s: body.response_timeout_s,
            reserved_prefix: body.reserved_prefix,
            preflight: body.preflight,
        },
        preset: preset.transpose()?,
    };
    let done = api.create(&caller, None, idempotency, Command::CreateService(new)).await?;
    let stored = api.control.system_view(&caller)?.service(&body.id).await?;
    Ok(created(done.repetition, stored.changed, format!("/v1/services/{}", body.id), ServiceView::of(stored)))
}

pub(super) async fn get(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
) -> Result<Shown<ServiceView>, Problem> {
    let stored = api.control.system_view(&caller)?.service(&id).await?;
    Ok(shown(stored.changed, ServiceView::of(stored)))
}

pub(super) async fn edit(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
    IfMatch(if_match): IfMatch,
    Body(patch): Body<ServicePatch>,
) -> Result<Shown<ServiceView>, Problem> {
    let stored = api.control.system_view(&caller)?.service(&id).await?;
    let now = stored.record.delivery;
    let delivery = Delivery {
        upstream: patch.upstream.unwrap_or_else(|| now.upstream.clone()),
        preserve_host: patch.preserve_host.unwrap_or(now.preserve_host),
        response_timeout_s: patch.response_timeout_s.unwrap_or(now.response_timeout_s),
        reserved_prefix: patch.reserved_prefix.unwrap_or_else(|| now.reserved_prefix.clone()),
        preflight: patch.preflight.unwrap_or_else(|| now.preflight.clone()),
    };
    let delivery = (delivery != now).then_some(delivery);
    // As with the installation: what is left out must not go back to what it was when it was read.
    let if_match = if_match.or(delivery.as_ref().map(|_| stored.changed));
    let edit = ServiceEdit { name: patch.name, hosts: patch.hosts, accept: patch.accept, delivery };
    api.order(&caller, if_match, Command::EditService(id.clone(), edit)).await?;
    let stored = api.control.system_view(&caller)?.service(&id).await?;
    Ok(shown(stored.changed, ServiceView::of(stored)))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
    IfMatch(if_match): IfMatch,
    Asked(confirm): Asked<Confirm>,
) -> Result<Removed, Problem> {
    api.order(&caller, if_match, Command::RemoveService(id, confirm.confirmation())).await?;
    Ok(Removed)
}

pub(super) async fn endpoints(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
) -> Result<Json<List<EndpointView>>, Problem> {
    let stored = api.control.system_view(&caller)?.service(&id).await?;
    Ok(Json(List { items: stored.record.service.endpoints.into_iter().map(EndpointView).collect(), next: None }))
}

pub(super) async fn endpoint(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((service, id)): At<(Id, Id)>,
) -> Result<Shown<EndpointView>, Problem> {
    let stored = api.control.system_view(&caller)?.endpoint(&service, &id).await?;
    Ok(shown(stored.changed, EndpointView(stored.record)))
}

/// An endpoint.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct EndpointView(Endpoint);

schema::described_as!(EndpointView: schema::Endpoint);

/// An endpoint without its id, which stands in the path.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointBody {
    #[serde(default)]
    name: String,
    #[serde(default)]
    #[schemars(with = "schema::Methods")]
    methods: portcullis_model::method::Methods,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    per_application: bool,
    scope: Option<String>,
    audience: Option<String>,
    #[serde(default)]
    legacy: bool,
    formerly: Option<String>,
    #[serde(default)]
    #[schemars(with = "Vec<schema::Id>")]
    aliases: Vec<Id>,
}

pub(super) async fn put_endpoint(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((service, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Body(body): Body<EndpointBody>,
) -> Result<Shown<EndpointView>, Problem> {
    let endpoint = Endpoint {
        id: id.clone(),
        name: body.name,
        methods: body.methods,
        paths: body.paths,
        prefixes: body.prefixes,
        per_application: body.per_application,
        scope: body.scope,
        audience: body.audience,
        legacy: body.legacy,
        formerly: body.formerly,
        aliases: body.aliases,
        token_endpoint: false,
    };
    api.order(&caller, if_match, Command::PutEndpoint(service.clone(), Box::new(endpoint))).await?;
    let stored = api.control.system_view(&caller)?.endpoint(&service, &id).await?;
    Ok(shown(stored.changed, EndpointView(stored.record)))
}

pub(super) async fn remove_endpoint(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((service, endpoint)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Asked(confirm): Asked<Confirm>,
) -> Result<TakenOut, Problem> {
    let endpoint = EndpointRef { service, endpoint };
    let done = api.order(&caller, if_match, Command::RemoveEndpoint(endpoint, confirm.confirmation())).await?;
    // The service is another one without it: the tag is the service's, as that of an endpoint is.
    Ok(TakenOut(done.revision))
}
