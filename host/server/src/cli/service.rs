//! `portcullis service`: the API products that are guarded.

use clap::Subcommand;
use portcullis_model::id::Id;
use portcullis_model::source::{HostPattern, Presentation};
use serde::Serialize;
use serde_json::Value;

use super::confirm::{Consent, Question};
use super::table::{self, Column, at};
use super::{Common, Session, body, put, value};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
A service has hosts and a path prefix by which requests are led to it, an upstream, and a catalogue of endpoints \
(`portcullis endpoint`). A request that matches no service or no endpoint is denied.

Examples:
  portcullis service create shop --host api.shop.example --upstream http://127.0.0.1:8080
  portcullis service list
  portcullis service show shop";

/// Services: hosts, upstreams and catalogues
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
    /// List services
    #[command(after_long_help = "Examples:\n  portcullis service list\n  portcullis service list --json")]
    List,
    /// Show a service with its endpoints
    #[command(after_long_help = "Examples:\n  portcullis service show shop")]
    Show {
        /// The service
        id: Id,
    },
    Create(Create),
    Edit(Edit),
    /// Delete a service, with its catalogue
    #[command(
        after_long_help = "Its requests are denied at once.\n\nExamples:\n  portcullis service delete shop\n  portcullis service delete shop --yes"
    )]
    Delete {
        /// The service
        id: Id,
        #[command(flatten)]
        consent: Consent,
    },
}

const CREATE_HELP: &str = "\
Unless `--accept` says otherwise, a service accepts tenant keys in the header X-API-Key, workspace keys in the header \
X-Workspace-Key or the parameter api_key, and management keys behind `Authorization: ManagementKey-v1`.

Examples:
  portcullis service create shop --host api.shop.example --upstream http://127.0.0.1:8080
  portcullis service create loyalty --preset antavo --host api.acme.example --prefix /loyalty \\
      --upstream https://backend.acme.example --replace-host --tenant acme
  portcullis service create web --host api.web.example --upstream http://127.0.0.1:8081 \\
      --preflight-origin https://app.web.example --preflight-header X-API-Key";

/// Create a service
#[derive(clap::Args, Serialize)]
#[command(after_long_help = CREATE_HELP)]
struct Create {
    /// Its id, for good
    id: Id,
    /// A host that it answers to, or `*.suffix`; several, or with commas between
    #[arg(long = "host", value_name = "HOST", required = true, value_delimiter = ',', value_parser = value::host)]
    hosts: Vec<HostPattern>,
    /// Where its requests go: the origin of the upstream, http, https or h2c
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// The path prefix under which its endpoints lie [default: /]
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// The one tenant that it is for [default: every tenant]
    #[arg(long, value_name = "TENANT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Id>,
    /// The catalogue to begin with: antavo
    #[arg(long, value_name = "PRESET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    /// Its display name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Send the upstream its own Host, not the client's
    #[arg(long)]
    #[serde(skip)]
    replace_host: bool,
    #[command(flatten)]
    #[serde(flatten)]
    rest: Rest,
}

const EDIT_HELP: &str = "\
What is not given stays as it is; a list is replaced as a whole. The id, the prefix and the tenant are for good.

Examples:
  portcullis service edit shop --upstream http://127.0.0.1:8090
  portcullis service edit shop --host api.shop.example --host api2.shop.example
  portcullis service edit shop --accept signature:antavo=workspace --accept header:X-API-Key=tenant
  portcullis service edit shop --no-preflight";

/// Change a service
#[derive(clap::Args, Serialize)]
#[command(after_long_help = EDIT_HELP)]
struct Edit {
    /// The service
    #[serde(skip)]
    id: Id,
    /// A host that it answers to; all of them, in place of those it has
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',', value_parser = value::host)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<HostPattern>,
    /// Where its requests go: the origin of the upstream, http, https or h2c
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// Its display name
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Send the upstream its own Host, not the client's
    #[arg(long, conflicts_with = "keep_host")]
    #[serde(skip)]
    replace_host: bool,
    /// Send the upstream the client's Host
    #[arg(long)]
    #[serde(skip)]
    keep_host: bool,
    /// No longer answer CORS preflights
    #[arg(long, conflicts_with = "origins", help_heading = "CORS preflights")]
    #[serde(skip)]
    no_preflight: bool,
    #[command(flatten)]
    #[serde(flatten)]
    rest: Rest,
}

/// What creating and editing have in common.
#[derive(clap::Args, Serialize)]
struct Rest {
    /// How long the upstream may take to begin its response, such as 30s [default: 30s when created]
    #[arg(long = "response-timeout", value_name = "TIME", value_parser = value::seconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    response_timeout_s: Option<u32>,
    /// A path that Portcullis keeps for itself, such as /.portcullis, below which leaked keys are reported
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved_prefix: Option<String>,
    /// A place for keys, such as header:X-API-Key=tenant; also parameter:NAME=KIND, scheme:NAME=KIND, token:NAME=KIND and signature:PROFILE=workspace
    #[arg(long = "accept", value_name = "PLACE:NAME=KIND", value_parser = value::presentation)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accept: Vec<Presentation>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "Preflight::is_left_out")]
    preflight: Preflight,
}

/// How CORS preflights are answered.
#[derive(clap::Args, Serialize)]
struct Preflight {
    /// Answer preflights of scripts from this origin, or `*`; several, or with commas between
    #[arg(long = "preflight-origin", value_name = "ORIGIN", value_delimiter = ',', help_heading = "CORS preflights")]
    origins: Vec<String>,
    /// A header field that scripts may send, such as X-API-Key
    #[arg(
        long = "preflight-header",
        value_name = "NAME",
        value_delimiter = ',',
        requires = "origins",
        help_heading = "CORS preflights"
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<String>,
    /// How long browsers may remember the answer, such as 10m
    #[arg(
        long = "preflight-max-age",
        value_name = "TIME",
        requires = "origins",
        value_parser = value::seconds,
        help_heading = "CORS preflights"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_s: Option<u32>,
}

impl Preflight {
    fn is_left_out(&self) -> bool {
        self.origins.is_empty()
    }
}

const LIST: &[Column] = &[
    Column("id", |service| at(service, "/id")),
    Column("name", |service| at(service, "/name")),
    Column("hosts", |service| at(service, "/hosts")),
    Column("prefix", |service| at(service, "/prefix")),
    Column("tenant", tenant),
    Column("upstream", |service| at(service, "/upstream")),
    Column("endpoints", |service| vec![endpoints(service).len().to_string()]),
];

const PAGE: &[Column] = &[
    Column("id", |service| at(service, "/id")),
    Column("name", |service| at(service, "/name")),
    Column("hosts", |service| at(service, "/hosts")),
    Column("prefix", |service| at(service, "/prefix")),
    Column("tenant", tenant),
    Column("accepts", |service| {
        service.pointer("/accept").and_then(Value::as_array).map_or_else(Vec::new, |places| accepts(places))
    }),
    Column("upstream", |service| at(service, "/upstream")),
    Column("client's host", |service| {
        let kept = service.pointer("/preserve_host") == Some(&Value::Bool(true));
        vec![if kept { "sent on" } else { "replaced by the upstream's" }.to_owned()]
    }),
    Column("may take", |service| table::seconds(service, "/response_timeout_s")),
    Column("reserved", |service| at(service, "/reserved_prefix")),
    Column("catalogue", |service| at(service, "/catalogue_version")),
    Column("preset", |service| at(service, "/preset")),
    Column("preflights of", |service| at(service, "/preflight/origins")),
    Column("with fields", |service| at(service, "/preflight/headers")),
    Column("remembered", |service| table::seconds(service, "/preflight/max_age_s")),
    Column("created", |service| at(service, "/created_at")),
    Column("changed", |service| at(service, "/changed").into_iter().map(|at| format!("at revision {at}")).collect()),
];

/// The one tenant of a service, or that it has none.
fn tenant(service: &Value) -> Vec<String> {
    let tenant = at(service, "/tenant");
    if tenant.is_empty() { vec!["(shared)".to_owned()] } else { tenant }
}

fn endpoints(service: &Value) -> &[Value] {
    service.pointer("/endpoints").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn accepts(places: &[Value]) -> Vec<String> {
    let place = |place: &Value| {
        let named = ["header", "parameter", "scheme", "signature", "token", "client"]
            .iter()
            .flat_map(|kind| at(place, &format!("/{kind}")).into_iter().map(move |name| format!("{kind}:{name}")));
        format!("{}={}", named.collect::<String>(), at(place, "/kinds").join(","))
    };
    places.iter().map(place).collect()
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let one = |id: &Id| path(&["services", id.as_str()]);
    match &args.command {
        Command::List => session.list(path(&["services"]), LIST, "no services"),
        Command::Show { id } => {
            let service = session.send(&Call::get(one(id)))?.body;
            session.say(&service, || {
                let endpoints = table::list(super::endpoint::LIST, endpoints(&service));
                format!("{}\n{endpoints}", table::page(PAGE, &service))
            })
        }
        Command::Create(create) => {
            let mut new = body(create);
            if create.replace_host {
                put(&mut new, "preserve_host", false);
            }
            let done = format!("created service `{}`", create.id);
            session.change(&Call::post(path(&["services"]), &new), &done, PAGE)
        }
        Command::Edit(edit) => {
            let mut change = body(edit);
            if edit.replace_host || edit.keep_host {
                put(&mut change, "preserve_host", edit.keep_host);
            }
            if edit.no_preflight {
                put(&mut change, "preflight", Value::Null);
            }
            session.change(&Call::patch(one(&edit.id), &change), &format!("changed service `{}`", edit.id), PAGE)
        }
        Command::Delete { id, consent } => {
            let done = format!("deleted service `{id}`");
            session.remove(Call::delete(one(id)), consent, Question::Id(id.as_str()), &done)
        }
    }
}
