//! A store that does not take a change: the change fails cleanly, serving goes on, and nothing is half there.

use std::process::Command;

use serde_json::{Value, json};

use crate::database::{self, Other};
use crate::http::Message;
use crate::server::{Server, eventually, logged};
use crate::world::{Key, TENANT_KEYS, World};

fn create(world: &World, name: &str) -> Message {
    world.admin().post(TENANT_KEYS, json!({ "name": name, "group": "all" }))
}

/// The names of all keys.
fn names(world: &World) -> Vec<String> {
    let names = world.admin().all(TENANT_KEYS);
    names.iter().map(|key: &Value| key["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_locked_database_fails_the_change_and_serving_goes_on() {
    let world = World::new();
    let key = world.tenant_key();
    let other = Other::open(&world.site.data());
    other.execute("BEGIN IMMEDIATE");
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| create(&world, "Locked out"));
        while !changing.is_finished() {
            world.events(&key.key).expect(200);
            assert_eq!(names(&world), ["For a test"], "reading goes on");
        }
        let told = changing.join().unwrap().problem(503, "database_locked");
        assert!(told["detail"].as_str().unwrap().contains("nothing has changed"), "{told}");
    });
    other.execute("ROLLBACK");
    drop(other);
    let late = Key::of(&create(&world, "Afterwards").expect(201));
    world.events(&late.key).expect(200);
    assert_eq!(names(&world), ["For a test", "Afterwards"]);
    world.admin().assert_audit_is_intact();
}

#[test]
fn a_store_that_moved_on_is_taken_over() {
    let world = World::new();
    let key = world.tenant_key();
    // As a COMMIT leaves it that took effect and said that it did not.
    database::execute(&world.site.data(), "UPDATE meta SET revision = revision + 1");
    create(&world, "Made from too little").problem(503, "database_ahead");
    world.events(&key.key).expect(200);
    let late = Key::of(&create(&world, "Afterwards").expect(201));
    world.events(&late.key).expect(200);
    world.events(&key.key).expect(200);
    assert_eq!(names(&world), ["For a test", "Afterwards"]);
    world.admin().assert_audit_is_intact();
}

#[test]
fn a_full_disk_fails_changes_and_serving_goes_on() {
    let mut world = World::new();
    let key = world.tenant_key();
    world.server.stop();
    // No file may grow beyond this many blocks of 512 bytes, 1 MiB, and who writes beyond it is told, not killed.
    let limited = "trap '' XFSZ && ulimit -f 2048 && exec \"$0\" \"$@\"";
    let serve = world.site.serve();
    let mut command = Command::new("sh");
    command.env_clear().arg("-c").arg(limited).arg(serve.get_program()).args(serve.get_args());
    world.server = Server::start(&mut command, logged).ready();

    let mut made = Vec::new();
    let refused = eventually("the disk is full", || {
        let answer = create(&world, &format!("Number {}", made.len()));
        if answer.status() != 201 {
            return Some(answer);
        }
        made.push(Key::of(&answer));
        None
    });
    let told = refused.json();
    assert!([503, 507].contains(&told["status"].as_u64().unwrap()), "{told}");
    assert!(["disk_full", "storage_failed"].contains(&told["code"].as_str().unwrap()), "{told}");
    assert!(!made.is_empty());
    for _ in 0..20 {
        world.events(&key.key).expect(200);
        world.events("ptc_nobody").expect(401);
        assert!(create(&world, "Again").status() >= 500);
    }
    assert_eq!(names(&world).len(), 1 + made.len());
    // With its last changes in a log that cannot be folded into the file, it still ends when asked to.
    world.server.stop();
    let said = world.server.stderr();
    assert!(said.contains("a command failed"), "{said}");

    world.restart();
    world.admin().assert_audit_is_intact();
    assert_eq!(names(&world).len(), 1 + made.len());
    for key in &made {
        world.events(&key.key).expect(200);
    }
    let entries = world.admin().all("/v1/tenants/acme/audit");
    let created = entries.iter().filter(|entry| entry["object_kind"] == "tenant-key" && entry["outcome"] == "done");
    assert_eq!(created.count(), 1 + made.len());
    create(&world, "Room again").expect(201);
}
