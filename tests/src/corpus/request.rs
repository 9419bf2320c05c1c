//! A case's request: written out, or captured from a real client.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use portcullis_model::head::{MAX_HEADERS, RequestHead};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::minter::minter;

/// The connection's other end where a case names none.
const USUAL_PEER: &str = "192.0.2.10";

/// A request's head, with exact bytes.
pub struct Request {
    /// The request came over TLS.
    pub secure: bool,
    /// The connection's other end.
    pub peer: IpAddr,
    /// The method.
    pub method: Vec<u8>,
    /// The authority beside Host.
    pub authority: Option<Vec<u8>>,
    /// The target: path and query, or what stood in its place.
    pub target: Vec<u8>,
    /// The header fields in order.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The SHA-256 of the body, as a host gives it that was asked for it; without one there is no body.
    pub body_digest: Option<Vec<u8>>,
    /// That body, where the case has it written out.
    pub body: Option<Vec<u8>>,
    /// The capture that it comes from.
    pub capture: Option<String>,
    /// Its bytes as they came off the wire, where it was captured.
    pub captured: Vec<u8>,
}

/// A request as it stands in a case: either `capture`, or `method`, `target` and the rest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    capture: Option<String>,
    method: Option<Text>,
    target: Option<Text>,
    authority: Option<Text>,
    secure: Option<bool>,
    peer: Option<IpAddr>,
    headers: Option<Vec<Header>>,
    body: Option<Text>,
}

/// Bytes: a text, or parts one after the other.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Plain(String),
    Repeated(RepeatedText),
    Bytes(Hex),
    Token(SignedToken),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RepeatedText {
    repeat: String,
    times: usize,
}

/// Bytes that are no text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

/// An access token, signed when the case is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedToken {
    token: TokenParts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenParts {
    /// The key that signs, see [`minter`]. The header names it too, unless the case says otherwise.
    key: String,
    /// Members that the header has beside or in place of the usual ones; null takes one away.
    #[serde(default)]
    header: Map<String, Value>,
    /// Claims likewise.
    #[serde(default)]
    claims: Map<String, Value>,
}

impl TokenParts {
    fn sign(&self) -> Result<String> {
        let minter = minter(&self.key)?;
        // Issued five minutes before 2026-11-21T09:00:00Z, for twenty.
        let usual = serde_json::json!({
            "iss": "https://acme.shop.example", "sub": "cl-acme-01", "client_id": "cl-acme-01", "aud": ["shop"],
            "scope": "events.read", "iat": 1_795_251_300, "exp": 1_795_252_500, "jti": "t-1", "secret_version": 1,
        });
        let with = |usual: Value, changes: &Map<String, Value>| {
            let Value::Object(mut members) = usual else { return Map::new() };
            for (name, value) in changes {
                if value.is_null() {
                    members.remove(name);
                } else {
                    members.insert(name.clone(), value.clone());
                }
            }
            members
        };
        let (header, claims) = (with(minter.header(), &self.header), with(usual, &self.claims));
        Ok(minter.sign(&Value::Object(header).to_string(), &Value::Object(claims).to_string()))
    }
}

/// A header field, or one that stands several times.
#[derive(Deserialize)]
#[serde(untagged)]
enum Header {
    Once(Text, Text),
    Repeated(RepeatedHeader),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RepeatedHeader {
    repeat: (Text, Text),
    times: usize,
}

impl Request {
    pub(super) fn read(written: Written, captures: &Path) -> Result<Request> {
        let peer = written.peer.map_or_else(|| USUAL_PEER.parse(), Ok)?;
        if let Some(name) = written.capture {
            let others = [&written.method, &written.target, &written.authority];
            ensure!(
                others.iter().all(|text| text.is_none()) && written.headers.is_none() && written.secure.is_none(),
                "a captured request has only a `peer` beside `capture`"
            );
            let bytes = fs::read(captures.join(&name)).with_context(|| format!("captures/{name}"))?;
            return Request::captured(&bytes, peer, &name).with_context(|| format!("captures/{name}"));
        }
        let mut headers = Vec::new();
        for header in written.headers.context("a request needs `headers`")? {
            let ((name, value), times) = match header {
                Header::Once(name, value) => ((name, value), 1),
                Header::Repeated(RepeatedHeader { repeat, times }) => (repeat, times),
            };
            headers.extend(vec![(name.bytes()?, value.bytes()?); times]);
        }
        let body = written.body.map(|body| body.bytes()).transpose()?;
        Ok(Request {
            secure: written.secure.unwrap_or(true),
            peer,
            method: written.method.context("a request needs a `method`")?.bytes()?,
            authority: written.authority.map(|authority| authority.bytes()).transpose()?,
            target: written.target.context("a request needs a `target`")?.bytes()?,
            headers,
            body_digest: body.as_ref().map(|body| Sha256::digest(body).to_vec()),
            body,
            capture: None,
            captured: Vec::new(),
        })
    }

    /// Reads the head of an HTTP/1 request as a host does: an absolute-form target is split into authority and
    /// origin-form (RFC 9112 section 3.2.2), every other target stays as it is.
    fn captured(bytes: &[u8], peer: IpAddr, name: &str) -> Result<Request> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut fields);
        ensure!(parsed.parse(bytes)?.is_complete(), "the head has no end");
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else { bail!("there is no request line") };
        let (authority, target) = split_absolute_form(target);
        Ok(Request {
            secure: false,
            peer,
            method: method.as_bytes().to_vec(),
            authority: authority.map(|authority| authority.as_bytes().to_vec()),
            target: target.as_bytes().to_vec(),
            headers: parsed
                .headers
                .iter()
                .map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec()))
                .collect(),
            body_digest: None,
            body: None,
            capture: Some(name.to_owned()),
            captured: bytes.to_vec(),
        })
    }

    /// Packs the head as `wit/policy.wit` describes it, without regard to limits: a host in another language may not know
    /// them, so the gate must.
    ///
    /// # Errors
    /// Where a length does not fit its place.
    pub fn pack(&self) -> Result<Vec<u8>> {
        let short = |text: &[u8]| u16::try_from(text.len()).map(u16::to_le_bytes);
        let names: Vec<u8> = self.headers.iter().flat_map(|(name, _)| name).copied().collect();
        let values: Vec<u8> = self.headers.iter().flat_map(|(_, value)| value).copied().collect();
        let authority = self.authority.as_deref().unwrap_or_default();
        let peer = match self.peer {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let bodiless = u8::from(self.body_digest.is_none()) << 2;
        let mut out = vec![1, u8::from(self.secure) | (u8::from(self.authority.is_some()) << 1) | bodiless];
        out.extend(u16::try_from(self.headers.len())?.to_le_bytes());
        out.extend(peer.octets());
        for text in [&self.method, authority, &self.target, &names] {
            out.extend(short(text)?);
        }
        out.extend(u32::try_from(values.len())?.to_le_bytes());
        for (name, value) in &self.headers {
            out.extend(short(name)?);
            out.extend(short(value)?);
        }
        for text in [&self.method, authority, &self.target, &names, &values] {
            out.extend_from_slice(text);
        }
        Ok(out)
    }

    /// The whole request as a client sends it by HTTP/1.1: a capture as it is, else the parts of the case one by one, without
    /// regard to what HTTP allows. An authority beside Host stands in the target (RFC 9112 section 3.2.2).
    #[must_use]
    pub fn http1(&self) -> Vec<u8> {
        if self.capture.is_some() {
            return self.captured.clone();
        }
        let mut out = [self.method.as_slice(), b" "].concat();
        if let Some(authority) = &self.authority {
            out.extend([b"http://", authority.as_slice()].concat());
        }
        out.extend([self.target.as_slice(), b" HTTP/1.1\r\n"].concat());
        for (name, value) in &self.headers {
            out.extend([name.as_slice(), b": ", value, b"\r\n"].concat());
        }
        if let Some(body) = &self.body {
            out.extend(format!("Content-Length: {}\r\n", body.len()).into_bytes());
        }
        [out.as_slice(), b"\r\n", self.body.as_deref().unwrap_or_default()].concat()
    }

    /// Calls `pack` of portcullis-model, which knows the limits.
    ///
    /// # Errors
    /// Where the head exceeds one.
    pub fn pack_within_limits(&self) -> Result<Vec<u8>> {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        let head = RequestHead {
            secure: self.secure,
            peer: self.peer,
            method: &self.method,
            authority: self.authority.as_deref(),
            target: &self.target,
            headers: &headers,
            bodiless: self.body_digest.is_none(),
        };
        Ok(head.pack()?)
    }
}

/// Authority and origin-form of an absolute-form target; the target alone where it is of another form.
fn split_absolute_form(target: &str) -> (Option<&str>, &str) {
    let Some((scheme, rest)) = target.split_once("://") else { return (None, target) };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return (None, target);
    }
    match rest.find(['/', '?']) {
        Some(end) => {
            let (authority, target) = rest.split_at(end);
            (Some(authority), target)
        }
        None => (Some(rest), "/"),
    }
}

impl Text {
    fn bytes(&self) -> Result<Vec<u8>> {
        let parts = match self {
            Text::Plain(text) => return Ok(text.as_bytes().to_vec()),
            Text::Parts(parts) => parts,
        };
        let mut bytes = Vec::new();
        for part in parts {
            match part {
                Part::Plain(text) => bytes.extend_from_slice(text.as_bytes()),
                Part::Repeated(RepeatedText { repeat, times }) => bytes.extend(repeat.repeat(*times).into_bytes()),
                Part::Bytes(Hex { hex }) => bytes.extend(unhex(hex)?),
                Part::Token(SignedToken { token }) => bytes.extend(token.sign()?.into_bytes()),
            }
        }
        Ok(bytes)
    }
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).with_context(|| format!("`{text}` is not hex"))?;
    let pairs = digits.as_chunks().0.iter();
    pairs.map(|[high, low]| u8::try_from((high << 4) | low).context("two digits are one byte")).collect()
}
