//! The commands that work on a running server, over its admin API.
//!
//! Each command is a call or two. The arguments of a command are the fields of the call's body, so they are checked by the
//! types of `portcullis_model` before anything is sent, and what cannot be known here is the server's to refuse. Answers
//! are shown field by field as they come: a newer server may say more than this build knows of.
//!
//! | module | holds |
//! |---|---|
//! | [`installation`], [`signature_profile`], [`service`], [`endpoint`] | what is guarded |
//! | [`tenant`], [`settings`], [`application`], [`group`], [`user`] | for whom |
//! | [`key`], [`client`], [`token_key`] | with which keys |
//! | [`feed`], [`nodes`] | what workers in proxies get, and who they are |
//! | [`me`] | what a person does who has signed in |
//! | [`audit`], [`decision`], [`whoami`] | what was done and decided, and by whom |
//! | [`error_log`], [`client_ip`] | what failed, and what the node sees of clients |
//! | [`declared`] | a service or a tenant as one file: export, plan, apply |
//! | [`completion`] | scripts for shells |
//! | [`issued`] | secrets, once
//! | [`confirm`] | asking before what cannot be undone |
//! | [`table`] | records for people |
//! | [`value`] | arguments that are more than a text |

mod application;
mod audit;
mod client;
mod client_ip;
mod completion;
mod confirm;
mod decision;
mod declared;
mod endpoint;
mod error_log;
mod feed;
mod group;
mod installation;
mod issued;
mod key;
mod me;
mod nodes;
mod service;
mod settings;
mod signature_profile;
mod table;
mod tenant;
mod token_key;
mod user;
mod value;
mod whoami;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use self::confirm::{Consent, Question};
use self::table::Column;
pub(crate) use self::value::seconds;
use crate::client::{Access, Answer, Call, Client, ClientError, Scheme};
use crate::error::Error;
use crate::{Exit, output};

/// The most records that `--all` gathers, so that a long history does not fill the memory.
const MAX_LISTED: usize = 100_000;
/// How many records `--all` asks for at once: the most that the API gives.
const FULL_PAGE: u32 = 200;

#[derive(Subcommand)]
pub(crate) enum Command {
    Service(service::Args),
    Endpoint(endpoint::Args),
    Tenant(tenant::Args),
    Settings(settings::Args),
    Group(group::Args),
    Application(application::Args),
    User(user::Args),
    Key(key::Args),
    Client(client::Args),
    TokenKey(token_key::Args),
    Feed(feed::Args),
    Nodes(nodes::Args),
    Me(me::Args),
    Audit(audit::Args),
    Decision(decision::Args),
    ErrorLog(error_log::Args),
    ClientIp(client_ip::Args),
    Installation(installation::Args),
    SignatureProfile(signature_profile::Args),
    Whoami(whoami::Args),
    Export(declared::ExportArgs),
    Plan(declared::PlanArgs),
    Apply(declared::ApplyArgs),
    Completion(completion::Args),
}

/// Runs a command. What the server refuses is told, and is not an error.
///
/// # Errors
/// Where the command could not be given, or nobody knows what came of it.
pub(crate) fn run(command: &Command) -> Result<Exit, Error> {
    let done = match command {
        Command::Service(args) => service::run(args),
        Command::Endpoint(args) => endpoint::run(args),
        Command::Tenant(args) => tenant::run(args),
        Command::Settings(args) => settings::run(args),
        Command::Group(args) => group::run(args),
        Command::Application(args) => application::run(args),
        Command::User(args) => user::run(args),
        Command::Key(args) => return refusal_told(key::run(args)),
        Command::Client(args) => return refusal_told(client::run(args)),
        Command::TokenKey(args) => token_key::run(args),
        Command::Feed(args) => feed::run(args),
        Command::Nodes(args) => nodes::run(args),
        Command::Me(args) => me::run(args),
        Command::Audit(args) => return refusal_told(audit::run(args)),
        Command::Decision(args) => decision::run(args),
        Command::ErrorLog(args) => error_log::run(args),
        Command::ClientIp(args) => client_ip::run(args),
        Command::Installation(args) => installation::run(args),
        Command::SignatureProfile(args) => signature_profile::run(args),
        Command::Whoami(args) => whoami::run(args),
        Command::Export(args) => declared::export(args),
        Command::Plan(args) => declared::plan(args),
        Command::Apply(args) => declared::run_apply(args),
        Command::Completion(args) => completion::run(args),
    };
    refusal_told(done.map(|()| Exit::Success))
}

fn refusal_told(done: Result<Exit, Error>) -> Result<Exit, Error> {
    match done {
        Err(error) if error.is_refusal() => {
            crate::complain(&error);
            Ok(Exit::Refused)
        }
        done => done,
    }
}

/// Options of every command that calls a server.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// The admin API to call [env: PORTCULLIS_SERVER] [default: http://127.0.0.1:9180]
    #[arg(long, value_name = "URL", global = true, help_heading = "Server")]
    server: Option<String>,
    #[command(flatten)]
    access: Access,
    /// Print what the server answered, as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Which part of a long list is wanted.
#[derive(clap::Args)]
struct Pages {
    /// How many records at most, up to 200 [default: 50]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Go on after this; a list that has more says what to give
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// List them all
    #[arg(long, conflicts_with_all = ["limit", "after"])]
    all: bool,
}

/// A part of a list.
#[derive(Default)]
struct Listed {
    items: Vec<Value>,
    /// What to give as `after` for the next part; null at the end.
    next: Value,
}

/// A server to talk to, and the form in which its answers are shown.
struct Session {
    client: Client,
    json: bool,
}

impl Session {
    fn open(common: &Common) -> Result<Session, Error> {
        Session::open_as(common, Scheme::ManagementKey)
    }

    fn open_as(common: &Common, scheme: Scheme) -> Result<Session, Error> {
        let client = Client::open(common.server.as_deref(), &common.access, scheme)?;
        Ok(Session { client, json: common.json })
    }

    fn send(&self, call: &Call) -> Result<Answer, Error> {
        Ok(self.client.send(call)?)
    }

    /// Makes a call that may need to be confirmed. It is made without a confirmation first, because the server knows best
    /// whether it needs one and what would happen.
    fn order(&self, call: Call, consent: &Consent, question: Question<'_>) -> Result<Answer, Error> {
        if consent.is_given() {
            return self.send(&call.confirmed());
        }
        match self.client.send(&call) {
            Err(ClientError::Refused(problem)) => match problem.consequence() {
                Some(consequence) => {
                    confirm::ask(consequence, question)?;
                    self.send(&call.confirmed())
                }
                None => Err(ClientError::Refused(problem).into()),
            },
            answered => Ok(answered?),
        }
    }

    /// Gets a record and shows it.
    fn show(&self, path: String, columns: &[Column]) -> Result<(), Error> {
        let answer = self.send(&Call::get(path))?;
        self.say(&answer.body, || table::page(columns, &answer.body))
    }

    /// Makes a change that nothing is lost by, and shows the record as it is then.
    fn change(&self, call: &Call, done: &str, columns: &[Column]) -> Result<(), Error> {
        let answer = self.send(call)?;
        self.say(&answer.body, || format!("{done}\n{}", table::page(columns, &answer.body)))
    }

    /// Makes a change that leaves nothing to show.
    fn remove(&self, call: Call, consent: &Consent, question: Question<'_>, done: &str) -> Result<(), Error> {
        self.order(call, consent, question)?;
        if self.json { Ok(()) } else { output::say(&format!("{done}\n")) }
    }

    /// Gets a list that comes as a whole and shows it.
    fn list(&self, path: String, columns: &[Column], none: &str) -> Result<(), Error> {
        let listed = self.part(&Call::get(path))?;
        self.say_list(&listed, columns, none)
    }

    /// Gets a part of a list and shows it.
    fn pages(&self, call: &Call, pages: &Pages, columns: &[Column], none: &str) -> Result<(), Error> {
        let listed = self.gather(call, pages)?;
        self.say_list(&listed, columns, none)
    }

    /// Gets the part of a list that is asked for.
    fn gather(&self, call: &Call, pages: &Pages) -> Result<Listed, Error> {
        if !pages.all {
            let limit = pages.limit.into_iter().fold(call.clone(), |call, limit| call.with("limit", limit));
            return self.part(&pages.after.iter().fold(limit, |call, after| call.with("after", after)));
        }
        let call = call.clone().with("limit", FULL_PAGE);
        let mut all = self.part(&call)?;
        while !all.next.is_null() {
            let part = self.part(&call.clone().with("after", table::word(&all.next)))?;
            all.items.extend(part.items);
            // A server that gives the same place twice would keep this going for ever.
            if part.next == all.next || all.items.len() > MAX_LISTED {
                return Err(Error::TooMany { limit: MAX_LISTED });
            }
            all.next = part.next;
        }
        Ok(all)
    }

    fn part(&self, call: &Call) -> Result<Listed, Error> {
        let mut answer = self.send(call)?.body;
        match answer.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => {
                Ok(Listed { items, next: answer.get_mut("next").map(Value::take).unwrap_or_default() })
            }
            _ => Err(Error::NoList),
        }
    }

    fn say_list(&self, listed: &Listed, columns: &[Column], none: &str) -> Result<(), Error> {
        self.say(&json!({ "items": listed.items, "next": listed.next }), || match listed.items.as_slice() {
            [] => format!("{none}\n"),
            items => table::list(columns, items),
        })?;
        if self.json || listed.next.is_null() {
            return Ok(());
        }
        let next = table::word(&listed.next);
        output::say_aside(&format!("there are more: `--after {next}` goes on, `--all` lists them all\n"))
    }

    fn say(&self, answer: &Value, text: impl FnOnce() -> String) -> Result<(), Error> {
        if self.json { output::say_json(answer) } else { output::say(&text()) }
    }
}

/// A list of keys, narrowed down.
fn with_filters(call: Call, state: Option<key::State>, expiration: Option<value::Expiration>) -> Call {
    let call = state.into_iter().fold(call, |call, state| call.with("state", state.name()));
    expiration.into_iter().fold(call, |call, expiration| call.with("expiration", expiration.name()))
}

/// Adds a field to the JSON of arguments.
fn put(body: &mut Value, name: &str, value: impl Into<Value>) {
    if !body.is_object() {
        *body = Value::Object(Map::new());
    }
    if let Value::Object(fields) = body {
        fields.insert(name.to_owned(), value.into());
    }
}

/// The JSON of arguments: what was given, and nothing else.
fn body(arguments: &impl serde::Serialize) -> Value {
    // Arguments are texts, numbers and lists of them, which always have a JSON form.
    serde_json::to_value(arguments).unwrap_or_default()
}

fn is_false(value: &bool) -> bool {
    !*value
}
