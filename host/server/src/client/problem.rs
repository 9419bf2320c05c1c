//! What the server says where it does not do what was asked: problem details (RFC 9457).

use std::fmt;

use http::StatusCode;
use serde::Deserialize;

use crate::output::Visible;

/// A problem, as the admin API and the gate before it write them.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    said: Box<Said>,
}

#[derive(Deserialize, Debug)]
struct Said {
    code: String,
    /// What it says in words.
    detail: Option<String>,
    #[serde(default)]
    faults: Vec<Fault>,
    /// The gate's decision.
    decision: Option<String>,
}

#[derive(Deserialize, Debug)]
struct Fault {
    field: String,
    detail: String,
}

impl Problem {
    /// Reads the body of an answer, which is no problem where it is not one of ours.
    pub(super) fn read(status: StatusCode, body: &[u8]) -> Option<Problem> {
        serde_json::from_slice(body).ok().map(|said| Problem { status, said })
    }

    /// Whether there is no such record.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// Whether the caller may not look at the record.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }

    /// What is wrong with fields, as `(field, what)`.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&str, &str)> {
        self.said.faults.iter().map(|fault| (fault.field.as_str(), fault.detail.as_str()))
    }

    /// What would happen, where the call was not done because nobody confirmed it.
    pub(crate) fn consequence(&self) -> Option<&str> {
        let detail = self.said.detail.as_deref().filter(|_| self.said.code == "confirmation_required")?;
        // What follows is how a program confirms.
        Some(detail.split_once(": confirm it with").map_or(detail, |(consequence, _)| consequence))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Said { code, detail, faults, decision } = &*self.said;
        if !faults.is_empty() {
            let count = faults.len();
            write!(f, "{count} {} wrong, nothing was changed", if count == 1 { "field is" } else { "fields are" })?;
            return faults.iter().try_for_each(|Fault { field, detail }| match field.as_str() {
                "" => write!(f, "\n  {}", Visible(detail)),
                field => write!(f, "\n  {}: {}", Visible(field), Visible(detail)),
            });
        }
        if let Some(detail) = detail {
            return Visible(detail).fmt(f);
        }
        write!(f, "the server answered {} ({})", self.status, Visible(code))?;
        match decision {
            Some(id) => write!(f, ": `portcullis decision show {}` tells a superuser why", Visible(id)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: u16, body: &str) -> String {
        Problem::read(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn a_problem_is_told_in_the_servers_words() {
        let body = r#"{"type":"about:blank","code":"not_found","detail":"there is no tenant `a`\u001b[2J"}"#;
        assert_eq!(shown(404, body), "there is no tenant `a`\u{fffd}[2J");
        let body = r#"{"code":"invalid","detail":"`a`: b; c","faults":[{"field":"a","detail":"b"},{"field":"","detail":"c"}]}"#;
        assert_eq!(shown(422, body), "2 fields are wrong, nothing was changed\n  a: b\n  c");
        let body = r#"{"code":"forbidden","decision":"01hzzzzzzzzzz"}"#;
        let why = "`portcullis decision show 01hzzzzzzzzzz` tells a superuser why";
        assert_eq!(shown(403, body), format!("the server answered 403 Forbidden (forbidden): {why}"));
        assert!(Problem::read(StatusCode::NOT_FOUND, b"<html>").is_none());
        assert!(Problem::read(StatusCode::NOT_FOUND, b"{}").is_none());
    }

    #[test]
    fn only_a_missing_confirmation_has_a_consequence() {
        let read = |code: &str| {
            let body =
                format!(r#"{{"code":"{code}","detail":"the key `k` is dead: confirm it with `\"confirm\": true`"}}"#);
            Problem::read(StatusCode::CONFLICT, body.as_bytes()).unwrap()
        };
        assert_eq!(read("confirmation_required").consequence(), Some("the key `k` is dead"));
        assert_eq!(read("exists").consequence(), None);
    }
}
