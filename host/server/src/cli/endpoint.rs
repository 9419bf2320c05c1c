//! `portcullis endpoint`: the catalogue of a service.

use clap::Subcommand;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::method::Method;
use serde::Serialize;
use serde_json::Value;

use super::confirm::{Consent, Question};
use super::table::{self, Column, at};
use super::{Common, Session, body, is_false, put, value};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
An endpoint is a named part of a service: methods and paths. What keys may do and what tenants set is said of \
endpoints, written SERVICE/ENDPOINT.

Examples:
  portcullis endpoint list shop
  portcullis endpoint put shop/events --method GET,POST --path /v1/events --prefix /v1/events/archive
  portcullis endpoint show shop/events";

/// Endpoints: the catalogue of a service
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
    /// List the endpoints of a service
    #[command(after_long_help = "Examples:\n  portcullis endpoint list shop")]
    List {
        /// The service
        service: Id,
    },
    /// Show an endpoint
    #[command(after_long_help = "Examples:\n  portcullis endpoint show shop/events")]
    Show {
        /// The endpoint
        #[arg(value_name = "SERVICE/ENDPOINT", value_parser = value::endpoint)]
        endpoint: EndpointRef,
    },
    /// List what a tenant's keys can call, with what the tenant has set for it
    #[command(after_long_help = "Examples:\n  portcullis endpoint browse acme")]
    Browse {
        /// The tenant
        tenant: Id,
    },
    Put(Put),
    /// Take an endpoint out of its service's catalogue
    #[command(
        after_long_help = "Its requests are denied at once. What tenants have set for it stays for its return.\n\nExamples:\n  portcullis endpoint delete shop/events"
    )]
    Delete {
        /// The endpoint
        #[arg(value_name = "SERVICE/ENDPOINT", value_parser = value::endpoint)]
        endpoint: EndpointRef,
        #[command(flatten)]
        consent: Consent,
    },
}

const PUT_HELP: &str = "\
The endpoint is put as a whole: what is not given is not kept. A `{name}` in a path stands for one segment of any text; \
`{application}` names the application.

Examples:
  portcullis endpoint put shop/events --path /v1/events
  portcullis endpoint put shop/events --method GET,POST --path /v1/events --path '/v1/events/{id}' \\
      --name 'Events API'
  portcullis endpoint put shop/settings --per-application \\
      --prefix '/v1/applications/{application}/settings'";

/// Put an endpoint into its service's catalogue, new or in place of the one of its id
#[derive(clap::Args, Serialize)]
#[command(after_long_help = PUT_HELP)]
struct Put {
    /// The endpoint
    #[arg(value_name = "SERVICE/ENDPOINT", value_parser = value::endpoint)]
    #[serde(skip)]
    endpoint: EndpointRef,
    /// A whole path; several
    #[arg(long = "path", value_name = "PATH")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<String>,
    /// A path with everything below it; several
    #[arg(long = "prefix", value_name = "PATH")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    /// A method; several, or with commas between [default: all]
    #[arg(long = "method", value_name = "METHOD", value_delimiter = ',', value_parser = value::method)]
    #[serde(skip)]
    methods: Vec<Method>,
    /// Its display name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// It works with individual applications: every path names one as `{application}`
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    per_application: bool,
    /// The scope that an access token needs
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The audience that an access token needs
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    /// It is kept for old clients only
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    legacy: bool,
    /// Its earlier display name
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    formerly: Option<String>,
    /// Another id by which it may be named; several, or with commas between
    #[arg(long = "alias", value_name = "ID", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<Id>,
}

pub(super) const LIST: &[Column] = &[
    Column("endpoint", |endpoint| at(endpoint, "/id")),
    Column("name", |endpoint| at(endpoint, "/name")),
    Column("methods", |endpoint| table::methods(endpoint, "/methods")),
    Column("paths", |endpoint| at(endpoint, "/paths")),
    Column("prefixes", |endpoint| at(endpoint, "/prefixes")),
    Column("per application", |endpoint| at(endpoint, "/per_application")),
];

const BROWSE: &[Column] = &[
    Column("endpoint", |endpoint| at(endpoint, "/endpoint")),
    Column("name", |endpoint| at(endpoint, "/name")),
    Column("marks", marks),
    Column("methods", |endpoint| table::methods(endpoint, "/methods")),
    Column("paths", |endpoint| {
        let below = at(endpoint, "/prefixes").into_iter().map(|prefix| prefix + "/..");
        at(endpoint, "/paths").into_iter().chain(below).collect()
    }),
    Column("addresses", |endpoint| {
        let ranges = at(endpoint, "/ip_ranges");
        if ranges.is_empty() { vec!["any".to_owned()] } else { ranges }
    }),
    Column("signature", |endpoint| at(endpoint, "/signature")),
    Column("replay", |endpoint| at(endpoint, "/replay")),
];

/// What is particular of an endpoint.
fn marks(endpoint: &Value) -> Vec<String> {
    let is = |field: &str| endpoint.get(field).and_then(Value::as_bool).unwrap_or(false);
    let legacy = is("legacy").then(|| "legacy".to_owned());
    let per_application = is("per_application").then(|| "per application".to_owned());
    let formerly = at(endpoint, "/formerly").into_iter().map(|name| format!("formerly {name}"));
    legacy.into_iter().chain(per_application).chain(formerly).collect()
}

const PAGE: &[Column] = &[
    Column("id", |endpoint| at(endpoint, "/id")),
    Column("name", |endpoint| at(endpoint, "/name")),
    Column("formerly", |endpoint| at(endpoint, "/formerly")),
    Column("methods", |endpoint| table::methods(endpoint, "/methods")),
    Column("paths", |endpoint| at(endpoint, "/paths")),
    Column("prefixes", |endpoint| at(endpoint, "/prefixes")),
    Column("per application", |endpoint| at(endpoint, "/per_application")),
    Column("scope", |endpoint| at(endpoint, "/scope")),
    Column("audience", |endpoint| at(endpoint, "/audience")),
    Column("legacy", |endpoint| at(endpoint, "/legacy")),
    Column("aliases", |endpoint| at(endpoint, "/aliases")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let one = |of: &EndpointRef| path(&["services", of.service.as_str(), "endpoints", of.endpoint.as_str()]);
    match &args.command {
        Command::List { service } => {
            session.list(path(&["services", service.as_str(), "endpoints"]), LIST, "no endpoints")
        }
        Command::Show { endpoint } => session.show(one(endpoint), PAGE),
        Command::Browse { tenant } => {
            session.list(path(&["tenants", tenant.as_str(), "endpoints"]), BROWSE, "no endpoints")
        }
        Command::Put(new) => {
            let mut whole = body(new);
            if !new.methods.is_empty() {
                put(&mut whole, "methods", body(&value::set(&new.methods)));
            }
            session.change(&Call::put(one(&new.endpoint), &whole), &format!("put endpoint `{}`", new.endpoint), PAGE)
        }
        Command::Delete { endpoint, consent } => {
            let (id, done) = (endpoint.to_string(), format!("deleted endpoint `{endpoint}`"));
            session.remove(Call::delete(one(endpoint)), consent, Question::Id(&id), &done)
        }
    }
}
