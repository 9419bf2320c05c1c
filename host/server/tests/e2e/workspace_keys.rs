//! REQUIREMENTS A1-A3: the pair of key and secret of a tenant.

use serde_json::{Value, json};

use crate::world::{Key, WORKSPACE_KEYS, World};

#[test]
fn a1_there_is_one_active_pair_and_its_secret_is_shown_once() {
    let world = World::new();
    let admin = world.admin();
    let made = admin.post(WORKSPACE_KEYS, json!({ "name": "Pair" })).expect(201);
    let key = Key::of(&made);
    let secret = made.json()["signing_secret"].as_str().unwrap().to_owned();
    assert!(secret.len() >= 43, "256 bits");
    assert_eq!(made.field("cache-control"), Some("no-store"));
    let at = format!("{WORKSPACE_KEYS}/{}", key.id);
    assert_eq!(made.field("location"), Some(at.as_str()));
    for path in [&at, WORKSPACE_KEYS, "/v1/tenants/acme/audit"] {
        let shown = admin.get(path).expect(200).text();
        assert!(!shown.contains(&secret), "{path}");
        // The key is the id of the pair: its owner sees it where one pair is shown.
        assert_eq!(shown.contains(&key.key), path == at, "{path}: {shown}");
    }
    world.workspace_key();
    let active = admin.all(&format!("{WORKSPACE_KEYS}?state=active"));
    assert_eq!(active.len(), 1);
    assert_ne!(active[0]["id"], key.id.as_str());
}

#[test]
fn a2_a_new_pair_kills_the_old_one() {
    let world = World::new();
    let admin = world.admin();
    let with = |key: &Key| world.call("GET", &format!("/events?api_key={}", key.key)).send(world.server.proxy);
    let first = world.workspace_key();
    with(&first).expect(200);

    let told = admin.post(WORKSPACE_KEYS, json!({ "name": "Next" })).problem(409, "confirmation_required");
    assert!(told["detail"].as_str().unwrap().contains(&first.id), "the warning names what dies: {told}");
    with(&first).expect(200);

    let second = world.workspace_key();
    with(&first).problem(401, "unauthorized");
    with(&second).expect(200);
    let old = admin.get(&format!("{WORKSPACE_KEYS}/{}", first.id)).expect(200).json();
    assert_eq!((&old["state"], &old["key"]), (&"revoked".into(), &Value::Null));
    assert_eq!(world.newest_entry()["details"]["replaces"], first.id.as_str());
}

#[test]
fn a3_a_plain_key_is_taken_as_a_parameter_or_a_header_and_told_to_nobody() {
    let world = World::new();
    let key = world.workspace_key();
    let by_parameter = world.call("GET", &format!("/events?api_key={}", key.key)).send(world.server.proxy);
    by_parameter.expect(200);
    assert_eq!(world.echo.last().target(), "/events");
    world.call("GET", "/events").field("X-Workspace-Key", &key.key).send(world.server.proxy).expect(200);
    assert_eq!(world.echo.last().field("x-workspace-key"), None);
    // Another kind's place is not its own.
    world.events(&key.key).problem(401, "unauthorized");
    // The parameter in disguise would be another one to an upstream that decodes it.
    let disguised = world.call("GET", &format!("/events?api%5Fkey={}", key.key)).send(world.server.proxy);
    disguised.problem(400, "bad_target");
    let metrics = world.admin().get("/metrics").expect(200).text();
    let decisions = format!("{:?}", world.admin().all("/v1/decisions"));
    for told in [metrics, decisions, world.server.stderr()] {
        assert!(!told.contains(&key.key), "{told}");
    }
}

#[test]
fn a7_where_signatures_are_enforced_a_plain_key_is_not_enough() {
    let world = World::new();
    let key = world.workspace_key();
    let settings = "/v1/tenants/acme/settings/shop/events";
    let with = || world.call("GET", &format!("/events?api_key={}", key.key)).send(world.server.proxy);
    world.admin().put(settings, json!({ "signature": "observed" })).expect(200);
    with().expect(200);
    world.admin().put(settings, json!({ "signature": "enforced" })).expect(200);
    let told = with().problem(401, "unauthorized");
    assert_eq!(world.decision(told["decision"].as_str().unwrap())["reason"], "signature-required");
    world.admin().put(settings, json!({ "signature": "off" })).expect(200);
    with().expect(200);
}
