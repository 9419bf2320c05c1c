//! REQUIREMENTS A7, A12, A14, A15, P4: signed requests, through the running proxy.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::http::{Call, Connection, Message};
use crate::server::{Settings, eventually};
use crate::signer::{Signer, antavo, escher};
use crate::world::{WORKSPACE_KEYS, World};

/// Why a request was denied, by the decision that its answer names.
fn reason(world: &World, denied: &Value) -> String {
    world.decision(denied["decision"].as_str().unwrap())["reason"].as_str().unwrap().to_owned()
}

fn metric(world: &World, line: &str) -> bool {
    world.admin().get("/metrics").expect(200).text().lines().any(|known| known == line)
}

#[test]
fn a7_a_signed_request_passes_and_one_whose_signature_is_of_another_does_not() {
    let world = World::new();
    let signer = world.signer(escher());
    world.signatures("enforced", "any");
    let call = signer.call("GET", "/events?a=1&b=2", &[], "");
    call.send(world.server.proxy).expect(200);
    let received = world.echo.last();
    assert_eq!(received.target(), "/events?a=1&b=2");
    assert_eq!(received.field("x-portcullis-kind"), Some("workspace"));

    let other = Signer { secret: "x".repeat(43), key: signer.key.clone(), id: signer.id.clone(), profile: escher() };
    let denied = other.call("GET", "/events", &[], "").send(world.server.proxy).problem(401, "unauthorized");
    assert_eq!(reason(&world, &denied), "signature-mismatch");
    let unknown =
        Signer { key: "nobody".to_owned(), secret: signer.secret.clone(), id: String::new(), profile: escher() };
    let same = unknown.call("GET", "/events", &[], "").send(world.server.proxy).problem(401, "unauthorized");
    let without_id = |mut told: Value| told.as_object_mut().unwrap().remove("decision").map(|_| told);
    assert_eq!(without_id(denied), without_id(same), "nobody learns whether there is such a key");
    // The plain key is not enough here.
    let plain = world.call("GET", "/events").field("x-workspace-key", &signer.key).send(world.server.proxy);
    assert_eq!(reason(&world, &plain.problem(401, "unauthorized")), "signature-required");
}

#[test]
fn a7_a_signature_that_fails_is_refused_even_where_none_is_asked_for() {
    let world = World::new();
    let signer = world.signer(escher());
    let broken = Signer { secret: "x".repeat(43), key: signer.key.clone(), id: signer.id.clone(), profile: escher() };
    for mode in ["off", "observed", "enforced"] {
        world.signatures(mode, "any");
        signer.call("GET", "/events", &[], "").send(world.server.proxy).expect(200);
        let denied = broken.call("GET", "/events", &[], "").send(world.server.proxy).problem(401, "unauthorized");
        assert_eq!(reason(&world, &denied), "signature-mismatch", "{mode}");
        // Beside a plain key it is refused all the same: what was tried and failed falls through to nothing else.
        let both =
            broken.call("GET", "/events", &[], "").field("x-workspace-key", &signer.key).send(world.server.proxy);
        assert!([400, 401].contains(&both.status()), "{mode}: {}", both.text());
    }
}

#[test]
fn a7_what_is_observed_names_who_and_why() {
    let world = World::new();
    let signer = world.signer(escher());
    world.signatures("observed", "any");
    world.call("GET", "/events").field("x-workspace-key", &signer.key).send(world.server.proxy).expect(200);
    signer.call("GET", "/events", &[], "").send(world.server.proxy).expect(200);
    let decisions = eventually("the decisions are recorded", || {
        let decisions = world.admin().all("/v1/tenants/acme/decisions");
        (decisions.len() >= 2).then_some(decisions)
    });
    let observed: Vec<&Value> =
        decisions.iter().filter(|decision| decision["observed"] == json!(["signature-required"])).collect();
    assert_eq!(observed.len(), 1, "{decisions:?}");
    let facts = &observed[0]["facts"];
    assert_eq!(
        (&facts["credential"]["id"], &facts["signature"]),
        (&json!(signer.id), &json!("absent")),
        "{observed:?}"
    );
    let signed = decisions.iter().find(|decision| decision["facts"]["signature"] == "valid").unwrap();
    assert_eq!(signed["facts"]["credential"]["proof"], "signature");
}

#[test]
fn bodies_are_signed_and_go_on_as_they_were_signed() {
    let world = World::new();
    let signer = world.signer(escher());
    world.signatures("enforced", "any");
    for body in ["{\"a\":1}", "x", &"y".repeat(300_000)] {
        let call = signer.call("POST", "/events", &[], body).body(body);
        call.send(world.server.proxy).expect(200);
        assert_eq!(world.echo.last().body, body.as_bytes());
        // The same head over another body.
        let other = signer.call("POST", "/events", &[], body).body(format!("{body} "));
        let count = world.echo.count();
        let denied = other.send(world.server.proxy).problem(401, "unauthorized");
        assert_eq!(reason(&world, &denied), "signature-mismatch");
        assert_eq!(world.echo.count(), count, "nothing reached the upstream");
    }
    // In chunks, whose borders nobody signs.
    let chunked = signer.call("POST", "/events", &[], "hello").field("transfer-encoding", "chunked");
    let mut bytes = chunked.field("connection", "close").bytes();
    bytes.extend_from_slice(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");
    exchange(&world, &bytes).expect(200);
    assert_eq!(world.echo.last().body, b"hello");
    assert!(metric(&world, "portcullis_signed_body_bytes 0"), "what was held is given back");
}

fn exchange(world: &World, bytes: &[u8]) -> Message {
    let mut connection = Connection::open(world.server.proxy).unwrap();
    let _ = connection.write(bytes);
    Message::response(&mut connection.0, "POST").unwrap()
}

#[test]
fn a_signed_body_is_read_up_to_its_limit_and_no_byte_further() {
    let world = World::with(Settings { proxy: "signed_body_limit = \"1KiB\"", ..Settings::default() });
    let signer = world.signer(escher());
    world.signatures("enforced", "any");
    let (fits, exceeds) = ("x".repeat(1024), "x".repeat(1025));
    signer.call("POST", "/events", &[], &fits).body(fits.as_str()).send(world.server.proxy).expect(200);
    let count = world.echo.count();
    let denied = signer.call("POST", "/events", &[], &exceeds).body(exceeds.as_str()).send(world.server.proxy);
    assert_eq!(denied.field("connection"), Some("close"));
    assert_eq!(reason(&world, &denied.problem(413, "body_too_large")), "signed-body-too-large");
    // Where its length is not announced, it is counted as it comes.
    let chunked = signer.call("POST", "/events", &[], &exceeds).field("transfer-encoding", "chunked");
    let mut bytes = chunked.bytes();
    bytes.extend_from_slice(format!("401\r\n{exceeds}\r\n0\r\n\r\n").as_bytes());
    exchange(&world, &bytes).problem(413, "body_too_large");
    assert_eq!(world.echo.count(), count, "nothing reached the upstream");
    // What is not signed is not held.
    let key = world.tenant_key();
    let unsigned = world.call("POST", "/reports").field("x-api-key", &key.key).body(exceeds);
    unsigned.send(world.server.proxy).expect(200);
}

#[test]
fn a_signed_body_that_breaks_off_reaches_no_upstream() {
    let world = World::new();
    let signer = world.signer(escher());
    world.signatures("enforced", "any");
    let mut stream = TcpStream::connect(world.server.proxy).unwrap();
    let head = signer.call("POST", "/events", &[], "hello").field("content-length", "5").bytes();
    stream.write_all(&head).unwrap();
    stream.write_all(b"hel").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    eventually("it is denied", || {
        let denied = r#"portcullis_decisions_total{verdict="deny",reason="signed-body-broken"} 1"#;
        metric(&world, denied).then_some(())
    });
    assert_eq!(world.echo.count(), 0);
}

#[test]
fn a_signed_body_has_no_trailers() {
    let world = World::new();
    let signer = world.signer(escher());
    world.signatures("enforced", "any");
    let call = signer.call("POST", "/events", &[], "hello").field("transfer-encoding", "chunked");
    let mut bytes = call.bytes();
    bytes.extend_from_slice(b"5\r\nhello\r\n0\r\nx-later: 1\r\n\r\n");
    let denied = exchange(&world, &bytes).problem(400, "bad_body");
    assert_eq!(reason(&world, &denied), "signed-body-trailers");
    assert_eq!(world.echo.count(), 0);
}

#[test]
fn a_client_that_waits_is_asked_for_a_body_that_is_read_and_for_no_other() {
    let world = World::with(Settings { proxy: "signed_body_limit = \"1KiB\"", ..Settings::default() });
    let signer = world.signer(escher());
    world.signatures("enforced", "any");
    let waiting = |signer: &Signer, body: &str| {
        let length = body.len().to_string();
        let call =
            signer.call("POST", "/events", &[], body).field("expect", "100-continue").field("content-length", &length);
        let mut stream = BufReader::new(TcpStream::connect(world.server.proxy).unwrap());
        stream.get_mut().write_all(&call.bytes()).unwrap();
        stream
    };
    let mut stream = waiting(&signer, "hello");
    assert_eq!(Message::response(&mut stream, "HEAD").unwrap().status(), 100);
    stream.get_mut().write_all(b"hello").unwrap();
    Message::response(&mut stream, "POST").unwrap().expect(200);
    let mut stream = waiting(&signer, &"x".repeat(1025));
    Message::response(&mut stream, "POST").unwrap().problem(413, "body_too_large");
    // Whoever is denied without it is not asked either: nobody makes the gate hold a body for nothing.
    let unknown =
        Signer { key: "nobody".to_owned(), secret: signer.secret.clone(), id: String::new(), profile: escher() };
    let mut stream = waiting(&unknown, "hello");
    Message::response(&mut stream, "POST").unwrap().problem(401, "unauthorized");
}

#[test]
fn p4_a_signed_request_is_accepted_once_where_that_is_set() {
    let world = World::new();
    let signer = world.signer(escher());
    world.signatures("enforced", "once");
    let call = signer.call("POST", "/events", &[], "hello").body("hello");
    call.send(world.server.proxy).expect(200);
    let denied = call.send(world.server.proxy).problem(401, "unauthorized");
    let decision = world.decision(denied["decision"].as_str().unwrap());
    assert_eq!((&decision["reason"], &decision["facts"]["replay"]), (&json!("signature-replayed"), &json!("seen")));
    assert_eq!(world.echo.count(), 1);
    let get = signer.call("GET", "/events", &[], "");
    get.send(world.server.proxy).expect(200);
    get.send(world.server.proxy).problem(401, "unauthorized");
    assert!(metric(&world, "portcullis_replays_refused_total 2") && metric(&world, "portcullis_replay_entries 2"));
    world.signatures("enforced", "any");
    call.send(world.server.proxy).expect(200);
    call.send(world.server.proxy).expect(200);
}

#[test]
fn p4_a_signed_nonce_makes_a_request_one_that_is_accepted_once() {
    let world = World::new();
    let mut profile = escher();
    profile["nonce_header"] = "X-Nonce".into();
    let signer = world.signer(profile);
    world.signatures("enforced", "auto");
    let call = signer.call("GET", "/events", &[("x-nonce", "4711")], "");
    call.send(world.server.proxy).expect(200);
    call.send(world.server.proxy).problem(401, "unauthorized");
    // Without one, two that are the same bear one signature.
    let call = signer.call("GET", "/events", &[], "");
    call.send(world.server.proxy).expect(200);
    call.send(world.server.proxy).expect(200);
}

#[test]
fn revoking_a_pair_ends_its_signatures_with_the_next_request() {
    let world = World::new();
    let signer = world.signer(escher());
    world.signatures("enforced", "any");
    signer.call("GET", "/events", &[], "").send(world.server.proxy).expect(200);
    world.admin().post(&format!("{WORKSPACE_KEYS}/{}/revoke", signer.id), json!({ "confirm": true })).expect(200);
    let denied = signer.call("GET", "/events", &[], "").send(world.server.proxy).problem(401, "unauthorized");
    assert_eq!(reason(&world, &denied), "credential-revoked");
}

#[test]
fn a2_a_new_pair_ends_the_signatures_of_the_old_one() {
    let world = World::new();
    let first = world.signer(escher());
    world.signatures("enforced", "any");
    let second = world.new_pair(escher());
    first.call("GET", "/events", &[], "").send(world.server.proxy).problem(401, "unauthorized");
    second.call("GET", "/events", &[], "").send(world.server.proxy).expect(200);
    // The place of the first in the key sheets is used again.
    let third = world.new_pair(escher());
    for (signer, status) in [(&first, 401), (&second, 401), (&third, 200)] {
        signer.call("GET", "/events", &[], "").send(world.server.proxy).expect(status);
    }
}

#[test]
fn signatures_go_on_after_the_server_was_killed() {
    let mut world = World::new();
    let signer = world.signer(escher());
    world.signatures("enforced", "any");
    signer.call("GET", "/events", &[], "").send(world.server.proxy).expect(200);
    world.server.kill();
    world.restart();
    signer.call("POST", "/events", &[], "hello").body("hello").send(world.server.proxy).expect(200);
}

#[test]
fn a_pair_of_another_system_is_taken_over_and_its_clients_notice_nothing() {
    let world = World::new();
    world.accept_signatures("ours", &antavo());
    world.signatures("enforced", "any");
    let admin = world.admin();
    let (key_id, secret) = ("their-key_1", "their secret that nobody else may see");
    let import = format!("{WORKSPACE_KEYS}/import");
    let pair = json!({ "key_id": key_id, "secret": secret, "name": "Theirs" });
    let made = admin.post(&import, pair.clone()).expect(201);
    let told = made.json();
    assert_eq!((&told["signed_only"], &told["signature_profile"]), (&json!(true), &json!("ours")));
    assert!(!made.text().contains(secret) && !made.text().contains(key_id), "{told}");
    let id = told["id"].as_str().unwrap().to_owned();
    let signer = Signer { profile: antavo(), id: id.clone(), key: key_id.to_owned(), secret: secret.to_owned() };
    signer.call("POST", "/events", &[], "hello").body("hello").send(world.server.proxy).expect(200);

    // Its key id alone opens nothing, whatever the endpoint asks for.
    world.signatures("off", "any");
    let plain = world.call("GET", "/events").field("x-workspace-key", key_id).send(world.server.proxy);
    assert_eq!(reason(&world, &plain.problem(401, "unauthorized")), "signed-only");

    // A key id is taken for good, and a pair is replaced where that is confirmed.
    let again = admin.post(&import, json!({ "key_id": key_id, "secret": secret, "confirm": true }));
    assert_eq!(again.problem(422, "invalid")["faults"][0]["field"], "key_id");
    let other = json!({ "key_id": "their-key_2", "secret": secret, "signed_only": false });
    let told = admin.post(&import, other.clone()).problem(409, "confirmation_required");
    assert!(told["detail"].as_str().unwrap().contains(&id), "{told}");
    signer.call("GET", "/events", &[], "").send(world.server.proxy).expect(200);
    let mut other = other;
    other["confirm"] = true.into();
    admin.post(&import, other).expect(201);
    signer.call("GET", "/events", &[], "").send(world.server.proxy).problem(401, "unauthorized");
    world.call("GET", "/events").field("x-workspace-key", "their-key_2").send(world.server.proxy).expect(200);
}

#[test]
fn pairs_that_are_none_are_not_imported() {
    let world = World::new();
    let admin = world.admin();
    let import = format!("{WORKSPACE_KEYS}/import");
    let secret = "x".repeat(16);
    // Without a profile there is nothing to sign by.
    let told = admin.post(&import, json!({ "key_id": "k", "secret": secret })).problem(422, "invalid");
    assert_eq!(told["faults"][0]["field"], "profile");
    world.accept_signatures("ours", &escher());
    for (pair, field) in [
        (json!({ "key_id": "", "secret": secret }), "key_id"),
        (json!({ "key_id": "a/b", "secret": secret }), "key_id"),
        (json!({ "key_id": "x".repeat(129), "secret": secret }), "key_id"),
        (json!({ "key_id": "k", "secret": "x".repeat(7) }), "secret"),
        (json!({ "key_id": "k", "secret": "x".repeat(257) }), "secret"),
        (json!({ "key_id": "k", "secret": "with a\nline" }), "secret"),
        (json!({ "key_id": "k", "secret": secret, "profile": "none" }), "profile"),
    ] {
        let told = admin.post(&import, pair.clone()).problem(422, "invalid");
        assert_eq!(told["faults"][0]["field"], field, "{pair}");
    }
    for (key_id, secret) in [("x".repeat(128), "x".repeat(8)), ("k".to_owned(), "x".repeat(256))] {
        admin.post(&import, json!({ "key_id": key_id, "secret": secret, "confirm": true })).expect(201);
    }
}

#[test]
fn a_profile_stays_as_long_as_it_is_used() {
    let world = World::new();
    let admin = world.admin();
    let at = "/v1/signature-profiles/ours";
    let signer = world.signer(escher());
    let shown = admin.get(at).expect(200);
    assert_eq!(shown.json()["clock_skew_s"], 300);
    assert_eq!(admin.all("/v1/signature-profiles").len(), 1);
    assert!(admin.delete(at).problem(409, "profile_in_use")["detail"].as_str().unwrap().contains("shop"));
    admin.patch("/v1/services/shop", json!({ "accept": [{ "header": "X-API-Key", "kinds": ["tenant"] }] })).expect(200);
    assert!(admin.delete(at).problem(409, "profile_in_use")["detail"].as_str().unwrap().contains(&signer.id));
    // What its keys are derived from stays with it; the rest may change.
    let mut changed = escher();
    changed["credential_scope"] = "us/shop/escher_request".into();
    assert_eq!(admin.put(at, changed).problem(422, "invalid")["faults"][0]["field"], "credential_scope");
    let mut changed = escher();
    changed["clock_skew_s"] = 60.into();
    assert_eq!(admin.put(at, changed).expect(200).json()["clock_skew_s"], 60);
    admin.post(&format!("{WORKSPACE_KEYS}/{}/revoke", signer.id), json!({ "confirm": true })).expect(200);
    let stale = Call::field(admin.call("DELETE", at), "if-match", "\"1\"").send(admin.address);
    stale.problem(412, "changed");
    admin.delete(at).expect(204);
    admin.get(at).problem(404, "not_found");
    assert_eq!(admin.get("/v1/audit?limit=1").expect(200).json()["items"][0]["object_kind"], "signature-profile");
    world.server.terminate();
}

#[test]
fn of_several_profiles_one_is_named() {
    let world = World::new();
    let admin = world.admin();
    admin.put("/v1/signature-profiles/one", escher()).expect(200);
    admin.put("/v1/signature-profiles/two", antavo()).expect(200);
    let told = admin.post(WORKSPACE_KEYS, json!({})).problem(422, "invalid");
    assert_eq!(told["faults"][0]["field"], "profile");
    let made = admin.post(WORKSPACE_KEYS, json!({ "profile": "two", "signed_only": true })).expect(201).json();
    assert_eq!((&made["signature_profile"], &made["signed_only"]), (&json!("two"), &json!(true)));
    let service = json!({ "accept": [{ "client": "Basic", "kinds": ["client"] }] });
    let told = admin.patch("/v1/services/shop", service).problem(422, "invalid");
    assert_eq!(told["faults"][0]["field"], "accept[0].client");
}

#[test]
fn antavos_clients_get_the_form_of_errors_that_they_know() {
    let world = World::new();
    let signer = world.signer(antavo());
    world.signatures("enforced", "any");
    signer.call("GET", "/events", &[], "").send(world.server.proxy).expect(200);
    let code = |call: Call| call.send(world.server.proxy).problem(401, "unauthorized")["error"]["code"].clone();
    let broken = Signer { secret: "x".repeat(43), key: signer.key.clone(), id: signer.id.clone(), profile: antavo() };
    assert_eq!(code(broken.call("GET", "/events", &[], "")), 101_021);
    assert_eq!(code(world.call("GET", "/events")), 101_021);
    // No other denial has a code there, and other services have no such form.
    let unknown = signer.call("GET", "/nowhere", &[], "").send(world.server.proxy);
    assert_eq!(unknown.problem(403, "no_such_endpoint")["error"], Value::Null);
    let accept = json!([{ "header": "X-API-Key", "kinds": ["tenant"] }]);
    world.admin().patch("/v1/services/shop", json!({ "accept": accept })).expect(200);
    let plain = world.call("GET", "/events").send(world.server.proxy).problem(401, "unauthorized");
    assert_eq!(plain["error"], Value::Null);
}
