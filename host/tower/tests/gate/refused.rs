//! What a guarded service never gets.

use std::num::NonZeroUsize;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Version};
use portcullis_engine::Config;
use portcullis_model::fault::HostFault;
use portcullis_model::verdict::Reason;
use portcullis_tower::head::Peer;

use crate::world::{KEY, World, load, peer, request};

const HOST: (&str, &str) = ("host", "api.example");

fn asking(fields: &[(&str, &str)]) -> Request<Body> {
    request("GET", "/events", &[&[HOST], fields].concat(), Body::empty())
}

#[tokio::test]
async fn a_denial_is_answered_with_a_problem_and_recorded() {
    let world = World::new();
    let nowhere = [("host", "nowhere.example"), ("x-api-key", KEY)];
    for (request, status, code, reason) in [
        (asking(&[]), 401, "unauthorized", Reason::CredentialMissing),
        (asking(&[("x-api-key", "wrong")]), 401, "unauthorized", Reason::CredentialUnknown),
        (
            request("GET", "/secrets", &[HOST, ("x-api-key", KEY)], Body::empty()),
            403,
            "forbidden",
            Reason::GroupLacksEndpoint,
        ),
        (request("GET", "/events", &nowhere, Body::empty()), 403, "no_such_endpoint", Reason::ServiceUnknown),
        (asking(&[("content_length", "1")]), 400, "bad_header", Reason::HeaderUnderscore),
    ] {
        let answered = world.send(request).await;
        assert_eq!((answered.status, &*answered.code()), (status, code), "{reason}");
        assert_eq!(world.recorded(), [reason.number()], "{reason}");
        assert_eq!(answered.field("www-authenticate").is_empty(), status != 401, "{answered:?}");
        assert_eq!(answered.field("connection"), if status == 400 { "close" } else { "" });
    }
    assert!(world.got().is_empty());
}

#[tokio::test]
async fn a_request_of_which_nobody_says_where_it_comes_from_is_denied() {
    let world = World::new();
    let mut request = asking(&[("x-api-key", KEY)]);
    request.extensions_mut().remove::<Peer>();
    let answered = world.send(request).await;
    assert_eq!((answered.status, &*answered.code()), (503, "unavailable"));
    assert_eq!(world.recorded(), [HostFault::PeerUnknown.number()]);
    assert!(world.got().is_empty());
}

#[tokio::test]
async fn the_peer_is_where_it_is_said_to_be() {
    #[derive(Clone)]
    struct Connected(Peer);
    let world = World::new().with(|layer| layer.peer(|extensions| extensions.get().map(|Connected(peer)| *peer)));
    assert_eq!(world.send(asking(&[("x-api-key", KEY)])).await.status, 503, "not in our extension");
    let mut request = asking(&[("x-api-key", KEY)]);
    request.extensions_mut().insert(Connected(peer()));
    assert_eq!(world.send(request).await.status, 200);
}

#[tokio::test]
async fn another_service_of_the_policy_is_as_none() {
    let to_other = || request("GET", "/events", &[("host", "other.example"), ("x-api-key", KEY)], Body::empty());
    assert_eq!(World::new().send(to_other()).await.status, 200);
    let world = World::new().with(|layer| layer.service("shop"));
    let unknown = world.send(request("GET", "/events", &[("host", "none.example")], Body::empty())).await;
    for request in [
        to_other(),
        // Nobody learns either that it would have been refused there.
        request("GET", "/events", &[("host", "other.example")], Body::empty()),
    ] {
        let answered = world.send(request).await;
        assert_eq!((answered.status, answered.code()), (unknown.status, unknown.code()));
        assert_eq!(answered.field("www-authenticate"), "");
    }
    assert_eq!(world.recorded(), [Reason::ServiceUnknown.number(); 3]);
    assert!(world.got().is_empty());
    assert_eq!(world.send(asking(&[("x-api-key", KEY)])).await.status, 200);
}

#[tokio::test]
async fn a_gate_that_gives_no_verdict_denies() {
    // With no time at all, a decision that a tick falls into is over.
    let config = Config { workers: NonZeroUsize::MIN, decide_deadline: Duration::ZERO, ..Config::default() };
    let world = World::around(load(&config));
    let refused = loop {
        let answered = world.send(asking(&[("x-api-key", KEY)])).await;
        let (got, recorded) = (world.got(), world.recorded());
        if answered.status != 200 {
            assert!(got.is_empty());
            assert!([HostFault::Deadline.number(), HostFault::NoInstance.number()].contains(&recorded[0]));
            break answered;
        }
    };
    assert_eq!((refused.status, &*refused.code()), (503, "unavailable"));
}

#[tokio::test]
async fn an_answer_over_http2_has_no_fields_of_a_connection() {
    let world = World::new();
    let mut request = asking(&[("content_length", "1")]);
    *request.version_mut() = Version::HTTP_2;
    let answered = world.send(request).await;
    assert_eq!((answered.status, answered.field("connection")), (400, ""));
}

#[tokio::test]
async fn a_client_of_grpc_is_answered_in_its_form() {
    let grpc = ("content-type", "application/grpc+proto");
    let world = World::new().with(|layer| layer.signed_body_bytes(3));
    let mut without_peer = asking(&[grpc, ("x-api-key", KEY)]);
    without_peer.extensions_mut().remove::<Peer>();
    for (request, status, message) in [
        (asking(&[grpc]), "16", "unauthorized"),
        (request("POST", "/secrets", &[HOST, grpc, ("x-api-key", KEY)], Body::empty()), "7", "forbidden"),
        (request("POST", "/none", &[HOST, grpc, ("x-api-key", KEY)], Body::empty()), "7", "no_such_endpoint"),
        (asking(&[grpc, ("content_length", "1")]), "3", "bad_header"),
        (crate::signed::signed("/events", "four", &[grpc]), "8", "body_too_large"),
        (without_peer, "14", "unavailable"),
    ] {
        let mut request: Request<Body> = request;
        *request.version_mut() = Version::HTTP_2;
        let answered = world.send(request).await;
        let fields = ["content-type", "grpc-status", "grpc-message", "connection"].map(|name| answered.field(name));
        assert_eq!((answered.status, fields), (200, ["application/grpc", status, message, ""]));
        assert_eq!(answered.field("x-portcullis-decision").len(), 13);
        assert!(answered.body.is_empty());
    }
    assert!(world.got().is_empty());
}
