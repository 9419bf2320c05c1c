//! The reverse proxy: every request is decided, recorded, and then forwarded or answered.
//!
//! ```text
//! head -> engine.decide -> enforce -> journal.record -> forward(permit, ..) or respond::denied
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`peer`] | the other end of a connection |
//! | [`routing`] | which upstream a service has |
//! | [`forward`] | one permitted request, to its upstream and back |
//! | [`edit`] | what is changed in a head on the way: little, and all of it named there |
//! | [`clients`] | connections to upstreams |
//! | [`signed`] | bodies that a signature is over, read whole |
//! | [`body`], [`judge`] | bodies on their way, and the end of those that are no longer allowed |
//! | [`tunnel`] | upgraded connections |
//! | [`preflight`] | answers to CORS preflights |
//! | [`token`] | access tokens, and what verifies them |
//! | [`respond`] | everything the proxy says itself |

mod body;
mod clients;
mod edit;
mod forward;
mod judge;
mod peer;
mod preflight;
pub(crate) mod respond;
mod routing;
mod signed;
mod token;
mod tunnel;

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::header::EXPECT;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::service::{Service as HttpService, service_fn};
use portcullis_control::{MAX_KEPT_BODY_BYTES, WireBody};
use portcullis_engine::{Engine, Request as Question};
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::verdict::Reason;
use tokio::sync::watch;

pub(crate) use self::body::Outgoing;
use self::clients::Clients;
pub(crate) use self::clients::{ClientSettings, ClientsError};
use self::judge::Judge;
use self::peer::Peer;
pub(crate) use self::routing::{ErrorForm, Preflight, Routing, Service, Upstream};
use self::signed::RequestBody;
pub(crate) use self::token::Issuing;
use crate::clock;
use crate::failures::Failures;
use crate::journal::{DecisionId, Journal, Kept};
use crate::leaked::Reports;
use crate::listen::Connection;
use crate::metrics::Metrics;
use portcullis_tower::body::{Held, MAX_HELD_BYTES, read};
use portcullis_tower::enforce::{Cause, Denial, HostFault, Permit, Ruling, refuse_replay, rule};
use portcullis_tower::replays::Replays;

/// What a proxy is made of.
pub(crate) struct Wiring {
    /// What decides.
    pub(crate) engine: Arc<Engine>,
    /// Which upstream each service has. What the engine allows and this does not have is denied.
    pub(crate) routing: Arc<ArcSwap<Routing>>,
    /// The revision that every instance of the engine decides by. Each change of it has all open streams judged again.
    pub(crate) revisions: watch::Receiver<u64>,
    /// Where decisions are recorded.
    pub(crate) journal: Journal,
    /// Where failed calls go.
    pub(crate) failures: Failures,
    /// Where leaked keys are reported.
    pub(crate) reports: Reports,
    /// What issues access tokens, where anything does.
    pub(crate) issuing: Option<Issuing>,
    /// Signed requests that are accepted once: one cache for all that the engine decides.
    pub(crate) replays: Arc<Replays>,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// The bounds of what is forwarded.
    pub(crate) bounds: Bounds,
    /// How upstreams are reached.
    pub(crate) clients: ClientSettings,
}

/// The bounds of what is forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How long a body may stand still, in either direction.
    pub(crate) idle_timeout: Duration,
    /// The longest body of a request in bytes, where there is a limit.
    pub(crate) request_body_limit: Option<u64>,
    /// The longest body in bytes that is read whole because a signature is over it.
    pub(crate) signed_body_limit: u64,
}

/// The proxy. It is the service of a [`Listener`](crate::listen::Listener).
pub(crate) struct Proxy {
    engine: Arc<Engine>,
    routing: Arc<ArcSwap<Routing>>,
    journal: Journal,
    failures: Failures,
    reports: Reports,
    issuing: Option<Issuing>,
    metrics: Metrics,
    bounds: Bounds,
    clients: Clients,
    judge: Arc<Judge>,
    replays: Arc<Replays>,
    held: Arc<Held>,
}

/// What was decided of a request.
struct Decided {
    outcome: Result<Permit, Denial>,
    /// The service, where the gate found one that has an upstream.
    service: Option<Arc<Service>>,
    /// The head as the gate got it, should the call fail; empty where it could not be packed.
    head: Box<[u8]>,
}

/// What the gate's answer comes to.
struct Answered {
    ruling: Ruling,
    /// As in [`Decided`].
    service: Option<Arc<Service>>,
}

/// What is kept of a request until it is known whether the call fails.
struct Asked {
    recorded: DecisionId,
    /// As in [`Decided`].
    head: Box<[u8]>,
}

impl Proxy {
    /// Makes a proxy.
    ///
    /// # Errors
    /// Where the clients for upstreams cannot be made.
    pub(crate) fn new(wiring: Wiring) -> Result<Arc<Self>, ClientsError> {
        let Wiring {
            engine,
            routing,
            revisions,
            journal,
            failures,
            reports,
            issuing,
            replays,
            metrics,
            bounds,
            clients,
        } = wiring;
        let clients = Clients::new(clients)?;
        let judge = Judge::new(Arc::clone(&engine), revisions, metrics.clone());
        let held = {
            let metrics = metrics.clone();
            Held::watched(MAX_HELD_BYTES, move |bytes| metrics.signed_bodies_hold(bytes))
        };
        Ok(Arc::new(Proxy {
            engine,
            routing,
            journal,
            failures,
            reports,
            issuing,
            metrics,
            bounds,
            clients,
            judge,
            replays,
            held,
        }))
    }

    /// The service of one connection.
    pub(crate) fn service(
        self: &Arc<Self>,
        connection: Connection,
    ) -> impl HttpService<
        Request<Incoming>,
        Response = Response<Outgoing>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Outgoing>, Infallible>> + Send + use<>,
    > + Send
    + use<> {
        let proxy = Arc::clone(self);
        let peer = Arc::new(Peer::of(connection));
        service_fn(move |request| {
            let (proxy, peer) = (Arc::clone(&proxy), Arc::clone(&peer));
            async move { Ok(proxy.handle(&peer, request).await) }
        })
    }

    async fn handle(&self, peer: &Peer, request: Request<Incoming>) -> Response<Outgoing> {
        let (parts, body) = request.into_parts();
        let (decided, body) = self.decide(&parts, peer, body).await;
        if let (Some(issuing), Some(service)) = (&self.issuing, &decided.service)
            && let Some(own) = service.own(parts.uri.path())
        {
            let response = match body {
                RequestBody::Coming(body) => {
                    let at = (own, Arc::clone(service));
                    self.own(issuing, at, decided, peer, (parts, body)).await
                }
                // Nothing here is signed.
                RequestBody::Whole(_) | RequestBody::Gone(_) => {
                    let recorded = self.record_outcome(&decided.outcome);
                    respond::problem(StatusCode::BAD_REQUEST, "bad_body", recorded)
                }
            };
            self.metrics.responded(response.status());
            return response;
        }
        let Decided { outcome, service, head } = decided;
        let response = match (outcome, service) {
            (Ok(permit), Some(service)) => {
                self.metrics.allowed();
                let recorded = self.record(0, permit.packed());
                self.forward(permit, Asked { recorded, head }, service, peer, parts, body).await
            }
            (Ok(permit), None) => {
                // Not reached: a permit without a service has been turned into a denial. Were it, it would be one.
                drop(permit);
                self.denied(&Denial::of(Reason::ServiceUnknown), None, &parts).0
            }
            (Err(denial), Some(service)) if is_report(&denial, &service, &parts) => {
                let recorded = self.record(denial.cause().number(), denial.packed());
                let RequestBody::Coming(body) = body else {
                    return respond::problem(StatusCode::BAD_REQUEST, "bad_body", recorded);
                };
                let (status, code) = self.reports.take(peer.address, body).await;
                if status.is_success() { respond::accepted(recorded) } else { respond::problem(status, code, recorded) }
            }
            (Err(denial), service) => {
                let (response, recorded) = self.denied(&denial, service.as_deref(), &parts);
                self.failed(&denial, &Asked { recorded, head }, &parts, body, &response);
                response
            }
        };
        self.metrics.responded(response.status());
        response
    }

    /// Asks the gate until it is known what is to be done: once, or again with the digest of the body.
    async fn decide(&self, parts: &Parts, peer: &Peer, body: Incoming) -> (Decided, RequestBody) {
        let bodiless = body.is_end_stream();
        let (asked, head) = match self.ask_first(parts, peer, bodiless) {
            Ok(asked) => asked,
            Err(reason) => {
                let denied = Decided { outcome: Err(Denial::of(reason)), service: None, head: Box::default() };
                return (denied, RequestBody::Coming(body));
            }
        };
        let Answered { ruling, service } = asked;
        let (need, decision) = match ruling {
            Ruling::Permitted(permit) => {
                return (Decided { outcome: Ok(permit), service, head }, RequestBody::Coming(body));
            }
            Ruling::Denied(denial) => {
                return (Decided { outcome: Err(denial), service, head }, RequestBody::Coming(body));
            }
            Ruling::Seen => {
                let outcome = Err(self.replayed(&head, None));
                return (Decided { outcome, service, head }, RequestBody::Coming(body));
            }
            Ruling::NeedBody(need, decision) => (need, decision),
        };
        let fault = |fault| Err(Denial::of_body(fault, &decision));
        if bodiless {
            // The gate knows that there is none, so that it asks for it breaks the contract.
            let outcome = fault(HostFault::NeedBody);
            return (Decided { outcome, service, head }, RequestBody::Coming(body));
        }
        let cap = u64::from(need.cap_bytes).min(self.bounds.signed_body_limit);
        let cap = cap.min(self.bounds.request_body_limit.unwrap_or(u64::MAX));
        let (whole, digest) = match read(body, need, cap, self.bounds.idle_timeout, &self.held).await {
            Ok(read) => read,
            Err(why) => {
                let gone = RequestBody::Gone("it was not read to its end for its signature");
                return (Decided { outcome: fault(why), service, head }, gone);
            }
        };
        self.metrics.signed_body();
        let Answered { ruling, service } = self.ask(&head, Some(&digest));
        let outcome = match ruling {
            Ruling::Permitted(permit) => Ok(permit),
            Ruling::Denied(denial) => Err(denial),
            Ruling::NeedBody(_, decision) => Err(Denial::of_body(HostFault::NeedBody, &decision)),
            Ruling::Seen => Err(self.replayed(&head, Some(&digest))),
        };
        (Decided { outcome, service, head }, RequestBody::Whole(whole))
    }

    /// Asks the gate of a request whose body is none of its business.
    fn decide_head(&self, parts: &Parts, peer: &Peer) -> Result<Permit, Denial> {
        let (answered, head) = self.ask_first(parts, peer, false).map_err(Denial::of)?;
        match answered.ruling {
            Ruling::Permitted(permit) => Ok(permit),
            Ruling::Denied(denial) => Err(denial),
            Ruling::NeedBody(_, decision) => Err(Denial::of_body(HostFault::NeedBody, &decision)),
            Ruling::Seen => Err(self.replayed(&head, None)),
        }
    }

    /// Asks the gate of a request of which nothing but the head is known.
    fn ask_first(&self, parts: &Parts, peer: &Peer, bodiless: bool) -> Result<(Answered, Box<[u8]>), Reason> {
        thread_local! {
            static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        PACKED.with_borrow_mut(|packed| {
            portcullis_tower::head::pack(parts, peer.into(), bodiless, packed)?;
            Ok((self.ask(packed, None), packed.as_slice().into()))
        })
    }

    /// Asks the gate, and turns its answer into what is to be done.
    fn ask(&self, head: &[u8], body_digest: Option<&[u8]>) -> Answered {
        let (began, now) = (Instant::now(), clock::now());
        let answer = self.engine.decide(Question { body_digest, ..Question::new(head, now) });
        self.metrics.decided(began);
        let service = match &answer {
            Ok(decision) => {
                let details = decision.details();
                let service = self.routing.load().service(details.facts.service).cloned();
                if service.is_none() && !details.facts.service.is_empty() {
                    // The admin API is a service of the same policy. Here it must look like none at all, whatever
                    // the gate says of the request.
                    let ruling = Ruling::Denied(Denial::instead(Reason::ServiceUnknown, decision));
                    return Answered { ruling, service: None };
                }
                service
            }
            Err(_) => None,
        };
        let is_once = answer.as_ref().is_ok_and(|decision| !decision.details().obligations.is_empty());
        let ruling = rule(answer, &self.replays, now);
        if is_once {
            self.metrics.replays_are(self.replays.entries());
        }
        Answered { ruling, service }
    }

    /// The denial of a request that was accepted before.
    fn replayed(&self, head: &[u8], body_digest: Option<&[u8]>) -> Denial {
        self.metrics.replay_refused();
        let seen = Some(ReplayAnswer::Seen);
        refuse_replay(self.engine.decide(Question { body_digest, replay: seen, ..Question::new(head, clock::now()) }))
    }

    fn denied(&self, denial: &Denial, service: Option<&Service>, parts: &Parts) -> (Response<Outgoing>, DecisionId) {
        self.metrics.denied(denial.cause());
        let recorded = self.record(denial.cause().number(), denial.packed());
        if denial.cause() == Cause::Gate(Reason::CredentialMissing)
            && let Some(preflight) = service.and_then(|service| service.preflight.as_ref())
            && let Some(answer) = preflight::answer(preflight, parts, recorded)
        {
            return (answer, recorded);
        }
        if service.is_some_and(|service| service.errors == ErrorForm::Antavo)
            && let Some(form) = respond::antavo(denial, &parts.headers)
        {
            return (respond::denied_as(denial, form, recorded), recorded);
        }
        (respond::denied(denial, recorded), recorded)
    }

    /// Takes note of a denied request, with its body where its sender is known. The answer does not wait for that.
    fn failed(&self, denial: &Denial, asked: &Asked, parts: &Parts, body: RequestBody, response: &Response<Outgoing>) {
        if response.status().is_success() {
            return;
        }
        let Asked { recorded, head } = asked;
        let Some(failed) = self.failures.failed(denial.packed(), head, *recorded, denial.cause().name(), response)
        else {
            return;
        };
        let answer = response.body().kept();
        if body.is_empty() {
            failed.end(WireBody::Empty, answer);
        } else if !failed.is_proven() {
            failed.end(WireBody::Unread("nobody has proven who sent it"), answer);
        } else if parts.headers.contains_key(EXPECT) {
            // Reading would ask the client for what is denied (RFC 9110 section 10.1.1).
            failed.end(WireBody::Unread("the client waited to be asked for it"), answer);
        } else {
            match body {
                RequestBody::Coming(body) => failed.end_after(body, answer),
                RequestBody::Whole(whole) => failed.end(signed::kept(&whole, MAX_KEPT_BODY_BYTES), answer),
                RequestBody::Gone(why) => failed.end(WireBody::Unread(why), answer),
            }
        }
    }

    /// INVARIANT (recorded-first): a request is acted on only after this, and whoever acts on it asks for the id.
    fn record(&self, reason: u16, details: &[u8]) -> DecisionId {
        let (id, kept) = self.journal.record(reason, details);
        if kept == Kept::Counted {
            self.metrics.journal_gap();
        }
        id
    }
}

/// Whether a request reports leaked keys. The gate denies it, for it has no credential; the proxy itself answers it.
fn is_report(denial: &Denial, service: &Service, parts: &Parts) -> bool {
    denial.cause() == Cause::Gate(Reason::CredentialMissing)
        && parts.method == Method::POST
        && parts.uri.query().is_none()
        && service.leaked.as_deref() == Some(parts.uri.path())
}

#[cfg(test)]
mod tests;
