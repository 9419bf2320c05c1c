//! One decision: in the component at the engine's call boundary, and the same native, at three sizes; then where the
//! time goes.
//!
//! Each iteration decides for another of 65,536 keys chosen all over the table, so the look-up pays for its cache misses.

use std::hint::black_box;

use anyhow::{Context as _, Result, bail};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portcullis_benches::{KEY_BYTES, is_test, key, now, request, sizes, source};
use portcullis_engine::{Config, Engine, Request};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::policy::build;
use portcullis_model::verdict::Verdict;
use sha2::{Digest as _, Sha256};

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const KEYS: usize = 65_536;

/// Both builds of the gate with the same policy.
struct Gates {
    engine: Engine,
    native: Gate,
}

impl Gates {
    fn new(credentials: usize) -> Result<Gates> {
        let base = build(&source(credentials)?)?;
        let config = Config { workers: std::num::NonZeroUsize::MIN, ..Config::default() };
        let engine = Engine::new(&config)?;
        engine.load(base.clone().into())?;
        engine.confirm(now()?);
        let mut native = Gate::default();
        native.load(base)?;
        native.confirm(now()?);
        Ok(Gates { engine, native })
    }
}

/// Requests that differ in their key alone.
struct Requests {
    packed: Vec<u8>,
    at: usize,
    keys: Vec<String>,
    next: usize,
}

impl Requests {
    fn new(credentials: usize) -> Result<Requests> {
        // A step that shares no factor with any size visits the whole table out of order.
        let keys: Vec<_> = (0..KEYS).map(|number| key(number * 7_919 % credentials)).collect();
        let (packed, at) = request(keys.first().context("a key")?)?;
        Ok(Requests { packed, at, keys, next: 0 })
    }

    fn next(&mut self) -> &[u8] {
        let key = self.keys.get(self.next % KEYS);
        self.next += 1;
        if let (Some(place), Some(key)) = (self.packed.get_mut(self.at..self.at + KEY_BYTES), key) {
            place.copy_from_slice(key.as_bytes());
        }
        &self.packed
    }
}

fn expect_allow(verdict: Verdict) -> Result<()> {
    if verdict != Verdict::Allow {
        bail!("the request under measurement is not allowed: {verdict:?}");
    }
    Ok(())
}

fn decide(criterion: &mut Criterion) -> Result<()> {
    let now = now()?;
    let mut group = criterion.benchmark_group("key");
    for size in sizes(SIZES) {
        let gates = Gates::new(size)?;
        let mut requests = Requests::new(size)?;
        expect_allow(gates.engine.decide(Request::new(requests.next(), now))?.verdict())?;
        group.bench_function(BenchmarkId::new("component", size), |bencher| {
            bencher.iter(|| black_box(gates.engine.decide(Request::new(requests.next(), now))));
        });
        let mut details = Vec::new();
        group.bench_function(BenchmarkId::new("native", size), |bencher| {
            bencher.iter(|| {
                let input = Input { head: requests.next(), now, body_digest: None, replay: None };
                black_box(gates.native.decide(input, &mut Silent, &mut details))
            });
        });
    }
    group.finish();
    Ok(())
}

/// Where the time of a decision at 1,000,000 credentials goes: each entry does a little more than the one before it.
fn split(criterion: &mut Criterion) -> Result<()> {
    let now = now()?;
    let size = if is_test() { 1_000 } else { 1_000_000 };
    let gates = Gates::new(size)?;
    let mut requests = Requests::new(size)?;
    let (good, _) = request(&key(1))?;
    let mut malformed = good.clone();
    if let Some(format) = malformed.first_mut() {
        *format = 0;
    }
    let replace = |from: &[u8], to: &[u8]| -> Result<Vec<u8>> {
        let at = good.windows(from.len()).position(|window| window == from).context("the text to replace")?;
        Ok([good.get(..at), Some(to), good.get(at + from.len()..)].into_iter().flatten().flatten().copied().collect())
    };
    let no_service = replace(b"api.shop.example", b"api.shop.invalid")?;
    let no_key = replace(b"x-api-key", b"x-api-kex")?;
    let unknown = replace(key(1).as_bytes(), "x".repeat(KEY_BYTES).as_bytes())?;

    let mut group = criterion.benchmark_group("split");
    group.bench_function("1 boundary, copy, answer", |bencher| {
        bencher.iter(|| black_box(gates.engine.decide(Request::new(black_box(&malformed), now))));
    });
    group.bench_function("2 + parse and normalise", |bencher| {
        bencher.iter(|| black_box(gates.engine.decide(Request::new(black_box(&no_service), now))));
    });
    group.bench_function("3 + route, find credential", |bencher| {
        bencher.iter(|| black_box(gates.engine.decide(Request::new(black_box(&no_key), now))));
    });
    group.bench_function("4 + hash, look up (unknown)", |bencher| {
        bencher.iter(|| black_box(gates.engine.decide(Request::new(black_box(&unknown), now))));
    });
    group.bench_function("5 + rules (one key, all cached)", |bencher| {
        bencher.iter(|| black_box(gates.engine.decide(Request::new(black_box(&good), now))));
    });
    group.bench_function("6 + cache misses (65,536 keys)", |bencher| {
        bencher.iter(|| black_box(gates.engine.decide(Request::new(requests.next(), now))));
    });
    group.bench_function("native SHA-256 of a key", |bencher| {
        let key = key(1);
        bencher.iter(|| black_box(Sha256::digest(black_box(&key))));
    });
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) {
    for result in [decide(criterion), split(criterion)] {
        if let Err(error) = result {
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
