//! `portcullis installation`: what holds for the whole installation.

use clap::Subcommand;
use portcullis_model::address::Cidr;
use serde::Serialize;
use serde_json::Value;

use super::table::{self, Column, at};
use super::{Common, Session, body, put, value};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
Examples:
  portcullis installation show
  portcullis installation edit --trusted-proxy 10.0.0.0/8";

/// The whole installation: trusted proxies, clock skew, staleness
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
    /// Show what holds for the whole installation
    #[command(after_long_help = "Examples:\n  portcullis installation show")]
    Show,
    Edit(Edit),
}

const EDIT_HELP: &str = "\
What is not given stays as it is. A proxy that is trusted is believed what it says of the client's address: trust none \
that lets clients write Forwarded or X-Forwarded-For themselves.

Examples:
  portcullis installation edit --trusted-proxy 10.0.0.0/8,2001:db8::/32
  portcullis installation edit --clock-skew 5m --max-staleness 1h";

/// Change what holds for the whole installation
#[derive(clap::Args, Serialize)]
#[command(override_usage = "portcullis installation edit [OPTIONS]", after_long_help = EDIT_HELP)]
#[group(required = true, multiple = true)]
struct Edit {
    /// An address or range of proxies; all of them, in place of those there are
    #[arg(long = "trusted-proxy", value_name = "RANGE", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trusted_proxies: Vec<Cidr>,
    /// Trust no proxy
    #[arg(long, conflicts_with = "trusted_proxies")]
    #[serde(skip)]
    no_trusted_proxies: bool,
    /// How far clocks may be apart, such as 5m
    #[arg(long = "clock-skew", value_name = "TIME", value_parser = value::seconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_skew_s: Option<u32>,
    /// How long a policy counts that was not confirmed since, such as 1h; then everything is denied
    #[arg(long = "max-staleness", value_name = "TIME", value_parser = value::seconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_staleness_s: Option<u32>,
}

const PAGE: &[Column] = &[
    Column("trusted proxies", |installation| {
        let ranges = at(installation, "/trusted_proxies");
        if ranges.is_empty() { vec!["none".to_owned()] } else { ranges }
    }),
    Column("clock skew", |installation| table::seconds(installation, "/clock_skew_s")),
    Column("max staleness", |installation| table::seconds(installation, "/max_staleness_s")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    match &args.command {
        Command::Show => session.show(path(&["installation"]), PAGE),
        Command::Edit(edit) => {
            let mut change = body(edit);
            if edit.no_trusted_proxies {
                put(&mut change, "trusted_proxies", Value::Array(Vec::new()));
            }
            session.change(&Call::patch(path(&["installation"]), &change), "changed the installation", PAGE)
        }
    }
}
