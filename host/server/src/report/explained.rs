//! A verdict explained, as JSON. The names of its fields are stable; `check --help` lists them.
//!
//! It owns what it says and can be read back, so that what a server explains is shown as what is explained here.

use std::net::IpAddr;

use portcullis_engine::{Explanation, Outcome as Found, Step as Taken};
use portcullis_model::answer::{Details, Obligation, Place};
use portcullis_model::facts::{Facts, ReplayAnswer};
use portcullis_model::verdict::{DigestAlgorithm, Reason, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A verdict with everything that is told of it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Explanation")]
pub(crate) struct Explained {
    pub(super) verdict: Word,
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) reason_text: Option<String>,
    pub(super) need_body: Option<NeedBody>,
    pub(super) facts: DecidedFacts,
    pub(super) set_headers: Vec<Header>,
    pub(super) strip: Option<Strip>,
    pub(super) observed: Vec<Observed>,
    pub(super) obligations: Vec<Owed>,
    pub(super) challenge: Option<String>,
    pub(super) steps: Vec<Step>,
}

/// A verdict in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "VerdictWord")]
pub(super) enum Word {
    Allow,
    Deny,
    NeedBody,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct NeedBody {
    pub(super) algorithm: Algorithm,
    pub(super) cap_bytes: u32,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "BodyDigest")]
pub(super) enum Algorithm {
    Sha256,
    Sha512,
}

/// What was established of a request; null where it is not known.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Facts")]
pub(crate) struct DecidedFacts {
    pub(super) revision: Option<u64>,
    pub(super) now: String,
    pub(super) client: Option<IpAddr>,
    pub(super) method: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    pub(super) service: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) application: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) credential: Option<Credential>,
    pub(super) signature: String,
    pub(super) replay: Option<Replay>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ProvenCredential")]
pub(super) struct Credential {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) proof: String,
    pub(super) secret_version: u16,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ReplayAnswer")]
pub(super) enum Replay {
    Fresh,
    Seen,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HeaderEdit")]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Strip {
    pub(super) r#in: Where,
    pub(super) name: String,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "StripPlace")]
pub(super) enum Where {
    Header,
    Parameter,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ObservedReason")]
pub(super) struct Observed {
    pub(super) reason: String,
    pub(super) reason_text: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Obligation")]
pub(super) struct Owed {
    pub(super) kind: Kind,
    pub(super) until: String,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ObligationKind")]
pub(super) enum Kind {
    Once,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Step {
    pub(super) check: String,
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "StepOutcome")]
pub(super) enum Outcome {
    Pass,
    Fail,
    Observed,
    Skip,
}

impl Explained {
    /// What the gate said.
    pub(crate) fn of(explanation: &Explanation) -> Explained {
        let decision = &explanation.decision;
        Explained::new(decision.verdict(), &decision.details(), &explanation.steps)
    }

    /// The verdict with its reason and the revision, in a few words.
    pub(crate) fn in_short(&self) -> String {
        let revision = self.facts.revision.unwrap_or_default();
        let reason = self.reason.as_deref().unwrap_or_default();
        match self.verdict {
            Word::Allow => format!("allow at revision {revision}"),
            Word::Deny => format!("deny {reason} at revision {revision}"),
            Word::NeedBody => format!("the body would be needed at revision {revision}"),
        }
    }

    pub(super) fn new(verdict: Verdict, details: &Details<'_>, steps: &[Taken]) -> Explained {
        let (word, reason, need_body) = match verdict {
            Verdict::Allow => (Word::Allow, None, None),
            Verdict::Deny(reason) => (Word::Deny, Some(reason), None),
            Verdict::NeedBody(need) => {
                let algorithm = match need.algorithm {
                    DigestAlgorithm::Sha256 => Algorithm::Sha256,
                    DigestAlgorithm::Sha512 => Algorithm::Sha512,
                };
                (Word::NeedBody, None, Some(NeedBody { algorithm, cap_bytes: need.cap_bytes }))
            }
        };
        // Only an allow edits a request.
        let edits = Some(details).filter(|_| verdict == Verdict::Allow);
        let header = |(name, value): (&str, &str)| Header { name: name.to_owned(), value: value.to_owned() };
        Explained {
            verdict: word,
            status: reason.map(Reason::status),
            code: reason.map(|reason| reason.public_code().as_str().to_owned()),
            reason: reason.map(|reason| reason.name().to_owned()),
            reason_text: reason.map(|reason| reason.text().to_owned()),
            need_body,
            facts: DecidedFacts::of(&details.facts),
            set_headers: edits.into_iter().flat_map(Details::headers_to_set).map(header).collect(),
            strip: edits.and_then(|details| details.strip).map(Strip::of),
            observed: details.observed.iter().map(|reason| Observed::of(*reason)).collect(),
            obligations: details
                .obligations
                .iter()
                .map(|Obligation::Once { until, .. }| Owed { kind: Kind::Once, until: until.to_string() })
                .collect(),
            challenge: known(details.challenge),
            steps: steps.iter().map(Step::of).collect(),
        }
    }
}

impl DecidedFacts {
    /// The facts of a decision.
    pub(crate) fn of(facts: &Facts<'_>) -> DecidedFacts {
        DecidedFacts {
            revision: Some(facts.revision.0),
            now: facts.now.to_string(),
            // The gate says `::` where it refused the request before it came to the client.
            client: Some(facts.client).filter(|client| !client.is_unspecified()),
            method: known(facts.method),
            host: known(facts.host),
            path: known(facts.path),
            service: known(facts.service),
            endpoint: known(facts.endpoint),
            application: known(facts.application),
            tenant: known(facts.tenant),
            credential: facts.credential.map(|credential| Credential {
                id: credential.id.to_owned(),
                kind: credential.kind.as_str().to_owned(),
                proof: credential.proof.as_str().to_owned(),
                secret_version: credential.secret_version,
            }),
            signature: facts.signature.as_str().to_owned(),
            replay: facts.replay.map(|replay| match replay {
                ReplayAnswer::Fresh => Replay::Fresh,
                ReplayAnswer::Seen => Replay::Seen,
            }),
        }
    }
}

impl Strip {
    fn of(place: Place<'_>) -> Strip {
        match place {
            Place::Header(name) => Strip { r#in: Where::Header, name: name.to_owned() },
            Place::Parameter(name) => Strip { r#in: Where::Parameter, name: name.to_owned() },
            Place::Presigned(vendor) => Strip { r#in: Where::Parameter, name: format!("X-{vendor}-*") },
        }
    }
}

impl Observed {
    fn of(reason: Reason) -> Observed {
        Observed { reason: reason.name().to_owned(), reason_text: reason.text().to_owned() }
    }
}

impl Step {
    fn of(taken: &Taken) -> Step {
        let outcome = match taken.outcome {
            Found::Pass => Outcome::Pass,
            Found::Fail => Outcome::Fail,
            Found::Observed => Outcome::Observed,
            Found::Skip => Outcome::Skip,
        };
        Step { check: taken.check.clone(), outcome, detail: taken.detail.clone() }
    }
}

/// Facts are empty where they are not known.
fn known(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}
