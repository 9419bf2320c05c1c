//! REQUIREMENTS A9-A11, A13: OAuth clients. Tokens are issued to them later; here is their life.

use serde_json::{Value, json};

use crate::world::World;

const CLIENTS: &str = "/v1/tenants/acme/clients";

/// A world with an endpoint that asks for a scope.
fn world() -> World {
    let world = World::new();
    let endpoint = json!({ "paths": ["/async-events"], "scope": "async-events" });
    world.admin().put("/v1/services/shop/endpoints/async-events", endpoint).expect(200);
    world
}

fn body(more: Value) -> Value {
    let mut body = json!({ "name": "Pipeline", "scopes": ["async-events"], "audiences": ["https://api.shop.example"] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a9_a_client_has_a_secret_once_and_keeps_its_id() {
    let world = world();
    let admin = world.admin();
    let made = admin.post(CLIENTS, body(json!({ "purpose": "Nightly", "expires": "2099-12-31" }))).expect(201);
    assert_eq!(made.field("cache-control"), Some("no-store"));
    let made = made.json();
    let (id, secret) = (made["id"].as_str().unwrap(), made["client_secret"].as_str().unwrap());
    assert_eq!((&made["status"], &made["purpose"]), (&"active".into(), &"Nightly".into()), "{made}");
    assert_eq!(made["token_validity_s"], 3600, "{made}");
    assert!(made["issuer"].as_str().unwrap().starts_with("urn:portcullis:"), "{made}");
    let at = format!("{CLIENTS}/{id}");
    for path in [&at, CLIENTS, "/v1/tenants/acme/audit"] {
        let shown = admin.get(path).expect(200).text();
        assert!(shown.contains(id) && !shown.contains(secret), "{path}");
    }
    // It is no key: what it is proven by are tokens.
    world.events(secret).problem(401, "unauthorized");
    // No edit, no rotation, no reactivation; issuer and validity are not the client's.
    assert_eq!(admin.patch(&at, json!({ "name": "Other" })).status(), 405);
    assert_eq!(admin.post(&format!("{at}/rotate"), json!({ "confirm": true })).status(), 403);
    admin.post(CLIENTS, body(json!({ "token_validity_s": 7200 }))).problem(422, "invalid");
    for (wrong, field) in [
        (json!({ "name": "a" }), "name"),
        (json!({ "purpose": "p".repeat(1001) }), "purpose"),
        (json!({ "expires": "2020-01-01" }), "expires"),
        (json!({ "scopes": [] }), "scopes"),
        (json!({ "scopes": ["unheard-of"] }), "scopes[0]"),
        (json!({ "audiences": [] }), "audiences"),
        (json!({ "audiences": ["two words"] }), "audiences[0]"),
    ] {
        let told = admin.post(CLIENTS, body(wrong)).problem(422, "invalid");
        assert_eq!(told["faults"][0]["field"], field, "{told}");
    }
}

#[test]
fn a10_clients_are_listed_with_all_that_is_known_of_them() {
    let world = world();
    let admin = world.admin();
    let rules = json!({ "token_issuer": "https://login.shop.example", "token_validity_s": 600 });
    admin.patch("/v1/tenants/acme", rules).expect(200);
    let kept = admin.post(CLIENTS, body(json!({ "expires": "2099-12-31" }))).expect(201).json();
    let revoked = admin.post(CLIENTS, body(json!({ "name": "Other" }))).expect(201).json();
    let at = format!("{CLIENTS}/{}/revoke", revoked["id"].as_str().unwrap());
    admin.post(&at, json!({ "confirm": true })).expect(200);
    let all = admin.all(CLIENTS);
    assert_eq!(all.iter().map(|client| &client["status"]).collect::<Vec<_>>(), ["active", "revoked"]);
    let expected = json!({
        "id": kept["id"], "name": "Pipeline", "purpose": "", "expires": "2100-01-01T00:00:00Z",
        "scopes": ["async-events"], "audiences": ["https://api.shop.example"],
        "issuer": "https://login.shop.example", "token_validity_s": 600,
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&all[0][field], value, "{field}");
    }
    assert!(all[0]["created_at"].is_string() && all[0]["created_by"].is_string(), "{}", all[0]);
    assert_eq!(admin.all(&format!("{CLIENTS}?state=revoked")).len(), 1);
    assert_eq!(admin.all(&format!("{CLIENTS}?expiration=valid")).len(), 2);
    assert_eq!(admin.all(&format!("{CLIENTS}?expiration=expired")).len(), 0);
}

#[test]
fn a11_a_revocation_is_confirmed_and_final() {
    let world = world();
    let admin = world.admin();
    let made = admin.post(CLIENTS, body(json!({}))).expect(201).json();
    let at = format!("{CLIENTS}/{}", made["id"].as_str().unwrap());
    admin.post(&format!("{at}/revoke"), json!({})).problem(409, "confirmation_required");
    assert_eq!(admin.get(&at).expect(200).json()["status"], "active");
    let told = admin.post(&format!("{at}/revoke"), json!({ "confirm": true })).expect(200).json();
    assert_eq!(told["status"], "revoked", "{told}");
    admin.post(&format!("{at}/revoke"), json!({ "confirm": true })).problem(409, "key_revoked");
    assert_eq!(admin.delete(&at).status(), 405);
}

#[test]
fn a13_what_is_done_to_clients_is_in_the_audit_with_its_source() {
    let world = world();
    let admin = world.admin();
    let made = admin.post(CLIENTS, body(json!({}))).expect(201).json();
    let id = made["id"].as_str().unwrap();
    admin.post(&format!("{CLIENTS}/{id}/revoke"), json!({ "confirm": true })).expect(200);
    let entries = admin.all("/v1/tenants/acme/audit");
    let of_client: Vec<_> =
        entries.iter().filter(|entry| entry["object_kind"] == "client" && entry["object"] == id).collect();
    let actions: Vec<_> = of_client.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["revoke", "create"], "the newest first");
    for entry in of_client {
        assert_eq!((&entry["channel"], &entry["address"]), (&"api".into(), &"127.0.0.1".into()), "{entry}");
        assert!(entry["at"].is_string() && entry["credential"].is_string(), "{entry}");
    }
}
