//! How many instructions a decision takes, counted by callgrind: a figure that repeats where times do not.
//!
//! Policy and request are made beforehand and read from files by a program of its own under valgrind, this one again, so
//! that what is counted is next to nothing but decisions. The counts of two runs are taken from each other, so that the rest
//! goes away. SHA-256 is counted in software, as valgrind knows no instructions for it.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use portcullis_eval::{Input, Silent};

use crate::cases::Case;
use crate::now;

/// What a program that counts is started with to be what is counted.
pub const ARGUMENT: &str = "decide-for-callgrind";
/// Decisions in the shorter run.
const FEW: u64 = 100;
/// Decisions in the longer run.
const MANY: u64 = 1_100;

/// Instructions of one decision on the first request of a case, in the native build.
///
/// # Errors
/// Where valgrind is missing, or what was started with [`ARGUMENT`] does not call [`decide`].
pub fn count(case: &Case) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("base"), &case.base)?;
    fs::write(folder.path().join("head"), case.head()?)?;
    for (number, sheet) in case.sheets.iter().enumerate() {
        fs::write(folder.path().join(format!("sheet-{number}")), sheet)?;
    }
    let [few, many] = [FEW, MANY].map(|times| run(folder.path(), times));
    Ok((many? - few?) / (MANY - FEW))
}

/// Runs this program under callgrind.
fn run(folder: &Path, times: u64) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    valgrind.arg(ARGUMENT).arg(folder).arg(times.to_string());
    let output = valgrind
        .output()
        .context("valgrind is missing: install it, on Debian and Ubuntu with `apt-get install valgrind`")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "under valgrind: {told}");
    let collected = told.lines().find_map(|line| line.split_once("Collected : "));
    Ok(collected.context("callgrind tells no count")?.1.trim().parse()?)
}

/// Decides as often as the arguments say: what a program does that is started with [`ARGUMENT`].
///
/// # Errors
/// Where the arguments are not those of [`count`], or the request is denied.
pub fn decide(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let folder = arguments.next().context("a folder")?;
    let folder = Path::new(&folder);
    let times: u64 = arguments.next().context("a number of decisions")?.parse()?;
    let read = |name: &str| fs::read(folder.join(name));
    let sheets = (0..).map_while(|number| read(&format!("sheet-{number}")).ok()).collect();
    // One decision is made here to see that it is allowed.
    let case = Case { base: read("base")?.into(), sheets, heads: vec![read("head")?] };
    let (gate, head, now) = (case.gate()?, case.head()?, now()?);
    let mut details = Vec::new();
    for _ in 0..times {
        let input = Input { head: black_box(head), now, body_digest: None, replay: None };
        black_box(gate.decide(input, &mut Silent, &mut details));
    }
    Ok(())
}
