//! The audit that others can verify (P7), and the log of a credential in it (A13). The attacks are made by another program
//! on the database of a server that does not run.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::database::{Other, execute};
use crate::server::{Ran, Settings, portcullis, run};
use crate::world::{Key, MANAGEMENT_KEYS, TENANT_KEYS, World};

/// How many entries the tenant has at least when it is attacked.
const ENTRIES: u64 = 8;

/// Lets go of what keeps the tables from being changed.
const DISARM: &str = "DROP TRIGGER audit_is_not_edited; DROP TRIGGER audit_is_not_deleted;
    DROP TRIGGER audit_head_goes_forward; DROP TRIGGER audit_head_is_not_deleted;
    DROP TRIGGER audit_stub_is_of_a_row; DROP TRIGGER audit_stub_goes_forward;
    DROP TRIGGER audit_checkpoint_goes_forward; DROP TRIGGER audit_mark_goes_forward;";

impl World {
    /// Makes keys until the tenant has some entries.
    fn busy(&self) {
        while self.newest_entry()["number"].as_u64().unwrap() < ENTRIES {
            self.tenant_key();
        }
    }

    /// `portcullis audit ...` on this server.
    fn audit(&self, args: &[&str]) -> Ran {
        let server = format!("http://{}", self.server.admin);
        run(portcullis()
            .env("PORTCULLIS_SERVER", server)
            .env("PORTCULLIS_KEY", &self.site.admin_key)
            .arg("audit")
            .args(args))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// Exports the log into a file of that name.
    #[track_caller]
    fn export(&self, name: &str) -> PathBuf {
        let file = self.file(name);
        let ran = self.audit(&["export", "-o", file.to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        file
    }

    /// Attacks the database while no server has it.
    fn attacked(&mut self, statements: &str) {
        self.server.stop();
        let other = Other::open(&self.site.data());
        other.execute(DISARM);
        other.execute(statements);
        drop(other);
        self.restart();
    }
}

/// `portcullis audit verify` without a server, with `--json`: whether it is intact, and what it says.
#[track_caller]
fn verify(export: &Path, more: &[&str]) -> (bool, Value) {
    found(run(portcullis().args(["audit", "verify", "--json", "--export"]).arg(export).args(more)))
}

#[track_caller]
fn found(ran: Ran) -> (bool, Value) {
    let found: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let is_intact = found["intact"].as_bool().unwrap();
    assert_eq!(ran.code, Some(i32::from(!is_intact)), "{ran:?}");
    (is_intact, found)
}

/// What is wrong with the tenant's chain.
fn fault(found: &Value) -> &str {
    let chain = found["chains"].as_array().unwrap().iter().find(|chain| chain["tenant"] == "acme");
    chain.and_then(|chain| chain["fault"].as_str()).unwrap_or_default()
}

/// Makes an attack and asserts that everybody finds it: the server, whoever has the log, and whoever has a witness.
#[track_caller]
fn assert_found(statements: &str, expected: &str, in_the_export: &str) {
    let mut world = World::new();
    world.busy();
    let witness = world.export("witness.jsonl");
    assert!(verify(&witness, &[]).0);
    world.attacked(statements);
    let server = world.admin().get("/v1/audit/verification").expect(200).json();
    assert_eq!((&server["intact"], fault(&server)), (&false.into(), expected), "{server}");
    let told = world.audit(&["verify"]);
    assert!(
        told.code == Some(1) && told.stdout.starts_with("NOT INTACT") && told.stdout.contains(expected),
        "{told:?}"
    );
    // The server goes on; what it writes is in the chain, and the attack stays to be seen.
    world.tenant_key();
    let log = world.export("log.jsonl");
    let (is_intact, exported) = verify(&log, &[]);
    assert!(!is_intact && fault(&exported).contains(in_the_export), "{exported}");
    let (is_intact, witnessed) = found(world.audit(&["verify", "--json", "--witness", witness.to_str().unwrap()]));
    assert!(!is_intact && fault(&witnessed).contains(in_the_export), "{witnessed}");
}

#[test]
fn p7_an_entry_that_was_edited_is_found() {
    let edit = "UPDATE audit SET actor_user = 'nobody' WHERE tenant = 'acme' AND number = 5";
    assert_found(edit, "row 5 is not as it was written", "row 5 is not as it was written");
}

#[test]
fn p7_an_entry_that_was_deleted_is_found() {
    let delete = "DELETE FROM audit WHERE tenant = 'acme' AND number = 5";
    assert_found(delete, "row 5 is missing", "row 5 is missing");
}

#[test]
fn p7_entries_that_were_moved_are_found() {
    let swap = "UPDATE audit SET number = -5 WHERE tenant = 'acme' AND number = 5;
        UPDATE audit SET number = 5 WHERE tenant = 'acme' AND number = 6;
        UPDATE audit SET number = 6 WHERE tenant = 'acme' AND number = -5;";
    assert_found(swap, "row 5 is not in its place", "row 5 is not in its place");
}

#[test]
fn p7_a_chain_that_was_cut_is_found() {
    let cut = "UPDATE audit_head SET count = 5,
            hash = (SELECT hash FROM audit WHERE tenant = 'acme' AND number = 5) WHERE tenant = 'acme';
        DELETE FROM audit WHERE tenant = 'acme' AND number > 5;";
    let expected = format!("the chain ends with row 5, the signed checkpoint has row {ENTRIES}");
    assert_found(cut, &expected, "the chain ends with row 6, ");
}

#[test]
fn p7_a_chain_that_was_made_anew_is_found() {
    // Another history of the same tenant, with hashes that hang together.
    let mut other = World::new();
    other.busy();
    other.server.stop();
    let copy = format!(
        "ATTACH '{}' AS other;
         DELETE FROM audit WHERE tenant = 'acme';
         INSERT INTO audit (tenant, number, at, actor_tenant, actor_credential, actor_user, channel, address, action,
             object_kind, object, revision, code, details, hash)
         SELECT tenant, number, at, actor_tenant, actor_credential, actor_user, channel, address, action,
             object_kind, object, revision, code, details, hash FROM other.audit WHERE tenant = 'acme' ORDER BY seq;
         UPDATE audit_head SET count = (SELECT count FROM other.audit_head WHERE tenant = 'acme'),
             hash = (SELECT hash FROM other.audit_head WHERE tenant = 'acme') WHERE tenant = 'acme';",
        other.site.data().join("portcullis.db").display()
    );
    let anew = "is another one than the signed checkpoint has: the chain was made anew";
    assert_found(&copy, &format!("row {ENTRIES} {anew}"), anew);
}

#[test]
fn p7_without_a_witness_it_says_what_it_cannot_prove_and_a_witness_proves_it() {
    let mut world = World::new();
    world.busy();
    world.server.stop();
    let database = world.site.data().join("portcullis.db");
    let before = std::fs::read(&database).unwrap();
    world.restart();
    world.tenant_key();
    let log = world.export("witness.jsonl");
    let checkpoint = world.file("witness.checkpoint");
    let ran = world.audit(&["checkpoint", "-o", checkpoint.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    world.server.stop();

    // The whole database as it was, and another history from there on, signed by the installation itself.
    std::fs::write(&database, before).unwrap();
    world.restart();
    for _ in 0..3 {
        world.tenant_key();
    }
    let told = world.audit(&["verify"]);
    assert!(told.code == Some(0) && told.stdout.starts_with("every chain is intact"), "{told:?}");
    assert!(told.stdout.contains("not proven: without a witness"), "{told:?}");
    let later = world.export("later.jsonl");
    let (is_intact, alone) = verify(&later, &[]);
    assert!(is_intact && alone["unproven"].as_str().unwrap().contains("without a witness"), "{alone}");
    let anew = "is another one than the witness has: the chain was made anew";
    for witness in [&log, &checkpoint] {
        let witness = witness.to_str().unwrap();
        let (is_intact, offline) = verify(&later, &["--witness", witness]);
        assert!(!is_intact && fault(&offline).contains(anew), "{offline}");
        let (is_intact, online) = found(world.audit(&["verify", "--json", "--witness", witness]));
        assert!(!is_intact && fault(&online).contains(anew), "{online}");
    }
    // Cut at the end: what the witness has is not there.
    let (is_intact, cut) = verify(&log, &["--witness", later.to_str().unwrap()]);
    assert!(!is_intact && fault(&cut).contains(anew) || fault(&cut).contains("the witness has row"), "{cut}");
}

#[test]
fn p7_a_log_is_checked_without_a_server_and_no_edit_of_the_file_passes() {
    let mut world = World::new();
    world.busy();
    let log = world.export("log.jsonl");
    let key = world.admin().get("/v1/audit/verification").expect(200).json()["public_key"].as_str().unwrap().to_owned();
    world.server.stop();
    let (is_intact, told) = verify(&log, &["--public-key", &key]);
    assert!(is_intact, "{told}");
    assert_eq!(
        (&told["checkpoint"]["state"], &told["public_key"], &told["unsigned"]),
        (&"signed".into(), &json!(key), &0.into())
    );
    assert!(!verify(&log, &["--public-key", &"00".repeat(32)]).0, "another key");
    // A later log holds what this one, as its witness, has.
    world.restart();
    world.tenant_key();
    let later = world.export("later.jsonl");
    let (is_intact, told) = verify(&later, &["--witness", log.to_str().unwrap()]);
    assert!(is_intact && told["witness"]["same_key"] == true, "{told}");

    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let ours: Vec<usize> = (0..lines.len()).filter(|&at| lines[at].contains("\"tenant\":\"acme\"") && at > 1).collect();
    let (third, fourth, last) = (ours[2], ours[3], ours[ours.len() - 1]);
    let with = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        edit(&mut lines);
        let file = world.file("edited.jsonl");
        std::fs::write(&file, lines.join("\n")).unwrap();
        let (is_intact, found) = verify(&file, &[]);
        assert!(!is_intact, "{found}");
        found
    };
    let edited = with(&|lines| lines[third] = lines[third].replace("\"channel\":\"api\"", "\"channel\":\"cli\""));
    assert_eq!(fault(&edited), "row 3 is not as it was written");
    let deleted = with(&|lines| drop(lines.remove(third)));
    assert_eq!(fault(&deleted), "row 3 is missing");
    let moved = with(&|lines| lines.swap(third, fourth));
    assert_eq!(fault(&moved), "row 3 is not in its place");
    let cut = with(&|lines| lines.truncate(last));
    assert_eq!(
        fault(&cut),
        format!("the chain ends with row {}, the signed checkpoint has row {}", ours.len() - 1, ours.len())
    );
    let forged = with(&|lines| lines[1] = lines[1].replacen("\"count\":", "\"count\":1", 1));
    assert_eq!(forged["checkpoint"]["state"], "forged", "{forged}");
}

#[test]
fn p7_one_tenants_log_can_be_handed_out_by_itself() {
    let world = World::new();
    world.busy();
    let file = world.file("acme.jsonl");
    let ran = world.audit(&["export", "--tenant", "acme", "-o", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (is_intact, told) = verify(&file, &[]);
    assert!(is_intact && told["chains"].as_array().unwrap().len() == 1, "{told}");
    let text = std::fs::read_to_string(&file).unwrap();
    let entries: Vec<Value> = text.lines().skip(2).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(entries.len() as u64 >= ENTRIES && entries.iter().all(|entry| entry["tenant"] == "acme"));
    // Only whoever administers the installation gets it.
    let endpoints = json!(["portcullis/audit", "portcullis/audit.read"]);
    let body =
        json!({ "name": "Acme's", "expires": "2099-12-31", "endpoints": endpoints, "creator_rule": "independent" });
    let acme = world.admin_with(&Key::of(&world.admin().post(MANAGEMENT_KEYS, body).expect(201)).key);
    for path in ["/v1/audit/export", "/v1/audit/export?tenant=acme", "/v1/audit/checkpoint", "/v1/audit/verification"] {
        acme.get(path).problem(403, "forbidden");
    }
    acme.get("/v1/tenants/acme/audit?action=create").expect(200);
}

#[test]
fn p7_checkpoints_survive_a_crash_and_cover_everything_after_a_start_and_a_stop() {
    let mut world = World::new();
    world.busy();
    let number = |found: &Value| found["checkpoint"]["number"].as_u64().unwrap();
    let first = world.admin().get("/v1/audit/verification").expect(200).json();
    assert!(first["unsigned"].as_u64().unwrap() > 0, "{first}");
    world.server.kill();
    world.restart();
    let second = world.admin().get("/v1/audit/verification").expect(200).json();
    assert_eq!((&second["intact"], &second["unsigned"]), (&true.into(), &0.into()), "{second}");
    assert!(number(&second) > number(&first));
    world.tenant_key();
    // Asking for one makes one.
    let made = world.admin().get("/v1/audit/checkpoint").expect(200).json();
    assert_eq!((&made["type"], made["number"].as_u64().unwrap()), (&"checkpoint".into(), number(&second) + 1));
    assert_eq!(made["public_key"], second["public_key"]);
    world.tenant_key();
    world.server.stop();
    assert!(world.server.stderr().lines().filter(|line| line.contains("audit checkpoint")).count() >= 2);
    world.restart();
    let last = world.admin().get("/v1/audit/verification").expect(200).json();
    assert_eq!((&last["intact"], &last["unsigned"], number(&last)), (&true.into(), &0.into(), number(&second) + 2));
}

#[test]
fn p7_a_checkpoint_that_was_changed_is_found_and_nothing_is_signed_over_it() {
    for statement in
        ["UPDATE audit_checkpoint SET number = 1000", "UPDATE audit_mark SET hash = zeroblob(32), count = 99"]
    {
        let mut world = World::new();
        world.attacked(statement);
        let found = world.admin().get("/v1/audit/verification").expect(200).json();
        assert_eq!((&found["intact"], &found["checkpoint"]["state"]), (&false.into(), &"forged".into()), "{found}");
        world.admin().get("/v1/audit/checkpoint").problem(500, "failed");
        // It is an alarm; the gate and its keys go on.
        world.events(&world.tenant_key().key).expect(200);
        assert!(world.server.stderr().contains("the checkpoint of the audit is not the one that was signed"));
    }
}

#[test]
fn p7_old_entries_leave_a_stub_from_which_the_chain_is_verified() {
    let mut world = World::with(Settings { audit: "retention_entries = 5", ..Settings::default() });
    world.busy();
    let witness = world.export("witness.jsonl");
    let newest = world.newest_entry()["number"].as_u64().unwrap();
    world.server.stop();
    world.restart();
    crate::server::eventually("old entries are removed", || {
        (world.admin().all("/v1/tenants/acme/audit").len() == 5).then_some(())
    });
    let found = world.admin().get("/v1/audit/verification").expect(200).json();
    assert_eq!(found["intact"], true, "{found}");
    let chain = found["chains"].as_array().unwrap().iter().find(|chain| chain["tenant"] == "acme").unwrap().clone();
    assert_eq!((&chain["rows"], &chain["removed"]), (&newest.into(), &(newest - 5).into()), "{chain}");
    let told = world.admin().all("/v1/audit?action=prune");
    assert!(told.len() == 1 && told[0]["details"]["removed"].as_u64().unwrap() >= newest - 5, "{told:?}");
    // The log goes on, is verified from the stub, and holds what the witness has.
    world.tenant_key();
    let log = world.export("log.jsonl");
    let (is_intact, told) = verify(&log, &["--witness", witness.to_str().unwrap()]);
    assert!(is_intact && told["witness"]["beyond"] == 0, "{told}");
    // Where everything that a witness has was removed, it says so.
    (0..12).for_each(|_| drop(world.tenant_key()));
    world.server.stop();
    world.restart();
    crate::server::eventually("old entries are removed", || {
        (world.admin().all("/v1/tenants/acme/audit").len() == 5).then_some(())
    });
    let log = world.export("log.jsonl");
    let (is_intact, told) = verify(&log, &["--witness", witness.to_str().unwrap()]);
    assert!(is_intact && told["unproven"].as_str().unwrap().contains("it proves nothing of them"), "{told}");
    let newest = world.newest_entry()["number"].as_u64().unwrap();
    // Whoever removes more than was signed is found.
    world.attacked(&format!("DELETE FROM audit WHERE tenant = 'acme' AND number = {}", newest - 4));
    let found = world.admin().get("/v1/audit/verification").expect(200).json();
    assert_eq!(fault(&found), format!("row {} is missing", newest - 4));
}

#[test]
fn p7_nobody_deletes_an_entry_that_no_stub_covers() {
    let mut world = World::new();
    world.busy();
    world.server.stop();
    let data = world.site.data();
    for statement in ["DELETE FROM audit", "UPDATE audit SET details = ''", "DELETE FROM audit_checkpoint"] {
        let refused = std::panic::catch_unwind(|| execute(&data, statement));
        assert!(refused.is_err(), "{statement}");
    }
}

#[test]
fn a13_every_step_of_a_credential_is_found_by_its_id_with_who_and_from_where() {
    let world = World::new();
    let admin = world.admin();
    let keys = [world.tenant_key(), world.tenant_key()];
    for key in &keys {
        admin.post(&format!("{TENANT_KEYS}/{}/revoke", key.id), json!({ "confirm": true })).expect(200);
        admin.post(&format!("{TENANT_KEYS}/{}/rotate", key.id), json!({ "confirm": true })).problem(409, "key_revoked");
    }
    let server = format!("http://{}", world.server.admin);
    let by_cli = run(portcullis()
        .env("PORTCULLIS_SERVER", &server)
        .env("PORTCULLIS_KEY", &world.site.admin_key)
        .args(["key", "create", "acme", "tenant", "--name", "By hand", "--group", "all", "--json"]));
    let by_cli: Value = serde_json::from_str(&by_cli.stdout).unwrap();

    let of_first = format!("object_kind=tenant-key&object={}", keys[0].id);
    let steps = admin.all(&format!("/v1/tenants/acme/audit?{of_first}&outcome=done"));
    let words: Vec<_> = steps.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(words, ["revoke", "create"]);
    for entry in &steps {
        assert_eq!(
            (&entry["object"], &entry["channel"], &entry["address"]),
            (&json!(keys[0].id), &"api".into(), &"127.0.0.1".into())
        );
        assert_eq!(
            (&entry["by"], entry["id"].is_u64(), entry["at"].is_string()),
            (&"system/root".into(), true, true),
            "{entry}"
        );
    }
    assert_eq!(admin.all(&format!("/v1/audit?{of_first}")).len(), 3, "with what was refused");
    let refused = admin.all("/v1/tenants/acme/audit?outcome=refused&action=rotate");
    assert_eq!(refused.len(), 2, "{refused:?}");
    let made = admin.all(&format!("/v1/audit?object={}", by_cli["id"].as_str().unwrap()));
    assert_eq!((made.len(), &made[0]["channel"]), (1, &"cli".into()), "{made:?}");
    // By time: all of today, nothing of tomorrow.
    let day = &steps[0]["at"].as_str().unwrap()[..10];
    assert_eq!(admin.all(&format!("/v1/tenants/acme/audit?{of_first}&from={day}&until={day}")).len(), 3);
    assert!(
        admin.all(&format!("/v1/tenants/acme/audit?{of_first}&until={}", steps[1]["at"].as_str().unwrap())).is_empty()
    );
    assert!(admin.all("/v1/tenants/acme/audit?from=2099-01-01").is_empty());
    admin.get("/v1/audit?from=yesterday").problem(422, "invalid");
    admin.get("/v1/audit?outcome=perhaps").problem(400, "bad_query");

    let listed =
        world.audit(&["list", "acme", "--object-kind", "tenant-key", "--object", &keys[1].id, "--outcome", "done"]);
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert!(
        lines.len() == 3 && lines[1].contains("revoke tenant-key") && lines[2].contains("create tenant-key"),
        "{listed:?}"
    );
}
