//! How a request is written before it is signed.
//!
//! ```text
//! METHOD
//! path
//! query
//! name:value       one line for each signed header field, in the order of their names
//!
//! name;name
//! hex(hash(body))
//! ```
//!
//! Lines end with a line feed, the last with nothing.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::Output;
use crate::source::CanonicalForm;

/// A request as it is signed.
#[derive(Clone, Copy)]
pub struct Canonical<'a> {
    /// The method, in upper case.
    pub method: &'a [u8],
    /// The path as it is on the wire.
    pub path: &'a [u8],
    /// The query as it is on the wire; empty where there is none.
    pub query: &'a [u8],
    /// The name of a parameter that is left out: that of the signature itself.
    pub without: Option<&'a [u8]>,
    /// The signed header fields, in the order of their names.
    pub fields: &'a [Field<'a>],
    /// The digest of the body, or of what stands for it.
    pub body: Output,
}

/// A signed header field: its name in lower case, and its values in their order of arrival.
#[derive(Clone)]
pub struct Field<'a> {
    /// The name, in lower case.
    pub name: Cow<'a, [u8]>,
    /// The values as they came, white space and all. One at least.
    pub values: Vec<&'a [u8]>,
}

impl Canonical<'_> {
    /// Writes the canonical request.
    pub fn write(&self, form: CanonicalForm, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method);
        out.push(b'\n');
        match form {
            CanonicalForm::Escher | CanonicalForm::Antavo => write_normal_path(self.path, out),
            CanonicalForm::Aws => write_encoded_path(self.path, out),
        }
        out.push(b'\n');
        write_query(self.query, self.without, form, out);
        out.push(b'\n');
        for field in self.fields {
            out.extend_from_slice(&field.name);
            for (number, value) in field.values.iter().enumerate() {
                out.push(if number == 0 { b':' } else { b',' });
                write_value(value, form, out);
            }
            out.push(b'\n');
        }
        out.push(b'\n');
        write_names(self.fields, out);
        out.push(b'\n');
        self.body.write_hex(out);
    }
}

/// Writes the names of signed fields, as they stand in the canonical request and in an authorization.
pub fn write_names(fields: &[Field<'_>], out: &mut Vec<u8>) {
    for (number, field) in fields.iter().enumerate() {
        if number > 0 {
            out.push(b';');
        }
        out.extend_from_slice(&field.name);
    }
}

/// Removes dot segments and empty ones. Nothing is decoded. The gate refuses paths that have any, so for it this is the path.
fn write_normal_path(path: &[u8], out: &mut Vec<u8>) {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b".." => drop(kept.pop()),
            b"" | b"." => {}
            _ => kept.push(segment),
        }
        // What ends with a slash, or with a dot segment, is a folder.
        if is_last && matches!(segment, b"" | b"." | b"..") && !kept.is_empty() {
            kept.push(b"");
        }
    }
    out.push(b'/');
    for (number, segment) in kept.iter().enumerate() {
        if number > 0 {
            out.push(b'/');
        }
        out.extend_from_slice(segment);
    }
}

/// Encodes the path of the wire once more, as AWS does for every service but S3.
fn write_encoded_path(path: &[u8], out: &mut Vec<u8>) {
    let mut normal = Vec::with_capacity(path.len());
    write_normal_path(path, &mut normal);
    for byte in normal {
        if byte == b'/' { out.push(byte) } else { write_encoded(byte, false, out) }
    }
}

fn write_query(query: &[u8], without: Option<&[u8]>, form: CanonicalForm, out: &mut Vec<u8>) {
    if query.is_empty() {
        return;
    }
    let mut parameters: Vec<(Vec<u8>, usize)> = Vec::new();
    for parameter in query.split(|byte| *byte == b'&') {
        let end = parameter.iter().position(|byte| *byte == b'=').unwrap_or(parameter.len());
        let (name, value) = (parameter.get(..end).unwrap_or_default(), parameter.get(end + 1..).unwrap_or_default());
        if without == Some(name) {
            continue;
        }
        let mut encoded = Vec::with_capacity(parameter.len() + 1);
        write_anew(name, form, &mut encoded);
        let name_ends = encoded.len();
        encoded.push(b'=');
        write_anew(value, form, &mut encoded);
        parameters.push((encoded, name_ends));
    }
    parameters.sort_unstable_by(|a, b| order(form, a, b));
    for (number, (parameter, _)) in parameters.iter().enumerate() {
        if number > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(parameter);
    }
}

/// Escher sorts parameters as whole texts, `=` included; AWS by name, then by value.
fn order(form: CanonicalForm, (a, a_name): &(Vec<u8>, usize), (b, b_name): &(Vec<u8>, usize)) -> Ordering {
    match form {
        CanonicalForm::Escher | CanonicalForm::Antavo => a.cmp(b),
        CanonicalForm::Aws => a.get(..*a_name).cmp(&b.get(..*b_name)).then_with(|| a.cmp(b)),
    }
}

/// Decodes a name or a value and encodes it anew, so that different spellings of one text are signed alike.
fn write_anew(text: &[u8], form: CanonicalForm, out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let (decoded, is_encoded) = match percent(text, at).filter(|_| byte == b'%') {
            Some(decoded) => (decoded, true),
            None => (byte, false),
        };
        at += if is_encoded { 3 } else { 1 };
        match (form, decoded) {
            // In a form a plus is a space; Antavo decodes twice, so an encoded plus is one too.
            (CanonicalForm::Escher, b'+') if !is_encoded => out.extend_from_slice(b"%20"),
            (CanonicalForm::Antavo, b'+') => out.extend_from_slice(b"%20"),
            (CanonicalForm::Escher, _) => write_encoded(decoded, true, out),
            (CanonicalForm::Antavo | CanonicalForm::Aws, _) => write_encoded(decoded, false, out),
        }
    }
}

/// Writes a byte as RFC 3986 does, `!` and `*` literally where that is asked for.
pub(super) fn write_encoded(byte: u8, marks_stay: bool, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let stays = byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b'~')
        || (marks_stay && matches!(byte, b'!' | b'*'));
    if stays {
        out.push(byte);
    } else {
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or_default();
        out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
    }
}

/// The byte that the `%` at this place stands for.
fn percent(text: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(at + 1)? << 4) | digit(at + 2)?)
}

/// Writes a field's value trimmed, with runs of white space as one space; in Escher not within double quotes.
fn write_value(value: &[u8], form: CanonicalForm, out: &mut Vec<u8>) {
    let (mut is_quoted, mut space) = (false, false);
    for &byte in value.trim_ascii() {
        if byte.is_ascii_whitespace() && !is_quoted {
            space = true;
            continue;
        }
        if std::mem::take(&mut space) {
            out.push(b' ');
        }
        is_quoted ^= byte == b'"' && form != CanonicalForm::Aws;
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SignatureHash;

    fn path(form: CanonicalForm, path: &str) -> String {
        let mut out = Vec::new();
        match form {
            CanonicalForm::Aws => write_encoded_path(path.as_bytes(), &mut out),
            CanonicalForm::Escher | CanonicalForm::Antavo => write_normal_path(path.as_bytes(), &mut out),
        }
        String::from_utf8(out).unwrap()
    }

    fn query(form: CanonicalForm, query: &str) -> String {
        let mut out = Vec::new();
        write_query(query.as_bytes(), None, form, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn value(form: CanonicalForm, value: &str) -> String {
        let mut out = Vec::new();
        write_value(value.as_bytes(), form, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn paths_lose_dot_segments_and_empty_ones_and_nothing_else() {
        for (wire, normal) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/./", "/"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/./b", "/a/b"),
            ("//a//b/", "/a/b/"),
            ("/foo./bar", "/foo./bar"),
            ("/a%2Fb/%2e%2e/c", "/a%2Fb/%2e%2e/c"),
        ] {
            assert_eq!(path(CanonicalForm::Escher, wire), normal, "{wire}");
        }
        assert_eq!(path(CanonicalForm::Aws, "/a%20b/c~(d)"), "/a%2520b/c~%28d%29");
    }

    #[test]
    fn queries_are_sorted_and_encoded_as_their_form_does() {
        use CanonicalForm::{Antavo, Aws, Escher};
        for (form, wire, canonical) in [
            (Escher, "", ""),
            (Escher, "0", "0="),
            (Escher, "a", "a="),
            (Escher, "a=b=c", "a=b%3Dc"),
            (Escher, "limit=10&limit2=5", "limit2=5&limit=10"),
            (Antavo, "limit=10&limit2=5", "limit2=5&limit=10"),
            (Aws, "limit2=5&limit=10", "limit=10&limit2=5"),
            (Aws, "a=b&a=B&A=c", "A=c&a=B&a=b"),
            (Escher, "x=!*'()+%2B", "x=!*%27%28%29%20%2B"),
            (Antavo, "x=!*'()+%2B", "x=%21%2A%27%28%29%20%20"),
            (Aws, "x=!*'()+%2B", "x=%21%2A%27%28%29%2B%2B"),
            (Escher, "x=%c3%a1%7e%41", "x=%C3%A1~A"),
            (Escher, "a=1&&b=2", "=&a=1&b=2"),
        ] {
            assert_eq!(query(form, wire), canonical, "{form:?} {wire}");
        }
    }

    #[test]
    fn values_keep_one_space_and_in_escher_what_is_quoted() {
        assert_eq!(value(CanonicalForm::Escher, "  a \t  b  "), "a b");
        assert_eq!(value(CanonicalForm::Escher, "\"  a   b\"  c"), "\"  a   b\" c");
        assert_eq!(value(CanonicalForm::Aws, "\"  a   b\"  c"), "\" a b\" c");
    }

    #[test]
    fn a_request_is_written_line_by_line() {
        let field = |name: &'static str, values: &[&'static [u8]]| Field {
            name: Cow::Borrowed(name.as_bytes()),
            values: values.to_vec(),
        };
        let fields = [field("date", &[b"now"]), field("zoo", &[b"z ", b"a"])];
        let canonical = Canonical {
            method: b"POST",
            path: b"/p",
            query: b"b=1&sig=x&a=2",
            without: Some(b"sig"),
            fields: &fields,
            body: SignatureHash::Sha256.digest(b""),
        };
        let mut out = Vec::new();
        canonical.write(CanonicalForm::Escher, &mut out);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("POST\n/p\na=2&b=1\ndate:now\nzoo:z,a\n\ndate;zoo\n{empty}")
        );
    }
}
