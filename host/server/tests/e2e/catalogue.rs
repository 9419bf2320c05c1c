//! REQUIREMENTS A8: the catalogue is versioned data, and settings survive renames and removals.

use serde_json::{Value, json};

use crate::world::{MANAGEMENT_KEYS, World};

const SERVICE: &str = "/v1/services/shop";
const EVENTS: &str = "/v1/services/shop/endpoints/events";
const SETTINGS: &str = "/v1/tenants/acme/settings/shop/events";

fn events(more: Value) -> Value {
    let mut body = json!({ "paths": ["/events", "/events/{id}"], "methods": ["GET", "POST"] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a8_settings_survive_a_rename_and_a_removal() {
    let world = World::new();
    let (admin, key) = (world.admin(), world.tenant_key());
    let version = || admin.get(SERVICE).expect(200).json()["catalogue_version"].as_u64().unwrap();
    admin.put(SETTINGS, json!({ "ip_ranges": ["192.0.2.0/24"] })).expect(200);
    world.events(&key.key).problem(403, "address_forbidden");
    let before = version();
    admin.put(EVENTS, events(json!({ "name": "Events API" }))).expect(200);
    let renamed = admin.put(EVENTS, events(json!({ "name": "Happenings API" }))).expect(200).json();
    assert_eq!(renamed["formerly"], "Events API", "{renamed}");
    assert_eq!(version(), before + 2);
    world.events(&key.key).problem(403, "address_forbidden");

    assert_eq!(admin.delete(&format!("{EVENTS}?confirm=true")).status(), 204);
    assert_eq!(version(), before + 3);
    world.events(&key.key).problem(403, "no_such_endpoint");
    let kept = admin.get(SETTINGS).expect(200).json();
    assert_eq!(kept["ip_ranges"], json!(["192.0.2.0/24"]), "{kept}");
    admin.put(EVENTS, events(json!({}))).expect(200);
    world.events(&key.key).problem(403, "address_forbidden");
    assert_eq!(admin.delete(SETTINGS).status(), 204);
    world.events(&key.key).expect(200);
}

#[test]
fn a8_an_alias_names_the_endpoint_and_is_unique() {
    let world = World::new();
    let (admin, key) = (world.admin(), world.tenant_key());
    admin.put(EVENTS, events(json!({ "aliases": ["happenings"] }))).expect(200);
    admin.put("/v1/tenants/acme/settings/shop/happenings", json!({ "ip_ranges": ["192.0.2.0/24"] })).expect(200);
    assert_eq!(admin.get(SETTINGS).expect(200).json()["ip_ranges"], json!(["192.0.2.0/24"]));
    world.events(&key.key).problem(403, "address_forbidden");
    let group = json!({ "id": "some", "permissions": [{ "endpoint": "shop/happenings" }] });
    let group = admin.post("/v1/tenants/acme/groups", group).expect(201).json();
    assert_eq!(group["permissions"][0]["endpoint"], "shop/events", "{group}");
    let key = json!({
        "name": "By alias", "expires": "2099-12-31", "endpoints": ["shop/happenings"], "creator_rule": "independent",
    });
    assert_eq!(admin.post(MANAGEMENT_KEYS, key).expect(201).json()["endpoints"], json!(["shop/events"]));

    let other = "/v1/services/shop/endpoints/reports";
    for alias in ["happenings", "events"] {
        let told = admin.put(other, json!({ "paths": ["/reports"], "aliases": [alias] })).problem(422, "invalid");
        assert_eq!(told["faults"][0]["field"], "aliases[0]", "{told}");
    }
    let told = admin.put("/v1/services/shop/endpoints/happenings", json!({ "paths": ["/h"] })).problem(422, "invalid");
    assert_eq!(told["faults"][0]["field"], "id", "{told}");
}

#[test]
fn a8_the_preset_has_antavos_endpoints() {
    let world = World::new();
    let admin = world.admin();
    let service = json!({
        "id": "antavo", "hosts": ["antavo.example"], "upstream": "http://127.0.0.1:9", "preset": "antavo",
    });
    let made = admin.post("/v1/services", service).expect(201).json();
    assert_eq!((&made["preset"], &made["catalogue_version"]), (&"antavo@1".into(), &1.into()), "{made}");
    let names: Vec<&str> =
        made["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint["name"].as_str().unwrap()).collect();
    let expected = "Challenges, Clubs, Coupons, Customer, Display, Entities, Events, FAQ, Leaderboard, Levels, Offers, \
                    Rewards, Wallet, Points Preview, Async Events";
    assert_eq!(names, expected.split(", ").map(|name| format!("{name} API")).collect::<Vec<_>>());
    let of = |id: &str| made["endpoints"].as_array().unwrap().iter().find(|endpoint| endpoint["id"] == id).unwrap();
    assert_eq!(of("challenges")["legacy"], true);
    assert_eq!(of("points-preview")["formerly"], "Workflow Campaigns API");
    assert_eq!(of("points-preview")["aliases"], json!(["workflow-campaigns"]));
    assert_eq!(of("async-events")["scope"], "async-events");
}

#[test]
fn a_module_that_is_used_is_disabled_only_with_a_confirmation() {
    let world = World::new();
    let (admin, key) = (world.admin(), world.tenant_key());
    admin.put(SETTINGS, json!({ "ip_ranges": ["192.0.2.0/24"] })).expect(200);
    let without = json!({ "modules": ["signature_check"] });
    let told = admin.patch("/v1/tenants/acme", without).problem(409, "confirmation_required");
    assert!(told["detail"].as_str().unwrap().contains("1 endpoints"), "{told}");
    world.events(&key.key).problem(403, "address_forbidden");
    // One that nothing uses goes without.
    admin.patch("/v1/tenants/acme", json!({ "modules": ["ip_filter"] })).expect(200);
    admin.patch("/v1/tenants/acme", json!({ "modules": [], "confirm": true })).expect(200);
    world.events(&key.key).expect(200);
    assert_eq!(world.newest_entry()["details"]["modules"], json!([]));
    assert_eq!(admin.get(SETTINGS).expect(200).json()["ip_ranges"], json!(["192.0.2.0/24"]), "the settings are kept");
    admin.patch("/v1/tenants/acme", json!({ "modules": ["ip_filter"] })).expect(200);
    world.events(&key.key).problem(403, "address_forbidden");
}

#[test]
fn e2_the_tenant_says_when_a_key_is_expiring_soon() {
    let world = World::new();
    let admin = world.admin();
    let in_days = |days: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        jiff::Timestamp::from_second((now + days * 86_400).try_into().unwrap()).unwrap().to_string()
    };
    for days in [5, 20] {
        let key = json!({ "name": format!("In {days}"), "group": "all", "expires": in_days(days) });
        admin.post(crate::world::TENANT_KEYS, key).expect(201);
    }
    world.tenant_key();
    let names = |expiration: &str| -> Vec<String> {
        let items = admin.all(&format!("{}?expiration={expiration}", crate::world::TENANT_KEYS));
        for item in &items {
            assert_eq!(item["expiration"], expiration, "{item}");
        }
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("expiring_soon"), ["In 5"]);
    assert_eq!(names("valid"), ["In 20", "For a test"]);
    admin.patch("/v1/tenants/acme", json!({ "expiring_soon_days": 30 })).expect(200);
    assert_eq!(names("expiring_soon"), ["In 5", "In 20"]);
    assert_eq!(names("valid"), ["For a test"]);
    assert!(names("expired").is_empty());
    for wrong in [0, 91] {
        let told = admin.patch("/v1/tenants/acme", json!({ "expiring_soon_days": wrong })).problem(422, "invalid");
        assert_eq!(told["faults"][0]["field"], "expiring_soon_days", "{told}");
    }
}
