//! REQUIREMENTS A5 and A6: address ranges per endpoint.

use serde_json::json;

use crate::world::World;

const SETTINGS: &str = "/v1/tenants/acme/settings/shop/events";

#[test]
fn a5_only_addresses_in_a_range_pass_and_ranges_are_masked() {
    let world = World::new();
    let admin = world.admin();
    let key = world.tenant_key();
    world.events(&key.key).expect(200);

    let elsewhere = json!({ "ip_ranges": ["192.168.0.3/24", "2001:db8::/32"] });
    let shown = admin.put(SETTINGS, elsewhere).expect(200).json();
    assert_eq!(shown["ip_ranges"], json!(["192.168.0.0/24", "2001:db8::/32"]));
    let told = world.events(&key.key).problem(403, "address_forbidden");
    assert_eq!(world.decision(told["decision"].as_str().unwrap())["reason"], "address-not-in-endpoint");
    // Another endpoint is open.
    world.call("GET", "/reports").field("x-api-key", &key.key).send(world.server.proxy).expect(200);

    admin.put(SETTINGS, json!({ "ip_ranges": "192.168.0.3/24\n127.0.0.9/8\n" })).expect(200);
    world.events(&key.key).expect(200);
    admin.put(SETTINGS, json!({ "ip_ranges": [] })).expect(200);
    world.events(&key.key).expect(200);
}

#[test]
fn a5_the_address_is_that_of_the_client_behind_a_trusted_proxy_and_of_nobody_else() {
    let world = World::new();
    let admin = world.admin();
    let key = world.tenant_key();
    admin.put(SETTINGS, json!({ "ip_ranges": ["198.51.100.7"] })).expect(200);
    let as_client = |hops: &str| {
        let call = world.call("GET", "/events").field("x-api-key", &key.key).field("x-forwarded-for", hops);
        call.send(world.server.proxy)
    };
    as_client("198.51.100.7").problem(403, "address_forbidden");
    admin.patch("/v1/installation", json!({ "trusted_proxies": ["127.0.0.1"] })).expect(200);
    as_client("198.51.100.7").expect(200);
    assert_eq!(world.echo.last().field("x-forwarded-for"), Some("198.51.100.7, 127.0.0.1"));
    // What a client puts in front of its own address counts for nothing.
    as_client("198.51.100.7, 203.0.113.1").problem(403, "address_forbidden");
    as_client("nonsense").problem(400, "bad_header");
}

#[test]
fn a6_ranges_are_saved_as_a_whole_and_removed_one_by_one() {
    let world = World::new();
    let admin = world.admin();
    admin.put(SETTINGS, json!({ "ip_ranges": ["127.0.0.1", "10.0.0.0/8", "192.0.2.1"] })).expect(200);
    let told =
        admin.put(SETTINGS, json!({ "ip_ranges": "10.0.0.0/8\n\nnowhere\n10.0.0.0/33" })).problem(422, "invalid");
    let fields: Vec<_> = told["faults"].as_array().unwrap().iter().map(|fault| fault["field"].clone()).collect();
    assert_eq!(fields, ["ip_ranges[2]", "ip_ranges[3]"], "{told}");
    let kept = admin.get(SETTINGS).expect(200).json()["ip_ranges"].clone();
    assert_eq!(kept.as_array().unwrap().len(), 3, "nothing of it was saved: {kept}");

    let remove = |entry: &str| admin.delete(&format!("{SETTINGS}/ip-ranges?entry={entry}"));
    let left = remove("10.0.0.0/8").expect(200).json();
    assert_eq!(left["ip_ranges"], json!(["127.0.0.1", "192.0.2.1"]));
    remove("10.0.0.0/8").problem(404, "not_found");
    remove("192.0.2.1").expect(200);
    // Without a range the endpoint would be open.
    remove("127.0.0.1").problem(409, "last_range");
    admin.delete(SETTINGS).expect(204);
    admin.get(SETTINGS).problem(404, "not_found");
}

#[test]
fn a6_without_the_module_ranges_are_refused_and_have_no_effect() {
    let world = World::new();
    let admin = world.admin();
    let key = world.tenant_key();
    admin.put(SETTINGS, json!({ "ip_ranges": ["192.0.2.1"] })).expect(200);
    world.events(&key.key).expect(403);
    admin.patch("/v1/tenants/acme", json!({ "modules": [], "confirm": true })).expect(200);
    world.events(&key.key).expect(200);
    let told = admin.put(SETTINGS, json!({ "ip_ranges": ["192.0.2.2"] })).problem(409, "module_disabled");
    assert!(told["detail"].as_str().unwrap().contains("`ip_filter`"), "{told}");
    admin.patch("/v1/tenants/acme", json!({ "modules": ["ip_filter"] })).expect(200);
    world.events(&key.key).expect(403);
}
