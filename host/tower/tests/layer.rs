//! The layer in front of a service that tells what it got.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody};
use portcullis_engine::{Config, Engine};
use portcullis_model::decision::DecisionId;
use portcullis_model::fault::HostFault;
use portcullis_model::key_sheet::{Day, encode};
use portcullis_model::policy;
use portcullis_model::signing::signer::{Signer, Unsigned};
use portcullis_model::signing::{day_key, presets};
use portcullis_model::source::{SignatureProfile, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Reason;
use portcullis_tower::head::Peer;
use portcullis_tower::journal::Journal;
use portcullis_tower::layer::GatedBody;
use portcullis_tower::{Caller, GateLayer};
use sha2::{Digest as _, Sha256};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

const KEY: &str = "a-key-of-the-shop-0123456789";
const PAIR: &str = "the-pair";

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn profile() -> SignatureProfile {
    presets::escher("eu/shop/request")
}

/// Two services; in the first a key that may come in a header or a query, and a pair that signs.
fn source() -> Source {
    let all = serde_json::json!({ "endpoint": "shop/all" });
    let source = serde_json::json!({
        "format": 1, "revision": 1, "seed": "00000000000000000000000000000000",
        "installation": { "signature_profiles": [profile()] },
        "services": [
            { "id": "shop", "hosts": ["shop.example"], "endpoints": [{ "id": "all", "name": "All", "prefixes": ["/"] }],
              "accept": [{ "header": "X-API-Key", "kinds": ["tenant"] }, { "parameter": "key", "kinds": ["tenant"] },
                         { "signature": "escher", "kinds": ["workspace"] }] },
            { "id": "other", "hosts": ["other.example"], "endpoints": [{ "id": "all", "name": "All", "prefixes": ["/"] }] },
        ],
        "tenants": [{ "id": "acme", "modules": ["signature_check"],
                      "endpoints": [{ "endpoint": "shop/all", "replay": "once" }] }],
        "groups": [{ "id": "all", "tenant": "acme", "permissions": [all, { "endpoint": "other/all" }] }],
        "credentials": [
            { "id": "k1", "tenant": "acme", "kind": "tenant", "group": "all",
              "secrets": [{ "version": 1, "sha256": hex(KEY) }] },
            { "id": "p1", "tenant": "acme", "kind": "workspace", "signature_profile": "escher", "signed_only": true,
              "secrets": [{ "version": 1, "sha256": hex(PAIR), "signing_slot": 3 }] },
        ],
    });
    Source::from_json(source.to_string().as_bytes()).unwrap()
}

fn engine_with(config: &Config) -> Arc<Engine> {
    // The compiled component is kept between tests.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tower-cache");
    let engine = Engine::new(&Config { cache: Some(cache), ..config.clone() }).unwrap();
    engine.load(policy::build(&source()).unwrap().into()).unwrap();
    let day = Day::of(now());
    engine.load_keys(&encode(day, 3, &[day_key(&profile(), b"secret", day)]).unwrap()).unwrap();
    engine.confirm(now());
    Arc::new(engine)
}

fn engine() -> Arc<Engine> {
    engine_with(&Config { workers: NonZeroUsize::MIN, ..Config::default() })
}

/// What the inner service got.
#[derive(Debug, Default)]
struct Got {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    caller: Option<Caller>,
}

/// What was recorded, by number.
#[derive(Default)]
struct Recorded(Mutex<Vec<u16>>);

impl Journal for Recorded {
    fn record(&self, reason: u16, _details: &[u8]) -> DecisionId {
        let mut all = self.0.lock().unwrap();
        all.push(reason);
        DecisionId(all.len().try_into().unwrap())
    }
}

struct House {
    layer: GateLayer,
    recorded: Arc<Recorded>,
    got: Arc<Mutex<Option<Got>>>,
}

impl House {
    fn new() -> House {
        House::of(GateLayer::new(engine()))
    }

    fn of(layer: GateLayer) -> House {
        let recorded = Arc::new(Recorded::default());
        let layer = layer.clock(now).journal(Arc::clone(&recorded) as Arc<dyn Journal>);
        House { layer, recorded, got: Arc::default() }
    }

    async fn send<B>(&self, mut request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        request.extensions_mut().insert(Peer { address: "192.0.2.1".parse().unwrap(), secure: true });
        self.send_as_it_is(request).await
    }

    async fn send_as_it_is<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let got = Arc::clone(&self.got);
        let inner = service_fn(move |request: Request<GatedBody<B>>| {
            let got = Arc::clone(&got);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let caller = parts.extensions.get().cloned();
                *got.lock().unwrap() = Some(Got { uri: parts.uri, headers: parts.headers, body, caller });
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"served"))))
            }
        });
        let response = ServiceBuilder::new().layer(self.layer.clone()).service(inner).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    fn got(&self) -> Option<Got> {
        self.got.lock().unwrap().take()
    }

    async fn denies<B>(&self, request: Request<B>, status: u16, code: &str, number: u16)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let response = self.send(request).await;
        self.denied(&response, status, code, number);
    }

    #[track_caller]
    fn denied(&self, response: &Response<Bytes>, status: u16, code: &str, number: u16) {
        assert_eq!(response.status().as_u16(), status, "{response:?}");
        let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(problem["code"], code);
        assert_eq!(problem["decision"], response.headers()["x-portcullis-decision"].to_str().unwrap());
        assert_eq!(self.recorded.0.lock().unwrap().last(), Some(&number));
        assert!(self.got().is_none(), "nothing gets through");
    }
}

fn get(target: &str) -> http::request::Builder {
    Request::get(target).header("host", "shop.example")
}

fn empty(builder: http::request::Builder) -> Request<Full<Bytes>> {
    builder.body(Full::default()).unwrap()
}

/// A request with the pair's signature over a body.
fn signed(body: &[u8]) -> http::request::Builder {
    let request = Unsigned { method: "POST", target: "/orders", host: "shop.example", headers: &[], body };
    let signed = Signer { profile: &profile(), key_id: PAIR, secret: b"secret" }.sign(&request, &[], now());
    signed.added.iter().fold(Request::post("/orders"), |builder, (name, value)| builder.header(name, value))
}

#[tokio::test]
async fn a_key_in_a_header_opens_and_stays_outside() {
    let house = House::new();
    let request = get("/orders?a=%41").header("x-api-key", KEY).header("x-portcullis-tenant", "forged");
    let response = house.send(empty(request.header("x-portcullis-anything", "forged"))).await;
    assert_eq!((response.status(), &response.body()[..]), (StatusCode::OK, &b"served"[..]));
    let got = house.got().unwrap();
    assert_eq!(got.uri, "/orders?a=%41");
    assert!(!got.headers.contains_key("x-api-key") && !got.headers.contains_key("x-portcullis-anything"));
    assert_eq!(got.headers["x-portcullis-tenant"], "acme");
    assert_eq!(got.headers["x-portcullis-credential"], "k1");
    assert_eq!(got.headers["x-portcullis-endpoint"], "shop/all");
    let caller = got.caller.unwrap();
    let is = (caller.tenant.as_str(), caller.credential.as_str(), caller.kind, caller.endpoint.as_str());
    assert_eq!(is, ("acme", "k1", "tenant", "shop/all"));
    assert_eq!(caller.decision, DecisionId(1));
    assert!(!format!("{:?} {:?} {:?}", got.headers, caller, house.layer).contains(KEY));
    assert_eq!(*house.recorded.0.lock().unwrap(), [0]);
}

#[tokio::test]
async fn a_key_in_the_query_is_cut_out() {
    let house = House::new();
    let response = house.send(empty(get(&format!("/orders?a=1&key={KEY}&b=2")))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(house.got().unwrap().uri, "/orders?a=1&b=2");
}

#[tokio::test]
async fn what_is_not_allowed_is_answered_here() {
    let house = House::new();
    house.denies(empty(get("/orders")), 401, "unauthorized", Reason::CredentialMissing.number()).await;
    let unknown = get("/orders").header("x-api-key", "another");
    house.denies(empty(unknown), 401, "unauthorized", Reason::CredentialUnknown.number()).await;
    let twice = get("/orders").header("x-api-key", KEY).header("x-api-key", KEY);
    let response = house.send(empty(twice)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["connection"], "close");
    assert!(house.got().is_none());
    let challenge = house.send(empty(get("/orders"))).await;
    assert!(challenge.headers().contains_key("www-authenticate"));
}

#[tokio::test]
async fn framing_that_can_be_read_in_two_ways_is_refused() {
    let house = House::new();
    let with = |name: &str, value: &str| empty(get("/orders").header("x-api-key", KEY).header(name, value));
    let malformed = Reason::HeaderMalformed.number();
    house.denies(with("transfer-encoding", "gzip, chunked"), 400, "bad_header", malformed).await;
    house.denies(with("content_length", "3"), 400, "bad_header", Reason::HeaderUnderscore.number()).await;
}

#[tokio::test]
async fn a_peer_that_nobody_knows_is_denied() {
    let house = House::new();
    let response = house.send_as_it_is(empty(get("/orders").header("x-api-key", KEY))).await;
    house.denied(&response, 503, "unavailable", HostFault::PeerUnknown.number());
}

#[tokio::test]
async fn another_service_than_the_pinned_one_is_none() {
    let request = || Request::get("/").header("host", "other.example").header("x-api-key", KEY);
    let house = House::new();
    assert_eq!(house.send(empty(request())).await.status(), StatusCode::OK);
    let house = House::of(GateLayer::new(engine()).service("shop"));
    house.denies(empty(request()), 403, "no_such_endpoint", Reason::ServiceUnknown.number()).await;
    assert_eq!(house.send(empty(get("/").header("x-api-key", KEY))).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_signed_body_goes_on_byte_for_byte() {
    let house = House::new();
    let body = b"{\"order\": 17}\r\n\0".repeat(10_000);
    let pieces: Vec<_> =
        body.chunks(1000).map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    let request = signed(&body).body(StreamBody::new(Pieces(pieces.into_iter()))).unwrap();
    assert_eq!(house.send(request).await.status(), StatusCode::OK);
    let got = house.got().unwrap();
    assert_eq!(got.body, body);
    assert!(!got.headers.contains_key("x-escher-auth") && got.caller.unwrap().credential == "p1");
}

/// Frames of a body, one after the other.
struct Pieces<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Pieces<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[tokio::test]
async fn a_body_that_is_not_the_signed_one_is_denied() {
    let house = House::new();
    let other = signed(b"a body").body(Full::from(&b"a Body"[..])).unwrap();
    house.denies(other, 401, "unauthorized", Reason::SignatureMismatch.number()).await;
    let frames =
        [Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"a body"))), Ok(Frame::trailers(HeaderMap::new()))];
    let trailers = signed(b"a body").body(StreamBody::new(Pieces(frames.into_iter()))).unwrap();
    house.denies(trailers, 400, "bad_body", HostFault::BodyTrailers.number()).await;
    let frames = [Ok(Frame::data(Bytes::from_static(b"a "))), Err(std::io::Error::other("gone"))];
    let broken = signed(b"a body").body(StreamBody::new(Pieces(frames.into_iter()))).unwrap();
    house.denies(broken, 400, "bad_body", HostFault::BodyBroken.number()).await;
}

#[tokio::test]
async fn a_signed_body_has_a_longest() {
    let house = House::of(GateLayer::new(engine()).signed_body_bytes(10));
    let of = |bytes: usize| signed(&vec![7; bytes]).body(Full::from(vec![7; bytes])).unwrap();
    assert_eq!(house.send(of(10)).await.status(), StatusCode::OK);
    house.got();
    house.denies(of(11), 413, "body_too_large", HostFault::BodyTooLarge.number()).await;
    let frames = (0..11).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"\x07"))));
    let unannounced = signed(&[7; 11]).body(StreamBody::new(Pieces(frames))).unwrap();
    house.denies(unannounced, 413, "body_too_large", HostFault::BodyTooLarge.number()).await;
}

#[tokio::test]
async fn a_signed_request_passes_once() {
    let house = House::new();
    let request = || signed(b"a body").body(Full::from(&b"a body"[..])).unwrap();
    assert_eq!(house.send(request()).await.status(), StatusCode::OK);
    house.got();
    house.denies(request(), 401, "unauthorized", Reason::SignatureReplayed.number()).await;
}

#[tokio::test]
async fn a_sandbox_that_fails_denies() {
    // No decision ends within a tick that has passed.
    let config = Config { workers: NonZeroUsize::MIN, decide_deadline: Duration::ZERO, ..Config::default() };
    let house = House::of(GateLayer::new(engine_with(&config)));
    let large = "x".repeat(50_000);
    for _ in 0..2000 {
        let request = get("/orders").header("x-api-key", KEY).header("x-filler", &large);
        let response = house.send(empty(request)).await;
        let recorded = *house.recorded.0.lock().unwrap().last().unwrap();
        if response.status() == StatusCode::OK {
            assert_eq!(recorded, 0);
        } else {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(recorded >= HostFault::Trapped.number());
            return;
        }
    }
    panic!("no decision out of 2000 was cut off");
}

#[tokio::test]
async fn a_client_of_grpc_is_answered_in_its_form() {
    let house = House::new();
    for (key, status) in [("another", "16"), (KEY, "")] {
        let request = Request::post("/shop.Orders/List").header("host", "shop.example");
        let request = request.header("content-type", "application/grpc+proto").header("x-api-key", key);
        let response = house.send(request.body(Full::<Bytes>::default()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        if status.is_empty() {
            assert_eq!(&response.body()[..], b"served");
        } else {
            assert_eq!(response.headers()["grpc-status"], status);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            assert!(response.headers().contains_key("x-portcullis-decision") && response.body().is_empty());
            assert!(house.got().is_none());
        }
    }
}
