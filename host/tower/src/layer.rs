//! The gate as a [`Layer`]: in front of services of axum, tonic and hyper.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::request::Parts;
use http::{Extensions, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use portcullis_engine::{Engine, Request as Question};
use portcullis_model::decision::DecisionId;
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};
use tower_layer::Layer;
use tower_service::Service;

use crate::body::{self, Held, MAX_HELD_BYTES};
use crate::enforce::{Denial, HostFault, Permit, Ruling, refuse_replay, rule};
use crate::gated::GatedBody;
use crate::head::{self, Peer};
use crate::journal::{Journal, Unrecorded};
use crate::replays::{self, Replays};
use crate::{answer, clock, edit};

/// The longest body in bytes that is read whole for its signature, unless a [`GateLayer`] says otherwise.
pub const SIGNED_BODY_BYTES: u64 = 8 << 20;

/// How long such a body may stand still, unless a [`GateLayer`] says otherwise.
pub const SIGNED_BODY_IDLE: Duration = Duration::from_secs(30);

/// Puts the gate in front of a service. A request that is not allowed never gets there.
///
/// What goes on lacks the credential, bears `X-Portcullis-Tenant`, `-Credential`, `-Kind` and `-Endpoint`, and has a
/// [`Caller`] among its extensions. What does not is answered with a problem document, or to a client of gRPC in its form.
/// Streams that have begun are not cut when their credential is revoked.
///
/// Clones share what they remember: signatures that were accepted once, and the memory that bodies take. So one process
/// makes one layer for one policy, and clones it.
///
/// # Invariants
/// The gate has to see a request as it came. Where a router has taken a prefix off the path before, another target is
/// decided, and axum then keeps the one that came, with a credential in its query, as an extension (`OriginalUri`). So
/// this goes around a router of axum, `layer.layer(router)`, and not into it.
#[derive(Clone)]
pub struct GateLayer {
    shared: Arc<Shared>,
}

/// What finds the peer of a request among its extensions.
type PeerOf = dyn Fn(&Extensions) -> Option<Peer> + Send + Sync;

#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    clock: Arc<dyn Fn() -> UnixTime + Send + Sync>,
    peer: Arc<PeerOf>,
    journal: Arc<dyn Journal>,
    replays: Arc<Replays>,
    held: Arc<Held>,
    service: Option<Arc<str>>,
    signed_body_bytes: u64,
    signed_body_idle: Duration,
}

/// Who was proven to call, for the guarded service: an extension of the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The tenant.
    pub tenant: String,
    /// The credential's id, which is no secret; empty where none was needed.
    pub credential: String,
    /// The credential's kind; empty where none was needed.
    pub kind: &'static str,
    /// The endpoint, as `service/endpoint`.
    pub endpoint: String,
    /// The decision.
    pub decision: DecisionId,
}

impl GateLayer {
    /// A layer by what the engine has in force. The peer is a [`Peer`] among the request's extensions, the clock is the
    /// system's, decisions are not recorded, and any service of the policy may be asked for.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> GateLayer {
        let shared = Shared {
            engine,
            clock: Arc::new(clock::now),
            peer: Arc::new(|extensions: &Extensions| extensions.get().copied()),
            journal: Arc::new(Unrecorded::default()),
            replays: Arc::new(Replays::new(replays::MAX_ENTRIES)),
            held: Held::new(MAX_HELD_BYTES),
            service: None,
            signed_body_bytes: SIGNED_BODY_BYTES,
            signed_body_idle: SIGNED_BODY_IDLE,
        };
        GateLayer { shared: Arc::new(shared) }
    }

    /// Where a request's peer is to be found. A request without one is denied.
    #[must_use]
    pub fn peer(self, peer: impl Fn(&Extensions) -> Option<Peer> + Send + Sync + 'static) -> GateLayer {
        self.with(|shared| shared.peer = Arc::new(peer))
    }

    /// The one service of the policy that is here; what leads to another is denied as what leads to none.
    #[must_use]
    pub fn service(self, service: &str) -> GateLayer {
        self.with(|shared| shared.service = Some(service.into()))
    }

    /// Where decisions are recorded.
    #[must_use]
    pub fn journal(self, journal: Arc<dyn Journal>) -> GateLayer {
        self.with(|shared| shared.journal = journal)
    }

    /// The time.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> UnixTime + Send + Sync + 'static) -> GateLayer {
        self.with(|shared| shared.clock = Arc::new(clock))
    }

    /// The longest body that is read whole because a signature is over it; a longer one is answered with 413.
    #[must_use]
    pub fn signed_body_bytes(self, most: u64) -> GateLayer {
        self.with(|shared| shared.signed_body_bytes = most)
    }

    /// How long such a body may stand still; one that does is answered with 408.
    #[must_use]
    pub fn signed_body_idle(self, most: Duration) -> GateLayer {
        self.with(|shared| shared.signed_body_idle = most)
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> GateLayer {
        let mut shared = Arc::unwrap_or_clone(self.shared);
        change(&mut shared);
        GateLayer { shared: Arc::new(shared) }
    }
}

impl fmt::Debug for GateLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateLayer").field("service", &self.shared.service).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, shared: Arc::clone(&self.shared) }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> fmt::Debug for Gated<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated").field("service", &self.shared.service).finish_non_exhaustive()
    }
}

impl<S, B, R> Service<Request<B>> for Gated<S>
where
    S: Service<Request<GatedBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<GatedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was found ready is called; its clone takes its place.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            match shared.admit(request).await {
                Ok(admitted) => Ok(inner.call(admitted).await?.map(GatedBody::passing)),
                Err(denied) => Ok(denied.map(GatedBody::said)),
            }
        })
    }
}

/// Does what the allow says with the head. A permit that cannot be carried out is a denial.
fn edit(parts: &mut Parts, permit: &Permit) -> Result<(), Denial> {
    let details = permit.details();
    let edited = edit::fields(&mut parts.headers, &details).and_then(|()| edit::uri(&mut parts.uri, &details));
    edited.map_err(|edit::BadEdit| permit.refused(HostFault::BadAnswer))
}

impl Caller {
    fn of(permit: &Permit, decision: DecisionId) -> Caller {
        let facts = permit.details().facts;
        Caller {
            tenant: facts.tenant.to_owned(),
            credential: facts.credential.map(|credential| credential.id.to_owned()).unwrap_or_default(),
            kind: facts.credential.map(|credential| credential.kind.as_str()).unwrap_or_default(),
            endpoint: facts.endpoint.to_owned(),
            decision,
        }
    }
}

impl Shared {
    /// Makes of a request the one that the guarded service gets, or the answer to one that it does not get.
    ///
    /// INVARIANT (recorded-first): either leaves here with its decision recorded.
    async fn admit<B>(&self, request: Request<B>) -> Result<Request<GatedBody<B>>, Response<Bytes>>
    where
        B: Body<Data = Bytes>,
    {
        let (mut parts, body) = request.into_parts();
        let decided = self.decide(&parts, body).await;
        let edited = decided.and_then(|(permit, body)| edit(&mut parts, &permit).map(|()| (permit, body)));
        match edited {
            Ok((permit, body)) => {
                let decision = self.journal.record(0, permit.packed());
                parts.extensions.insert(Caller::of(&permit, decision));
                Ok(Request::from_parts(parts, body))
            }
            Err(denial) => {
                let decision = self.journal.record(denial.cause().number(), denial.packed());
                Err(denied(&parts, &denial, decision))
            }
        }
    }

    /// Asks the gate until it is known what is to be done: once, or again with the digest of the body.
    async fn decide<B>(&self, parts: &Parts, body: B) -> Result<(Permit, GatedBody<B>), Denial>
    where
        B: Body<Data = Bytes>,
    {
        let bodiless = body.is_end_stream();
        let (need, decision, head) = match self.ask_first(parts, bodiless)? {
            (Ruling::Permitted(permit), _) => return Ok((permit, GatedBody::passing(body))),
            (Ruling::Denied(denial), _) => return Err(denial),
            (Ruling::Seen, head) => return Err(self.replayed(&head, None)),
            // The gate knows that there is none, so that it asks for it breaks the contract.
            (Ruling::NeedBody(_, decision), _) if bodiless => {
                return Err(Denial::of_body(HostFault::NeedBody, &decision));
            }
            (Ruling::NeedBody(need, decision), head) => (need, decision, head),
        };
        let cap = u64::from(need.cap_bytes).min(self.signed_body_bytes);
        let read = body::read(body, need, cap, self.signed_body_idle, &self.held).await;
        let (whole, digest) = read.map_err(|fault| Denial::of_body(fault, &decision))?;
        match self.ask(&head, Some(&digest)) {
            Ruling::Permitted(permit) => Ok((permit, GatedBody::whole(whole))),
            Ruling::Denied(denial) => Err(denial),
            Ruling::NeedBody(_, decision) => Err(Denial::of_body(HostFault::NeedBody, &decision)),
            Ruling::Seen => Err(self.replayed(&head, Some(&digest))),
        }
    }

    fn ask_first(&self, parts: &Parts, bodiless: bool) -> Result<(Ruling, Box<[u8]>), Denial> {
        thread_local! {
            static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let peer = (self.peer)(&parts.extensions).ok_or_else(|| Denial::by_host(HostFault::PeerUnknown))?;
        PACKED.with_borrow_mut(|packed| {
            head::pack(parts, peer, bodiless, packed).map_err(Denial::of)?;
            let ruling = self.ask(packed, None);
            let again = matches!(ruling, Ruling::NeedBody(..) | Ruling::Seen);
            Ok((ruling, if again { packed.as_slice().into() } else { Box::default() }))
        })
    }

    fn ask(&self, head: &[u8], body_digest: Option<&[u8]>) -> Ruling {
        let now = (self.clock)();
        let decided = self.engine.decide(Question { body_digest, ..Question::new(head, now) });
        if let (Some(only), Ok(decision)) = (&self.service, &decided) {
            let service = decision.details().facts.service;
            // A head that is refused before it is routed leads nowhere; an allow always leads somewhere.
            let is_routed = !service.is_empty() || decision.verdict() == Verdict::Allow;
            if is_routed && service != &**only {
                return Ruling::Denied(Denial::instead(Reason::ServiceUnknown, decision));
            }
        }
        rule(decided, &self.replays, now)
    }

    /// The denial of a request that was accepted before.
    fn replayed(&self, head: &[u8], body_digest: Option<&[u8]>) -> Denial {
        let question = Question::new(head, (self.clock)());
        refuse_replay(self.engine.decide(Question { body_digest, replay: Some(ReplayAnswer::Seen), ..question }))
    }
}

/// The answer to a denied request, in a form that its sender understands.
fn denied(parts: &Parts, denial: &Denial, decision: DecisionId) -> Response<Bytes> {
    let mut response = answer::denied(denial, "", decision);
    if parts.version >= Version::HTTP_2 {
        // There is no such field (RFC 9113 section 8.2.2); one stream ends there, not the connection.
        response.headers_mut().remove(CONNECTION);
    }
    if is_grpc(parts) { as_grpc(response, denial.code()) } else { response }
}

fn is_grpc(parts: &Parts) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    parts.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(GRPC))
}

/// A denial as a client of gRPC understands it: an answer of headers alone, with the status in them.
fn as_grpc(denied: Response<Bytes>, code: &'static str) -> Response<Bytes> {
    let (mut parts, _) = denied.into_parts();
    let status = match parts.status.as_u16() {
        401 => "16",
        403 => "7",
        413 | 431 => "8",
        503 => "14",
        _ => "3",
    };
    parts.status = StatusCode::OK;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert("grpc-status", HeaderValue::from_static(status));
    parts.headers.insert("grpc-message", HeaderValue::from_static(code));
    Response::from_parts(parts, Bytes::new())
}
