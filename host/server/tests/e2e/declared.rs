//! REQUIREMENTS P8, second half: a service or a tenant as one file.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::import::cli;
use crate::server::Ran;
use crate::world::{Key, MANAGEMENT_KEYS, TENANT_KEYS, World};

fn exported(world: &World, what: &[&str]) -> String {
    let ran = cli(world, &[&["export"], what].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    ran.stdout
}

fn file(world: &World, text: &str) -> PathBuf {
    let path = world.site.path("declared.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn on_file(world: &World, command: &str, text: &str, more: &[&str]) -> Ran {
    let path = file(world, text);
    cli(world, &[&[command, path.to_str().unwrap()], more].concat())
}

#[track_caller]
fn planned(world: &World, text: &str, more: &[&str]) -> Value {
    let ran = on_file(world, "plan", text, &[more, &["--json"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

#[track_caller]
fn assert_nothing_to_change(world: &World, text: &str, more: &[&str]) {
    let ran = on_file(world, "plan", text, more);
    assert!(ran.code == Some(0) && ran.stdout.contains("nothing to change"), "{ran:?}");
}

/// Everything that a tenant can have.
fn furnish(world: &World) -> (Key, Key) {
    let admin = world.admin();
    let ranges = json!({ "ip_ranges": ["127.0.0.0/8", "203.0.113.7"], "signature": "observed" });
    admin.put("/v1/tenants/acme/settings/shop/events", ranges).expect(200);
    admin.post("/v1/tenants/acme/groups", json!({ "id": "profile", "type": "member" })).expect(201);
    let reports = json!([{ "endpoint": "shop/reports", "methods": ["GET"] }]);
    admin.post("/v1/tenants/acme/groups", json!({ "id": "readers", "permissions": reports })).expect(201);
    admin.post("/v1/tenants/acme/applications", json!({ "id": "web", "name": "The web" })).expect(201);
    admin.post("/v1/tenants/acme/users", json!({ "id": "ann", "name": "Ann Example", "role": "admin" })).expect(201);
    let bob = json!({ "id": "bob", "name": "Bob Example", "role": "member", "group": "profile" });
    admin.post("/v1/tenants/acme/users", bob).expect(201);
    admin.patch("/v1/tenants/acme/users/bob", json!({ "state": "disabled" })).expect(200);
    let body = json!({ "name": "Shop", "group": "all", "expires": "2099-12-31", "ip_allowlist": ["127.0.0.1"] });
    let tenant_key = Key::of(&admin.post(TENANT_KEYS, body).expect(201));
    let body = json!({
        "name": "CI", "expires": "2099-12-31", "endpoints": ["shop/items"], "applications": ["web"], "creator": "ann",
    });
    let management = Key::of(&admin.post(MANAGEMENT_KEYS, body).expect(201));
    (tenant_key, management)
}

#[test]
fn p8_an_export_is_reviewable_holds_no_secret_and_plans_to_nothing() {
    let world = World::new();
    let (tenant_key, management) = furnish(&world);
    let pair = world.workspace_key();
    let tenant = exported(&world, &["tenant", "acme"]);
    for secret in [&tenant_key.key, &management.key, &pair.key, &world.site.admin_key] {
        assert!(!tenant.contains(secret.as_str()), "{tenant}");
    }
    assert!(!tenant.contains("sha256") && !tenant.contains("Example"), "neither digests nor names of people: {tenant}");
    for line in [
        "format = 1",
        "id = \"acme\"",
        "[[tenant.groups]]",
        "[[tenant.users]]",
        "endpoint = \"shop/events\"",
        "signature = \"observed\"",
        &format!("id = \"{}\"", tenant_key.id),
    ] {
        assert!(tenant.lines().any(|there| there == line), "{line}: {tenant}");
    }
    let named = exported(&world, &["tenant", "acme", "--names", "--no-keys"]);
    assert!(named.contains("Ann Example") && !named.contains("tenant.keys"), "{named}");
    for text in [tenant, named, exported(&world, &["service", "shop"])] {
        assert_nothing_to_change(&world, &text, &[]);
        assert_nothing_to_change(&world, &text, &["--prune"]);
    }
    let before = world.newest_entry();
    let nobody = cli(&world, &["export", "tenant", "nobody"]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("there is no tenant `nobody`"), "{nobody:?}");
    assert_eq!(world.newest_entry(), before, "reading changes nothing");
}

#[test]
fn p8_a_tenant_and_its_service_are_rebuilt_from_their_files_elsewhere() {
    let world = World::new();
    furnish(&world);
    let (service, tenant) =
        (exported(&world, &["service", "shop"]), exported(&world, &["tenant", "acme", "--no-keys", "--names"]));
    let other = World::new();
    // Another installation that has neither.
    let service = service.replace("\"shop\"", "\"store\"").replace("shop.example", "store.example");
    let tenant = tenant.replace("shop/", "store/").replace("\"acme\"", "\"globex\"");
    for text in [&service, &tenant] {
        let ran = on_file(&other, "apply", text, &["--yes"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        assert_nothing_to_change(&other, text, &["--prune"]);
    }
    assert_eq!(
        exported(&other, &["tenant", "globex", "--no-keys", "--names"]).replace("globex", "acme"),
        tenant.replace("globex", "acme")
    );
    let bob = other.admin().get("/v1/tenants/globex/users/bob").expect(200).json();
    assert_eq!(
        (&bob["state"], &bob["group"], &bob["name"]),
        (&json!("disabled"), &json!("profile"), &json!("Bob Example"))
    );
    // What was applied decides.
    let key = json!({ "name": "New", "group": "readers" });
    let key = Key::of(&other.admin().post("/v1/tenants/globex/tenant-keys", key).expect(201));
    let call =
        |path: &str| crate::http::Call::new("GET", path).field("host", "store.example").field("x-api-key", &key.key);
    call("/reports").send(other.server.proxy).expect(200);
    call("/events").send(other.server.proxy).problem(403, "forbidden");
    // Each change is an entry of the audit.
    let actions: Vec<String> = other
        .admin()
        .all("/v1/tenants/globex/audit")
        .iter()
        .rev()
        .map(|entry| format!("{} {}", entry["action"].as_str().unwrap(), entry["object_kind"].as_str().unwrap()))
        .collect();
    assert_eq!(actions[..2], ["create tenant", "create group"], "{actions:?}");
    other.admin().assert_audit_is_intact();
}

#[test]
fn p8_a_plan_names_each_change_and_applying_it_makes_them() {
    let world = World::new();
    let (tenant_key, management) = furnish(&world);
    let admin = world.admin();
    let text = exported(&world, &["tenant", "acme"])
        .replace("name = \"Acme\"", "name = \"Acme Inc.\"")
        .replace("\"203.0.113.7\"", "\"203.0.113.8\"")
        .replace("name = \"Shop\"", "name = \"Shop 2\"");
    let mut table: toml::Table = text.parse().unwrap();
    let tenant = table["tenant"].as_table_mut().unwrap();
    let groups = tenant["groups"].as_array_mut().unwrap();
    groups.retain(|group| group["id"].as_str() != Some("readers"));
    groups.push(
        "id = \"writers\"\npermissions = [{ endpoint = \"shop/events\", methods = [\"POST\"] }]"
            .parse::<toml::Table>()
            .unwrap()
            .into(),
    );
    tenant["users"].as_array_mut().unwrap().retain(|user| user["id"].as_str() != Some("bob"));
    tenant["keys"].as_array_mut().unwrap().retain(|key| key["id"].as_str() != Some(&management.id));
    let text = toml::to_string(&table).unwrap();

    let records = |plan: &Value| -> Vec<String> {
        let steps = plan["steps"].as_array().unwrap().iter();
        steps.map(|step| format!("{} {}", step["act"].as_str().unwrap(), step["record"].as_str().unwrap())).collect()
    };
    let before = world.newest_entry();
    let kept = planned(&world, &text, &[]);
    let shop = format!("change key {}", tenant_key.id);
    assert_eq!(records(&kept), ["change tenant acme", "create group writers", "change settings shop/events", &shop]);
    assert_eq!(kept["left"], json!(["group readers", "user bob", format!("key {}", management.id)]));
    let pruned = planned(&world, &text, &["--prune"]);
    let gone =
        [format!("delete key {}", management.id), "delete user bob".to_owned(), "delete group readers".to_owned()];
    assert_eq!(records(&pruned)[4..], gone);
    assert_eq!(world.newest_entry(), before, "a plan changes nothing");

    let shown = on_file(&world, "plan", &text, &["--prune"]).stdout;
    for line in [
        "~ tenant acme",
        "    name: \"Acme\" -> \"Acme Inc.\"",
        "+ group writers",
        "- user bob",
        "1 to create, 3 to change, 3 to delete",
    ] {
        assert!(shown.lines().any(|there| there == line), "{line}: {shown}");
    }
    // Nobody is there to confirm it, so the consequences are named and nothing is done.
    let unconfirmed = on_file(&world, "apply", &text, &["--prune"]);
    assert_eq!(unconfirmed.code, Some(2), "{unconfirmed:?}");
    assert!(
        unconfirmed.stderr.contains(&format!("the key {} is gone at once and for good", management.id)),
        "{unconfirmed:?}"
    );
    assert!(unconfirmed.stderr.contains("give `--yes` to confirm it, nothing was changed"), "{unconfirmed:?}");
    assert_eq!(world.newest_entry(), before);

    let applied = on_file(&world, "apply", &text, &["--prune", "--yes"]);
    assert_eq!((applied.code, applied.stderr.as_str()), (Some(0), ""), "{applied:?}");
    assert!(applied.stdout.ends_with("applied, 7 changes\n"), "{applied:?}");
    assert_nothing_to_change(&world, &text, &["--prune"]);
    assert_eq!(admin.get("/v1/tenants/acme").expect(200).json()["name"], "Acme Inc.");
    admin.get("/v1/tenants/acme/users/bob").problem(404, "not_found");
    admin.get(&format!("{MANAGEMENT_KEYS}/{}", management.id)).problem(404, "not_found");
    world.events(&tenant_key.key).expect(200);

    // A key that the file has not is revoked where lists are pruned.
    table["tenant"]["keys"] = toml::Value::Array(Vec::new());
    let text = toml::to_string(&table).unwrap();
    let revoking = on_file(&world, "apply", &text, &["--prune", "--yes"]);
    assert_eq!(revoking.code, Some(0), "{revoking:?}");
    world.events(&tenant_key.key).problem(401, "unauthorized");
    assert_nothing_to_change(&world, &text, &["--prune"]);
}

#[test]
fn p8_a_service_changes_by_its_file() {
    let world = World::new();
    let key = world.tenant_key();
    let text = exported(&world, &["service", "shop"]).replace("\"/reports\"", "\"/reports\", \"/statements\"");
    let call = |path: &str| world.call("GET", path).field("x-api-key", &key.key).send(world.server.proxy);
    call("/statements").expect(403);
    let mut table: toml::Table = text.parse().unwrap();
    let endpoints = table["service"]["endpoints"].as_array_mut().unwrap();
    endpoints.retain(|endpoint| endpoint["id"].as_str() != Some("items"));
    endpoints.push("id = \"extra\"\npaths = [\"/extra\"]".parse::<toml::Table>().unwrap().into());
    table["service"]["response_timeout_s"] = 7.into();
    let text = toml::to_string(&table).unwrap();
    let applied = on_file(&world, "apply", &text, &["--prune", "--yes"]);
    assert_eq!((applied.code, applied.stderr.as_str()), (Some(0), ""), "{applied:?}");
    call("/statements").expect(200);
    let service = world.admin().get("/v1/services/shop").expect(200).json();
    let ids: Vec<&str> = service["endpoints"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &service["response_timeout_s"]), (vec!["events", "reports", "extra"], &json!(7)));
    assert_nothing_to_change(&world, &text, &["--prune"]);
    // What a file cannot do is said beforehand, and then nothing of it is done.
    let moved =
        text.replace("prefix = \"/\"", "prefix = \"/v2\"").replace("response_timeout_s = 7", "response_timeout_s = 8");
    let refused = on_file(&world, "apply", &moved, &["--yes"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("service shop: its `prefix` cannot be changed from \"/\" to \"/v2\""),
        "{refused:?}"
    );
    assert_eq!(world.admin().get("/v1/services/shop").expect(200).json()["response_timeout_s"], 7);
}

#[test]
fn p8_what_was_changed_since_it_was_planned_is_not_applied() {
    let world = World::new();
    let admin = world.admin();
    let text = exported(&world, &["tenant", "acme"]).replace("name = \"Acme\"", "name = \"Ours\"");
    let plan = planned(&world, &text, &[])["plan"].as_str().unwrap().to_owned();
    admin.patch("/v1/tenants/acme", json!({ "key_limit": 7 })).expect(200);
    let refused = on_file(&world, "apply", &text, &["--plan", &plan, "--yes"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("something was changed since"), "{refused:?}");
    assert_eq!(admin.get("/v1/tenants/acme").expect(200).json()["name"], "Acme");
    let plan = planned(&world, &text, &[])["plan"].as_str().unwrap().to_owned();
    assert_eq!(on_file(&world, "apply", &text, &["--plan", &plan, "--yes"]).code, Some(0));
    assert_eq!(admin.get("/v1/tenants/acme").expect(200).json()["name"], "Ours");

    // The calls themselves depend on the revision: an endpoint on that of its service.
    let tag = admin.get("/v1/services/shop").expect(200).field("etag").unwrap().to_owned();
    admin.patch("/v1/services/shop", json!({ "name": "Meanwhile" })).expect(200);
    let put = admin.call("PUT", "/v1/services/shop/endpoints/late").field("if-match", &tag);
    put.json(&json!({ "paths": ["/late"] })).send(admin.address).problem(412, "changed");
    let gone = admin.call("DELETE", "/v1/services/shop/endpoints/events?confirm=true").field("if-match", &tag);
    gone.send(admin.address).problem(412, "changed");
}

#[test]
fn p8_the_first_refusal_ends_it_and_what_was_done_is_told() {
    let world = World::new();
    let text = "format = 1\n[tenant]\nid = \"globex\"\nname = \"Globex\"\n\
                [[tenant.groups]]\nid = \"fine\"\n\
                [[tenant.settings]]\nendpoint = \"shop/events\"\nip_ranges = [\"192.0.2.1\"]\n";
    let stopped = on_file(&world, "apply", text, &["--yes"]);
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(stopped.stderr.contains("settings shop/events: the module `ip_filter` is not enabled"), "{stopped:?}");
    assert!(
        stopped.stderr.contains("the steps before it are done:\n  + tenant globex\n  + group fine\n"),
        "{stopped:?}"
    );
    let mended = text.replace("name = \"Globex\"", "name = \"Globex\"\nmodules = [\"ip_filter\"]");
    assert_eq!(on_file(&world, "apply", &mended, &["--yes"]).code, Some(0));
    assert_nothing_to_change(&world, &mended, &[]);
}

#[test]
fn p8_a_file_with_a_fault_is_refused_with_its_line() {
    let world = World::new();
    let before = world.newest_entry();
    for (text, said) in [
        ("format = 1\n[tenant]\nid = \"acme\"\n\nnaem = \"x\"\n", "line 5 column 1: unknown field `naem`"),
        (
            "format = 1\n[tenant]\nid = \"acme\"\n[[tenant.groups]]\nid = \"g\"\nsecret = 1\n",
            "line 6 column 1: unknown field `secret`",
        ),
        ("format = 1\n[tenant]\nid = \"not an id\"\n", "line 3 column 6: "),
        ("format = 9\n", "has format 9, this build reads 1"),
        ("format = 1\n", "neither `[service]` nor `[tenant]`"),
        ("format = ", "line 1 column "),
    ] {
        for command in ["plan", "apply"] {
            let ran = on_file(&world, command, text, &[]);
            assert!(ran.code == Some(2) && ran.stderr.contains(said), "{said}: {ran:?}");
        }
    }
    // A key that is not there cannot come out of a file.
    let text = "format = 1\n[tenant]\nid = \"acme\"\nkey_limit = 100000\nmodules = [\"ip_filter\", \"signature_check\"]\nname = \"Acme\"\n[[tenant.keys]]\nid = \"k1\"\nkind = \"tenant\"\n";
    let ran = on_file(&world, "apply", text, &["--yes"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("a file makes no keys"), "{ran:?}");
    assert_eq!(world.newest_entry(), before);
}

#[test]
fn p8_a_file_has_marks_reserved_paths_and_rules_and_takes_a_module_away() {
    let world = World::new();
    let admin = world.admin();
    admin.put("/v1/tenants/acme/settings/shop/events", json!({ "ip_ranges": ["192.0.2.0/24"] })).expect(200);
    let endpoint = json!({ "name": "Events API", "paths": ["/events"], "aliases": ["happenings"] });
    admin.put("/v1/services/shop/endpoints/events", endpoint).expect(200);
    admin.patch("/v1/services/shop", json!({ "reserved_prefix": "/.portcullis" })).expect(200);
    let service = exported(&world, &["service", "shop"]);
    assert!(service.contains("happenings") && service.contains("/.portcullis"), "{service}");
    // A rename is remembered by the server, and is no difference to the file.
    let renamed = service.replace("Events API", "Happenings API").replace("/.portcullis", "/own");
    assert_eq!(on_file(&world, "apply", &renamed, &["--yes"]).code, Some(0));
    assert_nothing_to_change(&world, &renamed, &[]);
    let shown = admin.get("/v1/services/shop/endpoints/events").expect(200).json();
    assert_eq!(shown["formerly"], "Events API", "{shown}");

    let tenant = exported(&world, &["tenant", "acme"]);
    assert!(tenant.contains("expiring_soon_days = 7"), "{tenant}");
    let less = tenant.replace("expiring_soon_days = 7", "expiring_soon_days = 30").replace("\"ip_filter\"", "");
    let less = less.replace("[, ", "[").replace("[\n    ,", "[");
    let plan = planned(&world, &less, &[]);
    assert!(plan.to_string().contains("has no effect"), "{plan}");
    assert_eq!(on_file(&world, "apply", &less, &["--yes"]).code, Some(0));
    assert_nothing_to_change(&world, &less, &[]);
    let shown = admin.get("/v1/tenants/acme").expect(200).json();
    assert_eq!((&shown["modules"], &shown["expiring_soon_days"]), (&json!(["signature_check"]), &30.into()), "{shown}");
}
