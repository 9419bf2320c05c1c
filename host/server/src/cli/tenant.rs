//! `portcullis tenant`: the customers whose keys are checked.

use clap::{Subcommand, ValueEnum};
use portcullis_model::id::Id;
use serde::Serialize;
use serde_json::Value;

use super::confirm::{Consent, Question};
use super::table::{self, Column, at};
use super::{Common, Pages, Session, body, put, value};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
A tenant is one customer, with users, groups, applications and keys of its own.

Examples:
  portcullis tenant create acme --name 'Acme Ltd' --module ip_filter
  portcullis tenant list
  portcullis tenant edit acme --state suspended";

/// Tenants: the customers
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
    /// List tenants
    #[command(after_long_help = "Examples:\n  portcullis tenant list\n  portcullis tenant list --all --json")]
    List(Pages),
    /// Show a tenant, and how many of its tenant keys count toward its limit
    #[command(after_long_help = "Examples:\n  portcullis tenant show acme")]
    Show {
        /// The tenant
        id: Id,
    },
    Create(Create),
    Edit(Edit),
}

/// A check that is enabled per tenant.
#[derive(Clone, Copy, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum Module {
    /// Address ranges per endpoint
    IpFilter,
    /// Signatures per endpoint
    SignatureCheck,
}

/// Whether a tenant's keys work at all.
#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// They do
    Active,
    /// They do not, until it is active again
    Suspended,
}

/// Create a tenant
#[derive(clap::Args, Serialize)]
#[command(
    after_long_help = "Examples:\n  portcullis tenant create acme\n  portcullis tenant create acme --name 'Acme Ltd' --module ip_filter --key-limit 10"
)]
struct Create {
    /// Its id, for good
    id: Id,
    /// Its display name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// A check that it may use; several, or with commas between
    #[arg(long = "module", value_name = "MODULE", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    modules: Vec<Module>,
    /// How many tenant keys may be active and unexpired at once [default: 100]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    key_limit: Option<u32>,
    #[command(flatten)]
    #[serde(flatten)]
    rules: Rules,
}

const EDIT_HELP: &str = "\
What is not given stays as it is. No key of a suspended tenant works until it is active again. What a tenant has set \
by a module has no effect while the module is off; it is kept, and taking the module away is asked for.

Examples:
  portcullis tenant edit acme --state suspended
  portcullis tenant edit acme --module ip_filter,signature_check --key-limit 20";

/// Change, suspend or resume a tenant
#[derive(clap::Args, Serialize)]
#[command(after_long_help = EDIT_HELP)]
struct Edit {
    /// The tenant
    #[serde(skip)]
    id: Id,
    /// Its display name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether its keys work at all
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// A check that it may use; all of them, in place of those it has
    #[arg(long = "module", value_name = "MODULE", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    modules: Vec<Module>,
    /// It may use none of the checks
    #[arg(long, conflicts_with = "modules")]
    #[serde(skip)]
    no_modules: bool,
    /// How many tenant keys may be active and unexpired at once
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    key_limit: Option<u32>,
    #[command(flatten)]
    #[serde(flatten)]
    rules: Rules,
    #[command(flatten)]
    #[serde(skip)]
    consent: Consent,
}

/// What else is set for a tenant.
#[derive(clap::Args, Serialize)]
struct Rules {
    /// How many days before its end a key is called expiring soon [default: 7 when created]
    #[arg(long, value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expiring_soon_days: Option<u16>,
    /// What access tokens name as their issuer [default: the installation's own]
    #[arg(long, value_name = "ISSUER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    token_issuer: Option<String>,
    /// How long an access token lives, such as 1h [default: 1h when created]
    #[arg(long = "token-validity", value_name = "TIME", value_parser = value::seconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    token_validity_s: Option<u32>,
    /// What the end of a client does to the access tokens that it has [default: all_tokens when created]
    #[arg(long, value_parser = ["all_tokens", "issuance_only"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    token_revocation: Option<String>,
}

const LIST: &[Column] = &[
    Column("id", |tenant| at(tenant, "/id")),
    Column("name", |tenant| at(tenant, "/name")),
    Column("state", |tenant| at(tenant, "/state")),
    Column("modules", |tenant| at(tenant, "/modules")),
    Column("key limit", |tenant| at(tenant, "/key_limit")),
    Column("created", |tenant| at(tenant, "/created_at")),
];

const PAGE: &[Column] = &[
    Column("id", |tenant| at(tenant, "/id")),
    Column("name", |tenant| at(tenant, "/name")),
    Column("state", |tenant| at(tenant, "/state")),
    Column("modules", |tenant| at(tenant, "/modules")),
    Column("tenant keys", |tenant| {
        let used = at(tenant, "/keys_in_use").into_iter().zip(at(tenant, "/key_limit"));
        used.map(|(used, limit)| format!("{used}/{limit}")).collect()
    }),
    Column("expiring soon", |tenant| {
        at(tenant, "/expiring_soon_days").into_iter().map(|days| days + " days").collect()
    }),
    Column("token issuer", |tenant| at(tenant, "/token_issuer")),
    Column("token validity", |tenant| table::seconds(tenant, "/token_validity_s")),
    Column("token revocation", |tenant| at(tenant, "/token_revocation")),
    Column("created", |tenant| at(tenant, "/created_at")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let one = |id: &Id| path(&["tenants", id.as_str()]);
    match &args.command {
        Command::List(pages) => session.pages(&Call::get(path(&["tenants"])), pages, LIST, "no tenants"),
        Command::Show { id } => session.show(one(id), PAGE),
        Command::Create(create) => {
            let done = format!("created tenant `{}`", create.id);
            session.change(&Call::post(path(&["tenants"]), create), &done, PAGE)
        }
        Command::Edit(edit) => {
            let mut change = body(edit);
            if edit.no_modules {
                put(&mut change, "modules", Value::Array(Vec::new()));
            }
            let tenant = session.order(Call::patch(one(&edit.id), &change), &edit.consent, Question::YesOrNo)?.body;
            session.say(&tenant, || format!("changed tenant `{}`\n{}", edit.id, table::page(PAGE, &tenant)))
        }
    }
}
