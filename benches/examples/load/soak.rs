//! Load, changes and compactions for a while, every answer held against an oracle.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::changes::{Administrators, Dice, World};
use crate::clients::Client;
use crate::{clients, guarded, quantile};

/// Requests a second, far below what the proxy can do, so that what takes long is not the queue.
const REQUESTS: f64 = 2_000.0;
const CONNECTIONS: u64 = 16;
/// How many wrong answers are shown.
const SHOWN: u64 = 10;
/// How much more memory there may be in the second half of the time since the first new base than in the first: what grows
/// with changes is a leak. Before it memory grows up to what a compilation takes.
const GROWTH: f64 = 1.05;

/// What the requests of one connection came to.
#[derive(Default)]
struct Told {
    latencies_us: Vec<u32>,
    statuses: BTreeMap<u16, u64>,
}

pub(crate) async fn run(length: Duration, others: usize, per_second: u64) -> Result<()> {
    let upstream = clients::upstream().await?;
    let guarded = guarded::start(upstream, others).await?;
    let mut administrators = Administrators::begin(&guarded).await?;
    let world = Arc::clone(&administrators.world);
    let (stop, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let bases = guarded.bases.load(Ordering::Relaxed);
    println!("{others} other keys, {} s, {REQUESTS} requests and {per_second} changes a second", length.as_secs());

    let mut requests = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (world, stop, wrong) = (Arc::clone(&world), Arc::clone(&stop), Arc::clone(&wrong));
        requests.spawn(ask(guarded.address, number, world, stop, wrong));
    }
    let changing = Arc::clone(&stop);
    let changes = tokio::spawn(async move { administrators.work(per_second, &changing).await });
    let began = Instant::now();
    let samples = watch(&guarded, &world, &wrong, began, length).await;
    stop.store(true, Ordering::Relaxed);
    let took = began.elapsed().as_secs_f64();
    changes.await??;
    let samples = samples?;

    let mut all = Told::default();
    while let Some(told) = requests.join_next().await {
        let Told { mut latencies_us, statuses } = told??;
        all.latencies_us.append(&mut latencies_us);
        statuses.into_iter().for_each(|(status, count)| *all.statuses.entry(status).or_default() += count);
    }
    all.latencies_us.sort_unstable();
    let at = |share: f64| f64::from(quantile(&all.latencies_us, share).unwrap_or(0)) / 1000.0;
    let done = world.done.load(Ordering::Relaxed);
    let wrong = wrong.load(Ordering::Relaxed);
    println!(
        "requests      {} ({:.0} a second), by status {:?}",
        all.latencies_us.len(),
        all.latencies_us.len() as f64 / took,
        all.statuses
    );
    println!(
        "latency       p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    let longest = world.longest_us.load(Ordering::Relaxed) as f64 / 1000.0;
    println!("changes       {done} ({:.0} a second), the longest took {longest:.0} ms", done as f64 / took);
    println!("new bases     {}", guarded.bases.load(Ordering::Relaxed) - bases);
    println!("memory        {}", shown(&samples));
    println!("wrong answers {wrong}");
    ensure!(wrong == 0, "{wrong} answers were wrong");
    let settled = samples.iter().filter(|sample| sample.bases > bases).map(|sample| sample.memory_mb);
    let settled: Vec<u64> = settled.collect();
    if settled.is_empty() {
        println!("memory        not compared: there was no new base");
        return Ok(());
    }
    let (first, second) = settled.split_at(settled.len() / 2);
    let (early, late) = (mean(first), mean(second));
    println!("memory        since the first new base: {early:.0} MB in the first half, {late:.0} MB in the second");
    ensure!(late <= early * GROWTH, "memory grows");
    Ok(())
}

/// Sends requests at their rate and holds each answer against what may be.
async fn ask(
    to: SocketAddr,
    number: u64,
    world: Arc<World>,
    stop: Arc<AtomicBool>,
    wrong: Arc<AtomicU64>,
) -> Result<Told> {
    let mut client = Client::connect(to).await?;
    let mut dice = Dice(1000 + number);
    let mut told = Told::default();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(CONNECTIONS as f64 / REQUESTS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let secret = world.secret(&mut dice).context("a secret")?;
        let from = Instant::now();
        let status = if secret.is_management {
            client.ask("authorization", &format!("ManagementKey-v1 {}", secret.text)).await?
        } else {
            client.ask("x-api-key", &secret.text).await?
        };
        let until = Instant::now();
        let expected = secret.expected(from, until);
        if !expected.contains(&status) && wrong.fetch_add(1, Ordering::Relaxed) < SHOWN {
            eprintln!("wrong: {status}, expected {expected:?}, after {:?}", until.duration_since(from));
        }
        told.latencies_us.push(u32::try_from(until.duration_since(from).as_micros())?);
        *told.statuses.entry(status).or_default() += 1;
    }
    Ok(told)
}

/// The server at one second.
struct Sample {
    memory_mb: u64,
    bases: u64,
}

/// Looks at the server each second, until the time is over.
async fn watch(
    guarded: &guarded::Guarded,
    world: &World,
    wrong: &AtomicU64,
    began: Instant,
    length: Duration,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while began.elapsed() < length {
        ticks.tick().await;
        let sample = Sample { memory_mb: guarded.resident_mb()?, bases: guarded.bases.load(Ordering::Relaxed) };
        if samples.len() % 30 == 0 {
            let (done, wrong) = (world.done.load(Ordering::Relaxed), wrong.load(Ordering::Relaxed));
            let (after, memory_mb) = (began.elapsed().as_secs(), sample.memory_mb);
            eprintln!("{after:>4} s  {memory_mb} MB  {done} changes  {wrong} wrong");
        }
        samples.push(sample);
    }
    Ok(samples)
}

fn mean(memory_mb: &[u64]) -> f64 {
    memory_mb.iter().sum::<u64>() as f64 / memory_mb.len().max(1) as f64
}

/// Twenty of the samples, evenly.
fn shown(samples: &[Sample]) -> String {
    let step = samples.len().div_ceil(20).max(1);
    let shown: Vec<String> = samples.iter().step_by(step).map(|sample| sample.memory_mb.to_string()).collect();
    format!("{} MB, every {step} s", shown.join(" "))
}
