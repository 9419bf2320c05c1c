//! A case: a policy, a time and a request, and what must come of it.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use portcullis_model::answer::{Details, Place as Strip};
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};
use serde::Deserialize;

use super::request::{Request, Written as WrittenRequest};

/// One case, read and checked.
pub struct Case {
    /// What it shows; unique in the corpus.
    pub name: String,
    /// The stem of the document that is loaded, or nothing where no policy is.
    pub policy: Option<String>,
    /// The documents that the policy is then moved to, step by step.
    pub deltas: Vec<String>,
    /// The time of the request.
    pub at: UnixTime,
    /// When the policy was confirmed, or nothing where it never was.
    pub confirmed: Option<UnixTime>,
    /// What is asked.
    pub request: Request,
    /// What the host's replay cache said.
    pub replay: Option<ReplayAnswer>,
    /// What must come of it.
    pub expect: Expectation,
}

/// What a case expects. What is left out may be anything.
pub struct Expectation {
    /// Allow, or the reason of the denial.
    pub verdict: Verdict,
    status: u16,
    fields: Fields,
}

/// A case as it stands in its file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    policy: Option<String>,
    #[serde(default)]
    deltas: Vec<String>,
    at: String,
    confirmed: Option<String>,
    request: WrittenRequest,
    replay: Option<Replay>,
    expect: WrittenExpectation,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Replay {
    Fresh,
    Seen,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenExpectation {
    status: u16,
    code: Option<String>,
    reason: Option<String>,
    service: Option<String>,
    tenant: Option<String>,
    credential: Option<String>,
    version: Option<u16>,
    signature: Option<String>,
    once: Option<u8>,
    kind: Option<String>,
    endpoint: Option<String>,
    application: Option<String>,
    client: Option<String>,
    strip: Option<Place>,
    challenge: Option<String>,
    observed: Option<Vec<String>>,
}

/// The place of a credential that an allow strips.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A header field, in lower case.
    Header(String),
    /// A query parameter.
    Parameter(String),
    /// The parameters of a presigned URL, by their vendor key.
    Presigned(String),
}

/// The facts and edits that a case speaks of, each with the name it has there.
struct Fields {
    texts: Vec<(&'static str, String)>,
    strip: Option<Place>,
    observed: Option<Vec<String>>,
}

impl Case {
    pub(super) fn read(value: serde_json::Value, captures: &Path) -> Result<Case> {
        let written: Written = serde_json::from_value(value)?;
        let at: UnixTime = written.at.parse()?;
        let confirmed = match written.confirmed.as_deref() {
            None => Some(at),
            Some("never") => None,
            Some(time) => Some(time.parse()?),
        };
        ensure!(!written.name.trim().is_empty(), "it needs a name");
        ensure!(written.policy.is_some() || written.deltas.is_empty(), "without a policy there is nothing to move");
        Ok(Case {
            name: written.name,
            policy: written.policy,
            deltas: written.deltas,
            at,
            confirmed,
            request: Request::read(written.request, captures)?,
            replay: written.replay.map(|replay| match replay {
                Replay::Fresh => ReplayAnswer::Fresh,
                Replay::Seen => ReplayAnswer::Seen,
            }),
            expect: Expectation::read(written.expect)?,
        })
    }
}

impl Expectation {
    fn read(written: WrittenExpectation) -> Result<Expectation> {
        let status = written.status;
        let verdict = match (written.reason, written.code) {
            (None, None) => {
                ensure!(status == 200, "an allow has status 200, a denial needs its `reason` and `code`");
                Verdict::Allow
            }
            (Some(name), Some(code)) => {
                let reason = Reason::ALL.iter().find(|reason| reason.name() == name);
                let reason = *reason.with_context(|| format!("there is no reason `{name}`"))?;
                let public = (reason.status(), reason.public_code().as_str());
                ensure!(
                    public == (status, code.as_str()),
                    "`{name}` is answered {} {}, the case says {status} {code}",
                    public.0,
                    public.1
                );
                Verdict::Deny(reason)
            }
            (Some(_), None) | (None, Some(_)) => bail!("a denial has both `reason` and `code`"),
        };
        let texts = [
            ("service", written.service),
            ("tenant", written.tenant),
            ("credential", written.credential),
            ("version", written.version.map(|version| version.to_string())),
            ("signature", written.signature),
            ("once", written.once.map(|once| once.to_string())),
            ("kind", written.kind),
            ("endpoint", written.endpoint),
            ("application", written.application),
            ("client", written.client),
            ("challenge", written.challenge),
        ];
        let texts = texts.into_iter().filter_map(|(field, text)| Some((field, text?))).collect();
        Ok(Expectation { verdict, status, fields: Fields { texts, strip: written.strip, observed: written.observed } })
    }

    /// Compares what came of a case with what it expects.
    ///
    /// # Errors
    /// Each difference, in words.
    pub fn check(&self, verdict: Verdict, details: &Details<'_>) -> Result<()> {
        let mut differences = Vec::new();
        if verdict != self.verdict {
            differences.push(format!("expected {:?} ({}), found {verdict:?}", self.verdict, self.status));
        }
        for (field, expected) in &self.fields.texts {
            let found = text(field, details)?;
            if found != *expected {
                differences.push(format!("expected the {field} `{expected}`, found `{found}`"));
            }
        }
        let strip = details.strip.map(|place| match place {
            Strip::Header(name) => Place::Header(name.to_owned()),
            Strip::Parameter(name) => Place::Parameter(name.to_owned()),
            Strip::Presigned(vendor) => Place::Presigned(vendor.to_owned()),
        });
        if self.fields.strip.is_some() && strip != self.fields.strip {
            differences.push(format!("expected to strip {:?}, found {strip:?}", self.fields.strip));
        }
        let observed: Vec<_> = details.observed.iter().map(|reason| reason.name().to_owned()).collect();
        if let Some(expected) = &self.fields.observed
            && *expected != observed
        {
            differences.push(format!("expected to observe {expected:?}, found {observed:?}"));
        }
        ensure!(differences.is_empty(), "{}", differences.join("; "));
        Ok(())
    }
}

fn text(field: &str, details: &Details<'_>) -> Result<String> {
    let facts = &details.facts;
    let credential = facts.credential;
    Ok(match field {
        "service" => facts.service.to_owned(),
        "tenant" => facts.tenant.to_owned(),
        "credential" => credential.map(|credential| credential.id.to_owned()).unwrap_or_default(),
        "signature" => facts.signature.as_str().to_owned(),
        "once" => details.obligations.len().to_string(),
        "version" => credential.map(|credential| credential.secret_version.to_string()).unwrap_or_default(),
        "kind" => credential.map(|credential| credential.kind.to_string()).unwrap_or_default(),
        "endpoint" => facts.endpoint.to_owned(),
        "application" => facts.application.to_owned(),
        "client" => facts.client.to_string(),
        "challenge" => details.challenge.to_owned(),
        other => bail!("no details are called `{other}`"),
    })
}
