//! REQUIREMENTS E1-E6: tenant keys.

use serde_json::{Value, json};

use crate::server::eventually;
use crate::world::{Key, TENANT_KEYS, World};

fn body(more: Value) -> Value {
    let mut body = json!({ "name": "Ours", "group": "all" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn make(world: &World, more: Value) -> Key {
    Key::of(&world.admin().post(TENANT_KEYS, body(more)).expect(201))
}

fn at(key: &Key) -> String {
    format!("{TENANT_KEYS}/{}", key.id)
}

/// A key that has expired since it was made.
fn expired(world: &World) -> Key {
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 2;
    let soon = jiff::Timestamp::from_second(soon.try_into().unwrap()).unwrap().to_string();
    let key = make(world, json!({ "expires": soon }));
    eventually("the key expires", || {
        (world.admin().get(&at(&key)).expect(200).json()["expiration"] == "expired").then_some(())
    });
    key
}

#[test]
fn e1_what_a_key_is_made_of_is_checked_field_by_field() {
    let world = World::new();
    let admin = world.admin();
    let member = json!({ "id": "profile", "type": "member" });
    admin.post("/v1/tenants/acme/groups", member).expect(201);
    let longest = json!({ "name": "n".repeat(200), "description": "d".repeat(1000) });
    make(&world, longest);
    make(&world, json!({ "name": "ab" }));
    for (wrong, field) in [
        (json!({ "name": "n".repeat(201) }), "name"),
        (json!({ "name": "a" }), "name"),
        (json!({ "description": "d".repeat(1001) }), "description"),
        (json!({ "group": "nothing" }), "group"),
        (json!({ "group": "profile" }), "group"),
        (json!({ "expires": "2020-01-01" }), "expires"),
        (json!({ "expires": "tomorrow" }), "expires"),
        (json!({ "ip_allowlist": "10.0.0.1\n10.0.0.0/40" }), "ip_allowlist[1]"),
    ] {
        let told = admin.post(TENANT_KEYS, body(wrong)).problem(422, "invalid");
        assert_eq!(told["faults"][0]["field"], field, "{told}");
    }
    let told = admin.post(TENANT_KEYS, body(json!({ "ip_allowlist": "::1\n\nnowhere" }))).problem(422, "invalid");
    assert!(told["faults"][0]["detail"].as_str().unwrap().contains("line 3"), "{told}");
}

#[test]
fn e2_keys_are_listed_with_their_state_and_counted_against_the_limit() {
    let world = World::new();
    let admin = world.admin();
    let kept = make(&world, json!({ "expires": "2099-12-31" }));
    let revoked = make(&world, json!({}));
    admin.post(&format!("{}/revoke", at(&revoked)), json!({ "confirm": true })).expect(200);
    let ids = |query: &str| -> Vec<String> {
        let items = admin.all(&format!("{TENANT_KEYS}{query}"));
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("?state=active"), [kept.id.as_str()]);
    assert_eq!(ids("?state=revoked"), [revoked.id.as_str()]);
    assert_eq!(ids("").len(), 2);
    let item = &admin.all(&format!("{TENANT_KEYS}?state=active"))[0];
    assert_eq!((&item["group"], &item["expiration"]), (&"all".into(), &"valid".into()), "{item}");
    assert_eq!(item["expires"], "2100-01-01T00:00:00Z", "a bare date means its end: {item}");

    admin.patch("/v1/tenants/acme", json!({ "key_limit": 2 })).expect(200);
    assert_eq!(admin.get("/v1/tenants/acme").expect(200).json()["keys_in_use"], 1);
    let second = expired(&world);
    assert_eq!(admin.get("/v1/tenants/acme").expect(200).json()["keys_in_use"], 1, "an expired one does not count");
    make(&world, json!({}));
    let told = admin.post(TENANT_KEYS, body(json!({}))).problem(409, "key_limit_reached");
    assert!(told["detail"].as_str().unwrap().contains("2/2 keys"), "{told}");
    let again = json!({ "confirm": true, "expires": "2099-01-01" });
    admin.post(&format!("{}/rotate", at(&second)), again).problem(409, "key_limit_reached");
}

#[test]
fn e3_an_edit_keeps_the_secret_and_cannot_change_the_expiry() {
    let world = World::new();
    let admin = world.admin();
    let key = make(&world, json!({}));
    let reports = json!({ "id": "reports", "permissions": [{ "endpoint": "shop/reports" }] });
    admin.post("/v1/tenants/acme/groups", reports).expect(201);
    let edited = admin.patch(&at(&key), json!({ "group": "reports", "description": "less" })).expect(200).json();
    assert_eq!((&edited["group"], &edited["secret_version"]), (&"reports".into(), &1.into()), "{edited}");
    world.events(&key.key).problem(403, "forbidden");
    world.call("GET", "/reports").field("x-api-key", &key.key).send(world.server.proxy).expect(200);
    let told = admin.patch(&at(&key), json!({ "expires": "2099-01-01" })).problem(422, "invalid");
    assert!(told["detail"].as_str().unwrap().contains("`expires`"), "{told}");
    admin.post(&format!("{}/revoke", at(&key)), json!({ "confirm": true })).expect(200);
    admin.patch(&at(&key), json!({ "name": "Too late" })).problem(409, "key_revoked");
}

#[test]
fn e3_an_edit_of_what_was_changed_meanwhile_is_refused() {
    let world = World::new();
    let admin = world.admin();
    let key = make(&world, json!({}));
    let tag = admin.get(&at(&key)).expect(200).field("etag").unwrap().to_owned();
    let edit = |name: &str| {
        let call = admin.call("PATCH", &at(&key)).field("if-match", &tag).json(&json!({ "name": name }));
        call.send(admin.address)
    };
    edit("First").expect(200);
    edit("Second").problem(412, "changed");
    assert_eq!(admin.get(&at(&key)).expect(200).json()["name"], "First");
    // Other records are none of its business.
    let tag = admin.get(&at(&key)).expect(200).field("etag").unwrap().to_owned();
    make(&world, json!({}));
    let call = admin.call("PATCH", &at(&key)).field("if-match", &tag).json(&json!({ "name": "Third" }));
    call.send(admin.address).expect(200);
}

#[test]
fn e4_a_rotation_needs_confirmation_and_may_give_a_new_expiry() {
    let world = World::new();
    let admin = world.admin();
    let key = make(&world, json!({}));
    let rotate = |key: &Key, body: Value| admin.post(&format!("{}/rotate", at(key)), body);
    rotate(&key, json!({})).problem(409, "confirmation_required");
    world.events(&key.key).expect(200);
    let made = rotate(&key, json!({ "confirm": true, "expires": "2098-12-31" })).expect(201);
    assert_eq!(made.json()["expires"], "2099-01-01T00:00:00Z");
    let next = Key::of(&made);
    world.events(&key.key).expect(401);
    world.events(&next.key).expect(200);
    assert_eq!(admin.get(&at(&key)).expect(200).json()["group"], "all", "the configuration stays");

    let old = expired(&world);
    world.events(&old.key).problem(401, "unauthorized");
    rotate(&old, json!({ "confirm": true })).problem(409, "key_expired");
    let new = Key::of(&rotate(&old, json!({ "confirm": true, "expires": "2099-12-31" })).expect(201));
    world.events(&new.key).expect(200);
}

#[test]
fn e5_a_revocation_is_immediate_final_and_stays_listed() {
    let world = World::new();
    let admin = world.admin();
    let key = make(&world, json!({}));
    let revoke = |body: Value| admin.post(&format!("{}/revoke", at(&key)), body);
    revoke(json!({})).problem(409, "confirmation_required");
    world.events(&key.key).expect(200);
    revoke(json!({ "confirm": true })).expect(200);
    world.events(&key.key).problem(401, "unauthorized");
    revoke(json!({ "confirm": true })).problem(409, "key_revoked");
    admin.post(&format!("{}/rotate", at(&key)), json!({ "confirm": true })).problem(409, "key_revoked");
    assert_eq!(admin.get(&at(&key)).expect(200).json()["state"], "revoked");
}

#[test]
fn e6_the_filter_of_the_endpoint_and_the_list_of_the_key_must_both_pass() {
    let world = World::new();
    let admin = world.admin();
    let settings = "/v1/tenants/acme/settings/shop/events";
    let reason = |key: &Key| {
        let told = world.events(&key.key).problem(403, "address_forbidden");
        world.decision(told["decision"].as_str().unwrap())["reason"].clone()
    };
    let here = make(&world, json!({ "ip_allowlist": ["127.0.0.0/8"] }));
    let elsewhere = make(&world, json!({ "ip_allowlist": ["203.0.113.0/24"] }));
    world.events(&here.key).expect(200);
    assert_eq!(reason(&elsewhere), "address-not-in-key");
    admin.put(settings, json!({ "ip_ranges": ["203.0.113.0/24"] })).expect(200);
    assert_eq!(reason(&here), "address-not-in-endpoint");
    admin.put(settings, json!({ "ip_ranges": ["127.0.0.1"] })).expect(200);
    world.events(&here.key).expect(200);
    assert_eq!(reason(&elsewhere), "address-not-in-key");
}
