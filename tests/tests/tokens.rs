//! Access tokens at the gate: what it remembers changes no verdict, and it takes nothing that another verifier refuses.

#![expect(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

use std::sync::LazyLock;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::head::RequestHead;
use portcullis_model::id::Revision;
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{Delta, Source, TokenAlgorithm, TokenKeyMaterial};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};
use portcullis_tests::corpus::Corpus;
use portcullis_tests::minter::{Minter, minter};
use proptest::prelude::*;
use serde_json::{Value, json};

/// 2026-11-21T09:00:00Z.
const NOW_S: u64 = 1_795_251_600;
const KEYS: [&str; 3] = ["EdDSA-1", "ES256-1", "RS256-1"];

/// The documents that the gate is moved among: keys go, come and are exchanged, clients are revoked, rotated and deleted.
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let corpus = Corpus::load().unwrap_or_else(|error| panic!("{error:#}"));
    corpus.policies.into_iter().filter(|(name, _)| name.starts_with("tokens")).map(|(_, source)| source).collect()
});

/// Tokens good and bad, for every key and client.
static TOKENS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut tokens = Vec::new();
    let changes = [
        json!({}),
        json!({ "secret_version": 2 }),
        json!({ "aud": ["depot"] }),
        json!({ "scope": "events.write" }),
        json!({ "exp": NOW_S + 30 }),
        json!({ "nbf": NOW_S + 90 }),
        json!({ "iss": "https://new.shop.example" }),
        json!({ "client_id": "cl-acme-revoked" }),
        json!({ "client_id": "pk-acme-ben", "scope": null }),
        json!({ "client_id": "pk-acme-ada" }),
        json!({ "client_id": "cl-globex-01", "iss": "https://globex.shop.example", "secret_version": 3 }),
        json!({ "client_id": "cl-nobody" }),
    ];
    for (key, change) in KEYS.iter().flat_map(|key| changes.iter().map(move |change| (key, change))) {
        tokens.push(minter(key).unwrap().token(&claims(change)));
    }
    // By a key under another's id, and the keys' algorithm confused.
    for (key, header) in [
        ("EdDSA-2", json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "EdDSA-1" })),
        ("EdDSA-1", json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "ES256-1" })),
        ("ES256-1", json!({ "typ": "at+jwt", "alg": "HS256", "kid": "ES256-1" })),
    ] {
        tokens.push(minter(key).unwrap().sign(&header.to_string(), &claims(&json!({})).to_string()));
    }
    let damaged: Vec<_> = tokens.iter().step_by(5).map(|token| format!("{}A", &token[..token.len() - 1])).collect();
    tokens.extend(damaged);
    tokens
});

fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://acme.shop.example", "sub": "cl-acme-01", "client_id": "cl-acme-01", "aud": ["shop"],
        "scope": "events.read", "iat": NOW_S - 300, "exp": NOW_S + 900, "jti": "t-1", "secret_version": 1,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn head(token: &str) -> Vec<u8> {
    let authorization = format!("Bearer {token}");
    RequestHead {
        secure: true,
        peer: "192.0.2.10".parse().unwrap(),
        method: b"GET",
        authority: None,
        target: b"/v1/events",
        headers: &[(b"host", b"api.shop.example"), (b"authorization", authorization.as_bytes())],
        bodiless: true,
    }
    .pack()
    .unwrap()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds).unwrap()
}

fn ask(gate: &Gate, token: &str, now: UnixTime) -> (Verdict, Vec<u8>) {
    let mut details = Vec::new();
    let input = Input { head: &head(token), now, body_digest: None, replay: None };
    (gate.decide(input, &mut Silent, &mut details), details)
}

fn fresh(source: &Source) -> Gate {
    let mut gate = Gate::default();
    gate.load(build(source).unwrap()).unwrap();
    gate.confirm(at(NOW_S));
    gate
}

fn usual() -> Source {
    SOURCES.iter().find(|source| source.revision == Revision(300)).unwrap().clone()
}

/// One step of a gate that lives on.
#[derive(Clone, Debug)]
enum Step {
    Ask { token: usize, seconds: u64 },
    Delta(usize),
    Base(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = (any::<usize>(), prop_oneof![3 => Just(NOW_S), 1 => NOW_S..NOW_S + 1000, 1 => NOW_S - 60..NOW_S]);
    let step = prop_oneof![
        8 => ask.prop_map(|(token, seconds)| Step::Ask { token, seconds }),
        1 => any::<usize>().prop_map(Step::Delta),
        1 => any::<usize>().prop_map(Step::Base),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_a_gate_remembers_changes_no_verdict(steps in steps()) {
        let mut source = usual();
        let mut warm = fresh(&source);
        for step in steps {
            match step {
                Step::Ask { token, seconds } => {
                    let (token, now) = (&TOKENS[token % TOKENS.len()], at(seconds));
                    // Where the token is new to the gate it is not when it comes again.
                    let cold = ask(&fresh(&source), token, now);
                    prop_assert_eq!(&ask(&warm, token, now), &cold);
                    prop_assert_eq!(&ask(&warm, token, now), &cold);
                }
                Step::Delta(to) => {
                    let next = moved(to, source.revision);
                    let delta = build_delta(&Delta::between(&source, &next)).unwrap();
                    let revision = warm.check_delta(delta).unwrap();
                    warm.apply_delta(revision).unwrap();
                    source = next;
                }
                Step::Base(to) => {
                    source = moved(to, source.revision);
                    warm.load(build(&source).unwrap()).unwrap();
                    warm.confirm(at(NOW_S));
                }
            }
        }
    }

    #[test]
    fn what_the_gate_takes_another_verifier_takes_too(
        key in 0..KEYS.len(),
        edits in prop::collection::vec((any::<usize>(), any::<u8>(), 0..6u8), 0..3),
        header in prop::option::weighted(0.3, any::<usize>()),
    ) {
        let minter = minter(KEYS[key]).unwrap();
        let good = match header {
            None => minter.token(&claims(&json!({}))),
            Some(number) => minter.sign(&headers(&minter)[number % HEADERS], &claims(&json!({})).to_string()),
        };
        let token = edits.iter().fold(good, |token, edit| edited(token, *edit));
        let ours = ask(&GATE, &token, at(NOW_S)).0 == Verdict::Allow;
        let theirs = decode::<Value>(&token, &decoding(&minter), &validation(&minter)).is_ok();
        prop_assert!(!ours || theirs, "{token}");
    }
}

static GATE: LazyLock<Gate> = LazyLock::new(|| fresh(&usual()));

fn moved(to: usize, from: Revision) -> Source {
    let mut next = SOURCES[to % SOURCES.len()].clone();
    next.revision = Revision(from.0 + 1);
    next
}

const HEADERS: usize = 8;

fn headers(minter: &Minter) -> [String; HEADERS] {
    let (alg, kid) = (minter.algorithm().as_str(), &minter.kid);
    [
        format!(r#"{{"typ":"at+jwt","alg":"{alg}","kid":"{kid}","x":1}}"#),
        format!(r#"{{"typ":"at+jwt","alg":"{alg}","kid":"{kid}","alg":"{alg}"}}"#),
        format!(r#"{{"typ":"at+jwt","alg":"none","alg":"{alg}","kid":"{kid}"}}"#),
        format!(r#"{{"typ":"JWT","alg":"{alg}","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"application/AT+jwt"}}"#),
        format!(r#"{{"typ":"at+jwt","alg":"{alg}"}}"#),
        format!(r#"{{"typ":"at+jwt","alg":"{alg}","kid":"{kid}","crit":["exp"]}}"#),
        format!(r#"{{"typ":"at+jwt","alg":"HS256","kid":"{kid}"}}"#),
    ]
}

fn edited(token: String, (at, value, how): (usize, u8, u8)) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";
    let mut bytes = token.into_bytes();
    let letter = ALPHABET[usize::from(value) % ALPHABET.len()];
    if bytes.is_empty() {
        return String::new();
    }
    let place = at % bytes.len();
    match how {
        0 | 1 => bytes[place] = letter,
        2 => bytes.insert(place, letter),
        3 => {
            bytes.remove(place);
        }
        // The last character of a segment carries bits that belong to no byte.
        4 => {
            let last = bytes.len() - 1;
            bytes[last] = letter;
        }
        _ => bytes.truncate(place),
    }
    String::from_utf8(bytes).unwrap()
}

fn algorithm(minter: &Minter) -> Algorithm {
    match minter.algorithm() {
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        TokenAlgorithm::Es256 => Algorithm::ES256,
        TokenAlgorithm::Rs256 => Algorithm::RS256,
    }
}

fn decoding(minter: &Minter) -> DecodingKey {
    match minter.public().material {
        TokenKeyMaterial::EdDsa { x } => DecodingKey::from_ed_components(&x).unwrap(),
        TokenKeyMaterial::Es256 { x, y } => DecodingKey::from_ec_components(&x, &y).unwrap(),
        TokenKeyMaterial::Rs256 { n, e } => DecodingKey::from_rsa_components(&n, &e).unwrap(),
    }
}

/// Its clock is the machine's, so times are left to the tests of the gate.
fn validation(minter: &Minter) -> Validation {
    let mut validation = Validation::new(algorithm(minter));
    validation.validate_exp = false;
    validation.set_audience(&["shop"]);
    validation.set_issuer(&["https://acme.shop.example"]);
    validation
}

#[test]
fn both_verifiers_take_a_good_token() {
    for key in KEYS {
        let minter = minter(key).unwrap();
        let token = minter.token(&claims(&json!({})));
        assert_eq!(ask(&GATE, &token, at(NOW_S)).0, Verdict::Allow, "{key}");
        decode::<Value>(&token, &decoding(&minter), &validation(&minter)).unwrap();
    }
}

/// Where the gate is the stricter of the two, each for a reason of its own.
#[test]
fn the_gate_refuses_what_another_verifier_lets_pass() {
    let minter = minter("EdDSA-1").unwrap();
    let good = claims(&json!({})).to_string();
    let twice = good.replacen('{', r#"{"scope":"none","#, 1);
    let header = |text: &str| text.replace("'", "\"");
    let known = "'alg':'EdDSA','kid':'EdDSA-1'";
    for (what, header, payload, reason) in [
        ("another type", header(&format!("{{'typ':'JWT',{known}}}")), &good, Reason::TokenMalformed),
        ("no key id", header("{'typ':'at+jwt','alg':'EdDSA'}"), &good, Reason::TokenMalformed),
        ("an extension", header(&format!("{{'typ':'at+jwt',{known},'crit':['x']}}")), &good, Reason::TokenCritical),
        ("a claim twice", header(&format!("{{'typ':'at+jwt',{known}}}")), &twice, Reason::TokenMalformed),
        ("a key's address", header(&format!("{{'typ':'at+jwt',{known},'jku':'x'}}")), &good, Reason::TokenMalformed),
    ] {
        let token = minter.sign(&header, payload);
        assert_eq!(ask(&GATE, &token, at(NOW_S)).0, Verdict::Deny(reason), "{what}");
        assert!(
            decode::<Value>(&token, &decoding(&minter), &validation(&minter)).is_ok(),
            "{what}: they refuse it too"
        );
    }
}

#[test]
fn a_token_with_any_character_changed_is_refused_also_where_the_good_one_was_seen() {
    for key in KEYS {
        let token = minter(key).unwrap().token(&claims(&json!({})));
        assert_eq!(ask(&GATE, &token, at(NOW_S)).0, Verdict::Allow);
        for place in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[place] = if other[place] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_ne!(ask(&GATE, &other, at(NOW_S)).0, Verdict::Allow, "{key} {place}");
        }
        assert_eq!(ask(&GATE, &token, at(NOW_S)).0, Verdict::Allow);
    }
}

#[test]
fn a_flood_of_tokens_good_and_bad_changes_no_verdict() {
    let (gate, minter) = (fresh(&usual()), minter("EdDSA-1").unwrap());
    let token = |number: usize| minter.token(&claims(&json!({ "jti": format!("t-{number}") })));
    let first = token(0);
    assert_eq!(ask(&gate, &first, at(NOW_S)).0, Verdict::Allow);
    for number in 1..6000 {
        let token = token(number);
        let bad = format!("{}{}", &token[..token.len() - 8], "AAAAAAAA");
        assert_eq!(ask(&gate, &bad, at(NOW_S)).0, Verdict::Deny(Reason::TokenSignature));
        assert_eq!(ask(&gate, &token, at(NOW_S)).0, Verdict::Allow);
        assert_eq!(ask(&gate, &bad, at(NOW_S)).0, Verdict::Deny(Reason::TokenSignature));
    }
    assert_eq!(ask(&gate, &first, at(NOW_S)).0, Verdict::Allow);
    assert_eq!(ask(&gate, &first, at(NOW_S + 900)).0, Verdict::Deny(Reason::TokenExpired));
}

#[test]
fn a_token_of_4096_bytes_is_taken_and_one_byte_more_is_not() {
    let minter = minter("EdDSA-1").unwrap();
    let sized = |filler: usize| minter.token(&claims(&json!({ "filler": "x".repeat(filler) })));
    // Three bytes of payload are four characters.
    let longest = (2000..3200).map(sized).filter(|token| token.len() <= 4096).max_by_key(String::len).unwrap();
    assert_eq!(longest.len(), 4096);
    assert_eq!(ask(&GATE, &longest, at(NOW_S)).0, Verdict::Allow);
    let payload = Base64UrlUnpadded::encode_string(b"x");
    assert!(payload.len() == 2, "{payload}");
    let longer = (2000..3300).map(sized).find(|token| token.len() > 4096).unwrap();
    assert_eq!(ask(&GATE, &longer, at(NOW_S)).0, Verdict::Deny(Reason::TokenMalformed));
}
