//! `portcullis me`: what a person does who has signed in.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::confirm::{Consent, Question};
use super::issued::{self, Outlets, Reserved};
use super::table::{self, Column, at};
use super::{Common, Session};
use crate::client::{Call, Scheme, path};
use crate::error::Error;

const HELP: &str = "\
An admin makes a code for you with `portcullis user enrol`. It works once, within a day, and opens a session of 12 hours. \
The code, and then the session, are given where other commands have a management key: `--key-file`, \
PORTCULLIS_KEY_FILE or PORTCULLIS_KEY.

Examples:
  portcullis me sign-in --key-file code --session-out session
  portcullis me personal-key create --key-file session
  portcullis me sign-out --key-file session";

/// Your own matters: signing in, and your personal key
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
    /// Turn a code into a session
    #[command(after_long_help = "Examples:\n  portcullis me sign-in --key-file code --session-out session")]
    SignIn {
        /// Write the session to this new file, for its owner alone, instead of showing it
        #[arg(long, value_name = "FILE")]
        session_out: Option<PathBuf>,
    },
    /// Show who you are
    #[command(after_long_help = "Examples:\n  portcullis me show --key-file session")]
    Show,
    /// End the session
    #[command(after_long_help = "Examples:\n  portcullis me sign-out --key-file session")]
    SignOut,
    PersonalKey(PersonalKey),
}

/// The one key that is yours alone: a client id and a secret
#[derive(clap::Args)]
#[command(
    arg_required_else_help = true,
    after_long_help = "Examples:\n  portcullis me personal-key show --key-file session"
)]
struct PersonalKey {
    #[command(subcommand)]
    command: Personal,
}

#[derive(Subcommand)]
enum Personal {
    /// Show it, without its secret
    #[command(after_long_help = "Examples:\n  portcullis me personal-key show --key-file session")]
    Show,
    /// Make it
    #[command(
        after_long_help = "Examples:\n  portcullis me personal-key create --key-file session --secret-out secret"
    )]
    Create(Out),
    /// Give it a new secret under the same client id; the old one is dead at once
    #[command(after_long_help = "Examples:\n  portcullis me personal-key regenerate --key-file session --yes")]
    Regenerate {
        #[command(flatten)]
        out: Out,
        #[command(flatten)]
        consent: Consent,
    },
    /// Delete it, at once and for good; another may be made
    #[command(after_long_help = "Examples:\n  portcullis me personal-key delete --key-file session --yes")]
    Delete {
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(clap::Args)]
struct Out {
    /// Write the secret to this new file, for its owner alone, instead of showing it
    #[arg(long, value_name = "FILE")]
    secret_out: Option<PathBuf>,
}

const PERSON: &[Column] = &[
    Column("tenant", |me| at(me, "/tenant")),
    Column("user", |me| at(me, "/user")),
    Column("name", |me| at(me, "/name")),
    Column("role", |me| at(me, "/role")),
    Column("group", |me| at(me, "/group")),
    Column("session ends", |me| at(me, "/session_expires")),
];

const OPENED: &[Column] = &[
    Column("tenant", |opened| at(opened, "/tenant")),
    Column("user", |opened| at(opened, "/user")),
    Column("ends", |opened| at(opened, "/expires")),
];

const KEY: &[Column] = &[
    Column("client id", |key| at(key, "/id")),
    Column("status", |key| at(key, "/status")),
    Column("secret version", |key| at(key, "/secret_version")),
    Column("created", |key| at(key, "/created_at")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open_as(&args.common, Scheme::Session)?;
    match &args.command {
        Command::SignIn { session_out } => {
            let outlets = outlets(session_out.as_ref())?;
            let opened = session.send(&Call::post(path(&["me", "session"]), &json!({})))?.body;
            issued::say(&session, opened, "signed in", OPENED, outlets)
        }
        Command::Show => session.show(path(&["me"]), PERSON),
        Command::SignOut => {
            session.send(&Call::post(path(&["me", "end-session"]), &json!({})))?;
            session.say(&Value::Null, || "signed out\n".to_owned())
        }
        Command::PersonalKey(args) => personal(&session, &args.command),
    }
}

fn personal(session: &Session, command: &Personal) -> Result<(), Error> {
    let one = || path(&["me", "personal-key"]);
    match command {
        Personal::Show => {
            let key = session.send(&Call::get(one()))?.body;
            session.say(&key, || table::page(KEY, &key))
        }
        Personal::Create(Out { secret_out }) => {
            let outlets = outlets(secret_out.as_ref())?;
            let key = session.send(&Call::post(one(), &json!({})))?.body;
            issued::say(session, key, "created your personal key", KEY, outlets)
        }
        Personal::Regenerate { out: Out { secret_out }, consent } => {
            let outlets = outlets(secret_out.as_ref())?;
            let call = Call::post(path(&["me", "personal-key", "regenerate"]), &json!({}));
            let key = session.order(call, consent, Question::YesOrNo)?.body;
            issued::say(session, key, "regenerated your personal key", KEY, outlets)
        }
        Personal::Delete { consent } => {
            session.remove(Call::delete(one()), consent, Question::YesOrNo, "deleted your personal key")
        }
    }
}

fn outlets(path: Option<&PathBuf>) -> Result<Outlets, Error> {
    Ok(Outlets { key: path.map(|path| Reserved::at(path)).transpose()?, signing_secret: None })
}
