//! Measures everything that is owed and writes it down, with the budgets beside the figures: `benches/results.md` and its plots.
//!
//! ```sh
//! cargo run --release -p portcullis-benches --example report                    # about twelve minutes
//! cargo run --release -p portcullis-benches --example report -- --short         # rougher, about six
//! cargo run --release -p portcullis-benches --example report -- --ten-million   # that many credentials too; 16 GiB of memory
//! cargo run --release -p portcullis-benches --example report -- --keep          # writes again what criterion measured last
//! ```
//!
//! What criterion can measure it measures, by `cargo bench`; the rest is measured here.

#![allow(clippy::cast_precision_loss, clippy::print_stdout, reason = "a program for people")]

mod cores;
mod estimates;
mod latency;
mod machine;
mod plots;
mod tables;
mod ten_million;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use portcullis_benches::instructions::{self, count};
use portcullis_benches::source;
use portcullis_benches::sweeps::Sweep;
use portcullis_model::policy::build;

use estimates::Estimates;
use tables::{Ends, Measured};

/// How it was asked for.
#[derive(Default)]
struct Options {
    short: bool,
    keep: bool,
    ten_million: bool,
}

impl Options {
    fn new(arguments: impl Iterator<Item = String>) -> Result<Options> {
        let mut options = Options::default();
        for argument in arguments {
            let option = match argument.as_str() {
                "--short" => &mut options.short,
                "--keep" => &mut options.keep,
                "--ten-million" => &mut options.ten_million,
                other => bail!("`{other}` is none of `--short`, `--keep` and `--ten-million`"),
            };
            *option = true;
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == instructions::ARGUMENT).is_some() {
        return instructions::decide(arguments);
    }
    let options = Options::new(arguments)?;
    let target = target()?;
    // First, so that memory that is not there shows before anything else took its time.
    let ten_million = options.ten_million.then(ten_million::measure).transpose()?;
    if !options.keep {
        bench(&target, options.short)?;
    }
    let rounds = if options.short { 5 } else { 20 };
    let measured = Measured {
        estimates: Estimates::read(&target)?,
        latency: latency::measure(rounds)?,
        cores: cores::measure(rounds)?,
        allocations: allocations()?,
        instructions: sweep_instructions(options.short)?,
        ten_million,
        base_bytes: build(&source(1_000_000)?)?.len(),
        machine: machine::describe()?,
        short: options.short,
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = tables::write(&measured)?;
    println!("\n{text}");
    std::fs::write(folder.join("results.md"), text)?;
    plots::sweeps(&measured.estimates, &folder.join("results-sweeps.svg"))?;
    plots::peers(&measured.estimates, &folder.join("results-peers.svg"))
}

/// The folder that this was built in.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(3).context("a program stands in `target/release/examples`")?.to_owned())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Has criterion measure.
fn bench(target: &Path, short: bool) -> Result<()> {
    let (warm_up, measurement) = if short { ("0.2", "0.5") } else { ("0.5", "1.5") };
    let mut bench = cargo();
    bench.args(["bench", "-p", "portcullis-benches", "--", "--noplot"]);
    bench.args(["--warm-up-time", warm_up, "--measurement-time", measurement]);
    bench.env("CRITERION_HOME", target.join("criterion"));
    ensure!(bench.status()?.success(), "the benchmarks failed");
    Ok(())
}

/// The table of another program, whose allocator counts.
fn allocations() -> Result<String> {
    let mut run = cargo();
    run.args(["run", "--release", "-p", "portcullis-benches", "--example", "allocations"]);
    let output = run.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Instructions of a decision at the smallest and the largest size of each sweep.
fn sweep_instructions(short: bool) -> Result<Vec<Ends>> {
    let most = if short { 10_000 } else { usize::MAX };
    let of = |sweep: Sweep| {
        println!("instructions: {}", sweep.name());
        let sizes: Vec<_> = sweep.sizes().filter(|size| *size <= most).collect();
        let counted = |size: Option<&usize>| -> Result<_> {
            let size = *size.context("there are sizes")?;
            Ok((size, count(&sweep.case(size, 1)?)?))
        };
        Ok(Ends { sweep, least: counted(sizes.first())?, most: counted(sizes.last())? })
    };
    Sweep::ALL.into_iter().map(of).collect()
}
