//! The component in the hands of another embedder, which reaches no memory: it writes a base down by calls.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use portcullis_engine::COMPONENT;
use portcullis_model::id::Revision;
use portcullis_model::policy::build;
use portcullis_model::source::Source;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use generated::Portcullis;
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
