//! Feeds: who may read one, who is attached to it, who waits for whom, and what comes back. Workers are played by a client that
//! calls as they do.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_model::answer::Details;
use portcullis_model::credential::Kind;
use portcullis_model::facts::{CredentialFacts, Facts, Proof};
use portcullis_model::feed::{MAX_BATCH_RECORDS, Told};
use portcullis_model::id::Revision;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Reason;
use serde_json::{Value, json};

use crate::http::{Call, Message};
use crate::server::{Ran, eventually, portcullis, run};
use crate::world::{Admin, Key, MANAGEMENT_KEYS, TENANT_KEYS, WORKSPACE_KEYS, World};

const SYSTEM_KEYS: &str = "/v1/tenants/system/management-keys";

/// A guarded service with a feed `edge` for it.
fn world() -> World {
    let world = World::new();
    world.admin().post("/v1/feeds", json!({ "id": "edge", "services": ["shop"] })).expect(201);
    world
}

/// A key that reads a feed and does nothing else.
fn feed_key(world: &World, feed: &str) -> Key {
    let body = json!({
        "name": "Edge", "expires": "2099-12-31", "endpoints": ["portcullis/feed", "portcullis/feed.read"],
        "applications": [feed], "creator_rule": "independent",
    });
    Key::of(&world.admin().post(SYSTEM_KEYS, body).expect(201))
}

/// A worker of a proxy.
#[derive(Clone)]
struct Worker {
    admin: Admin,
    feed: &'static str,
    node: &'static str,
    worker: &'static str,
}

impl Worker {
    fn call(&self, method: &str, path: &str, enforced: Option<u64>) -> Call {
        let call = self
            .admin
            .call(method, &format!("/v1/feeds/{}/{path}", self.feed))
            .field("x-portcullis-node", self.node)
            .field("x-portcullis-worker", self.worker)
            .field("x-portcullis-module", &"0f".repeat(32))
            .field("x-portcullis-now", &seconds().to_string());
        enforced.into_iter().fold(call, |call, enforced| call.field("x-portcullis-enforced", &enforced.to_string()))
    }

    /// Says by which revision it decides.
    #[track_caller]
    fn decides_by(&self, revision: u64) {
        self.call("POST", "decisions", Some(revision)).body("").send(self.admin.address).expect(204);
    }

    /// Asks for changes again and again, and decides by what it has heard of, until the server is gone.
    fn poll(&self, from: u64) {
        let mut cursor = format!("r{from}");
        loop {
            let enforced = cursor[1..].split('.').next().unwrap().parse().unwrap();
            let call = self.call("GET", &format!("changes?cursor={cursor}&wait=30"), Some(enforced));
            let Ok(answer) = call.try_send(self.admin.address) else { return };
            cursor = answer.expect(200).field("x-portcullis-cursor").unwrap().to_owned();
        }
    }

    fn give(&self, batch: &[u8]) -> Message {
        self.call("POST", "decisions", Some(1)).body(batch).send(self.admin.address)
    }
}

/// Three workers of two nodes.
fn workers(world: &World) -> [Worker; 3] {
    let admin = world.admin_with(&feed_key(world, "edge").key);
    [("edge-1", "00000000000000a1"), ("edge-1", "00000000000000a2"), ("edge-2", "00000000000000b1")]
        .map(|(node, worker)| Worker { admin: admin.clone(), feed: "edge", node, worker })
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The revision by which the host decides.
fn revision(world: &World) -> u64 {
    world.admin().get("/v1/nodes").expect(200).json()["items"][0]["revision"].as_u64().unwrap()
}

/// Revokes a new key in another thread and waits until this host decides by it.
fn revoke(world: &World, key: &Key, query: &str) -> (JoinHandle<Value>, u64) {
    let (admin, before) = (world.admin(), revision(world));
    let path = format!("{TENANT_KEYS}/{}/revoke?{query}", key.id);
    let revoked = thread::spawn(move || admin.post(&path, json!({ "confirm": true })).expect(200).json());
    (revoked, eventually("the host decides by it", || Some(revision(world)).filter(|now| *now > before)))
}

fn receipt<'r>(receipts: &'r Value, worker: &Worker) -> &'r Value {
    let nodes = receipts["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["worker"] == worker.worker).unwrap_or_else(|| panic!("{receipts}"))
}

#[test]
fn p3_a_revocation_waits_for_every_live_worker_and_names_each() {
    let world = world();
    let key = world.tenant_key();
    let [first, second, slow] = workers(&world);
    let before = revision(&world);
    [&first, &second, &slow].into_iter().for_each(|worker| worker.decides_by(before));
    let (revoked, after) = revoke(&world, &key, "wait=all&wait_timeout_s=60");
    first.decides_by(after);
    // One may be further on already.
    second.decides_by(after + 1);
    slow.decides_by(before);
    slow.decides_by(after);
    let told = revoked.join().unwrap();
    assert_eq!(told["status"], "revoked");
    let receipts = &told["receipts"];
    assert_eq!((&receipts["complete"], &receipts["revision"]), (&json!(true), &json!(after)), "{told}");
    assert_eq!(receipts["nodes"].as_array().unwrap().len(), 3, "{told}");
    for worker in [&first, &second, &slow] {
        let receipt = receipt(receipts, worker);
        assert_eq!((&receipt["node"], &receipt["feed"]), (&json!(worker.node), &json!("edge")));
        assert!(receipt["latency_ms"].is_u64() && receipt["gone"].is_null(), "{receipt}");
    }
    let latency = |worker| receipt(receipts, worker)["latency_ms"].as_u64().unwrap();
    assert!(latency(&first) <= latency(&slow), "{told}");
    assert_eq!(receipt(receipts, &second)["revision"], after + 1);
    let plain = world.admin().get(&format!("{TENANT_KEYS}/{}", key.id)).expect(200).json();
    assert!(plain["receipts"].is_null(), "they are told to whoever waits alone: {plain}");
}

#[test]
fn p3_workers_that_poll_hear_of_a_revocation_and_have_it_receipted() {
    let mut world = world();
    let keys: Vec<Key> = (0..5).map(|_| world.tenant_key()).collect();
    let workers = workers(&world);
    let from = revision(&world);
    let polling = workers.clone().map(|worker| thread::spawn(move || worker.poll(from)));
    eventually("all of them are attached", || {
        let listed = world.admin().get("/v1/nodes").expect(200).json();
        let is_live = |node: &&Value| node["worker"].is_string() && node["live"] == true;
        (listed["items"].as_array().unwrap().iter().filter(is_live).count() == 3).then_some(())
    });
    for key in keys {
        let path = format!("{TENANT_KEYS}/{}/revoke?wait=all&wait_timeout_s=60", key.id);
        let told = world.admin().post(&path, json!({ "confirm": true })).expect(200).json();
        let receipts = &told["receipts"];
        assert_eq!((&receipts["complete"], &receipts["revision"]), (&json!(true), &told["changed"]), "{told}");
        workers.iter().for_each(|worker| assert_eq!(receipt(receipts, worker)["revision"], told["changed"], "{told}"));
    }
    world.server.kill();
    polling.into_iter().for_each(|polling| polling.join().unwrap());
}

#[test]
fn p3_a_worker_that_dies_is_named_and_holds_nobody_up() {
    let world = world();
    let key = world.tenant_key();
    let [first, dead, _] = workers(&world);
    let before = revision(&world);
    first.decides_by(before);
    dead.decides_by(before);
    let (revoked, after) = revoke(&world, &key, "wait=all&wait_timeout_s=60");
    first.decides_by(after);
    let receipts = revoked.join().unwrap()["receipts"].clone();
    assert_eq!(receipts["complete"], false, "{receipts}");
    let gone = receipt(&receipts, &dead);
    assert_eq!((&gone["gone"], &gone["revision"], &gone["latency_ms"]), (&json!(true), &json!(before), &Value::Null));
    assert!(receipt(&receipts, &first)["latency_ms"].is_u64(), "{receipts}");
    let listed = world.admin().get("/v1/nodes").expect(200).json();
    let live = listed["items"].as_array().unwrap().iter().find(|node| node["worker"] == dead.worker).unwrap();
    assert_eq!(live["live"], false, "{listed}");
}

#[test]
fn p3_what_was_waited_for_in_vain_stands_and_is_waited_for_again() {
    let world = world();
    let key = world.tenant_key();
    let [worker, ..] = workers(&world);
    let before = revision(&world);
    worker.decides_by(before);
    let (revoked, after) = revoke(&world, &key, "wait=all&wait_timeout_s=1");
    let receipts = revoked.join().unwrap()["receipts"].clone();
    assert_eq!((&receipts["complete"], &receipts["revision"]), (&json!(false), &json!(after)), "{receipts}");
    let late = receipt(&receipts, &worker);
    assert!(late["gone"].is_null() && late["latency_ms"].is_null(), "{receipts}");
    world.events(&key.key).expect(401);

    // Whoever asks again changes nothing, and waits for the same.
    let path = format!("{TENANT_KEYS}/{}/revoke", key.id);
    let (admin, again) = (world.admin(), format!("{path}?wait=all&wait_timeout_s=60"));
    let repeated = thread::spawn(move || admin.post(&again, json!({ "confirm": true })).expect(200).json());
    worker.decides_by(after);
    let receipts = repeated.join().unwrap()["receipts"].clone();
    assert_eq!((&receipts["complete"], &receipts["revision"]), (&json!(true), &json!(after)), "{receipts}");
    assert_eq!(revision(&world), after);
    world.admin().post(&path, json!({ "confirm": true })).problem(409, "key_revoked");
}

#[test]
fn p3_every_revocation_can_be_waited_for() {
    let world = world();
    let admin = world.admin();
    let client = json!({ "name": "Client", "scopes": ["s"], "audiences": ["https://shop.example"] });
    world.admin().put("/v1/services/shop/endpoints/scoped", json!({ "paths": ["/scoped"], "scope": "s" })).expect(200);
    admin.put("/v1/signature-profiles/ours", crate::signer::escher()).expect(200);
    let client = admin.post("/v1/tenants/acme/clients", client).expect(201).json();
    let confirm = json!({ "confirm": true });
    for at in [
        format!("{TENANT_KEYS}/{}", world.tenant_key().id),
        format!("{MANAGEMENT_KEYS}/{}", world.management_key().id),
        format!("{WORKSPACE_KEYS}/{}", world.workspace_key().id),
        format!("/v1/tenants/acme/clients/{}", client["id"].as_str().unwrap()),
    ] {
        let told = admin.post(&format!("{at}/revoke?wait=all"), confirm.clone()).expect(200).json();
        let receipts = json!({ "complete": true, "revision": told["changed"], "nodes": [] });
        assert_eq!(told["receipts"], receipts, "there is nobody to wait for: {at}");
    }
    let at = format!("{MANAGEMENT_KEYS}/{}", world.management_key().id);
    admin.delete(&format!("{at}?wait=all")).problem(409, "confirmation_required");
    let told = admin.delete(&format!("{at}?confirm=true&wait=all")).expect(200).json();
    assert_eq!((&told["receipts"]["complete"], &told["receipts"]["nodes"]), (&json!(true), &json!([])), "{told}");
    let at = format!("{MANAGEMENT_KEYS}/{}", world.management_key().id);
    assert!(admin.delete(&format!("{at}?confirm=true")).expect(204).body.is_empty());
}

#[test]
fn waiting_is_asked_for_as_it_is_described_or_nothing_is_revoked() {
    let world = world();
    let key = world.tenant_key();
    let revoke = |query: &str| {
        world.admin().post(&format!("{TENANT_KEYS}/{}/revoke?{query}", key.id), json!({ "confirm": true }))
    };
    for query in ["wait=some", "wait=", "wait=all&wait_timeout_s=-1", "wait=all&patience=1"] {
        revoke(query).problem(400, "bad_query");
    }
    for query in ["wait=all&wait_timeout_s=0", "wait=all&wait_timeout_s=61", "wait_timeout_s=5"] {
        assert_eq!(revoke(query).problem(422, "invalid")["faults"][0]["field"], "wait_timeout_s");
    }
    world.events(&key.key).expect(200);
    revoke("wait=all&wait_timeout_s=60").expect(200);
    world.events(&key.key).expect(401);
    assert_eq!(revoke("wait=all&wait_timeout_s=1").expect(200).json()["receipts"]["complete"], true);
}

#[test]
fn p3_nodes_are_listed_with_what_they_decide_by() {
    let world = world();
    let [first, second, _] = workers(&world);
    let host = revision(&world);
    first.decides_by(host);
    second.decides_by(host - 1);
    let listed = world.admin().get("/v1/nodes").expect(200).json();
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), 3, "this host is one of them: {listed}");
    let (own, first_row, second_row) = (&items[0], &items[1], &items[2]);
    assert_eq!((&own["node"], &own["worker"], &own["live"]), (&json!("this host"), &Value::Null, &json!(true)));
    assert_eq!((&own["revision"], &own["lag"], &own["same_module"]), (&json!(host), &json!(0), &json!(true)));
    assert_eq!((&first_row["node"], &first_row["worker"]), (&json!("edge-1"), &json!(first.worker)));
    assert_eq!((&first_row["lag"], &first_row["behind_ms"], &first_row["live"]), (&json!(0), &json!(0), &json!(true)));
    assert_eq!((&first_row["module"], &first_row["same_module"]), (&json!("0f".repeat(32)), &json!(false)), "{listed}");
    assert_eq!((&first_row["address"], &first_row["feed"]), (&json!("127.0.0.1"), &json!("edge")));
    assert_eq!((&second_row["lag"], &second_row["worker"]), (&json!(1), &json!(second.worker)), "{listed}");
    assert!(second_row["behind_ms"].is_u64() && second_row["clock_difference_s"].is_i64(), "{listed}");

    let metrics = world.admin().call("GET", "/metrics").send(world.server.admin).expect(200).text();
    for line in ["portcullis_nodes 2", "portcullis_nodes_lag_revisions 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn a_worker_says_who_it_is_with_every_call() {
    let world = world();
    let [worker, ..] = workers(&world);
    let fields = [
        ("x-portcullis-node", "edge-1", "a b"),
        ("x-portcullis-worker", "00000000000000a1", "00000000000000A1"),
        ("x-portcullis-now", "1800000000", "soon"),
        ("x-portcullis-enforced", "1", "-1"),
        ("x-portcullis-module", "0f", "0f"),
    ];
    for (spoilt, _, bad) in fields {
        let call = worker.admin.call("POST", "/v1/feeds/edge/decisions");
        let value = |name: &'static str, good: &'static str| if name == spoilt { bad } else { good };
        let sent = fields.iter().filter(|(name, ..)| *name != "x-portcullis-module" || *name == spoilt);
        let call = sent.fold(call, |call, (name, good, _)| call.field(name, value(name, good)));
        let told = call.body("").send(world.server.admin).problem(400, "bad_request");
        assert!(told["detail"].as_str().unwrap().contains(spoilt), "{told}");
    }
    assert_eq!(world.admin().get("/v1/nodes").expect(200).json()["items"].as_array().unwrap().len(), 1);
}

#[test]
fn t3_the_key_of_a_feed_reads_that_feed_and_changes_nothing() {
    let world = world();
    let root = world.admin();
    root.post("/v1/feeds", json!({ "id": "dmz", "services": ["shop"] })).expect(201);
    let [worker, ..] = workers(&world);
    worker.decides_by(1);
    let other = Worker { feed: "dmz", ..worker.clone() };
    let denied = other.call("POST", "decisions", None).body("").send(world.server.admin);
    denied.problem(403, "forbidden");
    let missing = Worker { feed: "nothing", ..worker.clone() };
    missing.call("POST", "decisions", None).body("").send(world.server.admin).problem(403, "forbidden");
    // Whoever may read every feed is told that there is none.
    let missing = Worker { admin: root.clone(), ..missing };
    missing.call("POST", "decisions", None).body("").send(world.server.admin).problem(404, "not_found");

    let admin = &worker.admin;
    for path in ["/v1/feeds", "/v1/feeds/edge", "/v1/nodes", "/v1/services", "/v1/tenants", "/v1/self", "/v1/decisions"]
    {
        admin.get(path).expect(403);
    }
    admin.patch("/v1/feeds/edge", json!({ "services": ["shop"] })).expect(403);
    admin.delete("/v1/feeds/edge?confirm=true").expect(403);
    admin.post("/v1/feeds", json!({ "id": "more", "services": ["shop"] })).expect(403);
    admin.post(TENANT_KEYS, json!({ "name": "More", "group": "all" })).expect(403);
    admin.post(SYSTEM_KEYS, json!({ "name": "More" })).expect(403);

    // The same endpoints in the hands of a tenant lead nowhere, whatever its applications are called.
    root.post("/v1/tenants/acme/applications", json!({ "id": "edge" })).expect(201);
    let theirs = json!({
        "name": "Theirs", "expires": "2099-12-31", "endpoints": ["portcullis/feed", "portcullis/feed.read"],
        "applications": ["edge"], "creator_rule": "independent",
    });
    let theirs = Key::of(&root.post(MANAGEMENT_KEYS, theirs).expect(201));
    let theirs = Worker { admin: world.admin_with(&theirs.key), ..worker };
    theirs.call("POST", "decisions", None).body("").send(world.server.admin).problem(403, "forbidden");
}

/// The `count`th id of a worker in a millisecond that has passed.
fn decision_id(ms_ago: u64, count: u64) -> u64 {
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    ((now - ms_ago) << 20) | (0xa1 << 8) | count
}

/// The details of a decision about a service, made with a key.
fn details(service: &str, key: &str) -> Vec<u8> {
    let now = UnixTime::from_secs(seconds()).unwrap();
    let facts = Facts::unknown(Revision(7), now, "192.0.2.44".parse().unwrap());
    let credential = CredentialFacts { id: key, kind: Kind::Tenant, proof: Proof::Key, secret_version: 1 };
    let facts = Facts { service, tenant: "acme", credential: Some(credential), ..facts };
    let mut packed = Vec::new();
    Details::of(facts).pack(&mut packed).unwrap();
    packed
}

fn packed(all: &[Told<'_>]) -> Vec<u8> {
    let mut batch = Vec::new();
    all.iter().for_each(|told| told.pack(&mut batch));
    batch
}

/// The decisions of workers among all, as ids and gaps, the newest first.
fn given(world: &World) -> Vec<String> {
    let of_worker = |item: &Value| item["gap"].is_u64() || item["facts"]["client"] == "192.0.2.44";
    let items = world.admin().all("/v1/decisions").into_iter().filter(of_worker);
    items
        .map(|item| item["gap"].as_u64().map_or_else(|| item["verdict"].to_string(), |gap| format!("gap {gap}")))
        .collect()
}

#[test]
fn decisions_of_the_edge_are_kept_once_however_often_they_are_sent() {
    let mut world = world();
    let key = world.tenant_key();
    let [worker, other, _] = workers(&world);
    let (id, details) = (decision_id(1000, 0), details("shop", &key.id));
    let denied = Reason::CredentialRevoked.number();
    let batch = packed(&[
        Told::Decision { id, reason: 0, details: &details },
        Told::Decision { id: id + 1, reason: denied, details: &details },
        Told::Gap { count: 5, first: id + 2, last: id + 6 },
    ]);
    worker.give(&batch).expect(204);
    worker.give(&batch).expect(204);
    let once = ["gap 5", "\"deny\"", "\"allow\""];
    assert_eq!(given(&world), once);
    // The same ids of another worker are other decisions, though none of its batches may pass for one of the first.
    other.give(&packed(&[Told::Decision { id: id + 7, reason: 0, details: &details }])).expect(204);
    // What came with another batch before is passed over, the rest is not.
    let more = packed(&[
        Told::Decision { id: id + 1, reason: denied, details: &details },
        Told::Decision { id: id + 8, reason: 0, details: &details },
    ]);
    worker.give(&more).expect(204);
    let all = ["\"allow\"", "\"allow\"", "gap 5", "\"deny\"", "\"allow\""];
    assert_eq!(given(&world), all);

    // Nor does a restart make the host forget.
    world.server.stop();
    world.restart();
    let worker = Worker { admin: world.admin_with(&worker.admin.key), ..worker };
    worker.give(&batch).expect(204);
    worker.give(&more).expect(204);
    assert_eq!(given(&world), all);
    let at = format!("{TENANT_KEYS}/{}", key.id);
    let used = eventually("the use is written", || {
        let key = world.admin().get(&at).expect(200).json();
        (key["secrets"][0]["count"] == 3).then_some(key)
    });
    assert_eq!(used["last_used"]["address"], "192.0.2.44", "uses at the edge count once: {used}");
}

#[test]
fn two_of_the_same_batch_at_once_are_kept_once() {
    let world = world();
    let [worker, ..] = workers(&world);
    let details = details("shop", "k1");
    let all: Vec<_> = (0..8)
        .map(|count| Told::Decision { id: decision_id(0, 0) - (1 << 30) + count, reason: 0, details: &details })
        .collect();
    let batch = Arc::new(packed(&all));
    let sent: Vec<_> = (0..6)
        .map(|_| {
            let (worker, batch) = (worker.clone(), Arc::clone(&batch));
            thread::spawn(move || worker.give(&batch).expect(204))
        })
        .collect();
    sent.into_iter().for_each(|sent| drop(sent.join().unwrap()));
    assert_eq!(given(&world).len(), 8);
}

#[test]
fn a_batch_with_a_foreign_service_is_refused_as_a_whole() {
    let world = world();
    let [worker, ..] = workers(&world);
    let (shop, vault) = (details("shop", "k1"), details("vault", "k1"));
    let id = decision_id(1000, 0);
    let batch = packed(&[
        Told::Decision { id, reason: 0, details: &shop },
        Told::Decision { id: id + 1, reason: 0, details: &vault },
    ]);
    let told = worker.give(&batch).problem(422, "bad_batch");
    assert!(told["detail"].as_str().unwrap().contains("record 1 names a service that is not in the feed"), "{told}");
    assert!(given(&world).is_empty());
    let logged = eventually("it is logged", || {
        world.server.stderr().lines().find(|line| line.contains("decisions were refused")).map(str::to_owned)
    });
    assert!(logged.contains("ERROR") && logged.contains("edge-1") && logged.contains("00000000000000a1"), "{logged}");
    // Of the time that has not come, and the host's own ids.
    let tomorrow = id + (86_400_000 << 20);
    for id in [tomorrow, (id >> 20) << 20] {
        worker.give(&packed(&[Told::Decision { id, reason: 0, details: &shop }])).problem(422, "bad_batch");
    }
    worker.give(b"no batch").problem(422, "bad_batch");
    assert!(given(&world).is_empty());
}

#[test]
fn a_batch_is_as_long_as_may_be_and_no_longer() {
    let world = world();
    let [worker, ..] = workers(&world);
    let details = details("shop", "k1");
    let id = decision_id(5000, 0);
    let of = |count: usize| {
        let told = (0..count as u64).map(|n| Told::Decision { id: id + (n << 20), reason: 0, details: &details });
        packed(&told.collect::<Vec<_>>())
    };
    worker.give(&of(MAX_BATCH_RECORDS)).expect(204);
    assert_eq!(given(&world).len(), MAX_BATCH_RECORDS);
    worker.give(&of(MAX_BATCH_RECORDS + 1)).problem(422, "bad_batch");
    worker.give(&vec![0; (1 << 20) + 1]).problem(413, "too_large");
}

/// The command line, with the key of the superuser.
fn cli(world: &World, arguments: &[&str]) -> Ran {
    let server = format!("http://{}", world.server.admin);
    let mut command = portcullis();
    command.env("PORTCULLIS_SERVER", server).env("PORTCULLIS_KEY", &world.site.admin_key).args(arguments);
    run(&mut command)
}

#[test]
fn the_command_line_makes_a_feed_its_key_and_shows_who_reads_it() {
    let world = World::new();
    let made = cli(&world, &["feed", "create", "edge", "--service", "shop"]);
    assert!(made.code == Some(0) && made.stdout.starts_with("created feed `edge`\n"), "{made:?}");
    let file = world.site.path("edge.key");
    let key = [
        "feed",
        "key",
        "edge",
        "--name",
        "Envoy, eu-1",
        "--expires",
        "2099-12-31",
        "--key-out",
        file.to_str().unwrap(),
    ];
    let made = cli(&world, &key);
    assert!(made.code == Some(0) && made.stdout.contains("of feed `edge`"), "{made:?}");
    let key = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(key.starts_with("ptc_") && !made.stdout.contains(&key), "{made:?}");
    let refused = cli(&world, &["feed", "key", "dmz", "--name", "Nowhere", "--expires", "2099-12-31"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("there is no feed `dmz`"), "{refused:?}");

    let worker = Worker { admin: world.admin_with(&key), feed: "edge", node: "eu-1", worker: "00000000000000c1" };
    worker.decides_by(revision(&world));
    let nodes = cli(&world, &["nodes"]);
    assert_eq!(nodes.code, Some(0), "{nodes:?}");
    let lines: Vec<&str> = nodes.stdout.lines().collect();
    assert!(
        lines[0].starts_with("NODE") && lines[1].starts_with("this host") && lines[2].starts_with("eu-1"),
        "{nodes:?}"
    );
    assert!(lines[2].contains("0f0f0f0f0f0f (another)"), "{nodes:?}");

    let in_use = cli(&world, &["feed", "delete", "edge", "--yes"]);
    assert!(in_use.code == Some(1) && in_use.stderr.contains("revoke it first"), "{in_use:?}");
}

#[test]
fn the_command_line_tells_who_does_not_decide_by_a_revocation_yet() {
    let world = world();
    let [first, second, _] = workers(&world);
    let host = revision(&world);
    first.decides_by(host + 100);
    let key = world.tenant_key();
    let done = cli(&world, &["key", "revoke", "acme", &key.id, "--yes", "--wait", "all"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("the one worker that is attached decides by revision"), "{done:?}");

    second.decides_by(host);
    let key = world.tenant_key();
    let late = cli(&world, &["key", "revoke", "acme", &key.id, "--yes", "--wait", "all", "--wait-timeout", "1"]);
    assert_eq!(late.code, Some(1), "{late:?}");
    assert!(late.stdout.contains("1 of 2 workers decide by revision") && late.stdout.contains("it stands"), "{late:?}");
    assert!(late.stdout.contains("not yet") && late.stdout.contains("00000000000000a2"), "{late:?}");
    world.events(&key.key).expect(401);

    let key = world.management_key();
    let deleted = cli(&world, &["key", "delete", "acme", &key.id, "--yes", "--wait", "all", "--wait-timeout", "1"]);
    assert!(deleted.code == Some(1) && deleted.stdout.contains("deleted management key"), "{deleted:?}");
}
