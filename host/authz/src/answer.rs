//! What every dialect says, whatever it says it in: the edits of an allow and the document of a denial.

use http::StatusCode;
use portcullis_model::answer::{Place, RESERVED_HEADER_PREFIX};
use portcullis_model::problem;
use portcullis_tower::enforce::{Denial, Permit};

use crate::gate::Original;

/// The edits that make of a permitted request the one that the upstream gets.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Edits {
    /// Fields to set, each in place of every field of its name that came.
    pub(crate) set: Vec<(&'static str, String)>,
    /// Fields to take out, none of which is set.
    pub(crate) remove: Vec<String>,
    /// The target without the credential, where it is not the one that came.
    pub(crate) target: Option<String>,
    /// The header field that the credential stands in.
    pub(crate) credential: Option<String>,
}

impl Edits {
    pub(crate) fn of(permit: &Permit, original: &Original<'_>) -> Edits {
        let details = permit.details();
        let set: Vec<(&'static str, String)> =
            details.headers_to_set().map(|(name, value)| (name, value.to_owned())).collect();
        let is_set = |name: &str| set.iter().any(|(known, _)| *known == name);
        let (mut remove, mut target, mut credential) = (Vec::new(), None, None);
        match details.strip {
            Some(Place::Header(name)) => {
                remove.push(name.to_ascii_lowercase());
                credential = Some(name.to_ascii_lowercase());
            }
            Some(place @ (Place::Parameter(_) | Place::Presigned(_))) => {
                // What the gate accepts is ASCII.
                target = std::str::from_utf8(original.target).ok().and_then(|target| place.cut_from(target));
            }
            None => {}
        }
        for (name, _) in &original.fields {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            if name.starts_with(RESERVED_HEADER_PREFIX) && !is_set(name) && !remove.iter().any(|known| known == name) {
                remove.push(name.to_owned());
            }
        }
        Edits { set, remove, target, credential }
    }
}

/// A denial as callers are told of it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) document: String,
}

impl Told {
    pub(crate) fn of(denial: &Denial, decision: &str) -> Told {
        let (status, code) = (denial.status(), denial.code());
        let title = status.canonical_reason().unwrap_or("Error");
        let document = problem::document(status.as_u16(), title, code, decision, "");
        let mut fields = vec![
            ("content-type", problem::MEDIA_TYPE.to_owned()),
            ("cache-control", "no-store".to_owned()),
            (problem::DECISION_HEADER, decision.to_owned()),
        ];
        if !denial.challenge().is_empty() {
            fields.push(("www-authenticate", denial.challenge().to_owned()));
        }
        Told { status, code, fields, document }
    }
}
