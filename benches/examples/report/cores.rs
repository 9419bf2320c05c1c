//! Decisions on two threads beside decisions on one, by turns.

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
    /// Medians, in millions a second.
    pub(crate) one: f64,
    pub(crate) two: f64,
    /// The ratio within a round: the first quarter, the median, and the third quarter of the rounds.
    pub(crate) ratio: [f64; 3],
}

/// Measures as many rounds of each.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Scale>> {
    println!("two threads");
    let now = now()?;
    let case = Case::keys(CREDENTIALS, REQUESTS)?;
    let engine = case.engine(NonZeroUsize::new(2).context("two")?)?;
    let gates: [Gate; 2] = [case.gate()?, case.gate()?];
    // What two threads are worth on this machine where they share nothing at all.
    let hashes = scale("SHA-256 of 4 KiB, for comparison", rounds, [(), ()], |(), _| {
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
    Ok(vec![component, native, hashes])
}

/// Does something on one thread, then on two, so many times.
fn scale<S: Send>(
    name: &'static str,
    rounds: usize,
    mut states: [S; 2],
    act: impl Fn(&mut S, usize) + Sync,
) -> Result<Scale> {
    let (mut one, mut two, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms everything up and does not count.
    for round in 0..=rounds {
        let [first, _] = &mut states;
        let alone = turn(std::slice::from_mut(first), &act)?;
        let both = turn(&mut states, &act)?;
        if round > 0 {
            one.push(alone);
            two.push(both);
            ratios.push(both / alone);
        }
    }
    let ratio = [0.25, 0.5, 0.75].map(|part| quantile(&mut ratios, part));
    Ok(Scale { name, one: quantile(&mut one, 0.5), two: quantile(&mut two, 0.5), ratio })
}

/// Each state on a thread of its own; how often all of them acted together, in millions a second.
fn turn<S: Send>(states: &mut [S], act: &(impl Fn(&mut S, usize) + Sync)) -> Result<f64> {
    let barrier = Barrier::new(states.len());
    let threads = states.len();
    thread::scope(|scope| {
        let running: Vec<_> = states
            .iter_mut()
            .zip(0..)
            .map(|(state, number): (_, usize)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    // Every thread asks with requests of its own.
                    let first = number * REQUESTS / threads;
                    let mut done = 0;
                    barrier.wait();
                    let start = Instant::now();
                    while start.elapsed() < TURN {
                        for _ in 0..LOOK_EVERY {
                            act(state, first + done);
                            done += 1;
                        }
                    }
                    done as f64 / start.elapsed().as_secs_f64() / 1e6
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))).sum()
    })
}
