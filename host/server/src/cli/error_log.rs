//! `portcullis error-log`: the calls that failed, with what was sent and answered.

use clap::Subcommand;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::time::UnixTime;
use serde_json::{Value, json};

use super::table::{self, Column, at};
use super::{Common, Pages, Session, put, value};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
A call fails when it is denied, when its upstream cannot be reached, or when the upstream answers 400 or more. Request \
and response are kept whole up to 16 KiB of body each, and secrets are taken out before: credentials, fields such as \
password or token at any depth, keys and tokens by their shape, and what the tenant wants out. A body that is neither \
JSON nor a form, or is longer, is kept as its length and digest; of callers that proved nothing the heads alone are kept.

Examples:
  portcullis error-log list acme --status 403
  portcullis error-log show 17 --tenant acme
  portcullis error-log settings acme --redact-field iban";

/// The error log: failed calls, with what was sent and answered
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
    List(List),
    /// Show a failed call
    #[command(after_long_help = "Examples:\n  portcullis error-log show 17 --tenant acme")]
    Show {
        /// The entry's id, as it is listed
        id: u64,
        /// Its tenant; without one it is a call that no tenant is known of
        #[arg(long)]
        tenant: Option<Id>,
    },
    Settings(Box<Settings>),
}

const LIST_HELP: &str = "\
Without a tenant it lists the calls that no tenant is known of, for whoever operates the installation.

Examples:
  portcullis error-log list acme
  portcullis error-log list acme --key k3J9aQ2x --since 2026-12-01T00:00:00Z
  portcullis error-log list --reason service-unknown";

/// List failed calls, the newest first
#[derive(clap::Args)]
#[command(after_long_help = LIST_HELP)]
struct List {
    /// The tenant
    tenant: Option<Id>,
    /// At this time or later
    #[arg(long, value_name = "TIME")]
    since: Option<UnixTime>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<UnixTime>,
    /// Of this key alone, by its id
    #[arg(long, value_name = "ID")]
    key: Option<Id>,
    /// Of this endpoint alone
    #[arg(long, value_name = "SERVICE/ENDPOINT", value_parser = value::endpoint)]
    endpoint: Option<EndpointRef>,
    /// For this reason alone, such as upstream-status
    #[arg(long, value_name = "NAME")]
    reason: Option<String>,
    /// With this status alone
    #[arg(long, value_name = "N")]
    status: Option<u16>,
    #[command(flatten)]
    pages: Pages,
}

const SETTINGS_HELP: &str = "\
Without an option it shows what is set. What is not given stays as it is; a list is replaced as a whole. What is always \
taken out cannot be left in. A text given with `--redact-value` is stored as it is: of a secret give the shape, with \
`--redact-pattern`.

Examples:
  portcullis error-log settings acme
  portcullis error-log settings acme --off
  portcullis error-log settings acme --redact-field iban,birthday --redact-pattern '[0-9]{16}'
  portcullis error-log settings acme --no-redactions";

/// Show or set what is kept of a tenant's failed calls
#[derive(clap::Args)]
#[command(after_long_help = SETTINGS_HELP)]
struct Settings {
    /// The tenant
    tenant: Id,
    /// Keep failed calls
    #[arg(long, conflicts_with = "off")]
    on: bool,
    /// Keep none
    #[arg(long)]
    off: bool,
    /// How many are kept, the oldest go first
    #[arg(long, value_name = "N")]
    max_entries: Option<u32>,
    /// A field of JSON, form or query whose value is taken out; several, or with commas between
    #[arg(long = "redact-field", value_name = "NAME", value_delimiter = ',')]
    fields: Vec<String>,
    /// A header field whose value is taken out; several, or with commas between
    #[arg(long = "redact-header", value_name = "NAME", value_delimiter = ',')]
    headers: Vec<String>,
    /// A text that is taken out wherever it occurs; several
    #[arg(long = "redact-value", value_name = "TEXT")]
    values: Vec<String>,
    /// A regular expression; what it matches is taken out; several
    #[arg(long = "redact-pattern", value_name = "REGEX")]
    patterns: Vec<String>,
    /// Take out no more than what always is
    #[arg(long, conflicts_with_all = ["fields", "headers", "values", "patterns"])]
    no_redactions: bool,
}

const LIST: &[Column] = &[
    Column("id", |entry| at(entry, "/id")),
    Column("at", |entry| at(entry, "/at")),
    Column("status", |entry| at(entry, "/status")),
    Column("reason", |entry| at(entry, "/reason")),
    Column("key", |entry| at(entry, "/credential")),
    Column("endpoint", |entry| at(entry, "/endpoint")),
    Column("client", |entry| at(entry, "/client")),
    Column("request", |entry| vec![[at(entry, "/method"), at(entry, "/path")].concat().join(" ")]),
    Column("decision", |entry| at(entry, "/decision")),
];

pub(super) const PAGE: &[Column] = &[
    Column("id", |entry| at(entry, "/id")),
    Column("at", |entry| at(entry, "/at")),
    Column("decision", |entry| at(entry, "/decision")),
    Column("status", |entry| at(entry, "/status")),
    Column("reason", |entry| at(entry, "/reason")),
    Column("tenant", |entry| at(entry, "/tenant")),
    Column("key", |entry| at(entry, "/credential")),
    Column("endpoint", |entry| at(entry, "/endpoint")),
    Column("client", |entry| at(entry, "/client")),
    Column("request", |entry| vec![[at(entry, "/method"), at(entry, "/path")].concat().join(" ")]),
    Column("query", |entry| pairs(entry, "/request/query", "=")),
    Column("sent", |entry| pairs(entry, "/request/headers", ": ")),
    Column("sent body", |entry| content(entry, "/request/body")),
    Column("answered", |entry| pairs(entry, "/response/headers", ": ")),
    Column("answered body", |entry| content(entry, "/response/body")),
];

const SETTINGS: &[Column] = &[
    Column("enabled", |settings| at(settings, "/enabled")),
    Column("max entries", |settings| at(settings, "/max_entries")),
    Column("fields", |settings| at(settings, "/redact/fields")),
    Column("headers", |settings| at(settings, "/redact/headers")),
    Column("values", |settings| at(settings, "/redact/values")),
    Column("patterns", |settings| at(settings, "/redact/patterns")),
];

/// Names with their values, one a line.
fn pairs(entry: &Value, pointer: &str, between: &str) -> Vec<String> {
    let pairs = entry.pointer(pointer).and_then(Value::as_array);
    let line = |pair: &Value| [at(pair, "/name").concat(), at(pair, "/value").concat()].join(between);
    pairs.into_iter().flatten().map(line).collect()
}

/// A body, line by line.
fn content(entry: &Value, pointer: &str) -> Vec<String> {
    let Some(body) = entry.pointer(pointer).filter(|body| !body.is_null()) else { return Vec::new() };
    if body.get("form").is_some() {
        return pairs(body, "/form", "=");
    }
    let shown = body.get("json").unwrap_or(body);
    let text = serde_json::to_string_pretty(shown).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn folder(tenant: Option<&Id>) -> Vec<&str> {
    match tenant {
        Some(tenant) => vec!["tenants", tenant.as_str(), "error-log"],
        None => vec!["error-log"],
    }
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    match &args.command {
        Command::List(args) => list(&session, args),
        Command::Show { id, tenant } => {
            let id = id.to_string();
            let mut segments = folder(tenant.as_ref());
            segments.push(&id);
            session.show(path(&segments), PAGE)
        }
        Command::Settings(args) => settings(&session, args),
    }
}

fn list(session: &Session, args: &List) -> Result<(), Error> {
    let mut call = Call::get(path(&folder(args.tenant.as_ref())));
    let narrow = [
        ("since", args.since.map(|time| time.to_string())),
        ("until", args.until.map(|time| time.to_string())),
        ("credential", args.key.as_ref().map(Id::to_string)),
        ("endpoint", args.endpoint.as_ref().map(EndpointRef::to_string)),
        ("reason", args.reason.clone()),
        ("status", args.status.map(|status| status.to_string())),
    ];
    for (name, value) in narrow {
        if let Some(value) = value {
            call = call.with(name, value);
        }
    }
    session.pages(&call, &args.pages, LIST, "no failed calls")
}

/// The API sets everything at once: what was not given is what it was, and nobody else may change it in between.
fn settings(session: &Session, args: &Settings) -> Result<(), Error> {
    let at = path(&["tenants", args.tenant.as_str(), "error-log", "settings"]);
    let lists =
        [("fields", &args.fields), ("headers", &args.headers), ("values", &args.values), ("patterns", &args.patterns)];
    let is_given = args.on || args.off || args.no_redactions || args.max_entries.is_some();
    if !is_given && lists.iter().all(|(_, list)| list.is_empty()) {
        return session.show(at, SETTINGS);
    }
    let now = session.send(&Call::get(at.clone()))?;
    let of_now = |name: &str| now.body.get(name).cloned().unwrap_or_default();
    let mut redact = if args.no_redactions { json!({}) } else { of_now("redact") };
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        put(&mut redact, name, list.clone());
    }
    let enabled = if args.on || args.off { args.on.into() } else { of_now("enabled") };
    let max_entries = args.max_entries.map_or_else(|| of_now("max_entries"), Value::from);
    let whole = json!({ "enabled": enabled, "max_entries": max_entries, "redact": redact });
    let answer = session.send(&Call::put(at, &whole).if_match(now.tag))?;
    let done = format!("set the error log of tenant `{}`", args.tenant);
    session.say(&answer.body, || format!("{done}\n{}", table::page(SETTINGS, &answer.body)))
}
