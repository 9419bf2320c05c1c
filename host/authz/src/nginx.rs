//! `auth_request` of nginx.
//!
//! The subrequest is a GET with the fields of the request and those that `proxy_set_header` sets in place of a client's: every
//! one of them has to be there, once, or the check is denied. A body never comes, so a signature over one is denied; that
//! there is none is known where `X-Original-Framing` says so of HTTP/1.1.
//!
//! nginx passes on no other denials than 401 and 403. What a denial is, is told in `X-Portcullis-Status` and
//! `X-Portcullis-Code` beside it.

use std::borrow::Cow;

use http::request::Parts;

use crate::Incomplete;
use crate::check::{Asked, Coming, address, fields, is_secure, single};
use crate::gate::Original;

const METHOD: &str = "x-original-method";
const URI: &str = "x-original-uri";
const HOST: &str = "x-original-host";
const PROTO: &str = "x-original-proto";
const FRAMING: &str = "x-original-framing";
const PEER: &str = "x-real-ip";

const NO_METHOD: Incomplete = Incomplete::original("set `proxy_set_header X-Original-Method $request_method`");
const NO_URI: Incomplete = Incomplete::original("set `proxy_set_header X-Original-URI $request_uri`");
const NO_HOST: Incomplete = Incomplete::original("set `proxy_set_header X-Original-Host $http_host`");
const NO_PROTO: Incomplete = Incomplete::original("set `proxy_set_header X-Original-Proto $scheme`");
const NO_FRAMING: Incomplete = Incomplete::original(
    "set `proxy_set_header X-Original-Framing \"$server_protocol;$http_content_length;$http_transfer_encoding\"`",
);
const NO_PEER: Incomplete = Incomplete::peer("set `proxy_set_header X-Real-IP $remote_addr`");

pub(crate) fn read(parts: &Parts) -> Result<Asked<'_>, Incomplete> {
    let headers = &parts.headers;
    let method = single(headers, METHOD, NO_METHOD)?;
    let target = single(headers, URI, NO_URI)?;
    let host = single(headers, HOST, NO_HOST)?;
    let secure = is_secure(single(headers, PROTO, NO_PROTO)?, NO_PROTO)?;
    let framing = single(headers, FRAMING, NO_FRAMING)?;
    let peer = address(single(headers, PEER, NO_PEER)?, NO_PEER)?;
    let mut fields = fields(headers, &[METHOD, URI, HOST, PROTO, FRAMING, PEER, "host"]);
    fields.push((b"host", Cow::Borrowed(host)));
    let original = Original { secure, peer, method, target, authority: None, fields, bodiless: is_bodiless(framing) };
    Ok(Asked { original, body: Coming::No })
}

/// Whether protocol, Content-Length and Transfer-Encoding leave no room for a body. Over HTTP/2 one may follow unannounced.
fn is_bodiless(framing: &[u8]) -> bool {
    [&b"HTTP/1.1;;"[..], b"HTTP/1.1;0;", b"HTTP/1.0;;", b"HTTP/1.0;0;", b"HTTP/2.0;0;"].contains(&framing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_announces_no_body_is_bodiless() {
        for framing in ["HTTP/1.1;;", "HTTP/1.1;0;", "HTTP/1.0;;", "HTTP/2.0;0;"] {
            assert!(is_bodiless(framing.as_bytes()), "{framing}");
        }
        for framing in ["HTTP/2.0;;", "HTTP/1.1;5;", "HTTP/1.1;;chunked", "HTTP/1.1;00;", "", ";;", "HTTP/3.0;;"] {
            assert!(!is_bodiless(framing.as_bytes()), "{framing}");
        }
    }
}
