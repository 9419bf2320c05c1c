//! Upstreams that fail: never a hang, never a whole answer that was not one, never a decision lost.

use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;

use serde_json::json;

use crate::http::{Connection, Message};
use crate::server::eventually;
use crate::upstream::Played;
use crate::world::{Key, World};

/// Asserts that the request was allowed and recorded as that, whatever its upstream then did.
fn assert_recorded(world: &World, answer: &Message) {
    let id = answer.field("x-portcullis-decision").unwrap();
    let decision = world.decision(id);
    assert_eq!((&decision["verdict"], &decision["facts"]["endpoint"]), (&"allow".into(), &"shop/events".into()));
}

#[test]
fn an_upstream_that_is_down_is_a_502_and_served_again_once_it_is_up() {
    let world = World::new();
    let key = world.tenant_key();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.lead_to(gone);
    let answer = world.events(&key.key);
    assert_recorded(&world, &answer);
    answer.problem(502, "upstream_unavailable");
    world.lead_to(world.echo.address);
    world.events(&key.key).expect(200);
}

#[test]
fn an_upstream_that_never_answers_is_a_504() {
    let world = World::new();
    let key = world.tenant_key();
    let silent = Played::new();
    world.lead_to(silent.address());
    world.admin().patch("/v1/services/shop", json!({ "response_timeout_s": 1 })).expect(200);
    let answer = world.events(&key.key);
    assert_recorded(&world, &answer);
    answer.problem(504, "upstream_timeout");
}

#[test]
fn an_upstream_that_closes_without_an_answer_is_a_502() {
    let world = World::new();
    let key = world.tenant_key();
    let played = Played::new();
    world.lead_to(played.address());
    let asking = std::thread::scope(|scope| {
        let asking = scope
            .spawn(|| world.call("POST", "/events").field("x-api-key", &key.key).body("once").send(world.server.proxy));
        drop(played.accept());
        asking.join().unwrap()
    });
    assert_recorded(&world, &asking);
    asking.problem(502, "upstream_unavailable");
}

/// What an upstream says before it breaks off.
fn cut_after(world: &World, key: &Key, said: &str) -> std::io::Error {
    let played = Played::new();
    world.lead_to(played.address());
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| world.try_events(&key.key));
        let (mut upstream, _) = played.accept();
        upstream.get_mut().write_all(said.as_bytes()).unwrap();
        drop(upstream);
        asking.join().unwrap().unwrap_err()
    })
}

#[test]
fn a_body_that_breaks_off_is_never_taken_for_whole() {
    let world = World::new();
    let key = world.tenant_key();
    let count = || {
        let items = world.admin().all("/v1/decisions");
        items.iter().filter(|item| item["facts"]["credential"]["id"] == key.id.as_str()).count()
    };
    for said in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nten bytes!",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nten bytes!\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nten bytes!",
    ] {
        let error = cut_after(&world, &key, said);
        let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
        assert!(kinds.contains(&error.kind()), "{error} after {said}");
    }
    eventually("three decisions are recorded", || (count() == 3).then_some(()));
    let metrics = world.admin().get("/metrics").expect(200).text();
    let counted = "portcullis_upstream_failures_total{kind=\"interrupted\"} 3";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
}

#[test]
fn an_upstream_that_fails_costs_the_next_request_nothing() {
    let world = World::new();
    let key = world.tenant_key();
    cut_after(&world, &key, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n");
    world.lead_to(world.echo.address);
    let mut connection = Connection::open(world.server.proxy).unwrap();
    for _ in 0..3 {
        connection.send(&world.call("GET", "/events").field("x-api-key", &key.key)).unwrap().expect(200);
    }
}
