//! The data folder is one process's, of this version.

use crate::database;
use crate::server::{Ran, portcullis, run};
use crate::world::World;

#[track_caller]
fn assert_refused(ran: &Ran, said: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains(said), "{ran:?}");
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let mut world = World::new();
    let key = world.tenant_key();
    let said = "is in use by another portcullis: stop that one first";
    assert_refused(&run(&mut world.site.serve()), said);
    assert_refused(&run(portcullis().arg("recover").arg("--config").arg(world.site.config())), said);
    // By whichever way the folder is reached.
    let link = world.site.path("link");
    std::os::unix::fs::symlink(world.site.data(), &link).unwrap();
    assert_refused(&run(portcullis().arg("recover").arg("--data").arg(&link)), said);
    world.events(&key.key).expect(200);
    world.admin().assert_audit_is_intact();
    // Also after it was killed: the lock goes with the process.
    world.server.kill();
    world.site.recover();
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut world = World::new();
    world.server.stop();
    let version = |number: &str| {
        database::execute(&world.site.data(), &format!("PRAGMA user_version = {number}"));
    };
    version("9999");
    let said = "was written by a newer portcullis (migration 9999";
    assert_refused(&run(&mut world.site.serve()), said);
    assert_refused(&run(portcullis().arg("recover").arg("--config").arg(world.site.config())), said);
    version("10");
    world.restart();
    world.admin().assert_audit_is_intact();
}

#[test]
fn a_folder_whose_master_key_is_missing_or_foreign_is_not_served() {
    let mut world = World::new();
    world.workspace_key();
    world.server.stop();
    let master = world.site.data().join("master.key");
    let kept = std::fs::read(&master).unwrap();
    std::fs::write(&master, "nonsense").unwrap();
    let ran = run(&mut world.site.serve());
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("master.key"), "{ran:?}");
    std::fs::write(&master, kept).unwrap();
    world.restart();
    world.admin().assert_audit_is_intact();
}

#[cfg(unix)]
#[test]
fn the_folder_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let data = world.site.data();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for name in ["portcullis.db", "portcullis.db-wal", "master.key"] {
        assert_eq!(mode(&data.join(name)) & 0o077, 0, "{name}");
    }
}
