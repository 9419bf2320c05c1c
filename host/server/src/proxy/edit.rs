//! What is changed in a head on its way: fields that concern one connection only, the credential, what an allow sets, and
//! what an upstream has to know of the client. Everything else goes through as it came.

use std::net::IpAddr;

use http::header::{
    CONNECTION, COOKIE, EXPECT, Entry, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_model::answer::Details;
use portcullis_tower::edit::{self, BadEdit};

use super::peer::Peer;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that concern one connection, besides Connection and what it names (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] =
    [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE];

/// Takes the fields of one connection out, and those that only Portcullis may set.
pub(super) fn end_to_end(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION).filter_map(|token| token.parse().ok()).collect();
    headers.remove(CONNECTION);
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    edit::drop_reserved(headers);
}

/// Takes out what neither end may send in trailers: they are fields like those of the head.
pub(super) fn trailers(headers: &mut HeaderMap) {
    end_to_end(headers);
    headers.remove(HOST);
}

/// Whether a list field has that member.
pub(super) fn lists(headers: &HeaderMap, field: &HeaderName, member: &str) -> bool {
    tokens(headers, field).any(|token| token.eq_ignore_ascii_case(member))
}

fn tokens<'a>(headers: &'a HeaderMap, field: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(field).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Makes of a client's fields those that the upstream gets, all but Host.
pub(super) fn request(headers: &mut HeaderMap, details: &Details<'_>) -> Result<(), BadEdit> {
    let accepts_trailers = lists(headers, &TE, "trailers");
    end_to_end(headers);
    if accepts_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The client is answered here, when its body is first read (RFC 9110 section 10.1.1).
    headers.remove(EXPECT);
    join_cookies(headers);
    edit::fields(headers, details)
}

/// HTTP/2 may split Cookie for compression; elsewhere it is one field (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            headers.insert(COOKIE, whole);
        }
    }
}

/// Tells the upstream of the client: its address behind those that were there, and how it asked.
pub(super) fn forwarded(headers: &mut HeaderMap, peer: &Peer, client: IpAddr, host: Option<HeaderValue>) {
    append(headers, X_FORWARDED_FOR, &peer.text);
    if headers.contains_key(FORWARDED) {
        // Whoever reads this field instead must find the hop as well (RFC 7239 section 5.2).
        let hop = match peer.address {
            IpAddr::V4(v4) => format!("for={v4}"),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
        };
        if let Ok(hop) = HeaderValue::try_from(hop) {
            append(headers, FORWARDED, &hop);
        }
    }
    // A proxy that the policy trusts has told already how the client asked it.
    let is_trusted = client != peer.address;
    let scheme = HeaderValue::from_static(if peer.connection.secure { "https" } else { "http" });
    for (name, value) in [(X_FORWARDED_PROTO, Some(scheme)), (X_FORWARDED_HOST, host)] {
        match (headers.entry(name), value) {
            (Entry::Occupied(_), _) if is_trusted => {}
            (Entry::Occupied(mut entry), Some(value)) => {
                entry.insert(value);
            }
            (Entry::Occupied(entry), None) => {
                entry.remove();
            }
            (Entry::Vacant(entry), Some(value)) => {
                entry.insert(value);
            }
            (Entry::Vacant(_), None) => {}
        }
    }
}

/// Appends a member to a list field, and makes one field of it: some servers read only the first or the last.
fn append(headers: &mut HeaderMap, name: HeaderName, member: &HeaderValue) {
    let mut members: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    if members.is_empty() {
        headers.insert(name, member.clone());
        return;
    }
    members.push(member.as_bytes());
    match HeaderValue::from_bytes(&members.join(&b", "[..])) {
        Ok(list) => headers.insert(name, list),
        // Not reached: the parts are values. Were it, what the client claims goes, and the peer stays.
        Err(_) => headers.insert(name, member.clone()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_concerns_one_connection_ends_there() {
        let mut headers = map(&[
            ("connection", "close, X-Session"),
            ("connection", "keep-alive"),
            ("x-session", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-portcullis-tenant", "forged"),
            ("x-portcullis-anything", "forged"),
            ("x-kept", "2"),
        ]);
        end_to_end(&mut headers);
        assert_eq!(headers, map(&[("x-kept", "2")]));
    }

    #[test]
    fn cookies_of_http2_become_one() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
    }

    #[test]
    fn a_hop_is_appended_to_the_hops_before() {
        let mut headers = map(&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2, 192.0.2.3")]);
        append(&mut headers, X_FORWARDED_FOR, &HeaderValue::from_static("192.0.2.4"));
        assert_eq!(headers, map(&[("x-forwarded-for", "192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4")]));
    }
}
