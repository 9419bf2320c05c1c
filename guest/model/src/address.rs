//! Address ranges as people write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// A range of addresses: a CIDR, or one address.
///
/// A CIDR with host bits set is accepted and masked, and shown masked. A range of IPv4-mapped IPv6 addresses is the IPv4
/// range, as an IPv4-mapped client is the IPv4 client.
///
/// ```
/// use portcullis_model::address::Cidr;
/// let range: Cidr = "192.168.0.3/24".parse().unwrap();
/// assert_eq!(range.to_string(), "192.168.0.0/24");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

impl Cidr {
    /// The range from first to last address, both of one family.
    #[must_use]
    pub fn bounds(self) -> (IpAddr, IpAddr) {
        (self.0.network(), self.0.broadcast())
    }

    fn new(net: IpNet) -> Cidr {
        let net = net.trunc();
        let mapped = match net {
            IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
            IpNet::V4(_) => None,
        };
        let as_v4 = mapped.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
        Cidr(as_v4.map_or(net, IpNet::V4))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let fault = |why| CidrError { text: text.to_owned(), why };
        let net = if let Some((address, prefix)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| fault("the part before `/` is not an address"))?;
            // `/+8` and `/08` are accepted by parsers of numbers, not by people who read them as octal.
            let plain = prefix.bytes().all(|b| b.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
            let length: u8 = prefix
                .parse()
                .ok()
                .filter(|_| plain)
                .ok_or_else(|| fault("the part after `/` is not a prefix length in plain digits"))?;
            IpNet::new(address, length)
                .map_err(|_| fault("the prefix is longer than 32 bits for IPv4 or 128 bits for IPv6"))?
        } else {
            let address: IpAddr =
                text.parse().map_err(|_| fault("write one IPv4 or IPv6 address, or a CIDR such as `10.0.0.0/8`"))?;
            IpNet::from(address)
        };
        Ok(Cidr::new(net))
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

/// A text that is no address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address range: {why}")]
pub struct CidrError {
    text: String,
    why: &'static str,
}

/// An address as the one key that IPv4 and IPv6 share: IPv4 addresses are the IPv4-mapped ones.
#[must_use]
pub fn as_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => MAPPED << 32 | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The upper bits of an IPv4-mapped address (RFC 4291 section 2.5.5.2).
const MAPPED: u128 = 0xffff;

/// The address of that key; IPv4-mapped ones come back as IPv4.
#[must_use]
pub fn from_bits(bits: u128) -> IpAddr {
    if bits >> 32 == MAPPED {
        // The lower 32 bits are all of it.
        let [.., a, b, c, d] = bits.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_masked_and_shown_masked() {
        for (written, shown) in [
            ("192.168.0.3/24", "192.168.0.0/24"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("2001:DB8::1/32", "2001:db8::/32"),
            ("::1", "::1"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::ffff:10.0.0.9/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.9", "10.0.0.9"),
        ] {
            assert_eq!(written.parse::<Cidr>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for bad in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "localhost",
            "",
            " ::1",
            "010.0.0.1",
        ] {
            let error = bad.parse::<Cidr>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{bad}` is not an address range: ")), "{error}");
        }
    }
}
