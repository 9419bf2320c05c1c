//! What operators rely on: probes, metrics, logs, and an end that cuts nobody off.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::http::{Call, Connection, Message};
use crate::server::{Server, Settings, eventually};
use crate::upstream::Played;
use crate::world::World;

#[test]
fn probes_and_metrics_are_on_the_admin_listener_alone() {
    let world = World::new();
    let key = world.tenant_key();
    world.events(&key.key).expect(200);
    world.events("ptc_nobody").expect(401);
    let get = |path: &str| Call::new("GET", path).field("host", "localhost").send(world.server.admin);
    assert_eq!(get("/healthz").expect(200).text(), "ok\n");
    assert_eq!(get("/readyz").expect(200).text(), "ready\n");
    let metrics = get("/metrics").expect(200);
    assert!(metrics.field("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text();
    for line in [
        "portcullis_decisions_total{verdict=\"allow\",reason=\"\"} 1",
        "portcullis_decisions_total{verdict=\"deny\",reason=\"credential-unknown\"} 1",
        "portcullis_responses_total{class=\"2xx\"} 1",
        "portcullis_responses_total{class=\"4xx\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
    }
    assert!(text.ends_with("# EOF\n"));
    for path in ["/healthz", "/readyz", "/metrics"] {
        world.call("GET", path).send(world.server.proxy).problem(401, "unauthorized");
        world.call("GET", path).field("x-api-key", &key.key).send(world.server.proxy).problem(403, "no_such_endpoint");
        let local = Call::new("GET", path).field("host", "localhost");
        local.send(world.server.proxy).problem(403, "no_such_endpoint");
    }
}

/// Waits until nobody listens for guarded traffic any more.
fn closed(server: &Server) {
    eventually("new connections are refused", || match TcpStream::connect(server.proxy) {
        Err(error) => Some(assert_eq!(error.kind(), ErrorKind::ConnectionRefused)),
        Ok(_) => None,
    });
}

#[test]
fn a_request_that_has_begun_is_answered_as_a_whole_before_the_end() {
    let mut world = World::new();
    let key = world.tenant_key();
    let played = Played::new();
    world.lead_to(played.address());
    let mut client = Connection::open(world.server.proxy).unwrap();
    client.write(&world.call("GET", "/events").field("x-api-key", &key.key).bytes()).unwrap();
    let (mut upstream, _) = played.accept();
    upstream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun").unwrap();
    world.server.terminate();
    closed(&world.server);
    upstream.get_mut().write_all(b"ended").unwrap();
    assert_eq!(Message::response(&mut client.0, "GET").unwrap().expect(200).text(), "begunended");
    assert_eq!(world.server.wait().code(), Some(0));
    // Its decision was written before the end.
    world.restart();
    let allowed = world.admin().all("/v1/decisions").iter().filter(|item| item["verdict"] == "allow").count();
    assert!(allowed > 0);
}

#[test]
fn connections_that_do_nothing_do_not_hold_up_the_end() {
    // Longer than the test waits.
    let mut world = World::with(Settings { proxy: "drain_timeout = \"10m\"", ..Settings::default() });
    let key = world.tenant_key();
    let _silent = Connection::open(world.server.proxy).unwrap();
    let mut idle = Connection::open(world.server.proxy).unwrap();
    idle.send(&world.call("GET", "/events").field("x-api-key", &key.key)).unwrap().expect(200);
    let mut admin = Connection::open(world.server.admin).unwrap();
    admin.send(&world.admin().call("GET", "/v1/self")).unwrap().expect(200);
    world.server.stop();
}

#[test]
fn a_request_that_never_ends_is_cut_when_the_time_for_that_is_over() {
    let mut world = World::with(Settings { proxy: "drain_timeout = \"500ms\"", ..Settings::default() });
    let key = world.tenant_key();
    let played = Played::new();
    world.lead_to(played.address());
    let mut client = Connection::open(world.server.proxy).unwrap();
    client.write(&world.call("GET", "/events").field("x-api-key", &key.key).bytes()).unwrap();
    let (mut upstream, _) = played.accept();
    upstream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun").unwrap();
    world.server.stop();
    Message::response(&mut client.0, "GET").unwrap_err();
    let said = world.server.stderr();
    assert!(said.lines().any(|line| line.contains("stopped") && line.contains("cut=1")), "{said}");
}

#[test]
fn logs_as_json_are_one_object_a_line() {
    let log = "format = \"json\"\nlevel = \"trace\"";
    let mut world = World::with(Settings { log, ..Settings::default() });
    let key = world.tenant_key();
    world.events(&key.key).expect(200);
    world.events("ptc_nobody").expect(401);
    let mut broken = Connection::open(world.server.proxy).unwrap();
    broken.write(b"no request\r\n\r\n").unwrap();
    drop(broken);
    world.server.stop();
    let log = world.server.stderr();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    let serving = lines.iter().find(|line| line["message"] == "serving").unwrap();
    assert_eq!(serving["proxy"], world.server.proxy.to_string());
    assert!(lines.iter().any(|line| line["message"] == "stopped"));
    assert_eq!(world.server.stdout(), "", "nothing but the log");
}
