//! `portcullis audit`: who did what.

use clap::Subcommand;
use portcullis_model::id::Id;
use serde_json::Value;

use super::table::{self, Column, at};
use super::{Common, Pages, Session};
use crate::Exit;
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
Every change and every refused command is an entry. Each entry holds the hash of the one before it, so that one which \
was changed or taken out later is found.

Examples:
  portcullis audit list
  portcullis audit list acme --limit 10
  portcullis audit verify";

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
        after_long_help = "The hashes and details of entries are in the JSON.\n\nExamples:\n  portcullis audit list\n  portcullis audit list acme --limit 10\n  portcullis audit list --all --json"
    )]
    List {
        /// Of this tenant alone
        tenant: Option<Id>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Compute every hash anew and find what was changed since
    #[command(
        after_long_help = "Exit codes:\n  0  every chain is intact\n  1  one is not, or the server refused\n  2  error: nobody knows\n\nExamples:\n  portcullis audit verify"
    )]
    Verify,
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

const CHAINS: &[Column] = &[
    Column("tenant", |chain| at(chain, "/tenant")),
    Column("entries", |chain| at(chain, "/rows")),
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
    let session = Session::open(&args.common)?;
    match &args.command {
        Command::List { tenant, pages } => {
            let path = match tenant {
                Some(tenant) => path(&["tenants", tenant.as_str(), "audit"]),
                None => path(&["audit"]),
            };
            session.pages(&Call::get(path), pages, LIST, "no entries").map(|()| Exit::Success)
        }
        Command::Verify => verify(&session),
    }
}

fn verify(session: &Session) -> Result<Exit, Error> {
    let found = session.send(&Call::get(path(&["audit", "verification"])))?.body;
    // Anything but a plain yes counts as a no.
    let is_intact = found.pointer("/intact") == Some(&Value::Bool(true));
    session.say(&found, || {
        let verdict = if is_intact { "every chain is intact" } else { "NOT INTACT" };
        let chains = found.pointer("/chains").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let unproven = at(&found, "/unproven").concat();
        format!("{verdict}\n\n{}\nnot proven: {}\n", table::list(CHAINS, chains), crate::output::Visible(&unproven))
    })?;
    Ok(if is_intact { Exit::Success } else { Exit::Refused })
}
