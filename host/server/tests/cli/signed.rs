//! `portcullis check` of signed requests.

use std::fs;

use portcullis_model::head::Packed;
use portcullis_model::signing::presets;
use portcullis_model::signing::signer::{Signed, Signer, Unsigned};
use portcullis_model::time::UnixTime;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::command::{Files, Ran, run, run_with_stdin, sample};
use crate::fake::{Fake, ok};

const KEY_ID: &str = "acme-signer-1";
const SECRET: &str = "a secret that nobody sees";
const AT: &str = "2026-11-21T10:00:00Z";
const URL: &str = "https://api.shop.example/v1/events?b=1&a=2";

/// The sample policy, in which the workspace key signs by the profile `antavo` and nothing else.
fn policy(files: &Files) -> String {
    let mut policy: Value = serde_json::from_str(&fs::read_to_string(sample("policy.json")).unwrap()).unwrap();
    policy["installation"]["signature_profiles"] = json!([presets::antavo("eu")]);
    policy["services"][0]["accept"]
        .as_array_mut()
        .unwrap()
        .push(json!({"signature": "antavo", "kinds": ["workspace"]}));
    let credential = &mut policy["credentials"][1];
    credential["signature_profile"] = json!("antavo");
    credential["signed_only"] = json!(true);
    let sha256: String = Sha256::digest(KEY_ID).iter().map(|byte| format!("{byte:02x}")).collect();
    credential["secrets"] = json!([{"version": 1, "sha256": sha256, "signing_slot": 3}]);
    files.put("policy.json", policy.to_string())
}

fn signed(method: &str, body: &[u8]) -> Signed {
    let at: UnixTime = AT.parse().unwrap();
    let profile = presets::antavo("eu");
    let request = Unsigned { method, target: "/v1/events?b=1&a=2", host: "api.shop.example", headers: &[], body };
    Signer { profile: &profile, key_id: KEY_ID, secret: SECRET.as_bytes() }.sign(&request, &[], at)
}

fn fields(files: &Files, signed: &Signed) -> String {
    let lines: String = signed.added.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("@{}", files.put("signed.txt", lines))
}

fn pair(files: &Files) -> String {
    files.put("pair.txt", format!("{KEY_ID}\n{SECRET}\n"))
}

#[track_caller]
fn shows(ran: &Ran, lines: &[u8]) {
    for line in std::str::from_utf8(lines).unwrap().lines() {
        assert!(ran.text().contains(&format!("| {line}\n")), "{line}: {}", ran.text());
    }
    assert!(!ran.text().contains(SECRET) && !ran.stderr.contains(SECRET));
}

#[test]
fn what_a_signature_was_made_over_is_shown_line_by_line() {
    let files = Files::new();
    let (policy, pair, signed) = (policy(&files), pair(&files), signed("GET", b""));
    let fields = fields(&files, &signed);
    let with = ["check", "--policy", &policy, "--signing-secret-file", &pair, "--at", AT, "-H", &fields];
    let ran = run(with.iter().chain(&[URL]));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.text());
    shows(&ran, &signed.signature.canonical_request);
    shows(&ran, &signed.signature.string_to_sign);

    let ran = run(with.iter().chain(&["https://api.shop.example/v1/events?b=1&a=3"]));
    assert!(ran.code == 1 && ran.text().starts_with("DENY 401 unauthorized (signature-mismatch)\n"), "{ran:?}");
    shows(&ran, b"a=3&b=1");
}

#[test]
fn without_its_secret_the_keys_are_said_not_to_be_loaded() {
    let files = Files::new();
    let (policy, fields) = (policy(&files), fields(&files, &signed("GET", b"")));
    let ran = run(["check", "--policy", &policy, "--at", AT, "-H", &fields, URL]);
    assert!(ran.code == 1 && ran.text().contains("the signing keys of that day have not been loaded"), "{ran:?}");
}

#[test]
fn a_body_is_hashed_where_the_gate_asks_for_it() {
    let files = Files::new();
    let (policy, pair, fields) = (policy(&files), pair(&files), fields(&files, &signed("POST", b"{\"n\":1}")));
    let with =
        ["check", "--policy", &policy, "--signing-secret-file", &pair, "--at", AT, "-H", &fields, "-X", "POST", URL];
    for (body, code) in [("{\"n\":1}", 0), ("{\"n\":2}", 1), ("", 1)] {
        let ran = run_with_stdin(with.iter().chain(&["--body", "-"]), body.as_bytes());
        assert_eq!(ran.code, code, "{body}: {}", ran.text());
    }
    assert_eq!(run(with).code, 1, "no body is not that body");
}

#[test]
fn a_raw_head_that_announces_a_body_waits_for_it() {
    let files = Files::new();
    let (policy, pair, signed) = (policy(&files), pair(&files), signed("POST", b"body"));
    let lines: String = signed.added.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let raw = format!("POST /v1/events?b=1&a=2 HTTP/1.1\r\n{lines}content-length: 4\r\n\r\nbody");
    let raw = files.put("raw", raw);
    let with = ["check", "--policy", &policy, "--signing-secret-file", &pair, "--at", AT, "--raw", &raw];
    let ran = run(with);
    assert!(ran.code == 1 && ran.text().starts_with("NEED-BODY SHA-256\n"), "{ran:?}");
    let body = files.put("body", "body");
    assert_eq!(run(with.iter().chain(&["--body", &body])).code, 0);
}

#[test]
fn a_secret_that_cannot_be_used_is_refused() {
    let files = Files::new();
    let policy = policy(&files);
    for (pair, what) in [
        ("acme-signer-1", "the file of the signing secret is not of two lines"),
        ("other\nsecret", "nobody signs with the key id"),
    ] {
        let pair = files.put("pair.txt", pair);
        let ran = run(["check", "--policy", &policy, "--signing-secret-file", &pair, URL]);
        assert!(ran.code == 2 && ran.stderr.starts_with(&format!("error: {what}")), "{ran:?}");
    }
}

#[test]
fn a_server_gets_the_digest_of_the_body_alone() {
    let files = Files::new();
    let (policy, pair, fields) = (policy(&files), pair(&files), fields(&files, &signed("POST", b"body")));
    let body = files.put("body", "body");
    let raw_head = ["-H", &fields, "-X", "POST", "--at", AT, URL];
    let empty = files.put("empty", "");
    let local = ["check", "--json", "--policy", &policy, "--signing-secret-file", &pair, "--body", &empty];
    let mut waits = run(local.iter().chain(&raw_head)).json();
    waits["verdict"] = json!("need_body");
    waits["need_body"] = json!({"algorithm": "sha256", "cap_bytes": 1024});
    let fake = Fake::new([ok(&waits), ok(&waits)]);
    let ran = fake.run(&[&["check", "--body", &body][..], &raw_head, &["--server"]].concat());
    assert_eq!(ran.code, 1, "{ran:?}");
    let asked = fake.requests();
    let digest = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    assert_eq!(asked[0].target, "/v1/check?at=2026-11-21T10%3A00%3A00Z");
    assert_eq!(asked[1].target, format!("{}&body_digest={digest}", asked[0].target));
    assert!(!Packed::open(&asked[0].body).unwrap().bodiless);
}
