//! Signed requests: what a signature covers, and a test for each mistake that other verifiers have made.
//!
//! The corpus has the cases one by one, signed by another program. Here one request is signed and then changed everywhere.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::borrow::Cow;

use portcullis_eval::{Gate, Input, Recorder, Silent};
use portcullis_model::answer::{Details, Obligation};
use portcullis_model::facts::{Proof, ReplayAnswer, SignatureState};
use portcullis_model::head::RequestHead;
use portcullis_model::key_sheet::{Day, encode};
use portcullis_model::policy::build;
use portcullis_model::signing::canonical::{Canonical, Field, write_names};
use portcullis_model::signing::{Output, UNSIGNED_PAYLOAD, date, day_key, short_date, signature, write_string_to_sign};
use portcullis_model::source::{SignatureHash, SignatureProfile, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{DigestAlgorithm, NeedBody, Reason, Verdict};

const POLICY: &[u8] = include_bytes!("../../../tests/conformance/policies/signed.json");
const HOST: &[u8] = b"api.signed.example";
const SECRETS: [(u32, &str, &str, &str); 4] = [
    (0, "antavo", "AK-acme-antavo-01", "acme-antavo-signs-with-this"),
    (1, "escher", "AK-globex-escher-01", "globex-escher-signs-with-this"),
    (2, "aws", "AKIDINITECH01", "initech-aws-signs-with-this"),
    (3, "long", "AK-umbrella-long-01", "umbrella-signs-with-long-hashes"),
];

fn now() -> UnixTime {
    "2026-11-21T09:00:00Z".parse().unwrap()
}

fn source() -> Source {
    Source::from_json(POLICY).unwrap()
}

fn profile(id: &str) -> SignatureProfile {
    source().installation.signature_profiles.into_iter().find(|profile| profile.id.as_str() == id).unwrap()
}

fn gate() -> Gate {
    let mut gate = Gate::default();
    gate.load(build(&source()).unwrap()).unwrap();
    gate.confirm(now());
    for (slot, id, _, secret) in SECRETS {
        let day = Day::of(now());
        gate.load_keys(&encode(day, slot, &[day_key(&profile(id), secret.as_bytes(), day)]).unwrap()).unwrap();
    }
    gate
}

/// A request as it is sent.
#[derive(Clone)]
struct Sent {
    method: Vec<u8>,
    target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Sent {
    fn new(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Sent {
        let headers = headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let host = (b"Host".to_vec(), HOST.to_vec());
        Sent {
            method: method.into(),
            target: target.into(),
            headers: [host].into_iter().chain(headers).collect(),
            body: body.into(),
        }
    }

    fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Sent {
        self.headers.push((name.as_bytes().to_vec(), value.into()));
        self
    }

    /// Signs every header field there is, as the signer of that profile.
    fn signed(self, id: &str) -> Sent {
        let (_, _, key_id, secret) = SECRETS.into_iter().find(|(_, of, ..)| *of == id).unwrap();
        self.signed_by(id, key_id, secret)
    }

    fn signed_by(mut self, id: &str, key_id: &str, secret: &str) -> Sent {
        let profile = profile(id);
        let date = date::http_date(now()).into_bytes();
        self = self.with(&profile.date_header, date);
        let mut names: Vec<Vec<u8>> = self.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        let values = |name: &[u8]| -> Vec<&[u8]> {
            let of_name = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
            of_name.map(|(_, value)| value.as_slice()).collect()
        };
        let fields: Vec<_> =
            names.iter().map(|name| Field { name: Cow::Borrowed(name), values: values(name) }).collect();
        let mut parts = self.target.splitn(2, |byte| *byte == b'?');
        let (path, query) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        let body = profile.hash.digest(&self.body);
        let canonical = Canonical { method: &self.method, path, query, without: None, fields: &fields, body };
        let hex = sign(&profile, secret, &canonical);
        let mut list = Vec::new();
        write_names(&fields, &mut list);
        let value = format!(
            "{}-HMAC-{} Credential={key_id}/{}/{}, SignedHeaders={}, Signature={hex}",
            profile.algorithm_prefix,
            profile.hash.as_str(),
            String::from_utf8_lossy(&short_date(Day::of(now()))),
            profile.credential_scope,
            String::from_utf8_lossy(&list),
        );
        let name = profile.auth_header.clone();
        drop(fields);
        self.with(&name, value)
    }

    fn decide(&self, gate: &Gate, replay: Option<ReplayAnswer>) -> Answered {
        let digest = SignatureHash::Sha256.digest(&self.body);
        let long = SignatureHash::Sha512.digest(&self.body);
        // What the gate asks for is what it gets.
        match self.ask(gate, None, replay) {
            Answered { verdict: Verdict::NeedBody(NeedBody { algorithm, .. }), .. } => {
                let digest = match algorithm {
                    DigestAlgorithm::Sha256 => digest,
                    DigestAlgorithm::Sha512 => long,
                };
                self.ask(gate, Some(digest.as_bytes()), replay)
            }
            answered => answered,
        }
    }

    fn ask(&self, gate: &Gate, body_digest: Option<&[u8]>, replay: Option<ReplayAnswer>) -> Answered {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        let head = RequestHead {
            secure: true,
            bodiless: self.body.is_empty(),
            peer: "192.0.2.1".parse().unwrap(),
            method: &self.method,
            authority: None,
            target: &self.target,
            headers: &headers,
        };
        let head = head.pack().unwrap();
        let mut out = Vec::new();
        let verdict = gate.decide(Input { head: &head, now: now(), body_digest, replay }, &mut Silent, &mut out);
        let details = Details::unpack(&out).unwrap();
        Answered {
            verdict,
            signature: details.facts.signature,
            proof: details.facts.credential.map(|credential| credential.proof),
            once: details.obligations,
        }
    }

    #[track_caller]
    fn check(&self, expected: Result<(), Reason>) {
        let found = self.decide(&gate(), None).verdict;
        let expected = expected.map_or_else(Verdict::Deny, |()| Verdict::Allow);
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(&self.target));
    }
}

#[derive(Debug)]
struct Answered {
    verdict: Verdict,
    signature: SignatureState,
    proof: Option<Proof>,
    once: Vec<Obligation>,
}

fn sign(profile: &SignatureProfile, secret: &str, canonical: &Canonical<'_>) -> String {
    let (mut request, mut string) = (Vec::new(), Vec::new());
    canonical.write(profile.canonical_form, &mut request);
    let of = (profile.algorithm_prefix.as_str(), profile.hash, profile.credential_scope.as_str());
    write_string_to_sign(&mut string, of, now(), &request);
    let key = day_key(profile, secret.as_bytes(), Day::of(now()));
    signature(profile.hash, &key, &string).to_hex()
}

/// A presigned URL of the Escher profile, with the life that is given.
fn presigned(expires: &str) -> Sent {
    let profile = profile("escher");
    let query = format!(
        "X-Escher-Algorithm=ESR-HMAC-SHA256&X-Escher-Credentials=AK-globex-escher-01%2F20261121%2Feu%2Fshop%2Fems_request\
         &X-Escher-Date=20261121T090000Z&X-Escher-Expires={expires}&X-Escher-SignedHeaders=host"
    );
    let fields = [Field { name: Cow::Borrowed(b"host".as_slice()), values: vec![HOST] }];
    let body: Output = SignatureHash::Sha256.digest(UNSIGNED_PAYLOAD);
    let canonical = Canonical {
        method: b"GET",
        path: b"/v1/events",
        query: query.as_bytes(),
        without: None,
        fields: &fields,
        body,
    };
    let signature = sign(&profile, SECRETS[1].3, &canonical);
    Sent::new("GET", &format!("/v1/events?{query}&X-Escher-Signature={signature}"), &[], "")
}

fn sample() -> Sent {
    Sent::new("POST", "/v1/items/a1?b=2&a=1", &[("X-Zoo", "lion"), ("Content-Type", "text/plain")], "points=5")
}

#[test]
fn a_request_passes_and_with_any_byte_changed_it_does_not() {
    let gate = gate();
    for id in ["antavo", "escher", "aws", "long"] {
        let signed = sample().signed(id);
        let answered = signed.decide(&gate, None);
        assert_eq!((answered.verdict, answered.signature), (Verdict::Allow, SignatureState::Valid), "{id}");
        assert_eq!(answered.proof, Some(Proof::Signature));
        let mut changed = 0;
        let mut check = |what: &str, at: usize, sent: &Sent| {
            let verdict = sent.decide(&gate, None).verdict;
            assert!(matches!(verdict, Verdict::Deny(_)), "{id}: {what}, byte {at}: {verdict:?}");
            changed += 1;
        };
        for (at, byte) in signed.method.iter().enumerate() {
            let mut sent = signed.clone();
            sent.method[at] = if *byte == b'P' { b'Q' } else { b'P' };
            check("method", at, &sent);
        }
        for at in 0..signed.target.len() {
            for mask in [1, 4] {
                let mut sent = signed.clone();
                sent.target[at] ^= mask;
                check("target", at, &sent);
            }
        }
        for (number, (name, value)) in signed.headers.iter().enumerate() {
            for at in 0..name.len() {
                let mut sent = signed.clone();
                sent.headers[number].0[at] ^= 1;
                check("a field's name", at, &sent);
            }
            for at in 0..value.len() {
                let mut sent = signed.clone();
                sent.headers[number].1[at] ^= 1;
                check("a field's value", at, &sent);
            }
        }
        for at in 0..signed.body.len() {
            let mut sent = signed.clone();
            sent.body[at] ^= 1;
            check("body", at, &sent);
        }
        for sent in
            [Sent { body: Vec::new(), ..signed.clone() }, Sent { body: b"points=55".to_vec(), ..signed.clone() }]
        {
            check("body", 0, &sent);
        }
        assert!(changed > 300, "{id}: {changed}");
    }
}

#[test]
fn mistake_text_after_a_second_equals_sign_left_unsigned() {
    let signed = Sent::new("GET", "/v1/events?a=b=c", &[], "").signed("escher");
    signed.check(Ok(()));
    Sent { target: b"/v1/events?a=b=d".to_vec(), ..signed }.check(Err(Reason::SignatureMismatch));
}

#[test]
fn mistake_0_taken_for_an_empty_query() {
    let signed = Sent::new("GET", "/v1/events", &[], "").signed("antavo");
    Sent { target: b"/v1/events?0".to_vec(), ..signed }.check(Err(Reason::SignatureMismatch));
}

#[test]
fn mistake_dot_slash_deleted_anywhere() {
    let signed = Sent::new("GET", "/v1/items/foo.", &[], "").signed("escher");
    signed.check(Ok(()));
    Sent { target: b"/v1/items/foo".to_vec(), ..signed }.check(Err(Reason::SignatureMismatch));
}

#[test]
fn mistake_a_path_with_dot_segments_shares_a_signature() {
    let signed = Sent::new("GET", "/v1/events", &[], "").signed("antavo");
    Sent { target: b"/v1/x/../events".to_vec(), ..signed.clone() }.check(Err(Reason::PathDotSegment));
    Sent { target: b"/v1//events".to_vec(), ..signed }.check(Err(Reason::PathEmptySegment));
}

#[test]
fn mistake_bodies_of_patch_and_delete_unsigned() {
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
        let signed = Sent::new(method, "/v1/events", &[], "body").signed("antavo");
        signed.check(Ok(()));
        Sent { body: b"bodY".to_vec(), ..signed }.check(Err(Reason::SignatureMismatch));
    }
}

/// That it takes the same time cannot be seen in a test; that there is one comparison, and which, can.
#[test]
fn mistake_a_comparison_that_is_not_constant_time() {
    let code = include_str!("../src/signature.rs");
    assert_eq!(code.matches("expected.as_bytes()").count(), 1);
    assert!(code.contains("expected.as_bytes().ct_eq(&claim.signature)"));
}

#[test]
fn mistake_junk_around_the_auth_header_tolerated() {
    let signed = Sent::new("GET", "/v1/events", &[], "").signed("escher");
    let (at, value) = signed
        .headers
        .iter()
        .enumerate()
        .find_map(|(at, (name, value))| (name == b"X-Escher-Auth").then(|| (at, String::from_utf8_lossy(value))))
        .unwrap();
    for junk in [
        format!("x {value}"),
        format!("{value} x"),
        format!("{value}, x"),
        format!("{value};"),
        value.replace(", ", ",, "),
    ] {
        let mut sent = signed.clone();
        sent.headers[at].1 = junk.into_bytes();
        sent.check(Err(Reason::SignatureMalformed));
    }
}

#[test]
fn mistake_a_listed_header_that_is_absent_skipped() {
    let mut sent = Sent::new("GET", "/v1/events", &[("X-Zoo", "a")], "").signed("escher");
    sent.headers.retain(|(name, _)| name != b"X-Zoo");
    sent.check(Err(Reason::SignatureFieldAbsent));
}

#[test]
fn mistake_doubled_date_or_authorization_resolved_by_first_or_last() {
    let signed = Sent::new("GET", "/v1/events", &[], "");
    for (id, name, reason) in [
        ("antavo", "Date", Reason::DateDoubled),
        ("antavo", "Authorization", Reason::AuthorizationDoubled),
        ("escher", "X-Escher-Date", Reason::DateDoubled),
        ("escher", "X-Escher-Auth", Reason::CredentialDoubled),
    ] {
        let sent = signed.clone().signed(id);
        let value = sent.headers.iter().find(|(given, _)| given == name.as_bytes()).unwrap().1.clone();
        let mut first = sent.clone();
        first.headers.insert(0, (name.as_bytes().to_vec(), value.clone()));
        for sent in [sent.with(name, value), first] {
            sent.check(Err(reason));
        }
    }
}

#[test]
fn mistake_header_and_presigned_forms_mixed() {
    let mut sent = presigned("60");
    sent.check(Ok(()));
    let signed = Sent::new("GET", "/v1/events", &[], "").signed("escher");
    sent.headers = signed.headers;
    sent.check(Err(Reason::SignatureFormsTwo));
}

#[test]
fn mistake_no_cap_on_expires() {
    presigned("86400").check(Ok(()));
    presigned("86401").check(Err(Reason::SignaturePresigned));
    for overflow in ["99999999999", "18446744073709551615", "-1", "1e3", "", "+60"] {
        presigned(overflow).check(Err(Reason::SignatureMalformed));
    }
}

#[test]
fn mistake_no_replay_cache() {
    let gate = gate();
    let signed = Sent::new("GET", "/v1/once", &[], "").signed("antavo");
    let first = signed.decide(&gate, None);
    let [Obligation::Once { key, until }] = first.once.as_slice() else { unreachable!("{first:?}") };
    assert_eq!(until.as_secs(), now().as_secs() + 301);
    assert_eq!(signed.decide(&gate, Some(ReplayAnswer::Seen)).verdict, Verdict::Deny(Reason::SignatureReplayed));
    let fresh = signed.decide(&gate, Some(ReplayAnswer::Fresh));
    assert_eq!((fresh.verdict, fresh.once.len()), (Verdict::Allow, 0));
    let other = Sent::new("GET", "/v1/once?other", &[], "").signed("antavo").decide(&gate, None);
    assert!(
        !other.once.iter().any(|Obligation::Once { key: other, .. }| other == key),
        "another request is another use"
    );
}

#[test]
fn mistake_a_distinct_answer_for_an_unknown_key() {
    let gate = gate();
    let sent = Sent::new("GET", "/v1/events", &[], "");
    let wrong = sent.clone().signed_by("antavo", "AK-acme-antavo-01", "wrong");
    let unknown = sent.signed_by("antavo", "AK-nobody", "wrong");
    let [wrong, unknown] = [wrong, unknown].map(|sent| match sent.decide(&gate, None).verdict {
        Verdict::Deny(reason) => (reason.status(), reason.public_code()),
        other @ (Verdict::Allow | Verdict::NeedBody(_)) => unreachable!("{other:?}"),
    });
    assert_eq!(wrong, unknown);
}

#[test]
fn mistake_signed_header_names_restricted_to_letters() {
    for name in ["x-2fa", "x_b", "x!#$%&'*+.^`|~9"] {
        Sent::new("GET", "/v1/events", &[(name, "1")], "").signed("escher").check(Ok(()));
    }
}

#[test]
fn mistake_expiry_skipped_when_the_date_is_absent() {
    let mut sent = presigned("60");
    let target = String::from_utf8(sent.target).unwrap();
    sent.target = target.replace("X-Escher-Date=20261121T090000Z&", "").into_bytes();
    sent.check(Err(Reason::SignatureMalformed));
    let mut sent = Sent::new("GET", "/v1/events", &[], "").signed("antavo");
    sent.headers.retain(|(name, _)| name != b"Date");
    sent.check(Err(Reason::SignatureDateMissing));
}

#[test]
fn a_body_is_asked_for_once_everything_else_has_passed() {
    let gate = gate();
    let sent = sample().signed("antavo");
    let asked = sent.ask(&gate, None, None);
    assert!(matches!(asked.verdict, Verdict::NeedBody(NeedBody { algorithm: DigestAlgorithm::Sha256, .. })));
    // Nobody is proven yet.
    assert_eq!((asked.signature, asked.proof), (SignatureState::Unverified, None));
    let long = sample().signed("long").ask(&gate, None, None);
    assert!(matches!(long.verdict, Verdict::NeedBody(NeedBody { algorithm: DigestAlgorithm::Sha512, .. })));
    for (sent, reason) in [
        (sample().signed_by("antavo", "AK-nobody", "x"), Reason::CredentialUnknown),
        (sample().signed_by("antavo", "AK-umbrella-old-01", "x"), Reason::CredentialRevoked),
        (Sent::new("POST", "/v1/none", &[], "x").signed("antavo"), Reason::EndpointUnknown),
    ] {
        let asked = sent.ask(&gate, None, None);
        assert_eq!((asked.verdict, asked.proof), (Verdict::Deny(reason), None));
    }
    // A digest of another length is none.
    assert!(matches!(sent.ask(&gate, Some(&[0; 20]), None).verdict, Verdict::NeedBody(_)));
}

/// Point 2 of key sheets: what is in the policy and in the sheets is no secret, and no key of another day.
#[test]
fn a_policy_and_its_sheets_hold_no_secret() {
    let policy = build(&source()).unwrap();
    let day = Day::of(now());
    let sheets: Vec<Vec<u8>> = SECRETS
        .iter()
        .map(|(slot, id, _, secret)| encode(day, *slot, &[day_key(&profile(id), secret.as_bytes(), day)]).unwrap())
        .collect();
    let has = |bytes: &[u8], secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
    for (_, id, key_id, secret) in SECRETS {
        let profile = profile(id);
        let first = format!("{}{secret}", profile.algorithm_prefix);
        // The first key of the chain is that of the day for every scope; with it one could mint for another.
        let of_day = SignatureProfile { credential_scope: "x".to_owned(), ..profile.clone() };
        let others = [Day(day.0 - 1), Day(day.0 + 1)].map(|other| day_key(&profile, secret.as_bytes(), other));
        let all = sheets.iter().chain([&policy]);
        for bytes in all {
            for secret in [secret.as_bytes(), key_id.as_bytes(), first.as_bytes()] {
                assert!(!has(bytes, secret), "{id}");
            }
            assert!(!has(bytes, &day_key(&of_day, secret.as_bytes(), day).0[..32]));
            assert!(others.iter().all(|other| !has(bytes, &other.0[..32])), "{id}: a key of another day");
        }
        assert!(sheets.iter().any(|sheet| has(sheet, &day_key(&profile, secret.as_bytes(), day).0[..32])));
    }
}

#[test]
fn an_explanation_tells_what_the_server_signed_and_no_key() {
    let gate = gate();
    let sent = Sent::new("GET", "/v1/events?b=1&a=2", &[], "").signed_by("antavo", "AK-acme-antavo-01", "wrong");
    let headers: Vec<_> = sent.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    let head = RequestHead {
        secure: true,
        bodiless: true,
        peer: "192.0.2.1".parse().unwrap(),
        method: &sent.method,
        authority: None,
        target: &sent.target,
        headers: &headers,
    };
    let (mut recorder, mut out) = (Recorder::default(), Vec::new());
    let input = Input { head: &head.pack().unwrap(), now: now(), body_digest: None, replay: None };
    gate.decide(input, &mut recorder, &mut out);
    let told: String = recorder.into_steps().into_iter().map(|step| step.detail + "\n").collect();
    for line in [
        "GET\n/v1/events\na=2&b=1\ndate:",
        "ANTAVO-HMAC-SHA256\n20261121T090000Z\n20261121/eu/api/antavo_request\n",
        "0 s ago",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let key = day_key(&profile("antavo"), SECRETS[0].3.as_bytes(), Day::of(now()));
    let hex: String = key.0[..32].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!told.contains(&hex) && !told.contains("AK-acme-antavo-01") && !told.contains("Signature="));
}
