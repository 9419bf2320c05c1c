//! The request to check, as the gate gets it: from the command line's URL and header fields.
//!
//! Nothing is normalised. The point of a check is to see what the gate says of the very bytes.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;

use portcullis_model::head::{HeadTooLarge, MAX_HEAD_BYTES, RequestHead};

use crate::error::Error;
use crate::input::{Inputs, Origin};

/// The longest file of header fields in bytes. What a head can hold is less.
const MAX_HEADER_FILE_BYTES: u64 = 2 * MAX_HEAD_BYTES as u64;

/// A packed head, or the limit for which a server refuses the request before the gate sees it.
pub(crate) type Packed = Result<Vec<u8>, HeadTooLarge>;

/// A request as the command line gives it.
pub(crate) struct Written<'a> {
    /// The URL.
    pub(crate) url: &'a OsStr,
    /// The method.
    pub(crate) method: &'a OsStr,
    /// Header fields as `Name: value`, or `@FILE` with one a line.
    pub(crate) headers: &'a [OsString],
    /// The connection's other end.
    pub(crate) peer: IpAddr,
    /// How the URL's host is sent.
    pub(crate) version: Version,
    /// Whether a body follows the head.
    pub(crate) has_body: bool,
}

/// What differs between versions of HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    /// The host is the field Host.
    Http1,
    /// The host is `:authority`.
    Http2,
}

/// A header field: its name and its value.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// Packs a request from the command line.
///
/// # Errors
/// Where the URL or a header field is none, or a file of header fields cannot be read.
pub(crate) fn pack(written: &Written<'_>, inputs: &mut Inputs) -> Result<Packed, Error> {
    let url = absolute(written.url)?;
    let mut fields = fields(written.headers, inputs)?;
    let has_host = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host"));
    if written.version == Version::Http1 && !has_host {
        fields.insert(0, (b"host".to_vec(), url.authority.to_vec()));
    }
    let headers: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    let head = RequestHead {
        secure: url.secure,
        peer: written.peer,
        method: written.method.as_bytes(),
        authority: (written.version == Version::Http2).then_some(url.authority),
        target: &url.target,
        headers: &headers,
        bodiless: !written.has_body,
    };
    Ok(head.pack())
}

/// Splits the URL of a request that a client could send.
///
/// # Errors
/// Where it is none.
pub(crate) fn absolute(url: &OsStr) -> Result<Absolute<'_>, Error> {
    let url = Absolute::split(url.as_bytes()).ok_or(Error::Request {
        what: "the URL does not begin with `https://` or `http://`",
        fix: "write it as `https://HOST/PATH`, in quotes where it has a `?` or `&`",
    })?;
    if url.authority.is_empty() {
        return Err(Error::Request { what: "the URL has no host", fix: "write it as `https://HOST/PATH`" });
    }
    if url.authority.contains(&b'@') {
        let fix = "clients do not send that part; give the credential with `-H`";
        return Err(Error::Request { what: "the URL has a user before its host", fix });
    }
    Ok(url)
}

/// The header fields of the command line.
///
/// # Errors
/// Where one is none, or a file of them cannot be read.
pub(crate) fn fields(given: &[OsString], inputs: &mut Inputs) -> Result<Vec<Field>, Error> {
    let mut fields = Vec::new();
    for (number, given) in (1..).zip(given) {
        match given.as_bytes().strip_prefix(b"@") {
            Some(file) => read_fields(&OsStr::from_bytes(file).to_owned().into(), inputs, &mut fields)?,
            None => fields.push(field(given.as_bytes(), || format!("header {number} of the command line"))?),
        }
    }
    Ok(fields)
}

fn read_fields(from: &Origin, inputs: &mut Inputs, fields: &mut Vec<Field>) -> Result<(), Error> {
    let bytes = inputs.whole(from, MAX_HEADER_FILE_BYTES)?;
    for (number, line) in (1..).zip(bytes.split(|b| *b == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            fields.push(field(line, || format!("{from} line {number}"))?);
        }
    }
    Ok(())
}

fn trim(value: &[u8]) -> &[u8] {
    let is_space = |b: &u8| *b == b' ' || *b == b'\t';
    let start = value.iter().position(|b| !is_space(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !is_space(b)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// A field's name as written, and its value without white space at either end, as every server reads it.
fn field(text: &[u8], place: impl FnOnce() -> String) -> Result<Field, Error> {
    match text.iter().position(|b| *b == b':').and_then(|colon| text.split_at_checked(colon)) {
        Some((name, [_, value @ ..])) => Ok((name.to_vec(), trim(value).to_vec())),
        Some((_, [])) | None => Err(Error::HeaderWithoutColon { place: place() }),
    }
}

/// An absolute URL in its parts, byte for byte.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Absolute<'a> {
    /// The scheme is https.
    pub(crate) secure: bool,
    /// What stands between the scheme and the path.
    pub(crate) authority: &'a [u8],
    /// The path and all that follows. An empty path is `/` (RFC 9112 section 3.2.1).
    pub(crate) target: Vec<u8>,
}

impl<'a> Absolute<'a> {
    /// Splits a URL of http or https; anything else is none.
    pub(crate) fn split(url: &'a [u8]) -> Option<Self> {
        let (secure, rest) = after(url, b"https://").map(|rest| (true, rest)).or_else(|| {
            let rest = after(url, b"http://")?;
            Some((false, rest))
        })?;
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        let slash: &[u8] = if rest.first() == Some(&b'/') { b"" } else { b"/" };
        Some(Absolute { secure, authority, target: [slash, rest].concat() })
    }
}

fn after<'a>(url: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = url.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_and_never_changed() {
        for (url, secure, authority, target) in [
            ("https://a.example/v1/e?q=1", true, "a.example", "/v1/e?q=1"),
            ("HTTP://A.example:80", false, "A.example:80", "/"),
            ("https://a.example?q", true, "a.example", "/?q"),
            ("https://a.example#f", true, "a.example", "/#f"),
            ("https://a.example/%2e/../\u{e9};x\\#f", true, "a.example", "/%2e/../\u{e9};x\\#f"),
            ("https://[::1]:8443//", true, "[::1]:8443", "//"),
            ("https:///x", true, "", "/x"),
        ] {
            let expected = Absolute { secure, authority: authority.as_bytes(), target: target.as_bytes().to_vec() };
            assert_eq!(Absolute::split(url.as_bytes()), Some(expected), "{url}");
        }
        for bad in ["/v1/events", "ftp://a.example/", "https:/a.example", "a.example", "*", ""] {
            assert_eq!(Absolute::split(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_field_is_split_at_its_first_colon() {
        let split = |text: &str| field(text.as_bytes(), String::new).ok();
        let pair = |name: &str, value: &str| Some((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        assert_eq!(split("X-API-Key: a:b \t"), pair("X-API-Key", "a:b"));
        assert_eq!(split("X-Odd: a\r\n"), pair("X-Odd", "a\r\n"));
        assert_eq!(split("X-Empty:"), pair("X-Empty", ""));
        assert_eq!(split("Odd name :v"), pair("Odd name ", "v"));
        assert_eq!(split("no colon"), None);
    }
}
