//! Requests with a signature over their body.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use portcullis_model::fault::HostFault;
use portcullis_model::signing::signer::{Signer, Unsigned};
use portcullis_model::verdict::Reason;
use portcullis_tower::Caller;
use tower::{Layer as _, ServiceExt as _};

use crate::world::{PAIR, SECRET, World, now, profile, read, request};

/// The fields of a request that is signed over a body.
fn fields(target: &str, body: &str) -> Vec<(String, String)> {
    let unsigned = Unsigned { method: "POST", target, host: "api.example", headers: &[], body: body.as_bytes() };
    let profile = profile();
    Signer { profile: &profile, key_id: PAIR, secret: SECRET }.sign(&unsigned, &[], now()).added
}

/// A request that is signed over its body, with more fields.
pub(crate) fn signed(target: &str, body: &str, more: &[(&str, &str)]) -> Request<Body> {
    with_body(target, body, Body::from(body.to_owned()), more)
}

/// One that is signed over `over` and brings another body.
fn with_body(target: &str, over: &str, body: Body, more: &[(&str, &str)]) -> Request<Body> {
    let fields = fields(target, over);
    let mut all: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    all.extend(more);
    request("POST", target, &all, body)
}

#[tokio::test]
async fn a_signed_body_reaches_a_handler_of_axum_whole() {
    let world = World::new();
    let got = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&got);
    let handler = async move |caller: axum::Extension<Caller>, headers: HeaderMap, body: Bytes| {
        noted.lock().unwrap().push((caller.0, headers, body.clone()));
        body
    };
    let app = world.layer.layer(Router::new().route("/events", post(handler)));
    let Ok(response) = app.oneshot(signed("/events", r#"{"n":1}"#, &[])).await;
    let answered = read(response).await;
    assert_eq!((answered.status, &answered.body[..]), (200, &br#"{"n":1}"#[..]));
    let got = got.lock().unwrap();
    let [(caller, headers, body)] = &got[..] else { panic!("one request") };
    assert_eq!((&*caller.credential, caller.kind, &body[..]), ("signer", "workspace", &br#"{"n":1}"#[..]));
    assert!(!format!("{headers:?}").contains("Signature"), "{headers:?}");
}

#[tokio::test]
async fn another_body_than_the_signed_one_is_denied() {
    let world = World::new();
    let answered = world.send(with_body("/events", "signed", Body::from("other!"), &[])).await;
    assert_eq!((answered.status, &*answered.code()), (401, "unauthorized"));
    assert_eq!(world.recorded(), [Reason::SignatureMismatch.number()]);
    assert!(world.got().is_empty());
}

#[tokio::test]
async fn a_body_is_read_up_to_the_cap() {
    let world = World::new().with(|layer| layer.signed_body_bytes(4));
    assert_eq!(world.send(signed("/events", "four", &[])).await.status, 200);
    assert_eq!(world.got()[0].body, "four");
    for announced in [true, false] {
        // One that says how long it is, and one that comes in pieces.
        let pieces = Full::new(Bytes::from("five!")).map_frame(|frame| frame);
        let body = if announced { Body::from("five!") } else { Body::new(pieces) };
        let answered = world.send(with_body("/events", "five!", body, &[])).await;
        assert_eq!((answered.status, &*answered.code()), (413, "body_too_large"));
        assert_eq!(answered.field("connection"), "close");
    }
    assert_eq!(world.recorded(), [0, HostFault::BodyTooLarge.number(), HostFault::BodyTooLarge.number()]);
    assert!(world.got().is_empty());
}

#[tokio::test]
async fn a_signed_body_with_trailers_is_refused() {
    let world = World::new();
    let trailers =
        async { Some(Ok::<_, Infallible>(HeaderMap::from_iter([("x-more".parse().unwrap(), "1".parse().unwrap())]))) };
    let body = Body::new(Full::new(Bytes::from("body")).with_trailers(trailers));
    assert_eq!(world.send(with_body("/events", "body", body, &[])).await.status, 400);
    assert_eq!(world.recorded(), [HostFault::BodyTrailers.number()]);
}

#[tokio::test]
async fn a_signed_body_that_stands_still_is_given_up() {
    struct Still;
    impl http_body::Body for Still {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            std::task::Poll::Pending
        }
    }
    let world = World::new().with(|layer| layer.signed_body_idle(Duration::from_millis(1)));
    let answered = world.send(with_body("/events", "body", Body::new(Still), &[])).await;
    assert_eq!((answered.status, &*answered.code()), (408, "body_timeout"));
    assert_eq!(world.recorded(), [HostFault::BodyTimeout.number()]);
}

#[tokio::test]
async fn a_request_that_is_accepted_once_is_refused_when_it_comes_again() {
    let world = World::new();
    for body in ["", "body"] {
        assert_eq!(world.send(signed("/once", body, &[])).await.status, 200, "{body}");
        let answered = world.send(signed("/once", body, &[])).await;
        assert_eq!((answered.status, &*answered.code()), (401, "unauthorized"), "{body}");
        assert_eq!(world.recorded(), [0, Reason::SignatureReplayed.number()]);
        assert_eq!(world.got().len(), 1);
    }
    // What a clone accepted is known to all of them.
    let clone = World::new().with(|_| world.layer.clone());
    assert_eq!(clone.send(signed("/once", "body", &[])).await.status, 401);
}
