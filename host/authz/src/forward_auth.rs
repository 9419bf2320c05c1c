//! ForwardAuth, as Traefik and Caddy have it.
//!
//! The check is a GET with the fields of the request; method, scheme, host and target of the request are in
//! `X-Forwarded-Method`, `-Proto`, `-Host` and `-Uri`, which the proxy sets in place of a client's: every one of them has to be
//! there, once, or the check is denied.
//!
//! The peer is the last member of `X-Forwarded-For`: the address that the proxy itself saw. What stands before it is what the
//! proxy got (Traefik with `trustForwardHeader`, Caddy with `trusted_proxies`), and the policy's own trusted proxies decide
//! what is believed of that.

use std::borrow::Cow;

use http::request::Parts;

use crate::check::{Asked, Coming, address, fields, is_empty, is_secure, single};
use crate::gate::Original;
use crate::{Incomplete, Terms};

const METHOD: &str = "x-forwarded-method";
const URI: &str = "x-forwarded-uri";
const HOST: &str = "x-forwarded-host";
const PROTO: &str = "x-forwarded-proto";
const FOR: &str = "x-forwarded-for";

const NO_METHOD: Incomplete = Incomplete::original("have the proxy set X-Forwarded-Method, once");
const NO_URI: Incomplete = Incomplete::original("have the proxy set X-Forwarded-Uri, once");
const NO_HOST: Incomplete = Incomplete::original("have the proxy set X-Forwarded-Host, once");
const NO_PROTO: Incomplete = Incomplete::original("have the proxy set X-Forwarded-Proto, once, to `http` or `https`");
const NO_PEER: Incomplete =
    Incomplete::peer("have the proxy end X-Forwarded-For with the address that it took the request from");

pub(crate) fn read<'a>(parts: &'a Parts, terms: &Terms) -> Result<Asked<'a>, Incomplete> {
    let headers = &parts.headers;
    let method = single(headers, METHOD, NO_METHOD)?;
    let target = single(headers, URI, NO_URI)?;
    let host = single(headers, HOST, NO_HOST)?;
    let secure = is_secure(single(headers, PROTO, NO_PROTO)?, NO_PROTO)?;
    let hops: Vec<&[u8]> = headers.get_all(FOR).iter().map(|value| value.as_bytes()).collect();
    let mut hops: Vec<u8> = hops.join(&b","[..]);
    let comma = hops.iter().rposition(|byte| *byte == b',');
    let last = hops.split_off(comma.map_or(0, |comma| comma + 1));
    let peer = address(&last, NO_PEER)?;
    let mut fields = fields(headers, &[METHOD, URI, HOST, PROTO, FOR, "host"]);
    fields.push((b"host", Cow::Borrowed(host)));
    if hops.pop().is_some() {
        fields.push((FOR.as_bytes(), Cow::Owned(hops)));
    }
    // Go takes Transfer-Encoding out of the fields, so that no body is announced means that there is none only where all of
    // them come.
    let bodiless = terms.whole_bodies && is_empty(headers);
    let original = Original { secure, peer, method, target, authority: None, fields, bodiless };
    Ok(Asked { original, body: if terms.whole_bodies { Coming::Whole } else { Coming::No } })
}
