//! Ten million credentials.

use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use portcullis_benches::cases::spread;
use portcullis_benches::{key, now, request, source};
use portcullis_engine::{Config, Engine, Request};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::policy::build;
use portcullis_model::verdict::Verdict;

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
    let base: Arc<[u8]> = base.into();
    let heads = spread(CREDENTIALS, REQUESTS).map(|number| Ok(request(&key(number))?.0)).collect::<Result<Vec<_>>>()?;
    let copy = base.to_vec();
    let mut gate = Gate::default();
    let start = Instant::now();
    gate.load(copy)?;
    let load_native_s = start.elapsed().as_secs_f64();
    gate.confirm(now);
    let mut details = Vec::new();
    let native_ns = each(&heads, |head| {
        Ok(gate.decide(Input { head, now, body_digest: None, replay: None }, &mut Silent, &mut details))
    })?;
    drop(gate);
    let engine = Engine::new(&Config { workers: NonZeroUsize::MIN, ..Config::default() })?;
    let start = Instant::now();
    engine.load(Arc::clone(&base))?;
    let load_component_s = start.elapsed().as_secs_f64();
    engine.confirm(now);
    let component_ns = each(&heads, |head| Ok(engine.decide(Request::new(head, now))?.verdict()))?;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a peak of memory")?;
    Ok(TenMillion {
        build_s,
        base_bytes: base.len(),
        peak_bytes: peak.trim().trim_end_matches(" kB").parse::<u64>()? << 10,
        load_native_s,
        native_ns,
        load_component_s,
        component_ns,
    })
}

/// The median of the rounds' means. All are allowed.
fn each(heads: &[Vec<u8>], mut decide: impl FnMut(&[u8]) -> Result<Verdict>) -> Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for head in heads {
            let verdict = decide(black_box(head))?;
            ensure!(verdict == Verdict::Allow, "a request that is measured is not allowed: {verdict:?}");
        }
        rounds.push(start.elapsed().as_nanos() as f64 / heads.len() as f64);
    }
    Ok(quantile(&mut rounds, 0.5))
}
