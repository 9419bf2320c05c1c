//! One decision on a signed request without a body: in the component at the engine's call boundary, and the same native.
//!
//! Each iteration decides for another of up to 4,096 signers chosen all over the table, each with a signature of its own. One
//! credential in a hundred signs, as a tenant has one that does.

use std::hint::black_box;

use anyhow::{Context as _, Result, bail};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portcullis_benches::{now, signed_request, signers, signers_among, signing_secret};
use portcullis_engine::{Config, Engine, Request};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::key_sheet::{Day, MAX_PART_KEYS, encode};
use portcullis_model::policy::build;
use portcullis_model::signing::{day_key, presets};
use portcullis_model::verdict::Verdict;

const SIZES: [usize; 2] = [1_000, 1_000_000];
const SIGNERS: usize = 4_096;

fn sheets(signers: usize) -> Result<Vec<Vec<u8>>> {
    let (profile, day) = (presets::antavo("eu"), Day::of(now()?));
    let numbers: Vec<usize> = (0..signers).collect();
    let parts = numbers.chunks(MAX_PART_KEYS).map(|part| {
        let keys: Vec<_> =
            part.iter().map(|number| day_key(&profile, signing_secret(*number).as_bytes(), day)).collect();
        let first = u32::try_from(part.first().copied().unwrap_or_default())?;
        Ok(encode(day, first, &keys)?)
    });
    parts.collect()
}

fn signed(criterion: &mut Criterion) -> Result<()> {
    let now = now()?;
    let mut group = criterion.benchmark_group("signed");
    for size in SIZES {
        let base = build(&signers(size)?)?;
        let config = Config { workers: std::num::NonZeroUsize::MIN, ..Config::default() };
        let engine = Engine::new(&config)?;
        engine.load(base.clone().into())?;
        engine.confirm(now);
        let mut native = Gate::default();
        native.load(base)?;
        native.confirm(now);
        let signers = signers_among(size);
        for sheet in sheets(signers)? {
            native.load_keys(&sheet)?;
            engine.load_keys(&sheet)?;
        }
        // A step that shares no factor with any size visits the whole table out of order.
        let requests =
            (0..SIGNERS).map(|number| signed_request(number * 7_919 % signers)).collect::<Result<Vec<_>>>()?;
        let first = requests.first().context("a request")?;
        let verdict = engine.decide(Request::new(first, now))?.verdict();
        if verdict != Verdict::Allow {
            bail!("the request under measurement is not allowed: {verdict:?}");
        }
        let mut all = requests.iter().cycle();
        group.bench_function(BenchmarkId::new("component", size), |bencher| {
            bencher.iter(|| all.next().map(|head| black_box(engine.decide(Request::new(head, now)))));
        });
        let mut details = Vec::new();
        group.bench_function(BenchmarkId::new("native", size), |bencher| {
            bencher.iter(|| {
                all.next().map(|head| {
                    let input = Input { head, now, body_digest: None, replay: None };
                    black_box(native.decide(input, &mut Silent, &mut details))
                })
            });
        });
    }
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) {
    if let Err(error) = signed(criterion) {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
