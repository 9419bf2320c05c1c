//! Revocation reaches what is under way: upgraded connections and long bodies end, those of others go on.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::http::{Connection, Message};
use crate::upstream::Played;
use crate::world::{Key, TENANT_KEYS, World};

/// A world whose upstream the test plays, and a key.
fn played() -> (World, Played, Key) {
    let world = World::new();
    let played = Played::new();
    world.lead_to(played.address());
    let key = world.tenant_key();
    (world, played, key)
}

fn revoke(world: &World, key: &Key) {
    let at = format!("{TENANT_KEYS}/{}/revoke", key.id);
    world.admin().post(&at, json!({ "confirm": true })).expect(200);
}

/// A request under way: the client's end, and the upstream's with what it received.
fn begin(world: &World, played: &Played, key: &Key, fields: &str) -> (Connection, BufReader<TcpStream>, Message) {
    let mut client = Connection::open(world.server.proxy).unwrap();
    let head = format!("GET /events HTTP/1.1\r\nhost: shop.example\r\nx-api-key: {}\r\n{fields}\r\n", key.key);
    client.write(head.as_bytes()).unwrap();
    let (upstream, request) = played.accept();
    (client, upstream, request)
}

/// The next bytes from an end that go on coming.
fn read(from: &mut BufReader<TcpStream>, length: usize) -> String {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Waits until the other end is gone, by whichever way. What came before is given.
#[track_caller]
fn rest(from: &mut BufReader<TcpStream>) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = from.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_revocation_closes_an_upgraded_connection_on_both_ends_and_no_other() {
    let (world, played, key) = played();
    let other = world.tenant_key();
    let upgraded = |key: &Key| {
        let (mut client, mut upstream, request) =
            begin(&world, &played, key, "connection: upgrade\r\nupgrade: echo\r\n");
        assert_eq!((request.field("upgrade"), request.field("x-api-key")), (Some("echo"), None));
        let switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        upstream.get_mut().write_all(switched).unwrap();
        assert_eq!(Message::response(&mut client.0, "GET").unwrap().status(), 101);
        client.write(b"ping").unwrap();
        assert_eq!(read(&mut upstream, 4), "ping");
        upstream.get_mut().write_all(b"pong").unwrap();
        assert_eq!(read(&mut client.0, 4), "pong");
        (client, upstream)
    };
    let (mut client, mut upstream) = upgraded(&key);
    let (mut spared, mut sparing) = upgraded(&other);
    revoke(&world, &key);
    assert_eq!(rest(&mut client.0), "");
    assert_eq!(rest(&mut upstream), "");
    spared.write(b"more").unwrap();
    assert_eq!(read(&mut sparing, 4), "more");
    sparing.get_mut().write_all(b"most").unwrap();
    assert_eq!(read(&mut spared.0, 4), "most");
    // The client's end closes its tunnel, too.
    drop(spared);
    assert_eq!(rest(&mut sparing), "");
}

#[test]
fn a_revocation_aborts_a_download_and_no_other() {
    let (world, played, key) = played();
    let other = world.tenant_key();
    let downloading = |key: &Key| {
        let (mut client, mut upstream, _) = begin(&world, &played, key, "");
        upstream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
        let mut line = String::new();
        while line != "first\r\n" {
            line.clear();
            client.0.read_line(&mut line).unwrap();
        }
        (client, upstream)
    };
    let (mut client, mut upstream) = downloading(&key);
    let (mut spared, mut sparing) = downloading(&other);
    revoke(&world, &key);
    let left = rest(&mut client.0);
    assert!(!left.contains("0\r\n\r\n"), "it must not look whole: {left:?}");
    assert_eq!(rest(&mut upstream), "");
    sparing.get_mut().write_all(b"4\r\nlast\r\n0\r\n\r\n").unwrap();
    assert_eq!(read(&mut spared.0, 14), "4\r\nlast\r\n0\r\n\r\n");
}

#[test]
fn a_revocation_aborts_a_download_that_never_pauses() {
    let (world, played, key) = played();
    let (mut client, mut upstream, _) = begin(&world, &played, &key, "");
    upstream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n").unwrap();
    let sending = std::thread::spawn(move || {
        let chunk = [b'x'; 16 * 1024];
        while upstream.get_mut().write_all(&chunk).is_ok() {}
    });
    read(&mut client.0, 100_000);
    let reading = std::thread::spawn(move || {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(1..) = client.0.read(&mut chunk) {}
    });
    revoke(&world, &key);
    // Both would go on for hours.
    crate::server::eventually("both ends are closed", || {
        (sending.is_finished() && reading.is_finished()).then_some(())
    });
}

#[test]
fn a_rotation_ends_what_the_old_secret_began() {
    let (world, played, key) = played();
    let (mut client, mut upstream, _) = begin(&world, &played, &key, "");
    upstream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun").unwrap();
    while !client.0.fill_buf().unwrap().ends_with(b"begun") {
        let length = client.0.buffer().len();
        client.0.consume(length);
    }
    let at = format!("{TENANT_KEYS}/{}/rotate", key.id);
    world.admin().post(&at, json!({ "confirm": true })).expect(201);
    rest(&mut client.0);
    assert_eq!(rest(&mut upstream), "");
}
