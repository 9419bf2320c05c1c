//! A report for programs. The names of its fields are stable; `check --help` lists them.

use std::net::IpAddr;

use portcullis_model::answer::{Obligation, Place};
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::verdict::{DigestAlgorithm, Reason, Verdict as Decided};
use serde::Serialize;

use super::{Report, known_client, outcome};

#[derive(Serialize)]
pub(super) struct Verdict<'a> {
    verdict: &'static str,
    status: Option<u16>,
    code: Option<&'static str>,
    reason: Option<&'static str>,
    reason_text: Option<&'static str>,
    need_body: Option<NeedBody>,
    facts: Facts<'a>,
    set_headers: Vec<Header<'a>>,
    strip: Option<Strip<'a>>,
    observed: Vec<Observed>,
    obligations: Vec<Owed>,
    challenge: Option<&'a str>,
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct NeedBody {
    algorithm: &'static str,
    cap_bytes: u32,
}

#[derive(Serialize)]
pub(crate) struct Facts<'a> {
    revision: u64,
    now: String,
    client: Option<IpAddr>,
    method: Option<&'a str>,
    host: Option<&'a str>,
    path: Option<&'a str>,
    service: Option<&'a str>,
    endpoint: Option<&'a str>,
    application: Option<&'a str>,
    tenant: Option<&'a str>,
    credential: Option<Credential<'a>>,
    signature: &'static str,
    replay: Option<&'static str>,
}

#[derive(Serialize)]
struct Credential<'a> {
    id: &'a str,
    kind: &'static str,
    proof: &'static str,
    secret_version: u16,
}

#[derive(Serialize)]
struct Header<'a> {
    name: &'static str,
    value: &'a str,
}

#[derive(Serialize)]
struct Strip<'a> {
    r#in: &'static str,
    name: &'a str,
}

#[derive(Serialize)]
struct Observed {
    reason: &'static str,
    reason_text: &'static str,
}

#[derive(Serialize)]
struct Owed {
    kind: &'static str,
    until: String,
}

#[derive(Serialize)]
struct Step<'a> {
    check: &'a str,
    outcome: &'static str,
    detail: &'a str,
}

impl<'a> Verdict<'a> {
    pub(super) fn of(report: &'a Report<'a>) -> Self {
        let details = &report.details;
        let (verdict, reason, need_body) = match report.verdict {
            Decided::Allow => ("allow", None, None),
            Decided::Deny(reason) => ("deny", Some(reason), None),
            Decided::NeedBody(need) => {
                let algorithm = match need.algorithm {
                    DigestAlgorithm::Sha256 => "sha256",
                    DigestAlgorithm::Sha512 => "sha512",
                };
                ("need_body", None, Some(NeedBody { algorithm, cap_bytes: need.cap_bytes }))
            }
        };
        let set = report.edits().then(|| details.headers_to_set()).into_iter().flatten();
        let strip = details.strip.filter(|_| report.edits()).map(|place| match place {
            Place::Header(name) => Strip { r#in: "header", name },
            Place::Parameter(name) => Strip { r#in: "parameter", name },
        });
        Verdict {
            verdict,
            status: reason.map(Reason::status),
            code: reason.map(|reason| reason.public_code().as_str()),
            reason: reason.map(Reason::name),
            reason_text: reason.map(Reason::text),
            need_body,
            facts: Facts::of(&details.facts),
            set_headers: set.map(|(name, value)| Header { name, value }).collect(),
            strip,
            observed: details
                .observed
                .iter()
                .map(|reason| Observed { reason: reason.name(), reason_text: reason.text() })
                .collect(),
            obligations: details
                .obligations
                .iter()
                .map(|Obligation::Once { until, .. }| Owed { kind: "once", until: until.to_string() })
                .collect(),
            challenge: known(details.challenge),
            steps: report
                .steps
                .iter()
                .map(|step| Step { check: &step.check, outcome: outcome(step.outcome), detail: &step.detail })
                .collect(),
        }
    }
}

impl<'a> Facts<'a> {
    pub(crate) fn of(facts: &portcullis_model::facts::Facts<'a>) -> Self {
        Facts {
            revision: facts.revision.0,
            now: facts.now.to_string(),
            client: known_client(facts),
            method: known(facts.method),
            host: known(facts.host),
            path: known(facts.path),
            service: known(facts.service),
            endpoint: known(facts.endpoint),
            application: known(facts.application),
            tenant: known(facts.tenant),
            credential: facts.credential.map(|credential| Credential {
                id: credential.id,
                kind: credential.kind.as_str(),
                proof: credential.proof.as_str(),
                secret_version: credential.secret_version,
            }),
            signature: facts.signature.as_str(),
            replay: facts.replay.map(|replay| match replay {
                ReplayAnswer::Fresh => "fresh",
                ReplayAnswer::Seen => "seen",
            }),
        }
    }
}

/// Facts are empty where they are not known.
fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
