//! What is shown of answers: tables, pages, JSON, and secrets once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::fake::{Fake, no_content, ok, problem};

/// A secret as the API answers it.
const SECRET: &str = "ptc_k3J9aQ2x_4Qm8Zr2TnV6yBx0LsWd7GfKc5HjPe3Ua9Rt1Yi";
const SIGNING: &str = "sgn_8Hq2Lw6ZtYb4NxVc0MsRd7Kf";

fn key(id: &str) -> Value {
    json!({
        "id": id, "kind": "tenant", "name": "Shop", "state": "active", "expiration": "expiring_soon",
        "expires": "2027-01-01T00:00:00Z", "secret_version": 1, "group": "integration", "ip_allowlist": [],
        "created_at": "2026-11-21T09:00:00Z", "created_by": "system/root", "changed": 7,
    })
}

fn issued(signing_secret: bool) -> Value {
    let mut key = key("k3J9aQ2x");
    key["key"] = json!(SECRET);
    if signing_secret {
        key["signing_secret"] = json!(SIGNING);
    }
    key
}

#[test]
fn a_list_is_a_table() {
    let mut revoked = key("zz");
    revoked["state"] = json!("revoked");
    revoked["expiration"] = json!("valid");
    revoked["expires"] = Value::Null;
    revoked["last_used"] = json!({"at": "2026-11-22T10:00:00Z", "address": "192.0.2.1"});
    let fake = Fake::new([ok(&json!({"items": [key("k3J9aQ2x"), revoked], "next": null}))]);
    let expected = "\
ID        KIND    NAME  STATUS                 GROUP        EXPIRES               LAST USED             CREATED               CREATED BY
k3J9aQ2x  tenant  Shop  active, expiring soon  integration  2027-01-01T00:00:00Z  -                     2026-11-21T09:00:00Z  system/root
zz        tenant  Shop  revoked, valid         integration  -                     2026-11-22T10:00:00Z  2026-11-21T09:00:00Z  system/root
";
    assert_eq!(fake.run(&["key", "list", "acme", "--kind", "tenant"]).done(), expected);
    let fake = Fake::new([ok(&json!({"items": [], "next": null}))]);
    assert_eq!(fake.run(&["tenant", "list"]).done(), "no tenants\n");
}

#[test]
fn a_record_is_a_page() {
    let service = json!({
        "id": "shop", "name": "", "hosts": ["a.example", "b.example"], "prefix": "/", "tenant": null,
        "accept": [{"header": "X-API-Key", "kinds": ["tenant"]}], "upstream": "http://127.0.0.1:8080",
        "preserve_host": true, "response_timeout_s": 30, "created_at": "2026-11-21T09:00:00Z", "changed": 7,
        "endpoints": [{"id": "events", "name": "Events API", "methods": ["GET", "POST"], "paths": ["/v1/events"]}],
    });
    let fake = Fake::new([ok(&service)]);
    let expected = "\
id             shop
hosts          a.example
               b.example
prefix         /
tenant         (shared)
accepts        header:X-API-Key=tenant
upstream       http://127.0.0.1:8080
client's host  sent on
may take       30 s
created        2026-11-21T09:00:00Z
changed        at revision 7

ENDPOINT  NAME        METHODS   PATHS       PREFIXES  PER APPLICATION
events    Events API  GET,POST  /v1/events  -         -
";
    assert_eq!(fake.run(&["service", "show", "shop"]).done(), expected);
}

#[test]
fn json_is_what_the_server_answered() {
    let list = json!({"items": [key("k1")], "next": 51});
    for (args, answer) in [
        (&["key", "list", "acme", "--kind", "tenant"][..], list),
        (&["key", "show", "acme", "k1"], key("k1")),
        (&["key", "revoke", "acme", "k1", "--kind", "tenant", "--yes"], key("k1")),
        (&["key", "create", "acme", "tenant", "--name", "Shop", "--group", "g"], issued(false)),
        (&["tenant", "create", "acme"], json!({"id": "acme", "new_field": [1]})),
        (&["whoami"], json!({"tenant": "system"})),
    ] {
        let fake = Fake::new([ok(&answer), ok(&answer)]);
        let ran = fake.run(&[args, &["--json"]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        assert_eq!(ran.json(), answer, "{args:?}");
        assert!(ran.text().contains("\n  \""), "it is not pretty: {}", ran.text());
    }
    let fake = Fake::new([no_content()]);
    assert_eq!(fake.run(&["service", "delete", "shop", "--yes", "--json"]).done(), "");
}

#[test]
fn a_list_says_how_to_see_more() {
    let page = |ids: &[&str], next: Value| {
        ok(&json!({"items": ids.iter().map(|id| key(id)).collect::<Vec<_>>(), "next": next}))
    };
    let fake = Fake::new([page(&["k1"], json!(51))]);
    let ran = fake.run(&["key", "list", "acme", "--kind", "tenant", "--limit", "1"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, "there are more: `--after 51` goes on, `--all` lists them all\n"));
    assert_eq!(ran.text().lines().count(), 2);

    let fake = Fake::new([page(&["k1", "k2"], json!(51)), page(&["k3"], json!("01k9")), page(&[], Value::Null)]);
    let ran = fake.run(&["key", "list", "acme", "--kind", "tenant", "--all", "--json"]);
    let ids: Vec<Value> = ran.json()["items"].as_array().unwrap().iter().map(|key| key["id"].clone()).collect();
    assert_eq!((json!(ids), &ran.json()["next"]), (json!(["k1", "k2", "k3"]), &Value::Null));
    let path = "GET /v1/tenants/acme/tenant-keys?limit=200";
    assert_eq!(fake.lines(), [path.to_owned(), format!("{path}&after=51"), format!("{path}&after=01k9")]);

    // A list without an end is not followed for ever.
    let fake = Fake::new((0..3).map(|_| page(&["k1"], json!(51))));
    let ran = fake.run(&["tenant", "list", "--all"]);
    assert!(ran.code == 2 && ran.stderr.contains("their list has no end"), "{ran:?}");
    assert_eq!(fake.lines().len(), 2);

    // Of every kind.
    let fake = Fake::new([page(&["k1"], json!(51)), page(&["k2"], Value::Null), page(&["k3"], json!(9))]);
    let ran = fake.run(&["key", "list", "acme"]);
    let more =
        "there are more: `--kind tenant --after 51` goes on\nthere are more: `--kind workspace --after 9` goes on\n";
    assert_eq!((ran.text().lines().count(), ran.stderr.as_str()), (4, more));
}

#[test]
fn a_secret_is_shown_once() {
    let fake = Fake::new([ok(&issued(true))]);
    let text = fake.run(&["key", "create", "acme", "workspace"]).done();
    assert!(text.starts_with("created workspace key `k3J9aQ2x` of tenant `acme`\nid "), "{text}");
    let end = format!(
        "\nkey             {SECRET}\nsigning secret  {SIGNING}\nThey are shown once, they cannot be shown again.\n"
    );
    assert!(text.ends_with(&end), "{text}");
    let fake = Fake::new([ok(&issued(false))]);
    let text = fake.run(&["key", "rotate", "acme", "k3J9aQ2x", "--kind", "tenant", "--yes"]).done();
    let end = format!("\nkey             {SECRET}\nIt is shown once, it cannot be shown again.\n");
    assert!(text.ends_with(&end), "{text}");
    assert_eq!(text.matches(SECRET).count(), 1);
}

#[test]
fn a_secret_can_go_to_a_file_instead() {
    for json in [false, true] {
        let fake = Fake::new([ok(&issued(true))]);
        let (key, secret) = (fake.files.path("new.key"), fake.files.path("new.secret"));
        let mut args = vec!["key", "create", "acme", "workspace", "--key-out", &key, "--secret-out", &secret];
        args.extend(json.then_some("--json"));
        let text = fake.run(&args).done();
        assert!(!text.contains(SECRET) && !text.contains(SIGNING), "{text}");
        assert!(
            json || text.contains(&format!("The key is in `{key}`.\nThe signing secret is in `{secret}`.\n")),
            "{text}"
        );
        for (path, held) in [(&key, SECRET), (&secret, SIGNING)] {
            assert_eq!(fs::read_to_string(path).unwrap(), format!("{held}\n"));
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

#[test]
fn a_file_for_a_secret_is_new_and_there_before_the_secret_is() {
    let fake = Fake::new([problem(403, "forbidden", "you may not")]);
    let there = fake.files.put("there.key", "mine");
    let create =
        |path: &str| fake.run(&["key", "create", "acme", "tenant", "--name", "N", "--group", "g", "--key-out", path]);
    create(&there).fails_with(&format!("`{there}` is there already: give the key a new file, nothing was changed"));
    assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
    let nowhere = fake.files.path("nowhere/new.key");
    create(&nowhere).fails_with(&format!(
        "cannot make `{nowhere}`: No such file or directory (os error 2): check the folder and its permissions, nothing \
         was changed"
    ));
    assert!(fake.lines().is_empty());
    // Where no key was made, no file stays.
    let new = fake.files.path("new.key");
    assert_eq!(create(&new).code, 1);
    assert_eq!(fake.files.names(), ["admin.key", "there.key"]);
}

#[test]
fn what_an_owner_may_see_again_is_shown() {
    let fake = Fake::new([ok(&issued(false))]);
    let text = fake.run(&["key", "show", "acme", "k3J9aQ2x", "--kind", "workspace"]).done();
    assert!(text.ends_with(&format!("key             {SECRET}\n")), "{text}");
}

#[test]
fn an_audit_that_is_not_intact_is_no_success() {
    let chain = json!({"tenant": "acme", "rows": 12, "removed": 3, "newest": "ab12", "fault": null});
    let found = |intact: Value, fault: Value| {
        let mut chain = chain.clone();
        chain["fault"] = fault;
        let checkpoint = json!({"number": 7, "at": "2026-11-24T16:58:32Z", "state": "signed"});
        json!({
            "intact": intact, "chains": [chain], "checkpoint": checkpoint, "public_key": "0f0f",
            "unproven": "a chain that was cut",
        })
    };
    let fake = Fake::new([ok(&found(json!(true), Value::Null))]);
    let expected = "\
every chain is intact

TENANT  ENTRIES  REMOVED  STATE   NEWEST HASH
acme    12       3        intact  ab12

checkpoint  7 2026-11-24T16:58:32Z signed
key         0f0f
not proven: a chain that was cut
";
    assert_eq!(fake.run(&["audit", "verify"]).done(), expected);
    for answer in [found(json!(false), json!("row 3 was changed")), found(Value::Null, Value::Null), json!({})] {
        let fake = Fake::new([ok(&answer)]);
        let ran = fake.run(&["audit", "verify"]);
        assert!(ran.code == 1 && ran.text().starts_with("NOT INTACT\n"), "{ran:?}");
    }
}

#[test]
fn entries_and_decisions_are_lines() {
    let entry = json!({
        "tenant": "acme", "number": 3, "at": "2026-11-21T09:00:00Z", "by": "system/root", "credential": "a1", "channel": "cli",
        "address": "127.0.0.1", "action": "revoke", "object_kind": "tenant-key", "object": "k1", "outcome": "refused",
        "code": "confirmation_required", "details": {}, "hash": "ab",
    });
    let fake = Fake::new([ok(&json!({"items": [entry], "next": null}))]);
    let text = fake.run(&["audit", "list"]).done();
    let line = "2026-11-21T09:00:00Z  acme    3       system/root  cli 127.0.0.1  revoke tenant-key  k1      refused (confirmation_required)  -";
    assert_eq!(text.lines().nth(1), Some(line), "{text}");

    let decision = json!({
        "id": "01k9x2m4q7c3d", "at": "2026-11-21T09:00:00Z", "verdict": "deny", "reason": "credential-revoked", "status": 401,
        "facts": {"tenant": "acme", "client": "192.0.2.1", "method": "GET", "host": "api.example", "path": "/v1",
            "credential": {"id": "k1"}},
    });
    let gap = json!({"gap": 12, "first": "01k9x2m4q7c3e", "last": "01k9x2m4q7c3z"});
    let fake = Fake::new([ok(&json!({"items": [decision, gap], "next": null}))]);
    let expected = "\
ID                            AT                    VERDICT    REASON              OBSERVED  TENANT  KEY  CLIENT     REQUEST
01k9x2m4q7c3d                 2026-11-21T09:00:00Z  deny 401   credential-revoked  -         acme    k1   192.0.2.1  GET api.example/v1
01k9x2m4q7c3e..01k9x2m4q7c3z  -                     gap of 12  -                   -         -       -    -          -
";
    assert_eq!(fake.run(&["decision", "list"]).done(), expected);
}

#[test]
fn scripts_complete_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = crate::command::run(["completion", shell]).done();
        for word in ["portcullis", "remove-range", "trusted-proxy"] {
            assert!(script.contains(word), "{shell} has no {word}");
        }
    }
}
