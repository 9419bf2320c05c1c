//! The admin API: the one way to change an installation while it runs.
//!
//! It has a listener of its own. Every request but a probe is decided by the same gate as the traffic: the admin API is a
//! service with a catalogue, and management keys are allowed its endpoints. The gate sees the request as it came, except that
//! its host is [`ADMIN_HOST`]: the listener pins the service, and no name on the network leads to it. Against DNS rebinding
//! Host must be one of the names that the listener is known by.
//!
//! | module | holds |
//! |---|---|
//! | [`services`], [`tenants`], [`people`], [`keys`] | the records |
//! | [`own`] | what a person who has signed in does |
//! | [`import`] | keys of another system |
//! | [`audit`], [`refusals`] | the audit, and what comes into it without a command |
//! | [`records`] | decisions, check |
//! | [`error_log`], [`client_ip`], [`browse`] | what failed and why, for whoever has to find out |
//! | [`extract`], [`lines`], [`problem`] | what comes in, and what is answered where it cannot be taken |

mod audit;
mod browse;
mod client_ip;
mod error_log;
mod extract;
mod import;
mod keys;
mod lines;
mod own;
mod people;
mod problem;
mod records;
mod refusals;
mod services;
mod tenants;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use portcullis_control::store::{Channel, Origin, Page};
use portcullis_control::{ADMIN_HOST, ADMIN_SERVICE, Caller, Command, CommandError, Control, Done, KeyRef, Order};
use portcullis_engine::Engine;
use portcullis_model::credential::Kind;
use portcullis_model::facts::Facts;
use portcullis_model::head::RequestHead;
use portcullis_model::id::{Id, Revision};
use portcullis_model::verdict::Reason;
use serde::Serialize;
use tower::ServiceExt as _;

use self::extract::{Asked, At, Body as Given, IfMatch};
use self::problem::Problem;
pub(crate) use self::refusals::{Pending, Refusals};
use crate::clock;
use crate::enforce::{Denial, Permit, enforce};
use crate::journal::{DecisionId, Journal};
use crate::leaked::{self, Reports};
use crate::metrics::Metrics;
use crate::proxy::respond;

/// What handlers work with.
#[derive(Clone)]
struct Api {
    control: Arc<Control>,
    engine: Arc<Engine>,
}

/// The admin listener's service.
pub(crate) struct Admin {
    engine: Arc<Engine>,
    control: Arc<Control>,
    journal: Journal,
    refusals: Arc<Refusals>,
    metrics: Metrics,
    reports: Reports,
    /// The names by which clients may call it, lower case, without ports.
    hosts: Vec<String>,
    router: Router,
}

/// The names that every admin listener is known by.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

impl Admin {
    pub(crate) fn new(
        control: Arc<Control>,
        engine: Arc<Engine>,
        journal: Journal,
        refusals: Arc<Refusals>,
        metrics: Metrics,
        reports: Reports,
        hosts: &[String],
    ) -> Admin {
        let hosts = LOCAL_HOSTS.iter().map(|&host| host.to_owned()).chain(hosts.iter().cloned()).collect();
        let router = router().with_state(Api { control: Arc::clone(&control), engine: Arc::clone(&engine) });
        Admin { engine, control, journal, refusals, metrics, reports, hosts, router }
    }

    /// Answers one request.
    pub(crate) async fn handle<B>(&self, peer: IpAddr, secure: bool, request: Request<B>) -> Response
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match request.uri().path() {
            "/healthz" => return "ok\n".into_response(),
            "/readyz" => return self.ready(),
            _ => {}
        }
        if !self.is_known_host(&request) {
            let detail = "this listener is not known by that Host: add the name to `hosts` under `[admin]`";
            return Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", detail).into_response();
        }
        if request.uri().path() == "/metrics" && request.method() == Method::GET {
            let text = self.metrics.encode();
            return ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response();
        }
        if request.uri().path() == leaked::PATH && request.method() == Method::POST {
            let (status, code) = self.reports.take(peer, request.into_body()).await;
            return if status.is_success() {
                status.into_response()
            } else {
                let detail = "report whole keys as `{\"keys\": [\"ptc_..\"]}`, at most 100 in one report";
                Problem::new(status, code, detail).into_response()
            };
        }
        let permit = match self.decide(peer, secure, &request) {
            Ok(permit) => permit,
            Err((denial, id)) => {
                self.refusals.note(&denial, id, peer, clock::now());
                return respond::denied(&denial, id).map(Body::new);
            }
        };
        let Some(caller) = caller(&permit, peer, &request) else {
            let detail = "the gate let this request through without a credential";
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", detail).into_response();
        };
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(Proven(permit.facts().into()));
        request.extensions_mut().insert(client_ip::Peer(peer.to_canonical()));
        let answered: Result<Response, Infallible> = self.router.clone().oneshot(request).await;
        let Ok(mut response) = answered;
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// Whether this node decides: a policy is in force and confirmed, and every instance is in rotation.
    fn ready(&self) -> Response {
        let is_ready = self.engine.in_rotation() > 0
            && self.control.stopped().borrow().is_none()
            && self.engine.describe().is_ok_and(|described| described.confirmed.is_some());
        if is_ready {
            "ready\n".into_response()
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
    }

    fn is_known_host<B>(&self, request: &Request<B>) -> bool {
        let mut fields = request.headers().get_all(header::HOST).iter();
        let field = fields.next().and_then(|value| value.to_str().ok());
        let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
        let Some(given) = authority.or(field) else { return false };
        let consistent = fields.next().is_none() && field.is_none_or(|field| field == given);
        let host = match given.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.is_empty() => host,
            _ => given,
        };
        consistent && self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    /// Asks the gate, under the host that pins the admin service, and records the decision.
    fn decide<B>(&self, peer: IpAddr, secure: bool, request: &Request<B>) -> Result<Permit, (Denial, DecisionId)> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let fields = request.headers().iter().filter(|(name, _)| *name != header::HOST);
        let mut headers: Vec<(&[u8], &[u8])> =
            fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
        headers.push((b"host", ADMIN_HOST.as_bytes()));
        let head = RequestHead {
            secure,
            peer,
            method: request.method().as_str().as_bytes(),
            authority: None,
            target: target.as_bytes(),
            headers: &headers,
        };
        let decided = match head.pack() {
            Ok(packed) => enforce(self.engine.decide(portcullis_engine::Request::new(&packed, clock::now()))),
            Err(too_large) => Err(Denial::of(Reason::from(too_large))),
        };
        let decided = match decided {
            // The host leads to the admin service alone; another one here is a fault that must not become a way in.
            Ok(permit) if permit.details().facts.service != ADMIN_SERVICE => Err(Denial::of(Reason::ServiceUnknown)),
            other => other,
        };
        match decided {
            Ok(permit) => {
                self.journal.record(0, permit.packed());
                Ok(permit)
            }
            Err(denial) => {
                let (id, _) = self.journal.record(denial.cause().number(), denial.packed());
                Err((denial, id))
            }
        }
    }
}

/// The facts of a call of the admin API, packed.
#[derive(Clone)]
struct Proven(Arc<[u8]>);

/// Who calls, out of what the gate has proven.
fn caller<B>(permit: &Permit, peer: IpAddr, request: &Request<B>) -> Option<Caller> {
    let details = permit.details();
    let credential = details.facts.credential?;
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // What the client says of itself; it changes nothing but this word in the audit.
    let channel = if agent.starts_with(crate::client::USER_AGENT_PREFIX) { Channel::Cli } else { Channel::Api };
    let client = Some(details.facts.client).filter(|client| !client.is_unspecified()).unwrap_or(peer);
    Some(Caller {
        tenant: details.facts.tenant.parse().ok()?,
        credential: credential.id.parse().ok()?,
        origin: Origin { channel, address: Some(client) },
    })
}

impl Api {
    /// Whether the gate would let the caller get `path` as well: what one endpoint shows of another's is for those alone who
    /// may use both.
    fn may_get(&self, Proven(packed): &Proven, path: &str) -> bool {
        let Ok(facts) = Facts::unpack(packed) else { return false };
        let mut other = Vec::with_capacity(packed.len() + path.len());
        Facts { method: "GET", path, ..facts }.pack(&mut other);
        enforce(self.engine.judge(&other, self.control.now())).is_ok()
    }

    /// Gives an order in the caller's name.
    async fn order(&self, caller: &Caller, if_match: Option<Revision>, command: Command) -> Result<Done, Problem> {
        let order = Order { caller: caller.clone(), if_match, command };
        self.control.execute(order).await.map_err(|error: CommandError| error.into())
    }
}

fn router() -> Router<Api> {
    let router = Router::new()
        .route("/v1/self", get(records::own))
        .route("/v1/installation", get(services::installation).patch(services::edit_installation))
        .route("/v1/services", get(services::list).post(services::create))
        .route("/v1/services/{service}", get(services::get).patch(services::edit).delete(services::remove))
        .route("/v1/services/{service}/endpoints", get(services::endpoints))
        .route(
            "/v1/services/{service}/endpoints/{endpoint}",
            get(services::endpoint).put(services::put_endpoint).delete(services::remove_endpoint),
        )
        .route("/v1/tenants", get(tenants::list).post(tenants::create))
        .route("/v1/tenants/{tenant}", get(tenants::get).patch(tenants::edit))
        .route("/v1/tenants/{tenant}/settings", get(tenants::settings))
        .route(
            "/v1/tenants/{tenant}/settings/{service}/{endpoint}",
            get(tenants::get_settings).put(tenants::put_settings).delete(tenants::remove_settings),
        )
        .route("/v1/tenants/{tenant}/settings/{service}/{endpoint}/ip-ranges", delete(tenants::remove_range))
        .route("/v1/tenants/{tenant}/groups", get(people::groups).post(people::create_group))
        .route(
            "/v1/tenants/{tenant}/groups/{group}",
            get(people::group).patch(people::edit_group).delete(people::remove_group),
        )
        .route("/v1/tenants/{tenant}/applications", get(tenants::applications).post(tenants::create_application))
        .route(
            "/v1/tenants/{tenant}/applications/{name}",
            get(tenants::application).delete(tenants::remove_application),
        )
        .route("/v1/tenants/{tenant}/users", get(people::users).post(people::create_user))
        .route(
            "/v1/tenants/{tenant}/users/{user}",
            get(people::user).patch(people::edit_user).delete(people::remove_user),
        )
        .route("/v1/tenants/{tenant}/tenant-keys/import", post(import::import))
        .route("/v1/tenants/{tenant}/users/{user}/enrolment", post(own::enrol))
        .route("/v1/me", get(own::me))
        .route("/v1/me/session", post(own::open_session))
        .route("/v1/me/end-session", post(own::close_session))
        .route(
            "/v1/me/personal-key",
            get(own::personal_key).post(own::create_personal_key).delete(own::delete_personal_key),
        )
        .route("/v1/me/personal-key/regenerate", post(own::regenerate_personal_key))
        .route("/v1/tenants/{tenant}/audit", get(audit::of_tenant))
        .route("/v1/audit", get(audit::list))
        .route("/v1/audit/verification", get(audit::verify))
        .route("/v1/audit/checkpoint", get(audit::checkpoint))
        .route("/v1/audit/export", get(audit::export))
        .route("/v1/decisions", get(records::decisions))
        .route("/v1/decisions/{decision}", get(records::decision))
        .route("/v1/tenants/{tenant}/decisions", get(records::tenant_decisions))
        .route("/v1/tenants/{tenant}/decisions/{decision}", get(records::tenant_decision))
        .route("/v1/check", post(records::check))
        .route("/v1/error-log", get(error_log::list))
        .route("/v1/error-log/{entry}", get(error_log::entry))
        .route("/v1/tenants/{tenant}/error-log", get(error_log::tenant_list))
        .route("/v1/tenants/{tenant}/error-log/settings", get(error_log::settings).put(error_log::put_settings))
        .route("/v1/tenants/{tenant}/error-log/{entry}", get(error_log::tenant_entry))
        .route("/v1/tenants/{tenant}/endpoints", get(browse::endpoints))
        .route("/v1/client-ip", get(client_ip::installation))
        .route("/v1/tenants/{tenant}/client-ip", get(client_ip::tenant));
    [Kind::Workspace, Kind::Tenant, Kind::Management, Kind::Client]
        .into_iter()
        .fold(router, key_routes)
        .fallback(nothing_here)
}

/// The routes of one kind of key.
fn key_routes(router: Router<Api>, kind: Kind) -> Router<Api> {
    let all = format!("/v1/tenants/{{tenant}}/{}s", portcullis_control::key_name(kind));
    let one = format!("{all}/{{key}}");
    let list =
        get(move |State(api): State<Api>, Extension(caller): Extension<Caller>, At(tenant): At<Id>, Asked(query)| {
            keys::list(api, caller, kind, tenant, query)
        });
    let show =
        get(move |State(api): State<Api>, Extension(caller): Extension<Caller>, At((tenant, id)): At<(Id, Id)>| {
            keys::get(api, caller, KeyRef { tenant, kind, id })
        });
    let revoke = post(
        move |State(api): State<Api>,
              Extension(caller): Extension<Caller>,
              At((tenant, id)): At<(Id, Id)>,
              if_match: IfMatch,
              body: Given<keys::RevokeBody>| {
            keys::revoke(api, caller, KeyRef { tenant, kind, id }, if_match, body)
        },
    );
    let rotate = post(
        move |State(api): State<Api>,
              Extension(caller): Extension<Caller>,
              At((tenant, id)): At<(Id, Id)>,
              if_match: IfMatch,
              body: Given<keys::RotateBody>| {
            keys::rotate(api, caller, KeyRef { tenant, kind, id }, if_match, body)
        },
    );
    let end_overlap = post(
        move |State(api): State<Api>,
              Extension(caller): Extension<Caller>,
              At((tenant, id)): At<(Id, Id)>,
              if_match: IfMatch,
              body: Given<keys::RevokeBody>| {
            keys::end_overlap(api, caller, KeyRef { tenant, kind, id }, if_match, body)
        },
    );
    let (list, show) = match kind {
        Kind::Workspace => (list.post(keys::create_workspace), show),
        Kind::Tenant => (list.post(keys::create_tenant), show.patch(keys::edit_tenant)),
        Kind::Management => (list.post(keys::create_management), show.delete(keys::delete)),
        Kind::Client => (list.post(keys::create_client), show),
        Kind::Personal | Kind::Session => return router,
    };
    let router = router.route(&all, list).route(&one, show).route(&format!("{one}/revoke"), revoke);
    if kind == Kind::Tenant || kind == Kind::Management {
        router.route(&format!("{one}/rotate"), rotate).route(&format!("{one}/end-overlap"), end_overlap)
    } else {
        router
    }
}

async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "the admin API has nothing at this path")
}

/// A page of records.
#[derive(Serialize)]
struct List<T> {
    items: Vec<T>,
    /// What to give as `after` for the next page; null at the end.
    next: Option<u64>,
}

impl<T> List<T> {
    fn of<S>(page: Page<S>, view: impl FnMut(S) -> T) -> List<T> {
        List { items: page.items.into_iter().map(view).collect(), next: page.next }
    }
}

/// A record, with its ETag.
fn shown(changed: Revision, view: impl Serialize) -> Response {
    let mut response = Json(view).into_response();
    tag(&mut response, changed);
    response
}

/// A record that was just made, with its place.
fn created(changed: Revision, at: &str, view: impl Serialize) -> Response {
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if let Ok(location) = HeaderValue::from_str(at) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    tag(&mut response, changed);
    response
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn tag(response: &mut Response, changed: Revision) {
    let mut tag = String::with_capacity(24);
    // Writing to a string cannot fail.
    let _ = write!(tag, "\"{changed}\"");
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
}
