//! `portcullis audit`: who did what, and how anybody can check that it is all there.

mod evidence;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use portcullis_control::PublicKey;
use portcullis_model::id::Id;
use serde_json::Value;

use super::table::{self, Column, at};
use super::{Common, Pages, Session};
use crate::Exit;
use crate::client::{Call, path};
use crate::error::Error;
use crate::evidence::unhex;
use crate::output::Destination;

const HELP: &str = "\
Every change and every refused command is an entry. Each entry holds the hash of the one before it, and how far every \
tenant's entries have come is signed regularly. What was changed, taken out, moved, cut off or made anew later is \
found, by the server itself or by anybody who has an exported log.

Examples:
  portcullis audit list acme --object-kind tenant-key --limit 10
  portcullis audit verify
  portcullis audit export -o audit.jsonl
  portcullis audit verify --export audit.jsonl --witness last-month.jsonl";

/// The audit: who did what, from where
#[derive(clap::Args)]
#[command(after_long_help = HELP, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List entries, the newest first
    #[command(
        after_long_help = "The hashes and details of entries are in the JSON.\n\nExamples:\n  portcullis audit list\n  portcullis audit list acme --limit 10\n  portcullis audit list acme --object-kind tenant-key --object PTeN2DHp\n  portcullis audit list --outcome refused --from 2026-11-01 --until 2026-11-30\n  portcullis audit list --all --json"
    )]
    List {
        /// Of this tenant alone
        tenant: Option<Id>,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        pages: Pages,
    },
    /// Compute every hash anew and find what was changed since
    #[command(after_long_help = VERIFY_HELP)]
    Verify {
        /// Check this exported log, without a server
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
        /// An earlier export or checkpoint that somebody else has kept
        #[arg(long, value_name = "FILE")]
        witness: Option<PathBuf>,
        /// The key that must have signed, 64 hex digits
        #[arg(long, value_name = "HEX", value_parser = public_key)]
        public_key: Option<PublicKey>,
    },
    /// Write entries as JSON lines, the oldest first, behind a signed checkpoint
    #[command(
        after_long_help = "The first line says whose entries they are, the second is a checkpoint, each further one is an entry with\neverything that its hash is computed from. Keep the file where the server's operators cannot change it: it\nis a witness.\n\nExamples:\n  portcullis audit export -o audit.jsonl\n  portcullis audit export --tenant acme > acme.jsonl"
    )]
    Export {
        /// Of this tenant alone
        #[arg(long)]
        tenant: Option<Id>,
        /// Where to write it [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<Destination>,
    },
    /// Write a signed checkpoint: a small witness
    #[command(
        after_long_help = "Keep it where the server's operators cannot change it.\n\nExamples:\n  portcullis audit checkpoint -o 2026-11-24.checkpoint"
    )]
    Checkpoint {
        /// Where to write it [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<Destination>,
    },
}

const VERIFY_HELP: &str = "\
Without options the server checks its own database. With --witness its log is fetched and checked here, against what
the witness has; with --export a file is, and no server is called. What cannot be proven is told each time.

Exit codes:
  0  every chain is intact
  1  one is not, or the server refused
  2  error: nobody knows

Examples:
  portcullis audit verify
  portcullis audit verify --witness 2026-11-24.checkpoint
  portcullis audit verify --export audit.jsonl --public-key $KEY";

/// Which entries are listed.
#[derive(clap::Args)]
struct Filter {
    /// About records of this kind, such as tenant-key
    #[arg(long, value_name = "KIND")]
    object_kind: Option<String>,
    /// About the record of this id
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// What was done or wanted, such as create
    #[arg(long, value_name = "WORD")]
    action: Option<String>,
    /// How it ended
    #[arg(long)]
    outcome: Option<Outcome>,
    /// At this time or later, such as 2026-11-24
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time; a bare date is counted in
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Outcome {
    Done,
    Refused,
}

impl Filter {
    fn narrow(&self, call: Call) -> Call {
        let outcome = self.outcome.map(|outcome| match outcome {
            Outcome::Done => "done",
            Outcome::Refused => "refused",
        });
        let values = [
            ("object_kind", self.object_kind.as_deref()),
            ("object", self.object.as_deref()),
            ("action", self.action.as_deref()),
            ("outcome", outcome),
            ("from", self.from.as_deref()),
            ("until", self.until.as_deref()),
        ];
        values.into_iter().fold(call, |call, (name, value)| match value {
            Some(value) => call.with(name, value),
            None => call,
        })
    }
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    unhex(text).ok_or_else(|| "it is not 64 hex digits: `portcullis audit verify --json` shows a server's".to_owned())
}

const LIST: &[Column] = &[
    Column("at", |entry| at(entry, "/at")),
    Column("tenant", |entry| at(entry, "/tenant")),
    Column("number", |entry| at(entry, "/number")),
    Column("by", |entry| at(entry, "/by")),
    Column("from", |entry| vec![[at(entry, "/channel"), at(entry, "/address")].concat().join(" ")]),
    Column("action", |entry| vec![[at(entry, "/action"), at(entry, "/object_kind")].concat().join(" ")]),
    Column("object", |entry| at(entry, "/object")),
    Column("outcome", |entry| {
        let code = at(entry, "/code").into_iter().map(|code| format!("({code})"));
        vec![at(entry, "/outcome").into_iter().chain(code).collect::<Vec<_>>().join(" ")]
    }),
    Column("revision", |entry| at(entry, "/revision")),
];

const ABOUT: &[Column] = &[
    Column("checkpoint", |found| {
        let words = ["number", "at", "state"].map(|field| at(found, &format!("/checkpoint/{field}")).concat());
        Some(words.join(" ").trim().to_owned()).filter(|text| !text.is_empty()).into_iter().collect()
    }),
    Column("key", |found| at(found, "/public_key")),
    Column("witness", |found| {
        let same = found.pointer("/witness/same_key") == Some(&Value::Bool(true));
        let words = ["checkpoint", "at"].map(|field| at(found, &format!("/witness/{field}")).concat()).join(" ");
        let of = if same { "" } else { ", OF ANOTHER KEY" };
        Some(words + of).filter(|_| found.pointer("/witness").is_some()).into_iter().collect()
    }),
];

const CHAINS: &[Column] = &[
    Column("tenant", |chain| at(chain, "/tenant")),
    Column("entries", |chain| at(chain, "/rows")),
    Column("removed", |chain| at(chain, "/removed")),
    Column("state", |chain| {
        let fault = at(chain, "/fault");
        if fault.is_empty() { vec!["intact".to_owned()] } else { fault }
    }),
    Column("newest hash", |chain| at(chain, "/newest")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    match &args.command {
        Command::List { tenant, filter, pages } => {
            let path = match tenant {
                Some(tenant) => path(&["tenants", tenant.as_str(), "audit"]),
                None => path(&["audit"]),
            };
            let call = filter.narrow(Call::get(path));
            Session::open(&args.common)?.pages(&call, pages, LIST, "no entries").map(|()| Exit::Success)
        }
        Command::Verify { export: Some(export), witness, public_key } => {
            let found = evidence::verify_file(export, witness.as_deref(), public_key.as_ref())?;
            told(args.common.json, &found)
        }
        Command::Verify { export: None, witness: Some(witness), public_key } => {
            let found = evidence::verify_server(&Session::open(&args.common)?, witness, public_key.as_ref())?;
            told(args.common.json, &found)
        }
        Command::Verify { export: None, witness: None, public_key } => {
            let mut found = Session::open(&args.common)?.send(&Call::get(path(&["audit", "verification"])))?.body;
            evidence::hold_to(&mut found, public_key.as_ref());
            told(args.common.json, &found)
        }
        Command::Export { tenant, output } => {
            let to = output.clone().unwrap_or(Destination::Stdout);
            evidence::export(&Session::open(&args.common)?, tenant.as_ref(), &to).map(|()| Exit::Success)
        }
        Command::Checkpoint { output } => {
            let to = output.clone().unwrap_or(Destination::Stdout);
            evidence::checkpoint(&Session::open(&args.common)?, &to).map(|()| Exit::Success)
        }
    }
}

/// Tells what was found, and whether it is good.
fn told(json: bool, found: &Value) -> Result<Exit, Error> {
    // Anything but a plain yes counts as a no.
    let is_intact = found.pointer("/intact") == Some(&Value::Bool(true));
    if json {
        crate::output::say_json(found)?;
    } else {
        crate::output::say(&page(found, is_intact))?;
    }
    Ok(if is_intact { Exit::Success } else { Exit::Refused })
}

fn page(found: &Value, is_intact: bool) -> String {
    let verdict = if is_intact { "every chain is intact" } else { "NOT INTACT" };
    let chains = found.pointer("/chains").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let about = table::page(ABOUT, found);
    let unproven = at(found, "/unproven").concat();
    let space = if about.is_empty() { "" } else { "\n" };
    format!(
        "{verdict}\n\n{}{space}{about}not proven: {}\n",
        table::list(CHAINS, chains),
        crate::output::Visible(&unproven)
    )
}
