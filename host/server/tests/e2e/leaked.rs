//! REQUIREMENTS P1: keys that leak well.

use portcullis_model::credential::{KEY_PATTERN, KeyShape, key_shape};
use serde_json::{Value, json};

use crate::http::{Call, Message};
use crate::server::eventually;
use crate::world::{TENANT_KEYS, World};

fn report(world: &World, keys: Value) -> Message {
    Call::new("POST", "/v1/leaked").field("host", "localhost").json(&json!({ "keys": keys })).send(world.server.admin)
}

#[test]
fn p1_a_key_has_the_published_form() {
    let world = World::new();
    let key = world.tenant_key();
    assert_eq!(key_shape(key.key.as_bytes()), KeyShape::Key);
    assert!(key.key.starts_with(&format!("ptc_{}_", key.id)));
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    assert!(readme.contains(KEY_PATTERN), "the README publishes the pattern for scanners");
}

#[test]
fn p1_a_wrong_checksum_is_refused_without_a_look_up() {
    let world = World::new();
    let key = world.tenant_key().key;
    let wrong = format!("{}{}", &key[..51], if key.ends_with('A') { 'B' } else { 'A' });
    let told = world.events(&wrong).problem(401, "unauthorized");
    assert_eq!(world.decision(told["decision"].as_str().unwrap())["reason"], "credential-malformed");
    world.events(&key).expect(200);
}

#[test]
fn p1_whoever_holds_a_key_can_end_it_and_learns_nothing() {
    let world = World::new();
    let (leaked, kept) = (world.tenant_key(), world.tenant_key());
    let unknown = "ptc_Abcd1234_0123456789abcdefghijklmnopqrstuvwxyzABC";
    let answers = [report(&world, json!([leaked.key])), report(&world, json!([unknown])), report(&world, json!(["x"]))];
    for answer in &answers {
        assert_eq!((answer.status(), answer.text().as_str()), (202, ""));
        let known = |message: &Message| {
            let fields = message.fields.iter().filter(|(name, _)| name != "date").cloned();
            fields.collect::<Vec<_>>()
        };
        assert_eq!(known(answer), known(&answers[0]));
    }
    eventually("the key is dead", || (world.events(&leaked.key).status() == 401).then_some(()));
    world.events(&kept.key).expect(200);
    // A part of a key is nobody's, and so is its id.
    report(&world, json!([&kept.key[..51], kept.id])).expect(202);
    let entry = eventually("it is in the audit", || {
        let entry = world.newest_entry();
        (entry["action"] == "leaked").then_some(entry)
    });
    assert_eq!((&entry["object"], &entry["address"]), (&leaked.id.as_str().into(), &"127.0.0.1".into()), "{entry}");
    assert_eq!(world.admin().get(&format!("{TENANT_KEYS}/{}", leaked.id)).expect(200).json()["state"], "revoked");
    // Once more changes nothing, and is no entry.
    report(&world, json!([leaked.key])).expect(202);
    let other = report(&world, json!([world.workspace_key().key])).expect(202);
    drop(other);
    eventually("the next report is done", || {
        (world.newest_entry()["object_kind"] == "workspace-key" && world.newest_entry()["action"] == "leaked")
            .then_some(())
    });
    let entries = world.admin().all("/v1/tenants/acme/audit");
    assert_eq!(entries.iter().filter(|entry| entry["action"] == "leaked").count(), 2);
    world.events(&kept.key).expect(200);
}

#[test]
fn p1_of_an_overlap_only_the_leaked_secret_ends() {
    let world = World::new();
    let first = world.tenant_key();
    let body = json!({ "overlap_s": 3600 });
    let answer = world.admin().post(&format!("{TENANT_KEYS}/{}/rotate", first.id), body).expect(201);
    let second = crate::world::Key::of(&answer);
    report(&world, json!([first.key])).expect(202);
    eventually("the old secret is dead", || (world.events(&first.key).status() == 401).then_some(()));
    world.events(&second.key).expect(200);
    report(&world, json!([second.key])).expect(202);
    eventually("the key is dead", || (world.events(&second.key).status() == 401).then_some(()));
}

#[test]
fn p1_the_proxy_takes_reports_below_the_reserved_prefix_alone() {
    let world = World::new();
    let key = world.tenant_key();
    let send = |path: &str| world.call("POST", path).json(&json!({ "keys": [key.key] })).send(world.server.proxy);
    send("/.portcullis/v1/leaked").problem(401, "unauthorized");
    world.admin().patch("/v1/services/shop", json!({ "reserved_prefix": "/.portcullis" })).expect(200);
    send("/.portcullis/v1/leaked?x").problem(401, "unauthorized");
    send("/.portcullis/v1/leaked/").expect(400);
    world.events(&key.key).expect(200);
    let before = world.echo.count();
    assert_eq!(send("/.portcullis/v1/leaked").expect(202).text(), "");
    assert_eq!(world.echo.count(), before, "nothing of it reaches the upstream");
    eventually("the key is dead", || (world.events(&key.key).status() == 401).then_some(()));
    for wrong in ["portcullis", "/", "/a/", "/a//b", "/..", "/a b", "/a%20"] {
        world.admin().patch("/v1/services/shop", json!({ "reserved_prefix": wrong })).problem(422, "invalid");
    }
    world.admin().patch("/v1/services/shop", json!({ "reserved_prefix": null })).expect(200);
    send("/.portcullis/v1/leaked").problem(401, "unauthorized");
}

#[test]
fn p1_a_report_has_bounds() {
    let world = World::new();
    let many = |count: usize| json!(vec!["x"; count]);
    report(&world, many(100)).expect(202);
    report(&world, many(101)).problem(400, "invalid");
    report(&world, many(0)).problem(400, "invalid");
    report(&world, json!("x")).problem(400, "not_json");
    report(&world, json!(["x".repeat(70_000)])).problem(413, "too_large");
}
