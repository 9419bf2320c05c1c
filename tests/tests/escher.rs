//! The shared test suite of Escher's libraries: every case is run, or listed here with the reason why it cannot be.
//!
//! The cases are read from the folder that PORTCULLIS_VECTORS names, else from `shared/vectors` beside the project.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::credential::{Kind, Seed};
use portcullis_model::head::RequestHead;
use portcullis_model::id::Revision;
use portcullis_model::key_sheet::{Day, encode};
use portcullis_model::policy::build;
use portcullis_model::signing::date::{self, Weekday};
use portcullis_model::signing::day_key;
use portcullis_model::signing::signer::{Signer, Unsigned};
use portcullis_model::source::{CanonicalForm, SignatureHash, SignatureProfile, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// How many cases the suite has, those in conflict among them.
const CASES: usize = 79;

/// What is not run as it stands, and why.
const LEFT_OUT: [(&str, &str); 12] = [
    (
        "ducktype_cases/authenticate-error-mandatoryheaders-not-array.json",
        "an argument of a library in a language without types",
    ),
    (
        "ducktype_cases/authenticate-error-mandatoryheaders-not-array-of-strings.json",
        "an argument of a library in a language without types",
    ),
    (
        "test_cases/authenticate-error-notsigned-header.json",
        "profiles have no mandatory fields beside host and date; whoever needs a nonce signed sets `nonce_header`",
    ),
    (
        "test_cases/authenticate-error-post-body-null.json",
        "a body that is missing is an empty one (RFC 9110 section 6.4)",
    ),
    (
        "test_cases/authenticate-error-invalid-request-url.json",
        "the gate refuses such a target before it looks at a signature",
    ),
    (
        "test_cases/signrequest-error-invalid-request-method.json",
        "the signer takes any method; which there are is the endpoint's matter",
    ),
    (
        "test_cases/signrequest-error-invalid-request-url.json",
        "the signer takes a target, and has no place for a scheme",
    ),
    ("test_cases/signrequest-error-post-missing-escher-key-in-config.json", "the signer cannot be made without a key"),
    (
        ".conflict/signrequest-error-post-body-is-empty.json",
        "the libraries disagree; a POST without a body is signed as one",
    ),
    (
        "emarsys_testsuite/authenticate-error-invalid-request-method.json",
        "the method is the endpoint's matter; the signature is checked first and fails",
    ),
    (
        "emarsys_testsuite/authenticate-error-missing-host-header.json",
        "HTTP/1.1 has no request without Host, and the gate refuses one at once (400)",
    ),
    (
        "emarsys_testsuite/authenticate-valid-lowercase-method.json",
        "HTTP methods are case-sensitive (RFC 9110 section 9.1), and the gate refuses lower case (400)",
    ),
];

/// What the gate says in other words, on purpose.
const OTHERWISE: [(&str, Reason); 4] = [
    // An Authorization field of another scheme is no signature that failed, but none.
    ("emarsys_testsuite/authenticate-error-invalid-auth-header.json", Reason::CredentialMissing),
    // Their lives of 123456 seconds exceed a day, which is the most that a profile can allow.
    ("emarsys_testsuite/authenticate-error-presigned-url-expired.json", Reason::SignaturePresigned),
    ("emarsys_testsuite/authenticate-valid-presigned-url-with-query.json", Reason::SignaturePresigned),
    ("test_cases/authenticate-error-presigned-url-invalid-escher-key.json", Reason::SignaturePresigned),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    #[serde(default)]
    headers_to_sign: Vec<String>,
    request: Message,
    config: Config,
    #[serde(default)]
    key_db: Vec<(String, String)>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Message {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    expires: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    vendor_key: String,
    algo_prefix: String,
    hash_algo: Option<String>,
    credential_scope: String,
    auth_header_name: Option<String>,
    date_header_name: Option<String>,
    date: String,
    api_secret: Option<String>,
    access_key_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    canonicalized_request: Option<String>,
    string_to_sign: Option<String>,
    auth_header: Option<String>,
    request: Option<Signed>,
    url: Option<String>,
    api_key: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Signed {
    headers: Vec<(String, String)>,
}

impl Config {
    fn profile(&self) -> Result<SignatureProfile> {
        Ok(SignatureProfile {
            id: "suite".parse()?,
            algorithm_prefix: self.algo_prefix.clone(),
            vendor_key: self.vendor_key.clone(),
            hash: match self.hash_algo.as_deref() {
                None | Some("SHA256") => SignatureHash::Sha256,
                Some("SHA512") => SignatureHash::Sha512,
                Some(other) => bail!("the hash {other}"),
            },
            auth_header: self.auth_header_name.clone().unwrap_or_else(|| "X-Escher-Auth".to_owned()),
            date_header: self.date_header_name.clone().unwrap_or_else(|| "X-Escher-Date".to_owned()),
            credential_scope: self.credential_scope.clone(),
            clock_skew_s: 300,
            canonical_form: CanonicalForm::Escher,
            presigned_expires_s: 86_400,
            nonce_header: None,
        })
    }

    fn at(&self) -> Result<UnixTime> {
        let http = date::read(self.date.as_bytes(), Weekday::Ignored);
        http.or_else(|| self.date.parse().ok()).with_context(|| format!("the date {}", self.date))
    }

    fn signer<'c>(&'c self, profile: &'c SignatureProfile) -> Result<Signer<'c>> {
        let key_id = self.access_key_id.as_deref().context("no access key id")?;
        let secret = self.api_secret.as_deref().context("no secret")?.as_bytes();
        Ok(Signer { profile, key_id, secret })
    }
}

#[test]
fn every_case_of_the_suite_is_run_or_listed() -> Result<()> {
    let Some(folder) = portcullis_tests::vectors("escher") else { return Ok(()) };
    let files = files(&folder)?;
    assert_eq!(files.len(), CASES, "the suite has another number of cases than this test knows");
    let mut left_out: BTreeSet<&str> = LEFT_OUT.iter().map(|(name, _)| *name).collect();
    let mut otherwise: BTreeMap<&str, Reason> = OTHERWISE.into_iter().collect();
    let (mut failed, mut run) = (Vec::new(), 0);
    for (name, path) in &files {
        if left_out.remove(name.as_str()) {
            continue;
        }
        let case: Case = serde_json::from_slice(&std::fs::read(path)?).with_context(|| name.clone())?;
        run += 1;
        let done = if name.contains("/signrequest-") {
            signs(&case)
        } else if name.contains("/presignurl-") {
            presigns(&case)
        } else {
            authenticates(&case, otherwise.remove(name.as_str()))
        };
        if let Err(error) = done {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(failed.is_empty(), "{} of {run} cases failed:\n{}", failed.len(), failed.join("\n"));
    ensure!(left_out.is_empty() && otherwise.is_empty(), "no such case: {left_out:?} {otherwise:?}");
    println!("{run} cases were run, {} are left out with a reason", LEFT_OUT.len());
    Ok(())
}

fn signs(case: &Case) -> Result<()> {
    let profile = case.config.profile()?;
    let also: Vec<&str> = case.headers_to_sign.iter().map(String::as_str).collect();
    let body = case.request.body.clone().unwrap_or_default();
    let request = Unsigned {
        method: &case.request.method,
        target: &case.request.url,
        host: "",
        headers: &case.request.headers,
        body: body.as_bytes(),
    };
    let signed = case.config.signer(&profile)?.sign(&request, &also, case.config.at()?);
    let same = |what: &str, found: &[u8], expected: &Option<String>| {
        let Some(expected) = expected else { return Ok(()) };
        let found = String::from_utf8_lossy(found);
        ensure!(found == expected.as_str(), "the {what} is\n{found}\nand should be\n{expected}");
        Ok(())
    };
    same("canonical request", &signed.signature.canonical_request, &case.expected.canonicalized_request)?;
    same("string to sign", &signed.signature.string_to_sign, &case.expected.string_to_sign)?;
    let authorization = signed.added.last().map(|(_, value)| value.clone()).unwrap_or_default();
    same("authorization", authorization.as_bytes(), &case.expected.auth_header)?;
    if let Some(expected) = &case.expected.request {
        let sent: BTreeSet<_> = case.request.headers.iter().chain(&signed.added).map(lower).collect();
        let expected: BTreeSet<_> = expected.headers.iter().map(lower).collect();
        ensure!(sent == expected, "sent are {sent:?}, and should be {expected:?}");
    }
    Ok(())
}

fn lower((name, value): &(String, String)) -> (String, String) {
    (name.to_ascii_lowercase(), value.clone())
}

fn presigns(case: &Case) -> Result<()> {
    let profile = case.config.profile()?;
    let (url, fragment) = match case.request.url.split_once('#') {
        Some((url, fragment)) => (url, format!("#{fragment}")),
        None => (case.request.url.as_str(), String::new()),
    };
    let rest = url.strip_prefix("https://").context("https")?;
    let (authority, _) = rest.split_once('/').context("a path")?;
    let target = rest.strip_prefix(authority).unwrap_or_default();
    let expires = case.request.expires.context("expires")?;
    let presigned = case.config.signer(&profile)?.presign(target, authority, case.config.at()?, expires);
    let found = format!("https://{authority}{}{fragment}", presigned.target);
    ensure!(Some(&found) == case.expected.url.as_ref(), "the URL is {found}");
    Ok(())
}

fn authenticates(case: &Case, otherwise: Option<Reason>) -> Result<()> {
    let gate = gate(case)?;
    let headers: Vec<_> =
        case.request.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let body = case.request.body.clone().unwrap_or_default();
    let head = RequestHead {
        secure: true,
        bodiless: body.is_empty(),
        peer: "192.0.2.1".parse()?,
        method: case.request.method.as_bytes(),
        authority: None,
        target: case.request.url.as_bytes(),
        headers: &headers,
    };
    let head = head.pack()?;
    let digest = Sha256::digest(body.as_bytes());
    let (mut out, now) = (Vec::new(), case.config.at()?);
    let input = Input { head: &head, now, body_digest: Some(&digest), replay: None };
    let verdict = gate.decide(input, &mut Silent, &mut out);
    let expected = match (&otherwise, &case.expected.error, &case.expected.api_key) {
        (Some(reason), _, _) => Verdict::Deny(*reason),
        (None, Some(message), _) => Verdict::Deny(reason(message)?),
        (None, None, Some(_)) => Verdict::Allow,
        (None, None, None) => bail!("it expects nothing"),
    };
    ensure!(verdict == expected, "decided {verdict:?}, expected {expected:?}");
    Ok(())
}

/// A gate with the case's profile and the key of its database.
fn gate(case: &Case) -> Result<Gate> {
    let (profile, at) = (case.config.profile()?, case.config.at()?);
    let mut source = Source::empty(Revision(1), Seed([7; 16]));
    let mut secrets = Vec::new();
    let mut credentials = Vec::new();
    for (slot, (key_id, secret)) in (0u32..).zip(&case.key_db) {
        let sha256 = base16ct::lower::encode_string(&Sha256::digest(key_id));
        credentials.push(serde_json::json!({
            "id": format!("key-{slot}"), "tenant": "suite", "kind": Kind::Workspace, "signature_profile": "suite",
            "secrets": [{"version": 1, "sha256": sha256, "signing_slot": slot}],
        }));
        secrets.push((slot, secret));
    }
    let hosts = ["host.foo.com", "example.com", "iam.amazonaws.com"];
    let services = serde_json::json!([{
        "id": "suite", "hosts": hosts, "accept": [{"signature": "suite", "kinds": ["workspace"]}],
        "endpoints": [{"id": "all", "prefixes": ["/"]}],
    }]);
    source.services = serde_json::from_value(services)?;
    source.tenants = serde_json::from_value(serde_json::json!([{"id": "suite"}]))?;
    source.credentials = serde_json::from_value(credentials.into())?;
    source.installation.signature_profiles = vec![profile.clone()];
    let mut gate = Gate::default();
    gate.load(build(&source)?)?;
    gate.confirm(at);
    for (slot, secret) in secrets {
        let day = Day::of(at);
        gate.load_keys(&encode(day, slot, &[day_key(&profile, secret.as_bytes(), day)])?)?;
    }
    Ok(gate)
}

/// The reason that says what the suite's message says.
fn reason(message: &str) -> Result<Reason> {
    Ok(match message {
        "The authorization header is missing" => Reason::CredentialMissing,
        "Could not parse auth header" => Reason::SignatureMalformed,
        "Only SHA256 and SHA512 hash algorithms are allowed" => Reason::SignatureHash,
        "The credential date does not match with the request date" => Reason::SignatureDay,
        "The credential scope is invalid" => Reason::SignatureScope,
        "The host header is not signed" => Reason::SignatureHostUnsigned,
        "The request date is not within the accepted time range" => Reason::SignatureTime,
        "Invalid Escher key" => Reason::CredentialUnknown,
        "The signatures do not match" => Reason::SignatureMismatch,
        _ if message.ends_with(" header is missing") => Reason::SignatureDateMissing,
        _ if message.ends_with(" header is not signed") => Reason::SignatureDateUnsigned,
        _ => bail!("no reason says `{message}`"),
    })
}

/// The files of the suite, by their path within it.
fn files(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for group in std::fs::read_dir(folder)? {
        let group = group?.path();
        if !group.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&group)? {
            let path = file?.path();
            let name = format!("{}/{}", name(&group)?, name(&path)?);
            if name.ends_with(".json") {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}

fn name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).context("a file has a name")
}
