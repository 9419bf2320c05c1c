//! `portcullis`: the gate from the command line.
//!
//! The program decides nothing itself: `check` asks the component in its sandbox, as every other host does. It holds no
//! secret longer than one request, and no header value, query or URL ever reaches its output, but for what `sign` makes.
//!
//! | module | holds |
//! |---|---|
//! | [`check`] | one request against a policy: the command |
//! | [`sign`] | a request signed as a client does |
//! | [`request`], [`raw`] | the request, from arguments or from the bytes a client sent |
//! | [`cli`], [`client`] | the commands that work on a running server, and calling it |
//! | [`sandbox`] | the engine, with a cache of its compiled code |
//! | [`signing_pair`] | a signer's keys, for a check without a server |
//! | [`report`] | a verdict explained, for people and as JSON |
//! | [`policy`] | making and reading policies: build, inspect, diff |
//! | [`envoy`] | the module for Envoy, which the program carries |
//! | [`document`] | a file as the policy, delta or source that it holds |
//! | [`evidence`] | the audit as files, checked without a server |
//! | [`input`], [`output`] | files and the standard streams |
//! | [`error`] | everything that can go wrong, each with its remedy |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "tests"))]

mod admin;
mod audit_keeper;
mod authz;
mod check;
mod cli;
mod client;
mod config;
mod demo;
mod document;
mod envoy;
mod error;
mod evidence;
mod failures;
mod input;
mod journal;
mod leaked;
mod listen;
mod master_key;
mod metrics;
mod nodes;
mod oauth;
mod output;
mod policy;
mod proxy;
mod raw;
mod recover;
mod report;
mod request;
mod sandbox;
mod secrets;
mod serve;
mod sign;
mod signing_pair;
mod tls;
mod usage;

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use portcullis_tower::clock;

use crate::error::Error;

/// A new base is compiled out of millions of small pieces. The C library's allocator keeps that memory for good and takes more
/// with every second compaction; this one gives it back, on a thread of its own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Decides whether a caller may use an HTTP API, and says why.
#[derive(Parser)]
#[command(name = "portcullis", version, max_term_width = 100, arg_required_else_help = true, after_long_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
Exit codes:
  0  allow, or done
  1  deny, or refused by the server
  2  error: the arguments, a file or a request could not be read, or a server not be reached

Examples:
  portcullis check --policy policy.json -H @key.txt https://api.shop.example/v1/events
  portcullis policy build policy.json
  portcullis policy diff policy.json next.json -o next.ptcdelta
  portcullis key create acme tenant --name Shop --group integration
  portcullis audit list --limit 10

`portcullis COMMAND --help` tells more.";

#[derive(Subcommand)]
enum Command {
    Check(Box<check::Args>),
    Sign(Box<sign::Args>),
    Policy(policy::Args),
    Envoy(envoy::Args),
    Serve(serve::Args),
    Recover(recover::Args),
    Secrets(secrets::Args),
    #[command(flatten)]
    OnServer(Box<cli::Command>),
}

/// How a command that did not fail ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Exit {
    /// It did what was asked; of a request: allow.
    Success,
    /// The request is denied.
    Denied,
    /// The server refused what was asked.
    Refused,
}

/// The exit code of everything that could not be done; clap uses the same for usage errors.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        Err(usage) => return refuse(usage),
    };
    match done {
        Ok(Exit::Success) => ExitCode::SUCCESS,
        Ok(Exit::Denied | Exit::Refused) => ExitCode::from(1),
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// Tells what went wrong. Where even standard error is closed, the exit code has to do.
fn complain(error: &Error) {
    let _ = writeln!(anstream::stderr(), "error: {error}");
}

fn run(command: Command) -> Result<Exit, Error> {
    match command {
        Command::Check(args) => check::run(&args),
        Command::Sign(args) => sign::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Envoy(args) => envoy::run(&args),
        Command::Serve(args) => Ok(serve::run(&args)?),
        Command::Recover(args) => Ok(recover::run(&args)?),
        Command::Secrets(args) => Ok(secrets::run(&args)?),
        Command::OnServer(command) => cli::run(&command),
    }
}

/// Shows help, the version or a usage error. A stray argument may be half of an unquoted header, so it is not repeated.
fn refuse(mut usage: clap::Error) -> ExitCode {
    if let Some(ContextValue::String(argument)) = usage.get(ContextKind::InvalidArg)
        && usage.kind() == clap::error::ErrorKind::UnknownArgument
        && !argument.starts_with('-')
    {
        usage.insert(ContextKind::InvalidArg, ContextValue::String("(not shown, it may be a key)".to_owned()));
        let tip = "a header field is one argument, in quotes: -H 'Name: value'";
        usage.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    let code = usage.exit_code();
    let _ = usage.print();
    ExitCode::from(u8::try_from(code).unwrap_or(FAILED))
}
