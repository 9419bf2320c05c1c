//! `portcullis policy build`: a source compiled into a file.

use std::path::Path;
use std::time::Instant;

use portcullis_model::policy::build;

use super::tallies;
use crate::document;
use crate::error::Error;
use crate::input::{Inputs, Origin};
use crate::output::{self, Destination};

const HELP: &str = "\
The same records give the same bytes, in whatever order the source lists them. The file appears at once and whole, \
or the one that was there stays.

Examples:
  portcullis policy build policy.json
  portcullis policy build policy.json -o /var/lib/portcullis/policy.ptcpol
  generate-source | portcullis policy build - -o policy.ptcpol";

/// The ending of a compiled policy's name.
const EXTENSION: &str = "ptcpol";

/// Compile a JSON source
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// The JSON source; `-` is standard input
    source: Origin,
    /// Where to write; `-` is standard output [default: SOURCE with the ending .ptcpol]
    #[arg(short, long, value_name = "FILE")]
    output: Option<Destination>,
}

/// Runs the command.
///
/// # Errors
/// Where the source has faults, or the file cannot be written.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let to = destination(args)?;
    let source = document::source(&args.source, &mut Inputs::default())?;
    let start = Instant::now();
    let compiled = document::compile(&args.source, build(&source))?;
    let took = start.elapsed();
    output::write_bytes(&to, compiled.bytes())?;
    let counts: Vec<_> =
        tallies(compiled.contents()).into_iter().map(|(name, tally)| format!("{name} {}", tally.put)).collect();
    let (revision, bytes, counts) = (compiled.revision(), compiled.bytes().len(), counts.join(", "));
    let text = format!("written to {to}: revision {revision}, {bytes} bytes, built in {took:.1?}\n{counts}\n");
    match to {
        Destination::Stdout => output::say_aside(&text),
        Destination::File(_) => output::say(&text),
    }
}

fn destination(args: &Args) -> Result<Destination, Error> {
    let to = match (&args.output, &args.source) {
        (Some(given), _) => given.clone(),
        (None, Origin::Stdin) => return Err(Error::NoOutputName),
        (None, Origin::File(path)) => Destination::File(path.with_extension(EXTENSION)),
    };
    if let (Destination::File(to), Origin::File(from)) = (&to, &args.source)
        && is_same(to, from)
    {
        return Err(Error::OutputIsSource { from: args.source.clone() });
    }
    Ok(to)
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        // What is not there yet is no source; a source that is not there is said when it is read.
        (Err(_), _) | (_, Err(_)) => false,
    }
}
