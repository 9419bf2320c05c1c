//! REQUIREMENTS A4: the error log and the API browser.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::http::{Call, Message};
use crate::server::{Settings, eventually, files, portcullis, run};
use crate::world::{Admin, Key, MANAGEMENT_KEYS, World};

/// Where the tenant's failed calls are.
const LOG: &str = "/v1/tenants/acme/error-log";
/// What may be set for them.
const SETTINGS: &str = "/v1/tenants/acme/error-log/settings";
/// The longest body that is kept (README, limits of the error log).
const CAP: usize = 16 * 1024;

/// An upstream that answers each request with what `answer` makes of it.
fn upstream(answer: impl Fn(&Message) -> Vec<u8> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut stream = std::io::BufReader::new(stream.unwrap());
                while let Ok(Some(request)) = Message::request(&mut stream) {
                    if stream.get_mut().write_all(&answer(&request)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A response of that status with that JSON.
fn json_response(status: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A world whose upstream fails every request, repeating what it was sent.
fn failing() -> World {
    let world = World::new();
    world.lead_to(upstream(|request| {
        let told = json!({ "error": "it broke", "you_sent": request.text(), "target": request.target() });
        json_response("500 Internal Server Error", &told)
    }));
    world
}

/// The entry of the call with that decision, once it is written.
#[track_caller]
fn entry_of(admin: &Admin, log: &str, answer: &Message) -> Value {
    let decision = decision_of(answer);
    let line = eventually("the failed call is kept", || {
        admin.all(log).into_iter().find(|line| line["decision"] == decision.as_str())
    });
    admin.get(&format!("{log}/{}", line["id"])).expect(200).json()
}

/// The decision of an answer that Portcullis gave itself.
fn decision_of(answer: &Message) -> String {
    answer.field("x-portcullis-decision").expect("the answer names its decision").to_owned()
}

/// The newest entry, once there are as many.
#[track_caller]
fn newest(admin: &Admin, count: usize) -> Value {
    let lines = eventually("the failed calls are kept", || {
        let lines = admin.all(LOG);
        (lines.len() >= count).then_some(lines)
    });
    admin.get(&format!("{LOG}/{}", lines[0]["id"])).expect(200).json()
}

fn header<'a>(message: &'a Value, name: &str) -> &'a str {
    let fields = message["headers"].as_array().unwrap();
    let field = fields.iter().find(|field| field["name"] == name).unwrap_or_else(|| panic!("no {name}: {message}"));
    field["value"].as_str().unwrap()
}

#[test]
fn a4_no_secret_of_a_failed_call_is_in_the_database() {
    let mut world = failing();
    let key = world.tenant_key();
    let secrets = [
        key.key.as_str(),
        "hunter2-in-json",
        "nested-client-secret",
        "in-a-list-0815",
        "query%2Btoken",
        "query+token",
        "crumb-of-a-cookie",
        "tok-in-a-header",
        "form-passphrase",
        "basic-dXNlcjpwYXNz",
        "from-a-referer",
        "ptc_Lost1234_neverASecretOfOurs",
    ];
    let body = json!({
        "password": "hunter2-in-json",
        "deep": { "er": [{ "client_secret": "nested-client-secret" }, { "tokens": ["in-a-list-0815"] }] },
        "note": "he typed hunter2-in-json, and ptc_Lost1234_neverASecretOfOurs",
    });
    let with_all = |call: Call| {
        call.field("x-api-key", &key.key)
            .field("cookie", "session=crumb-of-a-cookie")
            .field("x-auth-token", "tok-in-a-header")
            .field("proxy-authorization", "Basic basic-dXNlcjpwYXNz")
            .field("referer", "https://a.example/?access_token=from-a-referer")
            .field("user-agent", &key.key)
    };
    let target = format!("/events/hunter2-in-json?access_token=query%2Btoken&q={}", key.key);
    with_all(world.call("POST", &target)).json(&body).send(world.server.proxy).expect(500);
    let form = with_all(world.call("POST", "/events"))
        .field("content-type", "application/x-www-form-urlencoded")
        .body("user=ada&passphrase=form-passphrase&again=form-passphrase");
    form.send(world.server.proxy).expect(500);
    // The path of a decision is recorded as it came; the secrets of this one are in the body alone.
    let denied = world.call("POST", "/apps/a/items").field("x-api-key", &key.key).json(&body);
    denied.send(world.server.proxy).expect(403);
    let entry = newest(&world.admin(), 3);
    assert_eq!(entry["request"]["body"]["json"]["password"], "[redacted]", "{entry}");

    let in_paths = "hunter2-in-json";
    world.server.kill();
    let scan = |world: &World| {
        for file in files(&world.site.data()) {
            let bytes = std::fs::read(&file).unwrap();
            for secret in secrets.iter().filter(|secret| **secret != in_paths) {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} in {}", file.display());
            }
        }
    };
    scan(&world);
    world.restart();
    let listed = format!("{:?}", world.admin().all(LOG));
    assert!(secrets.iter().all(|secret| !listed.contains(secret)), "{listed}");
    world.server.stop();
    scan(&world);
}

#[test]
fn a4_a_failed_call_is_kept_whole_and_found_by_what_it_is() {
    let world = failing();
    let admin = world.admin();
    let key = world.tenant_key();
    let call = world.call("POST", "/events?page=2").field("x-api-key", &key.key).field("x-trace", "t-1");
    call.json(&json!({ "order": 17, "password": "hunter22" })).send(world.server.proxy).expect(500);
    let entry = newest(&admin, 1);
    let (request, response) = (&entry["request"], &entry["response"]);
    assert_eq!((&request["method"], &request["path"]), (&"POST".into(), &"/events".into()), "{entry}");
    assert_eq!(request["query"], json!([{ "name": "page", "value": "2" }]));
    assert_eq!((header(request, "x-trace"), header(request, "x-api-key")), ("t-1", "[redacted]"));
    assert_eq!(request["body"]["json"], json!({ "order": 17, "password": "[redacted]" }));
    assert_eq!((&response["status"], &response["body"]["json"]["error"]), (&500.into(), &"it broke".into()));
    assert_eq!(header(response, "content-type"), "application/json");
    assert_eq!((&entry["credential"], &entry["endpoint"]), (&key.id.as_str().into(), &"shop/events".into()));
    assert_eq!((&entry["reason"], &entry["proven"]), (&"upstream-status".into(), &true.into()));
    let at = entry["at"].as_str().unwrap();
    for (query, count) in [
        ("status=500", 1),
        ("status=502", 0),
        ("reason=upstream-status", 1),
        ("reason=address-not-in-key", 0),
        ("endpoint=shop/events", 1),
        ("endpoint=shop/reports", 0),
        (&format!("credential={}", key.id), 1),
        ("credential=nobody", 0),
        (&format!("since={at}"), 1),
        (&format!("until={at}"), 0),
        ("since=2099-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(admin.all(&format!("{LOG}?{query}")).len(), count, "{query}");
    }
    admin.get(&format!("{LOG}?since=yesterday")).problem(422, "invalid");
    admin.get(&format!("{LOG}?sense=1")).problem(400, "bad_query");
    admin.get(&format!("{LOG}/999999")).problem(404, "not_found");
    // What succeeds leaves nothing.
    world.lead_to(world.echo.address);
    world.events(&key.key).expect(200);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.lead_to(gone);
    let answer = world.events(&key.key).expect(502);
    assert_eq!(entry_of(&admin, LOG, &answer)["reason"], "upstream-unavailable");
    assert_eq!(admin.all(LOG).len(), 2);
}

#[test]
fn a4_a_denied_call_of_a_known_client_is_kept_with_its_body() {
    let world = World::new();
    let admin = world.admin();
    let key = world.tenant_key();
    admin.put("/v1/tenants/acme/settings/shop/events", json!({ "ip_ranges": ["203.0.113.0/24"] })).expect(200);
    let call = world.call("POST", "/events").field("x-api-key", &key.key).json(&json!({ "order": 17 }));
    let answer = call.send(world.server.proxy).expect(403);
    let entry = entry_of(&admin, LOG, &answer);
    assert_eq!(entry["request"]["body"]["json"], json!({ "order": 17 }), "{entry}");
    assert_eq!(entry["response"]["body"]["json"]["code"], "address_forbidden", "{entry}");
    assert_eq!((&entry["reason"], &entry["client"]), (&"address-not-in-endpoint".into(), &"127.0.0.1".into()));
    assert_eq!(world.echo.count(), 0);
}

#[test]
fn a4_of_strangers_the_heads_alone_are_kept_and_not_for_a_tenant() {
    let world = World::new();
    let admin = world.admin();
    let call = world.call("POST", "/events").field("x-api-key", "wrong-key-of-somebody").json(&json!({ "mine": 1 }));
    let answer = call.send(world.server.proxy).expect(401);
    let entry = entry_of(&admin, "/v1/error-log", &answer);
    assert_eq!((&entry["tenant"], &entry["proven"]), (&Value::Null, &false.into()), "{entry}");
    assert!(entry["request"]["body"]["not_kept"].is_string(), "{entry}");
    assert_eq!(header(&entry["request"], "x-api-key"), "[redacted]");
    assert!(!entry.to_string().contains("mine") && !entry.to_string().contains("wrong-key"), "{entry}");
    assert_eq!(admin.all(LOG), [] as [Value; 0]);

    let pinned = json!({ "id": "own", "hosts": ["own.example"], "tenant": "acme", "upstream": "http://127.0.0.1:9" });
    admin.post("/v1/services", pinned).expect(201);
    let answer = Call::new("POST", "/x").field("host", "own.example").json(&json!({ "mine": 1 }));
    let answer = answer.send(world.server.proxy).expect(401);
    let entry = entry_of(&admin, LOG, &answer);
    assert_eq!((&entry["tenant"], &entry["proven"]), (&"acme".into(), &false.into()), "{entry}");
    assert!(entry["request"]["body"]["not_kept"].is_string(), "{entry}");
}

#[test]
fn a4_a_body_is_kept_up_to_its_limit_and_told_by_its_digest_beyond() {
    let world = World::new();
    let admin = world.admin();
    let key = world.tenant_key();
    world.lead_to(upstream(|_| b"HTTP/1.1 500 X\r\ncontent-length: 3\r\n\r\n\xff\xfe\x00".to_vec()));
    let sized = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8)).into_bytes();
    let mut count = 0;
    let mut sent = |body: Vec<u8>| {
        world.call("POST", "/events").field("x-api-key", &key.key).body(body).send(world.server.proxy).expect(500);
        count += 1;
        newest(&admin, count)
    };
    let at = sent(sized(CAP));
    assert_eq!(at["request"]["body"]["json"]["a"].as_str().map(str::len), Some(CAP - 8));
    let over = sent(sized(CAP + 1))["request"]["body"].clone();
    assert_eq!((&over["length"], &over["sha256_of_first"]), (&(CAP + 1).into(), &CAP.into()), "{over}");
    assert!(over["json"].is_null(), "{over}");
    let binary = sent(b"\x00\x01\xff".to_vec());
    assert_eq!(binary["request"]["body"]["length"], 3, "{binary}");
    // `printf '\xff\xfe\x00' | sha256sum`
    assert_eq!(
        binary["response"]["body"]["sha256"], "ba778c0261008c8f71ae4061ad0162ffcbe63b52c91f89f236738131d1217ec7",
        "{binary}"
    );
}

#[test]
fn a4_a_tenant_has_as_many_entries_as_it_may_and_the_oldest_go_first() {
    let world = failing();
    let admin = world.admin();
    let key = world.tenant_key();
    admin.put(SETTINGS, json!({ "max_entries": 3 })).expect(200);
    let paths = |from: usize| (from..from + 3).rev().map(|n| format!("/events/{n}")).collect::<Vec<_>>();
    for number in 0..3 {
        let call = world.call("GET", &format!("/events/{number}")).field("x-api-key", &key.key);
        call.send(world.server.proxy).expect(500);
        newest(&admin, number + 1);
    }
    let listed =
        || -> Vec<String> { admin.all(LOG).iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect() };
    assert_eq!(listed(), paths(0));
    world.call("GET", "/events/3").field("x-api-key", &key.key).send(world.server.proxy).expect(500);
    eventually("the oldest is gone", || (listed() == paths(1)).then_some(()));
    // Strangers have a share of their own.
    for wrong in [0, 10_001] {
        admin.put(SETTINGS, json!({ "max_entries": wrong })).problem(422, "invalid");
    }
    admin.put(SETTINGS, json!({ "max_entries": 10_000 })).expect(200);
}

#[test]
fn a4_a_tenant_sets_what_is_kept_and_what_is_taken_out() {
    let world = failing();
    let admin = world.admin();
    let key = world.tenant_key();
    let usual = admin.get(SETTINGS).expect(200).json();
    assert_eq!((&usual["enabled"], &usual["max_entries"]), (&true.into(), &1000.into()), "{usual}");
    let redact = json!({
        "fields": ["iban"], "headers": ["X-Customer"], "values": ["ACME-"], "patterns": ["[0-9]{4}-[0-9]{4}"],
    });
    let set = admin.put(SETTINGS, json!({ "redact": redact })).expect(200);
    assert_eq!(set.json()["redact"], redact);
    let entry = world.newest_entry();
    assert_eq!((&entry["action"], &entry["object_kind"]), (&"put".into(), &"error-log-settings".into()), "{entry}");
    assert_eq!(entry["details"]["redact"]["values"], 1, "the audit does not repeat what is to be taken out: {entry}");
    let stale = admin.call("PUT", SETTINGS).field("if-match", "\"1\"").json(&json!({})).send(admin.address);
    stale.problem(412, "changed");

    let body = json!({ "iban": "DE0212", "order": "ACME-77", "card": "1234-5678", "plain": "stays" });
    let call = world.call("POST", "/events").field("x-api-key", &key.key).field("x-customer", "somebody").json(&body);
    call.send(world.server.proxy).expect(500);
    let entry = newest(&admin, 1);
    let text = entry.to_string();
    for gone in ["DE0212", "ACME-", "1234-5678", "somebody"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    assert_eq!(entry["request"]["body"]["json"]["plain"], "stays", "{entry}");

    for (wrong, field) in [
        (json!({ "redact": { "patterns": ["("] } }), "redact.patterns[0]"),
        (json!({ "redact": { "patterns": ["x*"] } }), "redact.patterns[0]"),
        (json!({ "redact": { "patterns": ["ok", "(\\w{500}){500}"] } }), "redact.patterns[1]"),
        (json!({ "redact": { "fields": [""] } }), "redact.fields[0]"),
        (json!({ "redact": { "values": ["v".repeat(201)] } }), "redact.values[0]"),
        (json!({ "redact": { "headers": vec!["x"; 101] } }), "redact.headers"),
    ] {
        let told = admin.put(SETTINGS, wrong).problem(422, "invalid");
        assert_eq!(told["faults"][0]["field"], field, "{told}");
    }
    admin.put(SETTINGS, json!({ "redact": { "values": ["v".repeat(200)], "headers": vec!["x"; 100] } })).expect(200);

    admin.put(SETTINGS, json!({ "enabled": false })).expect(200);
    world.events(&key.key).expect(500);
    admin.put(SETTINGS, json!({ "enabled": true })).expect(200);
    world.events(&key.key).expect(500);
    newest(&admin, 2);
    assert_eq!(admin.all(LOG).len(), 2, "what failed while it was off is not there");
}

#[test]
fn a4_a_large_answer_streams_on_whether_it_failed_or_not() {
    const LARGE: usize = 4 << 20;
    let world = World::new();
    let key = world.tenant_key();
    for (status, count) in [("200 OK", 0), ("500 Internal Server Error", 1)] {
        world.lead_to(upstream(move |_| {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {LARGE}\r\n\r\n");
            [head.as_bytes(), &vec![b'x'; LARGE]].concat()
        }));
        let answer = world.events(&key.key);
        assert_eq!((answer.body.len(), answer.body.iter().all(|byte| *byte == b'x')), (LARGE, true));
        if count > 0 {
            let body = newest(&world.admin(), count)["response"]["body"].clone();
            assert_eq!((&body["length"], &body["sha256_of_first"]), (&LARGE.into(), &CAP.into()), "{body}");
        }
    }
    // The first bytes of an answer that fails and goes on are not held back.
    let played = crate::upstream::Played::new();
    world.lead_to(played.address());
    let proxy = world.server.proxy;
    let call = world.call("GET", "/events").field("x-api-key", &key.key);
    let mut client = crate::http::Connection::open(proxy).unwrap();
    client.write(&call.bytes()).unwrap();
    let (mut stream, _) = played.accept();
    let socket: &mut TcpStream = stream.get_mut();
    socket.write_all(b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"first\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut client.0, &mut byte).unwrap();
        seen.push(byte[0]);
    }
    // The client goes away: what was there is kept, and says that it was not all.
    drop(client);
    let _ = socket.write_all(b"4\r\nmore\r\n");
    let body = eventually("the call is kept", || {
        let lines = world.admin().all(&format!("{LOG}?status=503"));
        let line = lines.first()?;
        Some(world.admin().get(&format!("{LOG}/{}", line["id"])).expect(200).json()["response"]["body"].clone())
    });
    assert_eq!(body["whole"], false, "{body}");
}

/// A key of the tenant itself.
fn own_admin(world: &World, endpoints: &[&str]) -> Admin {
    let body = json!({ "name": "Own", "expires": "2099-12-31", "endpoints": endpoints, "creator_rule": "independent" });
    world.admin_with(&Key::of(&world.admin().post(MANAGEMENT_KEYS, body).expect(201)).key)
}

#[test]
fn a4_the_error_log_is_its_tenants_own() {
    let world = failing();
    let key = world.tenant_key();
    world.events(&key.key).expect(500);
    let entry = newest(&world.admin(), 1);
    let own = own_admin(&world, &["portcullis/error-log.read"]);
    assert_eq!(own.all(LOG).len(), 1);
    let at = format!("{LOG}/{}", entry["id"]);
    own.get(&at).expect(200);
    own.put(SETTINGS, json!({ "enabled": false })).problem(403, "forbidden");
    own.get("/v1/error-log").problem(403, "forbidden");
    world.admin().post("/v1/tenants", json!({ "id": "other", "name": "Other" })).expect(201);
    own.get("/v1/tenants/other/error-log").problem(404, "not_found");
    // An entry of one tenant is none of another, nor of the installation.
    world.admin().get(&format!("/v1/tenants/other/error-log/{}", entry["id"])).problem(404, "not_found");
    world.admin().get(&format!("/v1/error-log/{}", entry["id"])).problem(404, "not_found");
}

#[test]
fn a4_a_tenant_browses_what_its_keys_can_call() {
    let world = World::new();
    let admin = world.admin();
    let legacy = json!({ "name": "Offers API", "prefixes": ["/offers"], "legacy": true, "formerly": "Deals API" });
    admin.put("/v1/services/shop/endpoints/offers", legacy).expect(200);
    let set = json!({ "ip_ranges": ["192.168.0.3/24"], "signature": "observed" });
    admin.put("/v1/tenants/acme/settings/shop/events", set).expect(200);
    admin.post("/v1/tenants", json!({ "id": "other", "name": "Other" })).expect(201);
    let pinned =
        json!({ "id": "theirs", "hosts": ["theirs.example"], "tenant": "other", "upstream": "http://127.0.0.1:9" });
    admin.post("/v1/services", pinned).expect(201);
    admin.put("/v1/services/theirs/endpoints/hidden", json!({ "paths": ["/x"] })).expect(200);
    let own = own_admin(&world, &["portcullis/endpoints.read"]);
    let items = own.get("/v1/tenants/acme/endpoints").expect(200).json()["items"].as_array().unwrap().clone();
    let of = |id: &str| items.iter().find(|item| item["endpoint"] == id).unwrap_or_else(|| panic!("{id}: {items:?}"));
    assert_eq!(of("shop/events")["ip_ranges"], json!(["192.168.0.0/24"]), "it is shown masked");
    assert_eq!(of("shop/events")["signature"], "observed");
    assert_eq!(of("shop/events")["methods"], json!(["GET", "POST"]));
    assert_eq!((&of("shop/offers")["legacy"], &of("shop/offers")["formerly"]), (&true.into(), &"Deals API".into()));
    assert_eq!((&of("shop/reports")["ip_ranges"], &of("shop/reports")["signature"]), (&json!([]), &"off".into()));
    assert!(items.iter().all(|item| item["endpoint"] != "theirs/hidden"), "{items:?}");
}

#[test]
fn a4_the_command_line_shows_failed_calls_and_sets_what_is_taken_out() {
    let world = failing();
    let key = world.tenant_key();
    let call = world.call("POST", "/events?page=2").field("x-api-key", &key.key);
    call.json(&json!({ "order": 17, "pin": 998877 })).send(world.server.proxy).expect(500);
    let entry = newest(&world.admin(), 1);
    let id = entry["id"].to_string();
    let cli = |args: &[&str]| {
        let server = format!("http://{}", world.server.admin);
        let mut command = portcullis();
        command.args(args).env("PORTCULLIS_SERVER", server).env("PORTCULLIS_KEY", &world.site.admin_key);
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(0), "{args:?} {ran:?}");
        ran.stdout
    };
    let listed = cli(&["error-log", "list", "acme", "--status", "500", "--key", &key.id]);
    assert!(listed.contains("upstream-status") && listed.contains("POST /events"), "{listed}");
    let shown = cli(&["error-log", "show", &id, "--tenant", "acme"]);
    assert!(shown.contains("\"order\": 17") && shown.contains("x-api-key: [redacted]"), "{shown}");
    assert!(!shown.contains("998877"), "{shown}");
    cli(&["error-log", "settings", "acme", "--redact-field", "iban,order", "--max-entries", "50"]);
    let set = cli(&["error-log", "settings", "acme", "--off"]);
    assert!(set.contains("iban") && set.contains("50") && set.contains("no"), "what is not given stays: {set}");
    assert!(cli(&["error-log", "list"]).contains("no failed calls"));
    let browsed = cli(&["endpoint", "browse", "acme"]);
    assert!(browsed.contains("shop/events") && browsed.contains("GET,POST"), "{browsed}");
    world.decision(entry["decision"].as_str().unwrap());
    let decision = cli(&["decision", "show", entry["decision"].as_str().unwrap(), "--tenant", "acme"]);
    assert!(decision.contains("then: allow at revision") && decision.contains("\"order\": 17"), "{decision}");
}

#[test]
fn a4_the_log_of_the_server_and_its_measures_say_nothing_of_a_failed_call() {
    let world = World::with(Settings { log: "level = \"trace\"", ..Settings::default() });
    world.lead_to(upstream(|_| json_response("500 X", &json!({ "password": "from-upstream-77" }))));
    let key = world.tenant_key();
    let call = world.call("POST", "/events").field("x-api-key", &key.key).json(&json!({ "password": "hunter22-sent" }));
    call.send(world.server.proxy).expect(500);
    newest(&world.admin(), 1);
    let metrics = world.admin().get("/metrics").text();
    for secret in ["hunter22-sent", "from-upstream-77", key.key.as_str()] {
        assert!(!world.server.stderr().contains(secret) && !metrics.contains(secret), "{secret}");
    }
    assert!(metrics.contains("portcullis_error_log_dropped_total 0"), "{metrics}");
}
