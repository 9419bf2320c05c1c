//! From failed calls to the error log.
//!
//! A request pays for this when it fails, and before that with a copy of its head and of the first bytes of its body. What
//! was kept goes into a queue of bounded length; where it is full the call is counted and dropped. A task of its own takes
//! secrets out and writes. Nothing is written that has not been through the redactor.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use portcullis_control::store::NewErrorEntry;
use portcullis_control::{Control, ErrorLogRules, FailedCall, MAX_KEPT_BODY_BYTES, Redactor, WireBody, WireMessage};
use portcullis_model::answer::Details;
use portcullis_model::facts::Facts;
use portcullis_model::head::Packed;
use portcullis_model::id::Id;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::clock;
use crate::journal::DecisionId;
use crate::metrics::Metrics;

/// The most failed calls that wait to be written. With bodies and heads as large as they may be that is 25 MB.
const MAX_WAITING: usize = 256;
/// The most failed calls of one write to the store.
const MAX_BATCH: usize = 64;
/// How long a batch gathers after its first call.
const BATCH_WAIT: Duration = Duration::from_millis(100);
/// The most calls a second that are kept of those that nobody has proven: strangers cost a row each, and can make any number.
const STRANGERS_PER_SECOND: u32 = 50;
/// The most bodies of denied requests that are read at once. The clients have their answers meanwhile.
const MAX_READERS: usize = 64;
/// How long the body of a denied request is waited for.
const BODY_WAIT: Duration = Duration::from_secs(2);

/// Makes the queue and its other end.
pub(crate) fn channel(rules: watch::Receiver<Arc<ErrorLogRules>>, metrics: Metrics) -> (Failures, Captured) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let shared = Shared {
        rules: rules.clone(),
        metrics: metrics.clone(),
        strangers: Mutex::new((0, 0)),
        readers: Arc::new(Semaphore::new(MAX_READERS)),
    };
    (Failures { sender, shared: Arc::new(shared) }, Captured { receiver, rules, metrics })
}

/// Where failed calls go. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Failures {
    sender: mpsc::Sender<FailedCall>,
    shared: Arc<Shared>,
}

struct Shared {
    rules: watch::Receiver<Arc<ErrorLogRules>>,
    metrics: Metrics,
    /// The second, and how many unproven calls were taken in it.
    strangers: Mutex<(u64, u32)>,
    readers: Arc<Semaphore>,
}

/// Whom a failed call belongs to.
struct Owner {
    tenant: Option<Id>,
    proven: bool,
}

/// A failed call of which all is known but the bodies.
pub(crate) struct Failed {
    to: Failures,
    /// Without bodies.
    call: FailedCall,
}

impl Failures {
    /// How many bytes of a permitted request's body are to be kept until it is known whether the call fails.
    pub(crate) fn room(&self, facts: &Facts<'_>) -> usize {
        let is_kept = self.shared.rules.borrow().settings(Some(facts.tenant)).enabled;
        if is_kept { MAX_KEPT_BODY_BYTES } else { 0 }
    }

    /// Takes note of a call that failed, or of nothing where its owner keeps no error log. `details` and `head` are as they
    /// were packed; either is empty where it never came to it.
    pub(crate) fn failed<B>(
        &self,
        details: &[u8],
        head: &[u8],
        decision: DecisionId,
        reason: &str,
        response: &Response<B>,
    ) -> Option<Failed> {
        let details = Details::unpack(details).ok();
        let facts = details.as_ref().map(|details| details.facts);
        let owner = self.owner(facts.as_ref())?;
        if !owner.proven && !self.takes_stranger() {
            self.shared.metrics.failure_dropped();
            return None;
        }
        let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let head = Packed::open(head).ok();
        let request = head.iter().flat_map(Packed::headers).map(|(name, value)| (name.to_vec(), value.to_vec()));
        let peer = head.as_ref().map(|head| head.peer);
        let client: Option<IpAddr> = facts.map(|facts| facts.client).filter(|client| !client.is_unspecified()).or(peer);
        let call = FailedCall {
            decision: decision.0,
            at: decision.at(),
            tenant: owner.tenant,
            proven: owner.proven,
            credential: facts.and_then(|facts| facts.credential).map(|credential| credential.id.to_owned()),
            endpoint: facts.and_then(|facts| known(facts.endpoint)),
            client,
            reason: reason.to_owned(),
            status: response.status().as_u16(),
            method: head.as_ref().map(|head| head.method.to_vec()).unwrap_or_default(),
            target: head.as_ref().map(|head| head.target.to_vec()).unwrap_or_default(),
            request: WireMessage { fields: request.collect(), body: WireBody::Empty },
            response: WireMessage { fields: fields(response.headers()), body: WireBody::Empty },
        };
        Some(Failed { to: self.clone(), call })
    }

    /// Nothing where the owner keeps no error log.
    fn owner(&self, facts: Option<&Facts<'_>>) -> Option<Owner> {
        let rules = self.shared.rules.borrow();
        let owner = match facts {
            Some(facts) if facts.credential.is_some() && !facts.tenant.is_empty() => {
                Owner { tenant: Some(facts.tenant.parse().ok()?), proven: true }
            }
            Some(facts) => Owner { tenant: rules.pinned(facts.service).cloned(), proven: false },
            None => Owner { tenant: None, proven: false },
        };
        rules.settings(owner.tenant.as_ref().map(Id::as_str)).enabled.then_some(owner)
    }

    fn takes_stranger(&self) -> bool {
        let now = clock::now().as_secs();
        let mut taken = self.shared.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.0 != now {
            *taken = (now, 0);
        }
        taken.1 = taken.1.saturating_add(1);
        taken.1 <= STRANGERS_PER_SECOND
    }
}

impl Failed {
    /// Whether a proven credential named the owner. Of others no body is looked at.
    pub(crate) fn is_proven(&self) -> bool {
        self.call.proven
    }

    /// Hands the call over with its bodies.
    pub(crate) fn end(mut self, request: WireBody, response: WireBody) {
        self.call.request.body = request;
        self.call.response.body = response;
        match self.to.sender.try_send(self.call) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => self.to.shared.metrics.failure_dropped(),
        }
    }

    /// Hands the call over once the body of the request is there, or is not going to be. The client need not wait for it.
    pub(crate) fn end_after(self, request: Incoming, response: WireBody) {
        let Ok(place) = Arc::clone(&self.to.shared.readers).try_acquire_owned() else {
            return self.end(WireBody::Unread("too many bodies of denied requests were on their way"), response);
        };
        tokio::spawn(async move {
            let body = beginning(request).await;
            drop(place);
            self.end(body, response);
        });
    }
}

/// The beginning of a body, as far as it comes in time.
async fn beginning(mut body: Incoming) -> WireBody {
    let until = Instant::now() + BODY_WAIT;
    let mut kept = Kept::new(MAX_KEPT_BODY_BYTES);
    let mut whole = false;
    while kept.is_within() {
        match tokio::time::timeout_at(until, body.frame()).await {
            Ok(None) => {
                whole = true;
                break;
            }
            Ok(Some(Ok(frame))) => kept.add(frame.data_ref().map_or(&[], |data| data.as_ref())),
            Ok(Some(Err(_))) | Err(_) => break,
        }
    }
    kept.into_body(whole)
}

/// The first bytes of a body, and how many came.
#[derive(Default)]
pub(crate) struct Kept {
    room: usize,
    bytes: Vec<u8>,
    length: u64,
}

impl Kept {
    pub(crate) fn new(room: usize) -> Self {
        Kept { room, bytes: Vec::new(), length: 0 }
    }

    pub(crate) fn add(&mut self, data: &[u8]) {
        self.length = self.length.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        let left = self.room.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(data.get(..left).unwrap_or(data));
    }

    fn is_within(&self) -> bool {
        u64::try_from(self.bytes.len()) == Ok(self.length)
    }

    pub(crate) fn into_body(self, whole: bool) -> WireBody {
        match self.room {
            0 => WireBody::Unread("the error log was off when it came"),
            _ => WireBody::Read { bytes: self.bytes, length: self.length, whole },
        }
    }
}

fn fields(headers: &HeaderMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// The other end of the queue.
pub(crate) struct Captured {
    receiver: mpsc::Receiver<FailedCall>,
    rules: watch::Receiver<Arc<ErrorLogRules>>,
    metrics: Metrics,
}

impl Captured {
    /// Redacts and writes until every [`Failures`] is gone.
    pub(crate) async fn write(mut self, control: Arc<Control>) {
        while let Some(first) = self.receiver.recv().await {
            let mut calls = vec![first];
            let until = Instant::now() + BATCH_WAIT;
            while calls.len() < MAX_BATCH {
                let room = MAX_BATCH - calls.len();
                match tokio::time::timeout_at(until, self.receiver.recv_many(&mut calls, room)).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            let count = calls.len();
            // A rule that was answered before the call failed is in here.
            let rules = Arc::clone(&self.rules.borrow());
            let redacted = tokio::task::spawn_blocking(move || redact(&rules, calls)).await;
            let Ok(entries) = redacted else {
                tracing::error!(count, "failed calls could not be redacted and are not kept");
                self.metrics.failures_dropped(count);
                continue;
            };
            if let Err(error) = control.keep_errors(&entries).await {
                tracing::error!(%error, count, "failed calls could not be written");
                self.metrics.failures_dropped(count);
            }
        }
    }
}

fn redact(rules: &ErrorLogRules, calls: Vec<FailedCall>) -> Vec<NewErrorEntry> {
    let mut redactors: BTreeMap<Option<Id>, Redactor> = BTreeMap::new();
    let entry = |call: FailedCall| {
        let tenant = call.tenant.clone();
        let redactor = redactors.entry(tenant).or_insert_with_key(|tenant| Redactor::new(rules, tenant.as_ref()));
        redactor.entry(call)
    };
    calls.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_body_is_kept_and_the_rest_counted() {
        let mut kept = Kept::new(4);
        kept.add(b"abc");
        kept.add(b"d");
        assert!(kept.is_within());
        kept.add(b"ef");
        assert!(!kept.is_within());
        let WireBody::Read { bytes, length, whole } = kept.into_body(true) else { panic!("nothing was kept") };
        assert_eq!((bytes.as_slice(), length, whole), (&b"abcd"[..], 6, true));
        assert!(matches!(Kept::new(0).into_body(true), WireBody::Unread(_)));
    }

    #[test]
    fn strangers_are_taken_up_to_a_number_a_second() {
        let (rules, metrics) = (watch::channel(Arc::default()).1, Metrics::new());
        let (failures, _captured) = channel(rules, metrics.clone());
        let response = Response::builder().status(401).body(()).unwrap();
        let attempts = 3 * STRANGERS_PER_SECOND;
        let taken =
            (0..attempts).filter(|_| failures.failed(&[], &[], DecisionId(1), "x", &response).is_some()).count();
        // The second may end on the way.
        assert!((50..=100).contains(&taken), "{taken}");
        let dropped = attempts as usize - taken;
        assert!(metrics.encode().contains(&format!("portcullis_error_log_dropped_total {dropped}\n")));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (rules, metrics) = (watch::channel(Arc::default()).1, Metrics::new());
        let (failures, mut captured) = channel(rules, metrics.clone());
        let response = Response::builder().status(500).body(()).unwrap();
        let mut ended = 0;
        while ended <= MAX_WAITING {
            // What strangers may do in a second is less than the queue holds.
            if let Some(failed) = failures.failed(&[], &[], DecisionId(1), "x", &response) {
                failed.end(WireBody::Empty, WireBody::Empty);
                ended += 1;
            } else {
                *failures.shared.strangers.lock().unwrap() = (0, 0);
            }
        }
        let mut held = 0;
        while captured.receiver.try_recv().is_ok() {
            held += 1;
        }
        assert_eq!(held, MAX_WAITING);
    }
}
