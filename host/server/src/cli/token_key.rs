//! `portcullis token-key`: the keys that sign access tokens.

use clap::Subcommand;
use serde_json::json;

use super::confirm::{Consent, Question};
use super::table::{self, Column, at};
use super::{Common, Session};
use crate::client::{Call, path};
use crate::error::Error;
use crate::output::Visible;

const HELP: &str = "\
A new key is published for ten minutes before it signs, so that whoever verifies tokens elsewhere has it by then. The one \
before stays until its last token is over.

Examples:
  portcullis token-key list
  portcullis token-key rotate
  portcullis token-key rotate --at-once
  portcullis token-key retire kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

/// Keys that sign access tokens: list, rotate, retire
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
    /// List the keys, in the order in which they sign
    #[command(after_long_help = "Examples:\n  portcullis token-key list")]
    List,
    /// Have another key sign
    #[command(after_long_help = "Examples:\n  portcullis token-key rotate\n  portcullis token-key rotate --at-once")]
    Rotate {
        /// Now, not in ten minutes: for when the present key has got out. Retire that one then
        #[arg(long)]
        at_once: bool,
    },
    /// Take a key out of use before its time: its tokens are dead at once
    #[command(
        after_long_help = "Examples:\n  portcullis token-key retire kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k --yes"
    )]
    Retire {
        /// The key's id
        kid: String,
        #[command(flatten)]
        consent: Consent,
    },
}

const LIST: &[Column] = &[
    Column("kid", |key| at(key, "/kid")),
    Column("algorithm", |key| at(key, "/algorithm")),
    Column("role", |key| at(key, "/role")),
    Column("signs from", |key| at(key, "/signs_from")),
    Column("removed at", |key| at(key, "/removed_at")),
    Column("created", |key| at(key, "/created_at")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let keys = path(&["token-keys"]);
    let shown = |keys: &serde_json::Value| {
        let items = keys.get("items").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        table::list(LIST, items)
    };
    match &args.command {
        Command::List => {
            let keys = session.send(&Call::get(keys))?.body;
            session.say(&keys, || shown(&keys))
        }
        Command::Rotate { at_once } => {
            let call = Call::post(path(&["token-keys", "rotate"]), &json!({ "at_once": at_once }));
            let keys = session.send(&call)?.body;
            session.say(&keys, || format!("another key signs access tokens\n{}", shown(&keys)))
        }
        Command::Retire { kid, consent } => {
            let call = Call::post(path(&["token-keys", kid, "retire"]), &json!({}));
            session.remove(call, consent, Question::YesOrNo, &format!("retired token key `{}`", Visible(kid)))
        }
    }
}
