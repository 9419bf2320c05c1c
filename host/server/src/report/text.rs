//! A report for people.

use std::fmt::{self, Write as _};

use anstyle::{AnsiColor, Style};
use portcullis_model::answer::RESERVED_HEADER_PREFIX;

use super::explained::{
    Algorithm, Credential, DecidedFacts, Explained, Header, Kind, Outcome, Step, Strip, Where, Word,
};
use crate::output::Visible;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const NOTED: Style = AnsiColor::Yellow.on_default();
const FAINT: Style = Style::new().dimmed();
const TITLE: Style = Style::new().bold();

/// The report as text with colours, which are taken out again where nobody would see them.
pub(super) fn write(report: &Explained) -> String {
    let mut page = Page::default();
    page.verdict(report);
    page.steps(&report.steps);
    page.facts(&report.facts);
    page.edits(report);
    let observed = report.observed.iter().map(|observed| (observed.reason.as_str(), observed.reason_text.clone()));
    page.table("Observed, not enforced", observed.collect());
    let obligations = report.obligations.iter().map(|owed| match owed.kind {
        Kind::Once => {
            let until = &owed.until;
            ("once", format!("counts only if the request was not seen before; remembered until {until}"))
        }
    });
    page.table("Obligations", obligations.collect());
    page.table("Challenge", report.challenge.iter().map(|value| ("WWW-Authenticate", value.clone())).collect());
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn verdict(&mut self, report: &Explained) {
        match report.verdict {
            Word::Allow => self.line(format_args!("{0}ALLOW{0:#}", GOOD.bold())),
            Word::Deny => {
                let status = report.status.unwrap_or_default();
                let [code, reason, text] = [&report.code, &report.reason, &report.reason_text]
                    .map(|text| Visible(text.as_deref().unwrap_or_default()));
                self.line(format_args!("{0}DENY{0:#} {status} {code} ({reason})", BAD.bold()));
                self.line(format_args!("{text}"));
            }
            Word::NeedBody => {
                let algorithm = match report.need_body.as_ref().map(|need| need.algorithm) {
                    Some(Algorithm::Sha256) => " SHA-256",
                    Some(Algorithm::Sha512) => " SHA-512",
                    None => "",
                };
                self.line(format_args!("{0}NEED-BODY{0:#}{algorithm}", NOTED.bold()));
                let cap = report.need_body.as_ref().map(|need| need.cap_bytes).unwrap_or_default();
                self.line(format_args!(
                    "everything but the body has passed; a body of more than {cap} bytes is refused"
                ));
            }
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        self.title("Steps");
        let width = steps.iter().map(|step| step.check.len()).max().unwrap_or_default();
        for step in steps {
            let (style, outcome) = match step.outcome {
                Outcome::Pass => (GOOD, "pass"),
                Outcome::Fail => (BAD, "fail"),
                Outcome::Observed => (NOTED, "observed"),
                Outcome::Skip => (FAINT, "skip"),
            };
            let check = Visible(&step.check);
            let pad = width.saturating_sub(step.check.len());
            // What a signature was made over has lines of its own, to be compared with the client's.
            let mut lines = step.detail.split('\n').map(Visible);
            let detail = lines.next().unwrap_or(Visible(""));
            self.line(format_args!("  {style}{outcome:8}{style:#}  {check}{:pad$}  {detail}", ""));
            for line in lines {
                self.line(format_args!("  {:8}  {FAINT}|{FAINT:#} {line}", ""));
            }
        }
    }

    fn facts(&mut self, facts: &DecidedFacts) {
        let credential = facts.credential.as_ref().map(|credential| {
            let Credential { id, kind, proof, secret_version } = credential;
            format!("{id}, a {kind} key, version {secret_version}, proven by its {proof}")
        });
        let rows = [
            ("tenant", facts.tenant.clone()),
            ("credential", credential),
            ("service", facts.service.clone()),
            ("endpoint", facts.endpoint.clone()),
            ("application", facts.application.clone()),
            ("client", facts.client.map(|client| client.to_string())),
            ("time", Some(facts.now.clone())),
            ("revision", facts.revision.map(|revision| revision.to_string())),
        ];
        self.table("Facts", rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect());
    }

    fn edits(&mut self, report: &Explained) {
        if report.verdict != Word::Allow {
            return;
        }
        let mut rows = vec![("drop", format!("every header field that begins with {RESERVED_HEADER_PREFIX}"))];
        rows.extend(report.set_headers.iter().map(|Header { name, value }| ("set", format!("{name}: {value}"))));
        rows.extend(report.strip.iter().map(|Strip { r#in, name }| {
            let place = match r#in {
                Where::Header => format!("the header field {name}"),
                Where::Parameter => format!("the query parameter {name}"),
            };
            ("strip", place)
        }));
        self.table("Edits", rows);
    }

    fn title(&mut self, title: &str) {
        self.line(format_args!("\n{TITLE}{title}{TITLE:#}"));
    }

    /// Rows of a name and a value, aligned; nothing where there are none.
    fn table(&mut self, title: &str, rows: Vec<(&str, String)>) {
        if rows.is_empty() {
            return;
        }
        self.title(title);
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in rows {
            let pad = width.saturating_sub(name.len());
            self.line(format_args!("  {}{:pad$}  {}", Visible(name), "", Visible(&value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::answer::{Details, Obligation, Place};
    use portcullis_model::facts::Facts;
    use portcullis_model::id::Revision;
    use portcullis_model::time::UnixTime;
    use portcullis_model::verdict::{DigestAlgorithm, NeedBody, Reason, Verdict};

    use super::*;

    fn written(verdict: Verdict, details: Details<'_>) -> String {
        let json = serde_json::to_string(&Explained::new(verdict, &details, &[])).unwrap();
        // As it comes from a server.
        anstream::adapter::strip_str(&write(&serde_json::from_str(&json).unwrap())).to_string()
    }

    #[test]
    fn what_has_no_other_way_into_a_check_yet_is_shown_too() {
        let now = UnixTime::from_secs(1_800_000_000).unwrap();
        let facts = Facts { path: "/", ..Facts::unknown(Revision(1), now, "192.0.2.1".parse().unwrap()) };
        let need = NeedBody { algorithm: DigestAlgorithm::Sha256, cap_bytes: 1024 };
        let text = written(Verdict::NeedBody(need), Details::of(facts));
        assert!(text.starts_with("NEED-BODY SHA-256\neverything but the body has passed"), "{text}");

        let details = Details {
            observed: vec![Reason::SignatureRequired],
            obligations: vec![Obligation::Once { key: [7; 32], until: now }],
            strip: Some(Place::Parameter("api_key")),
            ..Details::of(facts)
        };
        let text = written(Verdict::Allow, details);
        for line in
            ["  signature-required  the endpoint", "  once  counts only", "  strip  the query parameter api_key"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
