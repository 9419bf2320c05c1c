//! What a guarded service gets.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use portcullis_tower::Caller;
use tower::{Layer as _, service_fn};

use crate::world::{Got, KEY, PAIR, World, request};

const HOST: (&str, &str) = ("host", "api.example");

/// Everything that the service could find a credential in.
fn everything(got: &Got) -> String {
    format!("{:?} {:?} {:?}", got.parts, got.body, got.parts.extensions.get::<Caller>())
}

#[tokio::test]
async fn a_key_in_a_field_is_taken_out_and_who_was_proven_put_in() {
    let world = World::new();
    let fields = [HOST, ("x-api-key", KEY), ("x-kept", "1"), ("content-length", "4")];
    let answered = world.send(request("POST", "/events?a=%7e&b", &fields, "body")).await;
    assert_eq!((answered.status, &answered.body[..]), (200, &b"served"[..]));
    let [got] = &world.got()[..] else { panic!("one request") };
    assert_eq!(got.parts.uri, "/events?a=%7e&b");
    let set = ["x-portcullis-tenant", "x-portcullis-credential", "x-portcullis-kind", "x-portcullis-endpoint"];
    let values = set.map(|name| got.parts.headers[name].to_str().unwrap());
    assert_eq!(values, ["acme", "key", "tenant", "shop/events"]);
    assert_eq!(got.parts.headers.len(), 3 + set.len(), "{:?}", got.parts.headers);
    assert_eq!(&got.body[..], b"body");
    let caller = got.parts.extensions.get::<Caller>().unwrap();
    assert_eq!((&*caller.tenant, &*caller.credential, caller.kind), ("acme", "key", "tenant"));
    assert_eq!(caller.endpoint, "shop/events");
    assert_eq!(world.recorded(), [0]);
}

#[tokio::test]
async fn a_key_in_the_query_is_taken_out_and_the_rest_stays() {
    let world = World::new();
    for (target, left) in [
        ("/events?a=1&api_key=pair&b=%41", "/events?a=1&b=%41"),
        ("/events?api_key=pair", "/events"),
        ("http://api.example/events?api_key=pair&c", "http://api.example/events?c"),
    ] {
        assert_eq!(world.send(request("GET", target, &[HOST], Body::empty())).await.status, 200, "{target}");
        let [got] = &world.got()[..] else { panic!("one request") };
        assert_eq!(got.parts.uri, left);
        assert!(!everything(got).contains(PAIR), "{}", everything(got));
    }
}

#[tokio::test]
async fn nobody_but_the_gate_says_who_was_proven() {
    let world = World::new();
    let forged = [HOST, ("x-api-key", KEY), ("x-portcullis-tenant", "globex"), ("x-portcullis-more", "1")];
    let mut forger = request("GET", "/events", &forged, Body::empty());
    let other = Caller { tenant: "globex".to_owned(), ..some_caller(&world).await };
    forger.extensions_mut().insert(other);
    assert_eq!(world.send(forger).await.status, 200);
    let [got] = &world.got()[..] else { panic!("one request") };
    let tenants: Vec<_> = got.parts.headers.get_all("x-portcullis-tenant").iter().collect();
    assert_eq!(tenants, ["acme"]);
    assert!(!got.parts.headers.contains_key("x-portcullis-more"));
    assert_eq!(got.parts.extensions.get::<Caller>().unwrap().tenant, "acme");
}

async fn some_caller(world: &World) -> Caller {
    world.send(request("GET", "/events", &[HOST, ("x-api-key", KEY)], Body::empty())).await;
    world.got().pop().unwrap().parts.extensions.remove().unwrap()
}

#[tokio::test]
async fn nor_does_anybody_in_trailers() {
    let world = World::new();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-portcullis-tenant", "globex".parse().unwrap());
    trailers.insert("x-checksum", "1".parse().unwrap());
    let body = Full::new(Bytes::from("body")).with_trailers(async { Some(Ok(trailers)) });
    let sent = request("POST", "/events", &[HOST, ("x-api-key", KEY)], Body::new(body));
    assert_eq!(world.send(sent).await.status, 200);
    let [got] = &world.got()[..] else { panic!("one request") };
    let kept: Vec<_> = got.trailers.as_ref().unwrap().keys().map(|name| name.as_str()).collect();
    assert_eq!((&got.body[..], kept), (&b"body"[..], vec!["x-checksum"]));
}

#[tokio::test]
async fn a_service_that_is_not_ready_is_waited_for() {
    let world = World::new();
    let ready = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let gated = world.layer.layer(Readiness { asked: ready.clone(), is_ready: false });
    let answered = tower::ServiceExt::oneshot(gated, request("GET", "/events", &[HOST, ("x-api-key", KEY)], "")).await;
    assert_eq!(answered.unwrap().status(), 200);
    assert_eq!(ready.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// A service whose clones are not ready, and that must not be called before it is.
struct Readiness {
    asked: std::sync::Arc<std::sync::atomic::AtomicU32>,
    is_ready: bool,
}

impl Clone for Readiness {
    fn clone(&self) -> Self {
        Readiness { asked: self.asked.clone(), is_ready: false }
    }
}

impl<B> tower::Service<http::Request<B>> for Readiness {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.is_ready = true;
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<B>) -> Self::Future {
        assert!(self.is_ready, "it was called before it was ready");
        std::future::ready(Ok(http::Response::new(Body::empty())))
    }
}

#[tokio::test]
async fn what_is_printed_of_a_gate_holds_no_secret() {
    let world = World::new();
    let gated = world.layer.layer(service_fn(async |_: http::Request<Body>| Ok::<_, ()>(http::Response::new(()))));
    let printed = format!("{:?} {:?} {:?}", world.layer, gated, some_caller(&world).await);
    assert!(printed.contains("GateLayer") && printed.contains("Gated") && printed.contains("acme"));
    for secret in ["8254c329", "secret", "api_key"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
