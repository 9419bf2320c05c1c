//! `portcullis key import-pair`: the workspace pair of another system, so that its clients go on signing as they do.

use portcullis_model::id::Id;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::confirm::{Consent, Question};
use super::super::table::{self, at};
use super::super::{Session, put};
use super::PAGE;
use crate::client::{Call, path};
use crate::error::Error;
use crate::input::{Inputs, Origin};
use crate::output::Visible;

/// The longest file in bytes: a key id and a secret have a few hundred.
const MAX_FILE_BYTES: u64 = 4096;

const HELP: &str = "\
FILE is a JSON object with the key id and the secret: {\"key_id\": \"..\", \"secret\": \"..\"}. The server seals both at once, \
and tells the secret to nobody again. A tenant has one pair: the one that it has is dead at once, and this is asked for. A \
key id that is or was a key of this installation is refused.

The pair is proven by signatures alone. With `--plain-too` whoever knows the key id has a key.

Examples:
  portcullis key import-pair --tenant acme --profile antavo pair.json
  vault read -format=json secret/acme | jq .data | portcullis key import-pair --tenant acme -";

/// Import the key id and the signing secret of another system
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// The file with the pair; `-` is standard input
    file: Origin,
    /// The tenant
    #[arg(long)]
    tenant: Id,
    /// The signature profile by which its requests are signed [default: the only one there is]
    #[arg(long)]
    profile: Option<Id>,
    /// Its display name
    #[arg(long)]
    name: Option<String>,
    /// The key id alone is a key as well
    #[arg(long)]
    plain_too: bool,
    #[command(flatten)]
    consent: Consent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    key_id: SecretString,
    secret: SecretString,
}

/// Runs the command.
///
/// # Errors
/// Where the file holds no pair, or the server refused.
pub(super) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let bytes = Zeroizing::new(Inputs::default().whole(&args.file, MAX_FILE_BYTES)?);
    // What the parser says of a fault may have a part of the secret in it.
    let pair: Pair = serde_json::from_slice(&bytes).map_err(|_| Error::NoPair { from: args.file.clone() })?;
    let mut new = json!({
        "key_id": pair.key_id.expose_secret(),
        "secret": pair.secret.expose_secret(),
        "signed_only": !args.plain_too,
    });
    if let Some(profile) = &args.profile {
        put(&mut new, "profile", profile.as_str());
    }
    if let Some(name) = &args.name {
        put(&mut new, "name", Value::String(name.clone()));
    }
    let call = Call::post(path(&["tenants", args.tenant.as_str(), "workspace-keys", "import"]), &new);
    let key = session.order(call, &args.consent, Question::YesOrNo)?.body;
    let id = at(&key, "/id").concat();
    let done = format!("imported workspace key `{}` of tenant `{}`", Visible(&id), args.tenant);
    session.say(&key, || format!("{done}\n{}", table::page(PAGE, &key)))
}
