//! `portcullis policy inspect`: what a file holds.

use std::fmt::Write as _;

use portcullis_model::policy::{Compiled, Tally};
use serde::Serialize;
use serde_json::{Map, Value};

use super::tallies;
use crate::document::Document;
use crate::error::Error;
use crate::input::{Inputs, Origin};
use crate::output;

const HELP: &str = "\
A compiled file is checked as loading would check it: length, checksum, bounds. A JSON source or delta is built in \
memory, so its faults show.

JSON, one object:
  form        compiled or json
  kind        policy or delta
  format      the version of that form
  revision    of the policy, or the one that the delta leads to
  applies_to  the revision that the delta applies to, null of a policy
  bytes       of the compiled form
  counts      services, endpoints, hosts, tenants, groups, users, secrets
  removed     the same of what a delta removes, null of a policy

Examples:
  portcullis policy inspect policy.ptcpol
  portcullis policy inspect policy.json --json";

/// Show what a policy, delta or source holds, and check it
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// A compiled policy or delta, or the JSON of one; `-` is standard input
    file: Origin,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Inspection {
    form: &'static str,
    kind: &'static str,
    format: u32,
    revision: u64,
    applies_to: Option<u64>,
    bytes: usize,
    counts: Map<String, Value>,
    removed: Option<Map<String, Value>>,
}

/// Runs the command.
///
/// # Errors
/// Where the file is none of these, is damaged, or has faults.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let document = Document::read(&args.file, &mut Inputs::default())?;
    let written_in = match &document {
        Document::Source(source) => Some(source.format),
        Document::Delta(delta) => Some(delta.format),
        Document::Compiled(_) => None,
    };
    let compiled = document.compile(&args.file)?;
    if args.json {
        return output::say_json(&Inspection::of(&compiled, written_in));
    }
    output::say(&text(&args.file, &compiled, written_in))
}

impl Inspection {
    fn of(compiled: &Compiled, written_in: Option<u32>) -> Inspection {
        let map = |count: fn(Tally) -> u32| -> Map<String, Value> {
            let counts = tallies(compiled.contents()).into_iter();
            counts.map(|(name, tally)| (name.to_owned(), count(tally).into())).collect()
        };
        let applies_to = compiled.applies_to();
        Inspection {
            form: if written_in.is_some() { "json" } else { "compiled" },
            kind: if applies_to.is_some() { "delta" } else { "policy" },
            format: written_in.unwrap_or(compiled.format()),
            revision: compiled.revision().0,
            applies_to: applies_to.map(|revision| revision.0),
            bytes: compiled.bytes().len(),
            counts: map(|tally| tally.put),
            removed: applies_to.map(|_| map(|tally| tally.removed)),
        }
    }
}

fn text(from: &Origin, compiled: &Compiled, written_in: Option<u32>) -> String {
    let kind = if compiled.applies_to().is_some() { "delta" } else { "policy" };
    let form = match written_in {
        Some(format) => format!("JSON of a {kind}, source format {format}, without faults"),
        None => format!("compiled {kind}, format {}, checksum and bounds are right", compiled.format()),
    };
    let mut rows = Vec::new();
    if let Some(revision) = compiled.applies_to() {
        rows.push(("applies to", format!("revision {revision}")));
    }
    rows.push(("revision", compiled.revision().to_string()));
    let compiled_to = if written_in.is_some() { " when compiled" } else { "" };
    rows.push(("bytes", format!("{}{compiled_to}", compiled.bytes().len())));
    rows.extend(tallies(compiled.contents()).map(|(name, tally)| match compiled.applies_to() {
        None => (name, tally.put.to_string()),
        Some(_) => (name, format!("{} put, {} removed", tally.put, tally.removed)),
    }));
    let mut text = format!("{from}: {form}\n");
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:10}  {value}");
    }
    text
}
