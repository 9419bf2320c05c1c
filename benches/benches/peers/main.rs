//! Portcullis beside other authorizers on the same installation and the same decisions: cedar-policy, regorus and casbin.
//!
//! Each has the tenants, their address ranges for an endpoint, the groups with their endpoints and methods, and the keys with
//! their expiry and allowlist in its own idiom. Each is asked with a request that was made beforehand in the form that it
//! takes: Portcullis with the head of the HTTP request, which it has to parse, route, and find and hash the key of; the others
//! with the key's id, the method, the endpoint and the address already told. So what is left out is left out in their favour.
//!
//! That all answer alike, and as they should, is asserted before anything is timed.

#![allow(clippy::print_stdout, reason = "a program for people")]

mod casbin;
mod cedar;
mod installation;
mod load;
mod portcullis;
mod rego;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use criterion::{BenchmarkId, Criterion, SamplingMode};
use portcullis_benches::{is_test, sizes};
use portcullis_model::source::Source;

use crate::casbin::Casbin;
use crate::cedar::Cedar;
use crate::installation::{Asked, covering, installation, timed};
use crate::portcullis::{Component, Native};
use crate::rego::{Interpreted, Machine};

/// The numbers of credentials.
const SIZES: [usize; 4] = [10, 1_000, 100_000, 1_000_000];

/// How many keys the answers are compared with.
const COVERED: usize = 64;
/// How many where a decision takes long.
const COVERED_SLOWLY: usize = 2;

/// Something that authorizes requests.
trait Gate: Sized {
    /// What people read, and the name of its benchmark.
    const NAME: &'static str;
    /// From how many credentials on a decision takes so long that few are timed.
    const SLOW_FROM: usize = usize::MAX;
    /// A request in the form that it takes.
    type Request;

    /// Makes it of the records.
    fn load(source: &Source) -> Result<Self>;
    fn request(&self, asked: &Asked) -> Result<Self::Request>;
    fn allows(&mut self, request: &Self::Request) -> Result<bool>;
}

fn measure<G: Gate>(criterion: &mut Criterion, size: usize) -> Result<()> {
    if !is_test() && !load::fits::<G>(size)? {
        return Ok(());
    }
    let source = installation(size)?;
    let mut gate = G::load(&source)?;
    drop(source);
    let is_slow = size >= G::SLOW_FROM;
    for asked in covering(size, if is_slow { COVERED_SLOWLY } else { COVERED }) {
        let request = gate.request(&asked)?;
        let allows = gate.allows(&request)?;
        ensure!(allows == asked.denied.is_none(), "{} answers {allows} to {asked:?} at {size}", G::NAME);
    }
    let requests = timed(size).map(|asked| gate.request(&asked)).collect::<Result<Vec<_>>>()?;
    let mut group = criterion.benchmark_group("peers");
    if is_slow {
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
    }
    let mut all = requests.iter().cycle();
    group.bench_function(BenchmarkId::new(G::NAME, size), |bencher| {
        bencher.iter(|| all.next().map(|request| black_box(gate.allows(black_box(request)))));
    });
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) -> Result<()> {
    for size in sizes(SIZES) {
        measure::<Component>(criterion, size)?;
        measure::<Native>(criterion, size)?;
        measure::<Cedar>(criterion, size)?;
        measure::<Interpreted>(criterion, size)?;
        measure::<Machine>(criterion, size)?;
        measure::<Casbin>(criterion, size)?;
    }
    Ok(())
}

/// Loads one gate, for [`load::fits`].
fn load_alone(name: &str, size: usize) -> Result<()> {
    match name {
        Component::NAME => load::alone::<Component>(size),
        Native::NAME => load::alone::<Native>(size),
        Cedar::NAME => load::alone::<Cedar>(size),
        Interpreted::NAME => load::alone::<Interpreted>(size),
        Machine::NAME => load::alone::<Machine>(size),
        Casbin::NAME => load::alone::<Casbin>(size),
        other => anyhow::bail!("`{other}` is no gate"),
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(load::ARGUMENT) {
        let name = arguments.next().context("a gate")?;
        return load_alone(&name, arguments.next().context("a size")?.parse()?);
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    all(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
