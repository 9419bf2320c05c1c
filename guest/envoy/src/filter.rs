//! One request in the proxy: its fields to the gate, and the ruling back.

use std::rc::Rc;

use portcullis_model::answer::{Details, Place};
use portcullis_model::fault::HostFault;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{DigestAlgorithm, NeedBody, Reason};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};
use sha2::{Digest as _, Sha256, Sha512};

use crate::decide::{self, Cause, Fields, Progress, Refusal, Ruling};
use crate::host::{self, SharedData};
use crate::replays;
use crate::worker::{Worker, now};

/// The most bytes of a body that are copied out of the proxy at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Where the proxy's access log finds the id of the decision: `%FILTER_STATE(wasm.portcullis.decision:PLAIN)%`.
const NOTED_DECISION: &str = "portcullis.decision";
/// The same of the reason of a denial.
const NOTED_REASON: &str = "portcullis.reason";

/// A request on its way.
pub struct Filter {
    worker: Option<Rc<Worker>>,
    progress: Progress,
    /// There while the progress is [`Progress::Reading`].
    reading: Option<Box<Reading>>,
}

/// What is kept while a body is read.
struct Reading {
    fields: Vec<u8>,
    head: Vec<u8>,
    /// As they are recorded should the body not come to its end.
    details: Vec<u8>,
    hash: Hash,
    hashed: usize,
    cap: usize,
}

impl Filter {
    /// A request of which nothing is known yet.
    #[must_use]
    pub fn new(worker: Option<Rc<Worker>>) -> Filter {
        Filter { worker, progress: Progress::New, reading: None }
    }

    fn head(&mut self, is_end: bool) -> Action {
        let Some(worker) = self.worker.clone() else { return self.deny_without_worker() };
        let mut head = worker.take_buffer();
        let mut details = worker.take_buffer();
        let action = self.head_of(&worker, is_end, &mut head, &mut details);
        worker.keep_buffer(head);
        worker.keep_buffer(details);
        action
    }

    fn head_of(&mut self, worker: &Worker, is_end: bool, head: &mut Vec<u8>, details: &mut Vec<u8>) -> Action {
        details.clear();
        let bytes = host::request_headers().unwrap_or_default();
        let peer = host::property(&["source", "address"]).and_then(|property| decide::peer(&property));
        let Some(fields) = Fields::read(&bytes) else {
            return self.deny(worker, Cause::Gate(Reason::HeadMalformed), details);
        };
        let Some(peer) = peer else { return self.deny(worker, Cause::Host(HostFault::PeerUnknown), details) };
        if let Err(reason) = fields.pack(peer, is_end, head) {
            return self.deny(worker, Cause::Gate(reason), details);
        }
        match decide_now(worker, head, None, details) {
            Ruling::Allowed => self.allow(worker, &fields, details),
            Ruling::Denied(cause) => self.deny(worker, cause, details),
            // The gate knows that there is none, so that it asks for it breaks the contract.
            Ruling::NeedBody(_) if is_end => self.deny(worker, Cause::Host(HostFault::NeedBody), details),
            Ruling::NeedBody(NeedBody { algorithm, cap_bytes }) => {
                if fields.announced_bytes().is_some_and(|announced| announced > u64::from(cap_bytes)) {
                    return self.deny(worker, Cause::Host(HostFault::BodyTooLarge), details);
                }
                let (head, details) = (std::mem::take(head), std::mem::take(details));
                let cap = usize::try_from(cap_bytes).unwrap_or(usize::MAX);
                let hash = Hash::new(algorithm);
                self.progress = Progress::Reading;
                self.reading = Some(Box::new(Reading { fields: bytes, head, details, hash, hashed: 0, cap }));
                Action::Pause
            }
        }
    }

    fn body(&mut self, body_size: usize, is_end: bool) -> Action {
        let Some((worker, reading)) = self.worker.clone().zip(self.reading.as_mut()) else { return self.unread() };
        if body_size > reading.cap {
            return self.fail(&worker, HostFault::BodyTooLarge);
        }
        while reading.hashed < body_size {
            let most = (body_size - reading.hashed).min(CHUNK_BYTES);
            match host::request_body(reading.hashed, most).filter(|chunk| (1..=most).contains(&chunk.len())) {
                Some(chunk) => {
                    reading.hash.update(&chunk);
                    reading.hashed += chunk.len();
                }
                // The proxy does not have what it says that it has.
                None => return self.fail(&worker, HostFault::BodyBroken),
            }
        }
        if is_end { self.finish(&worker) } else { Action::Pause }
    }

    /// A part of a request that is not read here.
    fn unread(&self) -> Action {
        if self.progress.goes_on() { Action::Continue } else { Action::Pause }
    }

    /// The body is there, and nothing comes after it.
    fn finish(&mut self, worker: &Worker) -> Action {
        let Some(reading) = self.reading.take() else { return self.unread() };
        let Reading { fields, head, mut details, hash, .. } = *reading;
        let ruling = decide_now(worker, &head, Some(&hash.finish()), &mut details);
        match (ruling, Fields::read(&fields)) {
            (Ruling::Allowed, Some(fields)) => self.allow(worker, &fields, &details),
            (Ruling::Denied(cause), _) => self.deny(worker, cause, &details),
            (Ruling::Allowed | Ruling::NeedBody(_), _) => self.deny(worker, Cause::Host(HostFault::NeedBody), &details),
        }
    }

    /// The body cannot be used for its signature.
    fn fail(&mut self, worker: &Worker, fault: HostFault) -> Action {
        let details = self.reading.take().map(|reading| reading.details).unwrap_or_default();
        self.deny(worker, Cause::Host(fault), &details)
    }

    /// Lets the request go on with the edits of the allow.
    fn allow(&mut self, worker: &Worker, fields: &Fields<'_>, packed: &[u8]) -> Action {
        let Ok(details) = Details::unpack(packed) else {
            return self.deny(worker, Cause::Host(HostFault::BadAnswer), packed);
        };
        if edit(fields, &details).is_err() {
            // What must not go on may be in the request still.
            return self.deny(worker, Cause::Host(HostFault::BadAnswer), packed);
        }
        let id = decide::record(worker, host::unix_ms(), None, packed);
        host::note(NOTED_DECISION, &id.text());
        self.progress = Progress::Passed;
        Action::Continue
    }

    fn deny(&mut self, worker: &Worker, cause: Cause, details: &[u8]) -> Action {
        let id = decide::record(worker, host::unix_ms(), Some(cause), details);
        host::note(NOTED_DECISION, &id.text());
        host::note(NOTED_REASON, cause.name().as_bytes());
        self.respond(&decide::refusal(cause, id, details))
    }

    fn deny_without_worker(&mut self) -> Action {
        let id = portcullis_model::decision::DecisionId(0);
        self.respond(&decide::refusal(Cause::Host(HostFault::NoInstance), id, &[]))
    }

    fn respond(&mut self, refusal: &Refusal) -> Action {
        let Refusal { status, headers, body } = refusal;
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.progress = Progress::Denied;
        // A request that is paused goes nowhere, so one whose answer the proxy does not take is denied all the same.
        let _ = hostcalls::send_http_response(u32::from(*status), headers, Some(body.as_bytes()));
        Action::Pause
    }
}

impl Context for Filter {
    fn on_done(&mut self) -> bool {
        if let (Some(worker), Some(reading)) = (&self.worker, self.reading.take()) {
            // The client or the proxy gave up.
            let fault = Cause::Host(HostFault::BodyBroken);
            let _ = decide::record(worker, host::unix_ms(), Some(fault), &reading.details);
        }
        true
    }
}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _count: usize, is_end: bool) -> Action {
        self.head(is_end)
    }

    fn on_http_request_body(&mut self, body_size: usize, is_end: bool) -> Action {
        self.body(body_size, is_end)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        match (self.worker.clone(), &self.reading) {
            // A signature is over the bytes of the body and not over trailers.
            (Some(worker), Some(_)) => self.fail(&worker, HostFault::BodyTrailers),
            (Some(_) | None, _) => self.unread(),
        }
    }
}

fn decide_now(worker: &Worker, head: &[u8], body_digest: Option<&[u8]>, details: &mut Vec<u8>) -> Ruling {
    let now = now();
    let mut once = |key: [u8; 32], until: UnixTime| replays::enter(&mut SharedData, &key, until, now);
    decide::decide(worker, head, body_digest, now, &mut once, details)
}

/// The edits of an allow.
fn edit(fields: &Fields<'_>, details: &Details<'_>) -> Result<(), ()> {
    let request = MapType::HttpRequestHeaders;
    let failed = |_| ();
    for name in fields.reserved() {
        hostcalls::remove_map_value(request, name).map_err(failed)?;
    }
    match details.strip {
        Some(Place::Header(name)) => hostcalls::remove_map_value(request, name).map_err(failed)?,
        Some(place @ (Place::Parameter(_) | Place::Presigned(_))) => {
            let target = std::str::from_utf8(fields.target).map_err(|_| ())?;
            if let Some(target) = place.cut_from(target) {
                hostcalls::set_map_value(request, ":path", Some(&target)).map_err(failed)?;
            }
        }
        None => {}
    }
    for (name, value) in details.headers_to_set() {
        hostcalls::set_map_value(request, name, Some(value)).map_err(failed)?;
    }
    Ok(())
}

enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hash {
    fn new(algorithm: DigestAlgorithm) -> Hash {
        match algorithm {
            DigestAlgorithm::Sha256 => Hash::Sha256(Sha256::new()),
            DigestAlgorithm::Sha512 => Hash::Sha512(Sha512::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hash::Sha256(hash) => hash.update(bytes),
            Hash::Sha512(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Hash::Sha256(hash) => hash.finalize().to_vec(),
            Hash::Sha512(hash) => hash.finalize().to_vec(),
        }
    }
}
