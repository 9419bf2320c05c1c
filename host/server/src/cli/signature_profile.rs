//! `portcullis signature-profile`: the ways in which requests are signed.

use clap::{Subcommand, ValueEnum};
use portcullis_model::id::Id;
use portcullis_model::signing::presets;
use portcullis_model::source::{SignatureHash, SignatureProfile};
use serde_json::Value;

use super::table::{self, Column, at};
use super::{Common, Session, body, put, value};
use crate::client::{Call, path};
use crate::error::Error;
use crate::input::{Inputs, Origin};

/// The longest file of a profile in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

const HELP: &str = "\
A profile is how requests are signed: the names of header fields and of the algorithm, the scope, the hash. A service \
accepts signatures by a profile (`portcullis service edit SERVICE --accept signature:PROFILE=workspace`), and each workspace \
key signs by one (`portcullis key create TENANT workspace --profile PROFILE`).

Examples:
  portcullis signature-profile set antavo --preset antavo --region eu
  portcullis signature-profile set ours --file ours.json
  portcullis signature-profile list";

/// Signature profiles: how requests are signed
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
    /// List signature profiles
    #[command(after_long_help = "Examples:\n  portcullis signature-profile list")]
    List,
    /// Show a signature profile
    #[command(after_long_help = "Examples:\n  portcullis signature-profile show antavo")]
    Show {
        /// The profile
        id: Id,
    },
    Set(Set),
    /// Remove a signature profile that nothing uses
    #[command(
        after_long_help = "It is refused while a service accepts the profile or a key signs by it.\n\nExamples:\n  portcullis signature-profile remove antavo"
    )]
    Remove {
        /// The profile
        id: Id,
    },
}

const SET_HELP: &str = "\
A preset has what its vendor's clients do. The scope of `antavo` is REGION/api/antavo_request, that of `aws` \
REGION/SERVICE/aws4_request; that of `escher` is one's own. A file has the fields of the profile as JSON, as \
`portcullis signature-profile show --json` prints them. As long as keys sign by a profile its prefix, hash and scope stay.

Examples:
  portcullis signature-profile set antavo --preset antavo --region eu
  portcullis signature-profile set ours --preset escher --scope eu/ours/escher_request --nonce-header X-Nonce
  portcullis signature-profile set aws --preset aws --region eu-west-1 --service execute-api
  portcullis signature-profile set ours --file ours.json";

/// Make or change a signature profile
#[derive(clap::Args)]
#[command(override_usage = "portcullis signature-profile set [OPTIONS] ID", after_long_help = SET_HELP)]
struct Set {
    /// Its id
    id: Id,
    /// Begin with what a vendor's clients do
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    preset: Option<Preset>,
    /// A file with the profile as JSON; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<Origin>,
    /// The region in the scope of `antavo` and `aws`
    #[arg(long, requires = "preset", required_if_eq_any([("preset", "antavo"), ("preset", "aws")]))]
    region: Option<String>,
    /// The service in the scope of `aws`
    #[arg(long, requires = "preset", required_if_eq("preset", "aws"))]
    service: Option<String>,
    /// The whole scope, for `escher`
    #[arg(long, requires = "preset", required_if_eq("preset", "escher"))]
    scope: Option<String>,
    /// The hash, for `escher`
    #[arg(long, requires = "preset")]
    hash: Option<Hash>,
    /// How far the date may be from the time, such as 5m
    #[arg(long, value_name = "TIME", requires = "preset", value_parser = value::seconds)]
    clock_skew: Option<u32>,
    /// A header field with a nonce: a request that signs it is accepted once
    #[arg(long, value_name = "NAME", requires = "preset")]
    nonce_header: Option<String>,
    /// The longest life of a presigned URL, such as 1h; 0s for none
    #[arg(long, value_name = "TIME", requires = "preset", value_parser = value::seconds)]
    presigned_expires: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// Clients of the Antavo API
    Antavo,
    /// Escher's libraries as they are
    Escher,
    /// AWS Signature Version 4
    Aws,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hash {
    /// SHA-256
    Sha256,
    /// SHA-512
    Sha512,
}

impl Set {
    /// The profile of a preset, with what else is given.
    fn preset(&self, preset: Preset) -> SignatureProfile {
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        let mut profile = match preset {
            Preset::Antavo => presets::antavo(&text(&self.region)),
            Preset::Escher => presets::escher(&text(&self.scope)),
            Preset::Aws => presets::aws(&text(&self.region), &text(&self.service)),
        };
        profile.id.clone_from(&self.id);
        profile.nonce_header.clone_from(&self.nonce_header);
        match self.hash {
            Some(Hash::Sha256) => profile.hash = SignatureHash::Sha256,
            Some(Hash::Sha512) => profile.hash = SignatureHash::Sha512,
            None => {}
        }
        profile.clock_skew_s = self.clock_skew.unwrap_or(profile.clock_skew_s);
        profile.presigned_expires_s = self.presigned_expires.unwrap_or(profile.presigned_expires_s);
        profile
    }

    fn profile(&self) -> Result<SignatureProfile, Error> {
        if let Some(preset) = self.preset {
            return Ok(self.preset(preset));
        }
        let Some(file) = &self.file else {
            return Err(Error::Options {
                what: "there is nothing to make a profile of",
                fix: "give `--preset` or `--file`",
            });
        };
        let bytes = Inputs::default().whole(file, MAX_FILE_BYTES)?;
        let no_profile = |error: serde_json::Error| Error::NoProfile { from: file.clone(), what: error.to_string() };
        let mut json: Value = serde_json::from_slice(&bytes).map_err(no_profile)?;
        put(&mut json, "id", self.id.as_str());
        serde_json::from_value(json).map_err(no_profile)
    }
}

const LIST: &[Column] = &[
    Column("id", |profile| at(profile, "/id")),
    Column("prefix", |profile| at(profile, "/algorithm_prefix")),
    Column("hash", |profile| at(profile, "/hash")),
    Column("header", |profile| at(profile, "/auth_header")),
    Column("scope", |profile| at(profile, "/credential_scope")),
    Column("form", |profile| at(profile, "/canonical_form")),
];

const PAGE: &[Column] = &[
    Column("id", |profile| at(profile, "/id")),
    Column("prefix", |profile| at(profile, "/algorithm_prefix")),
    Column("vendor key", |profile| at(profile, "/vendor_key")),
    Column("hash", |profile| at(profile, "/hash")),
    Column("signature in", |profile| at(profile, "/auth_header")),
    Column("date in", |profile| at(profile, "/date_header")),
    Column("nonce in", |profile| at(profile, "/nonce_header")),
    Column("scope", |profile| at(profile, "/credential_scope")),
    Column("form", |profile| at(profile, "/canonical_form")),
    Column("clock skew", |profile| table::seconds(profile, "/clock_skew_s")),
    Column("presigned for", |profile| table::seconds(profile, "/presigned_expires_s")),
];

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let session = Session::open(&args.common)?;
    let one = |id: &Id| path(&["signature-profiles", id.as_str()]);
    match &args.command {
        Command::List => session.list(path(&["signature-profiles"]), LIST, "no signature profiles"),
        Command::Show { id } => session.show(one(id), PAGE),
        Command::Set(set) => {
            let mut profile = body(&set.profile()?);
            // It stands in the path.
            if let Value::Object(fields) = &mut profile {
                fields.remove("id");
            }
            session.change(&Call::put(one(&set.id), &profile), &format!("set signature profile `{}`", set.id), PAGE)
        }
        Command::Remove { id } => {
            session.send(&Call::delete(one(id)))?;
            let done = format!("removed signature profile `{id}`\n");
            if session.json { Ok(()) } else { crate::output::say(&done) }
        }
    }
}
