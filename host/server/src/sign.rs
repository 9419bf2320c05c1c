//! `portcullis sign`: signs a request as a client does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use portcullis_model::signing::date::{self, Weekday};
use portcullis_model::signing::presets;
use portcullis_model::signing::signer::{Signature, Signer, Unsigned};
use portcullis_model::source::SignatureProfile;
use portcullis_model::time::UnixTime;
use secrecy::zeroize::Zeroizing;
use serde::Serialize;

use crate::cli::seconds;
use crate::error::Error;
use crate::input::{Inputs, Origin};
use crate::request::{self, Absolute};
use crate::{Exit, clock, output};

/// The longest file of a profile, of a key id or of a secret in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// The longest body in bytes: the longest that the gate takes with a signature.
const MAX_BODY_BYTES: u64 = 16 << 20;
const KEY_VARIABLE: &str = "PORTCULLIS_SIGNING_KEY";
const SECRET_VARIABLE: &str = "PORTCULLIS_SIGNING_SECRET";

const HELP: &str = "\
It prints the header fields to send besides those that were given: the date, unless there is one, and the signature. \
Host, the date and every field given with `-H` are signed. With `--presign` it prints a URL that anybody may get as \
long as it is valid.

The profile is `antavo` (with `--region`), `escher` (with `--scope`), `aws` (with `--region` and `--service`), or a file \
with a profile as JSON, as `portcullis signature-profile show --json` prints it. The key id is in the environment, in \
PORTCULLIS_SIGNING_KEY, or in a file; so is the secret, in PORTCULLIS_SIGNING_SECRET. Neither is an argument, which \
everybody could see who can list processes. A plain key is not signed with `-H`: the signature takes its place.

Examples:
  portcullis sign --profile antavo --region eu --key acme.key --secret acme.secret \\
      https://api.shop.example/v1/events
  portcullis sign --profile ours.json --key acme.key --secret acme.secret -X POST \\
      -H 'Content-Type: application/json' --body order.json https://api.shop.example/v1/orders
  portcullis sign --profile aws --region eu-1 --service shop --key acme.key --secret acme.secret \\
      --presign 1h https://api.shop.example/v1/reports/7
  portcullis sign --profile antavo --region eu https://api.shop.example/v1/events > signed.txt
  curl -H @signed.txt https://api.shop.example/v1/events";

/// Sign a request, or a URL, as a client does
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// The URL, https or http
    url: OsString,
    /// How to sign: antavo, escher, aws, or a file with a profile as JSON
    #[arg(long, value_name = "PROFILE")]
    profile: OsString,
    /// The region in the scope of `antavo` and `aws`
    #[arg(long)]
    region: Option<String>,
    /// The service in the scope of `aws`
    #[arg(long)]
    service: Option<String>,
    /// The whole scope, for `escher`
    #[arg(long)]
    scope: Option<String>,
    /// A file with the key id [env: PORTCULLIS_SIGNING_KEY]
    #[arg(long, value_name = "FILE")]
    key: Option<Origin>,
    /// A file with the secret; `-` is standard input [env: PORTCULLIS_SIGNING_SECRET]
    #[arg(long, value_name = "FILE")]
    secret: Option<Origin>,
    /// The method
    #[arg(short = 'X', long, default_value = "GET", conflicts_with = "presign")]
    method: String,
    /// A header field that is sent and signed, or a file with one a line; Host is made from the URL unless it is given
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE|@FILE", conflicts_with = "presign")]
    headers: Vec<OsString>,
    /// A file with the body; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "presign")]
    body: Option<Origin>,
    /// Print a URL that is valid for so long, such as 1h
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    presign: Option<u32>,
    /// The time of the request, such as 2026-12-31T18:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<UnixTime>,
    /// Print the whole request as a command of curl
    #[arg(long, conflicts_with = "json")]
    curl: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Tell on standard error what was signed: the canonical request, and the string to sign
    #[arg(long, conflicts_with = "json")]
    explain: bool,
}

/// A signed request.
#[derive(Serialize)]
struct Made {
    method: String,
    url: String,
    /// All that are sent but Host.
    headers: Vec<(String, String)>,
    /// Of those the ones that were added here.
    #[serde(skip)]
    added: usize,
    canonical_request: String,
    string_to_sign: String,
    signature: String,
}

/// Runs the command.
///
/// # Errors
/// Where the request could not be signed.
pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let mut inputs = Inputs::default();
    let url = request::absolute(&args.url)?;
    let profile = args.profile(&mut inputs)?;
    let key_id = words(args.key.as_ref(), KEY_VARIABLE, "there is no key id", &mut inputs)?;
    let secret = words(args.secret.as_ref(), SECRET_VARIABLE, "there is no secret", &mut inputs)?;
    // No verifier could tell where such a key id ends, and anybody could sign with an empty secret.
    let is_fit = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b',');
    if key_id.is_empty() || !key_id.iter().all(is_fit) || secret.is_empty() {
        return Err(Error::Options {
            what: "the secret is empty, or the key id has a space, a comma or a slash in it",
            fix: "give the pair as it was shown",
        });
    }
    let signer = Signer { profile: &profile, key_id: text(&key_id)?, secret: &secret };
    let now = args.at.unwrap_or_else(clock::now);
    let made = match args.presign {
        Some(expires_s) => presigned(&signer, &url, expires_s, now)?,
        None => args.header_fields(&signer, &url, now, &mut inputs)?,
    };
    if args.json {
        output::say_json(&made)?;
        return Ok(Exit::Success);
    }
    if args.curl {
        output::say(&made.curl(args.body.as_ref()))?;
    } else if args.presign.is_some() {
        output::say(&format!("{}\n", made.url))?;
    } else {
        let added = made.headers.iter().skip(made.headers.len().saturating_sub(made.added));
        output::say(&added.map(|(name, value)| format!("{name}: {value}\n")).collect::<String>())?;
    }
    if args.explain {
        let Made { canonical_request, string_to_sign, .. } = &made;
        output::say_aside(&format!("canonical request:\n{canonical_request}\n\nstring to sign:\n{string_to_sign}\n"))?;
    }
    Ok(Exit::Success)
}

impl Made {
    fn new(method: &str, url: String, signature: &Signature) -> Made {
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Made {
            method: method.to_ascii_uppercase(),
            url,
            headers: Vec::new(),
            added: 0,
            canonical_request: shown(&signature.canonical_request),
            string_to_sign: shown(&signature.string_to_sign),
            signature: signature.hex.clone(),
        }
    }

    /// A command that sends it, for a shell.
    fn curl(&self, body: Option<&Origin>) -> String {
        // Nothing is special to a shell between single quotes but the quote itself.
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        // Without `--globoff` and `--path-as-is` curl would send another target than the one that was signed.
        let mut command = format!("curl --globoff --path-as-is -X {}", quoted(&self.method));
        for (name, value) in &self.headers {
            command.push_str(&format!(" -H {}", quoted(&format!("{name}: {value}"))));
        }
        match body {
            None => {}
            Some(Origin::Stdin) => command.push_str(" --data-binary @-"),
            Some(Origin::File(path)) => {
                command.push_str(&format!(" --data-binary {}", quoted(&format!("@{}", path.display()))));
            }
        }
        format!("{command} {}\n", quoted(&self.url))
    }
}

/// What is sent of a URL's path and query. A fragment is the browser's own (RFC 9110 section 4.2.5).
fn sent<'a>(url: &'a Absolute<'_>) -> Result<&'a str, Error> {
    let end = url.target.iter().position(|byte| *byte == b'#').unwrap_or(url.target.len());
    text(url.target.get(..end).unwrap_or_default())
}

fn whole(url: &Absolute<'_>, target: &str) -> Result<String, Error> {
    Ok(format!("{}://{}{target}", if url.secure { "https" } else { "http" }, text(url.authority)?))
}

fn presigned(signer: &Signer<'_>, url: &Absolute<'_>, expires_s: u32, now: UnixTime) -> Result<Made, Error> {
    let target = sent(url)?;
    let host = text(url.authority)?;
    if expires_s == 0 || expires_s > signer.profile.presigned_expires_s {
        return Err(Error::Options {
            what: "the profile accepts no URL that is valid so long",
            fix: "give `--presign` a time that is at most its `presigned_expires_s`",
        });
    }
    let presigned = signer.presign(target, host, now, expires_s);
    Ok(Made::new("GET", whole(url, &presigned.target)?, &presigned.signature))
}

impl Args {
    fn header_fields(
        &self,
        signer: &Signer<'_>,
        url: &Absolute<'_>,
        now: UnixTime,
        inputs: &mut Inputs,
    ) -> Result<Made, Error> {
        let mut fields = request::fields(&self.headers, inputs)?;
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host")) {
            fields.insert(0, (b"Host".to_vec(), url.authority.to_vec()));
        }
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| Ok((text(name)?.to_owned(), text(value)?.to_owned())))
            .collect::<Result<_, Error>>()?;
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        // What is signed is the date that is sent.
        let date = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(&signer.profile.date_header));
        let now = match date {
            None => now,
            Some((_, date)) => date::read(date.as_bytes(), Weekday::Checked).ok_or(Error::Request {
                what: "the date that is given is none",
                fix: "write it like 20260307T123456Z or Sat, 07 Mar 2026 12:34:56 GMT",
            })?,
        };
        let body = match &self.body {
            Some(body) => inputs.whole(body, MAX_BODY_BYTES)?,
            None => Vec::new(),
        };
        let request = Unsigned {
            method: &self.method,
            target: sent(url)?,
            host: text(url.authority)?,
            headers: &fields,
            body: &body,
        };
        let signed = signer.sign(&request, &names, now);
        let mut made = Made::new(&self.method, whole(url, sent(url)?)?, &signed.signature);
        made.added = signed.added.len();
        // A host that is the URL's own is what any client sends.
        let is_sent =
            |(name, value): &(String, String)| !name.eq_ignore_ascii_case("host") || value.as_bytes() != url.authority;
        made.headers = fields.into_iter().filter(is_sent).chain(signed.added).collect();
        Ok(made)
    }

    fn profile(&self, inputs: &mut Inputs) -> Result<SignatureProfile, Error> {
        let missing = |what, fix| Error::Options { what, fix };
        let region = || self.region.as_deref().ok_or(missing("the profile needs a region", "give `--region`"));
        match self.profile.as_bytes() {
            b"antavo" => Ok(presets::antavo(region()?)),
            b"escher" => {
                let scope = self.scope.as_deref();
                Ok(presets::escher(scope.ok_or(missing("the profile needs a scope", "give `--scope`"))?))
            }
            b"aws" => {
                let service = self.service.as_deref();
                Ok(presets::aws(region()?, service.ok_or(missing("the profile needs a service", "give `--service`"))?))
            }
            file => {
                let from = Origin::File(Path::new(OsStr::from_bytes(file)).to_owned());
                let bytes = inputs.whole(&from, MAX_FILE_BYTES)?;
                serde_json::from_slice(&bytes).map_err(|error| Error::NoProfile { from, what: error.to_string() })
            }
        }
    }
}

/// What a file or a variable holds, white space around it aside.
fn words(
    file: Option<&Origin>,
    variable: &str,
    what: &'static str,
    inputs: &mut Inputs,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let bytes = match (file, std::env::var_os(variable)) {
        (Some(file), _) => Zeroizing::new(inputs.whole(file, MAX_FILE_BYTES)?),
        (None, Some(value)) => Zeroizing::new(value.as_bytes().to_vec()),
        (None, None) => {
            return Err(Error::Options {
                what,
                fix: "name its file with `--key` or `--secret`, or put it into PORTCULLIS_SIGNING_KEY or \
                      PORTCULLIS_SIGNING_SECRET",
            });
        }
    };
    Ok(Zeroizing::new(bytes.trim_ascii().to_vec()))
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Request {
        what: "the request or the key id has bytes that are no text",
        fix: "percent-encode them in the URL, and leave them out of header fields",
    })
}
