//! A request to decide, and what came back, checked.

use portcullis_model::answer::{Details, DetailsMalformed};
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Verdict;

/// One request to decide.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The head, packed with [`RequestHead::pack`](portcullis_model::head::RequestHead::pack).
    pub head: &'a [u8],
    /// The time.
    pub now: UnixTime,
    /// The body's digest, where an earlier answer asked for it.
    pub body_digest: Option<&'a [u8]>,
    /// What the replay cache said, where an earlier answer asked for it.
    pub replay: Option<ReplayAnswer>,
}

impl<'a> Request<'a> {
    /// A request as it is asked first.
    #[must_use]
    pub fn new(head: &'a [u8], now: UnixTime) -> Self {
        Request { head, now, body_digest: None, replay: None }
    }
}

/// What the gate decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    verdict: Verdict,
    packed: Vec<u8>,
}

impl Decision {
    /// INVARIANT (checked-details): the details of a decision have been unpacked once.
    pub(crate) fn new(verdict: Verdict, packed: Vec<u8>) -> Result<Self, DetailsMalformed> {
        Details::unpack(&packed)?;
        Ok(Decision { verdict, packed })
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The details as they came, packed: what a record of decisions keeps. They hold no secret.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// What comes with it: facts, edits, observations, obligations.
    #[must_use]
    #[expect(clippy::expect_used, reason = "INVARIANT (checked-details)")]
    pub fn details(&self) -> Details<'_> {
        Details::unpack(&self.packed).expect("the details were unpacked when the decision was made")
    }
}

/// A decision and the steps that led to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// Each check, in order.
    pub steps: Vec<Step>,
}

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
