//! `portcullis client-ip`: what the node sees of its clients.

use portcullis_model::id::Id;
use serde_json::Value;

use super::table::{self, Column, at};
use super::{Common, Session};
use crate::client::{Call, path};
use crate::error::Error;
use crate::output::Visible;

const HELP: &str = "\
It tells who the node takes for the client of this very call, and from where the requests of the last hour came. With a \
tenant it also holds the tenant's address ranges and the address lists of its keys against these addresses, and tells \
those that let none of them in.

Examples:
  portcullis client-ip
  portcullis client-ip acme";

/// Test what the node sees of client addresses, and which lists would block everyone
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// The tenant
    tenant: Option<Id>,
}

const PAGE: &[Column] = &[
    Column("peer", |test| at(test, "/this_call/peer")),
    Column("peer trusted", |test| at(test, "/this_call/peer_trusted")),
    Column("hops", |test| lines(test, "/this_call/hops", "/hop", "/trusted", "trusted: ")),
    Column("client", |test| at(test, "/this_call/client")),
    Column("requests since", |test| at(test, "/recent/since")),
    Column("requests", |test| at(test, "/recent/requests")),
    Column("came from", |test| lines(test, "/recent/addresses", "/address", "/requests", "requests: ")),
];

fn lines(test: &Value, list: &str, name: &str, more: &str, what: &str) -> Vec<String> {
    let items = test.pointer(list).and_then(Value::as_array).into_iter().flatten();
    items.map(|item| format!("{} ({what}{})", at(item, name).concat(), at(item, more).concat())).collect()
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let at_path = match &args.tenant {
        Some(tenant) => path(&["tenants", tenant.as_str(), "client-ip"]),
        None => path(&["client-ip"]),
    };
    let answer = session.send(&Call::get(at_path))?;
    session.say(&answer.body, || {
        let warnings = at(&answer.body, "/warnings");
        let told = match warnings.is_empty() {
            true => "\nnothing is wrong\n".to_owned(),
            false => {
                warnings.iter().map(|warning| format!("\nwarning: {}", Visible(warning))).collect::<String>() + "\n"
            }
        };
        table::page(PAGE, &answer.body) + &told
    })
}
