//! What a feed serves, over the wire: the base in parts, and changes as they come.

use std::net::SocketAddr;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_model::feed::{CURSOR_HEADER, Frame, frames};
use portcullis_model::policy::Policy;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::http::{Call, Message};
use crate::server::{Settings, eventually};
use crate::world::{MANAGEMENT_KEYS, TENANT_KEYS, World};

/// An installation with the feed `edge`, and the key of it.
fn world(settings: Settings<'_>) -> (World, String) {
    let world = World::with(settings);
    world.admin().post("/v1/feeds", json!({ "id": "edge", "services": ["shop"] })).expect(201);
    let body = json!({
        "name": "Edge", "expires": "2099-12-31", "endpoints": ["portcullis/feed.read"], "applications": ["edge"],
        "creator_rule": "independent",
    });
    let key = world.admin().post("/v1/tenants/system/management-keys", body).expect(201).json();
    let key = key["key"].as_str().unwrap().to_owned();
    (world, key)
}

fn call(key: &str, path: &str) -> Call {
    call_of("00000000000000a1", key, path)
}

fn call_of(worker: &str, key: &str, path: &str) -> Call {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Call::new("GET", path)
        .field("host", "localhost")
        .field("authorization", &format!("ManagementKey-v1 {key}"))
        .field("x-portcullis-node", "edge-1")
        .field("x-portcullis-worker", worker)
        .field("x-portcullis-now", &now.to_string())
}

/// The base, fetched part by part and checked.
fn base(address: SocketAddr, key: &str) -> (Policy, Value) {
    let told = call(key, "/v1/feeds/edge/base").send(address).expect(200).json();
    let mut bytes = Vec::new();
    for (number, sha256) in told["sha256"].as_array().unwrap().iter().enumerate() {
        let path = format!("/v1/feeds/edge/base/{}/{number}", told["base"].as_str().unwrap());
        let part = call(key, &path).send(address).expect(200);
        assert_eq!(part.field("content-type"), Some("application/octet-stream"));
        let digest: String = Sha256::digest(&part.body).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(*sha256, digest);
        bytes.extend(part.body);
    }
    assert_eq!(told["bytes"], bytes.len());
    (Policy::open(bytes).unwrap(), told)
}

fn changes(address: SocketAddr, key: &str, cursor: &str, wait: u32) -> Message {
    call(key, &format!("/v1/feeds/edge/changes?cursor={cursor}&wait={wait}")).send(address).expect(200)
}

#[test]
fn p2_the_base_comes_in_parts_and_a_call_that_waits_is_answered_by_the_revocation() {
    let (world, key) = world(Settings::default());
    let address = world.server.admin;
    let credential = world.tenant_key();
    let (mut policy, told) = base(address, &key);
    let first = changes(address, &key, &format!("r{}", told["revision"]), 0);
    assert!(matches!(frames(&first.body).unwrap()[..], [Frame::Keys(_), .., Frame::Confirmed(_)]));
    let cursor = first.field(CURSOR_HEADER).unwrap().to_owned();

    let waiting = thread::spawn({
        let (key, cursor) = (key.clone(), cursor.clone());
        move || changes(address, &key, &cursor, 30)
    });
    // The call is open once the table has it.
    eventually("the worker waits", || {
        let nodes = world.admin().get("/v1/nodes").expect(200).json();
        nodes["items"].as_array().unwrap().iter().any(|node| node["worker"] == "00000000000000a1").then_some(())
    });
    let revoke = format!("{TENANT_KEYS}/{}/revoke", credential.id);
    world.admin().post(&revoke, json!({ "confirm": true })).expect(200);
    let answer = waiting.join().unwrap();
    let told = frames(&answer.body).unwrap();
    let [Frame::Delta(delta), Frame::Confirmed(_)] = told[..] else { panic!("{told:?}") };
    let prepared = policy.prepare(delta.to_vec()).unwrap();
    policy.apply(prepared).unwrap();
    let next = answer.field(CURSOR_HEADER).unwrap();
    assert_ne!(next, cursor);
    assert!(matches!(frames(&changes(address, &key, next, 0).body).unwrap()[..], [Frame::Confirmed(_)]));
}

#[test]
fn workers_alone_are_served_at_their_listener() {
    let settings = Settings { audit: "[feed]\nlisten = \"127.0.0.1:0\"", ..Settings::default() };
    let (world, key) = world(settings);
    let address: SocketAddr = eventually("it says where it listens", || {
        let log = world.server.stderr();
        let rest = log.split_once("feed=")?.1;
        rest.split_whitespace().next()?.parse().ok()
    });
    let (_, told) = base(address, &key);
    changes(address, &key, &format!("r{}", told["revision"]), 0);
    // By any name: an Envoy has one of its own for it.
    let elsewhere = call(&key, "/v1/feeds/edge/base");
    let text = String::from_utf8(elsewhere.bytes()).unwrap();
    assert!(text.contains("host: localhost"));
    for path in ["/healthz", "/metrics", "/docs", "/v1/feeds", "/v1/feeds/edge", "/v1/tenants", "/v1/self", "/"] {
        let root = Call::new("GET", path)
            .field("host", "portcullis.internal")
            .field("authorization", &format!("ManagementKey-v1 {}", world.site.admin_key));
        root.send(address).problem(404, "not_found");
    }
    let named = Call::new("GET", "/v1/feeds/edge/base").field("host", "portcullis.internal");
    named.send(address).problem(401, "unauthorized");
}

#[test]
fn a_feed_is_for_its_own_keys() {
    let (world, key) = world(Settings::default());
    let (admin, address) = (world.admin(), world.server.admin);
    admin.post("/v1/feeds", json!({ "id": "other", "services": ["shop"] })).expect(201);
    for path in ["base", "base/x/0", "changes?cursor=r1"] {
        assert_eq!(call(&key, &format!("/v1/feeds/other/{path}")).send(address).status(), 403, "{path}");
        assert_eq!(call("ptc_nobody", &format!("/v1/feeds/edge/{path}")).send(address).status(), 401, "{path}");
    }
    // A tenant's application may have the name of a feed.
    admin.post("/v1/tenants/acme/applications", json!({ "id": "edge" })).expect(201);
    let body = json!({
        "name": "Theirs", "expires": "2099-12-31", "endpoints": ["portcullis/feed.read"], "applications": ["edge"],
        "creator_rule": "independent",
    });
    let made = admin.post(MANAGEMENT_KEYS, body);
    if made.status() == 201 {
        let theirs = made.json()["key"].as_str().unwrap().to_owned();
        assert_eq!(call(&theirs, "/v1/feeds/edge/base").send(address).status(), 403);
    }
    // A key of the system tenant that is not confined reads any.
    call(&world.site.admin_key, "/v1/feeds/other/base").send(address).expect(200);
}

#[test]
fn calls_that_say_something_else_are_refused() {
    let (world, key) = world(Settings::default());
    let address = world.server.admin;
    let root = &world.site.admin_key;
    call(root, "/v1/feeds/nothing/base").send(address).problem(404, "not_found");
    call(root, "/v1/feeds/nothing/changes?cursor=r1").send(address).problem(404, "not_found");
    call(&key, "/v1/feeds/edge/base/00/0").send(address).problem(404, "not_found");
    call(&key, "/v1/feeds/edge/base/00/first").send(address).problem(404, "not_found");
    let changes = |query: &str| call(&key, &format!("/v1/feeds/edge/changes{query}")).send(address);
    changes("").problem(400, "bad_query");
    changes("?cursor=r1&wait=1&more=1").problem(400, "bad_query");
    changes("?cursor=latest").problem(422, "invalid");
    changes("?cursor=r1&wait=31").problem(422, "invalid");
    assert_eq!(
        changes("?cursor=r1&wait=30").expect(200).body,
        [4, 0, 0, 0, 0],
        "from before the feed: take a new base"
    );
    let nameless = Call::new("GET", "/v1/feeds/edge/base")
        .field("host", "localhost")
        .field("authorization", &format!("ManagementKey-v1 {key}"));
    nameless.send(address).problem(400, "bad_request");
}

#[test]
fn the_end_of_the_server_waits_for_no_worker() {
    let (mut world, key) = world(Settings::default());
    let address = world.server.admin;
    let (_, told) = base(address, &key);
    let first = changes(address, &key, &format!("r{}", told["revision"]), 0);
    let cursor = first.field(CURSOR_HEADER).unwrap().to_owned();
    // Another worker than the calls before, so that the table of nodes tells when the call is there.
    let path = format!("/v1/feeds/edge/changes?cursor={cursor}&wait=30");
    let waiting = thread::spawn(move || call_of("00000000000000b2", &key, &path).send(address).expect(200));
    eventually("the worker waits", || {
        let nodes = world.admin().get("/v1/nodes").expect(200).json();
        nodes["items"].as_array().unwrap().iter().any(|node| node["worker"] == "00000000000000b2").then_some(())
    });
    world.server.terminate();
    assert!(matches!(frames(&waiting.join().unwrap().body).unwrap()[..], [Frame::Confirmed(_)]));
    assert!(world.server.wait().success());
}
