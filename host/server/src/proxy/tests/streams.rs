//! Streams that outlive a decision: bodies and upgraded connections end when they are no longer allowed.

use portcullis_model::source::CredentialState;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::world::{Choice, PERMITTED, World, rest, until};

/// A world whose upstream is played by the test.
async fn played() -> (World, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = Choice::of(&format!("http://{}", listener.local_addr().unwrap())).start();
    (world, listener)
}

/// A client with a response under way, and its upstream's end.
async fn streaming(world: &World, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = world.connect().await;
    client.write_all(format!("{PERMITTED}\r\n").as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    until(&mut upstream, "\r\n\r\n").await;
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    upstream.write_all(format!("{head}1\r\na\r\n").as_bytes()).await.unwrap();
    until(&mut client, "1\r\na\r\n").await;
    (client, upstream)
}

async fn upgraded(world: &World, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = world.connect().await;
    let asked = format!("{PERMITTED}connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n");
    client.write_all(asked.as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let received = until(&mut upstream, "\r\n\r\n").await;
    for line in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-version: 13\r\n"] {
        assert!(received.contains(line), "{received}");
    }
    assert!(!received.contains("x-api-key"), "{received}");
    let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nhello";
    upstream.write_all(switched.as_bytes()).await.unwrap();
    let head = until(&mut client, "hello").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    client.write_all(b"ping").await.unwrap();
    until(&mut upstream, "ping").await;
    (client, upstream)
}

#[tokio::test]
async fn a_revocation_cuts_a_response_that_is_under_way() {
    let (world, listener) = played().await;
    let (mut client, mut upstream) = streaming(&world, &listener).await;
    // A revision that does not concern it changes nothing.
    world.set_state(1, CredentialState::Revoked);
    upstream.write_all(b"1\r\nb\r\n").await.unwrap();
    until(&mut client, "1\r\nb\r\n").await;
    world.set_state(0, CredentialState::Revoked);
    assert_eq!(rest(&mut client).await, "", "it is aborted, not ended");
    assert_eq!(rest(&mut upstream).await, "");
    world.measured("portcullis_cut_streams_total 1").await;
}

#[tokio::test]
async fn a_revocation_cuts_a_response_that_never_pauses() {
    let (world, listener) = played().await;
    let (mut client, mut upstream) = streaming(&world, &listener).await;
    let chunk = format!("1000\r\n{}\r\n", "z".repeat(0x1000));
    let sending = tokio::spawn(async move { while upstream.write_all(chunk.as_bytes()).await.is_ok() {} });
    until(&mut client, "zzz").await;
    let reading = tokio::spawn(async move { rest(&mut client).await });
    world.set_state(0, CredentialState::Revoked);
    let read = reading.await.unwrap();
    assert!(!read.ends_with("0\r\n\r\n"));
    sending.await.unwrap();
}

#[tokio::test]
async fn a_revocation_cuts_an_upload() {
    let (world, listener) = played().await;
    let mut client = world.connect().await;
    let head = PERMITTED.replace("GET", "POST");
    client.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n1\r\na\r\n").as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    until(&mut upstream, "1\r\na\r\n").await;
    world.set_state(0, CredentialState::Revoked);
    assert_eq!(rest(&mut upstream).await, "", "without the last chunk it is no request");
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
}

#[tokio::test]
async fn a_revocation_closes_an_upgraded_connection() {
    let (world, listener) = played().await;
    let (mut client, mut upstream) = upgraded(&world, &listener).await;
    world.measured("portcullis_tunnels 1").await;
    world.measured("portcullis_connections 1").await;
    world.set_state(1, CredentialState::Revoked);
    client.write_all(b"still").await.unwrap();
    until(&mut upstream, "still").await;
    world.set_state(0, CredentialState::Revoked);
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(rest(&mut upstream).await, "");
    world.measured("portcullis_tunnels 0").await;
    world.measured("portcullis_connections 0").await;
}

#[tokio::test]
async fn a_shutdown_closes_upgraded_connections_at_its_deadline() {
    let (world, listener) = played().await;
    let (mut client, mut upstream) = upgraded(&world, &listener).await;
    world.measured("portcullis_tunnels 1").await;
    assert_eq!(world.shutdown.clone().drain(Duration::from_millis(20)).await, 1);
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(rest(&mut upstream).await, "");
}

#[tokio::test]
async fn either_end_closes_an_upgraded_connection() {
    let (world, listener) = played().await;
    let (client, mut upstream) = upgraded(&world, &listener).await;
    drop(client);
    assert_eq!(rest(&mut upstream).await, "");
    drop(upstream);
    world.measured("portcullis_tunnels 0").await;
}

#[tokio::test]
async fn no_upgrade_is_asked_for_without_a_permit_or_to_another_http() {
    let (world, listener) = played().await;
    let denied =
        "GET /events HTTP/1.1\r\nhost: api.example\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\n\r\n";
    assert!(world.exchange(denied).await.starts_with("HTTP/1.1 401 "));
    let mut client = world.connect().await;
    client
        .write_all(format!("{PERMITTED}connection: Upgrade, close\r\nupgrade: h2c\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let received = until(&mut upstream, "\r\n\r\n").await;
    assert!(!received.contains("upgrade") && !received.contains("connection"), "{received}");
    upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 204 No Content\r\n"));
}
