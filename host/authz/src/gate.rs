//! One check: from what a proxy told of a request to a permit or a denial.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use portcullis_engine::{Decision, Request as Question};
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::fault::HostFault;
use portcullis_model::head::{DISGUISED_FRAMING, RequestHead};
use portcullis_model::verdict::{NeedBody, Reason};
use portcullis_tower::body::BodyDigest;
use portcullis_tower::enforce::{Denial, Permit, Ruling, refuse_replay, rule};

use crate::{Note, Wiring};

/// A request as it came to the proxy.
#[derive(Debug)]
pub(crate) struct Original<'a> {
    pub(crate) secure: bool,
    /// The other end of the proxy's connection.
    pub(crate) peer: IpAddr,
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    /// As of HTTP/2; where the request came with HTTP/1.1 the host is among the fields.
    pub(crate) authority: Option<&'a [u8]>,
    /// Names in lower case.
    pub(crate) fields: Vec<(&'a [u8], Cow<'a, [u8]>)>,
    /// It is certain that there is no body.
    pub(crate) bodiless: bool,
}

/// The services that a check is confined to: by the listener, and by the configuration of the proxy.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Pins<'a>(pub(crate) [Option<&'a str>; 2]);

impl Pins<'_> {
    fn admit(&self, service: &str) -> bool {
        self.0.iter().flatten().all(|pin| *pin == service)
    }
}

/// What the gate says of a head.
#[derive(Debug)]
pub(crate) enum First {
    Done(Result<Permit, Denial>),
    /// The body's digest is needed.
    NeedsBody(Pending),
}

/// A check that waits for the body.
#[derive(Debug)]
pub(crate) struct Pending {
    head: Vec<u8>,
    need: NeedBody,
    decision: Decision,
}

impl Pending {
    /// The longest body that is worth reading.
    pub(crate) fn cap(&self) -> usize {
        usize::try_from(self.need.cap_bytes).unwrap_or(usize::MAX)
    }
}

impl Wiring {
    /// Asks the gate of a head.
    pub(crate) fn first(&self, original: &Original<'_>, pins: Pins<'_>) -> First {
        let head = match pack(original) {
            Ok(head) => head,
            Err(reason) => return First::Done(Err(Denial::of(reason))),
        };
        match self.ask(&head, None, pins) {
            Ruling::Permitted(permit) => First::Done(Ok(permit)),
            Ruling::Denied(denial) => First::Done(Err(denial)),
            Ruling::Seen => First::Done(Err(self.replayed(&head, None))),
            // The gate knows that there is none, so that it asks for it breaks the contract.
            Ruling::NeedBody(_, decision) if original.bodiless => {
                First::Done(Err(Denial::of_body(HostFault::NeedBody, &decision)))
            }
            Ruling::NeedBody(need, decision) => First::NeedsBody(Pending { head, need, decision }),
        }
    }

    /// Asks the gate again with the whole body, or denies because it is not there.
    pub(crate) fn finish(
        &self,
        pending: &Pending,
        body: Result<&[u8], HostFault>,
        pins: Pins<'_>,
    ) -> Result<Permit, Denial> {
        let body = body.and_then(|body| {
            let fits = body.len() <= pending.cap();
            if fits { Ok(body) } else { Err(HostFault::BodyTooLarge) }
        });
        let body = body.map_err(|fault| Denial::of_body(fault, &pending.decision))?;
        let mut digest = BodyDigest::new(pending.need.algorithm);
        digest.update(body);
        let digest = digest.finish();
        match self.ask(&pending.head, Some(&digest), pins) {
            Ruling::Permitted(permit) => Ok(permit),
            Ruling::Denied(denial) => Err(denial),
            Ruling::NeedBody(_, decision) => Err(Denial::of_body(HostFault::NeedBody, &decision)),
            Ruling::Seen => Err(self.replayed(&pending.head, Some(&digest))),
        }
    }

    fn ask(&self, head: &[u8], body_digest: Option<&[u8]>, pins: Pins<'_>) -> Ruling {
        let (began, now) = (Instant::now(), (self.clock)());
        let answer = self.engine.decide(Question { body_digest, ..Question::new(head, now) });
        (self.note)(Note::Decided(began.elapsed()));
        if let Ok(decision) = &answer {
            let facts = decision.details().facts;
            let is_served = pins.admit(facts.service) && (self.serves)(&facts);
            if !facts.service.is_empty() && !is_served {
                // It must look like no service at all, whatever the gate says of the request.
                return Ruling::Denied(Denial::instead(Reason::ServiceUnknown, decision));
            }
        }
        let is_once = answer.as_ref().is_ok_and(|decision| !decision.details().obligations.is_empty());
        let ruling = rule(answer, &self.replays, now);
        if is_once {
            (self.note)(Note::Replays(self.replays.entries()));
        }
        ruling
    }

    /// The denial of a request that was accepted before.
    fn replayed(&self, head: &[u8], body_digest: Option<&[u8]>) -> Denial {
        (self.note)(Note::ReplayRefused);
        let replay = Some(ReplayAnswer::Seen);
        refuse_replay(self.engine.decide(Question { body_digest, replay, ..Question::new(head, (self.clock)()) }))
    }
}

fn pack(original: &Original<'_>) -> Result<Vec<u8>, Reason> {
    let is_disguised = |name: &[u8]| DISGUISED_FRAMING.iter().any(|framing| framing.as_bytes() == name);
    if original.fields.iter().any(|(name, _)| is_disguised(name)) {
        return Err(Reason::HeaderUnderscore);
    }
    let fields: Vec<(&[u8], &[u8])> = original.fields.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    let head = RequestHead {
        secure: original.secure,
        bodiless: original.bodiless,
        peer: original.peer.to_canonical(),
        method: original.method,
        authority: original.authority,
        target: original.target,
        headers: &fields,
    };
    Ok(head.pack()?)
}
