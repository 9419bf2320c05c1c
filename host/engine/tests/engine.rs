//! The engine's promises: it fails closed, changes reach every instance, and a ruined instance is replaced.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_engine::{Config, DecideError, Engine, LoadError, Request};
use portcullis_model::facts::Facts;
use portcullis_model::head::{MAX_HEAD_BYTES, RequestHead};
use portcullis_model::id::Revision;
use portcullis_model::key_sheet::{Day, encode};
use portcullis_model::policy::{build, build_delta};
use portcullis_model::signing::signer::{Signer, Unsigned};
use portcullis_model::signing::{day_key, presets};
use portcullis_model::source::{CredentialState, Delta, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};

/// A service, a tenant, a group and one key: `k`, by its SHA-256.
const SOURCE: &str = include_str!("shop.json");

fn source() -> Source {
    Source::from_json(SOURCE.as_bytes()).unwrap()
}

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

fn config(workers: usize) -> Config {
    Config { workers: NonZeroUsize::new(workers).unwrap(), ..Config::default() }
}

fn engine(config: &Config) -> Engine {
    let engine = Engine::new(config).unwrap();
    engine.load(build(&source()).unwrap().into()).unwrap();
    engine.confirm(now());
    engine
}

fn head() -> Vec<u8> {
    let headers: [(&[u8], &[u8]); 2] = [(b"host", b"api.example"), (b"x-api-key", b"k")];
    let peer = "192.0.2.1".parse().unwrap();
    RequestHead {
        secure: true,
        peer,
        method: b"GET",
        authority: None,
        target: b"/events",
        headers: &headers,
        bodiless: false,
    }
    .pack()
    .unwrap()
}

fn verdict(engine: &Engine) -> Verdict {
    engine.decide(Request::new(&head(), now())).unwrap().verdict()
}

/// A delta that sets the key's state, from one revision to the next.
fn set_state(from: u64, state: CredentialState) -> Vec<u8> {
    let mut delta = Delta::empty(Revision(from), Revision(from + 1), source().seed);
    let mut credential = source().credentials.remove(0);
    credential.state = state;
    delta.credentials.push(credential);
    build_delta(&delta).unwrap()
}

#[test]
fn without_a_confirmed_policy_everything_is_denied() {
    let engine = Engine::new(&config(1)).unwrap();
    assert_eq!(verdict(&engine), Verdict::Deny(Reason::PolicyMissing));
    engine.load(build(&source()).unwrap().into()).unwrap();
    assert_eq!(verdict(&engine), Verdict::Deny(Reason::PolicyStale));
    engine.confirm(now());
    assert_eq!(verdict(&engine), Verdict::Allow);
    let later = UnixTime::from_secs(now().as_secs() + 3601).unwrap();
    let stale = engine.decide(Request::new(&head(), later)).unwrap();
    assert_eq!(stale.verdict(), Verdict::Deny(Reason::PolicyStale));
}

#[test]
fn judged_facts_are_explained_as_they_are_judged() {
    let engine = engine(&config(1));
    let facts = |engine: &Engine| {
        let mut facts = Vec::new();
        engine.decide(Request::new(&head(), now())).unwrap().details().facts.pack(&mut facts).unwrap();
        facts
    };
    let facts = facts(&engine);
    for _ in 0..2 {
        let explained = engine.explain_judged(&facts, now()).unwrap();
        assert_eq!(explained.decision, engine.judge(&facts, now()).unwrap());
        let last = explained.steps.last().unwrap();
        let expected = if explained.decision.verdict() == Verdict::Allow { "application" } else { "standing" };
        assert_eq!(last.check, expected, "{:?}", explained.steps);
        if explained.decision.verdict() == Verdict::Allow {
            engine.apply(&set_state(1, CredentialState::Revoked)).unwrap();
        }
    }
    assert_eq!(engine.explain_judged(b"no facts", now()), Err(DecideError::FactsMalformed));
}

#[test]
fn a_base_that_is_refused_leaves_the_old_one_in_force() {
    let engine = engine(&config(2));
    let mut damaged = build(&Source { revision: Revision(2), ..source() }).unwrap();
    damaged[100] ^= 1;
    assert!(matches!(engine.load(damaged.into()), Err(LoadError::Invalid(_))));
    let mut newer = build(&source()).unwrap();
    newer[16] = u8::MAX;
    assert_eq!(engine.load(newer.into()), Err(LoadError::NewerFormat(255)));
    assert_eq!(engine.load(set_state(1, CredentialState::Revoked).into()), Err(LoadError::WrongKind));
    assert_eq!(
        engine.load(Arc::from(*b"nothing")),
        Err(LoadError::Invalid(
            "these bytes are not a compiled policy; make one with `portcullis policy build`".to_owned()
        ))
    );
    assert_eq!(verdict(&engine), Verdict::Allow);
    assert_eq!(engine.describe().unwrap().revision, Some(Revision(1)));
}

#[test]
fn a_base_that_is_older_than_the_one_in_force_is_refused() {
    let engine = engine(&config(1));
    engine.load(build(&Source { revision: Revision(5), ..source() }).unwrap().into()).unwrap();
    let older = build(&source()).unwrap();
    assert_eq!(engine.load(older.into()), Err(LoadError::WrongRevision { at: Revision(5) }));
}

#[test]
fn a_revocation_is_in_force_on_every_instance_once_it_is_applied() {
    let engine = engine(&config(4));
    let applied = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    // Read before the decision: what was applied before it began must be in force.
                    let was_applied = applied.load(Ordering::SeqCst);
                    let verdict = verdict(&engine);
                    assert!(!was_applied || verdict == Verdict::Deny(Reason::CredentialRevoked), "{verdict:?}");
                }
            });
        }
        scope.spawn(|| {
            assert_eq!(engine.apply(&set_state(1, CredentialState::Revoked)), Ok(Revision(2)));
            applied.store(true, Ordering::SeqCst);
        });
    });
    assert_eq!(verdict(&engine), Verdict::Deny(Reason::CredentialRevoked));
}

#[test]
fn a_delta_that_is_refused_changes_nothing() {
    let engine = engine(&config(2));
    let revoke = set_state(1, CredentialState::Revoked);
    assert_eq!(
        engine.apply(&set_state(7, CredentialState::Revoked)),
        Err(LoadError::WrongRevision { at: Revision(1) })
    );
    assert_eq!(engine.apply(&build(&source()).unwrap()), Err(LoadError::WrongKind));
    let mut damaged = revoke.clone();
    damaged[70] ^= 1;
    assert!(matches!(engine.apply(&damaged), Err(LoadError::Invalid(_))));
    let mut foreign = Delta::empty(Revision(1), Revision(2), source().seed);
    foreign.groups = source().groups;
    foreign.groups[0].permissions[0].endpoint = "shop/no-such".to_owned().try_into().unwrap();
    let dangling = build_delta(&foreign).unwrap();
    assert_eq!(engine.apply(&dangling), Err(LoadError::Dangling("endpoint `shop/no-such`".to_owned())));
    assert_eq!(verdict(&engine), Verdict::Allow);
    assert_eq!(engine.apply(&revoke), Ok(Revision(2)));
    assert_eq!(verdict(&engine), Verdict::Deny(Reason::CredentialRevoked));
}

#[test]
fn without_a_base_there_is_nothing_to_apply_to() {
    let engine = Engine::new(&config(1)).unwrap();
    assert_eq!(engine.apply(&set_state(1, CredentialState::Revoked)), Err(LoadError::NoBase));
}

#[test]
fn a_compaction_keeps_the_deltas_that_came_after_it() {
    let engine = engine(&config(2));
    engine.apply(&set_state(1, CredentialState::Active)).unwrap();
    let compacted = build(&Source { revision: Revision(2), ..source() }).unwrap();
    engine.apply(&set_state(2, CredentialState::Revoked)).unwrap();
    assert_eq!(engine.load(compacted.into()), Ok(Revision(3)));
    assert_eq!(verdict(&engine), Verdict::Deny(Reason::CredentialRevoked));
}

#[test]
fn each_delta_is_kept_until_a_base_has_it() {
    let engine = engine(&config(1));
    let (first, again) = (set_state(1, CredentialState::Revoked), set_state(2, CredentialState::Revoked));
    engine.apply(&first).unwrap();
    engine.apply(&again).unwrap();
    assert_eq!(engine.kept_deltas(), (2, first.len() + again.len()), "that the second replaced the first is no matter");
    let prepared = engine.prepare(build(&Source { revision: Revision(2), ..source() }).unwrap().into()).unwrap();
    assert_eq!(engine.kept_deltas().0, 2, "nothing is in force before the exchange");
    assert_eq!(engine.exchange(prepared), Ok(Revision(3)));
    assert_eq!(engine.kept_deltas(), (1, again.len()));
}

#[test]
fn loading_neither_drops_nor_denies_a_request() {
    let engine = engine(&config(2));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(verdict(&engine), Verdict::Allow);
                }
            });
        }
        for revision in 2..20 {
            let base = build(&Source { revision: Revision(revision), ..source() }).unwrap();
            assert_eq!(engine.load(base.into()), Ok(Revision(revision)));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_policy_that_exceeds_the_memory_of_an_instance_is_refused() {
    let small = Config { memory_limit: 4 << 20, ..config(1) };
    let engine = engine(&small);
    let mut large = source();
    large.revision = Revision(2);
    for number in 0..60_000u32 {
        let mut credential = source().credentials.remove(0);
        credential.id = format!("key-{number}").parse().unwrap();
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_le_bytes());
        credential.secrets[0].sha256 = portcullis_model::credential::SecretDigest::new(digest);
        large.credentials.push(credential);
    }
    assert_eq!(engine.load(build(&large).unwrap().into()), Err(LoadError::OutOfMemory));
    assert_eq!(verdict(&engine), Verdict::Allow);
}

#[test]
fn an_instance_that_exceeds_its_deadline_is_replaced_by_one_with_the_same_policy() {
    // With no time at all, a decision that a tick falls into is over.
    let engine = engine(&Config { decide_deadline: Duration::ZERO, ..config(1) });
    engine.apply(&set_state(1, CredentialState::Revoked)).unwrap();
    let mut replaced = 0;
    while replaced < 3 {
        match engine.decide(Request::new(&head(), now())) {
            Ok(decision) => assert_eq!(decision.verdict(), Verdict::Deny(Reason::CredentialRevoked)),
            Err(DecideError::Deadline) => replaced += 1,
            // The spare is still being made.
            Err(DecideError::NoInstance) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn an_oversized_head_is_refused() {
    let engine = engine(&config(1));
    let decision = engine.decide(Request::new(&vec![1; MAX_HEAD_BYTES + 1], now())).unwrap();
    assert_eq!(decision.verdict(), Verdict::Deny(Reason::HeadTooLarge));
    let decision = engine.decide(Request::new(&vec![1; 16 * MAX_HEAD_BYTES], now())).unwrap();
    assert_eq!(decision.verdict(), Verdict::Deny(Reason::HeadTooLarge));
    let decision = engine.decide(Request::new(b"", now())).unwrap();
    assert_eq!(decision.verdict(), Verdict::Deny(Reason::HeadMalformed));
}

#[test]
fn recorded_facts_are_judged_by_the_policy_of_now() {
    let engine = engine(&config(1));
    let allowed = engine.decide(Request::new(&head(), now())).unwrap();
    let mut facts = Vec::new();
    allowed.details().facts.pack(&mut facts).unwrap();
    assert_eq!(engine.judge(&facts, now()).unwrap().verdict(), Verdict::Allow);
    engine.apply(&set_state(1, CredentialState::Revoked)).unwrap();
    let judged = engine.judge(&facts, now()).unwrap();
    assert_eq!(judged.verdict(), Verdict::Deny(Reason::CredentialRevoked));
    let Facts { revision, tenant, .. } = judged.details().facts;
    assert_eq!((revision, tenant), (Revision(2), "acme"));
    assert_eq!(engine.judge(b"not facts", now()), Err(DecideError::FactsMalformed));
}

#[test]
fn a_checked_delta_changes_nothing_until_it_is_applied() {
    let engine = engine(&config(2));
    let delta = set_state(1, CredentialState::Revoked);
    assert_eq!(engine.check(&delta), Ok(Revision(2)));
    assert_eq!(verdict(&engine), Verdict::Allow);
    assert_eq!(
        engine.check(&set_state(2, CredentialState::Revoked)),
        Err(LoadError::WrongRevision { at: Revision(1) })
    );
    assert_eq!(engine.apply(&delta), Ok(Revision(2)));
    assert_eq!(verdict(&engine), Verdict::Deny(Reason::CredentialRevoked));
}

/// A base that takes the place of another, as a compaction does, and instances that are made anew have the day keys too.
#[test]
fn signatures_go_on_after_a_new_base_and_in_new_instances() {
    let profile = presets::escher("eu/shop/request");
    let mut signing = source();
    signing.installation.signature_profiles = vec![profile.clone()];
    let accept = serde_json::json!([{ "signature": "escher", "kinds": ["workspace"] }]);
    signing.services[0].accept = serde_json::from_value(accept).unwrap();
    // The key is `k` as above; here it signs.
    let signer = serde_json::json!({
        "id": "pair", "tenant": "acme", "kind": "workspace", "signature_profile": "escher",
        "secrets": [{ "version": 1, "sha256": signing.credentials[0].secrets[0].sha256, "signing_slot": 3 }],
    });
    signing.credentials = vec![serde_json::from_value(signer).unwrap()];
    let engine = Engine::new(&config(2)).unwrap();
    engine.load(build(&signing).unwrap().into()).unwrap();
    engine.confirm(now());
    let request = Unsigned { method: "GET", target: "/events", host: "api.example", headers: &[], body: b"" };
    let signed = Signer { profile: &profile, key_id: "k", secret: b"secret" }.sign(&request, &[], now());
    let headers: Vec<_> = signed.added.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let head = RequestHead {
        secure: true,
        peer: "192.0.2.1".parse().unwrap(),
        method: b"GET",
        authority: None,
        target: b"/events",
        headers: &headers,
        bodiless: true,
    };
    let head = head.pack().unwrap();
    let verdict = || engine.decide(Request::new(&head, now())).unwrap().verdict();
    assert_eq!(verdict(), Verdict::Deny(Reason::SignatureKeysMissing));
    let day = Day::of(now());
    engine.load_keys(&encode(day, 3, &[day_key(&profile, b"secret", day)]).unwrap()).unwrap();
    assert_eq!(verdict(), Verdict::Allow);
    engine.load(build(&Source { revision: Revision(2), ..signing }).unwrap().into()).unwrap();
    // Every instance is another now.
    for _ in 0..8 {
        assert_eq!(verdict(), Verdict::Allow);
    }
    assert_eq!(engine.describe().unwrap().key_days, [day]);
}
