//! What is denied: the answer, the record, and that nothing reaches the upstream.

use portcullis_model::source::CredentialState;
use portcullis_model::verdict::Reason;
use tokio::io::AsyncWriteExt as _;

use super::world::{Choice, OK, Raw, field, rest};
use crate::journal::DecisionId;

const ASKED: &str = "connection: close\r\n\r\n";

#[tokio::test]
async fn every_401_has_the_same_bytes_but_for_the_decision() {
    let mut upstream = Raw::answering(OK).await;
    let mut world = Choice::of(&upstream.origin).start();
    world.set_state(0, CredentialState::Revoked);
    let mut answers = Vec::new();
    for key in ["x-api-key: k\r\n", "x-api-key: unknown\r\n", "", "x-api-key: \r\n"] {
        let answer = world.exchange(format!("GET /events HTTP/1.1\r\nhost: api.example\r\n{key}{ASKED}")).await;
        let id = field(&answer, "x-portcullis-decision").unwrap().to_owned();
        assert!(id.parse::<DecisionId>().is_ok());
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
        assert!(field(&answer, "www-authenticate").is_some());
        assert_eq!(field(&answer, "cache-control"), Some("no-store"));
        assert_eq!(field(&answer, "content-type"), Some("application/problem+json"));
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let expected = format!(
            "{{\"type\":\"about:blank\",\"title\":\"Unauthorized\",\"status\":401,\"code\":\"unauthorized\",\"decision\":\"{id}\"}}\n"
        );
        assert_eq!(body, expected);
        let date = field(&answer, "date").unwrap().to_owned();
        answers.push(answer.replace(&id, "").replace(&date, ""));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
    let reasons =
        [Reason::CredentialRevoked, Reason::CredentialUnknown, Reason::CredentialMissing, Reason::CredentialMalformed];
    assert_eq!(world.reasons().await, reasons.map(Reason::number));
    assert!(upstream.is_empty());
}

#[tokio::test]
async fn a_service_that_is_not_served_here_looks_like_none() {
    let upstream = Raw::answering(OK).await;
    let mut world = Choice::of(&upstream.origin).start();
    for (host, key) in [("admin.example", "x-api-key: k\r\n"), ("admin.example", ""), ("nobody.example", "")] {
        let answer = world.exchange(format!("GET /x HTTP/1.1\r\nhost: {host}\r\n{key}{ASKED}")).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(answer.contains("\"code\":\"no_such_endpoint\""));
        assert_eq!(field(&answer, "www-authenticate"), None);
    }
    assert_eq!(world.reasons().await, [60, 60, 60]);
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_counted_and_still_decided() {
    let upstream = Raw::answering(OK).await;
    let mut world = Choice { queue: 1, ..Choice::of(&upstream.origin) }.start();
    for _ in 0..3 {
        assert!(world.permitted("").await.starts_with("HTTP/1.1 200 OK"));
    }
    let batch = world.batches.next().await.unwrap();
    assert_eq!((batch.records.len(), batch.gap.unwrap().count), (1, 2));
    world.measured("portcullis_journal_gaps_total 2").await;
    world.measured("portcullis_decisions_total{verdict=\"allow\",reason=\"\"} 3").await;
}

#[tokio::test]
async fn the_body_of_a_denied_request_is_not_read() {
    let upstream = Raw::answering(OK).await;
    let world = Choice::of(&upstream.origin).start();
    let mut stream = world.connect().await;
    let head = "POST /events HTTP/1.1\r\nhost: api.example\r\ncontent-length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // The connection ends by itself: what would follow belongs to nothing.
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");

    let expecting = "POST /events HTTP/1.1\r\nhost: api.example\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let answer = world.exchange(expecting).await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "no 100 before it: {answer}");
}

#[tokio::test]
async fn a_preflight_is_answered_for_origins_that_may_ask() {
    let mut upstream = Raw::answering(OK).await;
    let mut world = Choice::of(&upstream.origin).with_preflight(&["https://app.example"]).start();
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /events HTTP/1.1\r\nhost: api.example\r\norigin: {origin}\r\naccess-control-request-method: DELETE\r\n{ASKED}"
        )
    };
    let answer = world.exchange(preflight("https://app.example")).await;
    assert!(answer.starts_with("HTTP/1.1 204 No Content\r\n"), "{answer}");
    assert_eq!(field(&answer, "access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(field(&answer, "access-control-allow-methods"), Some("DELETE"));
    assert_eq!(field(&answer, "access-control-allow-headers"), Some("X-API-Key, Content-Type"));
    assert_eq!(field(&answer, "access-control-max-age"), Some("600"));
    assert!(field(&answer, "vary").unwrap().starts_with("Origin"));

    let answer = world.exchange(preflight("https://app.example.evil")).await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n") && !answer.contains("access-control"), "{answer}");
    // OPTIONS without its fields is a request without a key like any other.
    let plain = format!("OPTIONS /events HTTP/1.1\r\nhost: api.example\r\norigin: https://app.example\r\n{ASKED}");
    assert!(world.exchange(plain).await.starts_with("HTTP/1.1 401 "));
    assert_eq!(world.reasons().await, [Reason::CredentialMissing.number(); 3]);
    assert!(upstream.is_empty());

    let world = Choice::of(&upstream.origin).with_preflight(&["*"]).start();
    let answer = world.exchange(preflight("https://anyone.example")).await;
    assert_eq!(field(&answer, "access-control-allow-origin"), Some("*"));
    let world = Choice::of(&upstream.origin).start();
    assert!(world.exchange(preflight("https://app.example")).await.starts_with("HTTP/1.1 401 "));
}
