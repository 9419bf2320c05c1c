//! The test suite that Escher's libraries share, against signer, canonicaliser and gate.
//!
//! Every case of it is run, or is in [`EXCLUDED`] with the reason why HTTP or the gate leaves no room for it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::credential::SecretDigest;
use portcullis_model::head::RequestHead;
use portcullis_model::key_sheet::{Day, encode};
use portcullis_model::policy::build;
use portcullis_model::signing::date::{self, Weekday};
use portcullis_model::signing::day_key;
use portcullis_model::signing::signer::{Outgoing, SignError, Signer};
use portcullis_model::source::{CanonicalForm, SignatureHash, SignatureProfile, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Cases that cannot be run, and why.
const EXCLUDED: &[(&str, &str)] = &[
    (".conflict/signrequest-error-post-body-is-empty", "the libraries disagree; a POST may have no body (RFC 9110)"),
    ("ducktype_cases/authenticate-error-mandatoryheaders-not-array", "a type error of languages without types"),
    ("ducktype_cases/authenticate-error-mandatoryheaders-not-array-of-strings", "a type error of such languages"),
    ("emarsys_testsuite/authenticate-error-invalid-request-method", "a method is what an endpoint allows, here any"),
    ("test_cases/authenticate-error-notsigned-header", "no profile asks for fields besides host and date"),
    ("test_cases/authenticate-error-post-body-null", "a request over HTTP has a body, if an empty one"),
    ("test_cases/signrequest-error-invalid-request-method", "a method is what the server allows"),
    ("test_cases/signrequest-error-invalid-request-url", "the signer is given a target, not a URL"),
];

/// Cases that the gate answers otherwise than the libraries do, with its reason.
const OTHERWISE: &[(&str, Reason, &str)] = &[
    (
        "emarsys_testsuite/authenticate-error-invalid-auth-header",
        Reason::CredentialMissing,
        "an Authorization of another scheme is none of this one",
    ),
    ("emarsys_testsuite/authenticate-valid-lowercase-method", Reason::MethodMalformed, "methods are in upper case"),
    // The suite's URLs are valid for 123,456 seconds. That their signatures are right, its presignurl cases show.
    ("emarsys_testsuite/authenticate-error-presigned-url-expired", Reason::SignaturePresigned, "a day is the longest"),
    (
        "emarsys_testsuite/authenticate-valid-presigned-url-with-query",
        Reason::SignaturePresigned,
        "a day is the longest",
    ),
    (
        "test_cases/authenticate-error-presigned-url-invalid-escher-key",
        Reason::SignaturePresigned,
        "a day is the longest",
    ),
    ("test_cases/authenticate-error-invalid-request-url", Reason::TargetNotOrigin, "a target begins with a slash"),
];

/// The folder of vectors; nothing, told loudly, where there is none, which in CI is a failure.
fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("PORTCULLIS_VECTORS").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"));
    let folder = folder.join("escher");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "there are no vectors at {}", folder.display());
    eprintln!("NOT TESTED: there are no vectors at {}; PORTCULLIS_VECTORS names their folder", folder.display());
    None
}

#[test]
fn every_case_of_the_suite_is_run_or_listed() {
    let Some(folder) = folder() else { return };
    let (mut run, mut excluded, mut faults) = (0, BTreeSet::new(), Vec::new());
    for suite in [".conflict", "aws4_testsuite", "ducktype_cases", "emarsys_testsuite", "test_cases"] {
        let mut files: Vec<_> = fs::read_dir(folder.join(suite)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = format!("{suite}/{}", file.file_stem().unwrap().to_str().unwrap());
            if EXCLUDED.iter().any(|(excluded, _)| *excluded == name) {
                excluded.insert(name);
                continue;
            }
            let case = Case(serde_json::from_slice(&fs::read(&file).unwrap()).unwrap());
            let result = match file.file_stem().unwrap().to_str().unwrap().split('-').next() {
                Some("signrequest") => case.sign(),
                Some("presignurl") => case.presign(),
                Some("authenticate") => case.authenticate(OTHERWISE.iter().find(|(of, ..)| *of == name)),
                other => panic!("`{other:?}` is nothing that is known"),
            };
            run += 1;
            faults.extend(result.err().map(|fault| format!("{name}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(excluded.len(), EXCLUDED.len(), "a case that is excluded is not there");
    assert_eq!(run + excluded.len(), 79, "the suite has another number of cases");
}

struct Case(Value);

fn equal(what: &str, ours: &str, theirs: &str) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what} is\n{ours}\ninstead of\n{theirs}")) }
}

impl Case {
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn headers(&self, pointer: &str) -> Vec<(&str, &str)> {
        let pairs = self.0.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect()
    }

    fn profile(&self) -> SignatureProfile {
        let or = |given: &str, otherwise: &str| if given.is_empty() { otherwise.to_owned() } else { given.to_owned() };
        let hash = match self.text("/config/hashAlgo") {
            "SHA512" => SignatureHash::Sha512,
            _ => SignatureHash::Sha256,
        };
        SignatureProfile {
            id: "suite".parse().unwrap(),
            algorithm_prefix: or(self.text("/config/algoPrefix"), "ESR"),
            vendor_key: or(self.text("/config/vendorKey"), "Escher"),
            hash,
            auth_header: or(self.text("/config/authHeaderName"), "X-Escher-Auth"),
            date_header: or(self.text("/config/dateHeaderName"), "X-Escher-Date"),
            credential_scope: self.text("/config/credentialScope").to_owned(),
            clock_skew_s: self
                .0
                .pointer("/config/clockSkew")
                .and_then(Value::as_u64)
                .map_or(300, |s| s.try_into().unwrap()),
            canonical_form: CanonicalForm::Escher,
            presigned_expires_s: 123_456,
            nonce_header: None,
        }
    }

    fn now(&self) -> UnixTime {
        let text = self.text("/config/date");
        text.parse().ok().or_else(|| date::read(text.as_bytes(), Weekday::Ignored)).unwrap()
    }

    fn sign(&self) -> Result<(), String> {
        let profile = self.profile();
        let (key_id, secret) = (self.text("/config/accessKeyId"), self.text("/config/apiSecret").as_bytes());
        let signer = Signer { profile: &profile, key_id, secret };
        let headers = self.headers("/request/headers");
        let names: Vec<_> =
            self.0["headersToSign"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let request = Outgoing {
            method: self.text("/request/method"),
            target: self.text("/request/url"),
            headers: &headers,
            body: self.text("/request/body").as_bytes(),
        };
        let signed = match (signer.sign(&request, &names, self.now()), self.text("/expected/error")) {
            (Ok(signed), "") => signed,
            (Ok(_), error) => return Err(format!("signed in spite of `{error}`")),
            (Err(SignError::KeyId | SignError::NoSecret), "Invalid Escher key") => return Ok(()),
            (Err(error), _) => return Err(error.to_string()),
        };
        if let Some(theirs) = self.0.pointer("/expected/canonicalizedRequest").and_then(Value::as_str) {
            equal("the canonical request", &String::from_utf8_lossy(&signed.canonical_request), theirs)?;
            equal(
                "the string to sign",
                &String::from_utf8_lossy(&signed.string_to_sign),
                self.text("/expected/stringToSign"),
            )?;
        }
        let given = headers.iter().map(|(name, value)| format!("{}: {value}", name.to_lowercase()));
        let added = signed.headers.iter().map(|(name, value)| format!("{}: {value}", name.to_lowercase()));
        let mut sent: Vec<_> = given.chain(added).collect();
        let expected = self.headers("/expected/request/headers");
        let mut expected: Vec<_> =
            expected.iter().map(|(name, value)| format!("{}: {value}", name.to_lowercase())).collect();
        sent.sort();
        expected.sort();
        equal("what is sent", &sent.join("\n"), &expected.join("\n"))
    }

    fn presign(&self) -> Result<(), String> {
        let profile = self.profile();
        let (key_id, secret) = (self.text("/config/accessKeyId"), self.text("/config/apiSecret").as_bytes());
        let url = self.text("/request/url");
        // A fragment is the browser's own (RFC 9110 section 4.2.5) and not sent.
        let (url, fragment) = url.split_at(url.find('#').unwrap_or(url.len()));
        let rest = url.strip_prefix("https://").unwrap();
        let (host, target) = rest.split_at(rest.find('/').unwrap());
        let expires = self.0.pointer("/request/expires").and_then(Value::as_u64).unwrap();
        let signer = Signer { profile: &profile, key_id, secret };
        let ours = signer.presign(host, target, expires.try_into().unwrap(), self.now()).map_err(|e| e.to_string())?;
        equal("the URL", &format!("https://{host}{ours}{fragment}"), self.text("/expected/url"))
    }

    /// A gate that knows the case's keys, guarding the case's host.
    fn gate(&self, host: &str) -> Gate {
        let profile = SignatureProfile { presigned_expires_s: 86_400, ..self.profile() };
        let keys: Vec<_> = self.headers("/keyDb");
        let credentials: Vec<_> = keys
            .iter()
            .zip(0u32..)
            .map(|((key_id, _), slot)| {
                let sha256 = SecretDigest::new(Sha256::digest(key_id).into());
                json!({
                    "id": format!("key-{slot}"), "tenant": "t", "kind": "workspace", "signature_profile": "suite",
                    "secrets": [{ "version": 1, "sha256": sha256, "signing_slot": slot }],
                })
            })
            .collect();
        let source = json!({
            "format": 1, "revision": 1, "seed": "000102030405060708090a0b0c0d0e0f",
            "installation": { "signature_profiles": [profile] },
            "services": [{
                "id": "api", "hosts": [host], "prefix": "/",
                "accept": [{ "signature": "suite", "kinds": ["workspace"] }],
                "endpoints": [{ "id": "all", "prefixes": ["/"] }],
            }],
            "tenants": [{ "id": "t" }],
            "credentials": credentials,
        });
        let source = Source::from_json(source.to_string().as_bytes()).unwrap();
        let mut gate = Gate::default();
        gate.load(build(&source).unwrap()).unwrap();
        gate.confirm(self.now());
        for ((_, secret), slot) in keys.iter().zip(0..) {
            // The days of the suite's requests: they are around its clock, or in the URL.
            for day in [Day::of(self.now()), Day(15_105)] {
                gate.load_keys(&encode(day, slot, &[day_key(&profile, secret.as_bytes(), day)]).unwrap()).unwrap();
            }
        }
        gate
    }

    fn authenticate(&self, otherwise: Option<&(&str, Reason, &str)>) -> Result<(), String> {
        let headers = self.headers("/request/headers");
        let host =
            headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map_or("host.foo.com", |(_, h)| h);
        let gate = self.gate(host);
        let fields: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let head = RequestHead {
            secure: true,
            peer: "192.0.2.1".parse().unwrap(),
            method: self.text("/request/method").as_bytes(),
            authority: None,
            target: self.text("/request/url").as_bytes(),
            headers: &fields,
            bodiless: self.text("/request/body").is_empty(),
        };
        let head = head.pack().unwrap();
        let digest = self.profile().hash.digest(self.text("/request/body").as_bytes());
        let input = Input { head: &head, now: self.now(), body_digest: Some(digest.as_bytes()), replay: None };
        let verdict = gate.decide(input, &mut Silent, &mut Vec::new());
        let ours = match (verdict, otherwise) {
            (Verdict::Deny(reason), Some((_, expected, _))) if reason == *expected => return Ok(()),
            (verdict, Some(_)) => return Err(format!("{verdict:?} is not what is listed")),
            (Verdict::Allow, None) => {
                return if self.0.pointer("/expected/apiKey").is_some() {
                    Ok(())
                } else {
                    Err("is allowed".to_owned())
                };
            }
            (Verdict::Deny(reason), None) => message(reason, &self.profile().date_header.to_lowercase()),
            (Verdict::NeedBody(_), None) => return Err("has its body already".to_owned()),
        };
        equal("the message", &ours, self.text("/expected/error"))
    }
}

/// What the libraries say where the gate has this reason.
fn message(reason: Reason, date: &str) -> String {
    match reason {
        Reason::CredentialMissing => "The authorization header is missing".to_owned(),
        Reason::HostMissing => "The host header is missing".to_owned(),
        Reason::SignatureDateMissing => format!("The {date} header is missing"),
        Reason::SignatureMalformed => "Could not parse auth header".to_owned(),
        Reason::SignatureHash => "Only SHA256 and SHA512 hash algorithms are allowed".to_owned(),
        Reason::SignatureDay => "The credential date does not match with the request date".to_owned(),
        Reason::SignatureScope => "The credential scope is invalid".to_owned(),
        Reason::SignatureHostUnsigned => "The host header is not signed".to_owned(),
        Reason::SignatureDateUnsigned => format!("The {date} header is not signed"),
        Reason::SignatureTime => "The request date is not within the accepted time range".to_owned(),
        Reason::CredentialUnknown => "Invalid Escher key".to_owned(),
        Reason::SignatureMismatch => "The signatures do not match".to_owned(),
        other => format!("a reason without a message: {other}"),
    }
}
