//! REQUIREMENTS A15, V2, V3: what a token opens, what ends it, and the keys that it is signed with.

use serde_json::{Value, json};

use crate::http::{Call, Message};
use crate::server::{Settings, run};
use crate::tokens::{CLIENTS, GRANT, JWKS, OAuthClient, bearer, client, part, refused, world, world_with};
use crate::world::World;

fn keys(world: &World) -> Vec<Value> {
    world.call("GET", JWKS).send(world.server.proxy).expect(200).json()["keys"].as_array().unwrap().clone()
}

fn told_keys(world: &World) -> Vec<Value> {
    world.admin().get("/v1/token-keys").expect(200).json()["items"].as_array().unwrap().clone()
}

/// The reason of a denial.
#[track_caller]
fn reason(world: &World, answer: Message) -> String {
    let decision = answer.field("x-portcullis-decision").unwrap().to_owned();
    world.decision(&decision)["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a15_a_token_opens_what_its_scope_and_audience_are_for() {
    let world = world();
    let client = client(&world, json!({}));
    let token = client.token(&world);
    for path in ["/orders", "/stock"] {
        bearer(&world, path, &token).expect(200);
    }
    let told = client.ask(&world, &format!("{GRANT}&scope=stock")).expect(200).json();
    let stock = told["access_token"].as_str().unwrap();
    bearer(&world, "/stock", stock).expect(200);
    assert_eq!(reason(&world, bearer(&world, "/orders", stock).expect(403)), "token-lacks-scope");
    let told = client.ask(&world, &format!("{GRANT}&resource=shop")).expect(200).json();
    let elsewhere = told["access_token"].as_str().unwrap();
    assert_eq!(reason(&world, bearer(&world, "/stock", elsewhere).expect(401)), "token-audience");
    // One bit of the signature, another key's name, no signature.
    let (head, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    bearer(&world, "/stock", &format!("{head}.{other}{}", &signature[1..])).expect(401);
    bearer(&world, "/stock", &format!("{head}.")).expect(401);
    bearer(&world, "/stock", head).expect(401);
}

#[test]
fn a15_revoking_a_client_kills_its_tokens_on_the_next_request() {
    let world = world();
    let (revoked, kept) = (client(&world, json!({})), client(&world, json!({})));
    let (dead, live) = (revoked.token(&world), kept.token(&world));
    bearer(&world, "/orders", &dead).expect(200);
    world.admin().post(&format!("{CLIENTS}/{}/revoke", revoked.id), json!({ "confirm": true })).expect(200);
    bearer(&world, "/orders", &dead).expect(401);
    bearer(&world, "/orders", &live).expect(200);
    refused(revoked.ask(&world, GRANT), 401, "invalid_client");
}

#[test]
fn a15_with_issuance_only_a_revoked_client_gets_no_more_and_keeps_what_it_has() {
    let mut world = world();
    let admin = world.admin();
    let told = admin.patch("/v1/tenants/acme", json!({ "token_revocation": "issuance_only" })).expect(200).json();
    assert_eq!(told["token_revocation"], "issuance_only", "{told}");
    let client = client(&world, json!({}));
    let token = client.token(&world);
    admin.post(&format!("{CLIENTS}/{}/revoke", client.id), json!({ "confirm": true })).expect(200);
    refused(client.ask(&world, GRANT), 401, "invalid_client");
    bearer(&world, "/orders", &token).expect(200);
    // After a new start as well: then the policy is compiled anew from what is stored.
    world.server.stop();
    world.restart();
    bearer(&world, "/orders", &token).expect(200);
    // Its tenant's suspension ends it all the same, and so does the stricter rule.
    let admin = world.admin();
    admin.patch("/v1/tenants/acme", json!({ "state": "suspended", "confirm": true })).expect(200);
    assert!(bearer(&world, "/orders", &token).status() >= 401);
    admin.patch("/v1/tenants/acme", json!({ "state": "active", "token_revocation": "all_tokens" })).expect(200);
    bearer(&world, "/orders", &token).expect(401);
    admin.patch("/v1/tenants/acme", json!({ "token_revocation": "some" })).expect(422);
}

#[test]
fn a15_a_token_of_another_issuer_is_none() {
    let world = world();
    let admin = world.admin();
    let issuer = admin.get("/v1/tenants/acme").expect(200).json()["token_issuer"].clone();
    assert!(issuer.as_str().unwrap().starts_with("urn:portcullis:"), "{issuer}");
    let client = client(&world, json!({}));
    let token = client.token(&world);
    assert_eq!(part(&token, 1)["iss"], issuer);
    admin.patch("/v1/tenants/acme", json!({ "token_issuer": "https://other.example" })).expect(200);
    assert_eq!(reason(&world, bearer(&world, "/orders", &token).expect(401)), "token-issuer");
    let token = client.token(&world);
    assert_eq!(part(&token, 1)["iss"], "https://other.example");
    bearer(&world, "/orders", &token).expect(200);
}

/// Calls with a session or a code.
fn as_person(world: &World, with: &str, method: &str, path: &str, body: Value) -> Message {
    let call = Call::new(method, path).field("host", "localhost").field("authorization", &format!("Session-v1 {with}"));
    let call = if method == "GET" { call } else { call.json(&body) };
    call.send(world.server.admin)
}

/// A member with a profile, and a session of theirs.
fn member(world: &World) -> String {
    let admin = world.admin();
    let profile = json!({ "id": "staff", "type": "member", "permissions": [{ "endpoint": "shop/events" }] });
    admin.post("/v1/tenants/acme/groups", profile).expect(201);
    admin.post("/v1/tenants/acme/users", json!({ "id": "bob", "role": "member", "group": "staff" })).expect(201);
    let enrolment = "/v1/tenants/acme/users/bob/enrolment";
    let code = admin.call("POST", enrolment).body("").send(admin.address).expect(201).json();
    let call = Call::new("POST", "/v1/me/session").field("host", "localhost");
    let call = call.field("authorization", &format!("Session-v1 {}", code["code"].as_str().unwrap()));
    let session = call.body("").send(world.server.admin).expect(201).json();
    session["session"].as_str().unwrap().to_owned()
}

const KEY: &str = "/v1/me/personal-key";

#[test]
fn v2_a_personal_key_can_what_its_owner_can_now() {
    let world = world();
    let admin = world.admin();
    let session = member(&world);
    let own = OAuthClient::of(&as_person(&world, &session, "POST", KEY, json!({})).expect(201));
    let told = own.ask(&world, GRANT).expect(200).json();
    assert!(told.get("scope").is_none(), "{told}");
    let token = told["access_token"].as_str().unwrap();
    let claims = part(token, 1);
    assert_eq!((&claims["sub"], &claims["client_id"]), (&"bob".into(), &json!(own.id)), "{claims}");
    bearer(&world, "/events", token).expect(200);
    assert_eq!(reason(&world, bearer(&world, "/reports", token).expect(403)), "person-lacks-endpoint");
    // The same token, another profile.
    let permissions = json!({ "permissions": [{ "endpoint": "shop/reports" }, { "endpoint": "shop/orders" }] });
    admin.patch("/v1/tenants/acme/groups/staff", permissions).expect(200);
    bearer(&world, "/reports", token).expect(200);
    bearer(&world, "/orders", token).expect(200);
    assert_eq!(bearer(&world, "/events", token).status(), 403);
    admin.patch("/v1/tenants/acme/users/bob", json!({ "state": "disabled" })).expect(200);
    assert!(bearer(&world, "/reports", token).status() >= 401);
    refused(own.ask(&world, GRANT), 401, "invalid_client");
    admin.patch("/v1/tenants/acme/users/bob", json!({ "state": "active" })).expect(200);
    bearer(&world, "/reports", token).expect(200);
    refused(own.ask(&world, &format!("{GRANT}&scope=orders")), 400, "invalid_scope");
}

#[test]
fn v3_a_regenerated_or_deleted_personal_key_takes_its_tokens_along() {
    let world = world();
    let session = member(&world);
    let first = OAuthClient::of(&as_person(&world, &session, "POST", KEY, json!({})).expect(201));
    let token = first.token(&world);
    bearer(&world, "/events", &token).expect(200);
    let confirmed = json!({ "confirm": true });
    let path = format!("{KEY}/regenerate");
    let second = OAuthClient::of(&as_person(&world, &session, "POST", &path, confirmed.clone()).expect(201));
    assert_eq!(first.id, second.id);
    assert_eq!(bearer(&world, "/events", &token).status(), 401);
    refused(first.ask(&world, GRANT), 401, "invalid_client");
    let token = second.token(&world);
    assert_eq!(part(&token, 1)["secret_version"], 2);
    bearer(&world, "/events", &token).expect(200);
    assert_eq!(as_person(&world, &session, "DELETE", &format!("{KEY}?confirm=true"), confirmed).status(), 204);
    assert_eq!(bearer(&world, "/events", &token).status(), 401);
    refused(second.ask(&world, GRANT), 401, "invalid_client");
    let third = OAuthClient::of(&as_person(&world, &session, "POST", KEY, json!({})).expect(201));
    bearer(&world, "/events", &third.token(&world)).expect(200);
}

#[test]
fn keys_rotate_and_tokens_of_the_old_one_stay_good() {
    let mut world = world();
    let admin = world.admin();
    let client = client(&world, json!({}));
    let old = client.token(&world);
    let first = keys(&world)[0]["kid"].clone();
    // Published ahead, the next key does not sign yet.
    let told = admin.post("/v1/token-keys/rotate", json!({})).expect(200).json();
    let roles: Vec<_> = told["items"].as_array().unwrap().iter().map(|key| key["role"].clone()).collect();
    assert_eq!(roles, ["signing", "next"], "{told}");
    assert_eq!(keys(&world).len(), 2);
    assert_eq!(part(&client.token(&world), 0)["kid"], first);
    admin.post("/v1/token-keys/rotate", json!({})).problem(409, "rotation_under_way");
    // At once.
    admin.post("/v1/token-keys/rotate", json!({ "at_once": true })).expect(200);
    let told = told_keys(&world);
    let roles: Vec<_> = told.iter().map(|key| key["role"].clone()).collect();
    assert_eq!(roles, ["old", "signing"], "the one that was to be the next is gone: {told:?}");
    assert!(told[0]["removed_at"].is_string() && told[1]["removed_at"].is_null(), "{told:?}");
    let new = client.token(&world);
    assert_eq!(part(&new, 0)["kid"], told[1]["kid"]);
    for token in [&old, &new] {
        bearer(&world, "/orders", token).expect(200);
    }
    world.server.stop();
    world.restart();
    for token in [&old, &new, &client.token(&world)] {
        bearer(&world, "/orders", token).expect(200);
    }
    // Retired, it takes its tokens along.
    let admin = world.admin();
    let retire =
        |kid: &Value, body: Value| admin.post(&format!("/v1/token-keys/{}/retire", kid.as_str().unwrap()), body);
    retire(&told[1]["kid"], json!({ "confirm": true })).problem(409, "key_in_use");
    retire(&first, json!({})).problem(409, "confirmation_required");
    retire(&first, json!({ "confirm": true })).expect(204);
    retire(&first, json!({ "confirm": true })).problem(404, "not_found");
    assert_eq!(reason(&world, bearer(&world, "/orders", &old).expect(401)), "token-key-unknown");
    bearer(&world, "/orders", &new).expect(200);
    let audit = admin.all("/v1/audit?object_kind=token-key");
    let actions: Vec<_> =
        audit.iter().filter(|entry| entry["outcome"] == "done").map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["delete", "rotate", "rotate", "create"]);
    admin.assert_audit_is_intact();
}

#[test]
fn another_algorithm_in_the_configuration_is_another_key() {
    let mut world = world_with("algorithm = \"ES256\"\n");
    let client = client(&world, json!({}));
    let mut tokens = Vec::new();
    for (algorithm, members) in [("ES256", ["x", "y"]), ("RS256", ["n", "e"]), ("EdDSA", ["x", "crv"])] {
        world.server.stop();
        let audit = format!("[tokens]\nalgorithm = \"{algorithm}\"\n");
        world.site.configure(Settings { audit: &audit, ..Settings::default() });
        world.restart();
        let token = client.token(&world);
        assert_eq!(part(&token, 0)["alg"], algorithm);
        let known = keys(&world);
        let key = known.iter().find(|key| key["kid"] == part(&token, 0)["kid"]).unwrap();
        assert!(members.iter().all(|member| key[member].is_string()) && key["alg"] == algorithm, "{key}");
        tokens.push(token);
        // Those of the keys before are still good.
        for token in &tokens {
            bearer(&world, "/orders", token).expect(200);
        }
    }
    // `recover` without the configuration leaves the keys alone.
    world.server.stop();
    let ran = run(crate::server::portcullis().arg("recover").arg("--data").arg(world.site.data()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    world.restart();
    // The first one was the algorithm that it began with.
    assert_eq!(told_keys(&world).len(), 3);
}

#[test]
fn a_wrong_setting_of_tokens_is_told() {
    let site = crate::server::Site::without_key(Settings::default());
    for (tokens, told) in [
        ("algorithm = \"HS256\"", "EdDSA"),
        ("algorithm = \"none\"", "EdDSA"),
        ("issuer = \"portcullis\"", "is no address of an issuer"),
        ("issuer = \"https://a.example?x\"", "is no address of an issuer"),
        ("surprise = 1", "surprise"),
    ] {
        site.configure(Settings { audit: &format!("[tokens]\n{tokens}\n"), ..Settings::default() });
        let ran = run(site.serve().arg("--check"));
        assert!(ran.code != Some(0) && ran.stderr.contains(told), "{tokens}: {ran:?}");
    }
}
