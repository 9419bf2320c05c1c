//! REQUIREMENTS P2: rotation with an overlap, and its early end.

use serde_json::{Value, json};

use crate::server::eventually;
use crate::world::{Key, MANAGEMENT_KEYS, TENANT_KEYS, World};

fn rotate(world: &World, key: &Key, body: Value) -> Key {
    Key::of(&world.admin().post(&format!("{TENANT_KEYS}/{}/rotate", key.id), body).expect(201))
}

#[test]
fn p2_the_old_secret_works_until_the_overlap_ends() {
    let world = World::new();
    let (admin, first) = (world.admin(), world.tenant_key());
    // Nothing dies at once, so nothing is to be confirmed.
    let made = admin.post(&format!("{TENANT_KEYS}/{}/rotate", first.id), json!({ "overlap_s": 2 })).expect(201);
    let second = Key::of(&made);
    assert_eq!(made.json()["secret_version"], 2);
    assert!(made.json()["overlap_until"].is_string(), "{}", made.text());
    world.events(&first.key).expect(200);
    world.events(&second.key).expect(200);
    eventually("the overlap ends", || (world.events(&first.key).status() == 401).then_some(()));
    world.events(&second.key).expect(200);
    let shown = admin.get(&format!("{TENANT_KEYS}/{}", first.id)).expect(200).json();
    assert_eq!(shown["overlap_until"], Value::Null, "{shown}");
    world
        .admin()
        .post(&format!("{TENANT_KEYS}/{}/end-overlap", first.id), json!({ "confirm": true }))
        .problem(409, "no_overlap");
}

#[test]
fn p2_an_overlap_is_ended_early_and_two_secrets_are_the_most() {
    let world = World::new();
    let (admin, first) = (world.admin(), world.tenant_key());
    let second = rotate(&world, &first, json!({ "overlap_s": 3600 }));
    // A third secret puts the first out of use at once, so it is asked for.
    let at = format!("{TENANT_KEYS}/{}", first.id);
    let told = admin.post(&format!("{at}/rotate"), json!({ "overlap_s": 3600 })).problem(409, "confirmation_required");
    assert!(told["detail"].as_str().unwrap().contains("version 1"), "{told}");
    world.events(&first.key).expect(200);
    let third = rotate(&world, &first, json!({ "overlap_s": 3600, "confirm": true }));
    world.events(&first.key).problem(401, "unauthorized");
    world.events(&second.key).expect(200);
    world.events(&third.key).expect(200);
    admin.post(&format!("{at}/end-overlap"), json!({})).problem(409, "confirmation_required");
    world.events(&second.key).expect(200);
    admin.post(&format!("{at}/end-overlap"), json!({ "confirm": true })).expect(200);
    world.events(&second.key).problem(401, "unauthorized");
    world.events(&third.key).expect(200);
    assert_eq!(world.newest_entry()["action"], "end-overlap");
    // A revocation ends both.
    let fourth = rotate(&world, &first, json!({ "overlap_s": 60 }));
    admin.post(&format!("{at}/revoke"), json!({ "confirm": true })).expect(200);
    for key in [&third, &fourth] {
        world.events(&key.key).problem(401, "unauthorized");
    }
}

#[test]
fn p2_an_overlap_has_bounds() {
    let world = World::new();
    let (admin, key) = (world.admin(), world.tenant_key());
    let at = format!("{TENANT_KEYS}/{}/rotate", key.id);
    let longest = 30 * 86_400;
    let told = admin.post(&at, json!({ "overlap_s": longest + 1 })).problem(422, "invalid");
    assert_eq!(told["faults"][0]["field"], "overlap_s", "{told}");
    admin.post(&at, json!({ "overlap_s": longest })).expect(201);
    // Management keys overlap as well, and keep their endpoints.
    let management = world.management_key();
    let at = format!("{MANAGEMENT_KEYS}/{}/rotate", management.id);
    let next = Key::of(&admin.post(&at, json!({ "overlap_s": 60 })).expect(201));
    for key in [&management, &next] {
        let authorization = format!("ManagementKey-v1 {}", key.key);
        world.call("GET", "/events").field("authorization", &authorization).send(world.server.proxy).expect(200);
    }
}

#[test]
fn p2_the_overlap_is_there_after_a_restart() {
    let mut world = World::new();
    let first = world.tenant_key();
    let second = rotate(&world, &first, json!({ "overlap_s": 3600 }));
    world.server.kill();
    world.restart();
    world.events(&first.key).expect(200);
    world.events(&second.key).expect(200);
}
