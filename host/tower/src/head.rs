//! A request's head, as the gate takes it, and the few framings that HTTP libraries accept and we do not.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use portcullis_model::head::{DISGUISED_FRAMING, RequestHead};
use portcullis_model::verdict::Reason;

/// Where a request comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The address of the connection's other end.
    pub address: IpAddr,
    /// Whether the connection is TLS.
    pub secure: bool,
}

/// Packs a head into `out`: the bytes that came, not what they mean.
///
/// hyper cuts a fragment off the target before anybody sees it. What is decided is then the target without it, and so is
/// what is forwarded.
///
/// # Errors
/// The reason for which the request is denied before the gate is asked: it exceeds a limit, or its body's end can be told in
/// two ways.
pub fn pack(parts: &Parts, peer: Peer, bodiless: bool, out: &mut Vec<u8>) -> Result<(), Reason> {
    if !is_framed_once(&parts.headers) {
        return Err(Reason::HeaderMalformed);
    }
    if DISGUISED.iter().any(|name| parts.headers.contains_key(name)) {
        return Err(Reason::HeaderUnderscore);
    }
    let uri = &parts.uri;
    let whole;
    let target = match (uri.scheme_str(), uri.path_and_query()) {
        (None | Some("http" | "https"), Some(target)) => target.as_str(),
        // Authority-form, or a scheme that is no HTTP: the gate refuses what does not begin with a slash.
        (_, _) => {
            whole = uri.to_string();
            &whole
        }
    };
    let mut fields: Vec<(&[u8], &[u8])> = Vec::with_capacity(parts.headers.len());
    fields.extend(parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())));
    RequestHead {
        secure: peer.secure,
        peer: peer.address,
        method: parts.method.as_str().as_bytes(),
        authority: uri.authority().map(|authority| authority.as_str().as_bytes()),
        target: target.as_bytes(),
        headers: &fields,
        bodiless,
    }
    .pack_into(out)
    .map_err(Reason::from)
}

const DISGUISED: [HeaderName; 2] =
    [HeaderName::from_static(DISGUISED_FRAMING[0]), HeaderName::from_static(DISGUISED_FRAMING[1])];

/// Whether a body's end can be told in one way only. hyper refuses most of what cannot (RFC 9112 section 6.3) and drops
/// Content-Length beside Transfer-Encoding, but takes codings before `chunked`, which it would pass on undecoded.
fn is_framed_once(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_plain_chunked_is_framing() {
        let framed = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::TRANSFER_ENCODING, HeaderValue::from_static(value));
            }
            is_framed_once(&headers)
        };
        assert!(framed(&[]) && framed(&["chunked"]) && framed(&["Chunked"]));
        for odd in [&["gzip, chunked"][..], &["identity, chunked"], &["chunked", "chunked"], &["chunked,"], &[""]] {
            assert!(!framed(odd), "{odd:?}");
        }
    }
}
