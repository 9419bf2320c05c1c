//! The gate as a [`Layer`]: in front of services of axum, tonic and hyper.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Extensions, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Either, Full};
use portcullis_engine::{Engine, Request as Question};
use portcullis_model::decision::DecisionId;
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{NeedBody, Reason};
use tower_layer::Layer;
use tower_service::Service;

use crate::body::BodyDigest;
use crate::enforce::{Denial, HostFault, Permit, Ruling, refuse_replay, rule};
use crate::head::{self, Peer};
use crate::journal::{Journal, Unrecorded};
use crate::replays::{self, Replays};
use crate::{answer, edit};

/// The longest body in bytes that is read whole for its signature, unless a [`GateLayer`] says otherwise.
pub const SIGNED_BODY_BYTES: u64 = 8 << 20;

/// The body that the inner service gets, and that the outer one answers with: as it came, or whole.
pub type GatedBody<B> = Either<Full<Bytes>, B>;

/// Puts the gate in front of a service. A request that is not allowed never gets there.
///
/// What goes on lacks the credential, bears `X-Portcullis-Tenant`, `-Credential`, `-Kind` and `-Endpoint`, and has a
/// [`Caller`] among its extensions. What does not is answered with a problem document, or to a client of gRPC in its form.
/// Streams that have begun are not cut when their credential is revoked.
#[derive(Clone)]
pub struct GateLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    clock: fn() -> UnixTime,
    peer: fn(&Extensions) -> Option<Peer>,
    journal: Arc<dyn Journal>,
    replays: Arc<Replays>,
    service: Option<Arc<str>>,
    signed_body_bytes: u64,
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
            clock: system_time,
            peer: |extensions| extensions.get().copied(),
            journal: Arc::new(Unrecorded::default()),
            replays: Arc::new(Replays::new(replays::MAX_ENTRIES)),
            service: None,
            signed_body_bytes: SIGNED_BODY_BYTES,
        };
        GateLayer { shared: Arc::new(shared) }
    }

    /// Where a request's peer is to be found. A request without one is denied.
    #[must_use]
    pub fn peer(self, peer: fn(&Extensions) -> Option<Peer>) -> GateLayer {
        self.with(|shared| shared.peer = peer)
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
    pub fn clock(self, clock: fn() -> UnixTime) -> GateLayer {
        self.with(|shared| shared.clock = clock)
    }

    /// The longest body that is read whole because a signature is over it; a longer one is answered with 413.
    #[must_use]
    pub fn signed_body_bytes(self, most: u64) -> GateLayer {
        self.with(|shared| shared.signed_body_bytes = most)
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

impl<S, B, R> Service<Request<B>> for Gated<S>
where
    S: Service<Request<GatedBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    R: Body<Data = Bytes>,
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
            let (mut parts, body) = request.into_parts();
            let is_grpc = is_grpc(&parts);
            let outcome = shared.decide(&parts, body).await;
            let denied = match outcome {
                Ok((permit, body)) => {
                    let decision = shared.journal.record(0, permit.packed());
                    match admit(&mut parts, &permit, decision) {
                        Ok(()) => return Ok(inner.call(Request::from_parts(parts, body)).await?.map(Either::Right)),
                        Err(edit::BadEdit) => {
                            answer::problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "", decision)
                        }
                    }
                }
                Err(denial) => {
                    let decision = shared.journal.record(denial.cause().number(), denial.packed());
                    answer::denied(&denial, "", decision)
                }
            };
            let denied = if is_grpc { as_grpc(denied) } else { denied };
            Ok(denied.map(|body| Either::Left(Full::new(body))))
        })
    }
}

/// Does what the allow says with the head.
fn admit(parts: &mut Parts, permit: &Permit, decision: DecisionId) -> Result<(), edit::BadEdit> {
    let details = permit.details();
    edit::fields(&mut parts.headers, &details)?;
    edit::uri(&mut parts.uri, &details)?;
    let credential = details.facts.credential;
    parts.extensions.insert(Caller {
        tenant: details.facts.tenant.to_owned(),
        credential: credential.map(|credential| credential.id.to_owned()).unwrap_or_default(),
        kind: credential.map(|credential| credential.kind.as_str()).unwrap_or_default(),
        endpoint: details.facts.endpoint.to_owned(),
        decision,
    });
    Ok(())
}

impl Shared {
    /// Asks the gate until it is known what is to be done: once, or again with the digest of the body.
    async fn decide<B>(&self, parts: &Parts, body: B) -> Result<(Permit, GatedBody<B>), Denial>
    where
        B: Body<Data = Bytes>,
    {
        let bodiless = body.is_end_stream();
        let (need, head) = match self.ask_first(parts, bodiless)? {
            (Ruling::Permitted(permit), _) => return Ok((permit, Either::Right(body))),
            (Ruling::Denied(denial), _) => return Err(denial),
            (Ruling::Seen, head) => return Err(self.replayed(&head, None)),
            // The gate knows that there is none, so that it asks for it breaks the contract.
            (Ruling::NeedBody(_, decision), _) if bodiless => {
                return Err(Denial::of_body(HostFault::NeedBody, &decision));
            }
            (Ruling::NeedBody(need, decision), head) => ((need, decision), head),
        };
        let (need, decision) = need;
        let (whole, digest) = self.read(body, need).await.map_err(|fault| Denial::of_body(fault, &decision))?;
        match self.ask(&head, Some(&digest)) {
            Ruling::Permitted(permit) => Ok((permit, Either::Left(Full::new(whole)))),
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
            if !service.is_empty() && service != &**only {
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

    /// Reads a body whole and leads to it and its digest.
    async fn read<B: Body<Data = Bytes>>(&self, body: B, need: NeedBody) -> Result<(Bytes, Vec<u8>), HostFault> {
        let cap = u64::from(need.cap_bytes).min(self.signed_body_bytes);
        if body.size_hint().lower() > cap {
            return Err(HostFault::BodyTooLarge);
        }
        let mut body = pin!(body);
        let mut digest = BodyDigest::new(need.algorithm);
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let data = frame.map_err(|_| HostFault::BodyBroken)?.into_data().map_err(|_| HostFault::BodyTrailers)?;
            let length = u64::try_from(whole.len().saturating_add(data.len())).unwrap_or(u64::MAX);
            if length > cap {
                return Err(HostFault::BodyTooLarge);
            }
            digest.update(&data);
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), digest.finish()))
    }
}

fn system_time() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A time that cannot be written is one at which every policy is stale.
    UnixTime::from_secs(since.as_secs()).unwrap_or(UnixTime::MAX)
}

fn is_grpc(parts: &Parts) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    parts.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(GRPC))
}

/// A denial as a client of gRPC understands it: an answer of headers alone, with the status in them.
fn as_grpc(denied: Response<Bytes>) -> Response<Bytes> {
    let (mut parts, _) = denied.into_parts();
    let (code, message) = match parts.status.as_u16() {
        401 => ("16", "unauthenticated"),
        403 => ("7", "permission denied"),
        413 | 431 => ("8", "resource exhausted"),
        404 | 405 => ("12", "unimplemented"),
        503 => ("14", "unavailable"),
        _ => ("3", "invalid argument"),
    };
    parts.status = StatusCode::OK;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert("grpc-status", HeaderValue::from_static(code));
    parts.headers.insert("grpc-message", HeaderValue::from_static(message));
    Response::from_parts(parts, Bytes::new())
}
