//! The request to check, as a client sent it: the bytes of HTTP/1.1.

use std::net::IpAddr;

use httparse::Status;
use portcullis_model::head::{HeadTooLarge, MAX_HEAD_BYTES, MAX_HEADERS, RequestHead};

use crate::error::Error;
use crate::input::{Inputs, Origin};
use crate::request::{Absolute, Packed};

/// The most bytes in which the head's end is looked for. White space around values is not packed, so the bytes of a head
/// that is within [`MAX_HEAD_BYTES`] may be more; a server reads only so many.
pub(crate) const MAX_RAW_HEAD_BYTES: usize = 2 * MAX_HEAD_BYTES;

/// How a request came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Connection {
    /// Its other end.
    pub(crate) peer: IpAddr,
    /// Whether it is TLS.
    pub(crate) secure: bool,
    /// Whether a body follows, whatever the head says of one.
    pub(crate) has_body: bool,
}

/// Reads a request's head and packs it. What follows the head is not looked at.
///
/// # Errors
/// Where the bytes are no HTTP/1.0 or HTTP/1.1 request, or end within the head.
pub(crate) fn pack(from: &Origin, connection: Connection, inputs: &mut Inputs) -> Result<Packed, Error> {
    parse(&inputs.start(from, MAX_RAW_HEAD_BYTES as u64)?, from, connection)
}

fn parse(bytes: &[u8], from: &Origin, connection: Connection) -> Result<Packed, Error> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) if bytes.len() >= MAX_RAW_HEAD_BYTES => return Ok(Err(HeadTooLarge::Bytes)),
        Ok(Status::Partial) => return Err(Error::RawIncomplete { from: from.clone() }),
        Err(httparse::Error::TooManyHeaders) => return Ok(Err(HeadTooLarge::Headers)),
        Err(source) => return Err(Error::RawMalformed { from: from.clone(), line: faulty_line(bytes), source }),
    }
    let target = request.path.unwrap_or_default().as_bytes();
    // Authority-form and asterisk-form go in as they are: the gate refuses what is not in origin-form.
    let absolute = Absolute::split(target);
    let headers: Vec<(&[u8], &[u8])> =
        request.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    // What follows the head is not read, so a head that announces a body leaves it open (RFC 9112 section 6.3).
    let announces = |field: &httparse::Header<'_>| match field.name {
        name if name.eq_ignore_ascii_case("content-length") => field.value.trim_ascii() != b"0",
        name => name.eq_ignore_ascii_case("transfer-encoding"),
    };
    let has_body = connection.has_body || request.headers.iter().any(announces);
    let head = RequestHead {
        secure: connection.secure,
        peer: connection.peer,
        method: request.method.unwrap_or_default().as_bytes(),
        authority: absolute.as_ref().map(|absolute| absolute.authority),
        target: absolute.as_ref().map_or(target, |absolute| &absolute.target),
        headers: &headers,
        bodiless: !has_body,
    };
    Ok(head.pack())
}

/// The line at which the bytes stop being the beginning of a request.
fn faulty_line(bytes: &[u8]) -> usize {
    let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    // A head has no more lines than this, except empty ones before it.
    let sound = ends.take(MAX_HEADERS + 2).take_while(|end| {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let start = bytes.get(..*end).unwrap_or(bytes);
        httparse::Request::new(&mut fields).parse(start).is_ok()
    });
    sound.count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_model::head::Packed as Opened;

    fn parsed(bytes: &[u8]) -> Result<Packed, Error> {
        let connection = Connection { peer: "192.0.2.1".parse().unwrap(), secure: true, has_body: false };
        parse(bytes, &Origin::Stdin, connection)
    }

    #[test]
    fn a_target_goes_in_as_it_came_and_an_absolute_one_in_its_parts() {
        for (target, authority, origin) in [
            ("/v1/events?q=1", None, "/v1/events?q=1"),
            ("http://a.example:8080/v1", Some("a.example:8080"), "/v1"),
            ("HTTPS://a.example", Some("a.example"), "/"),
            ("a.example:443", None, "a.example:443"),
            ("*", None, "*"),
            ("/\u{e9}", None, "/\u{e9}"),
        ] {
            let bytes =
                parsed(format!("GET {target} HTTP/1.1\r\nhost: b.example\r\n\r\nbody").as_bytes()).unwrap().unwrap();
            let head = Opened::open(&bytes).unwrap();
            assert_eq!(head.authority, authority.map(str::as_bytes), "{target}");
            assert_eq!(head.target, origin.as_bytes());
            assert!(head.headers().eq([(&b"host"[..], &b"b.example"[..])]));
        }
    }

    #[test]
    fn fields_have_a_limit() {
        let head = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "n: v\r\n".repeat(count));
        assert!(parsed(head(MAX_HEADERS).as_bytes()).unwrap().is_ok());
        assert_eq!(parsed(head(MAX_HEADERS + 1).as_bytes()).unwrap(), Err(HeadTooLarge::Headers));
    }

    #[test]
    fn a_head_is_looked_for_in_so_many_bytes() {
        let start = "GET / HTTP/1.1\r\nn: ";
        let open = |length: usize| format!("{start}{}", "v".repeat(length - start.len()));
        assert_eq!(parsed(open(MAX_RAW_HEAD_BYTES).as_bytes()).unwrap(), Err(HeadTooLarge::Bytes));
        let error = parsed(open(MAX_RAW_HEAD_BYTES - 1).as_bytes()).unwrap_err();
        assert!(matches!(error, Error::RawIncomplete { .. }));
    }

    #[test]
    fn a_fault_has_its_line() {
        for (bytes, at) in [
            ("GET / HTTP/2.0\r\n\r\n", 1),
            ("GET  / HTTP/1.1\r\n\r\n", 1),
            ("GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", 3),
            ("GET / HTTP/1.1\nhost: a\n folded\n\n", 3),
            ("GET / HTTP/1.1\r\nhost: a\x01\r\n\r\n", 2),
            ("\r\nGET / HTTP/1.1\r\nhost : a\r\n\r\n", 3),
            ("HTTP/1.1 200 OK\r\n\r\n", 1),
        ] {
            let Err(Error::RawMalformed { line, .. }) = parsed(bytes.as_bytes()) else { panic!("{bytes:?}") };
            assert_eq!(line, at, "{bytes:?}");
        }
    }
}
