//! `portcullis settings`: what a tenant sets for an endpoint.

use clap::{Subcommand, ValueEnum};
use portcullis_model::address::Cidr;
use portcullis_model::id::{EndpointRef, Id};
use serde::Serialize;
use serde_json::Value;

use super::confirm::{Consent, Question};
use super::table::{Column, at};
use super::value::Ranges;
use super::{Common, Session, body, put, value};
use crate::client::{Answer, Call, ClientError, path};
use crate::error::Error;
use crate::input::Origin;

const HELP: &str = "\
A tenant may open an endpoint to some addresses only, where its module ip_filter is on, and require signatures, where \
its module signature_check is on. An endpoint without settings is open to any address and needs no signature.

Examples:
  portcullis settings set acme shop/events --ip-range 192.0.2.0/24 --ip-range 2001:db8::/32
  portcullis settings list acme
  portcullis settings remove-range acme shop/events 192.0.2.0/24";

/// Settings of a tenant for an endpoint: address ranges, signatures
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
    /// The endpoint
    #[arg(value_name = "SERVICE/ENDPOINT", value_parser = value::endpoint)]
    endpoint: EndpointRef,
}

impl Of {
    fn path(&self) -> String {
        let EndpointRef { service, endpoint } = &self.endpoint;
        path(&["tenants", self.tenant.as_str(), "settings", service.as_str(), endpoint.as_str()])
    }
}

#[derive(Subcommand)]
enum Command {
    /// List the endpoints that a tenant has settings for
    #[command(after_long_help = "Examples:\n  portcullis settings list acme")]
    List {
        /// The tenant
        tenant: Id,
    },
    /// Show what a tenant has set for an endpoint
    #[command(after_long_help = "Examples:\n  portcullis settings show acme shop/events")]
    Show(Of),
    Set(Set),
    /// Take one range out of an endpoint's addresses
    #[command(
        after_long_help = "Without its last range an endpoint is open to any address.\n\nExamples:\n  portcullis settings remove-range acme shop/events 192.0.2.0/24"
    )]
    RemoveRange {
        #[command(flatten)]
        of: Of,
        /// The range, as it is listed
        range: Cidr,
    },
    /// Delete what a tenant has set for an endpoint
    #[command(
        after_long_help = "The endpoint is then open to any address and needs no signature.\n\nExamples:\n  portcullis settings delete acme shop/events"
    )]
    Delete {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        consent: Consent,
    },
}

const SET_HELP: &str = "\
What is not given stays as it is; ranges are replaced as a whole. A signed request may come again within the clock skew \
unless it is accepted once; two requests that are the same and signed within one second bear one signature, so turn \
`--replay once` on where clients sign a nonce or send nothing twice. A file has one address or range a line, and faulty \
lines are told by their number. A range is an address or a CIDR; bits after the prefix are masked.

Examples:
  portcullis settings set acme shop/events --ip-range 192.0.2.0/24,2001:db8::/32
  portcullis settings set acme shop/events --ip-ranges-file offices.txt
  portcullis settings set acme shop/events --signature observed
  portcullis settings set acme shop/events --signature enforced --replay once
  portcullis settings set acme shop/events --any-address";

/// Set address ranges or signatures for an endpoint
#[derive(clap::Args)]
#[command(
    override_usage = "portcullis settings set [OPTIONS] TENANT SERVICE/ENDPOINT",
    after_long_help = SET_HELP
)]
#[group(id = "setting", required = true, multiple = true, args = ["ip_ranges", "ip_ranges_file", "any_address", "signature", "replay"])]
struct Set {
    #[command(flatten)]
    of: Of,
    /// An address or range that may use it; several, or with commas between
    #[arg(long = "ip-range", value_name = "RANGE", value_delimiter = ',', conflicts_with_all = ["ip_ranges_file", "any_address"])]
    ip_ranges: Vec<Cidr>,
    /// A file with one address or range a line; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "any_address")]
    ip_ranges_file: Option<Origin>,
    /// Open it to any address
    #[arg(long)]
    any_address: bool,
    /// Whether requests must be signed
    #[arg(long, value_name = "MODE")]
    signature: Option<Signature>,
    /// Whether a signed request is accepted once only
    #[arg(long, value_name = "MODE")]
    replay: Option<Replay>,
}

/// Whether requests must be signed.
#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Signature {
    /// They need not
    Off,
    /// They need not, but it is recorded what enforcing would have denied
    Observed,
    /// They must
    Enforced,
}

/// Whether a signed request is accepted once only.
#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Replay {
    /// Once where a nonce is signed
    Auto,
    /// Once
    Once,
    /// As often as it comes
    Any,
}

const COLUMNS: &[Column] = &[
    Column("endpoint", |settings| at(settings, "/endpoint")),
    Column("addresses", |settings| {
        let ranges = at(settings, "/ip_ranges");
        if ranges.is_empty() { vec!["any".to_owned()] } else { ranges }
    }),
    Column("signature", |settings| at(settings, "/signature")),
    Column("replay", |settings| at(settings, "/replay")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    match &args.command {
        Command::List { tenant } => {
            session.list(path(&["tenants", tenant.as_str(), "settings"]), COLUMNS, "no settings")
        }
        Command::Show(of) => session.show(of.path(), COLUMNS),
        Command::Set(given) => set(&session, given),
        Command::RemoveRange { of, range } => {
            let call = Call::delete(of.path() + "/ip-ranges").with("entry", range);
            session.change(&call, &format!("`{range}` may no longer use `{}`", of.endpoint), COLUMNS)
        }
        Command::Delete { of, consent } => {
            let (id, done) = (of.endpoint.to_string(), format!("deleted the settings for `{}`", of.endpoint));
            session.remove(Call::delete(of.path()), consent, Question::Id(&id), &done)
        }
    }
}

/// The API sets everything at once. What was not given is what it was, and nobody else may change it in between: an
/// endpoint must not be opened because only its signatures were spoken of.
fn set(session: &Session, given: &Set) -> Result<(), Error> {
    let ranges = Ranges::given(&given.ip_ranges, given.ip_ranges_file.as_ref(), given.any_address)?;
    let now = match session.client.send(&Call::get(given.of.path())) {
        Ok(now) => now,
        Err(ClientError::Refused(problem)) if problem.is_not_found() => Answer { body: Value::Null, tag: None },
        Err(error) => return Err(error.into()),
    };
    let mut whole = Value::default();
    let ranges = ranges.map(|ranges| body(&ranges)).or_else(|| now.body.pointer("/ip_ranges").cloned());
    if let Some(ranges) = ranges {
        put(&mut whole, "ip_ranges", ranges);
    }
    let signature = given.signature.map(|mode| body(&mode)).or_else(|| now.body.pointer("/signature").cloned());
    if let Some(signature) = signature {
        put(&mut whole, "signature", signature);
    }
    let replay = given.replay.map(|mode| body(&mode)).or_else(|| now.body.pointer("/replay").cloned());
    if let Some(replay) = replay {
        put(&mut whole, "replay", replay);
    }
    let call = Call::put(given.of.path(), &whole).if_match(now.tag);
    session.change(&call, &format!("set `{}` for tenant `{}`", given.of.endpoint, given.of.tenant), COLUMNS)
}
