//! What a start costs with many credentials, part by part: reading the records, building the policy, all of it. And whether
//! a compaction of as many delays requests.
//!
//! ```sh
//! cargo run --release -p portcullis-benches --example compile               # 1,000,000 credentials
//! cargo run --release -p portcullis-benches --example compile -- 100000 DIR # keeps the database in DIR for the next time
//! ```

mod delays;
mod stored;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use portcullis_benches::{now, source};
use portcullis_control::{Control, DATABASE};
use portcullis_engine::{Config, Engine};
use portcullis_model::policy::build;
use portcullis_model::time::UnixTime;

/// How many credentials where nothing is said.
const USUAL: usize = 1_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (credentials, folder) = match arguments.as_slice() {
        [] => (USUAL, None),
        [number] => (number.parse().context("a number of credentials")?, None),
        [number, folder] => (number.parse().context("a number of credentials")?, Some(PathBuf::from(folder))),
        _ => bail!("give at most a number of credentials and a folder"),
    };
    let temporary = tempfile::tempdir()?;
    let folder = folder.unwrap_or_else(|| temporary.path().to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if !folder.join(DATABASE).exists() {
            let filling = Instant::now();
            stored::fill(&folder, &stored::as_imported(source(credentials)?)?).await?;
            eprintln!("{credentials} credentials written in {:.1} s", filling.elapsed().as_secs_f64());
        }
        let store = stored::open(&folder).await?;
        let reading = Instant::now();
        let snapshot = store.snapshot().await?;
        println!("read {} records: {:.2} s", snapshot.credentials.len(), reading.elapsed().as_secs_f64());
        store.close().await;
        drop(snapshot);

        let engine = Arc::new(Engine::new(&Config { workers: NonZeroUsize::MIN, ..Config::default() })?);
        let starting = Instant::now();
        let control = Control::open(&folder, Arc::clone(&engine), clock, Box::new(|_| {})).await?;
        println!("a start, one worker: {:.2} s", starting.elapsed().as_secs_f64());
        println!("at the most {} MB", peak_mb()?);

        let source = stored::as_imported(source(credentials)?)?;
        for _ in 0..3 {
            let building = Instant::now();
            let base = build(&source)?;
            println!("build {} bytes: {:.2} s", base.len(), building.elapsed().as_secs_f64());
        }
        delays::measure(&control, &engine, &source).await?;
        control.close().await;
        Ok(())
    })
}

fn peak_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

fn clock() -> UnixTime {
    now().unwrap_or_default()
}
