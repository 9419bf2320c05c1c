//! The one place where a decision becomes something that can be acted on.
//!
//! Nothing reaches an upstream without a [`Permit`], and only [`rule`] makes one, once the obligations of an allow are met.
//! Whatever is no allow is a [`Denial`], a sandbox that failed among it, or asks for the digest of the body.

use http::StatusCode;
use portcullis_engine::{DecideError, Decision};
use portcullis_model::answer::{Details, Obligation};
pub use portcullis_model::fault::HostFault;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{NeedBody, Reason, Verdict};

use crate::replays::{Once, Replays};

/// The proof that a request was allowed. It has no public constructor, and whoever forwards asks for one.
#[derive(Debug)]
pub struct Permit {
    /// INVARIANT (permits-are-allows): the verdict of this decision is an allow whose obligations have been met.
    decision: Decision,
}

impl Permit {
    /// What was established, and the edits that the allow makes.
    pub fn details(&self) -> Details<'_> {
        self.decision.details()
    }

    /// The details as they are recorded.
    pub fn packed(&self) -> &[u8] {
        self.decision.packed()
    }

    /// The denial of a request that was permitted, where the permit cannot be carried out.
    pub fn refused(&self, fault: HostFault) -> Denial {
        Denial::of_body(fault, &self.decision)
    }

    /// The facts alone, for judging them again later.
    #[expect(clippy::expect_used, reason = "what was unpacked is text")]
    pub fn facts(&self) -> Vec<u8> {
        let mut facts = Vec::with_capacity(self.decision.packed().len());
        self.details().facts.pack(&mut facts).expect("facts that are text can be packed");
        facts
    }
}

/// A request that is not allowed: what the caller is told, and what is recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    cause: Cause,
    challenge: String,
    packed: Vec<u8>,
}

/// Why a request is denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The gate said so.
    Gate(Reason),
    /// The gate gave no verdict that this host can act on.
    Host(HostFault),
}

impl Cause {
    /// The number that stands for it in records.
    pub fn number(self) -> u16 {
        match self {
            Cause::Gate(reason) => reason.number(),
            Cause::Host(fault) => fault.number(),
        }
    }

    /// The name, for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Gate(reason) => reason.name(),
            Cause::Host(fault) => fault.name(),
        }
    }
}

/// The name behind a number of [`Cause::number`]; nothing for an allow.
pub fn cause_name(number: u16) -> Option<&'static str> {
    let fault = || HostFault::from_number(number).map(HostFault::name);
    Reason::from_number(number).map(Reason::name).or_else(fault)
}

impl Denial {
    /// A denial for a reason that the host itself sees, before or beside the gate.
    pub fn of(reason: Reason) -> Self {
        Denial { cause: Cause::Gate(reason), challenge: String::new(), packed: Vec::new() }
    }

    /// The same facts, denied for another reason that the host itself sees.
    pub fn instead(reason: Reason, decision: &Decision) -> Self {
        Denial { packed: decision.packed().to_vec(), ..Denial::of(reason) }
    }

    /// A request whose body could not be read for its signature; with what the gate knew of it.
    pub fn of_body(fault: HostFault, decision: &Decision) -> Self {
        Denial::with(fault, decision.packed().to_vec())
    }

    /// A denial of a request that the gate could not be asked about.
    pub fn by_host(fault: HostFault) -> Self {
        Denial::with(fault, Vec::new())
    }

    fn with(fault: HostFault, packed: Vec<u8>) -> Self {
        Denial { cause: Cause::Host(fault), challenge: String::new(), packed }
    }

    /// Why.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self.cause {
            Cause::Gate(reason) => StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            Cause::Host(fault) => StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// What the caller learns.
    pub fn code(&self) -> &'static str {
        match self.cause {
            Cause::Gate(reason) => reason.public_code().as_str(),
            Cause::Host(fault) => fault.code(),
        }
    }

    /// Whether what the client still sends of its body belongs to nothing any more.
    pub fn ends_body(&self) -> bool {
        matches!(self.cause, Cause::Host(fault) if fault.ends_body())
    }

    /// The value of `WWW-Authenticate`, or nothing.
    pub fn challenge(&self) -> &str {
        &self.challenge
    }

    /// The details as they are recorded; empty where the gate gave no answer.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Ruling {
    /// It may go on.
    Permitted(Permit),
    /// It may not.
    Denied(Denial),
    /// The gate is to be asked again with the digest of the body.
    NeedBody(NeedBody, Decision),
    /// It was accepted before and may be once: the gate is to be asked again with that.
    Seen,
}

/// Turns what came back from the engine into what is to be done. An allow that holds once is entered into `replays`, which is
/// its use.
pub fn rule(result: Result<Decision, DecideError>, replays: &Replays, now: UnixTime) -> Ruling {
    let decision = match result {
        Ok(decision) => decision,
        Err(error) => return Ruling::Denied(failed(error)),
    };
    match decision.verdict() {
        Verdict::Allow => {
            for Obligation::Once { key, until } in &decision.details().obligations {
                match replays.enter(*key, *until, now) {
                    Once::Fresh => {}
                    Once::Seen => return Ruling::Seen,
                    Once::Full => {
                        return Ruling::Denied(Denial::with(HostFault::ReplaysFull, decision.packed().to_vec()));
                    }
                }
            }
            Ruling::Permitted(Permit { decision })
        }
        Verdict::Deny(reason) => Ruling::Denied(by_gate(reason, &decision)),
        Verdict::NeedBody(need) => Ruling::NeedBody(need, decision),
    }
}

/// The same where no body is read and nothing is accepted once.
pub fn enforce(result: Result<Decision, DecideError>) -> Result<Permit, Denial> {
    match rule(result, &Replays::closed(), UnixTime::default()) {
        Ruling::Permitted(permit) => Ok(permit),
        Ruling::Denied(Denial { cause: Cause::Host(HostFault::ReplaysFull), packed, .. }) => {
            Err(Denial::with(HostFault::Obligation, packed))
        }
        Ruling::Denied(denial) => Err(denial),
        Ruling::NeedBody(_, decision) => Err(Denial::with(HostFault::NeedBody, decision.packed().to_vec())),
        Ruling::Seen => Err(Denial::with(HostFault::Obligation, Vec::new())),
    }
}

/// The denial of a request that was accepted before, out of what the gate says once it knows that.
pub fn refuse_replay(result: Result<Decision, DecideError>) -> Denial {
    let decision = match result {
        Ok(decision) => decision,
        Err(error) => return failed(error),
    };
    match decision.verdict() {
        Verdict::Deny(reason) => by_gate(reason, &decision),
        // It breaks the contract, and its obligation is not met.
        Verdict::Allow => Denial::with(HostFault::Obligation, decision.packed().to_vec()),
        Verdict::NeedBody(_) => Denial::with(HostFault::NeedBody, decision.packed().to_vec()),
    }
}

/// Whether a request that was permitted would be still. Its obligations were met when it was.
pub fn still_allows(result: Result<Decision, DecideError>) -> bool {
    result.is_ok_and(|decision| decision.verdict() == Verdict::Allow)
}

fn by_gate(reason: Reason, decision: &Decision) -> Denial {
    let challenge = decision.details().challenge.to_owned();
    Denial { cause: Cause::Gate(reason), challenge, packed: decision.packed().to_vec() }
}

fn failed(error: DecideError) -> Denial {
    let fault = match error {
        DecideError::Trapped => HostFault::Trapped,
        DecideError::Deadline => HostFault::Deadline,
        // Facts are packed by the gate itself, so facts that cannot be read break the contract like any bad answer.
        DecideError::BadAnswer | DecideError::FactsMalformed => HostFault::BadAnswer,
        DecideError::NoInstance => HostFault::NoInstance,
    };
    Denial::with(fault, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_model::verdict::PublicCode;
    use std::{fs, path::Path};

    #[test]
    fn an_error_of_the_sandbox_denies() {
        for (error, name) in [
            (DecideError::Trapped, "sandbox-trapped"),
            (DecideError::Deadline, "sandbox-deadline"),
            (DecideError::BadAnswer, "sandbox-bad-answer"),
            (DecideError::FactsMalformed, "sandbox-bad-answer"),
            (DecideError::NoInstance, "sandbox-no-instance"),
        ] {
            let denial = enforce(Err(error)).unwrap_err();
            assert_eq!(denial.cause().name(), name);
            assert_eq!(denial.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(denial.code(), PublicCode::Unavailable.as_str());
        }
    }

    #[test]
    fn every_reason_has_a_status_of_its_own() {
        for &reason in Reason::ALL {
            let denial = Denial::of(reason);
            assert_eq!(denial.status().as_u16(), reason.status());
            assert!(denial.status().is_client_error() || denial.status().is_server_error(), "{reason}");
        }
    }

    /// The compiler keeps other modules from writing a `Permit` literal as long as its field is private; this keeps the
    /// field so, and the type without derives that would make one.
    #[test]
    fn a_permit_can_be_made_here_alone() {
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/enforce.rs")).unwrap();
        let (before, after) = source.split_once("pub struct Permit {").unwrap();
        let fields = after.split_once('}').unwrap().0;
        assert!(!fields.contains("pub"), "{fields}");
        assert!(before.trim_end().ends_with("#[derive(Debug)]"), "Default or Clone would make permits");
    }
}
