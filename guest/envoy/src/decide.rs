//! From the proxy's fields to a ruling: the head packed, the gate asked, the obligations of an allow met, the decision recorded.
//! No call of the proxy is made here.

use std::net::{IpAddr, SocketAddr};

use portcullis_eval::{Input, Silent};
use portcullis_model::answer::{Details, Obligation, RESERVED_HEADER_PREFIX};
use portcullis_model::decision::DecisionId;
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::fault::HostFault;
use portcullis_model::head::{DISGUISED_FRAMING, MAX_HEADERS, RequestHead};
use portcullis_model::problem;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{NeedBody, Reason, Verdict};

use crate::replays::Once;
use crate::worker::Worker;

/// The proxy's own fields beside those of the request.
const PSEUDO_FIELDS: usize = 8;

/// A field: name and value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// The fields of a request as the proxy hands them over, repeated ones too.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    /// `:method`.
    pub method: &'a [u8],
    /// `:authority`, which Host becomes as well.
    pub authority: Option<&'a [u8]>,
    /// `:path`.
    pub target: &'a [u8],
    /// All but the pseudo-fields.
    pub headers: Vec<Field<'a>>,
}

impl<'a> Fields<'a> {
    /// Reads what the proxy hands over. Layout, little-endian: u32 number of fields, two u32 lengths for each, then name, zero,
    /// value, zero for each. Nothing where it is not that.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Fields<'a>> {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let (lengths, mut rest) = rest.split_at_checked(count.checked_mul(8)?)?;
        let (lengths, _) = lengths.as_chunks::<4>();
        let mut text = |length: [u8; 4]| {
            let (text, after) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(length)).ok()?)?;
            let (zero, after) = after.split_first()?;
            rest = after;
            (*zero == 0).then_some(text)
        };
        let mut fields =
            Fields { headers: Vec::with_capacity(count.min(MAX_HEADERS + PSEUDO_FIELDS)), ..Fields::default() };
        let (pairs, _) = lengths.as_chunks::<2>();
        for [name, value] in pairs {
            let (name, value) = (text(*name)?, text(*value)?);
            match name {
                b":method" => fields.method = value,
                b":authority" => fields.authority = Some(value),
                b":path" => fields.target = value,
                [b':', ..] => {}
                _ => fields.headers.push((name, value)),
            }
        }
        Some(fields)
    }

    /// Packs the head into `out`.
    ///
    /// # Errors
    /// The reason for which it is refused before the gate sees it.
    pub fn pack(&self, peer: IpAddr, bodiless: bool, out: &mut Vec<u8>) -> Result<(), Reason> {
        let is_disguised = |(name, _): &Field<'_>| DISGUISED_FRAMING.iter().any(|framing| framing.as_bytes() == *name);
        if self.headers.iter().any(is_disguised) {
            return Err(Reason::HeaderUnderscore);
        }
        RequestHead {
            // No check asks for it, and the proxy would have to be asked for it with each request.
            secure: false,
            bodiless,
            peer,
            method: self.method,
            authority: self.authority,
            target: self.target,
            headers: &self.headers,
        }
        .pack_into(out)
        .map_err(Reason::from)
    }

    /// The names that only Portcullis may set and the request has, each as often as it comes.
    pub fn reserved(&self) -> impl Iterator<Item = &'a str> {
        let prefix = RESERVED_HEADER_PREFIX.as_bytes();
        let reserved = self.headers.iter().filter(move |(name, _)| name.starts_with(prefix));
        // A name with other bytes has been refused.
        reserved.filter_map(|(name, _)| std::str::from_utf8(name).ok())
    }

    /// What `Content-Length` says, where it is there and can be read.
    #[must_use]
    pub fn announced_bytes(&self) -> Option<u64> {
        let (_, value) = self.headers.iter().find(|(name, _)| *name == b"content-length")?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

/// The address in the property `source.address`; nothing where the peer is no address, but a pipe.
#[must_use]
pub fn peer(property: &[u8]) -> Option<IpAddr> {
    let address: SocketAddr = std::str::from_utf8(property).ok()?.parse().ok()?;
    Some(address.ip().to_canonical())
}

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Nothing was decided.
    New,
    /// Its body is being read for its signature.
    Reading,
    /// It was allowed.
    Passed,
    /// It was denied.
    Denied,
}

impl Progress {
    /// Whether what comes of it is let through. INVARIANT (paused-for-good): only of one that was allowed, so that one whose
    /// refusal the proxy did not send goes nowhere either.
    #[must_use]
    pub fn goes_on(self) -> bool {
        match self {
            Progress::Passed => true,
            Progress::New | Progress::Reading | Progress::Denied => false,
        }
    }
}

/// What is to be done with a request.
#[derive(PartialEq, Eq, Debug)]
pub enum Ruling {
    /// It may go on, with the edits of the details.
    Allowed,
    /// It may not.
    Denied(Cause),
    /// The gate is to be asked again with the digest of the body.
    NeedBody(NeedBody),
}

/// Why a request is denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The gate said so.
    Gate(Reason),
    /// It gave no verdict that can be acted on here.
    Host(HostFault),
}

impl Cause {
    /// The number that stands for it in records.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Cause::Gate(reason) => reason.number(),
            Cause::Host(fault) => fault.number(),
        }
    }

    /// The name, for logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cause::Gate(reason) => reason.name(),
            Cause::Host(fault) => fault.name(),
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Cause::Gate(reason) => reason.status(),
            Cause::Host(fault) => fault.status(),
        }
    }

    fn code(self) -> &'static str {
        match self {
            Cause::Gate(reason) => reason.public_code().as_str(),
            Cause::Host(fault) => fault.code(),
        }
    }

    fn ends_connection(self) -> bool {
        problem::ends_connection(self.status()) || matches!(self, Cause::Host(fault) if fault.ends_body())
    }
}

/// Asks the gate, and meets the obligations of an allow: `once` enters a key unless it is there. The packed details are left in
/// `details`.
///
/// INVARIANT (allow-means-allow): the one way to [`Ruling::Allowed`] is an allow of the gate for the service that is guarded
/// here, whose details could be read and whose obligations were met.
pub fn decide(
    worker: &Worker,
    head: &[u8],
    body_digest: Option<&[u8]>,
    now: UnixTime,
    once: &mut dyn FnMut([u8; 32], UnixTime) -> Once,
    details: &mut Vec<u8>,
) -> Ruling {
    if worker.is_inline() {
        worker.source.gate.borrow_mut().confirm_anew(now);
    }
    let gate = worker.source.gate.borrow();
    let mut input = Input { head, now, body_digest, replay: None };
    let verdict = gate.decide(input, &mut Silent, details);
    let Ok(answer) = Details::unpack(details) else { return Ruling::Denied(Cause::Host(HostFault::BadAnswer)) };
    let service = answer.facts.service;
    if !service.is_empty() && worker.config.service.as_ref().is_some_and(|only| only.as_str() != service) {
        return Ruling::Denied(Cause::Gate(Reason::ServiceUnknown));
    }
    match verdict {
        Verdict::Deny(reason) => return Ruling::Denied(Cause::Gate(reason)),
        Verdict::NeedBody(_) if body_digest.is_some() => return Ruling::Denied(Cause::Host(HostFault::NeedBody)),
        Verdict::NeedBody(need) => return Ruling::NeedBody(need),
        Verdict::Allow => {}
    }
    for Obligation::Once { key, until } in answer.obligations {
        match once(key, until) {
            Once::Fresh => {}
            Once::Full => return Ruling::Denied(Cause::Host(HostFault::ReplaysFull)),
            Once::Seen => {
                input.replay = Some(ReplayAnswer::Seen);
                return match gate.decide(input, &mut Silent, details) {
                    Verdict::Deny(reason) => Ruling::Denied(Cause::Gate(reason)),
                    // It breaks the contract, and the obligation is not met.
                    Verdict::Allow | Verdict::NeedBody(_) => Ruling::Denied(Cause::Host(HostFault::Obligation)),
                };
            }
        }
    }
    Ruling::Allowed
}

/// Records a decision, and gives its id. A policy that stands in the configuration has nobody who would take the record.
#[must_use]
pub fn record(worker: &Worker, now_ms: u64, cause: Option<Cause>, details: &[u8]) -> DecisionId {
    let mut journal = worker.source.journal.borrow_mut();
    match worker.is_inline() {
        true => journal.id(now_ms),
        false => journal.record(now_ms, cause.map_or(0, Cause::number), details),
    }
}

/// The answer to a request that is denied.
#[derive(PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The fields, the length of the body not among them.
    pub headers: Vec<(&'static str, String)>,
    /// The problem document.
    pub body: String,
}

/// What the caller of a denied request is told. `details` are those of the denial, or empty.
#[must_use]
pub fn refusal(cause: Cause, id: DecisionId, details: &[u8]) -> Refusal {
    let (status, id) = (cause.status(), id.to_string());
    let body = problem::document(status, problem::title(status), cause.code(), &id, "");
    let mut headers = vec![
        ("content-type", problem::MEDIA_TYPE.to_owned()),
        ("cache-control", "no-store".to_owned()),
        (problem::DECISION_HEADER, id),
    ];
    let challenge = match (cause, Details::unpack(details)) {
        (Cause::Gate(reason), Ok(details)) if matches!(reason.status(), 401 | 403) => details.challenge.to_owned(),
        (Cause::Gate(_) | Cause::Host(_), Ok(_) | Err(_)) => String::new(),
    };
    if !challenge.is_empty() {
        headers.push(("www-authenticate", challenge));
    }
    if cause.ends_connection() {
        headers.push(("connection", "close".to_owned()));
    }
    Refusal { status, headers, body }
}

#[cfg(test)]
mod tests {
    use portcullis_model::policy::build;
    use portcullis_model::source::Source;
    use serde_json::json;

    use super::*;
    use crate::config;

    const KEY: &str = "ptc_tkAcme01_2QDM4q6fFuV4VikgcpcPavCAp0IgQxGo54Otfsw";

    fn packed(fields: &[(&str, &str)]) -> Vec<u8> {
        let length = |text: &str| u32::try_from(text.len()).unwrap().to_le_bytes();
        let mut out = u32::try_from(fields.len()).unwrap().to_le_bytes().to_vec();
        for (name, value) in fields {
            out.extend_from_slice(&length(name));
            out.extend_from_slice(&length(value));
        }
        for text in fields.iter().flat_map(|(name, value)| [name, value]) {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        out
    }

    const HEAD: [(&str, &str); 4] =
        [(":method", "GET"), (":authority", "api.shop.example"), (":path", "/v1/events"), (":scheme", "https")];

    fn worker(service: &str) -> Worker {
        let source: Source = Source::from_json(include_bytes!("../../../host/server/sample/policy.json")).unwrap();
        build(&source).unwrap();
        let written = json!({"service": service, "policy": source}).to_string();
        Worker::start(config::parse(written.as_bytes()).unwrap()).unwrap()
    }

    fn ruling(worker: &Worker, fields: &[(&str, &str)], details: &mut Vec<u8>) -> Ruling {
        let bytes = packed(&[&HEAD[..], fields].concat());
        let mut head = Vec::new();
        let peer = "192.0.2.7".parse().unwrap();
        match Fields::read(&bytes).unwrap().pack(peer, true, &mut head) {
            Ok(()) => {
                let now = UnixTime::from_secs(1_800_000_000).unwrap();
                decide(worker, &head, None, now, &mut |_, _| panic!("nothing is asked for once"), details)
            }
            Err(reason) => Ruling::Denied(Cause::Gate(reason)),
        }
    }

    #[test]
    fn fields_are_read_and_no_cut_of_them_is() {
        let bytes = packed(&[&HEAD[..], &[("x-a", "1"), ("x-a", ""), (":else", "e")]].concat());
        let fields = Fields::read(&bytes).unwrap();
        assert_eq!((fields.method, fields.target), (&b"GET"[..], &b"/v1/events"[..]));
        assert_eq!(fields.authority, Some(&b"api.shop.example"[..]));
        assert_eq!(fields.headers, [(&b"x-a"[..], &b"1"[..]), (b"x-a", b"")]);
        for end in 0..bytes.len() {
            assert!(Fields::read(&bytes[..end]).is_none(), "{end}");
        }
        assert!(Fields::read(&[255; 64]).is_none());
    }

    #[test]
    fn a_peer_is_an_address_with_a_port() {
        for (property, address) in [
            ("192.0.2.1:443", Some("192.0.2.1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("[::ffff:192.0.2.1]:443", Some("192.0.2.1")),
            ("192.0.2.1", None),
            ("/run/envoy.sock", None),
            ("@abstract:1", None),
            ("", None),
        ] {
            assert_eq!(peer(property.as_bytes()), address.map(|address| address.parse().unwrap()), "{property}");
        }
        assert_eq!(peer(&[255]), None);
    }

    #[test]
    fn the_gate_is_asked_and_its_answer_kept() {
        let (worker, mut details) = (worker("shop"), Vec::new());
        assert_eq!(ruling(&worker, &[("x-api-key", KEY)], &mut details), Ruling::Allowed);
        let allowed = Details::unpack(&details).unwrap();
        assert_eq!((allowed.facts.tenant, allowed.facts.endpoint), ("acme", "shop/events"));
        for (fields, reason) in [
            (&[][..], Reason::CredentialMissing),
            (&[("x-api-key", KEY), ("x-api-key", KEY)], Reason::CredentialDoubled),
            (&[("x-api-key", KEY), ("x-workspace-key", KEY)], Reason::CredentialsTwo),
            (&[("x-api-key", KEY), ("content_length", "1")], Reason::HeaderUnderscore),
            (&[("x-api-key", KEY), ("transfer_encoding", "chunked")], Reason::HeaderUnderscore),
        ] {
            assert_eq!(ruling(&worker, fields, &mut details), Ruling::Denied(Cause::Gate(reason)));
        }
    }

    #[test]
    fn what_is_routed_to_another_service_is_unknown_here() {
        let mut details = Vec::new();
        let denied = Ruling::Denied(Cause::Gate(Reason::ServiceUnknown));
        assert_eq!(ruling(&worker("other"), &[("x-api-key", KEY)], &mut details), denied);
        assert_eq!(ruling(&worker("other"), &[], &mut details), denied, "and what the gate says of it stays here");
    }

    #[test]
    fn a_refusal_tells_the_public_code_and_the_decision_alone() {
        let (worker, mut details) = (worker("shop"), Vec::new());
        let Ruling::Denied(cause) = ruling(&worker, &[], &mut details) else { panic!("it was allowed") };
        let refusal = refusal(cause, DecisionId(7), &details);
        assert_eq!(refusal.status, 401);
        assert_eq!(
            refusal.body,
            "{\"type\":\"about:blank\",\"title\":\"Unauthorized\",\"status\":401,\"code\":\"unauthorized\",\"decision\":\"0000000000007\"}\n"
        );
        let expected = [
            ("content-type", "application/problem+json"),
            ("cache-control", "no-store"),
            ("x-portcullis-decision", "0000000000007"),
            ("www-authenticate", "ApiKey realm=\"shop\", ManagementKey-v1 realm=\"shop\""),
        ];
        assert!(refusal.headers.iter().map(|(name, value)| (*name, value.as_str())).eq(expected));
    }

    #[test]
    fn an_unreadable_head_and_a_body_that_is_not_read_end_the_connection() {
        for (cause, ends) in [
            (Cause::Gate(Reason::PathDotSegment), true),
            (Cause::Gate(Reason::TargetTooLong), true),
            (Cause::Gate(Reason::HeadTooLarge), true),
            (Cause::Host(HostFault::BodyTooLarge), true),
            (Cause::Gate(Reason::CredentialUnknown), false),
            (Cause::Host(HostFault::ReplaysFull), false),
        ] {
            let refusal = refusal(cause, DecisionId(7), &[]);
            assert_eq!(refusal.headers.contains(&("connection", "close".to_owned())), ends, "{}", cause.name());
        }
    }

    #[test]
    fn only_what_was_allowed_goes_on() {
        assert!(Progress::Passed.goes_on());
        for paused in [Progress::New, Progress::Reading, Progress::Denied] {
            assert!(!paused.goes_on(), "{paused:?}");
        }
    }

    #[test]
    fn what_only_portcullis_may_set_is_found_however_often_it_comes() {
        let bytes = packed(&[("x-portcullis-tenant", "a"), ("x-portcullis-", "b"), ("x-portcullis", "c")]);
        let fields = Fields::read(&bytes).unwrap();
        assert!(fields.reserved().eq(["x-portcullis-tenant", "x-portcullis-"]));
    }

    #[test]
    fn a_body_is_announced_by_its_length() {
        for (value, length) in [("7", Some(7)), ("", None), ("7,7", None), ("-1", None)] {
            let bytes = packed(&[("content-length", value)]);
            assert_eq!(Fields::read(&bytes).unwrap().announced_bytes(), length, "{value}");
        }
        assert_eq!(Fields::read(&packed(&HEAD)).unwrap().announced_bytes(), None);
    }
}
