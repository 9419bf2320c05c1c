//! Envoy's ext_authz over HTTP.
//!
//! The check has the method, the path behind the `path_prefix`, and those fields that `allowed_headers` names: what is not
//! allowed there is not seen here, so a request without its credential is denied. Doubled fields come joined by a comma; no
//! key has one, so a doubled key is none. The address of the client has to be set by `headers_to_add`, which overwrites what
//! a client sends under that name: without it every check is denied.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;

use crate::check::{Asked, Coming, address, fields, single};
use crate::envoy_grpc::PARTIAL_BODY;
use crate::gate::Original;
use crate::{Incomplete, PEER_HEADER, Terms};

const NO_PEER: Incomplete = Incomplete::peer(
    "add `x-portcullis-peer: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\"` to `authorization_request.headers_to_add`",
);
const NO_PREFIX: Incomplete =
    Incomplete::original("set the `path_prefix` of Envoy's HTTP service to that of this listener");

pub(crate) fn read<'a>(parts: &'a Parts, terms: &Terms) -> Result<Asked<'a>, Incomplete> {
    let peer = address(single(&parts.headers, PEER_HEADER, NO_PEER)?, NO_PEER)?;
    let target = parts.uri.path_and_query().map(|target| target.as_str());
    let target = target.and_then(|target| target.strip_prefix(terms.path_prefix.as_str()));
    let target = target.filter(|target| target.starts_with('/')).ok_or(NO_PREFIX)?;
    let mut fields = fields(&parts.headers, &[PEER_HEADER, PARTIAL_BODY]);
    // Over HTTP/2 the host of the check is its authority.
    if let (Some(authority), false) = (parts.uri.authority(), parts.headers.contains_key(HOST)) {
        fields.push((b"host", Cow::Borrowed(authority.as_str().as_bytes())));
    }
    let mut schemes = parts.headers.get_all("x-forwarded-proto").iter();
    let secure = matches!((schemes.next(), schemes.next()), (Some(only), None) if only == "https");
    let is_partial = parts.headers.get_all(PARTIAL_BODY).iter().any(|mark| mark != "false");
    let body = match (is_partial, terms.whole_bodies) {
        (true, _) => Coming::No,
        (false, true) => Coming::Whole,
        (false, false) => Coming::UnlessEmpty,
    };
    // Envoy frames the body of the check anew, so an empty one is that of the request only where every body is sent.
    let is_empty = parts.headers.get_all(CONTENT_LENGTH).iter().all(|length| length == "0")
        && !parts.headers.contains_key(TRANSFER_ENCODING);
    let original = Original {
        secure,
        peer,
        method: parts.method.as_str().as_bytes(),
        target: target.as_bytes(),
        authority: None,
        fields,
        bodiless: terms.whole_bodies && !is_partial && is_empty,
    };
    Ok(Asked { original, body })
}
