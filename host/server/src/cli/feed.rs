//! `portcullis feed`: what workers in proxies get of the policy, and the keys with which they get it.

use std::path::PathBuf;

use clap::Subcommand;
use portcullis_control::{ADMIN_SERVICE, SYSTEM_TENANT};
use portcullis_model::id::Id;
use portcullis_model::time::Expiry;
use serde::Serialize;
use serde_json::{Value, json};

use super::confirm::{Consent, Question};
use super::issued::{self, Outlets, Reserved};
use super::table::{Column, at};
use super::{Common, Session, value};
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
A filter in Envoy decides by itself. Each of its workers gets the policy from a feed: the part of the services that the \
feed names, and nothing else. It needs a key that can read this one feed and change nothing. For superusers.

Examples:
  portcullis feed create edge --service shop
  portcullis feed key edge --name 'Envoy, eu-1' --expires 2027-01-01 --key-out edge.key
  portcullis feed list
  portcullis nodes";

/// Feeds: what workers in proxies get of the policy
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
    /// List the feeds
    #[command(after_long_help = "Examples:\n  portcullis feed list")]
    List,
    /// Show a feed
    #[command(after_long_help = "Examples:\n  portcullis feed show edge")]
    Show {
        /// The feed
        id: Id,
    },
    Create(Create),
    Edit(Edit),
    Key(Key),
    /// Delete a feed that no active key is for; its workers deny every request from then on
    #[command(after_long_help = "Examples:\n  portcullis feed delete edge\n  portcullis feed delete edge --yes")]
    Delete {
        /// The feed
        id: Id,
        #[command(flatten)]
        consent: Consent,
    },
}

const CREATE_HELP: &str = "\
An application of the tenant `system` is made with it, under the same id: the feed's keys are confined to it.

Examples:
  portcullis feed create edge --service shop
  portcullis feed create edge --service shop,wallet";

/// Create a feed
#[derive(clap::Args, Serialize)]
#[command(after_long_help = CREATE_HELP)]
struct Create {
    /// Its id, as it stands in paths
    id: Id,
    /// A service of which it has the policy; several, or with commas between
    #[arg(long = "service", value_name = "SERVICE", value_delimiter = ',', required = true)]
    services: Vec<Id>,
    /// Name this creation, so that giving it again within a day does not do it twice
    #[arg(long, value_name = "KEY", value_parser = value::idempotency_key)]
    #[serde(skip)]
    idempotency_key: Option<String>,
}

const EDIT_HELP: &str = "\
The services are replaced as a whole. Workers deny what is for a service that is no longer there as soon as they have \
heard of it.

Examples:
  portcullis feed edit edge --service shop,wallet";

/// Change the services of a feed
#[derive(clap::Args, Serialize)]
#[command(after_long_help = EDIT_HELP)]
struct Edit {
    /// The feed
    #[serde(skip)]
    id: Id,
    /// A service of which it has the policy; all of them, in place of those it has
    #[arg(long = "service", value_name = "SERVICE", value_delimiter = ',', required = true)]
    services: Vec<Id>,
}

const KEY_HELP: &str = "\
The key reads this feed, gives back what was decided, and can do nothing else. It is a management key of the tenant \
`system`: `portcullis key list system` lists it, `portcullis key revoke system ID` ends it.

Examples:
  portcullis feed key edge --name 'Envoy, eu-1' --expires 2027-01-01 --key-out edge.key";

/// Create the key with which workers read a feed
#[derive(clap::Args, Serialize)]
#[command(after_long_help = KEY_HELP)]
struct Key {
    /// The feed
    #[serde(skip)]
    feed: Id,
    /// Its display name, 2 to 200 characters
    #[arg(long)]
    name: String,
    /// When it ends
    #[arg(long, value_name = "TIME")]
    expires: Expiry,
    /// Write the key to this new file, for its owner alone, instead of showing it
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    key_out: Option<PathBuf>,
    /// Name this creation, so that giving it again within a day does not make another key
    #[arg(long, value_name = "KEY", value_parser = value::idempotency_key)]
    #[serde(skip)]
    idempotency_key: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column("id", |feed| at(feed, "/id")),
    Column("services", |feed| at(feed, "/services")),
    Column("created", |feed| at(feed, "/created_at")),
];

const KEY_COLUMNS: &[Column] = &[
    Column("id", |key| at(key, "/id")),
    Column("name", |key| at(key, "/name")),
    Column("feed", |key| at(key, "/applications")),
    Column("endpoints", |key| at(key, "/endpoints")),
    Column("expires", |key| at(key, "/expires")),
];

impl Key {
    fn body(&self) -> Value {
        json!({
            "name": self.name,
            "expires": self.expires,
            "endpoints": [format!("{ADMIN_SERVICE}/feed"), format!("{ADMIN_SERVICE}/feed.read")],
            "applications": [self.feed],
            // A proxy goes on when the person who set it up does not.
            "creator_rule": "independent",
        })
    }
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let one = |id: &Id| path(&["feeds", id.as_str()]);
    match &args.command {
        Command::List => session.list(path(&["feeds"]), COLUMNS, "no feeds"),
        Command::Show { id } => session.show(one(id), COLUMNS),
        Command::Create(create) => {
            let call = Call::post(path(&["feeds"]), create).once(create.idempotency_key.as_deref());
            session.change(&call, &format!("created feed `{}`", create.id), COLUMNS)
        }
        Command::Edit(edit) => {
            session.change(&Call::patch(one(&edit.id), edit), &format!("changed feed `{}`", edit.id), COLUMNS)
        }
        Command::Key(key) => create_key(&session, key),
        Command::Delete { id, consent } => {
            let call = Call::delete(one(id));
            session.remove(call, consent, Question::Id(id.as_str()), &format!("deleted feed `{id}`"))
        }
    }
}

fn create_key(session: &Session, key: &Key) -> Result<(), Error> {
    let outlet = key.key_out.as_deref().map(Reserved::at).transpose()?;
    // A key for an application that is no feed would read nothing, and nobody would see why.
    session.send(&Call::get(path(&["feeds", key.feed.as_str()])))?;
    let call = Call::post(path(&["tenants", SYSTEM_TENANT, "management-keys"]), &key.body());
    let answer = session.send(&call.once(key.idempotency_key.as_deref()))?;
    let done = format!("created key `{}` of feed `{}`", at(&answer.body, "/id").concat(), key.feed);
    issued::say(session, answer.body, &done, KEY_COLUMNS, Outlets { key: outlet, signing_secret: None })
}
