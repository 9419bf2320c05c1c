//! REQUIREMENTS T1-T5: management keys.

use serde_json::{Value, json};

use crate::http::Message;
use crate::world::{Key, MANAGEMENT_KEYS, World};

fn with(world: &World, key: &Key, target: &str) -> Message {
    let authorization = format!("ManagementKey-v1 {}", key.key);
    world.call("GET", target).field("authorization", &authorization).send(world.server.proxy)
}

fn body(more: Value) -> Value {
    let mut body = json!({ "name": "Ours", "expires": "2099-12-31", "endpoints": ["shop/events"], "creator": "ada" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A world with the admin `ada`, the member `max` and two applications.
fn world() -> World {
    let world = World::new();
    let admin = world.admin();
    admin.post("/v1/tenants/acme/users", json!({ "id": "ada", "role": "admin" })).expect(201);
    admin.post("/v1/tenants/acme/users", json!({ "id": "max", "role": "member" })).expect(201);
    for id in ["web", "shop-floor"] {
        admin.post("/v1/tenants/acme/applications", json!({ "id": id })).expect(201);
    }
    world
}

fn make(world: &World, more: Value) -> Key {
    Key::of(&world.admin().post(MANAGEMENT_KEYS, body(more)).expect(201))
}

/// The fields that a refusal names.
fn fields(told: &Value) -> Vec<&str> {
    told["faults"].as_array().unwrap().iter().map(|fault| fault["field"].as_str().unwrap()).collect()
}

#[test]
fn t1_only_admins_make_them_and_they_expire() {
    let world = world();
    let refuse = |more: Value| world.admin().post(MANAGEMENT_KEYS, body(more)).problem(422, "invalid");
    assert_eq!(fields(&refuse(json!({ "creator": "max" }))), ["creator"]);
    assert_eq!(fields(&refuse(json!({ "creator": "nobody" }))), ["creator"]);
    assert_eq!(fields(&refuse(json!({ "expires": "2020-01-01" }))), ["expires"]);
    assert_eq!(fields(&refuse(json!({ "endpoints": [] }))), ["endpoints"]);
    assert_eq!(fields(&refuse(json!({ "endpoints": ["shop/nothing"] }))), ["endpoints[0]"]);
    assert_eq!(fields(&refuse(json!({ "name": "x" }))), ["name"]);
    let mut without = body(json!({}));
    without.as_object_mut().unwrap().remove("expires");
    let told = world.admin().post(MANAGEMENT_KEYS, without).problem(422, "invalid");
    assert!(told["detail"].as_str().unwrap().contains("`expires`"), "{told}");
    with(&world, &make(&world, json!({})), "/events").expect(200);
}

#[test]
fn t2_a_confined_key_has_only_endpoints_that_work_with_applications() {
    let world = world();
    let confined = json!({ "applications": ["web"], "endpoints": ["shop/items", "shop/events"] });
    let told = world.admin().post(MANAGEMENT_KEYS, body(confined)).problem(422, "invalid");
    assert_eq!(fields(&told), ["endpoints[1]"]);
    assert!(told["detail"].as_str().unwrap().contains("individual applications"), "{told}");
    let unknown = json!({ "applications": ["nothing"], "endpoints": ["shop/items"] });
    let told = world.admin().post(MANAGEMENT_KEYS, body(unknown)).problem(422, "invalid");
    assert_eq!(fields(&told), ["applications[0]"]);
}

#[test]
fn t3_a_confined_key_works_for_its_applications_alone() {
    let world = world();
    let key = make(&world, json!({ "applications": ["web"], "endpoints": ["shop/items"] }));
    with(&world, &key, "/apps/web/items").expect(200);
    with(&world, &key, "/apps/shop-floor/items").problem(403, "forbidden");
    with(&world, &key, "/events").problem(403, "forbidden");
    let free = make(&world, json!({ "endpoints": ["shop/items"] }));
    with(&world, &free, "/apps/shop-floor/items").expect(200);
}

#[test]
fn t4_a_key_lives_and_dies_with_its_creator() {
    let world = world();
    let admin = world.admin();
    let follows = make(&world, json!({}));
    let independent = make(&world, json!({ "creator_rule": "independent" }));
    let set = |change: Value| admin.patch("/v1/tenants/acme/users/ada", change).expect(200);
    set(json!({ "state": "disabled" }));
    with(&world, &follows, "/events").problem(401, "unauthorized");
    with(&world, &independent, "/events").expect(200);
    set(json!({ "state": "active" }));
    with(&world, &follows, "/events").expect(200);
    // As a member of a group that lacks the endpoint, the creator has no more than that.
    admin
        .post(
            "/v1/tenants/acme/groups",
            json!({
                "id": "readers", "type": "member", "permissions": [{ "endpoint": "shop/reports" }],
            }),
        )
        .expect(201);
    set(json!({ "role": "member", "group": "readers" }));
    with(&world, &follows, "/events").problem(403, "forbidden");
    set(json!({ "role": "admin" }));
    with(&world, &follows, "/events").expect(200);

    admin.delete("/v1/tenants/acme/users/ada").problem(409, "confirmation_required");
    admin.delete("/v1/tenants/acme/users/ada?confirm=true").expect(204);
    with(&world, &follows, "/events").problem(401, "unauthorized");
    with(&world, &independent, "/events").expect(200);
    // The id is not used again, or the key would live again with a stranger.
    admin.post("/v1/tenants/acme/users", json!({ "id": "ada", "role": "admin" })).problem(409, "exists");
}

#[test]
fn t5_it_is_shown_once_works_at_once_and_is_deleted_for_good() {
    let world = world();
    let admin = world.admin();
    let key = make(&world, json!({}));
    with(&world, &key, "/events").expect(200);
    let at = format!("{MANAGEMENT_KEYS}/{}", key.id);
    for path in [&at, MANAGEMENT_KEYS] {
        assert!(!admin.get(path).expect(200).text().contains(&key.key), "{path}");
    }
    admin.delete(&at).problem(409, "confirmation_required");
    with(&world, &key, "/events").expect(200);
    admin.delete(&format!("{at}?confirm=true")).expect(204);
    with(&world, &key, "/events").problem(401, "unauthorized");
    admin.get(&at).problem(404, "not_found");
    admin.post(&format!("{at}/rotate"), json!({ "confirm": true })).problem(404, "not_found");
    assert!(admin.all(MANAGEMENT_KEYS).is_empty());
    let entries = admin.all("/v1/tenants/acme/audit");
    let of_the_key: Vec<_> = entries.iter().filter(|entry| entry["object"] == key.id.as_str()).collect();
    assert_eq!(of_the_key.len(), 4, "created, two refusals, deleted: {of_the_key:?}");
}
