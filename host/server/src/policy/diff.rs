//! `portcullis policy diff`: the delta from one source to the next.

use portcullis_model::policy::{Compiled, Policy, build, build_delta};
use portcullis_model::source::{Delta, Source};

use super::changes::changes;
use crate::document;
use crate::error::Error;
use crate::input::{Inputs, Origin};
use crate::output::{self, Destination};

const HELP: &str = "\
Both files are JSON sources of one installation, NEW with the higher revision. Without options the changes are listed \
by id; `--json` prints the delta as a document, `-o` writes it compiled. `check --delta` takes either. The delta is \
tried on OLD before anything is written.

Examples:
  portcullis policy diff policy.json next.json
  portcullis policy diff policy.json next.json --json > next-delta.json
  portcullis policy diff policy.json next.json -o next.ptcdelta";

/// Show what changed between two sources, or make the delta
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// The JSON source to begin with; `-` is standard input
    old: Origin,
    /// The JSON source to arrive at; `-` is standard input
    new: Origin,
    /// Print the delta as JSON
    #[arg(long)]
    json: bool,
    /// Write the compiled delta; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<Destination>,
}

/// Runs the command.
///
/// # Errors
/// Where a source has faults, the sources do not follow each other, or the file cannot be written.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    if args.json && args.output == Some(Destination::Stdout) {
        return Err(Error::TwoOutputs);
    }
    let mut inputs = Inputs::default();
    let old = document::source(&args.old, &mut inputs)?;
    let new = document::source(&args.new, &mut inputs)?;
    let base = document::compile(&args.old, build(&old))?;
    document::compile(&args.new, build(&new))?;
    if old == new {
        // A delta leads to another revision, so there is none to write.
        return match (&args.output, args.json) {
            (None, false) => output::say("no change\n"),
            (Some(_), _) | (None, true) => Err(not_after(args, &old, &new)),
        };
    }
    if old.seed != new.seed {
        return Err(Error::SeedsDiffer { old: args.old.clone(), new: args.new.clone() });
    }
    if new.revision <= old.revision {
        return Err(not_after(args, &old, &new));
    }
    let delta = Delta::between(&old, &new);
    let compiled = document::compile(&args.new, build_delta(&delta))?;
    try_on(base, &compiled).map_err(|source| Error::Load { from: args.new.clone(), source })?;

    if let Some(to) = &args.output {
        output::write_bytes(to, compiled.bytes())?;
    }
    if args.json {
        return output::say_json(&delta);
    }
    let mut text = changes(&old, &new).to_string();
    let bytes = compiled.bytes().len();
    match &args.output {
        Some(to) => text.push_str(&format!("written to {to}: {bytes} bytes\n")),
        None => text.push_str(&format!("{bytes} bytes as a compiled delta\n")),
    }
    match &args.output {
        Some(Destination::Stdout) => output::say_aside(&text),
        Some(Destination::File(_)) | None => output::say(&text),
    }
}

fn not_after(args: &Args, old: &Source, new: &Source) -> Error {
    Error::RevisionNotAfter { old: args.old.clone(), new: args.new.clone(), from: old.revision, to: new.revision }
}

/// What a gate that has the old policy will do with the delta.
fn try_on(base: Compiled, delta: &Compiled) -> Result<(), portcullis_model::policy::LoadError> {
    Policy::open(base.into_bytes())?.prepare(delta.bytes().to_vec()).map(drop)
}
