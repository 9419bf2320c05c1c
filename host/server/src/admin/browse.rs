//! `/v1/tenants/{tenant}/endpoints`: what a tenant's keys can call, and what the tenant has set for it, in one list.

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::Caller;
use portcullis_model::address::Cidr;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::method::Methods;
use portcullis_model::source::{EndpointSettings, HostPattern, ReplayMode, SignatureMode};
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::List;
use super::extract::At;
use super::problem::Problem;
use super::{Api, schema};

/// An endpoint as a tenant sees it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BrowsedEndpoint")]
pub(super) struct Browsed {
    #[schemars(with = "schema::EndpointRef")]
    endpoint: EndpointRef,
    name: String,
    formerly: Option<String>,
    legacy: bool,
    #[schemars(with = "Vec<schema::HostPattern>")]
    hosts: Vec<HostPattern>,
    #[schemars(with = "schema::Methods")]
    methods: Methods,
    paths: Vec<String>,
    prefixes: Vec<String>,
    per_application: bool,
    scope: Option<String>,
    audience: Option<String>,
    /// The addresses that may use it; any where empty.
    #[schemars(with = "Vec<schema::Cidr>")]
    ip_ranges: Vec<Cidr>,
    #[schemars(with = "schema::SignatureMode")]
    signature: SignatureMode,
    #[schemars(with = "schema::ReplayMode")]
    replay: ReplayMode,
}

pub(super) async fn endpoints(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
) -> Result<Json<List<Browsed>>, Problem> {
    let view = api.control.tenant_view(&caller, &tenant).await?;
    let settings = view.settings().await?;
    let mut items = Vec::new();
    for service in view.services().await? {
        for endpoint in service.endpoints {
            let name = EndpointRef { service: service.id.clone(), endpoint: endpoint.id };
            let set = settings.iter().map(|stored| &stored.record).find(|set| set.endpoint == name);
            let EndpointSettings { ip_ranges, signature, replay, .. } =
                set.cloned().unwrap_or_else(|| EndpointSettings {
                    endpoint: name.clone(),
                    ip_ranges: Vec::new(),
                    signature: SignatureMode::Off,
                    replay: ReplayMode::Auto,
                });
            items.push(Browsed {
                endpoint: name,
                name: endpoint.name,
                formerly: endpoint.formerly,
                legacy: endpoint.legacy,
                hosts: service.hosts.clone(),
                methods: endpoint.methods,
                paths: endpoint.paths,
                prefixes: endpoint.prefixes,
                per_application: endpoint.per_application,
                scope: endpoint.scope,
                audience: endpoint.audience,
                ip_ranges,
                signature,
                replay,
            });
        }
    }
    Ok(Json(List { items, next: None }))
}
