//! `portcullis whoami`: the key that a command is given with.

use super::table::{Column, at};
use super::{Common, Session};
use crate::client::path;
use crate::error::Error;

const HELP: &str = "\
Examples:
  portcullis whoami
  portcullis whoami --server https://admin.example --key-file admin.key";

/// Show whose key the server sees, and what it may use
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
}

const PAGE: &[Column] = &[
    Column("tenant", |own| at(own, "/tenant")),
    Column("key", |own| at(own, "/credential")),
    Column("name", |own| at(own, "/name")),
    Column("user", |own| at(own, "/user")),
    Column("superuser", |own| at(own, "/superuser")),
    Column("expires", |own| at(own, "/expires")),
    Column("endpoints", |own| at(own, "/endpoints")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    Session::open(&args.common)?.show(path(&["self"]), PAGE)
}
