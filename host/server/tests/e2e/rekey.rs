//! The master key: where it may be, and how it is changed. Whatever is cut off in between, one key opens everything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::random::Random;
use crate::server::{Ran, Server, Settings, Site, logged, portcullis, run};
use crate::world::{Key, WORKSPACE_KEYS, World};

const VARIABLE: &str = "PORTCULLIS_MASTER_KEY";
const NEW_VARIABLE: &str = "PORTCULLIS_NEW_MASTER_KEY";

/// How often changing the key is killed at some moment.
const KILLS: u32 = 25;
/// By when it has certainly ended, in milliseconds, where it is not killed.
const MAX_WORK_MS: u64 = 60;

fn master_key(site: &Site) -> PathBuf {
    site.data().join("master.key")
}

fn next_key(site: &Site) -> PathBuf {
    site.data().join("master.key.next")
}

fn rekey(site: &Site) -> Ran {
    run(portcullis().args(["secrets", "rekey", "--config"]).arg(site.config()))
}

/// Writes a key as the server does.
fn write_key(path: &PathBuf, key: &str) {
    fs::write(path, key).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Asserts that a secret that was sealed opens: a workspace key is shown again.
#[track_caller]
fn assert_opens(world: &World, key: &Key) {
    let shown = world.admin().get(&format!("{WORKSPACE_KEYS}/{}", key.id)).expect(200).json();
    assert_eq!(shown["key"], key.key.as_str(), "{shown}");
    world.admin().assert_audit_is_intact();
}

#[test]
fn every_secret_opens_under_the_new_master_key_and_none_under_the_old_one() {
    let mut world = World::new();
    let key = world.workspace_key();
    let busy = rekey(&world.site);
    assert!(busy.code == Some(2) && busy.stderr.contains("is in use by another portcullis"), "{busy:?}");
    world.server.stop();
    let old = fs::read_to_string(master_key(&world.site)).unwrap();
    let done = rekey(&world.site);
    assert_eq!(done.code, Some(0), "{done:?}");
    // The workspace key, what it signs with, the key of the audit and that of access tokens.
    assert!(done.stdout.starts_with("4 secrets are sealed anew: the new master key is in "), "{done:?}");
    let new = fs::read_to_string(master_key(&world.site)).unwrap();
    assert!(new != old && new.len() == 64 && !next_key(&world.site).exists());
    assert_eq!(fs::metadata(master_key(&world.site)).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!done.stdout.contains(&new) && !done.stderr.contains(&new));
    world.restart();
    assert_opens(&world, &key);
    let told = world.admin().all("/v1/audit?action=rekey");
    assert_eq!((told.len(), &told[0]["channel"], &told[0]["details"]["secrets"]), (1, &"offline".into(), &4.into()));
    world.server.stop();
    // The old one: refused, with what to do about it.
    write_key(&master_key(&world.site), &old);
    let ran = run(&mut world.site.serve());
    let expected = "is not the one that this installation's secrets are sealed under: restore that one";
    assert!(ran.code == Some(2) && ran.stderr.contains(expected) && !ran.stderr.contains(&old), "{ran:?}");
    let ran = rekey(&world.site);
    assert!(ran.code == Some(2) && ran.stderr.contains(expected), "{ran:?}");
    fs::remove_file(master_key(&world.site)).unwrap();
    let ran = run(&mut world.site.serve());
    assert!(
        ran.code == Some(2) && ran.stderr.contains("there is no master key") && ran.stderr.contains("restore"),
        "{ran:?}"
    );
    assert!(!master_key(&world.site).exists(), "none is made in place of one that is lost");
    write_key(&master_key(&world.site), &new);
    world.restart();
    assert_opens(&world, &key);
}

#[test]
fn a_crash_before_the_transaction_leaves_the_old_key_and_after_it_the_new_one() {
    let mut world = World::new();
    let key = world.workspace_key();
    world.server.stop();
    let (current, next) = (master_key(&world.site), next_key(&world.site));

    // Killed when the new key was written and nothing was sealed under it.
    write_key(&next, &"0f".repeat(32));
    world.restart();
    assert_opens(&world, &key);
    world.server.stop();
    let ran = rekey(&world.site);
    assert!(ran.code == Some(0) && ran.stdout.starts_with("4 secrets"), "{ran:?}");
    assert!(!next.exists() && fs::read_to_string(&current).unwrap() != "0f".repeat(32));

    // Killed when everything was sealed and the new key was not in its place: the server goes on from there.
    for starts in [true, false] {
        let old = fs::read_to_string(&current).unwrap();
        assert_eq!(rekey(&world.site).code, Some(0));
        let new = fs::read_to_string(&current).unwrap();
        write_key(&current, &old);
        write_key(&next, &new);
        if starts {
            world.restart();
            assert!(
                world.server.stderr().contains("a change of the master key was cut off"),
                "{}",
                world.server.stderr()
            );
            assert_opens(&world, &key);
            world.server.stop();
        } else {
            let ran = rekey(&world.site);
            assert!(ran.code == Some(0) && ran.stdout.contains("was cut off and is finished"), "{ran:?}");
        }
        assert!(fs::read_to_string(&current).unwrap() == new && !next.exists());
    }
    world.restart();
    assert_opens(&world, &key);
}

#[test]
fn wherever_a_change_of_the_key_is_killed_everything_opens_after() {
    let mut world = World::new();
    let keys: Vec<Key> = (0..3).map(|_| world.workspace_key()).collect();
    world.server.stop();
    let mut random = Random::new();
    let mut cut_off = 0;
    for kill in 0..KILLS {
        let mut child = portcullis()
            .args(["secrets", "rekey", "--config"])
            .arg(world.site.config())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Not to wait for anything: the crash comes at any moment.
        std::thread::sleep(Duration::from_micros(random.below(MAX_WORK_MS * 1000)));
        child.kill().unwrap();
        cut_off += u32::from(!child.wait().unwrap().success());
        // Either finishes what was begun or does it once more.
        let ran = rekey(&world.site);
        assert_eq!(ran.code, Some(0), "kill {kill}: {ran:?}");
    }
    eprintln!("{cut_off} of {KILLS} were cut off");
    assert!(cut_off > 0);
    world.restart();
    // The last pair; those before it are revoked and shown no more.
    assert_opens(&world, &keys[keys.len() - 1]);
}

#[test]
fn the_master_key_may_be_in_a_file_that_the_configuration_names() {
    let settings = Settings { top: "master_key_file = \"elsewhere.key\"\n", ..Settings::default() };
    let mut world = World::with(settings);
    let key = world.workspace_key();
    let file = world.site.path("elsewhere.key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!master_key(&world.site).exists());
    world.server.stop();
    let old = fs::read_to_string(&file).unwrap();
    assert_eq!(rekey(&world.site).code, Some(0));
    assert_ne!(fs::read_to_string(&file).unwrap(), old);
    world.restart();
    assert_opens(&world, &key);
    world.server.stop();
    let ran = run(world.site.serve().env(VARIABLE, "0f".repeat(32)));
    assert!(ran.code == Some(2) && ran.stderr.contains("leave one of them out"), "{ran:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = run(&mut world.site.serve());
    assert!(ran.code == Some(2) && ran.stderr.contains("chmod it to 600"), "{ran:?}");
}

#[test]
fn the_master_key_may_be_in_the_environment() {
    let (old, new) = ("0f".repeat(32), "a1".repeat(32));
    let mut site = Site::without_key(Settings::default());
    let ran = run(portcullis().env(VARIABLE, &old).arg("recover").arg("--config").arg(site.config()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    site.admin_key = ran.stdout.trim_end().to_owned();
    assert!(!master_key(&site).exists(), "no file is made");
    let start = |key: &str| Server::start(site.serve().env(VARIABLE, key), logged).ready();
    let mut server = start(&old);
    server.stop();
    assert!(!server.stderr().contains(&old));
    let change = |key: &str, new: Option<&str>| {
        let mut command = portcullis();
        command.env(VARIABLE, key).args(["secrets", "rekey", "--config"]).arg(site.config());
        if let Some(new) = new {
            command.env(NEW_VARIABLE, new);
        }
        run(&mut command)
    };
    let fault = |ran: &Ran, what: &str| assert!(ran.code == Some(2) && ran.stderr.contains(what), "{what}: {ran:?}");
    fault(&change(&old, None), "give the new one, 64 hex digits, in `PORTCULLIS_NEW_MASTER_KEY`");
    fault(&change(&old, Some("short")), "`PORTCULLIS_NEW_MASTER_KEY` is not 64 hex digits");
    fault(&change(&old, Some(&old)), "the new master key is the one in use");
    fault(&change(&"bb".repeat(32), Some(&"cc".repeat(32))), "is not the one that this installation's secrets");
    let ran = change(&old, Some(&new));
    assert!(
        ran.code == Some(0) && ran.stdout.contains("give the new master key in `PORTCULLIS_MASTER_KEY`"),
        "{ran:?}"
    );
    // Whoever does not know that it went through asks once more.
    let ran = change(&old, Some(&new));
    assert!(ran.code == Some(0) && ran.stdout.contains("is finished"), "{ran:?}");
    let ran = run(site.serve().env(VARIABLE, &old));
    fault(&ran, "the master key in `PORTCULLIS_MASTER_KEY` is not the one");
    fault(&run(site.serve().env(VARIABLE, "0g".repeat(32))), "`PORTCULLIS_MASTER_KEY` is not 64 hex digits");
    fault(&run(&mut site.serve()), "there is no master key");
    start(&new).stop();
}
