//! `portcullis application`: the parts of a tenant that a management key can be confined to.

use clap::Subcommand;
use portcullis_model::id::Id;
use serde::Serialize;

use super::confirm::{Consent, Question};
use super::table::{Column, at};
use super::{Common, Pages, Session};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
An application is a part of a tenant. A management key that is confined to applications may use those endpoints alone \
that work with individual applications, and only for its own.

Examples:
  portcullis application create acme web --name 'Web shop'
  portcullis application list acme";

/// Applications: the parts of a tenant that a key can be confined to
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
    /// List the applications of a tenant
    #[command(after_long_help = "Examples:\n  portcullis application list acme")]
    List {
        /// The tenant
        tenant: Id,
        #[command(flatten)]
        pages: Pages,
    },
    Create(Create),
    /// Delete an application that no active key is confined to
    #[command(after_long_help = "Examples:\n  portcullis application delete acme web")]
    Delete {
        /// The tenant
        tenant: Id,
        /// The application
        id: Id,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Create an application
#[derive(clap::Args, Serialize)]
#[command(after_long_help = "Examples:\n  portcullis application create acme web --name 'Web shop'")]
struct Create {
    /// The tenant
    #[serde(skip)]
    tenant: Id,
    /// Its id, as it stands in paths
    id: Id,
    /// Its display name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column("id", |application| at(application, "/id")),
    Column("name", |application| at(application, "/name")),
    Column("created", |application| at(application, "/created_at")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let all = |tenant: &Id| path(&["tenants", tenant.as_str(), "applications"]);
    match &args.command {
        Command::List { tenant, pages } => session.pages(&Call::get(all(tenant)), pages, COLUMNS, "no applications"),
        Command::Create(create) => {
            let done = format!("created application `{}` of tenant `{}`", create.id, create.tenant);
            session.change(&Call::post(all(&create.tenant), create), &done, COLUMNS)
        }
        Command::Delete { tenant, id, consent } => {
            let call = Call::delete(path(&["tenants", tenant.as_str(), "applications", id.as_str()]));
            let done = format!("deleted application `{id}` of tenant `{tenant}`");
            session.remove(call, consent, Question::Id(id.as_str()), &done)
        }
    }
}
