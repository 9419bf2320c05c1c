//! `portcullis decision`: what the gate decided of requests.

use clap::Subcommand;
use portcullis_model::id::Id;
use serde_json::Value;

use super::table::{Column, at};
use super::{Common, Pages, Session};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
A client that is denied is told the id of the decision and nothing of its reason. Here is the reason.

Examples:
  portcullis decision list --denied --limit 20
  portcullis decision show 01k9x2m4q7c3d";

/// Decisions: which requests were allowed or denied, and why
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
    /// List decisions, the newest first
    #[command(
        after_long_help = "A line with a gap stands for decisions that were made and could not be recorded.\n\nExamples:\n  portcullis decision list --denied\n  portcullis decision list --reason address-not-in-endpoint --limit 20"
    )]
    List {
        /// Denials alone
        #[arg(long)]
        denied: bool,
        /// Denials for this reason alone, such as credential-revoked
        #[arg(long, value_name = "NAME")]
        reason: Option<String>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Show a decision
    #[command(after_long_help = "Examples:\n  portcullis decision show 01k9x2m4q7c3d")]
    Show {
        /// The decision, as the client was told
        id: Id,
    },
}

const LIST: &[Column] = &[
    Column("id", |decision| match at(decision, "/gap").is_empty() {
        true => at(decision, "/id"),
        false => vec![[at(decision, "/first"), at(decision, "/last")].concat().join("..")],
    }),
    Column("at", |decision| at(decision, "/at")),
    Column("verdict", |decision| match at(decision, "/gap").pop() {
        Some(count) => vec![format!("gap of {count}")],
        None => vec![[at(decision, "/verdict"), at(decision, "/status")].concat().join(" ")],
    }),
    Column("reason", |decision| at(decision, "/reason")),
    Column("tenant", |decision| at(decision, "/facts/tenant")),
    Column("key", |decision| at(decision, "/facts/credential/id")),
    Column("client", |decision| at(decision, "/facts/client")),
    Column("request", request),
];

const PAGE: &[Column] = &[
    Column("id", |decision| at(decision, "/id")),
    Column("at", |decision| at(decision, "/at")),
    Column("verdict", |decision| vec![[at(decision, "/verdict"), at(decision, "/status")].concat().join(" ")]),
    Column("reason", |decision| at(decision, "/reason")),
    Column("which is", |decision| at(decision, "/reason_text")),
    Column("request", request),
    Column("client", |decision| at(decision, "/facts/client")),
    Column("service", |decision| at(decision, "/facts/service")),
    Column("endpoint", |decision| at(decision, "/facts/endpoint")),
    Column("application", |decision| at(decision, "/facts/application")),
    Column("tenant", |decision| at(decision, "/facts/tenant")),
    Column("key", |decision| at(decision, "/facts/credential/id")),
    Column("kind", |decision| at(decision, "/facts/credential/kind")),
    Column("proof", |decision| at(decision, "/facts/credential/proof")),
    Column("signature", |decision| at(decision, "/facts/signature")),
    Column("observed", |decision| at(decision, "/observed")),
    Column("revision", |decision| at(decision, "/facts/revision")),
];

/// Method, host and path, as far as they are known. A query is not recorded.
fn request(decision: &Value) -> Vec<String> {
    let url = [at(decision, "/facts/host"), at(decision, "/facts/path")].concat().concat();
    let words: Vec<String> = at(decision, "/facts/method").into_iter().chain(Some(url)).collect();
    Some(words.join(" ").trim().to_owned()).filter(|request| !request.is_empty()).into_iter().collect()
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    match &args.command {
        Command::List { denied, reason, pages } => {
            let mut call = Call::get(path(&["decisions"]));
            if *denied {
                call = call.with("denied", true);
            }
            if let Some(reason) = reason {
                call = call.with("reason", reason);
            }
            session.pages(&call, pages, LIST, "no decisions")
        }
        Command::Show { id } => session.show(path(&["decisions", id.as_str()]), PAGE),
    }
}
