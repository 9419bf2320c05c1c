//! `portcullis client`: OAuth clients.

use std::path::PathBuf;

use clap::Subcommand;
use portcullis_model::id::Id;
use portcullis_model::time::Expiry;
use serde::Serialize;
use serde_json::json;

use super::confirm::{Consent, Question};
use super::issued::{self, Outlets, Reserved};
use super::nodes::{self, Waiting};
use super::table::{self, Column, at};
use super::value::Expiration;
use super::{Common, Pages, Session, with_filters};
use crate::Exit;
use crate::client::{Call, path};
use crate::error::Error;
use crate::output::Visible;

const HELP: &str = "\
A client is a program that gets access tokens with its id and secret (OAuth client credentials). Its scopes are those \
that endpoints ask for. It is not edited and not made active again: make a new one and revoke the old one.

Examples:
  portcullis client create acme --name 'Event pipeline' --purpose 'Nightly import' --scope async-events \\
      --audience https://api.shop.example
  portcullis client list acme
  portcullis client tokens acme c4Tn8wQz
  portcullis client revoke acme c4Tn8wQz";

/// OAuth clients: create, list, revoke, and what became of them
#[derive(clap::Args)]
#[command(after_long_help = HELP, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Of {
    /// The tenant
    tenant: Id,
    /// The client id
    id: Id,
}

#[derive(Subcommand)]
enum Command {
    List(List),
    /// Show a client, without its secret
    #[command(after_long_help = "Examples:\n  portcullis client show acme c4Tn8wQz")]
    Show(Of),
    Create(Create),
    /// List what became of a client's requests for tokens, the newest first
    #[command(after_long_help = "Examples:\n  portcullis client tokens acme c4Tn8wQz")]
    Tokens(Log),
    /// List what was done with a client, the newest first
    #[command(after_long_help = "Examples:\n  portcullis client log acme c4Tn8wQz")]
    Log(Log),
    /// Revoke a client, at once and for good; it stays listed
    #[command(
        after_long_help = "Examples:\n  portcullis client revoke acme c4Tn8wQz\n  portcullis client revoke acme c4Tn8wQz --yes"
    )]
    Revoke {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        waiting: Waiting,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(clap::Args)]
struct Log {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    pages: Pages,
}

/// List the clients of a tenant, without their secrets
#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  portcullis client list acme\n  portcullis client list acme --state active")]
struct List {
    /// The tenant
    tenant: Id,
    /// Clients in this stored state alone
    #[arg(long)]
    state: Option<super::key::State>,
    /// Clients whose end lies so alone
    #[arg(long)]
    expiration: Option<Expiration>,
    #[command(flatten)]
    pages: Pages,
}

const CREATE_HELP: &str = "\
The secret is shown once: keep it, or have it written to a file with `--secret-out`. Issuer and validity of its tokens are \
set for the tenant.

Examples:
  portcullis client create acme --name Events --scope async-events \\
      --audience https://api.shop.example
  portcullis client create acme --name Reports --scope reports --audience https://shop.example \\
      --expires 2027-01-01 --secret-out reports.secret";

/// Create a client
#[derive(clap::Args, Serialize)]
#[command(after_long_help = CREATE_HELP)]
struct Create {
    /// The tenant
    #[serde(skip)]
    tenant: Id,
    /// Its display name, 2 to 200 characters
    #[arg(long)]
    name: String,
    /// What it is for
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    /// When it ends [default: never]
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Expiry>,
    /// A scope of its tokens; several, or with commas between
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required = true)]
    scopes: Vec<String>,
    /// An audience of its tokens, such as a URL; several, or with commas between
    #[arg(long = "audience", value_name = "URL", value_delimiter = ',', required = true)]
    audiences: Vec<String>,
    /// Write the secret to this new file, for its owner alone, instead of showing it
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    secret_out: Option<PathBuf>,
}

const LIST_COLUMNS: &[Column] = &[
    Column("client id", |client| at(client, "/id")),
    Column("name", |client| at(client, "/name")),
    Column("status", |client| at(client, "/status")),
    Column("purpose", |client| at(client, "/purpose")),
    Column("expires", |client| at(client, "/expires")),
    Column("scopes", |client| at(client, "/scopes")),
    Column("audiences", |client| at(client, "/audiences")),
    Column("created", |client| at(client, "/created_at")),
    Column("created by", |client| at(client, "/created_by")),
];

const TOKENS: &[Column] = &[
    Column("id", |entry| at(entry, "/id")),
    Column("action", |entry| at(entry, "/action")),
    Column("created", |entry| at(entry, "/created_at")),
    Column("address", |entry| at(entry, "/metadata/address")),
    Column("token", |entry| at(entry, "/metadata/token_id")),
    Column("scope", |entry| at(entry, "/metadata/scope")),
    Column("error", |entry| at(entry, "/error/code")),
    Column("message", |entry| at(entry, "/error/message")),
    Column("request", |entry| at(entry, "/metadata/request_id")),
];

const LOG: &[Column] = &[
    Column("id", |entry| at(entry, "/id")),
    Column("action", |entry| at(entry, "/action")),
    Column("source", |entry| at(entry, "/source/channel")),
    Column("address", |entry| at(entry, "/source/address")),
    Column("created", |entry| at(entry, "/created_at")),
    Column("created by", |entry| at(entry, "/created_by")),
    Column("refused", |entry| at(entry, "/refused")),
];

const PAGE: &[Column] = &[
    Column("client id", |client| at(client, "/id")),
    Column("name", |client| at(client, "/name")),
    Column("status", |client| at(client, "/status")),
    Column("purpose", |client| at(client, "/purpose")),
    Column("expires", |client| at(client, "/expires")),
    Column("scopes", |client| at(client, "/scopes")),
    Column("audiences", |client| at(client, "/audiences")),
    Column("issuer", |client| at(client, "/issuer")),
    Column("token validity", |client| table::seconds(client, "/token_validity_s")),
    Column("created", |client| at(client, "/created_at")),
    Column("created by", |client| at(client, "/created_by")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let session = Session::open(&args.common)?;
    let all = |tenant: &Id| path(&["tenants", tenant.as_str(), "clients"]);
    let done = match &args.command {
        Command::List(args) => {
            let call = with_filters(Call::get(all(&args.tenant)), args.state, args.expiration);
            session.pages(&call, &args.pages, LIST_COLUMNS, "no clients")
        }
        Command::Show(Of { tenant, id }) => {
            session.show(path(&["tenants", tenant.as_str(), "clients", id.as_str()]), PAGE)
        }
        Command::Create(new) => {
            let outlets =
                Outlets { key: new.secret_out.as_deref().map(Reserved::at).transpose()?, signing_secret: None };
            let client = session.send(&Call::post(all(&new.tenant), new))?.body;
            let done = format!("created client `{}` of tenant `{}`", Visible(&at(&client, "/id").concat()), new.tenant);
            issued::say(&session, client, &done, PAGE, outlets)
        }
        Command::Tokens(Log { of: Of { tenant, id }, pages }) => {
            let call = Call::get(path(&["tenants", tenant.as_str(), "clients", id.as_str(), "tokens"]));
            session.pages(&call, pages, TOKENS, "no requests for tokens")
        }
        Command::Log(Log { of: Of { tenant, id }, pages }) => {
            let call = Call::get(path(&["tenants", tenant.as_str(), "clients", id.as_str(), "log"]));
            session.pages(&call, pages, LOG, "nothing")
        }
        Command::Revoke { of: Of { tenant, id }, waiting, consent } => {
            let call = Call::post(path(&["tenants", tenant.as_str(), "clients", id.as_str(), "revoke"]), &json!({}));
            let client = session.order(waiting.on(call), consent, Question::Id(id.as_str()))?.body;
            let done = format!("revoked client `{id}` of tenant `{tenant}`");
            session.say(&client, || format!("{done}\n{}{}", table::page(PAGE, &client), nodes::receipts(&client)))?;
            return Ok(nodes::exit(&client));
        }
    };
    done.map(|()| Exit::Success)
}
