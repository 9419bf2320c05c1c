//! Whether a gate can load so many credentials, found out in a process of its own, so that one that cannot harms nobody.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::Gate;
use crate::installation::installation;

/// What this program is started with to load one gate and end.
pub(crate) const ARGUMENT: &str = "load-alone";
/// How often a process that loads is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a load may take.
const MOST_TIME: Duration = Duration::from_secs(60);
/// How much resident memory it may take beyond that of the records.
const MOST_BYTES: u64 = 8 << 30;

/// Loads a gate as this process; tells when the records are there, and when the gate is.
pub(crate) fn alone<G: Gate>(size: usize) -> Result<()> {
    let source = installation(size)?;
    println!("records");
    // Whoever reads takes a moment to look at the memory of the records.
    std::io::stdin().lock().read_line(&mut String::new())?;
    let gate = G::load(&source)?;
    println!("loaded");
    std::io::stdin().lock().read_line(&mut String::new())?;
    drop(gate);
    Ok(())
}

/// Whether the gate loads that many credentials within the limits. Time and memory are printed and noted for the report.
pub(crate) fn fits<G: Gate>(size: usize) -> Result<bool> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([ARGUMENT, G::NAME, &size.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let outcome = watch(&mut child);
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    let outcome = outcome?;
    let (said, fits) = match &outcome {
        Outcome::Loaded { time, bytes } => (json!({ "seconds": time.as_secs_f64(), "bytes": bytes }), true),
        Outcome::Not(why) => (json!({ "failed": why }), false),
    };
    println!("peers/{}/{size}: {said}", G::NAME);
    note(G::NAME, size, said)?;
    Ok(fits)
}

enum Outcome {
    Loaded { time: Duration, bytes: u64 },
    Not(String),
}

fn watch(child: &mut Child) -> Result<Outcome> {
    let mut said = BufReader::new(child.stdout.take().context("it has standard output")?).lines();
    let mut input = child.stdin.take().context("it has standard input")?;
    said.next().context("it ended before it had records")??;
    let of_records = memory(child.id(), "VmRSS:")?;
    let (sender, loaded) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || sender.send(said.next().and_then(Result::ok)));
    let start = Instant::now();
    std::io::Write::write_all(&mut input, b"\n")?;
    let outcome = loop {
        // INVARIANT: the process is not waited for before this returns, so its memory can be read.
        match loaded.recv_timeout(LOOK_EVERY) {
            Ok(Some(_)) => {
                let bytes = memory(child.id(), "VmHWM:")?.saturating_sub(of_records);
                break Outcome::Loaded { time: start.elapsed(), bytes };
            }
            Ok(None) => break Outcome::Not("it failed".to_owned()),
            Err(_) => {}
        }
        if start.elapsed() > MOST_TIME {
            break Outcome::Not(format!("more than {} s", MOST_TIME.as_secs()));
        }
        if memory(child.id(), "VmRSS:").is_ok_and(|bytes| bytes.saturating_sub(of_records) > MOST_BYTES) {
            break Outcome::Not(format!("more than {} GiB", MOST_BYTES >> 30));
        }
    };
    let _ = child.kill();
    let _ = reader.join();
    Ok(outcome)
}

/// A figure of `/proc/PID/status` in bytes.
fn memory(id: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such figure")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// Adds to `peers.json` in the folder for what tests and benchmarks leave.
fn note(name: &str, size: usize, said: Value) -> Result<()> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers.json");
    let mut all: Value = fs::read(&path).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or(json!({}));
    let entries = all.as_object_mut().context("an object")?;
    entries.insert(format!("{name}/{size}"), said);
    Ok(fs::write(path, all.to_string())?)
}
