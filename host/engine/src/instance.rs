//! One instance of the component: a memory, a policy, one caller at a time.

use portcullis_model::answer::MAX_DETAILS_BYTES;
use portcullis_model::head::MAX_HEAD_BYTES;
use portcullis_model::id::Revision;
use portcullis_model::key_sheet::Day;
use portcullis_model::time::UnixTime;
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder, Trap};

use crate::bindings::{self, Portcullis, PortcullisPre};
use crate::decision::{Decision, Explanation, Request};
use crate::error::{DecideError, LoadError};
use crate::memory::{Base, Memory};

/// The most steps of an explanation.
const MAX_STEPS: usize = 64;

/// How long calls may take, in ticks of the engine's clock.
#[derive(Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) decide_ticks: u64,
    pub(crate) load_ticks: u64,
}

pub(crate) struct Instance {
    store: Store<StoreLimits>,
    exports: Portcullis,
    memory: Memory,
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
    pub(crate) fn new(
        pre: &PortcullisPre<StoreLimits>,
        memory_limit: usize,
        deadlines: Deadlines,
    ) -> wasmtime::Result<Instance> {
        let limits = StoreLimitsBuilder::new().memory_size(memory_limit).build();
        let mut store = Store::new(pre.engine(), limits);
        store.limiter(|limits| limits);
        store.set_epoch_deadline(deadlines.load_ticks);
        let (exports, memory) = Memory::of(|| pre.instantiate(&mut store))?;
        Ok(Instance { store, exports, memory, deadlines })
    }

    #[inline]
    pub(crate) fn decide(&mut self, request: Request<'_>) -> Result<Decision, Ruined> {
        self.store.set_epoch_deadline(self.deadlines.decide_ticks);
        // One byte too many is enough for the gate to refuse; more of it need not be copied.
        let head = request.head.get(..MAX_HEAD_BYTES + 1).unwrap_or(request.head);
        let answer = self.exports.portcullis_policy_gate().call_decide(
            &mut self.store,
            head,
            request.now.as_secs(),
            request.body_digest,
            request.replay.map(bindings::replay),
        )?;
        checked(answer)
    }

    pub(crate) fn explain(&mut self, request: Request<'_>) -> Result<Explanation, Ruined> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        let head = request.head.get(..MAX_HEAD_BYTES + 1).unwrap_or(request.head);
        let now = request.now.as_secs();
        explained(self.exports.portcullis_policy_gate().call_explain(
            &mut self.store,
            head,
            now,
            request.body_digest,
        )?)
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
        let gate = self.exports.portcullis_policy_gate();
        match gate.call_explain_judged(&mut self.store, facts, now.as_secs())? {
            Ok(explanation) => explained(explanation).map(Ok),
            Err(()) => Ok(Err(DecideError::FactsMalformed)),
        }
    }

    pub(crate) fn judge(&mut self, facts: &[u8], now: UnixTime) -> Result<Result<Decision, DecideError>, Ruined> {
        self.store.set_epoch_deadline(self.deadlines.decide_ticks);
        if facts.len() > MAX_DETAILS_BYTES {
            return Ok(Err(DecideError::FactsMalformed));
        }
        let gate = self.exports.portcullis_policy_gate();
        match gate.call_judge(&mut self.store, facts, now.as_secs())? {
            Ok(answer) => checked(answer).map(Ok),
            Err(()) => Ok(Err(DecideError::FactsMalformed)),
        }
    }

    /// Loads a base. After an error the instance is not to be used again.
    pub(crate) fn load(&mut self, base: &Base) -> Result<Revision, LoadError> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        let policy = self.exports.portcullis_policy_policy();
        let call = policy.call_reserve(&mut self.store, base.len() as u64);
        let at = call.map_err(Ruined::from)?.map_err(bindings::load_error)?;
        self.memory.put((&mut self.store, &self.exports), at, base)?;
        let call = policy.call_commit(&mut self.store);
        call.map_err(Ruined::from)?.map(Revision).map_err(bindings::load_error)
    }

    pub(crate) fn check_delta(&mut self, delta: &[u8]) -> Result<Revision, LoadError> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        let call = self.exports.portcullis_policy_policy().call_check_delta(&mut self.store, delta);
        call.map_err(Ruined::from)?.map(Revision).map_err(bindings::load_error)
    }

    pub(crate) fn apply_delta(&mut self, to: Revision) -> Result<(), LoadError> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        let call = self.exports.portcullis_policy_policy().call_apply_delta(&mut self.store, to.0);
        call.map_err(Ruined::from)?.map_err(bindings::load_error)
    }

    pub(crate) fn load_keys(&mut self, part: &[u8]) -> Result<(), LoadError> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        let call = self.exports.portcullis_policy_policy().call_load_keys(&mut self.store, part);
        call.map_err(Ruined::from)?.map_err(bindings::load_error)
    }

    pub(crate) fn confirm(&mut self, at: UnixTime) -> Result<(), Ruined> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        Ok(self.exports.portcullis_policy_policy().call_confirm(&mut self.store, at.as_secs())?)
    }

    pub(crate) fn describe(&mut self) -> Result<Description, Ruined> {
        self.store.set_epoch_deadline(self.deadlines.load_ticks);
        let found = self.exports.portcullis_policy_policy().call_describe(&mut self.store)?;
        Ok(Description {
            revision: found.revision.map(Revision),
            confirmed: found.confirmed.and_then(UnixTime::from_secs),
            base_bytes: found.base_bytes,
            overlay_bytes: found.overlay_bytes,
            overlay_layers: found.overlay_layers,
            credentials: found.credentials,
            key_days: found.key_days.into_iter().map(Day).collect(),
            checkpoint: found.checkpoint,
        })
    }
}

fn explained(explanation: bindings::gate::Explanation) -> Result<Explanation, Ruined> {
    if explanation.steps.len() > MAX_STEPS {
        return Err(Ruined(DecideError::BadAnswer));
    }
    let steps = explanation.steps.into_iter().map(bindings::step).collect();
    Ok(Explanation { decision: checked(explanation.answer)?, steps })
}

fn checked(answer: bindings::gate::Answer) -> Result<Decision, Ruined> {
    let verdict = bindings::verdict(answer.verdict).ok_or(Ruined(DecideError::BadAnswer))?;
    Decision::new(verdict, answer.details).map_err(|_| Ruined(DecideError::BadAnswer))
}
