//! Ten million credentials.

use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::{Context as _, Result};
use portcullis_benches::cases::{Case, spread};
use portcullis_benches::{key, now, request, source};
use portcullis_engine::Request;
use portcullis_eval::{Input, Silent};
use portcullis_model::policy::build;

use crate::latency::quantile;

const CREDENTIALS: usize = 10_000_000;
const REQUESTS: usize = 65_536;
const ROUNDS: usize = 20;

/// Times in seconds, or nanoseconds for a decision.
pub(crate) struct TenMillion {
    pub(crate) build_s: f64,
    pub(crate) base_bytes: usize,
    /// The memory of this process at its peak, records included.
    pub(crate) peak_bytes: u64,
    pub(crate) load_native_s: f64,
    pub(crate) native_ns: f64,
    /// Of an engine with one worker and its spare.
    pub(crate) load_component_s: f64,
    pub(crate) component_ns: f64,
}

/// Needs about 16 GiB.
pub(crate) fn measure() -> Result<TenMillion> {
    println!("ten million credentials");
    let now = now()?;
    let records = source(CREDENTIALS)?;
    let start = Instant::now();
    let base = build(&records)?;
    let build_s = start.elapsed().as_secs_f64();
    drop(records);
    let heads = spread(CREDENTIALS, REQUESTS).map(|number| Ok(request(&key(number))?.0)).collect::<Result<_>>()?;
    let case = Case { base: base.into(), sheets: Vec::new(), heads };
    let start = Instant::now();
    let gate = case.gate()?;
    let load_native_s = start.elapsed().as_secs_f64();
    let mut details = Vec::new();
    let native_ns = each(&case, |head| {
        black_box(gate.decide(Input { head, now, body_digest: None, replay: None }, &mut Silent, &mut details));
    });
    drop(gate);
    let start = Instant::now();
    let engine = case.engine(NonZeroUsize::MIN)?;
    let load_component_s = start.elapsed().as_secs_f64();
    let component_ns = each(&case, |head| drop(black_box(engine.decide(Request::new(head, now)))));
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a peak of memory")?;
    Ok(TenMillion {
        build_s,
        base_bytes: case.base.len(),
        peak_bytes: peak.trim().trim_end_matches(" kB").parse::<u64>()? << 10,
        load_native_s,
        native_ns,
        load_component_s,
        component_ns,
    })
}

/// The median of the rounds' means.
fn each(case: &Case, mut decide: impl FnMut(&[u8])) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for head in &case.heads {
                decide(head);
            }
            start.elapsed().as_nanos() as f64 / case.heads.len() as f64
        })
        .collect();
    quantile(&mut rounds, 0.5)
}
