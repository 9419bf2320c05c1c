//! The signatures under tokens against what others hold to be right: Wycheproof and the examples of RFC 7515 and RFC 8037.
//!
//! Those JWSs are no access tokens, so what is asked here is the part below: three segments, a header that is accepted, the
//! key's own algorithm, and the signature.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use portcullis_model::policy::TokenKeyBytes;
use serde_json::Value;
use wycheproof::TestResult;

use super::compact::Compact;
use super::key::{Key, algorithm};

/// Wycheproof JWS cases whose expectation is known to be wrong. All are by algorithms that are refused here anyway: PS256,
/// ES521 (which is none) and HS256.
const WRONG_EXPECTATIONS: [u64; 8] = [346, 347, 350, 351, 367, 370, 372, 373];
/// Wycheproof JWK cases that are accepted against the expectation. 7 has a key that a weak generator made (ROCA): a policy
/// has the keys that the installation made itself, and no caller can bring one.
const ACCEPTED_KEYS: [u64; 1] = [7];

/// The folder of vectors; nothing, told loudly, where there is none, which in CI is a failure.
fn folder() -> Option<PathBuf> {
    let given = env::var_os("PORTCULLIS_VECTORS").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"));
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(env::var("CI").as_deref() != Ok("true"), "there are no vectors at {}", folder.display());
    eprintln!("NOT TESTED: there are no vectors at {}; PORTCULLIS_VECTORS names their folder", folder.display());
    None
}

fn read(path: &str) -> Option<Value> {
    let file = folder()?.join(path);
    Some(serde_json::from_slice(&fs::read(file).unwrap()).unwrap())
}

/// A public key of a JWK, as somebody would put it into a policy.
struct Jwk {
    kid: Option<String>,
    parts: Vec<Vec<u8>>,
    kind: &'static str,
}

impl Jwk {
    /// Nothing for a key that a policy has no place for: of another algorithm or curve, or for another use.
    fn of(jwk: &Value) -> Option<Jwk> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let operations = jwk.get("key_ops").and_then(Value::as_array);
        let verifies = operations.is_none_or(|list| list.iter().any(|operation| operation == "verify"));
        if text("use").is_some_and(|usage| usage != "sig") || !verifies {
            return None;
        }
        let (kind, names): (_, &[&str]) = match (text("kty")?, text("alg"), text("crv")) {
            ("OKP", None | Some("EdDSA"), Some("Ed25519")) => ("EdDSA", &["x"]),
            ("EC", None | Some("ES256"), Some("P-256")) => ("ES256", &["x", "y"]),
            ("RSA", None | Some("RS256"), None) => ("RS256", &["n", "e"]),
            _ => return None,
        };
        let parts = names.iter().map(|name| Base64UrlUnpadded::decode_vec(text(name)?).ok()).collect::<Option<_>>()?;
        Some(Jwk { kid: text("kid").map(str::to_owned), parts, kind })
    }

    fn bytes(&self) -> TokenKeyBytes<'_> {
        match (self.kind, self.parts.as_slice()) {
            ("EdDSA", [x]) => TokenKeyBytes::EdDsa(x),
            ("ES256", [x, y]) => TokenKeyBytes::Es256 { x, y },
            ("RS256", [n, e]) => TokenKeyBytes::Rs256 { n, e },
            other => unreachable!("{other:?}"),
        }
    }
}

/// Whether a JWS holds under one of the keys, chosen by its `kid` where it names one.
fn accepts(keys: &[Jwk], jws: &str) -> bool {
    let verified = || {
        let compact = Compact::split(jws.as_bytes()).ok()?;
        let header = compact.header().ok()?;
        let mut known = keys.iter().filter(|key| header.kid.is_none() || key.kid.is_none() || key.kid == header.kid);
        let (key, None) = (known.next()?, known.next()) else { return None };
        if header.algorithm != algorithm(&key.bytes()).as_str() {
            return None;
        }
        compact.payload().ok()?;
        Key::read(&key.bytes())?.verifies(compact.signed.as_bytes(), &compact.signature().ok()?).then_some(())
    };
    verified().is_some()
}

#[test]
fn every_jws_of_wycheproof_is_taken_as_it_should_be() {
    let Some(file) = read("wycheproof/json_web_signature_test.json") else { return };
    let (mut accepted, mut refused, mut refused_algorithm) = (0, 0, Vec::new());
    for group in file["testGroups"].as_array().unwrap() {
        let jwk = group.get("public").or_else(|| group.get("private")).unwrap();
        let key = Jwk::of(jwk);
        let keys: Vec<Jwk> = key.into_iter().collect();
        for test in group["tests"].as_array().unwrap() {
            let (id, valid) = (test["tcId"].as_u64().unwrap(), test["result"] == "valid");
            let accepts = accepts(&keys, test["jws"].as_str().unwrap());
            if keys.is_empty() || WRONG_EXPECTATIONS.contains(&id) {
                assert!(!accepts, "{id}");
                refused_algorithm.extend(valid.then_some(id));
            } else {
                assert_eq!(accepts, valid, "{id}: {}", test["comment"]);
            }
            *(if accepts { &mut accepted } else { &mut refused }) += 1;
        }
    }
    eprintln!(
        "{accepted} accepted, {refused} refused; valid by algorithms that are refused on purpose: {refused_algorithm:?}"
    );
    assert_eq!(accepted + refused, file["numberOfTests"].as_u64().unwrap());
    assert_eq!(accepted, 10, "that many are valid and by an algorithm of ours");
}

#[test]
fn every_key_set_of_wycheproof_is_taken_as_it_should_be() {
    let Some(file) = read("wycheproof/json_web_key_test.json") else { return };
    let (mut asked, mut refused_algorithm) = (0, Vec::new());
    for group in file["testGroups"].as_array().unwrap() {
        let set = group.get("public").or_else(|| group.get("private")).unwrap();
        let keys: Vec<Jwk> = set["keys"].as_array().unwrap().iter().filter_map(Jwk::of).collect();
        for test in group["tests"].as_array().unwrap() {
            let (id, valid) = (test["tcId"].as_u64().unwrap(), test["result"] == "valid");
            let accepts = accepts(&keys, test["jws"].as_str().unwrap());
            if ACCEPTED_KEYS.contains(&id) {
                assert!(accepts && !valid, "{id} needs no exception");
            } else if keys.is_empty() {
                assert!(!accepts, "{id}");
                refused_algorithm.extend(valid.then_some(id));
            } else {
                assert_eq!(accepts, valid, "{id}: {}", test["comment"]);
            }
            asked += 1;
        }
    }
    eprintln!("{asked} asked; valid by algorithms that are refused on purpose: {refused_algorithm:?}");
    assert_eq!(asked, file["numberOfTests"].as_u64().unwrap());
}

#[test]
fn the_examples_of_the_rfcs_hold_where_their_algorithm_is_one_of_ours() {
    let Some(file) = read("rfc7515/rfc7515_rfc8037.json") else { return };
    let mut held = Vec::new();
    for example in file.as_array().unwrap() {
        let name = example["name"].as_str().unwrap();
        let data = &example["data"];
        let jwk = match data["key_json"].as_str() {
            Some(json) => serde_json::from_str(json).unwrap(),
            None => example["jwk"].clone(),
        };
        // The general serialization is no compact one.
        let Some(jws) = data["jws_serialization_compact"].as_str().or(example["compact"].as_str()) else { continue };
        let keys: Vec<Jwk> = Jwk::of(&jwk).into_iter().collect();
        if accepts(&keys, jws) {
            held.push(name);
        }
        for at in 0..jws.len() {
            let mut other = jws.as_bytes().to_vec();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert!(!accepts(&keys, std::str::from_utf8(&other).unwrap()), "{name} with another character at {at}");
        }
    }
    assert_eq!(held, ["RFC7515 A.2", "RFC7515 A.3", "RFC8037 A.4 Ed25519"]);
}

/// Compares every case with what it expects. What is merely acceptable is counted and may be either.
fn primitive<'t>(
    name: &str,
    key: Option<Key>,
    tests: impl Iterator<Item = (usize, &'t [u8], &'t [u8], TestResult)>,
) -> (u32, u32) {
    let (mut accepted, mut refused) = (0, 0);
    for (id, message, signature, result) in tests {
        let holds = key.as_ref().is_some_and(|key| key.verifies(message, signature));
        match result {
            TestResult::Valid => assert!(holds, "{name} {id}"),
            TestResult::Invalid => assert!(!holds, "{name} {id}"),
            TestResult::Acceptable => {}
        }
        *(if holds { &mut accepted } else { &mut refused }) += 1;
    }
    (accepted, refused)
}

fn sum(counts: impl Iterator<Item = (u32, u32)>) -> (u32, u32) {
    counts.fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
}

#[test]
fn ed25519_does_as_wycheproof_says() {
    use wycheproof::eddsa::{TestName, TestSet};
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let counts = sum(set.test_groups.iter().map(|group| {
        let tests = group.tests.iter().map(|test| (test.tc_id, test.msg.as_ref(), test.sig.as_ref(), test.result));
        primitive("Ed25519", Key::read(&TokenKeyBytes::EdDsa(&group.key.pk)), tests)
    }));
    eprintln!("Ed25519: {} accepted, {} refused", counts.0, counts.1);
    assert!(counts.0 > 50 && counts.1 > 50, "{counts:?}");
}

#[test]
fn p256_does_as_wycheproof_says() {
    use wycheproof::ecdsa::{TestName, TestSet};
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let counts = sum(set.test_groups.iter().map(|group| {
        let tests = group.tests.iter().map(|test| (test.tc_id, test.msg.as_ref(), test.sig.as_ref(), test.result));
        let point: &[u8] = &group.key.key;
        let (x, y) = point[1..].split_at(32);
        primitive("P-256", Key::read(&TokenKeyBytes::Es256 { x, y }), tests)
    }));
    eprintln!("P-256: {} accepted, {} refused", counts.0, counts.1);
    assert!(counts.0 > 100 && counts.1 > 50, "{counts:?}");
}

#[test]
fn rsa_does_as_wycheproof_says() {
    use wycheproof::rsa_pkcs1_verify::{TestName, TestSet};
    for name in [TestName::Rsa2048Sha256, TestName::Rsa3072Sha256, TestName::Rsa4096Sha256] {
        let set = TestSet::load(name).unwrap();
        let counts = sum(set.test_groups.iter().map(|group| {
            let tests = group.tests.iter().map(|test| (test.tc_id, test.msg.as_ref(), test.sig.as_ref(), test.result));
            let (n, e): (&[u8], &[u8]) = (&group.key.n, &group.key.e);
            let zeros = n.iter().take_while(|byte| **byte == 0).count();
            primitive("RSA", Key::read(&TokenKeyBytes::Rs256 { n: &n[zeros..], e }), tests)
        }));
        eprintln!("{name:?}: {} accepted, {} refused", counts.0, counts.1);
        assert!(counts.0 > 5 && counts.1 > 100, "{counts:?}");
    }
}
