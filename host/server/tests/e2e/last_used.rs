//! REQUIREMENTS E2 and P2: when a key was used last, and by which version of its secret.

use serde_json::{Value, json};

use crate::database;
use crate::server::eventually;
use crate::world::{Key, MANAGEMENT_KEYS, TENANT_KEYS, World};

/// The key, once `is_there` holds of it.
#[track_caller]
fn shown(world: &World, at: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    eventually("the use is written", || {
        let key = world.admin().get(at).expect(200).json();
        is_there(&key).then_some(key)
    })
}

#[test]
fn e2_last_used_is_shown_of_every_key_and_outlives_a_restart() {
    let mut world = World::new();
    let key = world.tenant_key();
    let idle = world.tenant_key();
    let at = format!("{TENANT_KEYS}/{}", key.id);
    assert_eq!(world.admin().get(&at).expect(200).json()["last_used"], Value::Null);
    let revision = world.newest_entry()["number"].clone();
    for _ in 0..3 {
        world.events(&key.key).expect(200);
    }
    // What is denied is no use.
    world.call("GET", "/apps/a/items").field("x-api-key", &key.key).send(world.server.proxy).expect(403);
    let used = shown(&world, &at, |key| key["secrets"][0]["count"] == 3);
    assert_eq!(used["last_used"]["address"], "127.0.0.1", "{used}");
    let time = used["last_used"]["at"].as_str().unwrap().to_owned();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{used}");
    let listed = world.admin().all(TENANT_KEYS);
    let of = |id: &str| listed.iter().find(|item| item["id"] == id).unwrap()["last_used"].clone();
    assert_eq!((&of(&key.id)["at"], of(&idle.id)), (&time.as_str().into(), Value::Null));
    assert_eq!(world.newest_entry()["number"], revision, "a use is no change and no entry of the audit");

    // Ended in good order, nothing is lost.
    world.events(&key.key).expect(200);
    world.server.stop();
    world.restart();
    assert_eq!(world.admin().get(&at).expect(200).json()["secrets"][0]["count"], 4);
}

#[test]
fn e2_last_used_counts_management_keys_on_the_admin_listener() {
    let world = World::new();
    let body = json!({
        "name": "Reader", "expires": "2099-12-31", "endpoints": ["portcullis/self.read"], "creator_rule": "independent",
    });
    let key = Key::of(&world.admin().post(MANAGEMENT_KEYS, body).expect(201));
    world.admin_with(&key.key).get("/v1/self").expect(200);
    let used = shown(&world, &format!("{MANAGEMENT_KEYS}/{}", key.id), |key| key["secrets"][0]["count"] == 1);
    assert_eq!(used["last_used"]["address"], "127.0.0.1", "{used}");
}

#[test]
fn p2_each_version_of_a_secret_has_its_share_of_the_traffic() {
    let mut world = World::new();
    let old = world.tenant_key();
    let at = format!("{TENANT_KEYS}/{}", old.id);
    world.events(&old.key).expect(200);
    // Both versions stand for a while: the old one is put back where the rotation has taken it away.
    database::execute(&world.site.data(), "CREATE TABLE kept AS SELECT * FROM credential_secret");
    let new = Key::of(&world.admin().post(&format!("{at}/rotate"), json!({ "confirm": true })).expect(201));
    shown(&world, &at, |key| key["last_used"].is_object());
    world.server.stop();
    for statement in [
        "INSERT INTO credential_secret (credential_seq, version, sha256, until)
         SELECT credential_seq, version, sha256, 4000000000 FROM kept
         WHERE sha256 NOT IN (SELECT sha256 FROM credential_secret)",
        "DROP TABLE kept",
    ] {
        database::execute(&world.site.data(), statement);
    }
    world.restart();
    for _ in 0..3 {
        world.events(&new.key).expect(200);
    }
    world.events(&old.key).expect(200);
    let key = shown(&world, &at, |key| key["secrets"][1]["count"] == 3 && key["secrets"][0]["count"] == 2);
    let secrets = key["secrets"].as_array().unwrap();
    assert_eq!(secrets.len(), 2, "{key}");
    let of = |version: usize| (&secrets[version - 1]["version"], &secrets[version - 1]["share"]);
    assert_eq!(of(1), (&1.into(), &40.0.into()), "{key}");
    assert_eq!(of(2), (&2.into(), &60.0.into()), "{key}");
    assert!(secrets[0]["until"].is_string() && secrets[1]["until"].is_null(), "{key}");
}
