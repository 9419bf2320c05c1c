//! What came of a request, seen from both of its ends.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::answer::{Details, Place, RESERVED_HEADER_PREFIX};
use portcullis_model::verdict::Verdict;
use portcullis_tests::corpus::{Case, Expectation};
use portcullis_tests::wire::{Answer, Fields, Received, Upstream};
use serde::Deserialize;

/// What came of a request, or must.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Outcome {
    /// The upstream got it and answered.
    Allowed,
    /// The upstream got it, but with other edits than the gate asks for.
    AllowedOtherwise,
    /// The gate's answer: its status and public code.
    Denied(u16, String),
    /// The proxy answered by itself, with this status and no code.
    Refused(u16),
    /// The proxy hung up.
    Closed,
}

/// Fields that concern one connection or are told of the way by proxies. They may come, go and change.
const OF_THE_WAY: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-proto",
    "x-forwarded-for",
    "x-request-id",
];

impl Outcome {
    /// What a case expects where no proxy is in the way.
    pub(crate) fn expected(expect: &Expectation) -> Outcome {
        match expect.verdict {
            Verdict::Deny(reason) => Outcome::Denied(reason.status(), reason.public_code().as_str().to_owned()),
            Verdict::Allow | Verdict::NeedBody(_) => Outcome::Allowed,
        }
    }

    /// What came: the answer that the client got, and what the upstream got.
    pub(crate) fn of(case: &Case, answer: Result<Answer>, received: &[Received]) -> Result<Outcome> {
        let Ok(answer) = answer else {
            ensure!(received.is_empty(), "the upstream got a request that was not answered");
            return Ok(Outcome::Closed);
        };
        if answer.field(Upstream::MARK).is_some() {
            ensure!(received.len() == 1, "the upstream got it {} times", received.len());
            return Ok(Outcome::Allowed);
        }
        ensure!(received.is_empty(), "the upstream got a request that was answered {}", answer.status);
        let id = answer.field("x-portcullis-decision");
        if let (b"HEAD", Some(_), Outcome::Denied(_, code)) =
            (case.request.method.as_slice(), id, Outcome::expected(&case.expect))
        {
            // The code would be in the body, which an answer to HEAD has not.
            return Ok(Outcome::Denied(answer.status, code));
        }
        let code = answer.code().filter(|_| id.is_some());
        let Some(code) = code else { return Ok(Outcome::Refused(answer.status)) };
        let id = id.context("a denial names its decision")?;
        let document: serde_json::Value = serde_json::from_slice(&answer.body)?;
        ensure!(document["decision"] == id, "the document names another decision than {id}: {document}");
        ensure!(answer.field("content-type") == Some("application/problem+json"), "the document's type is another");
        Ok(Outcome::Denied(answer.status, code))
    }
}

/// Checks that the upstream got the request with the edits that the gate asks for, and no others.
pub(crate) fn check_edits(gate: &Gate, case: &Case, received: &Received) -> Result<()> {
    let request = &case.request;
    let head = request.pack()?;
    let input = Input { head: &head, now: case.at, body_digest: request.body_digest.as_deref(), replay: case.replay };
    let mut packed = Vec::new();
    gate.decide(input, &mut Silent, &mut packed);
    let details = Details::unpack(&packed)?;

    let target = String::from_utf8(request.target.clone())?;
    let kept = without(&target, &details);
    let found = String::from_utf8_lossy(&received.target);
    // A client behind a proxy asks in absolute form, which is for the proxy.
    let found = found.split_once("://").map_or(&*found, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    ensure!(found == kept, "the upstream was asked for `{found}`, not for `{kept}`");
    ensure!(received.method.as_bytes() == request.method, "the upstream was asked to {}", received.method);

    let is_reserved = |name: &str| name.starts_with(RESERVED_HEADER_PREFIX);
    let set: BTreeSet<(String, Vec<u8>)> =
        details.headers_to_set().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
    let told: Vec<_> = received.fields.iter().filter(|(name, _)| is_reserved(name)).cloned().collect();
    ensure!(told.len() == set.len() && set.iter().all(|field| told.contains(field)), "the upstream is told {told:?}");

    let stripped = match details.strip {
        Some(Place::Header(name)) => Some(name.to_ascii_lowercase()),
        Some(Place::Parameter(_) | Place::Presigned(_)) | None => None,
    };
    let sent: Fields = request
        .headers
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.clone()))
        .collect();
    let (sent, got) = (lists(&sent), lists(&received.fields));
    for (name, value) in &sent {
        if is_reserved(name) || OF_THE_WAY.contains(&name.as_str()) {
            continue;
        }
        let found = got.get(name);
        if Some(name) == stripped.as_ref() {
            ensure!(found.is_none(), "the upstream got the credential's field `{name}`");
        } else {
            let shown = found.map(|value| String::from_utf8_lossy(value));
            // Of two that agree but for their case a proxy may send either.
            let is_it =
                |found: &Vec<u8>| if name == "host" { found.eq_ignore_ascii_case(value) } else { found == value };
            ensure!(found.is_some_and(is_it), "of `{name}` the upstream got {shown:?}");
        }
    }
    Ok(())
}

/// The target without the credential; written here once more, to judge those that do it.
fn without(target: &str, details: &Details<'_>) -> String {
    let is_stripped = |name: &str| match details.strip {
        Some(Place::Parameter(stripped)) => name == stripped,
        Some(Place::Presigned(vendor)) => {
            let prefix = format!("x-{}-", vendor.to_ascii_lowercase());
            name.to_ascii_lowercase().starts_with(&prefix)
        }
        Some(Place::Header(_)) | None => false,
    };
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let all: Vec<&str> = query.split('&').collect();
    let kept: Vec<&str> =
        all.iter().copied().filter(|part| !is_stripped(part.split('=').next().unwrap_or_default())).collect();
    if kept.len() == all.len() {
        target.to_owned()
    } else if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", kept.join("&"))
    }
}

/// One list of each field, which is what several of one name are (RFC 9110 section 5.3); spaces beside commas do not count.
fn lists(fields: &Fields) -> BTreeMap<String, Vec<u8>> {
    let mut lists: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, value) in fields {
        for part in value.split(|byte| *byte == b',') {
            let list = lists.entry(name.clone()).or_default();
            list.extend(part.trim_ascii());
            list.push(b',');
        }
    }
    lists
}
