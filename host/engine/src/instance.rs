//! One instance of the component: a memory, a policy, one caller at a time.

use portcullis_model::answer::MAX_DETAILS_BYTES;
use portcullis_model::head::MAX_HEAD_BYTES;
use portcullis_model::id::Revision;
use portcullis_model::key_sheet::Day;
use portcullis_model::time::UnixTime;
use wasmtime::{Module, Store, StoreLimits, StoreLimitsBuilder, Trap};

use crate::abi::Exports;
use crate::decision::{Decision, Explanation, Request};
use crate::error::{DecideError, LoadError};
use crate::memory::{self, Base};

/// How long calls may take, in ticks of the engine's clock.
#[derive(Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) decide_ticks: u64,
    pub(crate) load_ticks: u64,
}

pub(crate) struct Instance {
    store: Store<StoreLimits>,
    exports: Exports,
    deadlines: Deadlines,
}

/// What an instance holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// The revision in force.
    pub revision: Option<Revision>,
    /// When it was last confirmed.
    pub confirmed: Option<UnixTime>,
    /// Bytes of the base.
    pub base_bytes: u64,
    /// Bytes of deltas that are still in use, and of what is remembered of removed records.
    pub overlay_bytes: u64,
    /// Deltas that are still in use.
    pub overlay_layers: u32,
    /// Versions of secrets in the base.
    pub credentials: u32,
    /// The days whose key sheets are loaded.
    pub key_days: Vec<Day>,
    /// The newest checkpoint of the audit that came with the policy; empty where none did.
    pub checkpoint: String,
}

/// A call that did not come back with what the contract says: the instance is to be given up.
#[derive(Debug)]
pub(crate) struct Ruined(pub(crate) DecideError);

impl From<wasmtime::Error> for Ruined {
    fn from(error: wasmtime::Error) -> Self {
        Ruined(match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => DecideError::Deadline,
            _ => DecideError::Trapped,
        })
    }
}

impl From<Ruined> for LoadError {
    fn from(Ruined(_): Ruined) -> LoadError {
        LoadError::Sandbox
    }
}

impl Instance {
    pub(crate) fn new(module: &Module, memory_limit: usize, deadlines: Deadlines) -> wasmtime::Result<Instance> {
        let limits = StoreLimitsBuilder::new().memory_size(memory_limit).build();
        let mut store = Store::new(module.engine(), limits);
        store.limiter(|limits| limits);
        store.set_epoch_deadline(deadlines.load_ticks);
        // It imports nothing.
        let instance = wasmtime::Instance::new(&mut store, module, &[])?;
        let exports = Exports::of(&instance, &mut store)?;
        Ok(Instance { store, exports, deadlines })
    }

    #[inline]
    pub(crate) fn decide(&mut self, request: Request<'_>) -> Result<Decision, Ruined> {
        self.store.set_epoch_deadline(self.deadlines.decide_ticks);
        let Request { now, body_digest, replay, .. } = request;
        self.exports.decide(&mut self.store, shortened(request.head), now, body_digest, replay)
    }

    pub(crate) fn explain(&mut self, request: Request<'_>) -> Result<Explanation, Ruined> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        self.exports.explain(&mut self.store, shortened(request.head), request.now, request.body_digest)
    }

    pub(crate) fn judge(&mut self, facts: &[u8], now: UnixTime) -> Result<Result<Decision, DecideError>, Ruined> {
        self.store.set_epoch_deadline(self.deadlines.decide_ticks);
        if facts.len() > MAX_DETAILS_BYTES {
            return Ok(Err(DecideError::FactsMalformed));
        }
        self.exports.judge(&mut self.store, facts, now)
    }

    pub(crate) fn explain_judged(
        &mut self,
        facts: &[u8],
        now: UnixTime,
    ) -> Result<Result<Explanation, DecideError>, Ruined> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        if facts.len() > MAX_DETAILS_BYTES {
            return Ok(Err(DecideError::FactsMalformed));
        }
        self.exports.explain_judged(&mut self.store, facts, now)
    }

    /// Loads a base. After an error the instance is not to be used again.
    pub(crate) fn load(&mut self, base: &Base) -> Result<Revision, LoadError> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        let at = self.exports.reserve(&mut self.store, base.len() as u64)?;
        memory::put(&mut self.store, self.exports.memory(), at, base)?;
        self.exports.commit(&mut self.store)
    }

    pub(crate) fn check_delta(&mut self, delta: &[u8]) -> Result<Revision, LoadError> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        self.exports.check_delta(&mut self.store, delta)
    }

    pub(crate) fn apply_delta(&mut self, to: Revision) -> Result<(), LoadError> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        self.exports.apply_delta(&mut self.store, to)
    }

    pub(crate) fn load_keys(&mut self, part: &[u8]) -> Result<(), LoadError> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        self.exports.load_keys(&mut self.store, part)
    }

    pub(crate) fn confirm(&mut self, at: UnixTime) -> Result<(), Ruined> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        self.exports.confirm(&mut self.store, at)
    }

    pub(crate) fn describe(&mut self) -> Result<Description, Ruined> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        self.exports.describe(&mut self.store)
    }
}

/// One byte too many is enough for the gate to refuse; more of it need not be copied.
#[inline]
fn shortened(head: &[u8]) -> &[u8] {
    head.get(..MAX_HEAD_BYTES + 1).unwrap_or(head)
}
