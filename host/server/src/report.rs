//! A verdict explained: what is shown of it, and in which form.

mod json;
mod text;

use std::net::IpAddr;

use portcullis_engine::{Explanation, Outcome, Step};
use portcullis_model::answer::Details;
use portcullis_model::facts::Facts;
use portcullis_model::head::HeadTooLarge;
use portcullis_model::id::Revision;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};

use crate::error::Error;
use crate::output;

/// What is told of a decision.
pub(crate) struct Report<'a> {
    /// The verdict.
    pub(crate) verdict: Verdict,
    details: Details<'a>,
    steps: Vec<Step>,
}

/// How a report is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl<'a> Report<'a> {
    /// What the gate said.
    pub(crate) fn of(explanation: &'a Explanation) -> Report<'a> {
        let decision = &explanation.decision;
        Report { verdict: decision.verdict(), details: decision.details(), steps: explanation.steps.clone() }
    }

    /// What a server answers for a head that is too large to be handed to the gate.
    pub(crate) fn too_large(limit: HeadTooLarge, revision: Revision, now: UnixTime, client: IpAddr) -> Report<'static> {
        let reason = Reason::from(limit);
        let step = Step { check: "request".to_owned(), outcome: Outcome::Fail, detail: limit.to_string() };
        let details = Details::of(Facts::unknown(revision, now, client));
        Report { verdict: Verdict::Deny(reason), details, steps: vec![step] }
    }

    /// Writes the report to standard output.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn print(&self, form: Form) -> Result<(), Error> {
        match form {
            Form::Text => output::say(&text::write(self)),
            Form::Json => output::say_json(&json::Verdict::of(self)),
        }
    }

    /// Only an allow edits a request.
    fn edits(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// The client's address. The gate says `::` where it refused the request before it came to the client.
fn known_client(facts: &Facts<'_>) -> Option<IpAddr> {
    Some(facts.client).filter(|client| !client.is_unspecified())
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::Observed => "observed",
        Outcome::Skip => "skip",
    }
}

/// TEMPORARY
pub(crate) struct Explained(serde_json::Value);
impl Explained {
    pub(crate) fn of(explanation: &Explanation) -> Self {
        Explained(serde_json::to_value(json::Verdict::of(&Report::of(explanation))).unwrap_or_default())
    }
}
impl serde::Serialize for Explained {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}
pub(crate) use json::Facts as DecidedFacts;
