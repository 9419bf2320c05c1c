//! `check --server`: a running server explains what it would decide.

use portcullis_model::head::Packed;
use serde_json::json;

use crate::command::{EVENTS, TENANT_KEY, check, run};
use crate::fake::{Fake, ok, problem};

const AT: &str = "2026-11-21T10:00:00Z";

fn key() -> String {
    format!("X-API-Key: {TENANT_KEY}")
}

/// What the gate says of a request here is answered by the server, and shown the same.
#[test]
fn it_is_shown_as_what_is_decided_here() {
    let settings = "https://api.shop.example/v1/coupons";
    for (args, code) in [
        (vec!["--at", AT, "-H", &key(), EVENTS], 0),
        (vec!["--at", AT, EVENTS], 1),
        (vec!["--at", AT, "-H", &key(), "--client", "203.0.113.7", settings], 1),
        (vec!["--at", AT, "https://api.shop.example/v1/%2e"], 1),
    ] {
        let local = check(&[&["--json"], args.as_slice()].concat());
        let fake = Fake::new([ok(&local.json()), ok(&local.json())]);
        let text = fake.run(&[&["check"], args.as_slice(), &["--server"]].concat());
        assert_eq!((text.code, text.stderr.as_str()), (code, ""), "{args:?}");
        assert_eq!(text.text(), check(&args).text());
        let json = fake.run(&[&["check", "--json"], args.as_slice(), &["--server", &fake.url]].concat());
        assert_eq!((json.code, json.text()), (code, local.text()));
    }
}

#[test]
fn the_server_is_sent_the_packed_head() {
    let explained = check(&["--json", EVENTS]).json();
    let fake = Fake::new([ok(&explained), ok(&explained)]);
    fake.run(&["check", "--server", "-H", &key(), "-X", "DELETE", "--at", AT, EVENTS]);
    fake.run(&["check", "-H", &key(), EVENTS, "--server"]);
    let asked = fake.requests();
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("POST", "/v1/check?at=2026-11-21T10%3A00%3A00Z"));
    assert_eq!(
        (asked[1].target.as_str(), asked[1].header("content-type")),
        ("/v1/check", Some("application/octet-stream"))
    );
    let head = Packed::open(&asked[0].body).unwrap();
    assert_eq!((head.method, head.target), (&b"DELETE"[..], &b"/v1/events"[..]));
    assert!(head.headers().any(|(name, value)| (name, value) == (b"X-API-Key", TENANT_KEY.as_bytes())));
}

/// The exit code of a denial is that of a denial alone.
#[test]
fn no_explanation_is_an_error() {
    for answer in [
        problem(403, "forbidden", "this is for keys of the system tenant"),
        problem(503, "unavailable", "no policy is in force"),
        (401, "", r#"{"code":"unauthorized"}"#.to_owned()),
        ok(&json!({"verdict": "allow"})),
        ok(&json!({})),
    ] {
        let ran = Fake::new([answer]).run(&["check", EVENTS, "--server"]);
        assert_eq!((ran.code, ran.text()), (2, ""), "{ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{ran:?}");
    }
}

#[test]
fn a_head_beyond_the_limits_is_not_sent() {
    let fake = Fake::new([]);
    let fields = fake.files.put("fields", "x: y\n".repeat(128));
    let ran = fake.run(&["check", "-H", &format!("@{fields}"), EVENTS, "--json", "--server"]);
    assert_eq!(
        (ran.code, &ran.json()["reason"], &ran.json()["facts"]["revision"]),
        (1, &json!("head-too-large"), &json!(null))
    );
    assert!(fake.requests().is_empty());
}

#[test]
fn a_server_or_a_policy() {
    for args in [
        &["check", EVENTS][..],
        &["check", "--policy", "p", EVENTS, "--server"],
        &["check", "--delta", "d", EVENTS, "--server"],
        &["check", "--confirmed", AT, EVENTS, "--server"],
        // What follows a bare `--server` is taken for its URL.
        &["check", "--server", EVENTS],
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.text()), (2, ""), "{args:?}");
        assert!(ran.stderr.contains("Usage: portcullis check"), "{args:?}: {}", ran.stderr);
    }
}
