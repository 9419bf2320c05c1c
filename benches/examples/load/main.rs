//! What the checks cost whoever calls through the proxy: the real server against a plain hyper proxy, side by side; what
//! changes cost them; and load and changes for a while, every answer held against an oracle.
//!
//! ```sh
//! cargo build --release -p portcullis && cargo run --release -p portcullis-benches --example load
//! cargo run --release -p portcullis-benches --example load -- 64 20 2          # connections, rounds, seconds each
//! cargo run --release -p portcullis-benches --example load -- changes 32 20 2  # with 200 changes a second, and without
//! cargo run --release -p portcullis-benches --example load -- soak 600 100000  # seconds, keys of others, changes a second
//! ```
//!
//! Closed loop: every connection sends its next request when it has the answer to the last. Rounds are short and alternate,
//! because machines are noisy, and each round's ratio is of two halves that ran side by side in time. The upstream and the
//! clients are in this process, either proxy is a process of its own. A soak has a steady rate instead.

mod baseline;
mod changes;
mod clients;
mod guarded;
mod oracle;
mod soak;
#[path = "../compile/stored.rs"]
mod stored;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::changes::Administrators;
use crate::clients::{Measured, Target};

/// The server's, so that the plain proxy is as well off.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How many connections, rounds and seconds for each half of a round where nothing is said.
const USUAL: [u64; 3] = [32, 15, 2];
/// How many changes a second, where nothing is said.
const CHANGES: u64 = 200;
/// How many seconds a soak takes, among how many keys of other tenants, with how many changes a second, where nothing is said.
const USUAL_SOAK: [u64; 3] = [600, 100_000, CHANGES];
/// How much of each half is not counted, so that connections, pools and caches are as they stay.
const WARM_UP: Duration = Duration::from_millis(400);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [name, upstream] if *name == baseline::ARGUMENT => runtime.block_on(baseline::serve(upstream.parse()?)),
        ["soak", given @ ..] => {
            let [seconds, others, changes] = numbers(USUAL_SOAK, given)?;
            runtime.block_on(soak::run(Duration::from_secs(seconds), usize::try_from(others)?, changes))
        }
        ["changes", given @ ..] => {
            let [connections, rounds, seconds] = numbers(USUAL, given)?;
            runtime.block_on(beside_changes(connections, rounds, Duration::from_secs(seconds)))
        }
        given => {
            let [connections, rounds, seconds] = numbers(USUAL, given)?;
            runtime.block_on(compare(connections, rounds, Duration::from_secs(seconds)))
        }
    }
}

fn numbers<const N: usize>(usual: [u64; N], given: &[&str]) -> Result<[u64; N]> {
    let mut numbers = usual;
    if given.len() > N {
        bail!("give at most {N} numbers");
    }
    for (number, argument) in numbers.iter_mut().zip(given) {
        *number = argument.parse().with_context(|| format!("`{argument}` is no number"))?;
    }
    Ok(numbers)
}

/// One of the two proxies over all rounds.
struct Side {
    name: &'static str,
    target: Target,
    latencies_us: Vec<u32>,
    rates: Vec<f64>,
}

impl Side {
    fn new(name: &'static str, address: SocketAddr, key: &str) -> Side {
        Side { name, target: Target { address, key: key.to_owned() }, latencies_us: Vec::new(), rates: Vec::new() }
    }

    /// One half of a round. Leads to its rate.
    async fn run(&mut self, connections: u64, length: Duration) -> Result<f64> {
        let Measured { mut latencies_us, rate } = clients::run(&self.target, connections, WARM_UP, length).await?;
        self.latencies_us.append(&mut latencies_us);
        self.rates.push(rate);
        Ok(rate)
    }

    fn report(&mut self) {
        self.latencies_us.sort_unstable();
        let at = |share: f64| f64::from(quantile(&self.latencies_us, share).unwrap_or(0)) / 1000.0;
        let rate = median(&mut self.rates);
        println!("{:<10} {rate:>8.0} requests/s   p50 {:.2} ms   p99 {:.2} ms", self.name, at(0.5), at(0.99));
    }
}

async fn compare(connections: u64, rounds: u64, length: Duration) -> Result<()> {
    let upstream = clients::upstream().await?;
    let baseline = baseline::start(upstream).await?;
    let guarded = guarded::start(upstream, 0).await?;
    let key = passing_key(&guarded).await?;
    let mut sides = [Side::new("plain", baseline.address, &key), Side::new("portcullis", guarded.address, &key)];
    let [plain, ours] = &mut sides;
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let (without, with) = if round % 2 == 0 {
            let without = plain.run(connections, length).await?;
            (without, ours.run(connections, length).await?)
        } else {
            let with = ours.run(connections, length).await?;
            (plain.run(connections, length).await?, with)
        };
        ratios.push(with / without);
        eprintln!("round {:>2}: plain {without:.0}/s, portcullis {with:.0}/s, ratio {:.3}", round + 1, with / without);
    }
    println!("{connections} connections, {rounds} rounds of {} s each", length.as_secs());
    sides.iter_mut().for_each(Side::report);
    tell(&mut ratios);
    Ok(())
}

/// The same server without changes and with them.
async fn beside_changes(connections: u64, rounds: u64, length: Duration) -> Result<()> {
    let guarded = guarded::start(clients::upstream().await?, 0).await?;
    let key = passing_key(&guarded).await?;
    let mut administrators = Administrators::begin(&guarded).await?;
    let world = Arc::clone(&administrators.world);
    let mut sides = [Side::new("quiet", guarded.address, &key), Side::new("changing", guarded.address, &key)];
    let [quiet, changing] = &mut sides;
    let mut ratios = Vec::new();
    // Of each side: requests, and seconds of processors.
    let mut spent = [(0.0, 0.0); 2];
    for round in 0..rounds {
        let mut rates = [0.0; 2];
        for half in [round % 2, 1 - round % 2] {
            let before = guarded.processor_s()?;
            let (rate, side) = if half == 0 {
                (quiet.run(connections, length).await?, 0)
            } else {
                let stop = Arc::new(AtomicBool::new(false));
                let load = async {
                    let rate = changing.run(connections, length).await;
                    stop.store(true, Ordering::Relaxed);
                    rate
                };
                let (rate, worked) = tokio::join!(load, administrators.work(CHANGES, &stop));
                worked?;
                (rate?, 1)
            };
            if let (Some(told), Some((requests, seconds))) = (rates.get_mut(side), spent.get_mut(side)) {
                *told = rate;
                *requests += rate * (WARM_UP + length).as_secs_f64();
                *seconds += guarded.processor_s()? - before;
            }
        }
        let [without, with] = rates;
        ratios.push(with / without);
        eprintln!("round {:>2}: quiet {without:.0}/s, changing {with:.0}/s, ratio {:.3}", round + 1, with / without);
    }
    let (done, halves) = (world.done.load(Ordering::Relaxed) as f64, rounds as f64 * (WARM_UP + length).as_secs_f64());
    let (length, rate) = (length.as_secs(), done / halves);
    println!("{connections} connections, {rounds} rounds of {length} s each, {rate:.0} changes a second");
    sides.iter_mut().for_each(Side::report);
    tell(&mut ratios);
    // Neighbours on the machine change this less than throughput.
    let [(quiet_requests, quiet_s), (requests, seconds)] = spent;
    let a_request_s = quiet_s / quiet_requests;
    let a_change_s = (seconds - requests * a_request_s) / done;
    let share = CHANGES as f64 * a_change_s / std::thread::available_parallelism()?.get() as f64;
    println!(
        "the server's processor time: {:.1} us a request, {:.2} ms a change; {CHANGES} changes a second are {:.1}% of the machine",
        a_request_s * 1e6,
        a_change_s * 1e3,
        share * 100.0
    );
    Ok(())
}

/// A tenant, and a key that passes: a group, an allowlist, a filter on the endpoint.
async fn passing_key(guarded: &guarded::Guarded) -> Result<String> {
    let mut calls = guarded.admin.connect().await?;
    guarded::tenant(&mut calls, "acme").await?;
    let mut key = guarded::allowlist(true);
    if let Some(fields) = key.as_object_mut() {
        fields.insert("name".to_owned(), "Load".into());
        fields.insert("group".to_owned(), "all".into());
    }
    let made = calls.ask("POST", "/v1/tenants/acme/tenant-keys", &key).await?;
    Ok(made.get("key").and_then(Value::as_str).context("the answer has the key")?.to_owned())
}

fn tell(ratios: &mut [f64]) {
    let ratio = median(ratios);
    let (low, high) = (quantile(ratios, 0.25).unwrap_or(ratio), quantile(ratios, 0.75).unwrap_or(ratio));
    println!("ratio of throughput: median {ratio:.3}, middle half {low:.3} to {high:.3}");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    quantile(values, 0.5).unwrap_or(0.0)
}

/// The value that this share of sorted values does not exceed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}
