//! `portcullis check`: one request against a policy, explained.

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use portcullis_engine::{Engine, Request};
use portcullis_model::head::HeadTooLarge;
use portcullis_model::id::Revision;
use portcullis_model::policy::Compiled;
use portcullis_model::signing::Output;
use portcullis_model::source::SignatureHash;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{DigestAlgorithm, Verdict};

use crate::client::{Access, Call, Client, Scheme, path};
use crate::error::Error;
use crate::input::{Inputs, Origin};
use crate::raw::{self, Connection};
use crate::report::{Explained, Form};
use crate::request::{self, Packed, Version, Written};
use crate::signing_pair::SigningPair;
use crate::{Exit, document, sandbox};

/// The longest body in bytes: the longest that the gate takes with a signature.
const MAX_BODY_BYTES: u64 = 16 << 20;

const USAGE: &str = "\
portcullis check --policy FILE [OPTIONS] URL
       portcullis check --policy FILE [OPTIONS] --raw FILE
       portcullis check [OPTIONS] URL --server [URL]
       portcullis check [OPTIONS] --raw FILE --server [URL]";

const HELP: &str = "\
The request is given by its URL, or with --raw as the bytes that a client sent. Either way nothing in it is \
normalised: what the gate says is about the very bytes. A `#` and what follows it are sent, too.

With `--server` a running server is asked what it would decide, by the policy that is in force there. The head of the \
request goes to that server with the key in it, and no further. It takes a management key of the whole installation, in \
a file or the environment. Without a URL of its own, `--server` stands last.

A key in an argument is seen by everybody who can list processes, and kept by the shell's history. Put it into a \
file of header fields for `-H @FILE`, or use `--raw -`. No key appears in the output.

A signature is checked like any credential, and the step of it shows the canonical request and the string to sign that \
the gate made, to be laid beside those of the client. A policy holds no signing keys; for a check without a server, give \
the signer's in a file: its key id on the first line, its secret on the second. They are neither sent nor shown. The \
body, where there is one, is in a file of its own; of it a server gets the digest alone.

Exit codes:
  0  allow
  1  deny, and need-body (everything but the body has passed)
  2  error: something could not be read, or the server did not explain; nothing was decided

JSON, one object; what is not known or does not apply is null:
  verdict      allow, deny or need_body
  status       the HTTP status of the denial
  code         what the caller may learn
  reason       why it is denied, for administrators
  reason_text  the same in a sentence
  need_body    algorithm, cap_bytes
  facts        revision, now, client, method, host, path, service, endpoint,
               application, tenant, credential (id, kind, proof,
               secret_version), signature, replay
  set_headers  the header fields that an allow sets, each name and value
  strip        the credential that an allow removes: in (header or parameter), name
  observed     what enforcing would deny, each reason and reason_text
  obligations  what must hold for an allow to count, each kind and until
  challenge    the value of WWW-Authenticate of a denial
  steps        each check, outcome (pass, fail, observed, skip) and detail

Examples:
  portcullis check --policy policy.json -H 'X-API-Key: KEY' \\
      https://api.shop.example/v1/events
  portcullis check --policy policy.ptcpol -H @key.txt -X DELETE --json \\
      --client 192.0.2.7 https://api.shop.example/v1/customers/42
  portcullis check --policy policy.json --delta revoked.ptcdelta -H @key.txt \\
      --at 2026-12-01T09:00:00Z https://api.shop.example/v1/events
  portcullis check --policy policy.json --raw request.txt
  decrypt request.gpg | portcullis check --policy policy.json --raw -
  portcullis check --policy policy.json --signing-secret-file pair.txt -H @signed.txt \\
      -X POST --body order.json https://api.shop.example/v1/orders
  portcullis check -H @key.txt --key-file admin.key https://api.shop.example/v1/events --server";

/// Decide one request and explain the verdict step by step
#[derive(clap::Args)]
#[command(override_usage = USAGE, after_long_help = HELP)]
pub(crate) struct Args {
    /// The policy: a JSON source, or what `policy build` made of it; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "server", help_heading = "Policy")]
    policy: Option<Origin>,
    /// A delta to apply, compiled or JSON; several in their order
    #[arg(long = "delta", value_name = "FILE", conflicts_with = "server", help_heading = "Policy")]
    deltas: Vec<Origin>,
    /// A file with the key id and the secret of who signed, one a line; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "server", help_heading = "Policy")]
    signing_secret_file: Option<Origin>,
    /// The time of the request, such as 2026-12-31T18:00:00Z [default: now]
    #[arg(long, value_name = "TIME", help_heading = "Policy")]
    at: Option<UnixTime>,
    /// When the policy was last known to be current [default: the time of the request]
    #[arg(long, value_name = "TIME", conflicts_with = "server", help_heading = "Policy")]
    confirmed: Option<UnixTime>,

    /// The URL, https or http
    #[arg(required_unless_present = "raw", conflicts_with = "raw")]
    url: Option<OsString>,
    /// The method
    #[arg(short = 'X', long, default_value = "GET", conflicts_with = "raw", help_heading = "Request")]
    method: OsString,
    /// A header field, or a file with one a line; Host is made from the URL unless it is given
    #[arg(
        short = 'H',
        long = "header",
        value_name = "NAME: VALUE|@FILE",
        conflicts_with = "raw",
        help_heading = "Request"
    )]
    headers: Vec<OsString>,
    /// Send the URL's host as HTTP/2 does, in `:authority`
    #[arg(long, conflicts_with = "raw", help_heading = "Request")]
    http2: bool,
    /// The request as a client sent it, HTTP/1.0 or HTTP/1.1; `-` is standard input
    #[arg(long, value_name = "FILE", help_heading = "Request")]
    raw: Option<Origin>,
    /// A file with the body; `-` is standard input [default: no body]
    #[arg(long, value_name = "FILE", help_heading = "Request")]
    body: Option<Origin>,
    /// With --raw: it came without TLS
    #[arg(long, requires = "raw", help_heading = "Request")]
    plaintext: bool,
    /// The address of the connection's other end
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1", value_parser = address, help_heading = "Request")]
    client: IpAddr,

    /// Ask a running server instead of a policy [env: PORTCULLIS_SERVER] [default: http://127.0.0.1:9180]
    #[arg(long, value_name = "URL", num_args = 0..=1, conflicts_with = "policy", help_heading = "Server")]
    server: Option<Option<String>>,
    #[command(flatten)]
    access: Access,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Where there is no verdict.
pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let mut inputs = Inputs::default();
    let packed = args.packed(&mut inputs)?;
    let body = args.body.as_ref().map(|from| inputs.whole(from, MAX_BODY_BYTES)).transpose()?;
    let explained = match &args.policy {
        Some(policy) => args.explain(policy, packed, body.as_deref(), &mut inputs)?,
        None => args.ask(packed, body.as_deref())?,
    };
    explained.print(if args.json { Form::Json } else { Form::Text })?;
    Ok(explained.exit())
}

impl Args {
    /// What a policy here makes of the request.
    fn explain(
        &self,
        policy: &Origin,
        packed: Packed,
        body: Option<&[u8]>,
        inputs: &mut Inputs,
    ) -> Result<Explained, Error> {
        let policy = (policy.clone(), document::base(policy, inputs)?);
        let mut deltas = Vec::with_capacity(self.deltas.len());
        for from in &self.deltas {
            deltas.push((from.clone(), document::delta(from, inputs)?));
        }
        let now = self.at.unwrap_or_else(now);
        let engine = sandbox::engine(&policy, &deltas, self.confirmed.unwrap_or(now))?;
        match packed {
            Ok(head) => {
                self.load_keys(&engine, (&policy, &deltas), now, inputs)?;
                let first = engine.explain(Request::new(&head, now))?;
                // As a server does: the body is hashed where the gate asks for it, with the hash that it names.
                let (Some(body), Verdict::NeedBody(need)) = (body, first.decision.verdict()) else {
                    return Ok(Explained::of(&first));
                };
                let digest = digest(need.algorithm, body);
                let whole = Request { body_digest: Some(digest.as_bytes()), ..Request::new(&head, now) };
                Ok(Explained::of(&engine.explain(whole)?))
            }
            Err(limit) => {
                let revision = deltas.last().map_or(policy.1.revision(), |(_, delta)| delta.revision());
                Ok(self.too_large(limit, Some(revision)))
            }
        }
    }

    /// Gives the gate the day keys of the one signer whose secret is at hand.
    fn load_keys(
        &self,
        engine: &Engine,
        (policy, deltas): (&(Origin, Compiled), &[(Origin, Compiled)]),
        now: UnixTime,
        inputs: &mut Inputs,
    ) -> Result<(), Error> {
        let Some(from) = &self.signing_secret_file else { return Ok(()) };
        let refused = |source| Error::Refused { from: from.clone(), source };
        for part in SigningPair::read(from, inputs)?.sheets(from, policy, deltas, now)? {
            engine.load_keys(&part).map_err(refused)?;
        }
        Ok(())
    }

    /// What a server makes of the request, by its own clock unless a time is given.
    fn ask(&self, packed: Packed, body: Option<&[u8]>) -> Result<Explained, Error> {
        let client =
            Client::open(self.server.as_ref().and_then(Option::as_deref), &self.access, Scheme::ManagementKey)?;
        let head = match packed {
            Ok(head) => head,
            Err(limit) => return Ok(self.too_large(limit, None)),
        };
        let call = || {
            let call = Call::post_bytes(path(&["check"]), head.clone());
            self.at.into_iter().fold(call, |call, at| call.with("at", at))
        };
        let explained = |call: &Call| {
            let answer = client.send(call)?;
            serde_json::from_value::<Explained>(answer.body).map_err(|_| Error::NoExplanation)
        };
        let first = explained(&call())?;
        match (body, first.needed()) {
            (Some(body), Some(algorithm)) => explained(&call().with("body_digest", digest(algorithm, body).to_hex())),
            (Some(_), None) | (None, _) => Ok(first),
        }
    }

    fn too_large(&self, limit: HeadTooLarge, revision: Option<Revision>) -> Explained {
        Explained::too_large(limit, revision, self.at.unwrap_or_else(now), self.client)
    }

    fn packed(&self, inputs: &mut Inputs) -> Result<Packed, Error> {
        let has_body = self.body.is_some();
        if let Some(from) = &self.raw {
            return raw::pack(from, Connection { peer: self.client, secure: !self.plaintext, has_body }, inputs);
        }
        let version = if self.http2 { Version::Http2 } else { Version::Http1 };
        let url = self.url.as_deref().unwrap_or_default();
        let written =
            Written { url, method: &self.method, headers: &self.headers, peer: self.client, version, has_body };
        request::pack(&written, inputs)
    }
}

fn digest(algorithm: DigestAlgorithm, body: &[u8]) -> Output {
    match algorithm {
        DigestAlgorithm::Sha256 => SignatureHash::Sha256.digest(body),
        DigestAlgorithm::Sha512 => SignatureHash::Sha512.digest(body),
    }
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "write one IPv4 or IPv6 address, without a port or brackets")
}

/// The time now. A clock before 1970 or after the last time there is makes the policy stale, which denies.
fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixTime::from_secs(since.as_secs()).unwrap_or(UnixTime::MAX)
}
