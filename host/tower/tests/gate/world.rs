//! A guarded service that takes note of what it gets, and a journal that takes note of what was decided.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock};

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use portcullis_engine::{Config, Engine};
use portcullis_model::decision::DecisionId;
use portcullis_model::key_sheet::{Day, encode};
use portcullis_model::policy::build;
use portcullis_model::signing::{day_key, presets};
use portcullis_model::source::{SignatureProfile, Source};
use portcullis_model::time::UnixTime;
use portcullis_tower::GateLayer;
use portcullis_tower::gated::GatedBody;
use portcullis_tower::head::Peer;
use portcullis_tower::journal::{Journal, Unrecorded};
use serde_json::Value;
use tower::{Layer as _, ServiceExt as _, service_fn};

/// The key of a tenant.
pub(crate) const KEY: &str = "k";
/// The key of a workspace, which also signs.
pub(crate) const PAIR: &str = "pair";
/// What it signs with.
pub(crate) const SECRET: &[u8] = b"secret";

/// Two services, a tenant, and keys by their SHA-256.
const SOURCE: &str = r#"{
    "format": 1, "revision": 1, "seed": "000102030405060708090a0b0c0d0e0f",
    "services": [
        {"id": "shop", "hosts": ["api.example"],
         "accept": [
            {"header": "X-API-Key", "kinds": ["tenant"]},
            {"parameter": "api_key", "kinds": ["workspace"]},
            {"signature": "escher", "kinds": ["workspace"]}],
         "endpoints": [
            {"id": "events", "paths": ["/events"]},
            {"id": "secrets", "paths": ["/secrets"]},
            {"id": "once", "paths": ["/once"]}]},
        {"id": "other", "hosts": ["other.example"], "endpoints": [{"id": "events", "paths": ["/events"]}]}],
    "tenants": [{"id": "acme", "modules": ["signature_check"],
        "endpoints": [{"endpoint": "shop/once", "signature": "enforced", "replay": "once"}]}],
    "groups": [{"id": "all", "tenant": "acme", "permissions": [
        {"endpoint": "shop/events"}, {"endpoint": "other/events"}]}],
    "credentials": [
        {"id": "key", "tenant": "acme", "kind": "tenant", "group": "all", "secrets": [
            {"version": 1, "sha256": "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"}]},
        {"id": "signer", "tenant": "acme", "kind": "workspace", "signature_profile": "escher", "secrets": [
            {"version": 1, "signing_slot": 3, "sha256": "47d8bd46877831ccd61c1cfac962cd4143bc818c7d5fd0989de4f061ce60351e"}]}]
}"#;

pub(crate) fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

pub(crate) fn profile() -> SignatureProfile {
    presets::escher("eu/shop/request")
}

pub(crate) fn peer() -> Peer {
    Peer { address: "192.0.2.1".parse().unwrap(), secure: true }
}

/// An engine with the policy and the keys of the day.
pub(crate) fn load(config: &Config) -> Arc<Engine> {
    let mut source = Source::from_json(SOURCE.as_bytes()).unwrap();
    source.installation.signature_profiles = vec![profile()];
    let engine = Engine::new(config).unwrap();
    engine.load(build(&source).unwrap().into()).unwrap();
    let day = Day::of(now());
    engine.load_keys(&encode(day, 3, &[day_key(&profile(), SECRET, day)]).unwrap()).unwrap();
    engine.confirm(now());
    Arc::new(engine)
}

/// One that nobody changes, for all tests.
fn engine() -> Arc<Engine> {
    static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
    Arc::clone(ENGINE.get_or_init(|| load(&Config { workers: NonZeroUsize::MIN, ..Config::default() })))
}

/// What a guarded service got.
pub(crate) struct Got {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answered {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        let document: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(self.field("content-type"), "application/problem+json");
        assert_eq!(document["decision"], self.field("x-portcullis-decision"));
        document["code"].as_str().unwrap().to_owned()
    }
}

/// The numbers of the reasons that were recorded, 0 for an allow.
#[derive(Default)]
pub(crate) struct Recorded {
    ids: Unrecorded,
    pub(crate) reasons: Mutex<Vec<u16>>,
}

impl Journal for Recorded {
    fn record(&self, reason: u16, details: &[u8]) -> DecisionId {
        self.reasons.lock().unwrap().push(reason);
        self.ids.record(reason, details)
    }
}

/// A gate and what is around it.
pub(crate) struct World {
    pub(crate) layer: GateLayer,
    pub(crate) journal: Arc<Recorded>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl World {
    pub(crate) fn new() -> World {
        World::around(engine())
    }

    pub(crate) fn around(engine: Arc<Engine>) -> World {
        let journal = Arc::new(Recorded::default());
        let layer = GateLayer::new(engine).clock(now).journal(Arc::clone(&journal) as Arc<dyn Journal>);
        World { layer, journal, got: Arc::default() }
    }

    pub(crate) fn with(self, change: impl FnOnce(GateLayer) -> GateLayer) -> World {
        World { layer: change(self.layer), ..self }
    }

    /// Sends a request through the gate.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answered {
        let got = Arc::clone(&self.got);
        let inner = service_fn(move |request: Request<GatedBody<Body>>| {
            let got = Arc::clone(&got);
            async move {
                let (parts, body) = request.into_parts();
                let collected = body.collect().await.unwrap();
                let trailers = collected.trailers().cloned();
                got.lock().unwrap().push(Got { parts, body: collected.to_bytes(), trailers });
                Ok::<_, Infallible>(Response::new(Body::from("served")))
            }
        });
        let Ok(response) = self.layer.layer(inner).oneshot(request).await;
        read(response).await
    }

    /// What the service got since this was last asked.
    pub(crate) fn got(&self) -> Vec<Got> {
        std::mem::take(&mut self.got.lock().unwrap())
    }

    pub(crate) fn recorded(&self) -> Vec<u16> {
        std::mem::take(&mut self.journal.reasons.lock().unwrap())
    }
}

pub(crate) async fn read<B>(response: Response<B>) -> Answered
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answered { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// A request from a peer that is known.
pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.extension(peer()).body(body.into()).unwrap()
}
