//! Denials that the gate knows nothing of: whoever embeds it could not ask it, or could not act on what it said.

/// Makes the closed list from one table: number, variant, name, status, public code, text.
macro_rules! faults {
    ($($number:literal $variant:ident $name:literal $status:literal $code:literal $text:literal)*) => {
        /// Why no verdict could be had or acted on. Numbers begin at 1000, beyond every reason of the gate; a number is never
        /// given a second meaning.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum HostFault {
            $(#[doc = $text] $variant,)*
        }

        impl HostFault {
            /// All of them.
            pub const ALL: &'static [HostFault] = &[$(HostFault::$variant),*];

            /// The number that stands for it in records.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(HostFault::$variant => $number,)* }
            }

            /// The fault with that number.
            #[must_use]
            pub fn from_number(number: u16) -> Option<HostFault> {
                match number { $($number => Some(HostFault::$variant),)* _ => None }
            }

            /// The name, for logs, metrics and the audit.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(HostFault::$variant => $name,)* }
            }

            /// The status of the answer.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(HostFault::$variant => $status,)* }
            }

            /// What the caller learns.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(HostFault::$variant => $code,)* }
            }
        }
    };
}

faults! {
    1000 Trapped        "sandbox-trapped"        503 "unavailable"      "The sandbox trapped."
    1001 Deadline       "sandbox-deadline"       503 "unavailable"      "The decision did not end in time."
    1002 BadAnswer      "sandbox-bad-answer"     503 "unavailable"      "The answer breaks the contract."
    1003 NoInstance     "sandbox-no-instance"    503 "unavailable"      "Every instance is being rebuilt."
    1010 NeedBody       "host-need-body"         503 "unavailable"      "The digest of a body was asked for where there is none to give: it was given already, or nobody reads it here."
    1011 Obligation     "host-obligation"        503 "unavailable"      "The allow has an obligation that cannot be met here, or is one although its signature was seen before."
    1012 ReplaysFull    "host-replays-full"      503 "unavailable"      "The replay cache holds as much as it may."
    1013 BodiesFull     "host-bodies-full"       503 "unavailable"      "The bodies that are held for signatures take as much memory as they may."
    1014 BodyTooLarge   "signed-body-too-large"  413 "body_too_large"   "The body that a signature is over is longer than is read."
    1015 BodyTimeout    "signed-body-timeout"    408 "body_timeout"     "It stood still."
    1016 BodyBroken     "signed-body-broken"     400 "bad_body"         "It broke off."
    1017 BodyTrailers   "signed-body-trailers"   400 "bad_body"         "It has trailers, which no signature is over."
    1018 BodyUnavailable "body-unavailable"      503 "body_unavailable" "A signature is over the body, and the proxy that asks did not give it whole."
    1019 HeadersNotRaw  "headers-not-raw"        503 "unavailable"      "The proxy that asks joined fields of one name, so that doubled ones cannot be told."
    1020 PeerUnknown    "peer-unknown"           503 "unavailable"      "The proxy that asks did not say where the request comes from."
    1021 OriginalMissing "original-missing"      503 "unavailable"      "The proxy that asks did not say, or said twice, what the original request was."
}

impl HostFault {
    /// Whether what the client still sends of its body belongs to nothing any more.
    #[must_use]
    pub fn ends_body(self) -> bool {
        let faults = [
            HostFault::BodyTooLarge,
            HostFault::BodyTimeout,
            HostFault::BodyBroken,
            HostFault::BodyTrailers,
            HostFault::BodiesFull,
        ];
        faults.contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::verdict::{PublicCode, Reason};

    #[test]
    fn the_hosts_numbers_are_none_of_the_gates() {
        let gate: BTreeSet<u16> = Reason::ALL.iter().map(|reason| reason.number()).collect();
        let host: BTreeSet<u16> = HostFault::ALL.iter().map(|fault| fault.number()).collect();
        assert_eq!(host.len(), HostFault::ALL.len());
        assert!(host.is_disjoint(&gate) && !gate.contains(&0) && host.iter().all(|number| *number >= 1000));
        assert!(HostFault::ALL.iter().all(|fault| HostFault::from_number(fault.number()) == Some(*fault)));
    }

    #[test]
    fn what_is_unavailable_says_so_as_the_gate_does() {
        for fault in HostFault::ALL.iter().filter(|fault| fault.code() == "unavailable") {
            assert_eq!((fault.status(), fault.code()), (503, PublicCode::Unavailable.as_str()), "{}", fault.name());
        }
    }
}
