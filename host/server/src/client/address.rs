//! The server's URL, and whether a key may travel to it.

use std::fmt;
use std::net::IpAddr;

use http::uri::Authority;

/// The origin of a server: scheme, host and port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    secure: bool,
    authority: Authority,
}

impl Address {
    /// Reads `https://HOST[:PORT]` or `http://HOST[:PORT]`. A path, a query or a user makes it none.
    pub(super) fn parse(text: &str) -> Option<Address> {
        let (secure, rest) = match text.split_once("://")? {
            (scheme, rest) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            (scheme, rest) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return None,
        };
        let authority: Authority = rest.strip_suffix('/').unwrap_or(rest).parse().ok()?;
        let is_whole = !authority.host().is_empty() && !authority.as_str().contains('@');
        // A port that is no number of a port is not noticed until it is asked for.
        let has_port = authority.as_str().len() > authority.host().len();
        (is_whole && (!has_port || authority.port_u16().is_some())).then_some(Address { secure, authority })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether others could read what is sent there: plain HTTP that leaves the machine.
    pub(super) fn is_open_to_others(&self) -> bool {
        let host = self.authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_local = host.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        !self.secure && !is_local
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_origin() {
        for (text, shown) in [
            ("http://127.0.0.1:9180", "http://127.0.0.1:9180"),
            ("HTTPS://admin.example/", "https://admin.example"),
            ("https://[2001:db8::1]:9180/", "https://[2001:db8::1]:9180"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "admin.example",
            "admin.example:9180",
            "ftp://a.example",
            "https://",
            "https:///v1",
            "https://a.example/v1",
            "https://a.example?x",
            "https://user:secret@a.example",
            "https://a.example:port",
            "https://a.example:99999",
            "https://a.example:",
            "https://a b",
        ] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn plain_text_stays_on_the_machine() {
        for (text, is_open) in [
            ("http://127.0.0.1:9180", false),
            ("http://127.1.2.3", false),
            ("http://localhost", false),
            ("http://[::1]:9180", false),
            ("http://[::ffff:127.0.0.1]", false),
            ("http://0.0.0.0", true),
            ("http://192.0.2.1", true),
            ("http://localhost.example", true),
            ("http://127.0.0.1.example", true),
            ("https://admin.example", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().is_open_to_others(), is_open, "{text}");
        }
    }
}
