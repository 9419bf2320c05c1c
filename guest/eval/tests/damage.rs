//! A decision under a policy that was damaged and whose checksum was made right again: some verdict, never a panic.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

use portcullis_eval::{Gate, Input, Recorder, Silent};
use portcullis_model::answer::Details;
use portcullis_model::head::RequestHead;
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{Delta, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};
use xxhash_rust::xxh3::xxh3_64;

const SMALL: &[u8] = include_bytes!("../../model/tests/policy/small.json");
const NEXT: &[u8] = include_bytes!("../../model/tests/policy/next.json");

fn with_right_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = xxh3_64(&bytes[16..]).to_le_bytes();
    bytes[8..16].copy_from_slice(&sum);
    bytes
}

fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).flat_map(|at| [0x01, 0x80, 0xff].map(|flip| (at, flip))).map(|(at, flip)| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= flip;
        with_right_checksum(bytes)
    })
}

fn heads() -> Vec<Vec<u8>> {
    let asks: [(&[u8], &str, &str, &str); 5] = [
        (b"/v1/events", "api.example", "x-api-key", "key-one"),
        (b"/v1/apps/web/x", "a.shop.example", "authorization", "ManagementKey-v1 key-two"),
        (b"/v1/private/x?api_key=key-three", "api.example", "x-forwarded-for", "198.51.100.7"),
        (b"/v1/z/y?api_key=key-three", "api.example", "accept", "*/*"),
        (b"/v1/events", "api.example", "x-api-key", "key-five"),
    ];
    let pack = |(target, host, name, value): (&[u8], &str, &str, &str)| {
        let headers = [(&b"host"[..], host.as_bytes()), (name.as_bytes(), value.as_bytes())];
        let peer = if name == "x-forwarded-for" { "10.0.0.1" } else { "192.0.2.1" };
        let (method, peer) = (&b"GET"[..], peer.parse().unwrap());
        RequestHead { secure: true, peer, method, authority: None, target, headers: &headers, bodiless: false }
            .pack()
            .unwrap()
    };
    asks.into_iter().map(pack).collect()
}

fn now() -> UnixTime {
    UnixTime::from_secs(1_780_000_000).unwrap()
}

fn verdicts(gate: &Gate, heads: &[Vec<u8>]) -> Vec<Verdict> {
    let mut out = Vec::new();
    let decide = |head: &Vec<u8>| {
        let input = Input { head, now: now(), body_digest: None, replay: None };
        let verdict = gate.decide(input, &mut Silent, &mut out);
        let mut watched = Vec::new();
        assert_eq!(gate.decide(input, &mut Recorder::default(), &mut watched), verdict);
        let details = Details::unpack(&out).unwrap();
        gate.judge(&details.facts, now(), &mut Silent, &mut Vec::new());
        verdict
    };
    heads.iter().map(decide).collect()
}

#[test]
fn a_flipped_byte_of_a_base_gives_some_verdict() {
    let base = build(&Source::from_json(SMALL).unwrap()).unwrap();
    let heads = heads();
    let (mut unreadable, mut allowed) = (0, 0);
    for bytes in flipped(&base) {
        let mut gate = Gate::default();
        if gate.load(bytes).is_ok() {
            gate.confirm(now());
            let verdicts = verdicts(&gate, &heads);
            unreadable += verdicts.iter().filter(|v| **v == Verdict::Deny(Reason::PolicyUnreadable)).count();
            allowed += verdicts.iter().filter(|v| **v == Verdict::Allow).count();
        }
    }
    assert!(unreadable > 100 && allowed > 100, "{unreadable} {allowed}");
}

#[test]
fn a_flipped_byte_of_a_delta_gives_some_verdict() {
    let (small, next) = (Source::from_json(SMALL).unwrap(), Source::from_json(NEXT).unwrap());
    let base = build(&small).unwrap();
    let delta = build_delta(&Delta::between(&small, &next)).unwrap();
    let heads = heads();
    let (mut refused, mut applied) = (0, 0);
    for bytes in flipped(&delta) {
        let mut gate = Gate::default();
        gate.load(base.clone()).unwrap();
        gate.confirm(now());
        match gate.check_delta(bytes) {
            Ok(revision) => {
                gate.apply_delta(revision).unwrap();
                applied += 1;
            }
            Err(_) => refused += 1,
        }
        verdicts(&gate, &heads);
    }
    assert!(refused > 100 && applied > 100, "{refused} {applied}");
}

#[test]
fn without_damage_the_heads_mean_something() {
    let mut gate = Gate::default();
    gate.load(build(&Source::from_json(SMALL).unwrap()).unwrap()).unwrap();
    gate.confirm(now());
    let verdicts = verdicts(&gate, &heads());
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Allow).count(), 4, "{verdicts:?}");
}
