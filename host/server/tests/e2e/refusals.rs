//! Floods of unauthenticated refusals on the admin listener: a few of them are entries of the audit, the rest is counted.

use serde_json::Value;

use crate::world::{MANAGEMENT_KEYS, World};

/// More than what a minute keeps, in two minutes even.
const FLOOD: u64 = 60;

fn entries(world: &World) -> Vec<Value> {
    world.admin().all("/v1/audit?object_kind=admin-api&outcome=refused")
}

#[test]
fn p7_a_flood_of_refusals_is_ten_entries_a_minute_and_one_with_the_number_of_the_rest() {
    let mut world = World::new();
    let stranger = world.admin_with("ptc_Abcd1234_0123456789abcdefghijklmnopqrstuvwxyzABC");
    for _ in 0..FLOOD {
        stranger.get("/v1/tenants/acme/tenant-keys").problem(401, "unauthorized");
    }
    world.server.stop();
    world.restart();
    let entries = entries(&world);
    let (counted, single): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry["details"]["more"].is_u64());
    // The minute may have ended in between.
    assert!([(10, 1), (20, 1), (20, 2)].contains(&(single.len(), counted.len())) || single.len() < 20, "{entries:?}");
    let more: u64 = counted.iter().map(|entry| entry["details"]["more"].as_u64().unwrap()).sum();
    assert_eq!(more + single.len() as u64, FLOOD, "{entries:?}");
    for entry in &entries {
        let of = |field: &str| entry[field].as_str().unwrap().to_owned();
        let found = ["tenant", "action", "code", "address", "by"].map(of);
        assert_eq!(found, ["system", "call", "unauthorized", "127.0.0.1", "unauthenticated"], "{entry}");
    }
    // The reason, and the decision with the rest, are for the administrator.
    assert_eq!(single[0]["details"]["reason"], "credential-malformed");
    let decision = single[0]["details"]["decision"].as_str().unwrap();
    assert_eq!(world.decision(decision)["facts"]["path"], "/v1/tenants/acme/tenant-keys");
    world.admin().assert_audit_is_intact();
}

#[test]
fn p7_a_proven_key_that_is_refused_stands_in_its_tenants_chain() {
    let mut world = World::new();
    let key = world.management_key();
    world.admin_with(&key.key).get("/v1/tenants").problem(403, "forbidden");
    world
        .admin()
        .post(&format!("{MANAGEMENT_KEYS}/{}/revoke", key.id), serde_json::json!({ "confirm": true }))
        .expect(200);
    world.admin_with(&key.key).get("/v1/tenants").problem(401, "unauthorized");
    world.server.stop();
    world.restart();
    let entries = world.admin().all("/v1/tenants/acme/audit?object_kind=admin-api");
    assert!(!entries.is_empty() && entries.iter().all(|entry| entry["credential"] == key.id.as_str()), "{entries:?}");
    assert_eq!(entries[entries.len() - 1]["code"], "forbidden", "{entries:?}");
}
