//! `portcullis group`: sets of permissions.

use clap::{Subcommand, ValueEnum};
use portcullis_model::id::Id;
use portcullis_model::source::Permission;
use serde::Serialize;
use serde_json::Value;

use super::confirm::{Consent, Question};
use super::table::{self, Column, at};
use super::{Common, Pages, Session, body, put, value};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
A group permits endpoints and methods. A tenant key has the permissions of a group of the type tenant_key, a member \
those of a group of the type member. What a group does not permit is denied.

Examples:
  portcullis group create acme integration --permit shop/events:GET,POST --permit shop/coupons
  portcullis group list acme
  portcullis group show acme integration";

/// Groups: sets of permissions for keys and members
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
    /// The group
    id: Id,
}

impl Of {
    fn path(&self) -> String {
        path(&["tenants", self.tenant.as_str(), "groups", self.id.as_str()])
    }
}

#[derive(Subcommand)]
enum Command {
    /// List the groups of a tenant
    #[command(after_long_help = "Examples:\n  portcullis group list acme")]
    List {
        /// The tenant
        tenant: Id,
        #[command(flatten)]
        pages: Pages,
    },
    /// Show a group
    #[command(after_long_help = "Examples:\n  portcullis group show acme integration")]
    Show(Of),
    Create(Create),
    Edit(Edit),
    /// Delete a group that nothing uses
    #[command(after_long_help = "Examples:\n  portcullis group delete acme integration")]
    Delete {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        consent: Consent,
    },
}

/// What a group can be given to.
#[derive(Clone, Copy, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum Type {
    /// Tenant keys
    TenantKey,
    /// Members, as their profile
    Member,
}

/// Create a group
#[derive(clap::Args, Serialize)]
#[command(
    after_long_help = "Examples:\n  portcullis group create acme integration --permit shop/events:GET,POST\n  portcullis group create acme staff --type member --permit shop/events"
)]
struct Create {
    /// The tenant
    #[serde(skip)]
    tenant: Id,
    /// Its id, for good
    id: Id,
    /// What it can be given to [default: tenant_key]
    #[arg(long, value_name = "TYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Type>,
    /// An endpoint that it permits, with some of its methods or all; several
    #[arg(long = "permit", value_name = "SERVICE/ENDPOINT[:GET,POST]", value_parser = value::permission)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    permissions: Vec<Permission>,
    /// Its display name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

const EDIT_HELP: &str = "\
What is not given stays as it is; permissions are replaced as a whole, for every key and member of the group at once.

Examples:
  portcullis group edit acme integration --permit shop/events --permit shop/coupons:GET
  portcullis group edit acme integration --permit-nothing";

/// Change a group
#[derive(clap::Args, Serialize)]
#[command(after_long_help = EDIT_HELP)]
struct Edit {
    #[command(flatten)]
    #[serde(skip)]
    of: Of,
    /// An endpoint that it permits; all of them, in place of those it has
    #[arg(long = "permit", value_name = "SERVICE/ENDPOINT[:GET,POST]", value_parser = value::permission)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    permissions: Vec<Permission>,
    /// It permits nothing any more
    #[arg(long, conflicts_with = "permissions")]
    #[serde(skip)]
    permit_nothing: bool,
    /// Its display name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column("id", |group| at(group, "/id")),
    Column("name", |group| at(group, "/name")),
    Column("type", |group| at(group, "/type")),
    Column("permits", |group| {
        let permissions = group.pointer("/permissions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        permissions.iter().map(permits).collect()
    }),
    Column("created", |group| at(group, "/created_at")),
];

/// A permission as it is given.
fn permits(permission: &Value) -> String {
    let methods = table::methods(permission, "/methods").concat();
    let endpoint = at(permission, "/endpoint").concat();
    if methods == "all" { endpoint } else { format!("{endpoint}:{methods}") }
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let all = |tenant: &Id| path(&["tenants", tenant.as_str(), "groups"]);
    match &args.command {
        Command::List { tenant, pages } => session.pages(&Call::get(all(tenant)), pages, COLUMNS, "no groups"),
        Command::Show(of) => session.show(of.path(), COLUMNS),
        Command::Create(create) => {
            let done = format!("created group `{}` of tenant `{}`", create.id, create.tenant);
            session.change(&Call::post(all(&create.tenant), create), &done, COLUMNS)
        }
        Command::Edit(edit) => {
            let mut change = body(edit);
            if edit.permit_nothing {
                put(&mut change, "permissions", Value::Array(Vec::new()));
            }
            let done = format!("changed group `{}` of tenant `{}`", edit.of.id, edit.of.tenant);
            session.change(&Call::patch(edit.of.path(), &change), &done, COLUMNS)
        }
        Command::Delete { of, consent } => {
            let done = format!("deleted group `{}` of tenant `{}`", of.id, of.tenant);
            session.remove(Call::delete(of.path()), consent, Question::Id(of.id.as_str()), &done)
        }
    }
}
