//! The policy's own costs: building, loading, changing, and memory for each credential.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portcullis_benches::{now, sizes, source};
use portcullis_engine::{Config, Engine};
use portcullis_model::id::Revision;
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{CredentialState, Delta, Source};

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];

fn engine() -> Result<Engine> {
    Ok(Engine::new(&Config { workers: std::num::NonZeroUsize::MIN, ..Config::default() })?)
}

/// Loads a base into an engine with one worker and its spare: two instances.
fn load(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    for size in sizes(SIZES) {
        let source = source(size)?;
        let base: Arc<[u8]> = build(&source)?.into();
        let per_credential = base.len() as f64 / size as f64;
        println!("memory/{size}: {} bytes, {per_credential:.1} for each credential, 32 of them its digest", base.len());
        let engine = engine()?;
        group.bench_function(BenchmarkId::new("component, two instances", size), |bencher| {
            bencher.iter(|| black_box(engine.load(base.clone())));
        });
        group.bench_function(BenchmarkId::new("build from records", size), |bencher| {
            bencher.iter(|| black_box(build(&source)));
        });
    }
    group.finish();
    Ok(())
}

/// Applies a delta of one credential to both instances: it is in force when this ends.
fn delta(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("delta");
    for size in sizes(SIZES) {
        let source = source(size)?;
        let engine = engine()?;
        engine.load(build(&source)?.into())?;
        engine.confirm(now()?);
        let mut credential = source.credentials.get(size / 2).context("a credential")?.clone();
        let mut revision = source.revision;
        let mut next = || -> Result<Duration> {
            // The same credential by turns revoked and not: what matters here is the cost.
            credential.state = match credential.state {
                CredentialState::Active => CredentialState::Revoked,
                CredentialState::Revoked => CredentialState::Active,
            };
            let mut delta = Delta::empty(revision, Revision(revision.0 + 1), source.seed);
            delta.credentials.push(credential.clone());
            let bytes = build_delta(&delta)?;
            if revision.0 % 50_000 == 0 {
                // A new base, before the overlay is full.
                engine.load(build(&Source { revision, ..source.clone() })?.into())?;
            }
            let start = Instant::now();
            revision = engine.apply(&bytes)?;
            Ok(start.elapsed())
        };
        next()?;
        group.bench_function(BenchmarkId::new("component, two instances", size), |bencher| {
            bencher.iter_custom(|iterations| (0..iterations).filter_map(|_| next().ok()).sum());
        });
    }
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) {
    for result in [load(criterion), delta(criterion)] {
        if let Err(error) = result {
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
