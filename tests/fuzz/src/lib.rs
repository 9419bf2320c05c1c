//! What is fuzzed. Each body takes any bytes and panics where an invariant is broken.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::{Signer as _, SigningKey};
use portcullis_eval::{Gate, Input, Recorder, Silent};
use portcullis_model::answer::Details;
use portcullis_model::head::RequestHead;
use portcullis_model::id::Revision;
use portcullis_model::key_sheet::{DAY_KEY_BYTES, Day, DayKey, encode};
use portcullis_model::policy::{Policy, build, build_delta};
use portcullis_model::signing::date;
use portcullis_model::source::{Delta, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Verdict;
use xxhash_rust::xxh3::xxh3_64;

/// A source with something of everything, and what follows it.
pub const SMALL: &[u8] = include_bytes!("../../../guest/model/tests/policy/small.json");
const WITH_TOKENS: &[u8] = include_bytes!("../../conformance/policies/tokens.json");
const NEXT: &[u8] = include_bytes!("../../../guest/model/tests/policy/next.json");
/// A source with signers.
const SIGNED: &[u8] = include_bytes!("../../conformance/policies/signed.json");

static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| build(&Source::from_json(SMALL).unwrap()).unwrap());
static DELTA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let (small, next) = (Source::from_json(SMALL).unwrap(), Source::from_json(NEXT).unwrap());
    build_delta(&Delta::between(&small, &next)).unwrap()
});
static GATE: LazyLock<Gate> = LazyLock::new(|| gate(BASE.clone()).unwrap());
static SIGNED_GATE: LazyLock<Gate> = LazyLock::new(|| {
    let mut gate = gate(build(&Source::from_json(SIGNED).unwrap()).unwrap()).unwrap();
    for slot in 0..4 {
        gate.load_keys(&encode(Day::of(now()), slot, &[DayKey([7; DAY_KEY_BYTES])]).unwrap()).unwrap();
    }
    gate
});
/// A policy with a key that the fuzzer can sign by.
static TOKENS: LazyLock<Gate> =
    LazyLock::new(|| gate(build(&Source::from_json(WITH_TOKENS).unwrap()).unwrap()).unwrap());
static HEADS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(heads);

/// A base: any bytes, or the small one with words of it set; its header and checksum made right.
pub fn policy(bytes: &[u8]) {
    let Some(base) = fragment(&BASE, 0, bytes) else { return };
    let Some(mut gate) = gate(base) else { return };
    decide_all(&gate);
    let _ = gate.check_delta(DELTA.clone()).is_ok_and(|to| gate.apply_delta(to).is_ok());
    decide_all(&gate);
}

/// A delta onto the small base, made as bases are above.
pub fn delta(bytes: &[u8]) {
    let Some(delta) = fragment(&DELTA, 1, bytes) else { return };
    let mut gate = gate(BASE.clone()).unwrap();
    let before = gate.describe();
    match gate.check_delta(delta) {
        Err(_) => assert_eq!(gate.describe(), before),
        Ok(to) => {
            gate.apply_delta(to).expect("a delta that was checked is applied");
            assert_eq!(gate.describe().revision, Some(to));
        }
    }
    decide_all(&gate);
}

/// A packed head, and a head made of the same bytes: method, target, authority, then names and values, one a line.
pub fn head(bytes: &[u8]) {
    decide_soundly(&GATE, bytes);
    let mut lines = bytes.split(|b| *b == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, target, authority) = (line(), line(), line());
    let rest: Vec<_> = lines.collect();
    let (pairs, _) = rest.as_chunks::<2>();
    let headers: Vec<_> = pairs.iter().map(|[name, value]| (*name, *value)).collect();
    let head = RequestHead {
        secure: true,
        peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        method,
        authority: (!authority.is_empty()).then_some(authority),
        target,
        headers: &headers,
        bodiless: false,
    };
    if let Ok(packed) = head.pack() {
        decide_soundly(&GATE, &packed);
    }
}

/// The value of an authorization and a query, a line each, under a policy with signers. Nobody signs by chance.
pub fn signature(bytes: &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (authorization, query) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let target = [b"/v1/any?", query].concat();
    let (long, http) = (date::long_date(now()), date::http_date(now()));
    for name in [&b"authorization"[..], b"x-escher-auth", b"x-long-auth", b"x-unread"] {
        let headers: [(&[u8], &[u8]); 6] = [
            (b"host", b"api.signed.example"),
            (b"date", http.as_bytes()),
            (b"x-escher-date", &long),
            (b"x-long-date", &long),
            (b"x-amz-date", &long),
            (name, authorization),
        ];
        let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let (method, target) = (&b"GET"[..], target.as_slice());
        let head =
            RequestHead { secure: true, peer, method, authority: None, target, headers: &headers, bodiless: true };
        if let Ok(packed) = head.pack() {
            let (verdict, _, _) = decide(&SIGNED_GATE, &packed);
            assert!(matches!(verdict, Verdict::Deny(_)), "{verdict:?}");
        }
    }
}

/// An access token: any bytes, and a header and a payload, one a line, with the signature of a key of the policy.
pub fn token(bytes: &[u8]) {
    let text = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
    let mut lines = bytes.splitn(2, |b| *b == b'\n');
    let mut line = || text(lines.next().unwrap_or_default());
    let signed = format!("{}.{}", line(), line());
    let signature = SigningKey::from_bytes(&[2; 32]).sign(signed.as_bytes());
    let token = format!("{signed}.{}", text(&signature.to_bytes()));
    for token in [bytes, token.as_bytes()] {
        let authorization = [b"Bearer ", token].concat();
        let head = RequestHead {
            secure: true,
            peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            method: b"GET",
            authority: None,
            target: b"/v1/events",
            headers: &[(b"host", b"api.shop.example"), (b"authorization", &authorization)],
            bodiless: true,
        };
        if let Ok(packed) = head.pack() {
            decide_soundly(&TOKENS, &packed);
        }
    }
}

/// A source document. What can be built can be opened, as a base and as a delta, and holds its credentials.
pub fn source(bytes: &[u8]) {
    let Ok(source) = Source::from_json(bytes) else { return };
    let json = serde_json::to_vec(&source).unwrap();
    assert_eq!(Source::from_json(&json).unwrap(), source);
    let Ok(base) = build(&source) else { return };
    assert_eq!(build(&source).unwrap(), base);
    let mut policies = vec![Policy::open(base).expect("what was built is opened")];
    if source.revision > Revision(0) {
        let empty = Source::empty(Revision(0), source.seed);
        let mut policy = Policy::open(build(&empty).unwrap()).unwrap();
        let delta = build_delta(&Delta::between(&empty, &source)).expect("what can be a base can be a delta");
        let prepared = policy.prepare(delta).expect("nothing is missing from a whole source");
        policy.apply(prepared).unwrap();
        policies.push(policy);
    }
    for policy in &policies {
        for credential in &source.credentials {
            for secret in &credential.secrets {
                for found in
                    [policy.credential(&secret.sha256), policy.credential_by_id(credential.id.as_str(), secret.version)]
                {
                    let found = found.unwrap().expect("every secret is found");
                    assert_eq!(found.id().unwrap(), credential.id.as_str());
                    assert_eq!(found.tenant().unwrap().unwrap().id().unwrap(), credential.tenant.as_str());
                }
            }
        }
    }
    let gate = gate(build(&source).unwrap()).unwrap();
    for head in HEADS.iter() {
        decide_soundly(&gate, head);
    }
}

/// The first byte tells whether the rest is the fragment itself or words to set in a good one, each behind its place.
fn fragment(good: &[u8], kind: u32, bytes: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = bytes.split_first()?;
    let mut fragment = if first % 4 == 0 { rest.to_vec() } else { good.to_vec() };
    if first % 4 != 0 {
        for [low, high, word @ ..] in rest.as_chunks::<6>().0 {
            let at = usize::from(u16::from_le_bytes([*low, *high])) % (good.len() - 4);
            fragment[at..at + 4].copy_from_slice(word);
        }
    }
    let length = u32::try_from(fragment.len()).ok()?;
    if fragment.len() < 64 {
        return None;
    }
    fragment[..8].copy_from_slice(b"PTCLPOL\n");
    fragment[16..20].copy_from_slice(&2u32.to_le_bytes());
    fragment[20..24].copy_from_slice(&kind.to_le_bytes());
    if kind == 1 {
        fragment[24..32].copy_from_slice(&7u64.to_le_bytes());
    }
    fragment[56..60].copy_from_slice(&length.to_le_bytes());
    fragment[60..64].copy_from_slice(&11u32.to_le_bytes());
    let sum = xxh3_64(&fragment[16..]).to_le_bytes();
    fragment[8..16].copy_from_slice(&sum);
    Some(fragment)
}

fn now() -> UnixTime {
    UnixTime::from_secs(1_780_000_000).unwrap()
}

fn gate(base: Vec<u8>) -> Option<Gate> {
    let mut gate = Gate::default();
    gate.load(base).ok()?;
    gate.confirm(now());
    Some(gate)
}

fn heads() -> Vec<Vec<u8>> {
    let asks = [
        ("/v1/events", "api.example", "x-api-key", "key-one"),
        ("/v1/events/7", "a.b.shop.example", "x-api-key", "key-one"),
        ("/v1/events", "api.example", "x-api-key", "key-five"),
        ("/v1/events", "api.example", "x-api-key", "nobody's"),
        ("/v1/apps/web/x", "api.example", "authorization", "ManagementKey-v1 key-two"),
        ("/v1/private?api_key=key-three", "api.example", "x-forwarded-for", "198.51.100.7, 10.0.0.1"),
        ("/v1/private/a/b", "api.example", "x-workspace-key", "key-three"),
        ("/v1/z/y/x?api_key=key-three", "shop.example", "accept", "*/*"),
    ];
    let pack = |(target, host, name, value): (&str, &str, &str, &str)| {
        let headers = [("host", host), (name, value)].map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let peer = IpAddr::from(if name == "x-forwarded-for" { [10, 0, 0, 1] } else { [192, 0, 2, 1] });
        let (method, target) = (&b"GET"[..], target.as_bytes());
        RequestHead { secure: true, peer, method, authority: None, target, headers: &headers, bodiless: false }
            .pack()
            .unwrap()
    };
    asks.into_iter().map(pack).collect()
}

fn decide_all(gate: &Gate) {
    for head in HEADS.iter() {
        decide(gate, head);
    }
}

/// Decides, watched and unwatched, and judges what came of it.
fn decide(gate: &Gate, head: &[u8]) -> (Verdict, Verdict, Vec<u8>) {
    let input = Input { head, now: now(), body_digest: None, replay: None };
    let (mut out, mut watched) = (Vec::new(), Vec::new());
    let verdict = gate.decide(input, &mut Silent, &mut out);
    assert_eq!(gate.decide(input, &mut Recorder::default(), &mut watched), verdict, "who watches changes nothing");
    assert_eq!(out, watched);
    let details = Details::unpack(&out).expect("the details of an answer can be read");
    let mut judged = Vec::new();
    let again = gate.judge(&details.facts, now(), &mut Silent, &mut judged);
    Details::unpack(&judged).expect("the details of a judgement can be read");
    (verdict, again, out)
}

/// Decides under a policy that is whole.
fn decide_soundly(gate: &Gate, head: &[u8]) {
    let (verdict, again, out) = decide(gate, head);
    if verdict != Verdict::Allow {
        return;
    }
    assert_eq!(again, Verdict::Allow, "what was allowed is allowed when it is judged again");
    let details = Details::unpack(&out).unwrap();
    let facts = details.facts;
    assert!(facts.credential.is_some() && details.strip.is_some());
    assert!(!facts.tenant.is_empty() && !facts.service.is_empty() && !facts.endpoint.is_empty());
    let odd = |segment: &str| matches!(segment, "" | "." | "..");
    assert!(facts.path == "/" || !facts.path.split('/').skip(1).any(odd), "{}", facts.path);
}
