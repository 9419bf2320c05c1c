//! One decision by an access token, in the component and native: new, so that its signature is verified, and seen before.
//!
//! Each iteration asks with another token. Of the new ones there are four times as many as the cache holds, so each is gone
//! when it comes again.

use std::hint::black_box;

use anyhow::{Context as _, Result, bail};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portcullis_benches::cases::token;
use portcullis_benches::{bearer_request, clients, now, sizes};
use portcullis_engine::{Config, Engine, Request};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::policy::build;
use portcullis_model::verdict::Verdict;
use portcullis_tests::minter::{Minter, minter};

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const ALGORITHMS: [&str; 3] = ["EdDSA", "ES256", "RS256"];
/// Tokens that are asked with while all of them are in the cache.
const SEEN: usize = 512;
/// Tokens that never are.
const NEW: usize = 16_384;

fn decide(criterion: &mut Criterion) -> Result<()> {
    let now = now()?;
    let minters = ALGORITHMS.map(|algorithm| minter(&format!("{algorithm}-1")));
    let minters = minters.into_iter().collect::<Result<Vec<_>>>()?;
    // Their clients are there at every size.
    let new: Vec<Vec<Vec<u8>>> = minters
        .iter()
        .map(|minter| (0..NEW).map(|number| bearer_request(&token(minter, number % 1_000, number))).collect())
        .collect::<Result<_>>()?;
    let mut group = criterion.benchmark_group("token");
    for size in sizes(SIZES) {
        let mut source = clients(size)?;
        source.installation.token_keys = minters.iter().map(Minter::public).collect();
        let base = build(&source)?;
        let mut native = Gate::default();
        native.load(base.clone())?;
        native.confirm(now);
        let config = Config { workers: std::num::NonZeroUsize::MIN, ..Config::default() };
        let engine = Engine::new(&config)?;
        engine.load(base.into())?;
        engine.confirm(now);
        let ask = |head: &[u8]| engine.decide(Request::new(head, now));
        for (minter, new) in minters.iter().zip(&new) {
            let algorithm = minter.algorithm().as_str();
            let mut details = Vec::new();
            let mut ask_native = |head: &[u8]| {
                native.decide(Input { head, now, body_digest: None, replay: None }, &mut Silent, &mut details)
            };
            let seen: Vec<Vec<u8>> = (0..SEEN)
                .map(|number| bearer_request(&token(minter, number * 7_919 % size, number)))
                .collect::<Result<_>>()?;
            for head in &seen {
                let verdict = ask(head)?.verdict();
                if verdict != Verdict::Allow || ask_native(head) != Verdict::Allow {
                    bail!("the request under measurement is not allowed: {verdict:?}");
                }
            }
            let mut heads = seen.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("component, seen {algorithm}"), size), |bencher| {
                bencher.iter(|| black_box(heads.next().map(|head| ask(head))));
            });
            group.bench_function(BenchmarkId::new(format!("native, seen {algorithm}"), size), |bencher| {
                bencher.iter(|| black_box(heads.next().map(|head| ask_native(head))));
            });
            let first = new.first().context("a token")?;
            if ask(first)?.verdict() != Verdict::Allow {
                bail!("a new token is not allowed");
            }
            let mut heads = new.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("component, new {algorithm}"), size), |bencher| {
                bencher.iter(|| black_box(heads.next().map(|head| ask(head))));
            });
            group.bench_function(BenchmarkId::new(format!("native, new {algorithm}"), size), |bencher| {
                bencher.iter(|| black_box(heads.next().map(|head| ask_native(head))));
            });
        }
    }
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) {
    if let Err(error) = decide(criterion) {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
