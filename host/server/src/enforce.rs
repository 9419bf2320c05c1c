//! The one place where a decision becomes something that can be acted on.
//!
//! Nothing reaches an upstream without a [`Permit`], and only [`enforce`] makes one. Whatever is not a plain allow is a
//! [`Denial`]: a sandbox that failed, and an allow that asks for something this host cannot do.

use http::StatusCode;
use portcullis_engine::{DecideError, Decision};
use portcullis_model::answer::{Details, Obligation};
use portcullis_model::verdict::{PublicCode, Reason, Verdict};

/// The proof that a request was allowed. It has no public constructor, and whoever forwards asks for one.
#[derive(Debug)]
pub(crate) struct Permit {
    /// INVARIANT (permits-are-allows): the verdict of this decision is an allow without obligations.
    decision: Decision,
}

impl Permit {
    /// What was established, and the edits that the allow makes.
    pub(crate) fn details(&self) -> Details<'_> {
        self.decision.details()
    }

    /// The details as they are recorded.
    pub(crate) fn packed(&self) -> &[u8] {
        self.decision.packed()
    }

    /// The facts alone, for judging them again later.
    pub(crate) fn facts(&self) -> Vec<u8> {
        let mut facts = Vec::with_capacity(self.decision.packed().len());
        self.details().facts.pack(&mut facts);
        facts
    }
}

/// A request that is not allowed: what the caller is told, and what is recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Denial {
    cause: Cause,
    challenge: String,
    packed: Vec<u8>,
}

/// Why a request is denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The gate said so.
    Gate(Reason),
    /// The gate gave no verdict that this host can act on.
    Host(HostFault),
}

/// Why no verdict could be acted on. Numbers begin at 1000, beyond every reason of the gate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum HostFault {
    /// The sandbox trapped.
    Trapped,
    /// The decision did not end in time.
    Deadline,
    /// The answer breaks the contract.
    BadAnswer,
    /// Every instance is being rebuilt.
    NoInstance,
    /// The digest of a body was asked for. Signed requests bring it.
    NeedBody,
    /// The allow has an obligation. Signed requests bring the cache that meets it.
    Obligation,
}

impl HostFault {
    /// All of them.
    pub(crate) const ALL: [HostFault; 6] = [
        HostFault::Trapped,
        HostFault::Deadline,
        HostFault::BadAnswer,
        HostFault::NoInstance,
        HostFault::NeedBody,
        HostFault::Obligation,
    ];

    fn number(self) -> u16 {
        match self {
            HostFault::Trapped => 1000,
            HostFault::Deadline => 1001,
            HostFault::BadAnswer => 1002,
            HostFault::NoInstance => 1003,
            HostFault::NeedBody => 1010,
            HostFault::Obligation => 1011,
        }
    }

    fn name(self) -> &'static str {
        match self {
            HostFault::Trapped => "sandbox-trapped",
            HostFault::Deadline => "sandbox-deadline",
            HostFault::BadAnswer => "sandbox-bad-answer",
            HostFault::NoInstance => "sandbox-no-instance",
            HostFault::NeedBody => "host-need-body",
            HostFault::Obligation => "host-obligation",
        }
    }
}

impl Cause {
    /// The number that stands for it in records.
    pub(crate) fn number(self) -> u16 {
        match self {
            Cause::Gate(reason) => reason.number(),
            Cause::Host(fault) => fault.number(),
        }
    }

    /// The name, for logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cause::Gate(reason) => reason.name(),
            Cause::Host(fault) => fault.name(),
        }
    }
}

/// The name behind a number of [`Cause::number`]; nothing for an allow.
pub(crate) fn cause_name(number: u16) -> Option<&'static str> {
    let fault = || HostFault::ALL.into_iter().find(|fault| fault.number() == number).map(HostFault::name);
    Reason::from_number(number).map(Reason::name).or_else(fault)
}

impl Denial {
    /// A denial for a reason that the host itself sees, before or beside the gate.
    pub(crate) fn of(reason: Reason) -> Self {
        Denial { cause: Cause::Gate(reason), challenge: String::new(), packed: Vec::new() }
    }

    /// The same facts, denied for another reason that the host itself sees.
    pub(crate) fn instead(reason: Reason, decision: &Decision) -> Self {
        Denial { packed: decision.packed().to_vec(), ..Denial::of(reason) }
    }

    fn by_host(fault: HostFault, packed: Vec<u8>) -> Self {
        Denial { cause: Cause::Host(fault), challenge: String::new(), packed }
    }

    /// Why.
    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self.cause {
            Cause::Gate(reason) => StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            Cause::Host(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the caller learns.
    pub(crate) fn public_code(&self) -> PublicCode {
        match self.cause {
            Cause::Gate(reason) => reason.public_code(),
            Cause::Host(_) => PublicCode::Unavailable,
        }
    }

    /// The value of `WWW-Authenticate`, or nothing.
    pub(crate) fn challenge(&self) -> &str {
        &self.challenge
    }

    /// The details as they are recorded; empty where the gate gave no answer.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.packed
    }
}

/// Turns what came back from the engine into a permit or a denial.
pub(crate) fn enforce(result: Result<Decision, DecideError>) -> Result<Permit, Denial> {
    let decision = match result {
        Ok(decision) => decision,
        Err(DecideError::Trapped) => return Err(Denial::by_host(HostFault::Trapped, Vec::new())),
        Err(DecideError::Deadline) => return Err(Denial::by_host(HostFault::Deadline, Vec::new())),
        // Facts are packed by the gate itself, so facts that cannot be read break the contract like any bad answer.
        Err(DecideError::BadAnswer | DecideError::FactsMalformed) => {
            return Err(Denial::by_host(HostFault::BadAnswer, Vec::new()));
        }
        Err(DecideError::NoInstance) => return Err(Denial::by_host(HostFault::NoInstance, Vec::new())),
    };
    match decision.verdict() {
        Verdict::Allow => match decision.details().obligations.as_slice() {
            [] => Ok(Permit { decision }),
            // An obligation that is not met makes an allow worth nothing. The replay cache comes with signed requests.
            [Obligation::Once { .. }, ..] => Err(Denial::by_host(HostFault::Obligation, decision.packed().to_vec())),
        },
        Verdict::Deny(reason) => {
            let challenge = decision.details().challenge.to_owned();
            Err(Denial { cause: Cause::Gate(reason), challenge, packed: decision.packed().to_vec() })
        }
        // Reading the body and asking again comes with signed requests.
        Verdict::NeedBody(_) => Err(Denial::by_host(HostFault::NeedBody, decision.packed().to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
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
            assert_eq!(denial.public_code(), PublicCode::Unavailable);
        }
    }

    #[test]
    fn the_hosts_numbers_are_none_of_the_gates() {
        let gate: BTreeSet<u16> = Reason::ALL.iter().map(|reason| reason.number()).collect();
        let host: BTreeSet<u16> = HostFault::ALL.iter().map(|fault| fault.number()).collect();
        assert_eq!(host.len(), HostFault::ALL.len());
        assert!(host.is_disjoint(&gate) && !gate.contains(&0) && host.iter().all(|number| *number >= 1000));
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
        let (before, after) = source.split_once("pub(crate) struct Permit {").unwrap();
        let fields = after.split_once('}').unwrap().0;
        assert!(!fields.contains("pub"), "{fields}");
        assert!(before.trim_end().ends_with("#[derive(Debug)]"), "Default or Clone would make permits");
    }
}
