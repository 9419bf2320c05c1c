//! The client's address: the peer, or what proxies that are trusted say of it.

use std::net::{IpAddr, Ipv6Addr};

use portcullis_model::policy::{Policy, Ranges};
use portcullis_model::verdict::Reason;

use crate::normalise::{Hops, Request};

/// The most hops that are read. More than a handful is not an honest chain.
const MAX_HOPS: usize = 32;

/// Reads the address out of one hop.
type Parse = fn(&[u8]) -> Option<IpAddr>;

/// The right-most hop that is not a trusted proxy, where the peer is one; else the peer.
///
/// Every hop that is read was written by a trusted proxy, so one that is no address is a fault, not a reason to guess.
#[inline(always)]
pub(crate) fn address(request: &Request<'_>, policy: &Policy) -> Result<IpAddr, Reason> {
    let peer = request.peer();
    let Some(trusted) = policy.trusted_proxies()? else { return Ok(peer) };
    if trusted.contains(peer) { behind(peer, &trusted, request) } else { Ok(peer) }
}

/// The right-most hop that is not trusted, of those that a trusted peer tells of.
fn behind(peer: IpAddr, trusted: &Ranges<'_>, request: &Request<'_>) -> Result<IpAddr, Reason> {
    let (field, parse): (_, Parse) = match request.hops {
        Hops { forwarded: false, x_forwarded_for: false } => return Ok(peer),
        Hops { forwarded: true, x_forwarded_for: true } => return Err(Reason::ForwardedAmbiguous),
        Hops { forwarded: true, x_forwarded_for: false } => ("forwarded", forwarded_for),
        Hops { forwarded: false, x_forwarded_for: true } => ("x-forwarded-for", node),
    };
    let mut client = peer;
    let hops = request.values(field).rev().flat_map(|value| value.rsplit(|b| *b == b','));
    for (number, hop) in hops.enumerate() {
        if number >= MAX_HOPS {
            return Err(Reason::ForwardedMalformed);
        }
        client = parse(hop.trim_ascii()).ok_or(Reason::ForwardedMalformed)?;
        if !trusted.contains(client) {
            return Ok(client);
        }
    }
    Ok(client)
}

/// The `for` parameter of one forwarded element (RFC 7239 section 4). Quoted commas do not occur in addresses.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(|b| *b == b';') {
        let (name, value) = split_once(pair.trim_ascii(), b'=')?;
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?;
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    node(quoted.unwrap_or(value))
}

/// An address with or without a port; IPv6 in brackets where it has one (RFC 7239 section 6).
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !port.is_empty() {
            port.strip_prefix(':')?.parse::<u16>().ok()?;
        }
        return address.parse::<Ipv6Addr>().ok().map(|address| address.to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    port.parse::<u16>().ok()?;
    address.parse().ok().map(IpAddr::V4)
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|b| *b == at)?;
    Some((text.get(..position)?, text.get(position + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_an_address_with_or_without_a_port() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(node(text.as_bytes()), address.parse().ok(), "{text}");
        }
        for bad in ["unknown", "_hidden", "", "192.0.2.1:", "192.0.2.1:x", "[::1", "[::1]x", "1.2.3", "a.example"] {
            assert_eq!(node(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn forwarded_needs_exactly_one_for() {
        for good in ["for=192.0.2.1", "proto=https;For=\"192.0.2.1:47\";by=10.0.0.1"] {
            assert_eq!(forwarded_for(good.as_bytes()), "192.0.2.1".parse().ok(), "{good}");
        }
        for bad in ["proto=https", "for=192.0.2.1;for=10.0.0.1", "for", "for=unknown", ""] {
            assert_eq!(forwarded_for(bad.as_bytes()), None, "{bad}");
        }
    }
}
