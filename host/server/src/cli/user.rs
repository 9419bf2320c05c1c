//! `portcullis user`: the people that management keys depend on.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use portcullis_model::id::Id;
use serde::Serialize;
use serde_json::json;

use super::confirm::{Consent, Question};
use super::issued::{self, Outlets, Reserved};
use super::table::{Column, at};
use super::{Common, Pages, Session};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
A management key has a creator, who answers for it: while the user is disabled the key is dead, and once the user is \
deleted it is dead for good.

Examples:
  portcullis user create acme ada --role admin --name 'Ada Lovelace'
  portcullis user list acme
  portcullis user edit acme ada --state disabled";

/// Users: the people that keys depend on
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
    /// The user
    id: Id,
}

impl Of {
    fn path(&self) -> String {
        path(&["tenants", self.tenant.as_str(), "users", self.id.as_str()])
    }
}

#[derive(Subcommand)]
enum Command {
    /// List the users of a tenant
    #[command(after_long_help = "Examples:\n  portcullis user list acme")]
    List {
        /// The tenant
        tenant: Id,
        #[command(flatten)]
        pages: Pages,
    },
    /// Show a user
    #[command(after_long_help = "Examples:\n  portcullis user show acme ada")]
    Show(Of),
    Create(Create),
    Edit(Edit),
    /// Make a one-time code by which a user signs in: `portcullis me sign-in`
    #[command(
        after_long_help = "The code is shown once, works once and within a day. A new one puts an earlier one out of use.\n\nExamples:\n  portcullis user enrol acme bob\n  portcullis user enrol acme bob --code-out bob.code"
    )]
    Enrol {
        #[command(flatten)]
        of: Of,
        /// Write the code to this new file, for its owner alone, instead of showing it
        #[arg(long, value_name = "FILE")]
        code_out: Option<PathBuf>,
    },
    /// Delete a user, and with it for good every key that follows it
    #[command(
        after_long_help = "Examples:\n  portcullis user delete acme ada\n  portcullis user delete acme ada --yes"
    )]
    Delete {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        consent: Consent,
    },
}

/// What a user may do.
#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// Everything in the tenant
    Admin,
    /// What the user's group permits
    Member,
    /// Everything in the installation; of the system tenant alone
    Superuser,
}

/// Whether a user may act.
#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// The user may
    Active,
    /// The user may not, and keys that follow the user are dead as long
    Disabled,
}

/// Create a user
#[derive(clap::Args, Serialize)]
#[command(
    after_long_help = "Examples:\n  portcullis user create acme ada --role admin --name 'Ada Lovelace'\n  portcullis user create acme bob --role member --group staff"
)]
struct Create {
    /// The tenant
    #[serde(skip)]
    tenant: Id,
    /// Its id, for good
    id: Id,
    /// What the user may do
    #[arg(long)]
    role: Role,
    /// A member's profile: a group of the type member
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Id>,
    /// The person's name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// Change, disable or enable a user
#[derive(clap::Args, Serialize)]
#[command(
    after_long_help = "What is not given stays as it is.\n\nExamples:\n  portcullis user edit acme ada --state disabled\n  portcullis user edit acme bob --role member --group staff"
)]
struct Edit {
    #[command(flatten)]
    #[serde(skip)]
    of: Of,
    /// What the user may do
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    /// Whether the user may act
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// A member's profile: a group of the type member
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Id>,
    /// The person's name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

const PAGE: &[Column] = &[
    Column("id", |user| at(user, "/id")),
    Column("name", |user| at(user, "/name")),
    Column("role", |user| at(user, "/role")),
    Column("state", |user| at(user, "/state")),
    Column("group", |user| at(user, "/group")),
    Column("personal key", |user| at(user, "/personal_key")),
    Column("created", |user| at(user, "/created_at")),
];

const LIST: &[Column] = &[
    Column("id", |user| at(user, "/id")),
    Column("name", |user| at(user, "/name")),
    Column("role", |user| at(user, "/role")),
    Column("state", |user| at(user, "/state")),
    Column("group", |user| at(user, "/group")),
    Column("created", |user| at(user, "/created_at")),
];

const ENROLLED: &[Column] = &[
    Column("tenant", |opened| at(opened, "/tenant")),
    Column("user", |opened| at(opened, "/user")),
    Column("ends", |opened| at(opened, "/expires")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let all = |tenant: &Id| path(&["tenants", tenant.as_str(), "users"]);
    match &args.command {
        Command::List { tenant, pages } => session.pages(&Call::get(all(tenant)), pages, LIST, "no users"),
        Command::Show(of) => session.show(of.path(), PAGE),
        Command::Create(create) => {
            let done = format!("created user `{}` of tenant `{}`", create.id, create.tenant);
            session.change(&Call::post(all(&create.tenant), create), &done, PAGE)
        }
        Command::Edit(edit) => {
            let done = format!("changed user `{}` of tenant `{}`", edit.of.id, edit.of.tenant);
            session.change(&Call::patch(edit.of.path(), edit), &done, PAGE)
        }
        Command::Enrol { of, code_out } => {
            let outlets = Outlets { key: code_out.as_deref().map(Reserved::at).transpose()?, signing_secret: None };
            let at = path(&["tenants", of.tenant.as_str(), "users", of.id.as_str(), "enrolment"]);
            let opened = session.send(&Call::post(at, &json!({})))?.body;
            issued::say(&session, opened, "made a code", ENROLLED, outlets)
        }
        Command::Delete { of, consent } => {
            let done = format!("deleted user `{}` of tenant `{}`", of.id, of.tenant);
            session.remove(Call::delete(of.path()), consent, Question::Id(of.id.as_str()), &done)
        }
    }
}
