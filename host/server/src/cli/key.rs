//! `portcullis key`: the life of keys.

mod import;
mod import_pair;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use portcullis_model::address::Cidr;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::time::Expiry;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::confirm::{Consent, Question};
use super::issued::{self, Outlets, Reserved};
use super::nodes::{self, Waiting};
use super::table::{self, Column, at};
use super::value::{Expiration, Ranges};
use super::{Common, Listed, Pages, Session, body, is_false, put, value, with_filters};
use crate::client::{Answer, Call, ClientError, path};
use crate::error::Error;
use crate::input::Origin;
use crate::{Exit, output};

const HELP: &str = "\
There are three kinds. A tenant key has a group, and may have an address list and an expiry. A management key is \
confined to endpoints and applications, and tied to the admin who made it. A workspace key is a pair of a key and a \
secret to sign requests with; a tenant has one. A key is shown once, when it is made. The kind of a key is found by its \
id; `--kind` saves the search.

Examples:
  portcullis key create acme tenant --name Shop --group integration --expires 2027-01-01
  portcullis key list acme
  portcullis key rotate acme k3J9aQ2x
  portcullis key revoke acme k3J9aQ2x";

/// Keys: create, import, list, rotate, revoke
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
    /// Show a key without its secret
    #[command(after_long_help = "Examples:\n  portcullis key show acme k3J9aQ2x")]
    Show {
        #[command(flatten)]
        of: Of,
        /// Its kind [default: found by its id]
        #[arg(long)]
        kind: Option<Kind>,
    },
    Create(Box<Create>),
    Import(import::Args),
    ImportPair(import_pair::Args),
    Edit(Edit),
    Rotate(Rotate),
    /// End the earlier secret of a rotated key before its time
    #[command(
        after_long_help = "Examples:\n  portcullis key end-overlap acme k3J9aQ2x\n  portcullis key end-overlap acme k3J9aQ2x --yes"
    )]
    EndOverlap {
        #[command(flatten)]
        of: Of,
        /// Its kind [default: found by its id]
        #[arg(long)]
        kind: Option<Kind>,
        #[command(flatten)]
        consent: Consent,
    },
    /// Revoke a key, at once and for good; it stays listed
    #[command(
        after_long_help = "Examples:\n  portcullis key revoke acme k3J9aQ2x\n  portcullis key revoke acme k3J9aQ2x --yes\n  portcullis key revoke acme k3J9aQ2x --yes --wait all"
    )]
    Revoke {
        #[command(flatten)]
        of: Of,
        /// Its kind [default: found by its id]
        #[arg(long)]
        kind: Option<Kind>,
        #[command(flatten)]
        waiting: Waiting,
        #[command(flatten)]
        consent: Consent,
    },
    /// Delete a management key, at once and for good
    #[command(
        after_long_help = "Tenant keys and workspace keys are revoked and stay listed: `portcullis key revoke`.\n\nExamples:\n  portcullis key delete acme m7Kq2zPd\n  portcullis key delete acme m7Kq2zPd --yes"
    )]
    Delete {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        waiting: Waiting,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(clap::Args)]
struct Of {
    /// The tenant
    tenant: Id,
    /// The key's id, never the key itself
    id: Id,
}

impl Of {
    fn path(&self, kind: Kind) -> String {
        path(&["tenants", self.tenant.as_str(), kind.folder(), self.id.as_str()])
    }

    /// The path of something that is done to the key.
    fn act(&self, kind: Kind, act: &str) -> String {
        path(&["tenants", self.tenant.as_str(), kind.folder(), self.id.as_str(), act])
    }
}

/// The kinds of keys, in the order in which a key is looked for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A group, an address list, an expiry
    Tenant,
    /// Endpoints, applications, a creator
    Management,
    /// One pair of a key and a signing secret
    Workspace,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Tenant, Kind::Management, Kind::Workspace];

    fn name(self) -> &'static str {
        match self {
            Kind::Tenant => "tenant",
            Kind::Management => "management",
            Kind::Workspace => "workspace",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Kind::Tenant => "tenant-keys",
            Kind::Management => "management-keys",
            Kind::Workspace => "workspace-keys",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum State {
    /// Not revoked; it may have expired
    Active,
    /// Revoked
    Revoked,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Revoked => "revoked",
        }
    }
}

const LIST_HELP: &str = "\
The status is the stored state together with the expiration: a key that ends within seven days is expiring \
soon, unless the tenant has another number of days. \
Without `--kind` the JSON has in `next` the cursor of each kind that has more.

Examples:
  portcullis key list acme
  portcullis key list acme --kind tenant --state active
  portcullis key list acme --expiration expiring-soon
  portcullis key list acme --all --json";

/// List the keys of a tenant, without their secrets
#[derive(clap::Args)]
#[command(after_long_help = LIST_HELP)]
struct List {
    /// The tenant
    tenant: Id,
    /// Keys of this kind alone
    #[arg(long)]
    kind: Option<Kind>,
    /// Keys in this stored state alone
    #[arg(long)]
    state: Option<State>,
    /// Keys whose end lies so alone
    #[arg(long)]
    expiration: Option<Expiration>,
    #[command(flatten)]
    pages: Pages,
}

const CREATE_HELP: &str = "\
The key is shown once: keep it, or have it written to a file with `--key-out`. An expiry is a date, which ends in UTC, \
or a time such as 2026-12-31T18:00:00Z. A new workspace pair puts the tenant's old one out of use at once, and this is \
asked for.

Examples:
  portcullis key create acme tenant --name Shop --group integration --expires 2027-01-01
  portcullis key create acme tenant --name Shop --group integration --ip-allow-file offices.txt
  portcullis key create acme management --name CI --expires 2027-01-01 \\
      --endpoint shop/settings --application web --key-out ci.key
  portcullis key create acme workspace --profile antavo --key-out acme.key --secret-out acme.secret";

/// Create a key
#[derive(clap::Args, Serialize)]
#[command(after_long_help = CREATE_HELP)]
struct Create {
    /// The tenant
    #[serde(skip)]
    tenant: Id,
    /// The kind of key
    #[serde(skip)]
    kind: Kind,
    /// Its display name, 2 to 200 characters; a workspace key may do without
    #[arg(long, required_if_eq_any([("kind", "tenant"), ("kind", "management")]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// When it ends; a management key always does [default: never]
    #[arg(long, value_name = "TIME", required_if_eq("kind", "management"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Expiry>,
    /// Write the key to this new file, for its owner alone, instead of showing it
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    key_out: Option<PathBuf>,
    /// Name this creation, so that giving it again within a day does not make another key
    #[arg(long, value_name = "KEY", value_parser = value::idempotency_key)]
    #[serde(skip)]
    idempotency_key: Option<String>,

    /// The group whose permissions it has
    #[arg(long, required_if_eq("kind", "tenant"), help_heading = "Tenant keys")]
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Id>,
    #[command(flatten)]
    #[serde(skip)]
    allow: Allow,

    /// An endpoint that it may use; several, or with commas between
    #[arg(
        long = "endpoint",
        value_name = "SERVICE/ENDPOINT",
        value_delimiter = ',',
        value_parser = value::endpoint,
        required_if_eq("kind", "management"),
        help_heading = "Management keys"
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<EndpointRef>,
    /// An application that it is confined to; several, or with commas between [default: all]
    #[arg(long = "application", value_name = "APPLICATION", value_delimiter = ',', help_heading = "Management keys")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    applications: Vec<Id>,
    /// The admin who answers for it [default: the user of the key that makes it]
    #[arg(long, value_name = "USER", help_heading = "Management keys")]
    #[serde(skip_serializing_if = "Option::is_none")]
    creator: Option<Id>,
    /// Its power does not depend on its creator's
    #[arg(long, help_heading = "Management keys")]
    #[serde(skip)]
    independent: bool,

    /// The signature profile by which its requests are signed [default: the only one there is]
    #[arg(long, value_name = "PROFILE", help_heading = "Workspace keys")]
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Id>,
    /// It is proven by signatures alone: its key is the id of a pair and nothing more
    #[arg(long, help_heading = "Workspace keys")]
    #[serde(skip_serializing_if = "is_false")]
    signed_only: bool,
    /// Write the signing secret to this new file, for its owner alone, instead of showing it
    #[arg(long, value_name = "FILE", help_heading = "Workspace keys")]
    #[serde(skip)]
    secret_out: Option<PathBuf>,
    #[command(flatten)]
    #[serde(skip)]
    consent: Consent,
}

/// The addresses that a tenant key may be used from.
#[derive(clap::Args)]
struct Allow {
    /// An address or range that it may be used from; several, or with commas between [default: any]
    #[arg(
        long = "ip-allow",
        value_name = "RANGE",
        value_delimiter = ',',
        conflicts_with = "ip_allow_file",
        help_heading = "Tenant keys"
    )]
    ip_allow: Vec<Cidr>,
    /// A file with one address or range a line; `-` is standard input
    #[arg(long, value_name = "FILE", help_heading = "Tenant keys")]
    ip_allow_file: Option<Origin>,
}

impl Create {
    /// The first option that is given and is not of this kind of key, with the kind it is of.
    fn misplaced(&self) -> Option<(&'static str, Kind)> {
        let allow = !self.allow.ip_allow.is_empty() || self.allow.ip_allow_file.is_some();
        [
            ("--group", Kind::Tenant, self.group.is_some()),
            ("--ip-allow", Kind::Tenant, allow),
            ("--endpoint", Kind::Management, !self.endpoints.is_empty()),
            ("--application", Kind::Management, !self.applications.is_empty()),
            ("--creator", Kind::Management, self.creator.is_some()),
            ("--independent", Kind::Management, self.independent),
            ("--secret-out", Kind::Workspace, self.secret_out.is_some()),
            ("--profile", Kind::Workspace, self.profile.is_some()),
            ("--signed-only", Kind::Workspace, self.signed_only),
        ]
        .into_iter()
        .find(|(_, of, is_given)| *is_given && *of != self.kind)
        .map(|(option, of, _)| (option, of))
    }

    fn body(&self) -> Result<Value, Error> {
        let mut new = body(self);
        if let Some(ranges) = Ranges::given(&self.allow.ip_allow, self.allow.ip_allow_file.as_ref(), false)? {
            put(&mut new, "ip_allowlist", body(&ranges));
        }
        if self.independent {
            put(&mut new, "creator_rule", "independent");
        }
        Ok(new)
    }
}

const EDIT_HELP: &str = "\
The secret stays, and what is not given stays as it is; the address list is replaced as a whole. The expiry changes by \
`portcullis key rotate` alone. Management keys and workspace keys are not edited.

Examples:
  portcullis key edit acme k3J9aQ2x --group readers
  portcullis key edit acme k3J9aQ2x --ip-allow 192.0.2.0/24
  portcullis key edit acme k3J9aQ2x --any-address";

/// Change a tenant key
#[derive(clap::Args, Serialize)]
#[command(after_long_help = EDIT_HELP)]
struct Edit {
    #[command(flatten)]
    #[serde(skip)]
    of: Of,
    /// Its display name, 2 to 200 characters
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The group whose permissions it has
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Id>,
    #[command(flatten)]
    #[serde(skip)]
    allow: Allow,
    /// It may be used from any address
    #[arg(long, conflicts_with_all = ["ip_allow", "ip_allow_file"], help_heading = "Tenant keys")]
    #[serde(skip)]
    any_address: bool,
}

const ROTATE_HELP: &str = "\
The key gets a new secret and keeps the rest. The old secret is dead at once, unless it is given time with `--overlap`; \
`portcullis key end-overlap` ends that early. An expired key needs a new expiry. A \
workspace pair is not rotated: make a new one with `portcullis key create TENANT workspace`.

Examples:
  portcullis key rotate acme k3J9aQ2x
  portcullis key rotate acme k3J9aQ2x --overlap 7d
  portcullis key rotate acme k3J9aQ2x --expires 2028-01-01 --key-out shop.key --yes";

/// Give a tenant or management key a new secret
#[derive(clap::Args, Serialize)]
#[command(after_long_help = ROTATE_HELP)]
struct Rotate {
    #[command(flatten)]
    #[serde(skip)]
    of: Of,
    /// Its kind [default: found by its id]
    #[arg(long)]
    #[serde(skip)]
    kind: Option<Kind>,
    /// When it ends from now on [default: as before]
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Expiry>,
    /// How long the old secret goes on working, such as 1h or 7d, at most 30d [default: not at all]
    #[arg(long = "overlap", value_name = "TIME", value_parser = value::seconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_s: Option<u32>,
    /// Write the key to this new file, for its owner alone, instead of showing it
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    key_out: Option<PathBuf>,
    /// Name this rotation, so that giving it again within a day does not rotate once more
    #[arg(long, value_name = "KEY", value_parser = value::idempotency_key)]
    #[serde(skip)]
    idempotency_key: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    consent: Consent,
}

const LIST_COLUMNS: &[Column] = &[
    Column("id", |key| at(key, "/id")),
    Column("kind", |key| at(key, "/kind")),
    Column("name", |key| at(key, "/name")),
    Column("status", status),
    Column("group", |key| at(key, "/group")),
    Column("expires", |key| at(key, "/expires")),
    Column("last used", |key| at(key, "/last_used/at")),
    Column("created", |key| at(key, "/created_at")),
    Column("created by", |key| at(key, "/created_by")),
];

const PAGE: &[Column] = &[
    Column("id", |key| at(key, "/id")),
    Column("kind", |key| at(key, "/kind")),
    Column("name", |key| at(key, "/name")),
    Column("description", |key| at(key, "/description")),
    Column("status", status),
    Column("expires", |key| at(key, "/expires")),
    Column("secret version", |key| at(key, "/secret_version")),
    Column("old secret works until", |key| at(key, "/overlap_until")),
    Column("last used", |key| at(key, "/last_used/at")),
    Column("from", |key| at(key, "/last_used/address")),
    Column("secrets", secrets),
    Column("group", |key| at(key, "/group")),
    Column("addresses", |key| any_where_empty(key, "/ip_allowlist")),
    Column("endpoints", |key| at(key, "/endpoints")),
    Column("applications", |key| any_where_empty(key, "/applications")),
    Column("signs by", |key| at(key, "/signature_profile")),
    Column("signed only", |key| at(key, "/signed_only")),
    Column("creator", |key| at(key, "/creator")),
    Column("creator rule", |key| at(key, "/creator_rule")),
    Column("created", |key| at(key, "/created_at")),
    Column("created by", |key| at(key, "/created_by")),
];

/// The uses of each version of the secret, a line each.
fn secrets(key: &Value) -> Vec<String> {
    let versions = key.pointer("/secrets").and_then(Value::as_array).into_iter().flatten();
    let line = |secret: &Value| {
        let word = |pointer: &str| at(secret, pointer).concat();
        let used = match at(secret, "/last_used/at").pop() {
            Some(time) => format!("used {} times, last {time}", word("/count")),
            None => "never used".to_owned(),
        };
        let share = at(secret, "/share").pop().map(|share| format!(", {share} % of recent requests"));
        let until = at(secret, "/until").pop().map(|until| format!(", until {until}"));
        let more: String = share.into_iter().chain(until).collect();
        format!("version {}: {used}{more}", word("/version"))
    };
    versions.map(line).collect()
}

/// The stored state and the expiration together.
fn status(key: &Value) -> Vec<String> {
    let words = [at(key, "/state"), at(key, "/expiration")].concat();
    vec![words.join(", ").replace('_', " ")]
}

fn any_where_empty(key: &Value, pointer: &str) -> Vec<String> {
    match key.pointer(pointer) {
        Some(Value::Array(items)) if items.is_empty() => vec!["any".to_owned()],
        _ => at(key, pointer),
    }
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let session = Session::open(&args.common)?;
    let done = match &args.command {
        Command::List(args) => list(&session, args),
        Command::Show { of, kind } => show(&session, of, *kind),
        Command::Create(new) => create(&session, new),
        Command::Import(args) => import::run(&session, args),
        Command::ImportPair(args) => import_pair::run(&session, args),
        Command::Edit(edit) => {
            let mut change = body(edit);
            let Allow { ip_allow, ip_allow_file } = &edit.allow;
            if let Some(ranges) = Ranges::given(ip_allow, ip_allow_file.as_ref(), edit.any_address)? {
                put(&mut change, "ip_allowlist", body(&ranges));
            }
            let done = format!("changed tenant key `{}` of tenant `{}`", edit.of.id, edit.of.tenant);
            session.change(&Call::patch(edit.of.path(Kind::Tenant), &change), &done, PAGE)
        }
        Command::Rotate(args) => rotate(&session, args),
        Command::EndOverlap { of, kind, consent } => {
            let kind = find(&session, of, *kind)?.0;
            let call = Call::post(of.act(kind, "end-overlap"), &json!({}));
            let key = session.order(call, consent, Question::YesOrNo)?.body;
            let done = format!("ended the earlier secret of {} key `{}` of tenant `{}`", kind.name(), of.id, of.tenant);
            session.say(&key, || format!("{done}\n{}", table::page(PAGE, &key)))
        }
        Command::Revoke { of, kind, waiting, consent } => {
            let kind = find(&session, of, *kind)?.0;
            let call = waiting.on(Call::post(of.act(kind, "revoke"), &json!({})));
            let key = session.order(call, consent, Question::Id(of.id.as_str()))?.body;
            let done = format!("revoked {} key `{}` of tenant `{}`", kind.name(), of.id, of.tenant);
            session.say(&key, || format!("{done}\n{}{}", table::page(PAGE, &key), nodes::receipts(&key)))?;
            return Ok(nodes::exit(&key));
        }
        Command::Delete { of, waiting, consent } => {
            let done = format!("deleted management key `{}` of tenant `{}`", of.id, of.tenant);
            let call = waiting.on(Call::delete(of.path(Kind::Management)));
            let answer = session.order(call, consent, Question::Id(of.id.as_str()))?.body;
            if !session.json || !answer.is_null() {
                session.say(&answer, || format!("{done}\n{}", nodes::receipts(&answer)))?;
            }
            return Ok(nodes::exit(&answer));
        }
    };
    done.map(|()| Exit::Success)
}

/// Finds a key by its id, among the keys of every kind unless one is given. Kinds that the caller may not look at are
/// passed over, and told of only where the key is among none of the others.
fn find(session: &Session, of: &Of, kind: Option<Kind>) -> Result<(Kind, Answer), Error> {
    let mut refusal = None;
    for kind in Kind::ALL.into_iter().filter(|candidate| kind.is_none_or(|kind| kind == *candidate)) {
        match session.client.send(&Call::get(of.path(kind))) {
            Ok(answer) => return Ok((kind, answer)),
            Err(ClientError::Refused(problem)) if problem.is_forbidden() => refusal = Some(problem),
            Err(ClientError::Refused(problem)) if problem.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(match refusal {
        Some(problem) => ClientError::Refused(problem).into(),
        None => Error::NoSuchKey { tenant: of.tenant.clone(), id: of.id.clone() },
    })
}

fn show(session: &Session, of: &Of, kind: Option<Kind>) -> Result<(), Error> {
    let key = find(session, of, kind)?.1.body;
    // Whoever owns a workspace key sees it again: it is the id of a pair.
    let pair = at(&key, "/key").into_iter().map(|key| format!("key             {}\n", output::Visible(&key)));
    session.say(&key, || table::page(PAGE, &key) + &pair.collect::<String>())
}

fn list(session: &Session, args: &List) -> Result<(), Error> {
    let call = |kind: Kind| {
        let call = Call::get(path(&["tenants", args.tenant.as_str(), kind.folder()]));
        with_filters(call, args.state, args.expiration)
    };
    if let Some(kind) = args.kind {
        return session.pages(&call(kind), &args.pages, LIST_COLUMNS, "no keys");
    }
    if args.pages.after.is_some() {
        return Err(Error::Options {
            what: "`--after` is a place among keys of one kind",
            fix: "give `--kind` with it",
        });
    }
    let mut every = Listed::default();
    let mut more = Map::new();
    for kind in Kind::ALL {
        let listed = session.gather(&call(kind), &args.pages)?;
        every.items.extend(listed.items);
        if !listed.next.is_null() {
            more.insert(kind.name().to_owned(), listed.next);
        }
    }
    let aside: String = more
        .iter()
        .map(|(kind, next)| format!("there are more: `--kind {kind} --after {}` goes on\n", table::word(next)))
        .collect();
    let next = if more.is_empty() { Value::Null } else { Value::Object(more) };
    session.say(&json!({ "items": every.items, "next": next }), || match every.items.as_slice() {
        [] => "no keys\n".to_owned(),
        items => table::list(LIST_COLUMNS, items),
    })?;
    if session.json || aside.is_empty() { Ok(()) } else { output::say_aside(&aside) }
}

fn create(session: &Session, new: &Create) -> Result<(), Error> {
    if let Some((option, of)) = new.misplaced() {
        return Err(Error::NotOfKind { option, of: of.name(), kind: new.kind.name() });
    }
    let call = Call::post(path(&["tenants", new.tenant.as_str(), new.kind.folder()]), &new.body()?);
    let call = call.once(new.idempotency_key.as_deref());
    let reserve = |path: &Option<PathBuf>| path.as_deref().map(Reserved::at).transpose();
    let outlets = Outlets { key: reserve(&new.key_out)?, signing_secret: reserve(&new.secret_out)? };
    let key = match new.kind {
        Kind::Workspace => session.order(call, &new.consent, Question::YesOrNo)?,
        // Nothing is lost by these, and their bodies have no room for a confirmation.
        Kind::Tenant | Kind::Management => session.send(&call)?,
    };
    let id = at(&key.body, "/id").concat();
    let done = format!("created {} key `{}` of tenant `{}`", new.kind.name(), output::Visible(&id), new.tenant);
    issued::say(session, key.body, &done, PAGE, outlets)
}

fn rotate(session: &Session, args: &Rotate) -> Result<(), Error> {
    let Of { tenant, id } = &args.of;
    let kind = match args.kind {
        Some(kind) => kind,
        None => find(session, &args.of, None)?.0,
    };
    if kind == Kind::Workspace {
        let fix = "make a new pair with `portcullis key create TENANT workspace`";
        return Err(Error::Options { what: "a workspace pair is not rotated", fix });
    }
    let outlets = Outlets { key: args.key_out.as_deref().map(Reserved::at).transpose()?, signing_secret: None };
    let call = Call::post(args.of.act(kind, "rotate"), &body(args)).once(args.idempotency_key.as_deref());
    let key = session.order(call, &args.consent, Question::YesOrNo)?;
    let done = format!("rotated {} key `{id}` of tenant `{tenant}`", kind.name());
    issued::say(session, key.body, &done, PAGE, outlets)
}
