//! Why a host denies where the gate gave no verdict that it can act on: a proxy's worker, an authorization service and a server
//! say it with the same numbers, names and codes.

use crate::verdict::PublicCode;

/// Why no verdict could be acted on. Numbers begin at 1000, beyond every reason of the gate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HostFault {
    /// The sandbox trapped.
    Trapped,
    /// The decision did not end in time.
    Deadline,
    /// The answer breaks the contract.
    BadAnswer,
    /// Every instance is being rebuilt.
    NoInstance,
    /// The digest of a body was asked for where there is none to give: it was given already, or nobody reads it here.
    NeedBody,
    /// The allow has an obligation that cannot be met here, or is one although its signature was seen before.
    Obligation,
    /// The replay cache holds as much as it may.
    ReplaysFull,
    /// The bodies that are held for signatures take as much memory as they may.
    BodiesFull,
    /// The body that a signature is over is longer than is read.
    BodyTooLarge,
    /// It stood still.
    BodyTimeout,
    /// It broke off.
    BodyBroken,
    /// It has trailers, which no signature is over.
    BodyTrailers,
}

impl HostFault {
    /// All of them.
    pub const ALL: [HostFault; 12] = [
        HostFault::Trapped,
        HostFault::Deadline,
        HostFault::BadAnswer,
        HostFault::NoInstance,
        HostFault::NeedBody,
        HostFault::Obligation,
        HostFault::ReplaysFull,
        HostFault::BodiesFull,
        HostFault::BodyTooLarge,
        HostFault::BodyTimeout,
        HostFault::BodyBroken,
        HostFault::BodyTrailers,
    ];

    /// The number that stands for it in records.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            HostFault::Trapped => 1000,
            HostFault::Deadline => 1001,
            HostFault::BadAnswer => 1002,
            HostFault::NoInstance => 1003,
            HostFault::NeedBody => 1010,
            HostFault::Obligation => 1011,
            HostFault::ReplaysFull => 1012,
            HostFault::BodiesFull => 1013,
            HostFault::BodyTooLarge => 1014,
            HostFault::BodyTimeout => 1015,
            HostFault::BodyBroken => 1016,
            HostFault::BodyTrailers => 1017,
        }
    }

    /// The name, for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HostFault::Trapped => "sandbox-trapped",
            HostFault::Deadline => "sandbox-deadline",
            HostFault::BadAnswer => "sandbox-bad-answer",
            HostFault::NoInstance => "sandbox-no-instance",
            HostFault::NeedBody => "host-need-body",
            HostFault::Obligation => "host-obligation",
            HostFault::ReplaysFull => "host-replays-full",
            HostFault::BodiesFull => "host-bodies-full",
            HostFault::BodyTooLarge => "signed-body-too-large",
            HostFault::BodyTimeout => "signed-body-timeout",
            HostFault::BodyBroken => "signed-body-broken",
            HostFault::BodyTrailers => "signed-body-trailers",
        }
    }

    /// The HTTP status of the denial.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            HostFault::Trapped
            | HostFault::Deadline
            | HostFault::BadAnswer
            | HostFault::NoInstance
            | HostFault::NeedBody
            | HostFault::Obligation
            | HostFault::ReplaysFull
            | HostFault::BodiesFull => 503,
            HostFault::BodyTooLarge => 413,
            HostFault::BodyTimeout => 408,
            HostFault::BodyBroken | HostFault::BodyTrailers => 400,
        }
    }

    /// What the caller learns: as of a body that cannot be sent on.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            HostFault::Trapped
            | HostFault::Deadline
            | HostFault::BadAnswer
            | HostFault::NoInstance
            | HostFault::NeedBody
            | HostFault::Obligation
            | HostFault::ReplaysFull
            | HostFault::BodiesFull => PublicCode::Unavailable.as_str(),
            HostFault::BodyTooLarge => "body_too_large",
            HostFault::BodyTimeout => "body_timeout",
            HostFault::BodyBroken | HostFault::BodyTrailers => "bad_body",
        }
    }

    /// The fault with that number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<HostFault> {
        HostFault::ALL.into_iter().find(|fault| fault.number() == number)
    }

    /// Whether what the client still sends of its body belongs to nothing any more.
    #[must_use]
    pub fn ends_body(self) -> bool {
        match self {
            HostFault::BodyTooLarge
            | HostFault::BodyTimeout
            | HostFault::BodyBroken
            | HostFault::BodyTrailers
            | HostFault::BodiesFull => true,
            HostFault::Trapped
            | HostFault::Deadline
            | HostFault::BadAnswer
            | HostFault::NoInstance
            | HostFault::NeedBody
            | HostFault::Obligation
            | HostFault::ReplaysFull => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::verdict::Reason;

    #[test]
    fn the_hosts_numbers_are_none_of_the_gates() {
        let gate: BTreeSet<u16> = Reason::ALL.iter().map(|reason| reason.number()).collect();
        let host: BTreeSet<u16> = HostFault::ALL.iter().map(|fault| fault.number()).collect();
        assert_eq!(host.len(), HostFault::ALL.len());
        assert!(host.is_disjoint(&gate) && !gate.contains(&0) && host.iter().all(|number| *number >= 1000));
        for fault in HostFault::ALL {
            assert_eq!(HostFault::from_number(fault.number()), Some(fault));
        }
    }
}
