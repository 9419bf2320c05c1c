//! `portcullis check`.

use serde_json::json;

use crate::command::{
    EVENTS, Files, MANAGEMENT_KEY, Ran, TENANT_KEY, WORKSPACE_KEY, check, run, run_with_stdin, sample,
};

fn key() -> String {
    format!("X-API-Key: {TENANT_KEY}")
}

#[track_caller]
fn allows(ran: &Ran) {
    assert!(ran.text().starts_with("ALLOW\n"), "{ran:?}");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[track_caller]
fn denies(ran: &Ran, line: &str) {
    assert!(ran.text().starts_with(&format!("DENY {line}\n")), "{line}: {ran:?}");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
}

#[test]
fn an_allow_is_explained() {
    let ran = check(&["--at", "2026-11-21T10:00:00Z", "-H", &key(), EVENTS]);
    allows(&ran);
    let expected = "\
ALLOW

Steps
  pass      policy            revision 1
  pass      request           GET api.shop.example/v1/events
  pass      client            127.0.0.1
  pass      service           `shop`
  pass      credential        tenant key `acme-tenant-1` of tenant `acme`, from the header `x-api-key`
";
    assert!(ran.text().starts_with(expected), "{}", ran.text());
    let expected = "
Facts
  tenant      acme
  credential  acme-tenant-1, a tenant key, version 1, proven by its key
  service     shop
  endpoint    shop/events
  client      127.0.0.1
  time        2026-11-21T10:00:00Z
  revision    1

Edits
  drop   every header field that begins with x-portcullis-
  set    x-portcullis-tenant: acme
  set    x-portcullis-credential: acme-tenant-1
  set    x-portcullis-kind: tenant
  set    x-portcullis-endpoint: shop/events
  strip  the header field x-api-key
";
    assert!(ran.text().ends_with(expected), "{}", ran.text());
}

#[test]
fn a_denial_is_explained_and_edits_nothing() {
    let files = Files::new();
    let ran = check(&["--delta", &files.delta("delta"), "-H", &key(), EVENTS]);
    denies(&ran, "401 unauthorized (credential-revoked)\nthe credential is revoked");
    assert!(ran.text().contains("\n  fail      standing    the credential is revoked\n"), "{}", ran.text());
    assert!(
        ran.text()
            .ends_with("\nChallenge\n  WWW-Authenticate  ApiKey realm=\"shop\", ManagementKey-v1 realm=\"shop\"\n")
    );
    assert!(!ran.text().contains("Edits"));
}

#[test]
fn json_has_every_field_of_an_allow() {
    let ran = check(&["--at", "2026-11-21T10:00:00Z", "--json", "-H", &key(), "--client", "2001:db8::7", EVENTS]);
    assert_eq!(ran.code, 0);
    let mut found = ran.json();
    let steps = found["steps"].take();
    assert_eq!(steps[0], json!({"check": "policy", "outcome": "pass", "detail": "revision 1"}));
    let expected = json!({
        "verdict": "allow", "status": null, "code": null, "reason": null, "reason_text": null, "need_body": null,
        "facts": {
            "revision": 1, "now": "2026-11-21T10:00:00Z", "client": "2001:db8::7",
            "method": "GET", "host": "api.shop.example", "path": "/v1/events",
            "service": "shop", "endpoint": "shop/events", "application": null, "tenant": "acme",
            "credential": {"id": "acme-tenant-1", "kind": "tenant", "proof": "key", "secret_version": 1},
            "signature": "absent", "replay": null,
        },
        "set_headers": [
            {"name": "x-portcullis-tenant", "value": "acme"},
            {"name": "x-portcullis-credential", "value": "acme-tenant-1"},
            {"name": "x-portcullis-kind", "value": "tenant"},
            {"name": "x-portcullis-endpoint", "value": "shop/events"},
        ],
        "strip": {"in": "header", "name": "x-api-key"},
        "observed": [], "obligations": [], "challenge": null, "steps": null,
    });
    assert_eq!(found, expected);
}

#[test]
fn json_has_every_field_of_a_denial() {
    let ran = check(&["--json", EVENTS]);
    assert_eq!(ran.code, 1);
    let found = ran.json();
    let fields =
        ["verdict", "status", "code", "reason", "need_body", "strip", "challenge"].map(|name| found[name].clone());
    let expected = json!([
        "deny",
        401,
        "unauthorized",
        "credential-missing",
        null,
        null,
        "ApiKey realm=\"shop\", ManagementKey-v1 realm=\"shop\""
    ]);
    assert_eq!(json!(fields), expected);
    assert_eq!((&found["set_headers"], &found["facts"]["credential"]), (&json!([]), &json!(null)));
    assert_eq!(found["steps"].as_array().unwrap().last().unwrap()["outcome"], "fail");
}

#[test]
fn every_kind_of_key_is_taken_where_it_is_accepted() {
    allows(&check(&["-H", &format!("x-workspace-key:{WORKSPACE_KEY}"), EVENTS]));
    allows(&check(&[&format!("{EVENTS}?api_key={WORKSPACE_KEY}")]));
    let management = format!("Authorization: ManagementKey-v1 {MANAGEMENT_KEY}");
    let settings = "https://api.shop.example/v1/applications/web/settings";
    let ran = check(&["-H", &management, settings]);
    allows(&ran);
    assert!(ran.text().contains("\n  application  web\n"), "{}", ran.text());
    denies(&check(&["-H", &management, &settings.replace("web", "mobile")]), "403 forbidden (application-not-allowed)");
    denies(&check(&["-H", &management, EVENTS]), "403 forbidden (key-lacks-endpoint)");
}

#[test]
fn the_clients_address_counts() {
    let coupons = "https://api.shop.example/v1/coupons";
    denies(&check(&["-H", &key(), coupons]), "403 address_forbidden (address-not-in-endpoint)");
    allows(&check(&["-H", &key(), "--client", "192.0.2.9", coupons]));
    // The sample trusts proxies in 10.0.0.0/8.
    allows(&check(&["-H", &key(), "--client", "10.1.1.1", "-H", "X-Forwarded-For: 192.0.2.9", coupons]));
}

#[test]
fn the_time_counts() {
    denies(&check(&["--at", "2037-01-01T00:00:00Z", "-H", &key(), EVENTS]), "401 unauthorized (credential-expired)");
    let confirmed = |at| check(&["--at", "2026-11-21T10:00:00Z", "--confirmed", at, "-H", &key(), EVENTS]);
    allows(&confirmed("2026-11-21T09:00:00Z"));
    denies(&confirmed("2026-11-21T08:59:59Z"), "503 unavailable (policy-stale)");
}

#[test]
fn odd_bytes_reach_the_gate_as_they_are() {
    for (url, line) in [
        ("https://api.shop.example/v1/%2e%2e/x", "400 bad_target (path-encoded-unreserved)"),
        ("https://api.shop.example/v1/../x", "400 bad_target (path-dot-segment)"),
        ("https://api.shop.example/v1//events", "400 bad_target (path-empty-segment)"),
        ("https://api.shop.example/v1/events#top", "400 bad_target (target-fragment)"),
        ("https://api.shop.example/v1/\u{e9}", "400 bad_target (target-not-ascii)"),
        ("https://api.shop.example/v1\\events", "400 bad_target (target-backslash)"),
        ("https://api.shop.example./v1/events", "400 bad_host (host-malformed)"),
        ("https://api.shop.example", "403 no_such_endpoint (service-unknown)"),
    ] {
        denies(&check(&["-H", &key(), url]), line);
    }
    denies(&check(&["-X", "get", "-H", &key(), EVENTS]), "400 bad_method (method-malformed)");
    denies(&check(&["-X", "TRACE", "-H", &key(), EVENTS]), "400 bad_method (method-refused)");
    denies(&check(&["-H", "Bad Name: x", EVENTS]), "400 bad_header (header-malformed)");
    denies(&check(&["-H", &key(), "-H", &key(), EVENTS]), "400 ambiguous_credential (credential-doubled)");
}

#[test]
fn the_host_is_the_urls_unless_it_is_given() {
    let other = "https://other.example/v1/events";
    denies(&check(&["-H", &key(), other]), "403 no_such_endpoint (service-unknown)");
    allows(&check(&["-H", &key(), "-H", "Host: API.shop.example:443", other]));
    denies(&check(&["-H", "Host: a.example", "-H", "host: a.example", other]), "400 bad_host (host-doubled)");
    allows(&check(&["--http2", "-H", &key(), EVENTS]));
    denies(&check(&["--http2", "-H", "Host: api.shop.example", other]), "400 bad_host (host-mismatch)");
}

#[test]
fn header_fields_may_lie_in_files() {
    let files = Files::new();
    let fields = files.put("key.txt", format!("{}\r\n\nX-Other: 1", key()));
    allows(&check(&["-H", &format!("@{fields}"), EVENTS]));
    let policy = sample("policy.json");
    let args = ["check", "--policy", policy.to_str().unwrap(), "-H", "@-", EVENTS];
    allows(&run_with_stdin(args, key().as_bytes()));
}

#[test]
fn a_captured_request_is_taken_with_its_body() {
    let files = Files::new();
    let raw = |target: &str, version: &str| {
        let head = format!("GET {target} HTTP/{version}\r\nHost: api.shop.example\r\n{}\r\n\r\n\0body", key());
        check(&["--raw", &files.put("request", head)])
    };
    allows(&raw("/v1/events?page=2", "1.1"));
    allows(&raw("/v1/events", "1.0"));
    allows(&raw("https://api.shop.example/v1/events", "1.1"));
    denies(&raw("https://other.example/v1/events", "1.1"), "400 bad_host (host-mismatch)");
    denies(&raw("*", "1.1"), "400 bad_target (target-not-origin)");
    denies(&raw("/v1/\u{e9}", "1.1"), "400 bad_target (target-not-ascii)");

    let coupons = format!("GET /v1/coupons HTTP/1.1\nhost: api.shop.example\n{}\n\n", key());
    let policy = sample("policy.json");
    let args = ["check", "--policy", policy.to_str().unwrap(), "--raw", "-", "--client", "192.0.2.1", "--plaintext"];
    allows(&run_with_stdin(args, coupons.as_bytes()));
}

#[test]
fn a_head_beyond_the_limits_is_denied_as_the_gate_would() {
    let files = Files::new();
    let fields = |count: usize| files.put("fields", "x: y\n".repeat(count));
    // Host makes it 128.
    denies(&check(&["-H", &format!("@{}", fields(127)), EVENTS]), "401 unauthorized (credential-missing)");
    denies(&check(&["-H", &format!("@{}", fields(128)), EVENTS]), "431 too_large (head-too-large)");

    let raw = |fields: &str| {
        let head = format!("GET /v1/events HTTP/1.1\r\nhost: api.shop.example\r\n{fields}\r\n");
        check(&["--raw", &files.put("request", head)])
    };
    denies(&raw(&"x: y\r\n".repeat(127)), "401 unauthorized (credential-missing)");
    let ran = raw(&"x: y\r\n".repeat(128));
    denies(&ran, "431 too_large (head-too-large)");
    assert!(
        ran.text().contains("  fail      request  the request has more than 128 header fields\n"),
        "{}",
        ran.text()
    );
    denies(&raw(&format!("x: {}\r\n", "y".repeat(65_536))), "431 too_large (head-too-large)");
    denies(&raw(&format!("x: {}", "y".repeat(200_000))), "431 too_large (head-too-large)");

    let target =
        |length: usize| check(&[&format!("https://api.shop.example/v1/{}", "a".repeat(length - "/v1/".len()))]);
    denies(&target(8192), "401 unauthorized (credential-missing)");
    denies(&target(8193), "414 too_large (target-too-long)");
}

#[test]
fn a_policy_and_its_deltas_come_in_every_form() {
    let files = Files::new();
    let (policy, delta) = (files.compiled("policy.ptcpol"), files.delta("delta"));
    let key = key();
    allows(&run(["check", "--policy", &policy, "-H", &key, EVENTS]));
    let (old, new) = (sample("policy.json"), sample("revoked.json"));
    let json = run(["policy", "diff", old.to_str().unwrap(), new.to_str().unwrap(), "--json"]).done();
    let json = files.put("delta.json", json);
    for delta in [&delta, &json] {
        let ran = run(["check", "--policy", &policy, "--delta", delta, "-H", &key, EVENTS]);
        denies(&ran, "401 unauthorized (credential-revoked)");
    }
    // A second delta gives the key back.
    let again = files.edited("again.json", "\"revision\": 1,", "\"revision\": 3,");
    let back = files.path("back");
    run(["policy", "diff", new.to_str().unwrap(), &again, "-o", &back]).done();
    allows(&run(["check", "--policy", &policy, "--delta", &delta, "--delta", &back, "-H", &key, EVENTS]));

    for bytes in [std::fs::read(old).unwrap(), std::fs::read(&policy).unwrap()] {
        allows(&run_with_stdin(["check", "--policy", "-", "-H", &key, EVENTS], &bytes));
    }
}
