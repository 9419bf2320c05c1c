//! `Idempotency-Key`: a creation that is asked for again is not done again.

use serde_json::{Value, json};

use crate::database;
use crate::http::Message;
use crate::world::{Admin, Key, MANAGEMENT_KEYS, TENANT_KEYS, WORKSPACE_KEYS, World};

fn post(admin: &Admin, path: &str, key: &str, body: &Value) -> Message {
    admin.call("POST", path).field("idempotency-key", key).json(body).send(admin.address)
}

fn shop() -> Value {
    json!({ "name": "Shop", "group": "all" })
}

/// Asserts that an answer repeats another, without the secret.
#[track_caller]
fn assert_repeats(again: Message, first: &Value) {
    let again = again.expect(201);
    assert_eq!(again.field("idempotency-replayed"), Some("true"));
    let told = again.json();
    assert_eq!(told["id"], first["id"]);
    assert!(told.as_object().unwrap().contains_key("key") && told["key"].is_null(), "{told}");
    assert_eq!(told["secret_already_shown"], true);
    assert!(!again.text().contains(first["key"].as_str().unwrap()));
}

#[test]
fn a_repetition_leads_to_the_same_key_without_its_secret() {
    let world = World::new();
    let admin = world.admin();
    let first = post(&admin, TENANT_KEYS, "one", &shop()).expect(201);
    assert_eq!(first.field("idempotency-replayed"), None);
    let told = first.json();
    assert_eq!(told.get("secret_already_shown"), None);
    let again = post(&admin, TENANT_KEYS, "one", &shop());
    assert_eq!((again.field("location"), again.field("etag")), (first.field("location"), first.field("etag")));
    assert_repeats(again, &told);
    assert_eq!(admin.all(TENANT_KEYS).len(), 1);
    world.events(told["key"].as_str().unwrap()).expect(200);
    // As it is now, not as it was.
    let at = format!("{TENANT_KEYS}/{}", told["id"].as_str().unwrap());
    admin.patch(&at, json!({ "name": "Renamed" })).expect(200);
    assert_eq!(post(&admin, TENANT_KEYS, "one", &shop()).expect(201).json()["name"], "Renamed");
    assert_eq!(world.newest_entry()["action"], "edit", "a repetition changes nothing");
    // Another key, another creation; and none at all.
    post(&admin, TENANT_KEYS, "two", &shop()).expect(201);
    admin.post(TENANT_KEYS, shop()).expect(201);
    assert_eq!(admin.all(TENANT_KEYS).len(), 3);
}

#[test]
fn every_creation_and_rotation_can_be_repeated() {
    let world = World::new();
    let admin = world.admin();
    for (path, body) in [
        ("/v1/tenants", json!({ "id": "globex" })),
        ("/v1/services", json!({ "id": "other", "hosts": ["other.example"], "upstream": "http://127.0.0.1:9" })),
        ("/v1/tenants/acme/groups", json!({ "id": "new" })),
        ("/v1/tenants/acme/applications", json!({ "id": "new" })),
        ("/v1/tenants/acme/users", json!({ "id": "new", "role": "member" })),
    ] {
        let first = post(&admin, path, path, &body).expect(201);
        let again = post(&admin, path, path, &body).expect(201);
        assert_eq!(again.field("idempotency-replayed"), Some("true"), "{path}");
        assert_eq!(first.json(), again.json(), "{path}");
        admin.post(path, body).problem(409, "exists");
    }
    let pair = json!({ "name": "Pair", "confirm": true });
    let first = post(&admin, WORKSPACE_KEYS, "pair", &pair).expect(201).json();
    let again = post(&admin, WORKSPACE_KEYS, "pair", &pair).expect(201).json();
    assert!(first["signing_secret"].is_string() && again["signing_secret"].is_null(), "{again}");
    assert_eq!((&first["id"], &again["secret_already_shown"]), (&again["id"], &json!(true)));
    let body = json!({
        "name": "Ours", "expires": "2099-12-31", "endpoints": ["shop/events"], "creator_rule": "independent",
    });
    let first = post(&admin, MANAGEMENT_KEYS, "ours", &body).expect(201).json();
    assert_repeats(post(&admin, MANAGEMENT_KEYS, "ours", &body), &first);
    let at = format!("{MANAGEMENT_KEYS}/{}/rotate", first["id"].as_str().unwrap());
    let rotated = post(&admin, &at, "turn", &json!({ "confirm": true })).expect(201).json();
    assert_repeats(post(&admin, &at, "turn", &json!({ "confirm": true })), &rotated);
    let now = admin.get(&format!("{MANAGEMENT_KEYS}/{}", first["id"].as_str().unwrap())).expect(200).json();
    assert_eq!(now["secret_version"], 2, "it was rotated once");
    let endpoint = json!({ "paths": ["/async-events"], "scope": "async-events" });
    admin.put("/v1/services/shop/endpoints/async-events", endpoint).expect(200);
    let clients = "/v1/tenants/acme/clients";
    let client = json!({ "name": "Pipeline", "scopes": ["async-events"], "audiences": ["https://api.shop.example"] });
    let first = post(&admin, clients, "client", &client).expect(201).json();
    let again = post(&admin, clients, "client", &client).expect(201).json();
    assert!(first["client_secret"].is_string() && again["client_secret"].is_null(), "{again}");
    assert_eq!((&first["id"], &again["secret_already_shown"]), (&again["id"], &json!(true)));
    assert_eq!(admin.all(clients).len(), 1);
}

#[test]
fn of_many_at_once_one_is_done() {
    let world = World::new();
    let admin = world.admin();
    let answers: Vec<Message> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(|| post(&admin, TENANT_KEYS, "at-once", &shop()))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(admin.all(TENANT_KEYS).len(), 1);
    let (made, rest): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status() == 201 && answer.json()["key"].is_string());
    assert_eq!(made.len(), 1, "one answer has the secret");
    for other in rest {
        match other.status() {
            201 => assert_repeats(other, &made[0].json()),
            _ => drop(other.problem(409, "idempotency_in_progress")),
        }
    }
}

#[test]
fn the_same_key_for_something_else_is_refused_and_another_caller_has_keys_of_its_own() {
    let world = World::new();
    let admin = world.admin();
    let first = post(&admin, TENANT_KEYS, "mine", &shop()).expect(201).json();
    let other = json!({ "name": "Another", "group": "all" });
    post(&admin, TENANT_KEYS, "mine", &other).problem(422, "idempotency_key_reused");
    assert_eq!(world.newest_entry()["code"], "idempotency_key_reused");
    let groups = "/v1/tenants/acme/groups";
    post(&admin, groups, "mine", &json!({ "id": "new" })).problem(422, "idempotency_key_reused");
    assert_eq!(admin.all(TENANT_KEYS).len(), 1);
    // The rotation of the key is something else as well.
    let at = format!("{TENANT_KEYS}/{}/rotate", first["id"].as_str().unwrap());
    post(&admin, &at, "mine", &json!({ "confirm": true })).problem(422, "idempotency_key_reused");

    let endpoints = ["portcullis/tenant-keys", "portcullis/tenant-keys.read", "shop/events", "shop/reports"];
    let body =
        json!({ "name": "Theirs", "expires": "2099-12-31", "endpoints": endpoints, "creator_rule": "independent" });
    let theirs = world.admin_with(&Key::of(&admin.post(MANAGEMENT_KEYS, body).expect(201)).key);
    let second = post(&theirs, TENANT_KEYS, "mine", &shop()).expect(201).json();
    assert!(second["key"].is_string() && second["id"] != first["id"], "{second}");
}

#[test]
fn what_was_refused_is_not_remembered() {
    let world = World::new();
    let admin = world.admin();
    let wrong = json!({ "name": "Shop", "group": "nothing" });
    post(&admin, TENANT_KEYS, "k", &wrong).problem(422, "invalid");
    post(&admin, TENANT_KEYS, "k", &wrong).problem(422, "invalid");
    assert!(post(&admin, TENANT_KEYS, "k", &shop()).expect(201).json()["key"].is_string());
}

#[test]
fn after_a_crash_a_repetition_is_still_one() {
    let mut world = World::new();
    let first = post(&world.admin(), TENANT_KEYS, "crash", &shop()).expect(201).json();
    world.server.kill();
    world.restart();
    let admin = world.admin();
    assert_repeats(post(&admin, TENANT_KEYS, "crash", &shop()), &first);
    assert_eq!(admin.all(TENANT_KEYS).len(), 1);
    world.events(first["key"].as_str().unwrap()).expect(200);
    // A change that is cut off is there with its row or not at all, so asking again always leads to one key.
    for crash in 0..10 {
        let admin = world.admin();
        let name = format!("crash-{crash}");
        std::thread::scope(|scope| {
            let (admin, name) = (&admin, &name);
            scope.spawn(move || {
                let call = admin.call("POST", TENANT_KEYS).field("idempotency-key", name).json(&shop());
                // Nothing comes where the server is gone.
                let _ = call.try_send(admin.address);
            });
            std::thread::sleep(std::time::Duration::from_micros(u64::from(crash_delay(crash))));
            world.server.kill();
        });
        world.restart();
        let admin = world.admin();
        post(&admin, TENANT_KEYS, &name, &shop()).expect(201);
        assert_eq!(admin.all(TENANT_KEYS).len(), 2 + crash as usize, "crash {crash}");
        admin.assert_audit_is_intact();
    }
}

/// From before the request to after its answer.
fn crash_delay(crash: u16) -> u16 {
    500 * crash
}

#[test]
fn a_key_has_1_to_255_visible_characters_and_is_there_once() {
    let world = World::new();
    let admin = world.admin();
    post(&admin, TENANT_KEYS, &"k".repeat(255), &shop()).expect(201);
    post(&admin, TENANT_KEYS, &"k".repeat(256), &shop()).problem(400, "bad_idempotency_key");
    post(&admin, TENANT_KEYS, "", &shop()).problem(400, "bad_idempotency_key");
    post(&admin, TENANT_KEYS, "two words", &shop()).problem(400, "bad_idempotency_key");
    let twice = admin.call("POST", TENANT_KEYS).field("idempotency-key", "a").field("idempotency-key", "b");
    twice.json(&shop()).send(admin.address).problem(400, "bad_idempotency_key");
    assert_eq!(admin.all(TENANT_KEYS).len(), 1);
}

#[test]
fn a_creation_is_remembered_for_a_day_and_a_tenant_has_100_000_of_them() {
    let mut world = World::new();
    let first = post(&world.admin(), TENANT_KEYS, "old", &shop()).expect(201).json();
    world.server.stop();
    database::execute(&world.site.data(), "UPDATE idempotency SET at = at - 86401");
    world.restart();
    let again = post(&world.admin(), TENANT_KEYS, "old", &shop()).expect(201).json();
    assert!(again["key"].is_string() && again["id"] != first["id"], "{again}");
    world.server.stop();
    // One is there; 99 998 more leave room for one.
    let fill = "INSERT INTO idempotency (credential, key, tenant, fingerprint, object, revision, at)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99998)
         SELECT 'filler', i, 'system', zeroblob(32), 'x', 1, (SELECT max(at) FROM idempotency) FROM n";
    database::execute(&world.site.data(), fill);
    world.restart();
    let admin = world.admin();
    post(&admin, TENANT_KEYS, "last", &shop()).expect(201);
    let told = post(&admin, TENANT_KEYS, "one-more", &shop()).problem(409, "idempotency_quota");
    assert!(told["detail"].as_str().unwrap().contains("100000"), "{told}");
    post(&admin, TENANT_KEYS, "last", &shop()).expect(201);
    admin.post(TENANT_KEYS, shop()).expect(201);
}
