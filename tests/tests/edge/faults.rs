//! Whatever the host does, nothing is let through that its policy denies, and valid traffic goes on.

use anyhow::{Context as _, Result};
use portcullis_model::feed::{Told, batch};

use portcullis_model::time::UnixTime;
use portcullis_tests::clock::Clock;

use crate::host::{Host, KEY, Spoiled, now};
use crate::world::{Edge, credential, key, source};

/// The worker of an Envoy that has one, and its main thread.
const INSTANCES: usize = 2;

#[test]
fn a_policy_comes_by_feed_and_follows_its_changes() -> Result<()> {
    let host = Host::start(source(7, 3, 3600))?;
    let edge = Edge::start(host.port(), 1)?;
    edge.until(&key(1), 200, "")?;
    assert_eq!(edge.ask("another")?.0, 401);
    host.change(|source| source.credentials[1] = credential(1, "revoked"))?;
    edge.until(&key(1), 401, "unauthorized")?;
    host.until_enforced(1)?;
    assert_eq!(edge.ask(&key(2))?.0, 200);
    Ok(())
}

#[test]
fn until_there_is_a_policy_everything_is_denied() -> Result<()> {
    let host = Host::start(source(7, 3, 3600))?;
    host.spoil(Spoiled::Status(503), usize::MAX);
    let mut edge = Edge::start(host.port(), 1)?;
    edge.until(&key(1), 503, "unavailable")?;
    host.spoil(Spoiled::Status(503), 0);
    edge.until(&key(1), 200, "")?;
    host.spoil(Spoiled::Status(503), usize::MAX);
    edge.envoy.restart()?;
    edge.until(&key(1), 503, "unavailable")?;
    host.spoil(Spoiled::Status(503), 0);
    edge.until(&key(1), 200, "")?;
    Ok(())
}

#[test]
fn a_key_that_is_not_accepted_is_told_once() -> Result<()> {
    let host = Host::start(source(7, 3, 3600))?;
    let mut edge = Edge::with(portcullis_tests::module::filter()?, host.port(), 1, Vec::new(), "wrong")?;
    edge.until(&key(1), 503, "unavailable")?;
    edge.envoy.until_logged("the key of the feed `edge` is not accepted")?;
    assert_eq!(edge.logged("wrong"), 0, "{}", edge.envoy.log());
    Ok(())
}

#[test]
fn a_part_that_is_damaged_is_never_loaded() -> Result<()> {
    for spoiled in [Spoiled::Part, Spoiled::CutPart] {
        let host = Host::start(source(7, 3, 3600))?;
        host.spoil(spoiled, 20);
        let edge = Edge::start(host.port(), 1)?;
        host.until_spoiled()?;
        edge.until(&key(1), 200, "")?;
        assert!(host.bases_asked() > INSTANCES, "it was begun anew");
        assert!(edge.logged("is not what the host said") > 0, "{}", edge.envoy.log());
    }
    Ok(())
}

#[test]
fn any_fault_of_changes_takes_a_new_base_while_the_old_policy_decides() -> Result<()> {
    let host = Host::start(source(7, 3, 3600))?;
    let edge = Edge::start(host.port(), 1)?;
    edge.until(&key(1), 200, "")?;
    host.until_enforced(INSTANCES)?;
    let faults = [
        Spoiled::CutChanges,
        Spoiled::Changes(vec![9, 0, 0, 0, 0]),
        Spoiled::Changes(vec![4, 0, 0, 0, 0]),
        Spoiled::Changes(b"<html>an error page</html>".to_vec()),
        Spoiled::Changes([&[1, 3, 0, 0, 0][..], b"abc"].concat()),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let before = host.bases_asked();
        host.spoil(fault, INSTANCES);
        host.until_spoiled()?;
        assert_eq!(edge.ask(&key(0))?.0, 200, "it goes on");
        assert_eq!(edge.ask("another")?.0, 401, "and lets nothing through");
        let state = if number % 2 == 0 { "revoked" } else { "active" };
        host.change(|source| source.credentials[1] = credential(1, state))?;
        host.until_enforced(INSTANCES)?;
        edge.until(
            &key(1),
            if number % 2 == 0 { 401 } else { 200 },
            if number % 2 == 0 { "unauthorized" } else { "" },
        )?;
        assert!(host.bases_asked() > before, "fault {number}");
    }
    Ok(())
}

#[test]
fn a_delta_that_is_missed_takes_a_new_base() -> Result<()> {
    let host = Host::start(source(7, 3, 3600))?;
    let edge = Edge::start(host.port(), 1)?;
    host.until_enforced(INSTANCES)?;
    host.spoil(Spoiled::Status(503), usize::MAX);
    host.change(|source| source.credentials[1] = credential(1, "revoked"))?;
    host.forget()?;
    host.change(|source| source.credentials[2] = credential(2, "revoked"))?;
    host.spoil(Spoiled::Status(503), 0);
    host.until_enforced(INSTANCES)?;
    for (number, status) in [(0, 200), (1, 401), (2, 401)] {
        assert_eq!(edge.ask(&key(number))?.0, status, "key {number}");
    }
    Ok(())
}

#[test]
fn decisions_come_back_and_each_once() -> Result<()> {
    let host = Host::start(source(7, 3, 3600))?;
    let edge = Edge::start(host.port(), 1)?;
    edge.until(&key(1), 200, "")?;
    assert_eq!(edge.ask("another")?.0, 401);
    let mut told = Vec::new();
    while !told.iter().any(|(_, reason)| *reason != 0) {
        let batches = host.until_batches(1)?;
        told.clear();
        for bytes in &batches {
            for record in batch(bytes)? {
                if let Told::Decision { id, reason, .. } = record {
                    told.push((id, reason));
                }
            }
        }
    }
    assert!(told.iter().any(|(_, reason)| *reason == 0), "{told:?}");
    assert!(told.is_sorted_by(|one, other| one.0 < other.0), "{told:?}");
    Ok(())
}

fn later(time: UnixTime, secs: u64) -> UnixTime {
    UnixTime::from_secs(time.as_secs() + secs).unwrap()
}

#[test]
fn a_policy_that_nobody_confirms_denies_once_it_is_too_old() -> Result<()> {
    let host = Host::start(source(7, 3, 60))?;
    let (start, clock) = (now(), Clock::new(now())?);
    host.set_time(start);
    let module = portcullis_tests::module::filter()?;
    let edge = Edge::with(module, host.port(), 1, clock.environment(), KEY)?;
    edge.until(&key(1), 200, "")?;
    // The host is gone, and time goes by.
    host.spoil(Spoiled::Status(503), usize::MAX);
    clock.set(later(start, 60))?;
    assert_eq!(edge.ask(&key(1))?.0, 200, "inside its bound");
    clock.set(later(start, 61))?;
    edge.until(&key(1), 503, "unavailable")?;
    // The clock jumps back, farther than the skew.
    clock.set(UnixTime::from_secs(start.as_secs() - 301).context("a time")?)?;
    edge.until(&key(1), 503, "unavailable")?;
    clock.set(later(start, 1))?;
    edge.until(&key(1), 200, "")?;
    // The host is there again, at a time that is far ahead.
    clock.set(later(start, 100_000))?;
    edge.until(&key(1), 503, "unavailable")?;
    host.set_time(later(start, 100_000));
    host.spoil(Spoiled::Status(503), 0);
    edge.until(&key(1), 200, "")?;
    Ok(())
}

#[test]
fn a_filter_that_traps_lets_nothing_through() -> Result<()> {
    let host = Host::start(source(7, 3, 3600))?;
    let folder = tempfile::tempdir()?;
    let module = portcullis_tests::module::trapping(folder.path())?;
    let edge = Edge::with(module, host.port(), 1, Vec::new(), KEY)?;
    host.until_enforced(INSTANCES)?;
    for number in 0..5 {
        for key in [key(number), "another".to_owned()] {
            let told = edge.ask(&key);
            assert!(!matches!(told, Ok((200, _))), "{told:?}");
        }
    }
    Ok(())
}
