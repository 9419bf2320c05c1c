//! REQUIREMENTS P8, first half: the keys of another system, by their digests.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::server::{Ran, portcullis, run};
use crate::world::{Key, TENANT_KEYS, World};

const IMPORT: &str = "/v1/tenants/acme/tenant-keys/import";

/// The digest of a key of another system.
fn digest(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A key as another system makes them.
fn theirs(number: usize) -> String {
    format!("sk_live_{number:08}-{}", &digest(&number.to_string())[..32])
}

fn told(number: usize) -> Value {
    json!({ "sha256": digest(&theirs(number)), "name": format!("Theirs {number}"), "group": "all" })
}

/// The command line, with the superuser's key.
pub(crate) fn cli(world: &World, args: &[&str]) -> Ran {
    let mut command = portcullis();
    command.args(args).env("PORTCULLIS_SERVER", format!("http://{}", world.server.admin));
    run(command.env("PORTCULLIS_KEY", &world.site.admin_key))
}

fn file(world: &World, lines: &[String]) -> PathBuf {
    let path = world.site.path("keys.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn import(world: &World, lines: &[String], more: &[&str]) -> Ran {
    let path = file(world, lines);
    let path = path.to_str().unwrap();
    cli(world, &[&["key", "import", "--tenant", "acme", "--kind", "tenant", "--group", "all", path], more].concat())
}

#[test]
fn p8_a_key_of_another_system_is_imported_passes_and_lives_on_like_any_other() {
    let world = World::new();
    let admin = world.admin();
    world.events(&theirs(1)).problem(401, "unauthorized");
    let lines = [
        json!({ "sha256": digest(&theirs(1)), "name": "Their first", "external_id": "crm-4711" }).to_string(),
        String::new(),
        json!({ "sha256": digest(&theirs(2)).to_uppercase(), "name": "Their second", "ip_allowlist": ["203.0.113.0/24"],
                "description": "from the old gate", "expires": "2099-12-31" })
        .to_string(),
    ];
    let ran = import(&world, &lines, &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(ran.stdout, "imported 2 keys into tenant `acme`\n");
    world.events(&theirs(1)).expect(200);
    world.events(&theirs(2)).problem(403, "address_forbidden");

    let listed = admin.all(TENANT_KEYS);
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["name"], &listed[0]["group"]), (&json!("Their first"), &json!("all")), "{listed:?}");
    assert_eq!(listed[1]["ip_allowlist"], json!(["203.0.113.0/24"]));
    assert_eq!(listed[1]["expires"], "2100-01-01T00:00:00Z");
    let at = |index: usize| format!("{TENANT_KEYS}/{}", listed[index]["id"].as_str().unwrap());

    // What was done stands in the audit, key by key, with no digest.
    let entry = world.newest_entry();
    assert_eq!((&entry["action"], &entry["object"]), (&json!("import"), &listed[1]["id"]), "{entry}");
    let entries = admin.all("/v1/tenants/acme/audit").into_iter().filter(|entry| entry["action"] == "import");
    let entries: Vec<Value> = entries.collect();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["details"]["external_id"], "crm-4711");
    assert_eq!(entries[0]["revision"], entries[1]["revision"], "one call is one change");
    assert!(!json!(entries).to_string().contains(&digest(&theirs(1))));
    admin.assert_audit_is_intact();

    // Edited, rotated, revoked like any other.
    admin.patch(&at(1), json!({ "ip_allowlist": [] })).expect(200);
    world.events(&theirs(2)).expect(200);
    let rotated = Key::of(&admin.post(&format!("{}/rotate", at(1)), json!({ "confirm": true })).expect(201));
    assert!(rotated.key.starts_with("ptc_"), "a new secret is one of ours");
    world.events(&theirs(2)).problem(401, "unauthorized");
    world.events(&rotated.key).expect(200);
    admin.post(&format!("{}/revoke", at(0)), json!({ "confirm": true })).expect(200);
    world.events(&theirs(1)).problem(401, "unauthorized");

    // Neither a revoked key nor a secret that was rotated away is brought back by the same file.
    let again = import(&world, &lines, &["--json"]);
    let told: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!((&told["imported"], &told["already_there"]), (&json!(0), &json!(2)), "{told}");
    world.events(&theirs(1)).problem(401, "unauthorized");
    world.events(&theirs(2)).problem(401, "unauthorized");
    world.events(&rotated.key).expect(200);
}

#[test]
fn p8_imported_keys_are_there_after_a_restart() {
    let mut world = World::new();
    world.admin().post(IMPORT, json!({ "keys": [told(1), told(2)] })).expect(200);
    world.server.kill();
    world.restart();
    world.events(&theirs(2)).expect(200);
    assert_eq!(world.admin().get("/v1/tenants/acme").expect(200).json()["keys_in_use"], 2);
}

#[test]
fn p8_a_file_with_wrong_lines_imports_nothing_and_names_each_line() {
    let world = World::new();
    let lines = [
        told(1).to_string(),
        json!({ "sha256": theirs(2), "name": "The key itself" }).to_string(),
        "{\"sha256\": ".to_owned(),
        json!({ "sha256": digest("x"), "name": "Spelled", "grup": "all" }).to_string(),
        json!({ "sha256": digest("y"), "name": "Nowhere", "ip_allowlist": ["10.0.0.0/40"] }).to_string(),
        told(1).to_string(),
        "[1, 2]".to_owned(),
    ];
    let ran = import(&world, &lines, &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("6 lines that are no keys: correct them, nothing was imported"), "{ran:?}");
    for line in [
        "line 2: sha256: a digest is 64 hex digits",
        "line 3: ",
        "line 4: ",
        "line 5: ip_allowlist[0]: ",
        "line 6: its digest",
        "line 7: ",
    ] {
        assert!(ran.stderr.contains(&format!("\n  {line}")), "{line}: {}", ran.stderr);
    }
    assert!(ran.stderr.contains("unknown field `grup`"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(&theirs(2)), "a key put in the wrong place is not repeated: {}", ran.stderr);
    assert_eq!(world.admin().all(TENANT_KEYS).len(), 0);

    // What only the server can know is told by the line too.
    let lines = [told(1).to_string(), String::new(), {
        let mut key = told(2);
        key["group"] = json!("nobody");
        key.to_string()
    }];
    let ran = import(&world, &lines, &[]);
    assert!(ran.stderr.contains("\n  line 3: group: there is no group `nobody`"), "{ran:?}");
    assert_eq!(world.admin().all(TENANT_KEYS).len(), 0);

    let empty = import(&world, &[], &[]);
    assert!(empty.code == Some(2) && empty.stderr.contains("has no keys"), "{empty:?}");
}

#[test]
fn p8_digests_that_are_taken_are_told_or_skipped() {
    let world = World::new();
    let admin = world.admin();
    admin.post(IMPORT, json!({ "keys": [told(1)] })).expect(200);
    let twice = admin.post(IMPORT, json!({ "keys": [told(2), told(1)] })).problem(422, "invalid");
    assert_eq!(twice["faults"][0]["field"], "keys[1].sha256", "{twice}");
    let both = admin.post(IMPORT, json!({ "keys": [told(3), told(3)] })).problem(422, "invalid");
    assert!(both["faults"][0]["detail"].as_str().unwrap().contains("`keys[0]` too"), "{both}");
    let skipped = admin.post(IMPORT, json!({ "keys": [told(1), told(2)], "skip_existing": true })).expect(200).json();
    assert_eq!((&skipped["imported"], &skipped["already_there"]), (&json!(1), &json!(1)), "{skipped}");
    assert_eq!(
        (&skipped["keys"][0]["already_there"], &skipped["keys"][1]["already_there"]),
        (&json!(true), &json!(false))
    );

    // All there: nothing changes, not even the revision, and the audit has nothing to tell.
    let before = (world.newest_entry(), skipped["revision"].clone());
    let again = admin.post(IMPORT, json!({ "keys": [told(1), told(2)], "skip_existing": true })).expect(200).json();
    assert_eq!((world.newest_entry(), again["revision"].clone()), before);

    // Another tenant's key is nobody else's, whatever is skipped.
    admin.post("/v1/tenants", json!({ "id": "globex" })).expect(201);
    admin.post("/v1/tenants/globex/groups", json!({ "id": "all" })).expect(201);
    let body = json!({ "keys": [told(1)], "skip_existing": true });
    let foreign = admin.post("/v1/tenants/globex/tenant-keys/import", body).problem(422, "invalid");
    assert!(!foreign.to_string().contains("acme"), "whose it is stays unsaid: {foreign}");
    let nothing = json!({ "sha256": digest(""), "name": "Nothing", "group": "all" });
    admin.post(IMPORT, json!({ "keys": [nothing] })).problem(422, "invalid");
    // A refused import is in the audit.
    let entry = world.newest_entry();
    assert_eq!((&entry["action"], &entry["code"]), (&json!("import"), &json!("invalid")), "{entry}");
    admin.assert_audit_is_intact();
}

#[test]
fn p8_an_import_ends_at_its_limits() {
    let world = World::new();
    let admin = world.admin();
    let some = |count: usize| (0..count).map(told).collect::<Vec<Value>>();
    admin.post(IMPORT, json!({ "keys": [] })).problem(422, "invalid");
    let told_of = admin.post(IMPORT, json!({ "keys": some(5001) })).problem(422, "invalid");
    assert!(told_of["detail"].as_str().unwrap().contains("give 1 to 5000 at once"), "{told_of}");
    let made = admin.post(IMPORT, json!({ "keys": some(5000) })).expect(200).json();
    assert_eq!(made["imported"], 5000);
    let ids: BTreeSet<&str> = made["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 5000);
    world.events(&theirs(0)).expect(200);
    world.events(&theirs(4999)).expect(200);
    let entries = admin.all("/v1/tenants/acme/audit").iter().filter(|entry| entry["action"] == "import").count();
    assert_eq!(entries, 5002, "one for each key, and one for each of the two refusals");

    // The limit of the tenant: the last that fits, and one more.
    admin.patch("/v1/tenants/acme", json!({ "key_limit": 5002 })).expect(200);
    let more = |from: usize, count: usize| (from..from + count).map(told).collect::<Vec<Value>>();
    let full = admin.post(IMPORT, json!({ "keys": more(6000, 3) })).problem(409, "key_limit_reached");
    assert!(full["detail"].as_str().unwrap().contains("5000/5002 keys are in use: 3 more do not fit"), "{full}");
    admin.post(IMPORT, json!({ "keys": more(6000, 2) })).expect(200);
    let key = json!({ "keys": more(6000, 2), "skip_existing": true });
    admin.post(IMPORT, key).expect(200);
    admin.assert_audit_is_intact();

    // The body of this call may be longer than that of others.
    let longer = json!({ "keys": [told(1)], "more": "x".repeat(2 << 20) });
    admin.post(IMPORT, longer).problem(422, "invalid");
    let too_long = json!({ "keys": [told(1)], "more": "x".repeat(17 << 20) });
    admin.post(IMPORT, too_long).problem(413, "too_large");
}

#[test]
fn p8_a_dry_run_imports_nothing_and_says_whether_it_would_fit() {
    let world = World::new();
    let admin = world.admin();
    let lines: Vec<String> = (0..3).map(|number| told(number).to_string()).collect();
    let ran = import(&world, &lines, &["--dry-run"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("3 keys can be imported"), "{ran:?}");
    assert_eq!(admin.all(TENANT_KEYS).len(), 0);
    admin.patch("/v1/tenants/acme", json!({ "key_limit": 2 })).expect(200);
    let ran = import(&world, &lines, &["--dry-run"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("3 keys are in the file and the limit of tenant `acme` leaves room for 2"), "{ran:?}");
}

#[test]
fn p8_a_file_of_many_calls_is_imported_and_an_import_that_broke_off_goes_on() {
    let world = World::new();
    let admin = world.admin();
    // The second call is refused as a whole: its first line has a digest that another tenant has.
    admin.post("/v1/tenants", json!({ "id": "globex" })).expect(201);
    admin.post("/v1/tenants/globex/groups", json!({ "id": "all" })).expect(201);
    admin.post("/v1/tenants/globex/tenant-keys/import", json!({ "keys": [told(5000)] })).expect(200);
    let lines: Vec<String> = (0..7000).map(|number| told(number).to_string()).collect();
    let ran = import(&world, &lines, &[]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("5000 keys were imported before"), "{ran:?}");
    assert!(ran.stderr.contains("\n  line 5001: sha256: another credential"), "{ran:?}");
    let mended: Vec<String> =
        lines.iter().enumerate().filter(|(at, _)| *at != 5000).map(|(_, line)| line.clone()).collect();
    let ran = import(&world, &mended, &["--json"]);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&told["imported"], &told["already_there"]), (&json!(1999), &json!(5000)), "{told}");
    world.events(&theirs(6999)).expect(200);
    assert_eq!(admin.get("/v1/tenants/acme").expect(200).json()["keys_in_use"], 6999);
    assert_eq!(cli(&world, &["audit", "verify"]).code, Some(0));
}

#[test]
fn p8_only_who_may_make_such_keys_imports_them() {
    let world = World::new();
    let admin = world.admin();
    let body = json!({
        "name": "A tenant's own", "expires": "2099-12-31", "endpoints": ["portcullis/tenant-keys"],
        "creator_rule": "independent",
    });
    let own = Key::of(&admin.post(crate::world::MANAGEMENT_KEYS, body).expect(201));
    // It may make keys, but the group gives what it does not have itself.
    let told_of = world.admin_with(&own.key).post(IMPORT, json!({ "keys": [told(1)] })).problem(422, "invalid");
    assert_eq!(told_of["faults"][0]["field"], "keys[0].group", "{told_of}");
    admin.post("/v1/tenants/acme/groups", json!({ "id": "none" })).expect(201);
    let mut key = told(1);
    key["group"] = json!("none");
    world.admin_with(&own.key).post(IMPORT, json!({ "keys": [key] })).expect(200);
    admin.post("/v1/tenants", json!({ "id": "globex" })).expect(201);
    let elsewhere = "/v1/tenants/globex/tenant-keys/import";
    world.admin_with(&own.key).post(elsewhere, json!({ "keys": [told(2)] })).problem(404, "not_found");
}
