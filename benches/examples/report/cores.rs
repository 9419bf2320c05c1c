//! Decisions on two threads beside decisions on one, by turns.
//!
//! By the clock the ratio is what the machine has left for this program; neighbours take from it. By the time that the threads
//! had a processor it is what they take from each other: caches and memory. Waiting for a lock shows by the clock alone.

use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use portcullis_benches::cases::Case;
use portcullis_benches::now;
use portcullis_engine::Request;
use portcullis_eval::{Gate, Input, Silent};
use sha2::{Digest as _, Sha256};

use crate::latency::quantile;

const CREDENTIALS: usize = 1_000_000;
const REQUESTS: usize = 65_536;
/// How long one turn lasts.
const TURN: Duration = Duration::from_millis(200);
/// How often the clock is looked at, in decisions.
const LOOK_EVERY: usize = 64;

/// Throughput on one thread and on two.
pub(crate) struct Scale {
    pub(crate) name: &'static str,
    /// Whether it is what is owed; the others are for comparison.
    pub(crate) is_owed: bool,
    /// Medians, in millions a second.
    pub(crate) one: f64,
    pub(crate) two: f64,
    /// The ratio within a round: the first quarter, the median, and the third quarter of the rounds.
    pub(crate) ratio: [f64; 3],
    /// The same by processor time.
    pub(crate) ratio_of_processor: [f64; 3],
}

/// How often something was done, in millions a second.
#[derive(Clone, Copy)]
struct Rate {
    by_clock: f64,
    by_processor: f64,
}

/// Measures as many rounds of each.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Scale>> {
    println!("two threads");
    let now = now()?;
    let case = Case::keys(CREDENTIALS, REQUESTS)?;
    let engine = case.engine(NonZeroUsize::new(2).context("two")?)?;
    let gates: [Gate; 2] = [case.gate()?, case.gate()?];
    // What two threads are worth on this machine where they share nothing at all.
    let hashes = scale("SHA-256 of 4 KiB", rounds, [(), ()], |(), _| {
        black_box(Sha256::digest(black_box([7; 4096])));
    })?;
    let component = scale("component, an engine with two workers", rounds, [&engine, &engine], |engine, at| {
        if let Some(head) = case.heads.get(at % REQUESTS) {
            drop(black_box(engine.decide(Request::new(head, now))));
        }
    })?;
    let native = scale("native, a gate for each thread", rounds, gates.map(|gate| (gate, Vec::new())), |state, at| {
        let (gate, details) = state;
        if let Some(head) = case.heads.get(at % REQUESTS) {
            black_box(gate.decide(Input { head, now, body_digest: None, replay: None }, &mut Silent, details));
        }
    })?;
    Ok(vec![Scale { is_owed: true, ..component }, native, hashes])
}

/// Does something on one thread, then on two, so many times.
fn scale<S: Send>(
    name: &'static str,
    rounds: usize,
    mut states: [S; 2],
    act: impl Fn(&mut S, usize) + Sync,
) -> Result<Scale> {
    let (mut one, mut two, mut ratios, mut of_processor) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // The first round warms everything up and does not count.
    for round in 0..=rounds {
        let [first, _] = &mut states;
        let alone = turn(std::slice::from_mut(first), &act)?;
        let both = turn(&mut states, &act)?;
        if round > 0 {
            one.push(alone.by_clock);
            two.push(both.by_clock);
            ratios.push(both.by_clock / alone.by_clock);
            of_processor.push(both.by_processor / alone.by_processor);
        }
    }
    let quarters = |ratios: &mut [f64]| [0.25, 0.5, 0.75].map(|part| quantile(ratios, part));
    Ok(Scale {
        name,
        is_owed: false,
        one: quantile(&mut one, 0.5),
        two: quantile(&mut two, 0.5),
        ratio: quarters(&mut ratios),
        ratio_of_processor: quarters(&mut of_processor),
    })
}

/// Each state on a thread of its own; how often all of them acted together.
fn turn<S: Send>(states: &mut [S], act: &(impl Fn(&mut S, usize) + Sync)) -> Result<Rate> {
    let barrier = Barrier::new(states.len());
    let threads = states.len();
    thread::scope(|scope| {
        let running: Vec<_> = states
            .iter_mut()
            .zip(0..)
            .map(|(state, number): (_, usize)| {
                let barrier = &barrier;
                scope.spawn(move || -> Result<Rate> {
                    // Every thread asks with requests of its own.
                    let first = number * REQUESTS / threads;
                    let mut done = 0;
                    barrier.wait();
                    let (start, processor) = (Instant::now(), processor_time()?);
                    while start.elapsed() < TURN {
                        for _ in 0..LOOK_EVERY {
                            act(state, first + done);
                            done += 1;
                        }
                    }
                    let rate = |time: Duration| done as f64 / time.as_secs_f64() / 1e6;
                    Ok(Rate { by_clock: rate(start.elapsed()), by_processor: rate(processor_time()? - processor) })
                })
            })
            .collect();
        let mut sum = Rate { by_clock: 0.0, by_processor: 0.0 };
        for thread in running {
            let rate = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            sum.by_clock += rate.by_clock;
            sum.by_processor += rate.by_processor;
        }
        Ok(sum)
    })
}

/// How long this thread had a processor.
fn processor_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns = text.split(' ').next().context("a time")?.parse()?;
    Ok(Duration::from_nanos(ns))
}
