//! Bad input on the wire: every bound has an answer of its own, and what is over it costs nobody else anything.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Call, Connection, Message};
use crate::server::Settings;
use crate::world::{HOST, TENANT_KEYS, World};

/// Reads until the other end closes.
#[track_caller]
fn rest(connection: &mut Connection) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = connection.0.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_head_or_target_that_is_too_large_is_refused() {
    let world = World::new();
    let key = world.tenant_key();
    let call = |target: &str| world.call("GET", target).field("x-api-key", &key.key);
    let filled = |fields: usize, length: usize| {
        (0..fields).fold(call("/events"), |call, number| call.field(&format!("x-{number}"), &"v".repeat(length)))
    };
    let send = |call: Call| call.send(world.server.proxy);
    send(call(&format!("/events?{}", "q".repeat(8 * 1024 - 8)))).expect(200);
    send(call(&format!("/events?{}", "q".repeat(8 * 1024 - 7)))).problem(414, "too_large");
    send(filled(100, 500)).expect(200);
    send(filled(100, 700)).problem(431, "too_large");
    // Host, key and connection are fields, too.
    send(filled(125, 1)).expect(200);
    send(filled(126, 1)).expect(431);
    send(filled(1, 200 * 1024)).expect(431);
    send(call("/events")).expect(200);
}

#[test]
fn a_client_that_trickles_its_head_is_cut_off() {
    let world = World::with(Settings { proxy: "head_timeout = \"1s\"", ..Settings::default() });
    let key = world.tenant_key();
    let mut silent = Connection::open(world.server.proxy).unwrap();
    let mut trickling = Connection::open(world.server.proxy).unwrap();
    let mut writer = trickling.0.get_ref().try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        writer.write_all(b"GET /events HTTP/1.1\r\nhost: shop.example\r\nx-slow: ").unwrap();
        while writer.write_all(b"a").is_ok() {
            // As such a client does: each byte comes long before anything that is idle would be closed.
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(rest(&mut silent), "");
    let said = rest(&mut trickling);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
    drop(trickling);
    trickle.join().unwrap();
    world.events(&key.key).expect(200);
}

#[test]
fn a_body_that_stands_still_is_cut_off() {
    let world = World::with(Settings { proxy: "idle_timeout = \"1s\"", ..Settings::default() });
    let key = world.tenant_key();
    let mut client = Connection::open(world.server.proxy).unwrap();
    let head = format!("POST /events HTTP/1.1\r\nhost: {HOST}\r\nx-api-key: {}\r\ncontent-length: 10\r\n\r\n", key.key);
    client.write(format!("{head}abc").as_bytes()).unwrap();
    Message::response(&mut client.0, "POST").unwrap().problem(408, "body_timeout");
    assert_eq!(rest(&mut client), "", "what the client still sends belongs to nothing");
}

#[test]
fn a_body_over_the_limit_is_refused_whether_its_length_is_told_or_not() {
    let world = World::with(Settings { proxy: "request_body_limit = \"1KiB\"", ..Settings::default() });
    let key = world.tenant_key();
    let call = || world.call("POST", "/events").field("x-api-key", &key.key);
    call().body(vec![b'b'; 1024]).send(world.server.proxy).expect(200);
    assert_eq!(world.echo.last().body.len(), 1024);
    call().body(vec![b'b'; 1025]).send(world.server.proxy).problem(413, "body_too_large");
    let chunked = |length: usize| {
        let mut client = Connection::open(world.server.proxy).unwrap();
        let head = String::from_utf8(call().field("transfer-encoding", "chunked").bytes()).unwrap();
        let half = length / 2;
        let chunks = [half, length - half].map(|size| format!("{size:x}\r\n{}\r\n", "c".repeat(size))).concat();
        client.write(format!("{head}{chunks}0\r\n\r\n").as_bytes()).unwrap();
        Message::response(&mut client.0, "POST").unwrap()
    };
    chunked(1024).expect(200);
    chunked(1025).problem(413, "body_too_large");
    assert_eq!(world.echo.count(), 2, "nothing over the limit came through as a whole");
}

#[test]
fn the_admin_api_takes_a_mebibyte_and_no_more() {
    let world = World::new();
    let admin = world.admin();
    let of_length = |length: usize| {
        let empty = json!({ "name": "Long", "group": "all", "description": "" }).to_string().len();
        json!({ "name": "Long", "group": "all", "description": "d".repeat(length - empty) })
    };
    let told = admin.post(TENANT_KEYS, of_length(1 << 20)).problem(422, "invalid");
    assert_eq!(told["faults"][0]["field"], "description");
    admin.post(TENANT_KEYS, of_length((1 << 20) + 1)).problem(413, "too_large");
    assert!(admin.all(TENANT_KEYS).is_empty());
}

#[test]
fn the_admin_api_answers_to_its_own_names_alone() {
    let world = World::with(Settings { admin: "hosts = [\"gate.example\"]", ..Settings::default() });
    let admin = world.admin();
    let authorization = format!("ManagementKey-v1 {}", admin.key);
    let with = |host: &str| {
        Call::new("GET", "/v1/self").field("host", host).field("authorization", &authorization).send(admin.address)
    };
    let port = admin.address.port();
    for known in ["localhost", "LOCALHOST:1", "gate.example", "[::1]:9", &format!("127.0.0.1:{port}")] {
        with(known).expect(200);
    }
    for foreign in
        ["evil.example", "localhost.evil.example", "gate.example.", "admin.portcullis.invalid", "shop.example"]
    {
        with(foreign).problem(421, "unknown_host");
    }
    let two = Call::new("GET", "/v1/self").field("host", "localhost").field("host", "localhost");
    two.field("authorization", &authorization).send(admin.address).expect(421);
    let metrics = Call::new("GET", "/metrics").field("host", "evil.example").send(admin.address);
    metrics.problem(421, "unknown_host");
}

#[test]
fn a_body_that_is_not_what_it_should_be_is_refused_with_the_field() {
    let world = World::new();
    let admin = world.admin();
    let send = |media: &str, body: &str| {
        admin.call("POST", TENANT_KEYS).field("content-type", media).body(body).send(admin.address)
    };
    for media in ["application/x-www-form-urlencoded", "text/plain", "application/jsonp", ""] {
        send(media, "{}").problem(415, "not_json");
    }
    for (body, field, part) in [
        ("{\"name\": 7, \"group\": \"all\"}", "name", "expected a string"),
        ("{\"name\": \"Ours\"}", "", "missing field `group`"),
        ("{\"name\": \"Ours\", \"group\": \"all\", \"colour\": 1}", "colour", "unknown field `colour`"),
        ("{\"name\": \"Ours\", \"group\": \"no spaces\"}", "group", "no spaces"),
        ("{\"name\": \"Ours\", \"group\": \"all\", \"ip_allowlist\": [7]}", "ip_allowlist", "a list of address ranges"),
        ("{\"name\": \"Ours\"", "", "EOF"),
        ("", "", "EOF"),
        ("[\"Ours\", \"\", \"all\", null, []]", "", "no JSON object"),
        ("7", "", "no JSON object"),
    ] {
        let told = send("application/json; charset=utf-8", body).problem(422, "invalid");
        let fault = &told["faults"][0];
        assert_eq!(fault["field"], field, "{body}: {told}");
        assert!(fault["detail"].as_str().unwrap().contains(part), "{body}: {told}");
    }
    send("application/json", "{\"name\": \"Ours\", \"group\": \"all\"} {}").problem(400, "not_json");
    assert!(admin.all(TENANT_KEYS).is_empty());
}

#[test]
fn what_is_asked_of_the_admin_api_is_checked() {
    let world = World::new();
    let admin = world.admin();
    for (path, status, code) in [
        ("/v1/tenants?limit=0", 422, "invalid"),
        ("/v1/tenants?limit=201", 422, "invalid"),
        ("/v1/tenants?limit=many", 400, "bad_query"),
        ("/v1/tenants?after=-1", 400, "bad_query"),
        ("/v1/tenants?sort=name", 400, "bad_query"),
        ("/v1/tenants/acme/tenant-keys?state=dead", 400, "bad_query"),
        ("/v1/decisions?reason=bad-mood", 422, "invalid"),
        ("/v1/decisions?after=nonsense", 422, "invalid"),
        ("/v1/decisions/nonsense", 404, "not_found"),
        ("/v1/tenants/no%20spaces", 404, "not_found"),
        ("/v1/tenants/nobody", 404, "not_found"),
        ("/v1/tenants/acme/tenant-keys/nothing", 404, "not_found"),
        ("/v1/nothing", 403, "no_such_endpoint"),
        ("/v1/tenants/../self", 400, "bad_target"),
    ] {
        let told = admin.get(path).problem(status, code);
        assert_eq!(told["status"], status, "{path}");
    }
    let beyond = admin.get("/v1/tenants?after=1000000").expect(200).json();
    assert_eq!((&beyond["items"], &beyond["next"]), (&json!([]), &Value::Null));
    let bad_tag = admin.call("PATCH", "/v1/tenants/acme").field("if-match", "W/\"1\"").json(&json!({}));
    bad_tag.send(admin.address).problem(400, "bad_if_match");
}

#[test]
fn the_admin_api_lets_nobody_in_without_a_management_key_of_its_own() {
    let world = World::new();
    let address = world.server.admin;
    let tenant = world.tenant_key();
    // It is for the events of the shop.
    let management = world.management_key();
    Call::new("GET", "/v1/self").field("host", "localhost").send(address).problem(401, "unauthorized");
    let by_header = Call::new("GET", "/v1/self").field("host", "localhost").field("x-api-key", &tenant.key);
    by_header.send(address).problem(401, "unauthorized");
    world.admin_with(&tenant.key).get("/v1/self").problem(401, "unauthorized");
    world.admin_with(&management.key).get("/v1/self").problem(403, "forbidden");
    let claimed = world.admin_with("nothing").call("GET", "/v1/self").field("x-portcullis-tenant", "system");
    claimed.send(address).problem(401, "unauthorized");
    // Nor is it found through the proxy, by whichever name.
    for host in ["localhost", "admin.portcullis.invalid"] {
        let authorization = format!("ManagementKey-v1 {}", world.site.admin_key);
        let call = Call::new("GET", "/v1/self").field("host", host).field("authorization", &authorization);
        call.send(world.server.proxy).problem(403, "no_such_endpoint");
    }
}
