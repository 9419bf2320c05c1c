//! Glue between `wit/policy.wit` and `portcullis-eval`. Nothing is decided here.
//!
//! Built for `wasm32-unknown-unknown` by the build script of `portcullis-engine`, which also makes it a component.

mod bindings;
mod decide;
mod region;

use std::cell::RefCell;

use bindings::gate::{self, Answer, Explanation, ReasonInfo};
use bindings::policy::{self, Description, LoadError};
use portcullis_eval::{Gate, Input, Recorder, Silent};
use portcullis_model::facts::Facts;
use portcullis_model::head::MAX_HEAD_BYTES;
use portcullis_model::id::Revision;
use portcullis_model::policy::MAX_POLICY_BYTES;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Reason;
use region::Region;

/// The first buffer for details; it grows to what is needed and its memory is given away with the answer.
const DETAILS_BYTES: usize = 512;

#[derive(Default)]
struct State {
    gate: Gate,
    /// A base on its way in.
    incoming: Option<Region>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

struct Component;

impl gate::Guest for Component {
    fn explain(head: Vec<u8>, now: u64, body_digest: Option<Vec<u8>>) -> Explanation {
        // What cannot be a head is not read further.
        let head = head.get(..head.len().min(MAX_HEAD_BYTES + 1)).unwrap_or_default();
        let input = Input { head, now: time(now), body_digest: body_digest.as_deref(), replay: None };
        STATE.with_borrow(|state| {
            let mut details = Vec::with_capacity(DETAILS_BYTES);
            let mut recorder = Recorder::default();
            let verdict = state.gate.decide(input, &mut recorder, &mut details);
            let steps = recorder.into_steps().into_iter().map(bindings::step).collect();
            Explanation { answer: Answer { verdict: bindings::verdict(verdict), details }, steps }
        })
    }

    fn judge(facts: Vec<u8>, now: u64) -> Result<Answer, ()> {
        let facts = Facts::unpack(&facts).map_err(|_| ())?;
        STATE.with_borrow(|state| {
            let mut details = Vec::with_capacity(DETAILS_BYTES);
            let verdict = state.gate.judge(&facts, time(now), &mut Silent, &mut details);
            Ok(Answer { verdict: bindings::verdict(verdict), details })
        })
    }

    fn explain_judged(facts: Vec<u8>, now: u64) -> Result<Explanation, ()> {
        let facts = Facts::unpack(&facts).map_err(|_| ())?;
        STATE.with_borrow(|state| {
            let mut details = Vec::with_capacity(DETAILS_BYTES);
            let mut recorder = Recorder::default();
            let verdict = state.gate.judge(&facts, time(now), &mut recorder, &mut details);
            let steps = recorder.into_steps().into_iter().map(bindings::step).collect();
            Ok(Explanation { answer: Answer { verdict: bindings::verdict(verdict), details }, steps })
        })
    }

    fn reasons() -> Vec<ReasonInfo> {
        Reason::ALL.iter().map(|reason| bindings::reason_info(*reason)).collect()
    }
}

impl policy::Guest for Component {
    fn reserve(size: u64) -> Result<u64, LoadError> {
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_POLICY_BYTES).ok_or(LoadError::OutOfMemory)?;
        STATE.with_borrow_mut(|state| {
            state.incoming = None;
            let region = Region::reserve(size).ok_or(LoadError::OutOfMemory)?;
            let address = region.address();
            state.incoming = Some(region);
            Ok(address)
        })
    }

    fn write(chunk: Vec<u8>) -> Result<(), LoadError> {
        STATE.with_borrow_mut(|state| {
            let region = state.incoming.as_mut().ok_or(LoadError::OutOfOrder)?;
            if region.write(&chunk) { Ok(()) } else { Err(LoadError::OutOfMemory) }
        })
    }

    fn commit() -> Result<u64, LoadError> {
        STATE.with_borrow_mut(|state| {
            let region = state.incoming.take().ok_or(LoadError::OutOfOrder)?;
            state.gate.load(region.into_bytes()).map(|revision| revision.0).map_err(bindings::load_error)
        })
    }

    fn check_delta(delta: Vec<u8>) -> Result<u64, LoadError> {
        STATE.with_borrow_mut(|state| {
            state.gate.check_delta(delta).map(|revision| revision.0).map_err(bindings::load_error)
        })
    }

    fn apply_delta(to: u64) -> Result<(), LoadError> {
        STATE.with_borrow_mut(|state| state.gate.apply_delta(Revision(to)).map_err(bindings::load_error))
    }

    fn load_keys(sheet: Vec<u8>) -> Result<(), LoadError> {
        STATE.with_borrow_mut(|state| state.gate.load_keys(&sheet).map(drop).map_err(bindings::sheet_error))
    }

    fn confirm(at: u64) {
        if let Some(at) = UnixTime::from_secs(at) {
            STATE.with_borrow_mut(|state| state.gate.confirm(at));
        }
    }

    fn describe() -> Description {
        STATE.with_borrow(|state| bindings::description(state.gate.describe()))
    }
}

/// A time past the last that can be written is the last: every policy is stale then.
fn time(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds).unwrap_or(UnixTime::MAX)
}
