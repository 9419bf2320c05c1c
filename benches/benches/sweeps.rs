//! What a decision costs in the component where there is more of one thing, by powers of ten.
//!
//! Each iteration takes another of 65,536 requests, by keys, to endpoints and from addresses from all over the tables.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portcullis_benches::sweeps::Sweep;
use portcullis_benches::{is_test, now};
use portcullis_engine::Request;

const REQUESTS: usize = 65_536;
/// The largest size of a test.
const TEST_SIZE: usize = 100;

fn sweep(criterion: &mut Criterion, sweep: Sweep) -> Result<()> {
    let now = now()?;
    let (most, requests) = if is_test() { (TEST_SIZE, 100) } else { (usize::MAX, REQUESTS) };
    let mut group = criterion.benchmark_group("sweep");
    for size in sweep.sizes().take_while(|size| *size <= most) {
        let case = sweep.case(size, requests)?;
        let engine = case.engine(NonZeroUsize::MIN)?;
        let mut all = case.heads.iter().cycle();
        group.bench_function(BenchmarkId::new(sweep.name(), size), |bencher| {
            bencher.iter(|| all.next().map(|head| black_box(engine.decide(Request::new(head, now)))));
        });
    }
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) {
    for one in Sweep::ALL {
        if let Err(error) = sweep(criterion, one) {
            eprintln!("error: {}: {error:#}", one.name());
            std::process::exit(1);
        }
    }
}

criterion_group! {
    name = benches;
    // There are many.
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(benches);
