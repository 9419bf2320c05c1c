//! What a process holds and how long it loads, by the number of its workers. Times are medians; the CPU time is a mean.
//!
//! The resident set counts a shared page once for each worker that has it; `Pss` counts it once for the process.
//!
//! ```sh
//! cargo run --release -p portcullis-benches --example memory             # a million credentials; 1, 2, 4 and 8 workers
//! cargo run --release -p portcullis-benches --example memory -- 1000 2   # a thousand, two workers
//! ```

use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portcullis_benches::{KEY_BYTES, key, now, request, source};
use portcullis_engine::{Config, Engine, Request};
use portcullis_model::policy::build;
use portcullis_model::verdict::Verdict;

const CREDENTIALS: usize = 1_000_000;
const WORKERS: [usize; 4] = [1, 2, 4, 8];
const LOADS: usize = 7;
/// Keys from all over the table, as in the benchmarks.
const KEYS: usize = 65_536;
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let arguments: Vec<usize> = std::env::args().skip(1).map(|argument| argument.parse()).collect::<Result<_, _>>()?;
    let credentials = arguments.first().copied().unwrap_or(CREDENTIALS);
    let base = std::env::temp_dir().join(format!("portcullis-base-{}", std::process::id()));
    match arguments.get(1) {
        None => {
            fs::write(&base, build(&source(credentials)?)?)?;
            println!("| workers | load | its CPU time | base | anonymous | shared | file | Pss | decision |");
            println!("|---|---|---|---|---|---|---|---|---|");
            let rows = WORKERS.iter().try_for_each(|workers| row_of_its_own(credentials, *workers, &base));
            fs::remove_file(base)?;
            rows
        }
        Some(workers) => row(credentials, *workers, std::env::var_os("PORTCULLIS_BASE").map(PathBuf::from)),
    }
}

/// A process for each row, so that none holds what another has freed.
fn row_of_its_own(credentials: usize, workers: usize, base: &Path) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args([credentials, workers].map(|argument| argument.to_string())).env("PORTCULLIS_BASE", base);
    ensure!(child.status()?.success(), "{workers} workers failed");
    Ok(())
}

fn row(credentials: usize, workers: usize, base: Option<PathBuf>) -> Result<()> {
    let workers = NonZeroUsize::new(workers).context("give one worker or more")?;
    let base = match base {
        Some(base) => fs::read(base)?,
        None => build(&source(credentials)?)?,
    };
    let size = base.len();
    let engine = Engine::new(&Config { workers, ..Config::default() })?;
    let base: Arc<[u8]> = base.into();
    let (mut loads, cpu) = (Vec::new(), cpu()?);
    for _ in 0..LOADS {
        let start = Instant::now();
        engine.load(Arc::clone(&base))?;
        loads.push(start.elapsed());
    }
    let cpu = (self::cpu()? - cpu) / u32::try_from(LOADS)?;
    drop(base);
    engine.confirm(now()?);
    let decision = decision(&engine, credentials)?;
    let held = fs::read_to_string("/proc/self/status")?;
    let held = |name| mib(&held, name);
    let pss = fs::read_to_string("/proc/self/smaps_rollup")?;
    println!(
        "| {workers} | {:.0} ms | {:.0} ms | {} MiB | {} MiB | {} MiB | {} MiB | {} MiB | {:.2} us |",
        median(&mut loads).as_secs_f64() * 1e3,
        cpu.as_secs_f64() * 1e3,
        size >> 20,
        held("RssAnon:")?,
        held("RssShmem:")?,
        held("RssFile:")?,
        mib(&pss, "Pss:")?,
        decision.as_secs_f64() * 1e6,
    );
    Ok(())
}

fn decision(engine: &Engine, credentials: usize) -> Result<Duration> {
    let (mut head, at) = request(&key(0))?;
    let step = (credentials / KEYS).max(1);
    let keys: Vec<_> = (0..KEYS).map(|number| key(number * 40_503 % KEYS * step % credentials)).collect();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for key in &keys {
            head.get_mut(at..at + KEY_BYTES).context("the key's place")?.copy_from_slice(key.as_bytes());
            let decision = engine.decide(Request::new(&head, now()?))?;
            ensure!(black_box(decision).verdict() == Verdict::Allow, "the request is allowed");
        }
        rounds.push(start.elapsed() / u32::try_from(KEYS)?);
    }
    Ok(median(&mut rounds))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The CPU time of this process, which neighbours on the machine change less than the time on the wall.
fn cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("the process's name")?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next().context("user time")??, ticks.next().context("system time")??);
    // A tick is a hundredth of a second.
    Ok(Duration::from_millis(10 * (user + system)))
}

fn mib(held: &str, name: &str) -> Result<u64> {
    let line = held.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
    let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024)
}
