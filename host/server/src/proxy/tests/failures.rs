//! Upstreams and clients that fail: a clear answer or an aborted one, never a hang.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::world::{Choice, OK, PERMITTED, Raw, field, rest, until};

const SHORT: Duration = Duration::from_millis(50);

fn code(answer: &str) -> &str {
    answer.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or(answer)
}

#[tokio::test]
async fn an_upstream_that_is_down_is_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for scheme in ["http", "h2c", "https"] {
        let mut world = Choice::of(&format!("{scheme}://{address}")).start();
        let answer = world.permitted("").await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{scheme}: {answer}");
        assert_eq!(code(&answer), "upstream_unavailable");
        assert!(field(&answer, "x-portcullis-decision").is_some());
        assert_eq!(world.reasons().await, [0], "the decision is not lost");
        world.measured("portcullis_upstream_failures_total{kind=\"connect\"} 1").await;
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_504() {
    for scheme in ["http", "h2c", "https"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut choice = Choice::of(&format!("{scheme}://{}", listener.local_addr().unwrap()));
        choice.service.response_timeout = SHORT;
        let world = choice.start();
        let answer = world.permitted("").await;
        assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{scheme}: {answer}");
        assert_eq!(code(&answer), "upstream_timeout");
        world.measured("portcullis_upstream_failures_total{kind=\"timeout\"} 1").await;
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_no_http_is_502() {
    for response in ["SSH-2.0-OpenSSH_9.6\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"] {
        let upstream = Raw::answering(response).await;
        let world = Choice::of(&upstream.origin).start();
        let answer = world.permitted("").await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
        world.measured("portcullis_upstream_failures_total{kind=\"broken\"} 1").await;
    }
}

/// An upstream that sends the beginning of a response and then does as `then` says with the connection.
async fn beginning(response: &'static str, close: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        until(&mut stream, "\r\n\r\n").await;
        stream.write_all(response.as_bytes()).await.unwrap();
        if !close {
            rest(&mut stream).await;
        }
    });
    origin
}

#[tokio::test]
async fn a_response_that_breaks_off_is_aborted_and_not_ended() {
    for (response, part) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "half"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "4\r\nhalf\r\n"),
    ] {
        for close in [true, false] {
            let origin = beginning(response, close).await;
            let world = Choice { idle_timeout: 2 * SHORT, ..Choice::of(&origin) }.start();
            let answer = world.permitted("").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(part), "{close}: {answer}");
            world.measured("portcullis_upstream_failures_total{kind=\"interrupted\"} 1").await;
        }
    }
}

#[tokio::test]
async fn a_client_whose_body_stands_still_is_408() {
    let mut upstream = Raw::answering(OK).await;
    let world = Choice { idle_timeout: 2 * SHORT, ..Choice::of(&upstream.origin) }.start();
    let head = PERMITTED.replace("GET", "POST");
    let answer = world.exchange(format!("{head}content-length: 10\r\n\r\nhalf")).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    let received = upstream.request().await;
    assert!(received.starts_with("CUT POST /events HTTP/1.1\r\n") && received.ends_with("\r\n\r\nhalf"), "{received}");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413() {
    let mut upstream = Raw::answering(OK).await;
    let world = Choice { request_body_limit: Some(4), ..Choice::of(&upstream.origin) }.start();
    let head = PERMITTED.replace("GET", "POST");
    let answer = world.exchange(format!("{head}connection: close\r\ncontent-length: 4\r\n\r\nfour")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    upstream.request().await;
    let answer = world.exchange(format!("{head}content-length: 5\r\n\r\nfive5")).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    assert!(upstream.is_empty(), "it was told before");
    let answer =
        world.exchange(format!("{head}transfer-encoding: chunked\r\n\r\n4\r\nfour\r\n1\r\n5\r\n0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    assert_eq!(code(&answer), "body_too_large");
    let received = upstream.request().await;
    assert!(received.starts_with("CUT ") && !received.ends_with("0\r\n\r\n"), "{received}");
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_request_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = Choice::of(&format!("http://{}", listener.local_addr().unwrap())).start();
    let mut client = world.connect().await;
    client.write_all(format!("{PERMITTED}\r\n").as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    until(&mut upstream, "\r\n\r\n").await;
    drop(client);
    let mut bytes = Vec::new();
    upstream.read_to_end(&mut bytes).await.unwrap();
    world.measured("portcullis_connections 0").await;
}
