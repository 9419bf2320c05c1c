//! REQUIREMENTS A12, and point 7 of the issue: a client gets a token, and how it is told that it does not.

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};

use crate::http::{Call, Message};
use crate::server::Settings;
use crate::world::{HOST, World};

pub(crate) const TOKEN: &str = "/.portcullis/v1/auth/token";
pub(crate) const JWKS: &str = "/.portcullis/v1/auth/jwks.json";
pub(crate) const CLIENTS: &str = "/v1/tenants/acme/clients";
pub(crate) const GRANT: &str = "grant_type=client_credentials";
const AUDIENCE: &str = "https://api.shop.example";

/// A client as its owner has it.
#[derive(Clone, Debug)]
pub(crate) struct OAuthClient {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl OAuthClient {
    #[track_caller]
    pub(crate) fn of(answer: &Message) -> OAuthClient {
        let told = answer.json();
        let text = |name: &str| told[name].as_str().unwrap_or_else(|| panic!("no {name}: {told}")).to_owned();
        OAuthClient { id: text("id"), secret: text("client_secret") }
    }

    /// A request for a token.
    pub(crate) fn ask(&self, world: &World, form: &str) -> Message {
        self.call(world, form).send(world.server.proxy)
    }

    pub(crate) fn call(&self, world: &World, form: &str) -> Call {
        post(world, form).field("authorization", &basic(&self.id, &self.secret))
    }

    /// A token for all that the client may.
    #[track_caller]
    pub(crate) fn token(&self, world: &World) -> String {
        let told = self.ask(world, GRANT).expect(200).json();
        told["access_token"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
    }
}

pub(crate) fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", Base64::encode_string(format!("{id}:{secret}").as_bytes()))
}

/// A request with a form, without a client.
pub(crate) fn post(world: &World, form: &str) -> Call {
    world.call("POST", TOKEN).field("content-type", "application/x-www-form-urlencoded").body(form)
}

/// A world whose service issues tokens, with endpoints for them.
pub(crate) fn world() -> World {
    world_with("")
}

/// The same, with that in `[tokens]` of the configuration.
pub(crate) fn world_with(tokens: &str) -> World {
    let world = World::with(Settings { audit: &format!("[tokens]\n{tokens}"), ..Settings::default() });
    furnish(&world);
    world
}

pub(crate) fn furnish(world: &World) {
    let admin = world.admin();
    admin.patch("/v1/services/shop", json!({ "reserved_prefix": "/.portcullis" })).expect(200);
    for (id, scope) in [("orders", "orders"), ("stock", "stock")] {
        let endpoint = json!({ "paths": [format!("/{id}")], "scope": scope, "audience": AUDIENCE });
        admin.put(&format!("/v1/services/shop/endpoints/{id}"), endpoint).expect(200);
    }
}

/// A client with both scopes and two audiences.
#[track_caller]
pub(crate) fn client(world: &World, more: Value) -> OAuthClient {
    let mut body = json!({ "name": "Pipeline", "scopes": ["orders", "stock"], "audiences": [AUDIENCE, "shop"] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    OAuthClient::of(&world.admin().post(CLIENTS, body).expect(201))
}

/// A part of a token, without a look at its signature.
pub(crate) fn part(token: &str, number: usize) -> Value {
    let text = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(text).unwrap()).unwrap()
}

/// Calls an endpoint with a token.
pub(crate) fn bearer(world: &World, path: &str, token: &str) -> Message {
    world.call("GET", path).field("authorization", &format!("Bearer {token}")).send(world.server.proxy)
}

/// Asserts that it is an error of RFC 6749 section 5.2, and gives what it says.
#[track_caller]
pub(crate) fn refused(answer: Message, status: u16, code: &str) -> Value {
    assert_eq!(answer.field("cache-control"), Some("no-store"), "{answer:?}");
    assert_eq!(answer.field("pragma"), Some("no-cache"));
    let challenge = (status == 401).then_some("Basic realm=\"OAuth2 Token Endpoint\"");
    assert_eq!(answer.field("www-authenticate"), challenge);
    let told = answer.expect(status).json();
    assert_eq!(told["error"], code, "{told}");
    assert!(told["error_description"].is_string(), "{told}");
    told
}

#[test]
fn a12_a_client_gets_a_token_by_the_header_and_by_the_form() {
    let world = world_with("issuer = \"https://login.shop.example\"\n");
    let client = client(&world, json!({}));
    let by_form = format!("{GRANT}&client_id={}&client_secret={}", client.id, client.secret);
    for answer in [client.ask(&world, GRANT), post(&world, &by_form).send(world.server.proxy)] {
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert_eq!(answer.field("pragma"), Some("no-cache"));
        assert_eq!(answer.field("content-type"), Some("application/json"));
        let told = answer.expect(200).json();
        assert_eq!((&told["token_type"], &told["expires_in"]), (&"Bearer".into(), &3600.into()), "{told}");
        assert_eq!(told["scope"], "orders stock");
        let token = told["access_token"].as_str().unwrap();
        let (header, claims) = (part(token, 0), part(token, 1));
        assert_eq!((&header["typ"], &header["alg"]), (&"at+jwt".into(), &"EdDSA".into()), "{header}");
        assert_eq!(claims["iss"], "https://login.shop.example");
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(client.id), &json!(client.id)));
        assert_eq!(claims["aud"], json!([AUDIENCE, "shop"]));
        assert_eq!((&claims["scope"], &claims["secret_version"]), (&"orders stock".into(), &1.into()));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
        assert!(claims["jti"].as_str().unwrap().len() >= 22, "{claims}");
    }
    let ids: Vec<_> = (0..3).map(|_| part(&client.token(&world), 1)["jti"].clone()).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    assert_eq!(world.echo.count(), 0, "nothing of it reaches the upstream");
}

#[test]
fn a12_less_can_be_asked_for_and_no_more() {
    let world = world();
    let client = client(&world, json!({}));
    let told = client.ask(&world, &format!("{GRANT}&scope=stock&resource=shop")).expect(200).json();
    assert_eq!(told["scope"], "stock");
    let claims = part(told["access_token"].as_str().unwrap(), 1);
    assert_eq!((&claims["aud"], &claims["scope"]), (&"shop".into(), &"stock".into()));
    let both = format!("{GRANT}&resource=shop&audience=https%3A%2F%2Fapi.shop.example");
    let claims = part(client.ask(&world, &both).expect(200).json()["access_token"].as_str().unwrap(), 1);
    assert_eq!(claims["aud"], json!([AUDIENCE, "shop"]));
    for (form, code, number) in [
        ("&scope=admin", "invalid_scope", Some(220_015)),
        ("&scope=orders++stock", "invalid_scope", Some(220_015)),
        ("&resource=other", "invalid_target", None),
        ("&audience=shop&resource=other", "invalid_target", None),
    ] {
        let told = refused(client.ask(&world, &format!("{GRANT}{form}")), 400, code);
        assert_eq!(told["details"]["code"].as_u64(), number, "{told}");
    }
}

#[test]
fn a12_what_is_no_request_for_a_token_is_told_by_the_standard() {
    let world = world();
    let client = client(&world, json!({}));
    for (form, code, number) in [
        ("", "invalid_request", 220_011),
        ("scope=orders", "invalid_request", 220_011),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request", 220_011),
        ("grant_type=client_credentials&scope=orders&scope=stock", "invalid_request", 220_011),
        ("grant_type=client_credentials&scope=%zz", "invalid_request", 220_011),
        ("grant_type=client_credentials&scope=%ff", "invalid_request", 220_011),
        ("grant_type=client_credentials&client_secret=x", "invalid_request", 220_011),
        ("grant_type=client_credentials&client_id=other", "invalid_request", 220_011),
        ("grant_type=password&username=a&password=b", "unsupported_grant_type", 220_014),
        ("grant_type=refresh_token", "unsupported_grant_type", 220_014),
    ] {
        let told = refused(client.ask(&world, form), 400, code);
        assert_eq!(told["details"], json!({ "type": code, "code": number, "message": told["error_description"] }));
    }
    // The id beside the header says nothing new.
    client.ask(&world, &format!("{GRANT}&client_id={}", client.id)).expect(200);
    // What is in a URL gets into logs.
    let own = basic(&client.id, &client.secret);
    let send = |method: &str, target: &str, kind: &str, body: String| {
        let call = world.call(method, target).field("authorization", &own).field("content-type", kind).body(body);
        call.send(world.server.proxy)
    };
    let form = "application/x-www-form-urlencoded";
    refused(send("POST", &format!("{TOKEN}?x=1"), form, GRANT.to_owned()), 400, "invalid_request");
    refused(send("POST", TOKEN, "application/json", "{}".to_owned()), 415, "invalid_request");
    let long = |bytes: usize| send("POST", TOKEN, form, format!("{GRANT}&p={}", "x".repeat(bytes - GRANT.len() - 3)));
    long(8192).expect(200);
    refused(long(8193), 413, "invalid_request");
    for method in ["GET", "PUT", "DELETE"] {
        let answer = send(method, TOKEN, form, GRANT.to_owned()).expect(405);
        assert_eq!(answer.field("allow"), Some("POST"));
    }
}

#[test]
fn a12_a_client_that_fails_looks_the_same_whatever_the_reason() {
    let world = world();
    let admin = world.admin();
    let (good, revoked) = (client(&world, json!({})), client(&world, json!({})));
    admin.post(&format!("{CLIENTS}/{}/revoke", revoked.id), json!({ "confirm": true })).expect(200);
    let (key, unknown) = (world.tenant_key(), "ptc_Abcd1234_0123456789abcdefghijklmnopqrstuvwxyzABC");
    let ask = |id: &str, secret: &str| OAuthClient { id: id.to_owned(), secret: secret.to_owned() }.ask(&world, GRANT);
    let form = |form: String| post(&world, &format!("{GRANT}{form}")).send(world.server.proxy);
    let answers = [
        ask(&good.id, unknown),
        ask(&good.id, &revoked.secret),
        ask(&revoked.id, &revoked.secret),
        ask("nobody", unknown),
        ask("nobody", &good.secret),
        ask(&key.id, &key.key),
        ask("", ""),
        form(String::new()),
        form(format!("&client_id={}", good.id)),
        form(format!("&client_id={}&client_secret={unknown}", good.id)),
        form(format!("&client_id={}&client_secret={}", revoked.id, revoked.secret)),
        post(&world, GRANT).field("authorization", &format!("Bearer {}", good.secret)).send(world.server.proxy),
        post(&world, GRANT).field("authorization", "Basic !").send(world.server.proxy),
    ];
    let known = |answer: &Message| {
        let own = ["date", "x-portcullis-decision"];
        let fields = answer.fields.iter().filter(|(name, _)| !own.contains(&name.as_str())).cloned();
        (fields.collect::<Vec<_>>(), answer.text())
    };
    let first = known(&answers[0]);
    for answer in answers {
        assert_eq!(known(&answer), first);
        let told = refused(answer, 401, "invalid_client");
        assert_eq!(told["details"]["code"], 220_010);
    }
    good.ask(&world, GRANT).expect(200);
    // A suspended tenant's client is one that failed.
    admin.patch("/v1/tenants/acme", json!({ "state": "suspended", "confirm": true })).expect(200);
    assert_eq!(known(&good.ask(&world, GRANT)), first);
}

#[test]
fn a12_a_token_ends_with_its_client() {
    let world = world();
    world.admin().patch("/v1/tenants/acme", json!({ "token_validity_s": 600 })).expect(200);
    let lasting = client(&world, json!({}));
    assert_eq!(lasting.ask(&world, GRANT).expect(200).json()["expires_in"], 600);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let soon = portcullis_model::time::UnixTime::from_secs(now + 300).unwrap().to_string();
    let ending = client(&world, json!({ "expires": soon }));
    let told = ending.ask(&world, GRANT).expect(200).json();
    let seconds = told["expires_in"].as_u64().unwrap();
    assert!((200..=300).contains(&seconds), "{told}");
    assert_eq!(part(told["access_token"].as_str().unwrap(), 1)["exp"], now + 300);
}

#[test]
fn the_token_endpoint_is_no_endpoint_of_the_catalogue() {
    let world = world();
    let admin = world.admin();
    for path in ["/v1/services/shop/endpoints", "/v1/tenants/acme/endpoints", "/v1/services/shop"] {
        let shown = admin.get(path).expect(200).text();
        assert!(!shown.contains("/v1/auth/token") && !shown.contains("Basic"), "{path}: {shown}");
    }
    let granted = json!({ "id": "tokens", "permissions": [{ "endpoint": "shop/token" }] });
    assert!(admin.post("/v1/tenants/acme/groups", granted).status() >= 400);
    assert!(admin.put("/v1/tenants/acme/settings/shop/token", json!({})).status() >= 400);
    // An id and a secret open nothing else, and a key opens no token endpoint.
    let client = client(&world, json!({}));
    let own = basic(&client.id, &client.secret);
    let answer = world.call("GET", "/orders").field("authorization", &own).send(world.server.proxy);
    answer.expect(401);
    let key = world.tenant_key().key;
    refused(post(&world, GRANT).field("x-api-key", &key).send(world.server.proxy), 401, "invalid_client");
    // A service that has its own endpoint of that name keeps it.
    admin.put("/v1/services/shop/endpoints/token", json!({ "paths": ["/mine"] })).expect(200);
    client.ask(&world, GRANT).expect(200);
    // Without the prefix there are no tokens.
    admin.patch("/v1/services/shop", json!({ "reserved_prefix": null })).expect(200);
    assert_eq!(client.ask(&world, GRANT).status(), 401);
    assert_eq!(world.call("GET", JWKS).send(world.server.proxy).status(), 401);
}

#[test]
fn a_superuser_has_no_tokens() {
    let world = world();
    let admin = world.admin();
    let client = json!({ "name": "Mighty", "scopes": ["orders"], "audiences": ["shop"] });
    admin.post("/v1/tenants/system/clients", client).problem(409, "built_in");
    let code = admin.call("POST", "/v1/tenants/system/users/root/enrolment").body("").send(admin.address);
    let code = code.expect(201).json()["code"].as_str().unwrap().to_owned();
    let person = |with: &str, path: &str| {
        let call = Call::new("POST", path).field("host", "localhost");
        call.field("authorization", &format!("Session-v1 {with}")).body("").send(world.server.admin)
    };
    let session = person(&code, "/v1/me/session").expect(201).json()["session"].as_str().unwrap().to_owned();
    let own = OAuthClient::of(&person(&session, "/v1/me/personal-key").expect(201));
    refused(own.ask(&world, GRANT), 400, "unauthorized_client");
    // And the admin API takes nobody's.
    let token = crate::tokens::client(&world, json!({})).token(&world);
    let call = Call::new("GET", "/v1/self").field("host", "localhost");
    call.field("authorization", &format!("Bearer {token}")).send(world.server.admin).problem(401, "unauthorized");
}

#[test]
fn metadata_names_the_issuer_where_it_is_known() {
    let world = world_with(&format!("issuer = \"https://{HOST}/login\"\n"));
    let get = |path: &str| world.call("GET", path).send(world.server.proxy);
    for path in ["/.well-known/oauth-authorization-server/login", "/.portcullis/.well-known/oauth-authorization-server"]
    {
        let answer = get(path).expect(200);
        assert_eq!(answer.field("cache-control"), Some("public, max-age=300"));
        let told = answer.json();
        assert_eq!(told["issuer"], format!("https://{HOST}/login"));
        assert_eq!(told["token_endpoint"], format!("https://{HOST}{TOKEN}"));
        assert_eq!(told["jwks_uri"], format!("https://{HOST}{JWKS}"));
        assert_eq!(told["grant_types_supported"], json!(["client_credentials"]));
    }
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/other"] {
        get(path).expect(404);
    }
    let keys = get(JWKS).expect(200);
    assert_eq!(keys.field("cache-control"), Some("public, max-age=300"));
    assert_eq!(keys.field("content-type"), Some("application/jwk-set+json"));
    let keys = keys.json();
    let key = &keys["keys"][0];
    assert_eq!((&key["kty"], &key["crv"], &key["use"]), (&"OKP".into(), &"Ed25519".into(), &"sig".into()), "{keys}");
    assert!(key.get("d").is_none(), "{keys}");
    let token = client(&world, json!({})).token(&world);
    assert_eq!(part(&token, 0)["kid"], key["kid"]);
    assert_eq!(world.call("POST", JWKS).body("").send(world.server.proxy).status(), 405);
}
