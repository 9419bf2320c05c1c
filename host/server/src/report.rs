//! A verdict explained: what is shown of it, and in which form.

mod explained;
mod text;

use std::net::IpAddr;

use portcullis_engine::{Outcome, Step};
use portcullis_model::answer::Details;
use portcullis_model::facts::Facts;
use portcullis_model::head::HeadTooLarge;
use portcullis_model::id::Revision;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{DigestAlgorithm, Reason, Verdict};

pub(crate) use self::explained::{DecidedFacts, Explained};

use self::explained::{Algorithm, Word};
use crate::error::Error;
use crate::{Exit, output};

/// How a report is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Explained {
    /// What a server answers for a head that is too large to be handed to the gate. At which revision is not known where
    /// the policy is somewhere else.
    pub(crate) fn too_large(
        limit: HeadTooLarge,
        revision: Option<Revision>,
        now: UnixTime,
        client: IpAddr,
    ) -> Explained {
        let step = Step { check: "request".to_owned(), outcome: Outcome::Fail, detail: limit.to_string() };
        let details = Details::of(Facts::unknown(revision.unwrap_or_default(), now, client));
        let mut explained = Explained::new(Verdict::Deny(Reason::from(limit)), &details, &[step]);
        explained.facts.revision = revision.map(|revision| revision.0);
        explained
    }

    /// Writes the report to standard output.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn print(&self, form: Form) -> Result<(), Error> {
        match form {
            Form::Text => output::say(&text::write(self)),
            Form::Json => output::say_json(self),
        }
    }

    /// The digest of the body that the verdict waits for.
    pub(crate) fn needed(&self) -> Option<DigestAlgorithm> {
        self.need_body.as_ref().map(|need| match need.algorithm {
            Algorithm::Sha256 => DigestAlgorithm::Sha256,
            Algorithm::Sha512 => DigestAlgorithm::Sha512,
        })
    }

    /// How a check of the request ends.
    pub(crate) fn exit(&self) -> Exit {
        match self.verdict {
            Word::Allow => Exit::Success,
            Word::Deny | Word::NeedBody => Exit::Denied,
        }
    }
}
