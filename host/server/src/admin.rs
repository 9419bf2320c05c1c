//! The admin API: the one way to change an installation while it runs.
//!
//! It has a listener of its own. Every request but a probe, and a look at what the API is, is decided by the same gate as the
//! traffic: the admin API is a service with a catalogue, and management keys are allowed its endpoints. The gate sees the
//! request as it came, except that its host is [`ADMIN_HOST`]: the listener pins the service, and no name on the network leads
//! to it. Against DNS rebinding Host must be one of the names that the listener is known by.
//!
//! | module | holds |
//! |---|---|
//! | [`services`], [`tenants`], [`people`], [`keys`], [`feeds`] | the records |
//! | [`served`] | what a feed serves to workers of proxies |
//! | [`own`] | what a person who has signed in does |
//! | [`nodes`] | the workers that are attached, and who of them decides by what |
//! | [`import`] | keys of another system |
//! | [`audit`], [`refusals`] | the audit, and what comes into it without a command |
//! | [`records`] | decisions, check |
//! | [`error_log`], [`client_ip`], [`browse`] | what failed and why, for whoever has to find out |
//! | [`routes`] | every operation, with what is said of it |
//! | [`describe`], [`schema`], [`docs`] | the description of it all: OpenAPI 3.1, and a page for people |
//! | [`extract`], [`lines`] | what comes in |
//! | [`answer`], [`problem`], [`codes`] | what goes out |

mod answer;
mod audit;
mod browse;
mod client_ip;
mod codes;
mod describe;
mod docs;
mod error_log;
mod extract;
mod feeds;
mod import;
mod keys;
mod lines;
mod nodes;
mod own;
mod people;
mod problem;
mod profiles;
mod records;
mod refusals;
mod routes;
mod schema;
mod served;
mod services;
mod tenants;
mod tokens;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use portcullis_control::store::{Channel, Origin};
use portcullis_control::{ADMIN_HOST, ADMIN_SERVICE, Caller, Command, CommandError, Control, Done, Idempotency, Order};
use portcullis_engine::Engine;
use portcullis_model::facts::Facts;
use portcullis_model::head::RequestHead;
use portcullis_model::id::Revision;
use portcullis_model::verdict::Reason;
use tower::ServiceExt as _;

use self::describe::Document;
use self::docs::Docs;
use self::problem::Problem;
pub(crate) use self::refusals::{Pending, Refusals};
use crate::clock;
use crate::journal::{DecisionId, Journal};
use crate::leaked::{self, Reports};
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::proxy::respond;
use crate::usage::Usage;
use portcullis_tower::enforce::{Denial, Permit, enforce};

/// What handlers work with.
#[derive(Clone)]
struct Api {
    control: Arc<Control>,
    engine: Arc<Engine>,
    nodes: Nodes,
    usage: Usage,
}

/// The admin listener's service.
pub(crate) struct Admin {
    engine: Arc<Engine>,
    control: Arc<Control>,
    journal: Journal,
    refusals: Arc<Refusals>,
    metrics: Metrics,
    reports: Reports,
    nodes: Nodes,
    /// The names by which clients may call it, lower case, without ports.
    hosts: Vec<String>,
    router: Router,
    docs: Docs,
}

/// What an admin listener works with.
pub(crate) struct Wiring<'h> {
    pub(crate) control: Arc<Control>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) journal: Journal,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) metrics: Metrics,
    pub(crate) reports: Reports,
    pub(crate) nodes: Nodes,
    pub(crate) usage: Usage,
    /// The names by which clients may call it, beside those of this machine.
    pub(crate) hosts: &'h [String],
}

/// The names that every admin listener is known by.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

impl Admin {
    pub(crate) fn new(wiring: Wiring<'_>) -> Admin {
        let Wiring { control, engine, journal, refusals, metrics, reports, nodes, usage, hosts } = wiring;
        let hosts = LOCAL_HOSTS.iter().map(|&host| host.to_owned()).chain(hosts.iter().cloned()).collect();
        let Document { router, json } = Document::new(routes::routes());
        let router = router.fallback(nothing_here).method_not_allowed_fallback(no_such_method).with_state(Api {
            control: Arc::clone(&control),
            engine: Arc::clone(&engine),
            nodes: nodes.clone(),
            usage,
        });
        Admin { engine, control, journal, refusals, metrics, reports, nodes, hosts, router, docs: Docs::new(&json) }
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
            self.nodes.measure(*self.control.enforced().borrow(), &self.metrics);
            let text = self.metrics.encode();
            return ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response();
        }
        if let Some(response) = self.docs.answer(request.method(), request.uri().path()) {
            return response;
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
        self.guarded(peer, secure, request).await
    }

    /// Answers one request to the listener of feeds, which knows their calls and no others. A browser cannot send what they
    /// need, so that its name in Host does not matter.
    pub(crate) async fn handle_worker<B>(&self, peer: IpAddr, secure: bool, request: Request<B>) -> Response
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !served::is_call_of_workers(request.uri().path()) {
            return nothing_here().await.into_response();
        }
        self.guarded(peer, secure, request).await
    }

    /// Asks the gate, then does what is asked.
    async fn guarded<B>(&self, peer: IpAddr, secure: bool, request: Request<B>) -> Response
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let permit = match self.decide(peer, secure, &request) {
            Ok(permit) => permit,
            Err((denial, id)) => {
                self.refusals.note(&denial, id, peer, clock::now());
                return denied(&denial, id);
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
            bodiless: false,
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

/// The answer to a call that the gate denies: what a stranger is told, and in words what its code means. All of one status and
/// code have the same words but for the decision's id.
fn denied(denial: &Denial, id: DecisionId) -> Response {
    let (head, _) = respond::denied(denial, id).into_parts();
    let code = denial.code();
    let meaning = codes::CODES.iter().find(|known| known.name == code).map_or("", |known| known.meaning);
    let detail = format!("{meaning} `portcullis decision show {id}` tells a superuser why.");
    let mut response = Problem::new(denial.status(), code, detail.trim()).of_decision(id).into_response();
    for (name, value) in &head.headers {
        if name != header::CONTENT_LENGTH {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

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
        Facts { method: "GET", path, ..facts }.pack(&mut other).is_ok()
            && enforce(self.engine.judge(&other, self.control.now())).is_ok()
    }

    /// Gives an order in the caller's name.
    async fn order(&self, caller: &Caller, if_match: Option<Revision>, command: Command) -> Result<Done, Problem> {
        self.create(caller, if_match, None, command).await
    }

    /// Gives an order that may be the repetition of one.
    async fn create(
        &self,
        caller: &Caller,
        if_match: Option<Revision>,
        idempotency: Option<Idempotency>,
        command: Command,
    ) -> Result<Done, Problem> {
        let order = Order { caller: caller.clone(), if_match, idempotency, command };
        self.control.execute(order).await.map_err(|error: CommandError| error.into())
    }
}

async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "the admin API has nothing at this path")
}

async fn no_such_method() -> Problem {
    let detail = "the admin API has no such method at this path: `/docs` lists what there is";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
