//! No secret is anywhere but in the one answer that told it: not in logs, not on disk, not in anything that can be asked.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::http::{Call, Message};
use crate::server::{Settings, files};
use crate::signer::{Signer, escher};
use crate::world::{Key, MANAGEMENT_KEYS, TENANT_KEYS, WORKSPACE_KEYS, World};

/// A part of a secret this long is found where it should not be.
const PART: usize = 20;

/// Every part of every secret of the test.
#[derive(Default)]
struct Parts(HashSet<Vec<u8>>);

impl Parts {
    fn add(&mut self, secret: &str) -> String {
        assert!(secret.len() > PART, "{secret}");
        self.0.extend(secret.as_bytes().windows(PART).map(<[u8]>::to_vec));
        secret.to_owned()
    }

    #[track_caller]
    fn assert_absent(&self, place: &str, from: &[u8]) {
        let found = from.windows(PART).find(|window| self.0.contains(*window));
        assert_eq!(found.map(String::from_utf8_lossy), None, "in {place}");
    }
}

#[test]
fn no_secret_is_where_it_should_not_be() {
    let mut parts = Parts::default();
    let mut world = World::with(Settings { log: "level = \"trace\"", ..Settings::default() });
    parts.add(&world.site.admin_key);
    let admin = world.admin();

    // Every kind is made, rotated, used, misused, revoked, and pasted where it does not belong.
    let mut keys = Vec::new();
    let expires =
        json!({ "name": "Ours", "expires": "2099-12-31", "endpoints": ["shop/events"], "creator_rule": "independent" });
    for (path, body) in [(TENANT_KEYS, json!({ "name": "Ours", "group": "all" })), (MANAGEMENT_KEYS, expires)] {
        let first = Key::of(&admin.post(path, body).expect(201));
        let rotated =
            Key::of(&admin.post(&format!("{path}/{}/rotate", first.id), json!({ "confirm": true })).expect(201));
        keys.extend([parts.add(&first.key), parts.add(&rotated.key)]);
    }
    // Pairs that sign, one of them of another system, with their signatures and what is wrong about them.
    let theirs = parts.add("of-another-system_0123456789abcdefghij");
    let their_secret = parts.add("a secret of another system: 0123456789abcdefghij");
    let signer = world.signer(escher());
    parts.add(&signer.secret);
    keys.push(parts.add(&signer.key));
    let pair = admin.post(WORKSPACE_KEYS, json!({ "name": "Pair", "confirm": true })).expect(201);
    parts.add(pair.json()["signing_secret"].as_str().unwrap());
    keys.push(parts.add(&Key::of(&pair).key));
    let import = json!({ "key_id": theirs, "secret": their_secret, "confirm": true });
    admin.post(&format!("{WORKSPACE_KEYS}/import"), import.clone()).expect(201);
    admin.post(&format!("{WORKSPACE_KEYS}/import"), import).problem(422, "invalid");
    let long = json!({ "key_id": "x", "secret": format!("{their_secret}{}", "x".repeat(300)) });
    admin.post(&format!("{WORKSPACE_KEYS}/import"), long).problem(422, "invalid");
    for (key, secret) in [(&theirs, &their_secret), (&theirs, &signer.secret), (&signer.key, &signer.secret)] {
        let (profile, id) = (escher(), String::new());
        let signer = Signer { profile, id, key: key.clone(), secret: secret.clone() };
        signer.call("POST", "/events", &[], "hello").body("hello").send(world.server.proxy);
        signer.call("POST", "/events", &[], "hello").body("other").send(world.server.proxy);
    }
    // A client, and a person with a code, a session and a personal key, regenerated.
    let told = |answer: &Message, field: &str| answer.json()[field].as_str().unwrap().to_owned();
    admin.put("/v1/services/shop/endpoints/scoped", json!({ "paths": ["/scoped"], "scope": "read" })).expect(200);
    let client = json!({ "name": "Client", "scopes": ["read"], "audiences": ["https://api.example"] });
    let client = crate::tokens::OAuthClient::of(&admin.post("/v1/tenants/acme/clients", client).expect(201));
    keys.push(parts.add(&client.secret));
    admin.patch("/v1/services/shop", json!({ "reserved_prefix": "/.portcullis" })).expect(200);
    // A token: of the header and the form, good, refused and pasted elsewhere like a key.
    let grant = crate::tokens::GRANT;
    let form = format!("{grant}&client_id={}&client_secret={}", client.id, client.secret);
    let token = crate::tokens::post(&world, &form).send(world.server.proxy).expect(200);
    let token = token.json()["access_token"].as_str().unwrap().to_owned();
    parts.add(token.rsplit('.').next().unwrap());
    keys.push(token);
    client.ask(&world, &format!("{grant}&scope=other")).expect(400);
    for wrong in [
        format!("{form}&scope={}", client.secret),
        format!("{grant}&client_id={}&client_secret={}", client.secret, client.secret),
        format!("{grant}&client_id=nobody&client_secret={}", client.secret),
        format!("{grant}&resource={}", client.secret),
        format!("{form}&client_secret={}", client.secret),
    ] {
        assert!(crate::tokens::post(&world, &wrong).send(world.server.proxy).status() >= 400);
        assert!(client.ask(&world, &wrong).status() >= 400);
    }
    let target = format!("{}?client_secret={}", crate::tokens::TOKEN, client.secret);
    world.call("POST", &target).body(form.as_str()).send(world.server.proxy);
    let profile = json!({ "id": "staff", "type": "member", "permissions": [{ "endpoint": "shop/events" }] });
    admin.post("/v1/tenants/acme/groups", profile).expect(201);
    admin.post("/v1/tenants/acme/users", json!({ "id": "bob", "role": "member", "group": "staff" })).expect(201);
    let person = |with: &str, method: &str, path: &str, body: Option<Value>| {
        let authorization = format!("Session-v1 {with}");
        let call = Call::new(method, path).field("host", "localhost").field("authorization", &authorization);
        let call = match &body {
            Some(body) => call.json(body),
            None => call,
        };
        call.send(world.server.admin)
    };
    let enrolment = "/v1/tenants/acme/users/bob/enrolment";
    let code = parts.add(&told(&admin.call("POST", enrolment).body("").send(admin.address).expect(201), "code"));
    let session = parts.add(&told(&person(&code, "POST", "/v1/me/session", None).expect(201), "session"));
    let own = person(&session, "POST", "/v1/me/personal-key", None).expect(201);
    keys.push(parts.add(&told(&own, "client_secret")));
    let confirmed = Some(json!({ "confirm": true }));
    let own = person(&session, "POST", "/v1/me/personal-key/regenerate", confirmed).expect(201);
    keys.push(parts.add(&told(&own, "client_secret")));
    keys.extend([code, session]);
    // One that never was: somebody's key all the same.
    keys.push(parts.add("ptc_Abcd1234_0123456789abcdefghijklmnopqrstuvwxyzABC"));
    for key in &keys {
        let authorization = format!("ManagementKey-v1 {key}");
        for call in [
            world.call("GET", "/events").field("x-api-key", key),
            world.call("GET", "/events").field("x-workspace-key", key),
            world.call("GET", "/events").field("authorization", &authorization),
            world.call("GET", "/events").field("authorization", key),
            world.call("GET", "/events").field("x-api-key", key).field("x-api-key", key),
            world.call("GET", &format!("/events?api_key={key}")),
            world.call("GET", &format!("/events?key={key}&api%5Fkey={key}")),
            world.call("GET", "/events").field("cookie", &format!("key={key}")).field("user-agent", key),
            world.call("POST", "/events").field("x-api-key", "short").body(key.as_str()),
        ] {
            // A connection may be closed for what it sent.
            drop(call.try_send(world.server.proxy));
        }
        world.admin_with(key).get("/v1/self");
        admin.get(&format!("{TENANT_KEYS}?after={key}"));
        admin.post(TENANT_KEYS, json!({ "name": "Ours", "group": key }));
        let broken = admin.call("POST", TENANT_KEYS).field("content-type", "application/json").body(format!("{{{key}"));
        broken.send(admin.address).expect(422);
    }
    for path in [format!("{TENANT_KEYS}?state=active"), format!("{MANAGEMENT_KEYS}?state=active")] {
        for key in admin.all(&path) {
            let at = format!("{}/{}/revoke", path.split('?').next().unwrap(), key["id"].as_str().unwrap());
            admin.post(&at, json!({ "confirm": true })).expect(200);
        }
    }

    // Decisions are written in their order, so once this one is there all are.
    let last = world.events("ptc_nobody").problem(401, "unauthorized");
    world.decision(last["decision"].as_str().unwrap());
    for path in [
        "/metrics",
        "/v1/audit?limit=200",
        "/v1/tenants/acme/audit?limit=200",
        "/v1/audit/verification",
        TENANT_KEYS,
        WORKSPACE_KEYS,
        MANAGEMENT_KEYS,
        "/v1/tenants/system/management-keys",
        "/v1/tenants/acme/clients",
        &format!("/v1/tenants/acme/clients/{}/tokens?limit=200", client.id),
        &format!("/v1/tenants/acme/clients/{}/log?limit=200", client.id),
        "/v1/token-keys",
        "/v1/tenants/acme/users/bob",
        "/v1/tenants/acme/error-log?limit=200",
        "/v1/error-log?limit=200",
        "/v1/audit/export",
        "/v1/self",
    ] {
        parts.assert_absent(path, &admin.get(path).expect(200).body);
    }
    for log in ["/v1/tenants/acme/error-log", "/v1/error-log"] {
        let entries = admin.all(log);
        assert!(!entries.is_empty(), "{log} has what was denied");
        for entry in entries {
            let at = format!("{log}/{}", entry["id"]);
            parts.assert_absent(&at, &admin.get(&at).expect(200).body);
        }
    }
    parts.assert_absent("decisions", format!("{:?}", admin.all("/v1/decisions")).as_bytes());

    // Killed, so that the write-ahead log is looked at as well; then ended, so that it is folded into the database.
    world.server.kill();
    let scan = |world: &World| {
        let found = files(&world.site.data());
        assert!(found.iter().any(|path| path.ends_with("portcullis.db")), "{found:?}");
        for path in found {
            parts.assert_absent(&path.display().to_string(), &std::fs::read(&path).unwrap());
        }
        parts.assert_absent("the log", world.server.stderr().as_bytes());
        parts.assert_absent("standard output", world.server.stdout().as_bytes());
    };
    scan(&world);
    world.restart();
    world.admin().get("/v1/self").expect(200);
    world.server.stop();
    scan(&world);
}
