//! `portcullis policy`: making and reading policies.

mod build;
mod changes;
mod diff;
mod inspect;

use clap::Subcommand;
use portcullis_model::policy::{Contents, Tally};

use crate::Exit;
use crate::error::Error;

const HELP: &str = "\
A policy is written as one JSON document, its source: services with their endpoints, tenants, groups, users and \
credentials, which name each other by id. It holds the SHA-256 of keys, never a key. `policy build` compiles it, \
`policy inspect` shows what a file holds, `policy diff` makes the delta from one source to the next. A small one to \
begin with is host/server/sample/policy.json in the sources of Portcullis.

Exit codes:
  0  done
  2  error: nothing was written

Examples:
  portcullis policy build policy.json
  portcullis policy inspect policy.ptcpol
  portcullis policy diff policy.json next.json -o next.ptcdelta";

/// Make and read policies
#[derive(clap::Args)]
#[command(after_long_help = HELP, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Build(build::Args),
    Inspect(inspect::Args),
    Diff(diff::Args),
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done.
pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    match &args.command {
        Command::Build(args) => build::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Diff(args) => diff::run(args),
    }?;
    Ok(Exit::Success)
}

/// The kinds of records of a compiled policy, each with its name.
fn tallies(contents: Contents) -> [(&'static str, Tally); 7] {
    [
        ("services", contents.services),
        ("endpoints", contents.endpoints),
        ("hosts", contents.hosts),
        ("tenants", contents.tenants),
        ("groups", contents.groups),
        ("users", contents.users),
        ("secrets", contents.secrets),
    ]
}
