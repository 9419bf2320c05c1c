//! What a worker's policy takes, and that it stays so. The figures are printed; see `--nocapture`.

use anyhow::Result;

use crate::host::Host;
use crate::world::{Edge, credential, key, plugin, source};

/// The worker of an Envoy that has one, and its main thread.
const INSTANCES: usize = 2;
const MIB: u64 = 1 << 20;

#[test]
fn memory_is_flat_over_a_thousand_deltas() -> Result<()> {
    let host = Host::start(source(7, 100, 3600))?;
    let edge = Edge::start(host.port(), 1)?;
    host.until_enforced(INSTANCES)?;
    let mut resident = Vec::new();
    for round in 0..1000 {
        let state = if round % 2 == 0 { "revoked" } else { "active" };
        host.change(|source| source.credentials[round % 100] = credential(round % 100, state))?;
        host.until_enforced(INSTANCES)?;
        if round % 100 == 99 {
            resident.push(edge.envoy.resident_bytes()?);
        }
    }
    println!("resident KiB after each 100 deltas: {:?}", resident.iter().map(|bytes| bytes / 1024).collect::<Vec<_>>());
    println!("Envoy's own: {}", edge.envoy.memory()?);
    let (first, last) = (resident[1], resident[9]);
    assert!(last < first + 4 * MIB, "{resident:?}");
    assert_eq!(host.bases_asked(), INSTANCES, "all of it came by deltas");
    Ok(())
}

#[test]
fn memory_is_flat_over_twenty_configurations() -> Result<()> {
    let host = Host::start(source(7, 20_000, 3600))?;
    let edge = Edge::start(host.port(), 1)?;
    host.until_enforced(INSTANCES)?;
    let mut resident = vec![edge.envoy.resident_bytes()?];
    for round in 1..=20_usize {
        // Every other one has another feed, and so a policy of its own.
        let authority = format!("host-{}.internal", round / 2);
        let before = host.workers();
        edge.configure(&plugin(&format!("edge-{round}"), &authority))?;
        if round % 2 == 0 {
            host.until_workers(before + INSTANCES)?;
        }
        edge.until_configured(round)?;
        edge.until(&key(1), 200, "")?;
        resident.push(edge.envoy.resident_bytes()?);
    }
    host.until_polled_by(INSTANCES)?;
    resident.push(edge.envoy.resident_bytes()?);
    println!("resident KiB after each configuration: {:?}", resident.iter().map(|b| b / 1024).collect::<Vec<_>>());
    println!("the base has {} KiB, held by {INSTANCES} instances", host.base_bytes() / 1024);
    println!("{}", edge.envoy.get("/stats?filter=wasm")?);
    // Two configurations may be there at once. More would be seen: each has the base twice.
    let most = resident[6] + 3 * u64::try_from(INSTANCES * host.base_bytes())?;
    assert!(*resident.last().unwrap() < most, "{resident:?}");
    Ok(())
}

#[test]
fn bytes_for_each_credential_of_a_hundred_thousand() -> Result<()> {
    let mut resident = Vec::new();
    let mut base = Vec::new();
    for keys in [1_usize, 100_000] {
        let host = Host::start(source(7, keys, 3600))?;
        let edge = Edge::start(host.port(), 1)?;
        host.until_enforced(INSTANCES)?;
        edge.until(&key(keys - 1), 200, "")?;
        resident.push(edge.envoy.resident_bytes()?);
        base.push(host.base_bytes());
        println!(
            "{keys} credentials: base {} bytes, resident {} KiB",
            base.last().unwrap(),
            resident.last().unwrap() / 1024
        );
        println!("/memory: {}", edge.envoy.memory()?);
        println!("{}", edge.envoy.get("/stats?filter=wasm")?);
    }
    let each = (resident[1] - resident[0]) / 100_000 / u64::try_from(INSTANCES)?;
    println!("{each} bytes for each credential and instance; {} of them in the base", base[1] / 100_000);
    assert!(each < 1000, "{each}");
    Ok(())
}
