//! Many at once: 64 clients change keys while requests flow.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::http::{Call, Connection, Message};
use crate::world::{Admin, HOST, Key, TENANT_KEYS, World};

const CLIENTS: usize = 64;
/// How often each makes a key, rotates it, rotates the shared one and revokes its own.
const ROUNDS: usize = 6;

/// What the server answered to everything, to be compared with its audit.
#[derive(Default)]
struct Answers {
    done: AtomicU64,
    refused: AtomicU64,
    /// The versions that rotations of the shared key were answered with, and the keys.
    shared: Mutex<HashMap<u64, String>>,
}

/// Each call is on a connection of its own: on a busy machine one that waits for its next turn may be closed as idle.
struct Client<'w> {
    world: &'w World,
    admin: Admin,
    answers: &'w Answers,
}

impl Client<'_> {
    fn change(&self, call: &Call) -> Message {
        let answer = call.send(self.admin.address);
        let count = match answer.status() {
            200 | 201 => &self.answers.done,
            409 | 412 => &self.answers.refused,
            status => panic!("{status}: {}", answer.text()),
        };
        count.fetch_add(1, Ordering::Relaxed);
        answer
    }

    fn post(&self, path: &str, body: &Value) -> Message {
        self.change(&self.admin.call("POST", path).json(body))
    }

    /// The status of the very next request with a key.
    fn passes(&self, key: &str) -> u16 {
        self.world.events(key).status()
    }

    fn round(&self, shared: &str) {
        let confirmed = json!({ "confirm": true });
        let first = Key::of(&self.post(TENANT_KEYS, &json!({ "name": "Own", "group": "all" })).expect(201));
        let at = format!("{TENANT_KEYS}/{}", first.id);
        assert_eq!(self.passes(&first.key), 200, "a new key works at once");

        let second = Key::of(&self.post(&format!("{at}/rotate"), &confirmed).expect(201));
        assert_eq!(self.passes(&first.key), 401, "the old secret is dead at once");
        assert_eq!(self.passes(&second.key), 200);

        let rotated = self.post(&format!("{TENANT_KEYS}/{shared}/rotate"), &confirmed).expect(201);
        let version = rotated.json()["secret_version"].as_u64().unwrap();
        let other = self.answers.shared.lock().unwrap().insert(version, Key::of(&rotated).key);
        assert!(other.is_none(), "two rotations were answered with version {version}");

        // Everybody reads, one writes: the others are told so.
        let read = self.admin.get(&format!("{TENANT_KEYS}/{shared}")).expect(200);
        let edit = self.admin.call("PATCH", &format!("{TENANT_KEYS}/{shared}"));
        let edit = edit.field("if-match", read.field("etag").unwrap()).json(&json!({ "name": "Shared by all" }));
        self.change(&edit);

        self.post(&format!("{at}/revoke"), &confirmed).expect(200);
        assert_eq!(self.passes(&second.key), 401, "a revoked key is refused on the very next request");
        self.post(&format!("{at}/revoke"), &confirmed).problem(409, "key_revoked");
    }
}

fn events(key: &str) -> Call {
    Call::new("GET", "/events").field("host", HOST).field("x-api-key", key)
}

#[test]
fn changes_of_64_clients_at_once_are_all_made_and_traffic_goes_on() {
    let world = World::new();
    let before = world.newest_entry()["number"].as_u64().unwrap();
    let shared = world.tenant_key();
    let steady = world.tenant_key();
    let answers = Answers::default();
    let done = AtomicBool::new(false);
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut connection = Connection::open(world.server.proxy).unwrap();
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(connection.send(&events(&steady.key)).unwrap().status(), 200);
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let client = Client { world: &world, admin: world.admin(), answers: &answers };
                    (0..ROUNDS).for_each(|_| client.round(&shared.id));
                })
            })
            .collect();
        let ended: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|client| client.unwrap());
    });
    assert!(passed.load(Ordering::Relaxed) > 100, "requests flowed");

    let rotations = answers.shared.into_inner().unwrap();
    let mut versions: Vec<u64> = rotations.keys().copied().collect();
    versions.sort_unstable();
    assert!(versions.iter().copied().eq(2..=1 + (CLIENTS * ROUNDS) as u64), "no rotation is lost: {versions:?}");
    let newest = versions[versions.len() - 1];
    for (version, key) in &rotations {
        let status = world.events(key).status();
        assert_eq!(status, if *version == newest { 200 } else { 401 }, "version {version} of {newest}");
    }
    let admin = world.admin();
    admin.assert_audit_is_intact();
    let (done, refused) = (answers.done.into_inner() + 2, answers.refused.into_inner());
    assert!(refused >= (CLIENTS * ROUNDS) as u64);
    let mut entries = admin.all("/v1/tenants/acme/audit");
    entries.retain(|entry| entry["number"].as_u64().unwrap() > before);
    let count = |outcome: &str| entries.iter().filter(|entry| entry["outcome"] == outcome).count() as u64;
    assert_eq!((count("done"), count("refused")), (done, refused));
}

/// The records of decisions name the revision that they were made by. So what each must have been can be told from the
/// audit, which names the revision of every change.
#[test]
fn no_request_is_decided_on_a_half_applied_change() {
    let world = World::new();
    let admin = world.admin();
    let permit = |endpoint: &str| json!({ "permissions": [{ "endpoint": endpoint }] });
    let mut flip = permit("shop/events");
    flip["id"] = json!("flip");
    admin.post("/v1/tenants/acme/groups", flip).expect(201);
    let key = Key::of(&admin.post(TENANT_KEYS, json!({ "name": "Flipped", "group": "flip" })).expect(201));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let traffic: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> io::Result<u64> {
                    let mut connection = Connection::open(world.server.proxy)?;
                    let mut sent = 0;
                    while !done.load(Ordering::Relaxed) {
                        connection.send(&events(&key.key))?;
                        sent += 1;
                    }
                    Ok(sent)
                })
            })
            .collect();
        for round in 0..100 {
            let endpoint = if round % 2 == 0 { "shop/reports" } else { "shop/events" };
            admin.patch("/v1/tenants/acme/groups/flip", permit(endpoint)).expect(200);
        }
        done.store(true, Ordering::Relaxed);
        let sent: u64 = traffic.into_iter().map(|thread| thread.join().unwrap().unwrap()).sum();
        assert!(sent > 200, "{sent}");
    });
    // The newest is written last.
    let last = world.events(&key.key).expect(200);
    assert_eq!(last.text(), "ok\n");
    world.server.terminate();
    let mut world = world;
    assert_eq!(world.server.wait().code(), Some(0));
    world.restart();

    let admin = world.admin();
    let mut permitted: Vec<(u64, bool)> = Vec::new();
    for entry in admin.all("/v1/tenants/acme/audit").iter().rev().filter(|entry| entry["object"] == "flip") {
        let endpoint = &entry["details"]["permissions"][0]["endpoint"];
        permitted.push((entry["revision"].as_u64().unwrap(), endpoint == "shop/events"));
    }
    let (mut allowed, mut denied) = (0, 0);
    for decision in admin.all("/v1/decisions") {
        if decision["facts"]["credential"]["id"] != key.id.as_str() {
            continue;
        }
        let revision = decision["facts"]["revision"].as_u64().unwrap();
        let (_, expected) = permitted.iter().rfind(|(from, _)| *from <= revision).unwrap();
        assert_eq!(decision["verdict"] == "allow", *expected, "{decision}");
        *(if *expected { &mut allowed } else { &mut denied }) += 1;
    }
    assert!(allowed > 20 && denied > 20, "{allowed} allowed, {denied} denied");
}
