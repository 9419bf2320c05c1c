//! `portcullis decision`: what the gate decided of requests.

use clap::Subcommand;
use portcullis_model::id::Id;
use serde_json::Value;

use super::table::{self, Column, at};
use super::{Common, Pages, Session};
use crate::client::{Call, path};
use crate::error::Error;
use crate::output::Visible;

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
        /// Those alone of which something was observed that enforcing would have denied
        #[arg(long, conflicts_with_all = ["denied", "reason"])]
        observed: bool,
        /// Denials for this reason alone, such as credential-revoked
        #[arg(long, value_name = "NAME")]
        reason: Option<String>,
        /// Of this tenant's keys alone
        #[arg(long)]
        tenant: Option<Id>,
        #[command(flatten)]
        pages: Pages,
    },
    /// Show a decision, what would be decided now step by step, and the call if it failed
    #[command(
        after_long_help = "Examples:\n  portcullis decision show 01k9x2m4q7c3d\n  portcullis decision show 01k9x2m4q7c3d --tenant acme"
    )]
    Show {
        /// The decision, as the client was told
        id: Id,
        /// The tenant whose key it was, for its own administrators
        #[arg(long)]
        tenant: Option<Id>,
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
    Column("observed", |decision| at(decision, "/observed")),
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
    Column("then and now", |decision| at(decision, "/summary")),
];

/// Method, host and path, as far as they are known. A query is not recorded.
fn request(decision: &Value) -> Vec<String> {
    let url = [at(decision, "/facts/host"), at(decision, "/facts/path")].concat().concat();
    let words: Vec<String> = at(decision, "/facts/method").into_iter().chain(Some(url)).collect();
    Some(words.join(" ").trim().to_owned()).filter(|request| !request.is_empty()).into_iter().collect()
}

fn folder(tenant: Option<&Id>) -> Vec<&str> {
    match tenant {
        Some(tenant) => vec!["tenants", tenant.as_str(), "decisions"],
        None => vec!["decisions"],
    }
}

/// The decision, the steps of judging it now, and the call where it failed and was kept.
fn page(decision: &Value) -> String {
    let mut text = table::page(PAGE, decision);
    let steps = decision.pointer("/now/steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !steps.is_empty() {
        text += "\nSteps now\n";
        for step in steps {
            let word = |pointer: &str| at(step, pointer).concat();
            let (outcome, check, detail) = (word("/outcome"), word("/check"), word("/detail"));
            let (outcome, check) = (Visible(&outcome).to_string(), Visible(&check).to_string());
            text += &format!("  {outcome:8}  {check:16}  {}\n", Visible(&detail));
        }
    }
    if let Some(call) = decision.get("call").filter(|call| !call.is_null()) {
        text += "\nThe call\n";
        text += &table::page(super::error_log::PAGE, call);
    }
    text
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    match &args.command {
        Command::List { denied, observed, reason, tenant, pages } => {
            let mut call = Call::get(path(&folder(tenant.as_ref())));
            if *denied {
                call = call.with("denied", true);
            }
            if *observed {
                call = call.with("observed", true);
            }
            if let Some(reason) = reason {
                call = call.with("reason", reason);
            }
            session.pages(&call, pages, LIST, "no decisions")
        }
        Command::Show { id, tenant } => {
            let mut segments = folder(tenant.as_ref());
            segments.push(id.as_str());
            let answer = session.send(&Call::get(path(&segments)))?;
            session.say(&answer.body, || page(&answer.body))
        }
    }
}
