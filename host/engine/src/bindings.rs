//! The generated bindings, and the conversions between their types and the model's.

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "portcullis",
    });
}

pub(crate) use generated::exports::portcullis::policy::{gate, policy};
pub(crate) use generated::{Portcullis, PortcullisPre};

use portcullis_model::facts::ReplayAnswer;
use portcullis_model::id::Revision;
use portcullis_model::verdict::{DigestAlgorithm, NeedBody, Reason, Verdict};

use crate::error::LoadError;

/// One step of an explanation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The check's name, lower case with hyphens.
    pub check: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found. It holds no secret.
    pub detail: String,
}

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It fails, and so does the request.
    Fail,
    /// It fails, but is only observed.
    Observed,
    /// It does not concern this request.
    Skip,
}

/// The verdict, or nothing where its reason is not of the closed list.
pub(crate) fn verdict(verdict: gate::Verdict) -> Option<Verdict> {
    match verdict {
        gate::Verdict::Allow => Some(Verdict::Allow),
        gate::Verdict::Deny(number) => Reason::from_number(number).map(Verdict::Deny),
        gate::Verdict::NeedBody(need) => {
            let algorithm = match need.algorithm {
                gate::DigestAlgorithm::Sha256 => DigestAlgorithm::Sha256,
                gate::DigestAlgorithm::Sha512 => DigestAlgorithm::Sha512,
            };
            Some(Verdict::NeedBody(NeedBody { algorithm, cap_bytes: need.cap }))
        }
    }
}

pub(crate) fn replay(answer: ReplayAnswer) -> gate::Replay {
    match answer {
        ReplayAnswer::Fresh => gate::Replay::Fresh,
        ReplayAnswer::Seen => gate::Replay::Seen,
    }
}

pub(crate) fn step(step: gate::Step) -> Step {
    let outcome = match step.outcome {
        gate::Outcome::Pass => Outcome::Pass,
        gate::Outcome::Fail => Outcome::Fail,
        gate::Outcome::Observed => Outcome::Observed,
        gate::Outcome::Skip => Outcome::Skip,
    };
    Step { check: step.check, outcome, detail: step.detail }
}

pub(crate) fn load_error(error: policy::LoadError) -> LoadError {
    match error {
        policy::LoadError::Invalid(what) => LoadError::Invalid(what),
        policy::LoadError::NewerFormat(found) => LoadError::NewerFormat(found),
        policy::LoadError::WrongKind => LoadError::WrongKind,
        policy::LoadError::WrongRevision(at) => LoadError::WrongRevision { at: Revision(at) },
        policy::LoadError::Dangling(what) => LoadError::Dangling(what),
        policy::LoadError::OverlayFull => LoadError::OverlayFull,
        policy::LoadError::OutOfMemory => LoadError::OutOfMemory,
        policy::LoadError::OutOfOrder => LoadError::NoBase,
    }
}
