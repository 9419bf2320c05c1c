//! No key appears in any output, however it was given and whatever went wrong.

use crate::command::{EVENTS, Files, MANAGEMENT_KEY, TENANT_KEY, WORKSPACE_KEY, check, run};

/// A key that no policy has.
const UNKNOWN_KEY: &str = "ptc_zzNobody_0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX2yZ";

#[track_caller]
fn shows_no_key(args: &[&str]) {
    for form in [&[][..], &["--json"]] {
        let ran = check(&[form, args].concat());
        let output = format!("{}{}", ran.text(), ran.stderr);
        assert!(!output.is_empty());
        for key in [TENANT_KEY, WORKSPACE_KEY, MANAGEMENT_KEY, UNKNOWN_KEY] {
            // A part that is long enough to search a key by would be a leak as well.
            for part in key.as_bytes().windows(12) {
                let part = std::str::from_utf8(part).unwrap();
                assert!(!output.contains(part), "`{part}` is in the output of {args:?}:\n{output}");
            }
        }
    }
}

#[test]
fn of_a_request_with_any_key_in_any_place() {
    let files = Files::new();
    for key in [TENANT_KEY, WORKSPACE_KEY, MANAGEMENT_KEY, UNKNOWN_KEY] {
        let fields = [
            format!("X-API-Key: {key}"),
            format!("X-Workspace-Key: {key}"),
            format!("x_api_key: {key}"),
            format!("Authorization: ManagementKey-v1 {key}"),
            format!("Authorization: Bearer {key}"),
            format!("Authorization: Basic {key}"),
            format!("Cookie: session={key}"),
            format!("X-API-Key: {key}, {key}"),
            format!("X-API-Key: {key}\u{1}"),
            format!("X-API-Key: {key}\u{e9}"),
            format!("X-Portcullis-Tenant: {key}"),
            format!("X-Forwarded-For: {key}"),
            format!("Forwarded: for={key}"),
            format!("Host: {key}@api.shop.example"),
            format!("Date: {key}"),
            format!("Connection: {key}"),
            format!("Bad {key}: x"),
        ];
        for field in &fields {
            shows_no_key(&["-H", field, EVENTS]);
            shows_no_key(&["-H", field, "--client", "10.0.0.1", "https://api.shop.example/v1/coupons"]);
            let path = files.put("field", field);
            shows_no_key(&["-H", &format!("@{path}"), "--http2", EVENTS]);
            let request = format!("GET /v1/events?api_key={key} HTTP/1.1\r\nHost: api.shop.example\r\n{field}\r\n");
            let path = files.put("incomplete", &request);
            shows_no_key(&["--raw", &path]);
            let path = files.put("request", format!("{request}\r\n{key}"));
            shows_no_key(&["--raw", &path]);
        }
        for query in ["api_key", "API_KEY", "api%5fkey", "api_key[]", "key"] {
            shows_no_key(&[&format!("{EVENTS}?{query}={key}")]);
            shows_no_key(&[&format!("{EVENTS}?{query}={key}&api_key={key}")]);
        }
    }
}

#[test]
fn of_arguments_that_are_wrong() {
    let key = TENANT_KEY;
    let files = Files::new();
    let header = format!("X-API-Key: {key}");
    // A shell that was given no quotes.
    shows_no_key(&["-H", "X-API-Key:", key, EVENTS]);
    shows_no_key(&[EVENTS, "-H", "X-API-Key:", key]);
    shows_no_key(&["-H", key, EVENTS]);
    shows_no_key(&[key]);
    shows_no_key(&[&format!("--key={key}"), EVENTS]);
    shows_no_key(&[&format!("-k{key}"), EVENTS]);
    shows_no_key(&[&format!("https://{key}@api.shop.example/v1/events")]);
    shows_no_key(&[&format!("api.shop.example/v1/events?api_key={key}")]);
    shows_no_key(&["-H", &header, "--at", "yesterday", EVENTS]);
    shows_no_key(&["-H", &header, "--raw", "-", EVENTS]);
    shows_no_key(&["-H", &header, "--delta", &files.path("nowhere"), EVENTS]);
    for bytes in [
        format!("{key} / HTTP/1.1\r\n\r\n"),
        format!("GET /?api_key={key} HTTP/2.0\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nX-API-Key {key}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nX-API-Key: {key}\x01\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{}\r\n", format!("X-API-Key: {key}\r\n").repeat(200)),
    ] {
        shows_no_key(&["--raw", &files.put("request", bytes)]);
    }
    let path = files.put("fields", key);
    shows_no_key(&["-H", &format!("@{path}"), EVENTS]);
}

#[test]
fn of_a_policy_that_is_wrong() {
    let files = Files::new();
    let policy = files.put("policy.json", "{}");
    let ran = run(["check", "--policy", &policy, "-H", &format!("X-API-Key: {TENANT_KEY}"), EVENTS]);
    assert!(ran.code == 2 && !ran.stderr.contains(TENANT_KEY), "{ran:?}");
}
