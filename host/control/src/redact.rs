//! What is taken out of a failed call before it is kept.
//!
//! A call goes through twice. First every value is gathered that stands where secrets stand: in the fields that carry
//! credentials, and under names such as `password`. Then the call is written down, each of these values taken out wherever it
//! occurs, with it whatever has the shape of a key or a token and what the tenant wants out. What cannot be read as JSON or
//! as a form is kept as its length and its digest: nobody can say what is in it.

use std::borrow::Cow;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use portcullis_store::{ErrorLogSettings, NewErrorEntry};
use regex::{Captures, Regex, RegexBuilder};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::error_log::ErrorLogRules;

/// The most bytes of a body that are looked at and kept. A body of one byte more is kept as its length and a digest, because
/// the half of a document does not tell where its secrets end.
pub const MAX_KEPT_BODY_BYTES: usize = 16 * 1024;
/// How many bytes of failed calls a tenant may have, proven ones and those of strangers each.
const MAX_TENANT_BYTES: u64 = 8 << 20;
/// The longest value of a header field that is kept, in characters.
const MAX_FIELD_CHARS: usize = 1024;
/// The most secrets of one call that are looked for elsewhere in it. Where there are more, its bodies are not kept.
const MAX_SECRETS: usize = 256;
/// A secret that is shorter is taken out where it stands, and not wherever its characters occur.
const MIN_SECRET_CHARS: usize = 4;
/// How deep JSON within texts of JSON is read.
const MAX_NESTED: usize = 3;
/// The most memory of one compiled pattern in bytes.
const PATTERN_BYTES: usize = 1 << 18;

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

/// Header fields whose values are always taken out, besides those whose names say what they hold.
const HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];
/// Whatever contains one of these, letters and digits alone and in lower case, names a secret.
const NAME_PARTS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "privatekey",
    "accesskey",
];
/// Names of secrets that are parts of harmless words.
const NAMES: [&str; 11] = ["pwd", "pass", "pin", "otp", "auth", "jwt", "session", "sessionid", "sid", "cvv", "cvc"];

/// Keys of ours, tokens of the usual form (RFC 7519), and what follows a scheme of Authorization.
const SHAPES: &str = r"ptc_[0-9A-Za-z_-]{4,}|eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]*)?|(?i:\b(?:bearer|basic|managementkey-v1)\s+[0-9A-Za-z._~+/=-]{8,})";
/// A name before its value, as in a query, a cookie, a line of a log, or a piece of JSON that somebody quotes.
const NAMED: &str = r#"([0-9A-Za-z_.%\[\]-]{1,64})\\*["']?\s*[:=]\s*"#;
/// An element of XML with its text.
const ELEMENTS: &str = r"<([0-9A-Za-z_.:-]{1,64})((?:\s[^>]*)?>)([^<]+)";

/// A call that failed, as it was on the wire. It has no `Debug`: secrets are in it.
pub struct FailedCall {
    /// The id of the decision.
    pub decision: u64,
    /// When.
    pub at: UnixTime,
    /// The tenant; nothing for the installation's own.
    pub tenant: Option<Id>,
    /// Whether a proven credential named the tenant. Of what nobody has proven the heads alone are kept.
    pub proven: bool,
    /// The proven credential.
    pub credential: Option<String>,
    /// The endpoint, as `service/endpoint`.
    pub endpoint: Option<String>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Why it failed, in one word.
    pub reason: String,
    /// The status that the client got.
    pub status: u16,
    /// The method.
    pub method: Vec<u8>,
    /// Path and query.
    pub target: Vec<u8>,
    /// The request.
    pub request: WireMessage,
    /// The response.
    pub response: WireMessage,
}

/// Header fields and body.
pub struct WireMessage {
    /// The fields, in order.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body.
    pub body: WireBody,
}

/// What is there of a body.
pub enum WireBody {
    /// There is none.
    Empty,
    /// It was not looked at, for this reason.
    Unread(&'static str),
    /// Its beginning.
    Read {
        /// The first bytes, at most [`MAX_KEPT_BODY_BYTES`].
        bytes: Vec<u8>,
        /// How many bytes came.
        length: u64,
        /// Whether that was all of it.
        whole: bool,
    },
}

/// Why a text is no pattern.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("it is no regular expression: {0}")]
    Syntax(String),
    #[error("it is too large a regular expression: use fewer repetitions")]
    TooLarge,
    #[error("it matches the empty text, and so everywhere: let it match one character at least")]
    Empty,
}

/// A pattern of a tenant. Matching takes time in proportion to the text, whatever the pattern is.
pub(crate) fn pattern(text: &str) -> Result<Regex, PatternError> {
    let compiled =
        RegexBuilder::new(text).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).nest_limit(32).build();
    let regex = compiled.map_err(|error| {
        if let regex::Error::CompiledTooBig(_) = error {
            return PatternError::TooLarge;
        }
        // The last line says what; those before draw the place.
        let text = error.to_string();
        PatternError::Syntax(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })?;
    if regex.is_match("") { Err(PatternError::Empty) } else { Ok(regex) }
}

/// Takes secrets out of the calls of one tenant.
pub struct Redactor {
    settings: ErrorLogSettings,
    /// Lower case.
    headers: Vec<String>,
    /// Letters and digits alone, lower case.
    fields: Vec<String>,
    patterns: Vec<Regex>,
    shapes: Regex,
    named: Regex,
    elements: Regex,
}

impl Redactor {
    /// For a tenant, or for what is the installation's own.
    #[must_use]
    pub fn new(rules: &ErrorLogRules, tenant: Option<&Id>) -> Redactor {
        let settings = rules.settings(tenant.map(Id::as_str)).clone();
        let redact = &settings.redact;
        let lower = |name: &String| name.to_ascii_lowercase();
        let headers = redact.headers.iter().chain(rules.headers()).map(lower).collect();
        let fields = redact.fields.iter().chain(rules.parameters()).map(|name| bare(name)).collect();
        let compiled: Result<Vec<Regex>, PatternError> = redact.patterns.iter().map(|text| pattern(text)).collect();
        // Patterns are checked when they are set. Were one wrong all the same, everything is taken out.
        let patterns = compiled.unwrap_or_else(|_| vec![ours("(?s).+")]);
        Redactor {
            headers,
            fields,
            patterns,
            shapes: ours(SHAPES),
            named: ours(NAMED),
            elements: ours(ELEMENTS),
            settings,
        }
    }

    /// The call as it is kept.
    #[must_use]
    pub fn entry(&self, call: FailedCall) -> NewErrorEntry {
        let request = self.body(&call.request, call.proven);
        let response = self.body(&call.response, call.proven);
        let target = String::from_utf8_lossy(&call.target);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut secrets = Secrets::default();
        self.gather_query(query, &mut secrets);
        for (message, body) in [(&call.request, &request), (&call.response, &response)] {
            self.gather_fields(&message.fields, &mut secrets);
            self.gather_body(body, &mut secrets);
        }
        let secrets = secrets.in_order();
        let is_too_much = secrets.len() > MAX_SECRETS;
        let bodies = [(&call.request, request), (&call.response, response)].map(|(message, body)| {
            let is_document = matches!(body, Body::Json(_) | Body::Form(_));
            if is_document && is_too_much {
                digest_of(&message.body)
            } else {
                self.written_body(body, &message.body, &secrets)
            }
        });
        let [request_body, response_body] = bodies;
        let text = json!({
            "request": {
                "method": self.scrub(&String::from_utf8_lossy(&call.method), &secrets),
                "path": self.path(path, &secrets),
                "query": self.written_pairs(&pairs(query.as_bytes()), &secrets),
                "headers": self.written_fields(&call.request.fields, &secrets),
                "body": request_body,
            },
            "response": {
                "status": call.status,
                "headers": self.written_fields(&call.response.fields, &secrets),
                "body": response_body,
            },
            "client": call.client,
        });
        NewErrorEntry {
            tenant: call.tenant,
            proven: call.proven,
            decision: call.decision,
            at: call.at,
            credential: call.credential,
            endpoint: call.endpoint,
            reason: call.reason,
            status: call.status,
            call: text.to_string(),
            max_entries: self.settings.max_entries,
            max_bytes: MAX_TENANT_BYTES,
        }
    }

    fn names_secret_field(&self, name: &str) -> bool {
        let name = bare(name);
        NAME_PARTS.iter().any(|part| name.contains(part))
            || NAMES.contains(&name.as_str())
            || self.fields.contains(&name)
    }

    fn names_secret_header(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        HEADERS.contains(&name.as_str()) || self.headers.contains(&name) || self.names_secret_field(&name)
    }

    fn gather_fields(&self, fields: &[(Vec<u8>, Vec<u8>)], secrets: &mut Secrets) {
        for (name, value) in fields {
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else { continue };
            if !self.names_secret_header(name) {
                continue;
            }
            secrets.add(value);
            // What follows a scheme, and what cookies hold.
            secrets.add(value.split_once(' ').map_or("", |(_, rest)| rest).trim());
            for cookie in value.split(';') {
                secrets.add(cookie.split_once('=').map_or("", |(_, value)| value).trim());
            }
        }
    }

    fn gather_query(&self, query: &str, secrets: &mut Secrets) {
        for parameter in query.split('&') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            if self.names_secret_field(&percent_decode_str(name).decode_utf8_lossy()) {
                secrets.add(value);
            }
        }
        self.gather_pairs(&pairs(query.as_bytes()), secrets);
    }

    fn gather_pairs(&self, pairs: &[(String, String)], secrets: &mut Secrets) {
        for (_, value) in pairs.iter().filter(|(name, _)| self.names_secret_field(name)) {
            secrets.add(value);
        }
    }

    fn gather_body(&self, body: &Body, secrets: &mut Secrets) {
        match body {
            Body::Json(value) => self.gather_json(value, false, secrets),
            Body::Form(pairs) => self.gather_pairs(pairs, secrets),
            Body::Empty | Body::Digest | Body::Unread(_) => {}
        }
    }

    fn gather_json(&self, value: &Value, is_secret: bool, secrets: &mut Secrets) {
        match value {
            Value::String(text) if is_secret => secrets.add(text),
            Value::Number(number) if is_secret => secrets.add(&number.to_string()),
            Value::Array(items) => items.iter().for_each(|item| self.gather_json(item, is_secret, secrets)),
            Value::Object(fields) => {
                let named = self.names_secret_pair(fields);
                for (name, value) in fields {
                    let is_secret = is_secret || self.names_secret_field(name) || (named && name == "value");
                    self.gather_json(value, is_secret, secrets);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Whether an object is a pair such as `{"name": "password", "value": ..}`.
    fn names_secret_pair(&self, fields: &Map<String, Value>) -> bool {
        let name = ["name", "key", "field"].iter().find_map(|name| fields.get(*name)?.as_str());
        fields.contains_key("value") && name.is_some_and(|name| self.names_secret_field(name))
    }

    /// A body as far as it can be read.
    fn body(&self, message: &WireMessage, proven: bool) -> Body {
        let (bytes, length, whole) = match &message.body {
            WireBody::Empty => return Body::Empty,
            WireBody::Unread(why) => return Body::Unread(why),
            WireBody::Read { .. } if !proven => return Body::Unread("nobody has proven who sent it"),
            WireBody::Read { bytes, length, whole } => (bytes, *length, *whole),
        };
        if bytes.is_empty() && whole {
            return Body::Empty;
        }
        if !whole || u64::try_from(bytes.len()) != Ok(length) {
            return Body::Digest;
        }
        if is_form(&message.fields) && std::str::from_utf8(bytes).is_ok() {
            return Body::Form(pairs(bytes));
        }
        match serde_json::from_slice(bytes) {
            // A value by itself has no name that would tell what it is.
            Ok(value @ (Value::Object(_) | Value::Array(_))) => Body::Json(value),
            Ok(_) | Err(_) => Body::Digest,
        }
    }

    fn written_body(&self, body: Body, wire: &WireBody, secrets: &[String]) -> Value {
        match body {
            Body::Empty => Value::Null,
            Body::Unread(why) => json!({ "not_kept": why }),
            Body::Digest => digest_of(wire),
            Body::Json(value) => json!({ "json": self.written_json(value, secrets, 0) }),
            Body::Form(pairs) => json!({ "form": self.written_pairs(&pairs, secrets) }),
        }
    }

    fn written_json(&self, value: Value, secrets: &[String], depth: usize) -> Value {
        match value {
            Value::Null | Value::Bool(_) => value,
            Value::Number(number) => {
                let text = number.to_string();
                if self.scrub(&text, secrets) == text { Value::Number(number) } else { REDACTED.into() }
            }
            Value::String(text) => self.written_text(&text, secrets, depth).into(),
            Value::Array(items) => items.into_iter().map(|item| self.written_json(item, secrets, depth)).collect(),
            Value::Object(fields) => {
                let named = self.names_secret_pair(&fields);
                let written = fields.into_iter().map(|(name, value)| {
                    let is_secret = self.names_secret_field(&name) || (named && name == "value");
                    let value = match is_secret && !value.is_null() {
                        true => REDACTED.into(),
                        false => self.written_json(value, secrets, depth),
                    };
                    (self.scrub(&name, secrets), value)
                });
                Value::Object(written.collect())
            }
        }
    }

    /// A text, which may itself be JSON.
    fn written_text(&self, text: &str, secrets: &[String], depth: usize) -> String {
        let is_document = matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'['));
        if is_document && let Ok(inner) = serde_json::from_str::<Value>(text) {
            return match depth < MAX_NESTED {
                true => self.written_json(inner, secrets, depth + 1).to_string(),
                false => REDACTED.to_owned(),
            };
        }
        self.scrub(text, secrets)
    }

    fn written_fields(&self, fields: &[(Vec<u8>, Vec<u8>)], secrets: &[String]) -> Vec<Value> {
        let written = |(name, value): &(Vec<u8>, Vec<u8>)| {
            let name = String::from_utf8_lossy(name);
            let value = match std::str::from_utf8(value) {
                Ok(_) if self.names_secret_header(&name) => REDACTED.to_owned(),
                Ok(value) => cut(self.written_text(value, secrets, 0)),
                Err(_) => format!("[{} bytes that are no text]", value.len()),
            };
            json!({ "name": self.scrub(&name, secrets), "value": value })
        };
        fields.iter().map(written).collect()
    }

    fn written_pairs(&self, pairs: &[(String, String)], secrets: &[String]) -> Vec<Value> {
        let written = |(name, value): &(String, String)| {
            let value = match self.names_secret_field(name) {
                true => REDACTED.to_owned(),
                false => self.written_text(value, secrets, 0),
            };
            json!({ "name": self.scrub(name, secrets), "value": value })
        };
        pairs.iter().map(written).collect()
    }

    /// The path, segment by segment: an encoded secret goes with its whole segment.
    fn path(&self, path: &str, secrets: &[String]) -> String {
        let written = path.split('/').map(|segment| {
            let decoded = percent_decode_str(segment).decode_utf8_lossy();
            if self.scrub(&decoded, secrets) == decoded { Cow::Borrowed(segment) } else { Cow::Borrowed(REDACTED) }
        });
        let segments: Vec<Cow<'_, str>> = written.collect();
        self.scrub(&segments.join("/"), secrets)
    }

    /// A text without secrets.
    fn scrub(&self, text: &str, secrets: &[String]) -> String {
        let mut text = Cow::Borrowed(text);
        let literals = self.settings.redact.values.iter().filter(|value| !value.is_empty());
        for secret in secrets.iter().chain(literals) {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), REDACTED));
            }
        }
        for pattern in std::iter::once(&self.shapes).chain(&self.patterns) {
            if let Cow::Owned(without) = pattern.replace_all(&text, REDACTED) {
                text = Cow::Owned(without);
            }
        }
        let element = |found: &Captures<'_>| {
            let part = |number: usize| found.get(number).map_or("", |part| part.as_str());
            match self.names_secret_field(part(1)) {
                true => format!("<{}{}{REDACTED}", part(1), part(2)),
                false => part(0).to_owned(),
            }
        };
        if let Cow::Owned(without) = self.elements.replace_all(&text, element) {
            text = Cow::Owned(without);
        }
        self.without_named(&text).unwrap_or_else(|| text.into_owned())
    }

    /// A text without what stands behind names of secrets, or nothing where there is none.
    ///
    /// Where a quoted value ends, nobody knows who does not know how often it was quoted: all that follows belongs to it.
    fn without_named(&self, text: &str) -> Option<String> {
        let mut without = String::new();
        let (mut written, mut at) = (0, 0);
        while let Some(found) = self.named.captures_at(text, at) {
            let (whole, name) = (found.get(0)?, found.get(1)?);
            at = whole.end();
            if !self.names_secret_field(&percent_decode_str(name.as_str()).decode_utf8_lossy()) {
                continue;
            }
            let rest = text.get(at..)?;
            let end = if rest.trim_start_matches('\\').starts_with(['"', '\'']) {
                None
            } else if whole.as_str().contains(':') {
                rest.find(['\r', '\n'])
            } else {
                rest.find(|character: char| character.is_whitespace() || "&;,\"'<>".contains(character))
            };
            let end = end.unwrap_or(rest.len());
            if end > 0 {
                without.push_str(text.get(written..at)?);
                without.push_str(REDACTED);
                at += end;
                written = at;
            }
        }
        if written == 0 {
            return None;
        }
        without.push_str(text.get(written..)?);
        Some(without)
    }
}

/// A body as far as it can be read.
enum Body {
    Empty,
    Unread(&'static str),
    Digest,
    Json(Value),
    Form(Vec<(String, String)>),
}

/// The secrets of one call.
#[derive(Default)]
struct Secrets(std::collections::BTreeSet<String>);

impl Secrets {
    fn add(&mut self, secret: &str) {
        // One more than may be tells that there are too many.
        if secret.chars().count() >= MIN_SECRET_CHARS && self.0.len() <= MAX_SECRETS {
            self.0.insert(secret.to_owned());
        }
    }

    /// The longest first: one that is a part of another would leave the rest of it.
    fn in_order(self) -> Vec<String> {
        let mut secrets: Vec<String> = self.0.into_iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

/// A name's letters and digits in lower case.
fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|character| character.to_ascii_lowercase()).collect()
}

fn is_form(fields: &[(Vec<u8>, Vec<u8>)]) -> bool {
    fields.iter().any(|(name, value)| {
        let media = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"content-type") && media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    })
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

fn digest_of(body: &WireBody) -> Value {
    match body {
        WireBody::Empty => Value::Null,
        WireBody::Unread(why) => json!({ "not_kept": why }),
        WireBody::Read { bytes, length, whole } => {
            let sha256 = base16ct::lower::encode_string(&Sha256::digest(bytes));
            let is_all = *whole && u64::try_from(bytes.len()) == Ok(*length);
            match is_all {
                true => json!({ "length": length, "sha256": sha256 }),
                false => json!({ "length": length, "sha256_of_first": bytes.len(), "sha256": sha256, "whole": whole }),
            }
        }
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_FIELD_CHARS) {
        Some((at, _)) => format!("{}[cut]", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

#[expect(clippy::expect_used, reason = "constants of this file, held to be patterns by its tests")]
fn ours(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant")
}

#[cfg(test)]
mod tests {
    use portcullis_store::Redactions;

    use super::*;

    fn redactor(redact: Redactions) -> Redactor {
        let rules = ErrorLogRules::for_tenant("acme", ErrorLogSettings { redact, ..ErrorLogSettings::default() });
        Redactor::new(&rules, Some(&"acme".parse().unwrap()))
    }

    fn read(bytes: &[u8]) -> WireBody {
        let kept = &bytes[..bytes.len().min(MAX_KEPT_BODY_BYTES)];
        WireBody::Read { bytes: kept.to_vec(), length: bytes.len() as u64, whole: true }
    }

    fn message(fields: &[(&str, &str)], body: WireBody) -> WireMessage {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        WireMessage { fields: fields.collect(), body }
    }

    fn call(target: &str, request: WireMessage, response: WireMessage) -> FailedCall {
        FailedCall {
            decision: 1,
            at: UnixTime::default(),
            tenant: Some("acme".parse().unwrap()),
            proven: true,
            credential: None,
            endpoint: None,
            client: None,
            reason: "upstream-status".to_owned(),
            status: 500,
            method: b"POST".to_vec(),
            target: target.as_bytes().to_vec(),
            request,
            response,
        }
    }

    fn kept(redactor: &Redactor, call: FailedCall) -> Value {
        serde_json::from_str(&redactor.entry(call).call).unwrap()
    }

    fn nothing() -> WireMessage {
        message(&[], WireBody::Empty)
    }

    #[test]
    fn secrets_go_by_their_names_wherever_they_occur() {
        let json = br#"{"user":"ada","credentials":{"newPassword":"hunter22"},"list":[{"client-secret":12345678}],
            "pair":{"name":"otp","value":"998877"},"text":"{\"api_key\":\"inner-secret\"}","note":"it was hunter22"}"#;
        let fields = [
            ("authorization", "ManagementKey-v1 very-own-key"),
            ("cookie", "id=crumb-of-cookie; theme=dark"),
            ("x-auth-token", "tok-123456"),
            ("referer", "https://a.example/?access_token=from-referer&x=1"),
            ("user-agent", "curl very-own-key"),
        ];
        let echo = br#"{"error":"hunter22 and crumb-of-cookie and q%2Bsecret and q+secret","id":12345678}"#;
        let call = call(
            "/a/hunter22/b?api_key=q%2Bsecret&q=ptc_k3J9aQ2x_abcdefgh",
            message(&fields, read(json)),
            message(&[("location", "/x?token=from-location"), ("set-cookie", "s=session-value; Path=/")], read(echo)),
        );
        let entry = redactor(Redactions::default()).entry(call).call;
        for secret in [
            "hunter22",
            "12345678",
            "998877",
            "inner-secret",
            "very-own-key",
            "crumb-of-cookie",
            "tok-123456",
            "from-referer",
            "q%2Bsecret",
            "q+secret",
            "ptc_k3J9",
            "from-location",
            "session-value",
        ] {
            assert!(!entry.contains(secret), "{secret} in {entry}");
        }
        for harmless in ["ada", "curl", "https://a.example/", "x=1", "/x?token="] {
            assert!(entry.contains(harmless), "{harmless} in {entry}");
        }
    }

    #[test]
    fn what_an_upstream_quotes_of_a_body_that_nobody_could_read_is_taken_out() {
        let redactor = redactor(Redactions::default());
        let scrub = |text: &str| redactor.scrub(text, &[]);
        for (text, without) in [
            (r#"near {"user":"ada","password":"hunter\"22"}"#, r#"near {"user":"ada","password":[redacted]"#),
            (r#"near {\"pin\": \"1234\"}"#, r#"near {\"pin\": [redacted]"#),
            ("a token=abc&page=2 b", "a token=[redacted]&page=2 b"),
            ("Authorization: Basic YTpi\nnext: 1", "Authorization: [redacted]\nnext: 1"),
            ("<Password type='x'>hunter22</Password>", "<Password type='x'>[redacted]</Password>"),
            ("<user>ada</user> at 10:30, x=1", "<user>ada</user> at 10:30, x=1"),
            ("secret=", "secret="),
        ] {
            assert_eq!(scrub(text), without);
        }
    }

    #[test]
    fn a_tenants_own_redactions_are_added() {
        let redact = Redactions {
            fields: vec!["Iban".to_owned()],
            headers: vec!["X-Customer".to_owned()],
            values: vec!["ACME-".to_owned()],
            patterns: vec![r"\b\d{4}-\d{4}\b".to_owned()],
        };
        let body = read(br#"{"iban":"DE02","order":"ACME-77","card":"1234-5678","plain":"stays"}"#);
        let call = call("/a", message(&[("x-customer", "somebody")], body), nothing());
        let entry = kept(&redactor(redact), call);
        let json = &entry["request"]["body"]["json"];
        assert_eq!(json["iban"], REDACTED);
        assert_eq!(json["order"], "[redacted]77");
        assert_eq!(json["card"], REDACTED);
        assert_eq!(json["plain"], "stays");
        assert_eq!(entry["request"]["headers"][0]["value"], REDACTED);
    }

    #[test]
    fn a_body_is_kept_up_to_its_limit_and_told_by_its_digest_beyond() {
        let redactor = redactor(Redactions::default());
        let json = |length: usize| {
            let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
            assert_eq!(text.len(), length);
            text.into_bytes()
        };
        let body = |bytes: Vec<u8>| {
            kept(&redactor, call("/", message(&[], read(&bytes)), nothing()))["request"]["body"].clone()
        };
        assert!(body(json(MAX_KEPT_BODY_BYTES))["json"]["a"].is_string());
        let over = body(json(MAX_KEPT_BODY_BYTES + 1));
        assert_eq!((&over["json"], &over["length"]), (&Value::Null, &(MAX_KEPT_BODY_BYTES + 1).into()));
        assert_eq!(over["sha256_of_first"], MAX_KEPT_BODY_BYTES);
        // The digest of "abc" (FIPS 180-4).
        let abc = body(b"abc".to_vec());
        assert_eq!(abc["sha256"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        for unreadable in [&b"\"just-a-text\""[..], b"12345", b"\xff\xfe", b"{\"cut\":"] {
            assert!(body(unreadable.to_vec())["sha256"].is_string(), "{unreadable:?}");
        }
    }

    #[test]
    fn a_form_is_read_as_one() {
        let fields = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let call = call("/", message(&fields, read(b"user=ada&pass%77ord=hunter22&note=a+hunter22")), nothing());
        let form = kept(&redactor(Redactions::default()), call)["request"]["body"]["form"].clone();
        assert_eq!(form[0], json!({ "name": "user", "value": "ada" }));
        assert_eq!(form[1], json!({ "name": "password", "value": REDACTED }));
        assert_eq!(form[2]["value"], "a [redacted]");
    }

    #[test]
    fn of_strangers_no_body_is_kept() {
        let mut call = call("/", message(&[], read(br#"{"a":1}"#)), nothing());
        call.proven = false;
        let entry = kept(&redactor(Redactions::default()), call);
        assert!(entry["request"]["body"]["not_kept"].is_string(), "{entry}");
    }

    #[test]
    fn too_many_secrets_take_the_bodies_with_them() {
        let redactor = redactor(Redactions::default());
        let body = |count: usize| {
            let tokens: Vec<String> = (0..count).map(|number| format!("tok-{number:05}")).collect();
            let body = json!({ "tokens": tokens }).to_string();
            kept(&redactor, call("/", message(&[], read(body.as_bytes())), nothing()))["request"]["body"].clone()
        };
        assert_eq!(body(MAX_SECRETS)["json"]["tokens"], REDACTED);
        assert!(body(MAX_SECRETS + 1)["sha256"].is_string());
    }

    #[test]
    fn a_pattern_is_bounded_and_matches_something() {
        assert!(pattern(r"\d{4}").is_ok());
        assert_eq!(pattern("a*").unwrap_err(), PatternError::Empty);
        assert_eq!(pattern(r"(\w{500}){500}").unwrap_err(), PatternError::TooLarge);
        assert!(matches!(pattern("(").unwrap_err(), PatternError::Syntax(_)));
    }
}
