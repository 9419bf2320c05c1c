//! The life of keys over the admin API, as seen at the guarded service: from the very next request on.

use serde_json::{Value, json};

use crate::world::{HOST, Key, MANAGEMENT_KEYS, TENANT_KEYS, World};

#[test]
fn a_key_lives_from_its_creation_to_its_revocation_and_every_step_is_in_the_audit() {
    let world = World::new();
    let admin = world.admin();
    let first = world.tenant_key();
    let at = format!("{TENANT_KEYS}/{}", first.id);
    world.events(&first.key).expect(200);

    let edited = admin.patch(&at, json!({ "name": "Another name", "ip_allowlist": "203.0.113.0/24\n127.0.0.1" }));
    let edited = edited.expect(200).json();
    assert_eq!(edited["ip_allowlist"], json!(["127.0.0.1", "203.0.113.0/24"]), "{edited}");
    assert_eq!(edited["key"], Value::Null, "the secret is not told again");
    world.events(&first.key).expect(200);

    let second = Key::of(&admin.post(&format!("{at}/rotate"), json!({ "confirm": true })).expect(201));
    assert_eq!(second.id, first.id);
    world.events(&first.key).problem(401, "unauthorized");
    world.events(&second.key).expect(200);
    assert_eq!(admin.get(&at).expect(200).json()["secret_version"], 2);

    let revoked = admin.post(&format!("{at}/revoke"), json!({ "confirm": true })).expect(200).json();
    assert_eq!(revoked["state"], "revoked");
    world.events(&second.key).problem(401, "unauthorized");
    admin.post(&format!("{at}/rotate"), json!({ "confirm": true })).problem(409, "key_revoked");

    let audit = admin.all("/v1/tenants/acme/audit");
    let of_the_key: Vec<_> = audit.iter().rev().filter(|entry| entry["object"] == first.id.as_str()).collect();
    let steps: Vec<_> = of_the_key.iter().map(|entry| (entry["action"].clone(), entry["outcome"].clone())).collect();
    let done = |action: &str| (json!(action), json!("done"));
    let refused = (json!("rotate"), json!("refused"));
    assert_eq!(steps, [done("create"), done("edit"), done("rotate"), done("revoke"), refused]);
    assert!(of_the_key.iter().all(|entry| entry["object_kind"] == "tenant-key" && entry["address"] == "127.0.0.1"));
    admin.assert_audit_is_intact();
}

#[test]
fn an_upstream_gets_who_was_let_in_and_nothing_that_the_client_claims() {
    let world = World::new();
    let key = world.tenant_key();
    let call = world
        .call("POST", "/events/7?a=1&b=%20")
        .field("x-api-key", &key.key)
        .field("x-portcullis-tenant", "forged")
        .field("X-Portcullis-Anything", "forged")
        .field("x-kept", "yes")
        .body("a body");
    call.send(world.server.proxy).expect(200);
    let received = world.echo.last();
    assert_eq!(received.start, "POST /events/7?a=1&b=%20 HTTP/1.1");
    assert_eq!((received.text().as_str(), received.field("x-kept")), ("a body", Some("yes")));
    assert_eq!((received.field("host"), received.field("x-forwarded-for")), (Some(HOST), Some("127.0.0.1")));
    let mut ours: Vec<_> = received.fields.iter().filter(|(name, _)| name.starts_with("x-portcullis-")).collect();
    ours.sort();
    let ours: Vec<_> = ours.into_iter().map(|(name, value)| (&name["x-portcullis-".len()..], value.as_str())).collect();
    let told = [("credential", key.id.as_str()), ("endpoint", "shop/events"), ("kind", "tenant"), ("tenant", "acme")];
    assert_eq!(ours, told);
}

#[test]
fn no_kind_of_key_reaches_an_upstream() {
    let world = World::new();
    let (tenant, workspace, management) = (world.tenant_key(), world.workspace_key(), world.management_key());
    let parameter = format!("/events?a=1&api_key={}&z=2", workspace.key);
    let scheme = format!("ManagementKey-v1 {}", management.key);
    let calls = [
        (world.call("GET", "/events").field("X-API-Key", &tenant.key), "/events", &tenant),
        (world.call("GET", "/events").field("X-Workspace-Key", &workspace.key), "/events", &workspace),
        (world.call("GET", &parameter), "/events?a=1&z=2", &workspace),
        (world.call("GET", "/events").field("Authorization", &scheme), "/events", &management),
    ];
    for (call, target, key) in calls {
        call.send(world.server.proxy).expect(200);
        let received = world.echo.last();
        assert_eq!(received.target(), target);
        assert_eq!(received.field("x-portcullis-credential"), Some(key.id.as_str()));
        let secret = key.key.rsplit('_').next().unwrap();
        assert!(!format!("{received:?}").contains(secret), "{received:?}");
    }
}

#[test]
fn what_is_denied_reaches_no_upstream_and_is_recorded_with_its_reason() {
    let world = World::new();
    let key = world.tenant_key();
    let mistyped = format!("ptc_{}_{}", key.id, "0".repeat(39));
    let unknown = format!("ptc_{}_{}", key.id, "0".repeat(33));
    let sum = portcullis_model::credential::key_checksum(unknown.as_bytes());
    let unknown = unknown + std::str::from_utf8(&sum).unwrap();
    let with = |target: &str, key: &str| world.call("GET", target).field("x-api-key", key);
    let calls = [
        (world.call("GET", "/events"), 401, "unauthorized", "credential-missing"),
        (with("/events", &unknown), 401, "unauthorized", "credential-unknown"),
        (with("/events", &mistyped), 401, "unauthorized", "credential-malformed"),
        (with("/nothing", &key.key), 403, "no_such_endpoint", "endpoint-unknown"),
        (world.call("DELETE", "/events").field("x-api-key", &key.key), 403, "method_not_allowed", "method-not-allowed"),
        (with("/apps/web/items", &key.key), 403, "forbidden", "group-lacks-endpoint"),
        (with("/events/../reports", &key.key), 400, "bad_target", "path-dot-segment"),
        (with("/events%2f1", &key.key), 400, "bad_target", "path-encoded-slash"),
        (with("/events", &key.key).field("x-api-key", &key.key), 400, "ambiguous_credential", "credential-doubled"),
    ];
    for (call, status, code, reason) in calls {
        let told = call.send(world.server.proxy).problem(status, code);
        assert!(!told.to_string().contains(reason), "the reason is not for the caller: {told}");
        let decision = world.decision(told["decision"].as_str().unwrap());
        assert_eq!((&decision["verdict"], &decision["reason"]), (&"deny".into(), &reason.into()), "{decision}");
    }
    assert_eq!(world.echo.count(), 0);
    let listed = world.admin().all("/v1/decisions?reason=path-dot-segment");
    assert_eq!(listed.len(), 1);
}

#[test]
fn a_caller_of_one_tenant_finds_no_other_tenant() {
    let world = World::new();
    world.admin().post("/v1/tenants", json!({ "id": "globex" })).expect(201);
    let all = json!(["portcullis/tenant-keys", "portcullis/tenant-keys.read", "portcullis/tenants.read"]);
    let body = json!({ "name": "Acme's", "expires": "2099-12-31", "endpoints": all, "creator_rule": "independent" });
    let acme = world.admin_with(&Key::of(&world.admin().post(MANAGEMENT_KEYS, body).expect(201)).key);
    acme.get(TENANT_KEYS).expect(200);
    acme.get("/v1/tenants/globex/tenant-keys").problem(404, "not_found");
    acme.get("/v1/tenants/globex").problem(404, "not_found");
    acme.post("/v1/tenants/globex/tenant-keys", json!({ "name": "Mine", "group": "all" })).problem(404, "not_found");
    // An endpoint that its key does not have.
    acme.get("/v1/audit").problem(403, "forbidden");
    // Not a superuser's.
    acme.get("/v1/tenants").problem(403, "forbidden");
}
