//! A report for people.

use std::fmt::{self, Write as _};

use anstyle::{AnsiColor, Style};
use portcullis_engine::Outcome;
use portcullis_model::answer::{Obligation, Place, RESERVED_HEADER_PREFIX};
use portcullis_model::verdict::{DigestAlgorithm, Verdict};

use super::{Report, known_client, outcome};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const NOTED: Style = AnsiColor::Yellow.on_default();
const FAINT: Style = Style::new().dimmed();
const TITLE: Style = Style::new().bold();

/// The report as text with colours, which are taken out again where nobody would see them.
pub(super) fn write(report: &Report<'_>) -> String {
    let mut page = Page::default();
    page.verdict(report.verdict);
    page.steps(report);
    page.facts(report);
    page.edits(report);
    let observed = report.details.observed.iter().map(|reason| (reason.name(), reason.text().to_owned()));
    page.table("Observed, not enforced", observed.collect());
    let obligations = report.details.obligations.iter().map(|Obligation::Once { until, .. }| {
        ("once", format!("counts only if the request was not seen before; remembered until {until}"))
    });
    page.table("Obligations", obligations.collect());
    let challenge = Some(report.details.challenge).filter(|challenge| !challenge.is_empty());
    page.table("Challenge", challenge.map(|value| ("WWW-Authenticate", value.to_owned())).into_iter().collect());
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

    fn verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Allow => self.line(format_args!("{0}ALLOW{0:#}", GOOD.bold())),
            Verdict::Deny(reason) => {
                let (status, code) = (reason.status(), reason.public_code());
                self.line(format_args!("{0}DENY{0:#} {status} {code} ({reason})", BAD.bold()));
                self.line(format_args!("{}", reason.text()));
            }
            Verdict::NeedBody(need) => {
                let algorithm = match need.algorithm {
                    DigestAlgorithm::Sha256 => "SHA-256",
                    DigestAlgorithm::Sha512 => "SHA-512",
                };
                self.line(format_args!("{0}NEED-BODY{0:#} {algorithm}", NOTED.bold()));
                let cap = need.cap_bytes;
                self.line(format_args!(
                    "everything but the body has passed; a body of more than {cap} bytes is refused"
                ));
            }
        }
    }

    fn steps(&mut self, report: &Report<'_>) {
        self.title("Steps");
        let width = report.steps.iter().map(|step| step.check.len()).max().unwrap_or_default();
        for step in &report.steps {
            let style = match step.outcome {
                Outcome::Pass => GOOD,
                Outcome::Fail => BAD,
                Outcome::Observed => NOTED,
                Outcome::Skip => FAINT,
            };
            let (check, detail) = (Visible(&step.check), Visible(&step.detail));
            let outcome = outcome(step.outcome);
            let pad = width.saturating_sub(step.check.len());
            self.line(format_args!("  {style}{outcome:8}{style:#}  {check}{:pad$}  {detail}", ""));
        }
    }

    fn facts(&mut self, report: &Report<'_>) {
        let facts = &report.details.facts;
        let credential = facts.credential.map(|credential| {
            let (id, kind, proof) = (credential.id, credential.kind, credential.proof.as_str());
            format!("{id}, a {kind} key, version {}, proven by its {proof}", credential.secret_version)
        });
        let known = |name, value: &str| (name, value.to_owned());
        let rows = vec![
            known("tenant", facts.tenant),
            known("credential", credential.as_deref().unwrap_or_default()),
            known("service", facts.service),
            known("endpoint", facts.endpoint),
            known("application", facts.application),
            known("client", &known_client(facts).map(|client| client.to_string()).unwrap_or_default()),
            known("time", &facts.now.to_string()),
            known("revision", &facts.revision.to_string()),
        ];
        self.table("Facts", rows.into_iter().filter(|(_, value)| !value.is_empty()).collect());
    }

    fn edits(&mut self, report: &Report<'_>) {
        if !report.edits() {
            return;
        }
        let mut rows = vec![("drop", format!("every header field that begins with {RESERVED_HEADER_PREFIX}"))];
        rows.extend(report.details.headers_to_set().map(|(name, value)| ("set", format!("{name}: {value}"))));
        rows.extend(report.details.strip.map(|place| {
            let place = match place {
                Place::Header(name) => format!("the header field {name}"),
                Place::Parameter(name) => format!("the query parameter {name}"),
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
            self.line(format_args!("  {name:width$}  {}", Visible(&value)));
        }
    }
}

/// Text of which a terminal sees no control character, wherever it came from.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| f.write_char(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }))
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::answer::Details;
    use portcullis_model::facts::Facts;
    use portcullis_model::id::Revision;
    use portcullis_model::time::UnixTime;
    use portcullis_model::verdict::{NeedBody, Reason};

    use super::*;

    fn written(verdict: Verdict, details: Details<'_>) -> String {
        anstream::adapter::strip_str(&write(&Report { verdict, details, steps: Vec::new() })).to_string()
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

    #[test]
    fn no_control_character_reaches_a_terminal() {
        assert_eq!(Visible("a\u{1b}[31m\nb\u{9b}").to_string(), "a\u{fffd}[31m\u{fffd}b\u{fffd}");
    }
}
