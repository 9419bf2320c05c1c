//! The component in the hands of another embedder, which reaches no memory: it writes a base down by calls. What it is told is
//! what the engine says, which calls the module within.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::num::NonZeroUsize;

use portcullis_engine::{COMPONENT, Config, Decision, Outcome, Request, Step};
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::head::RequestHead;
use portcullis_model::id::Revision;
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{Delta, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{DigestAlgorithm, NeedBody, Verdict};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use generated::Portcullis;
use generated::exports::portcullis::policy::gate;
use generated::exports::portcullis::policy::policy::LoadError;

mod generated {
    wasmtime::component::bindgen!({ path: "../../wit", world: "portcullis" });
}

const PAGE_BYTES: u64 = 64 << 10;

struct Instance {
    store: Store<()>,
    exports: Portcullis,
}

impl Instance {
    fn new() -> Instance {
        let mut settings = wasmtime::Config::new();
        settings.wasm_wide_arithmetic(true);
        let engine = Engine::new(&settings).unwrap();
        let component = Component::new(&engine, COMPONENT).unwrap();
        let mut store = Store::new(&engine, ());
        let exports = Portcullis::instantiate(&mut store, &component, &Linker::new(&engine)).unwrap();
        Instance { store, exports }
    }

    fn reserve(&mut self, bytes: usize) -> Result<u64, LoadError> {
        self.exports.portcullis_policy_policy().call_reserve(&mut self.store, bytes as u64).unwrap()
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), LoadError> {
        self.exports.portcullis_policy_policy().call_write(&mut self.store, chunk).unwrap()
    }

    fn commit(&mut self) -> Result<u64, LoadError> {
        self.exports.portcullis_policy_policy().call_commit(&mut self.store).unwrap()
    }

    fn revision(&mut self) -> Option<u64> {
        self.exports.portcullis_policy_policy().call_describe(&mut self.store).unwrap().revision
    }

    fn load(&mut self, base: &[u8]) -> Result<u64, LoadError> {
        self.reserve(base.len())?;
        for chunk in base.chunks(1 << 20) {
            self.write(chunk)?;
        }
        self.commit()
    }
}

/// A base of that revision, with that many tenants.
fn base(revision: u64, tenants: usize) -> Vec<u8> {
    let text =
        r#"{"format": 1, "revision": 1, "seed": "000102030405060708090a0b0c0d0e0f", "tenants": [{"id": "acme"}]}"#;
    let mut source = Source::from_json(text.as_bytes()).unwrap();
    source.revision = Revision(revision);
    for number in 0..tenants {
        let mut tenant = source.tenants.first().unwrap().clone();
        tenant.id = format!("tenant-{number}").parse().unwrap();
        source.tenants.push(tenant);
    }
    build(&source).unwrap()
}

#[test]
fn bases_that_are_written_take_each_others_place_in_one_instance() {
    let mut instance = Instance::new();
    for (revision, tenants) in [(1, 10), (2, 60_000), (3, 10), (4, 70_000), (5, 70_000)] {
        assert_eq!(instance.load(&base(revision, tenants)).unwrap(), revision);
        assert_eq!(instance.revision(), Some(revision));
    }
}

#[test]
fn a_base_that_is_cut_off_or_damaged_leaves_the_old_one() {
    let mut instance = Instance::new();
    instance.load(&base(1, 10)).unwrap();
    let good = base(2, 5_000);
    let mut damaged = good.clone();
    damaged[200] ^= 1;
    assert!(matches!(instance.load(&damaged), Err(LoadError::Invalid(_))));
    instance.reserve(good.len()).unwrap();
    instance.write(&good[..good.len() - 1]).unwrap();
    assert!(matches!(instance.commit(), Err(LoadError::Invalid(_))));
    assert_eq!(instance.revision(), Some(1));
}

#[test]
fn what_lay_in_a_place_before_is_not_loaded_again_by_itself() {
    let mut instance = Instance::new();
    let known = base(7, 5_000);
    instance.load(&known).unwrap();
    instance.load(&base(8, 5_000)).unwrap();
    // The first place is free again, and as large.
    instance.reserve(known.len()).unwrap();
    assert!(matches!(instance.commit(), Err(LoadError::Invalid(_))));
    assert_eq!(instance.revision(), Some(8));
}

#[test]
fn no_more_is_written_than_was_reserved() {
    let mut instance = Instance::new();
    let base = base(1, 10);
    instance.reserve(base.len()).unwrap();
    instance.write(&base).unwrap();
    assert!(matches!(instance.write(b"x"), Err(LoadError::OutOfMemory)));
    assert_eq!(instance.commit().unwrap(), 1, "what was written stands");
    assert!(matches!(instance.write(b"x"), Err(LoadError::OutOfOrder)));
    assert!(matches!(instance.commit(), Err(LoadError::OutOfOrder)));
}

#[test]
fn a_place_begins_on_a_page_and_an_unfinished_one_is_given_up() {
    let mut instance = Instance::new();
    for bytes in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
        assert_eq!(instance.reserve(bytes).unwrap() % PAGE_BYTES, 0, "{bytes}");
    }
    let first = instance.reserve(100 << 20).unwrap();
    for _ in 0..100 {
        // 10 GiB in all, of the 4 that there are.
        assert_eq!(instance.reserve(100 << 20).unwrap(), first);
    }
    assert!(matches!(instance.reserve((2 << 30) + 1), Err(LoadError::OutOfMemory)));
}

/// A service, a tenant, a group and one key: `k`, by its SHA-256.
const SOURCE: &str = include_str!("shop.json");

fn head(host: &[u8], target: &[u8], key: &[u8]) -> Vec<u8> {
    let headers: [(&[u8], &[u8]); 2] = [(b"host", host), (b"x-api-key", key)];
    let peer = "192.0.2.1".parse().unwrap();
    let method = b"GET";
    RequestHead { secure: true, bodiless: true, peer, method, authority: None, target, headers: &headers }
        .pack()
        .unwrap()
}

fn same(told: &gate::Answer, decision: &Decision) {
    let verdict = match decision.verdict() {
        Verdict::Allow => gate::Verdict::Allow,
        Verdict::Deny(reason) => gate::Verdict::Deny(reason.number()),
        Verdict::NeedBody(NeedBody { algorithm, cap_bytes }) => gate::Verdict::NeedBody(gate::NeedBody {
            algorithm: match algorithm {
                DigestAlgorithm::Sha256 => gate::DigestAlgorithm::Sha256,
                DigestAlgorithm::Sha512 => gate::DigestAlgorithm::Sha512,
            },
            cap: cap_bytes,
        }),
    };
    assert_eq!(format!("{:?}", told.verdict), format!("{verdict:?}"));
    assert_eq!(told.details, decision.packed());
}

fn same_steps(told: &[gate::Step], steps: &[Step]) {
    let outcome = |outcome: &gate::Outcome| match outcome {
        gate::Outcome::Pass => Outcome::Pass,
        gate::Outcome::Fail => Outcome::Fail,
        gate::Outcome::Observed => Outcome::Observed,
        gate::Outcome::Skip => Outcome::Skip,
    };
    let told = told.iter().map(|step| Step {
        check: step.check.clone(),
        outcome: outcome(&step.outcome),
        detail: step.detail.clone(),
    });
    assert_eq!(told.collect::<Vec<_>>(), steps);
}

#[test]
fn the_component_tells_what_the_engine_says() {
    let now = UnixTime::from_secs(1_800_000_000).unwrap();
    let base = build(&Source::from_json(SOURCE.as_bytes()).unwrap()).unwrap();
    let engine = portcullis_engine::Engine::new(&Config { workers: NonZeroUsize::MIN, ..Config::default() }).unwrap();
    let Instance { mut store, exports } = {
        let mut instance = Instance::new();
        instance.load(&base).unwrap();
        engine.load(base.into()).unwrap();
        instance
    };
    exports.portcullis_policy_policy().call_confirm(&mut store, now.as_secs()).unwrap();
    engine.confirm(now);
    let (ask, load) = (exports.portcullis_policy_gate(), exports.portcullis_policy_policy());

    for head in [
        head(b"api.example", b"/events", b"k"),
        head(b"api.example", b"/events", b"another"),
        head(b"api.example", b"/none", b"k"),
        head(b"other.example", b"/events", b"k"),
        head(b"api.example", b"//", b"k"),
        Vec::new(),
        vec![0; 70_000],
    ] {
        let answers = [(None, None, None), (Some(gate::Replay::Fresh), Some(ReplayAnswer::Fresh), Some(&[7; 32][..]))];
        for (told, replay, body_digest) in answers {
            let told = ask.call_decide(&mut store, &head, now.as_secs(), body_digest, told).unwrap();
            same(&told, &engine.decide(Request { body_digest, replay, ..Request::new(&head, now) }).unwrap());
        }
        let told = ask.call_explain(&mut store, &head, now.as_secs(), None).unwrap();
        let explained = engine.explain(Request::new(&head, now)).unwrap();
        same(&told.answer, &explained.decision);
        same_steps(&told.steps, &explained.steps);

        let mut facts = Vec::new();
        explained.decision.details().facts.pack(&mut facts).unwrap();
        let told = ask.call_judge(&mut store, &facts, now.as_secs()).unwrap().unwrap();
        same(&told, &engine.judge(&facts, now).unwrap());
        let told = ask.call_explain_judged(&mut store, &facts, now.as_secs()).unwrap().unwrap();
        let explained = engine.explain_judged(&facts, now).unwrap();
        same(&told.answer, &explained.decision);
        same_steps(&told.steps, &explained.steps);
    }
    assert!(ask.call_judge(&mut store, b"no facts", 0).unwrap().is_err() && engine.judge(b"no facts", now).is_err());

    let delta = |from: u64| {
        let seed = Source::from_json(SOURCE.as_bytes()).unwrap().seed;
        build_delta(&Delta::empty(Revision(from), Revision(from + 1), seed)).unwrap()
    };
    for wrong in [delta(8), b"no delta".to_vec(), build(&Source::from_json(SOURCE.as_bytes()).unwrap()).unwrap()] {
        let told = load.call_check_delta(&mut store, &wrong).unwrap().unwrap_err();
        let said = engine.check(&wrong).unwrap_err();
        let same = match (&told, &said) {
            (LoadError::Invalid(told), portcullis_engine::LoadError::Invalid(said)) => told == said,
            (LoadError::WrongKind, portcullis_engine::LoadError::WrongKind) => true,
            (LoadError::WrongRevision(told), portcullis_engine::LoadError::WrongRevision { at }) => *told == at.0,
            _ => false,
        };
        assert!(same, "{told:?} and {said:?}");
    }
    assert_eq!(load.call_check_delta(&mut store, &delta(1)).unwrap().unwrap(), 2);
    load.call_apply_delta(&mut store, 2).unwrap().unwrap();
    assert_eq!(engine.apply(&delta(1)), Ok(Revision(2)));

    let (told, said) = (load.call_describe(&mut store).unwrap(), engine.describe().unwrap());
    assert_eq!((told.revision, told.confirmed), (said.revision.map(|at| at.0), said.confirmed.map(UnixTime::as_secs)));
    assert_eq!((told.base_bytes, told.overlay_bytes), (said.base_bytes, said.overlay_bytes));
    assert_eq!((told.overlay_layers, told.credentials), (said.overlay_layers, said.credentials));
    assert_eq!(told.key_days, said.key_days.iter().map(|day| day.0).collect::<Vec<_>>());
    assert_eq!(told.checkpoint, said.checkpoint);
    assert_eq!((said.credentials, said.revision), (1, Some(Revision(2))));
}
