//! One decision on a signed request without a body: in the component at the engine's call boundary, and the same native.
//!
//! Each iteration decides for another of up to 4,096 signers chosen all over the table, each with a signature of its own. One
//! credential in a hundred signs, as a tenant has one that does.

use std::hint::black_box;
use std::num::NonZeroUsize;

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portcullis_benches::cases::Case;
use portcullis_benches::{now, sizes};
use portcullis_engine::Request;
use portcullis_eval::{Input, Silent};

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const SIGNERS: usize = 4_096;

fn signed(criterion: &mut Criterion) -> Result<()> {
    let now = now()?;
    let mut group = criterion.benchmark_group("signed");
    for size in sizes(SIZES) {
        let case = Case::signed(size, SIGNERS)?;
        let engine = case.engine(NonZeroUsize::MIN)?;
        let native = case.gate()?;
        let mut all = case.heads.iter().cycle();
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
