//! Where requests of services go: what may stand there.

use portcullis_store::Delivery;

/// The longest origin in bytes: a scheme, a name of 253 bytes, a port.
const MAX_ORIGIN_BYTES: usize = 300;

/// Whether an upstream is an origin that the proxy can reach; else what is wrong with it.
pub(crate) fn check(delivery: &Delivery) -> Result<(), String> {
    let upstream = &delivery.upstream;
    let fix = "write `http://host:port`, `https://host:port` or `h2c://host:port`";
    let Some((scheme, authority)) = upstream.split_once("://") else {
        return Err(format!("`{upstream}` is not an origin: {fix}"));
    };
    if !["http", "https", "h2c"].contains(&scheme) {
        return Err(format!("`{scheme}` is not a scheme that is spoken: {fix}"));
    }
    if authority.contains('@') {
        // What stands before the `@` may be a password, so it is not repeated.
        return Err(format!("an upstream has no user name or password: {fix}"));
    }
    if !is_authority(authority) || upstream.len() > MAX_ORIGIN_BYTES {
        return Err(format!("`{authority}` is not a host with an optional port, and nothing after it: {fix}"));
    }
    Ok(())
}

/// Whether a text is an origin as browsers send it (RFC 6454 section 6.2), or `*`.
pub(crate) fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text == "*" || (text.len() <= MAX_ORIGIN_BYTES && rest.is_some_and(is_authority))
}

/// Whether a text is a path of segments that need no encoding, so that it is compared as it is written.
pub(crate) fn is_plain_path(text: &str) -> bool {
    let is_segment = |segment: &str| {
        let is_plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        is_plain && !matches!(segment, "" | "." | "..")
    };
    text.len() <= MAX_ORIGIN_BYTES && text.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment))
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (None, after.strip_prefix(':').or(if after.is_empty() { None } else { Some("x") }))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let name = |host: &str| {
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        host.split('.').all(label)
    };
    host.is_none_or(name) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_an_origin() {
        let of = |upstream: &str| {
            check(&Delivery {
                upstream: upstream.to_owned(),
                preserve_host: true,
                response_timeout_s: 30,
                reserved_prefix: None,
                preflight: None,
            })
        };
        for good in
            ["http://127.0.0.1:8080", "https://api.internal", "h2c://grpc:50051", "http://[::1]:80", "http://[::1]"]
        {
            assert_eq!(of(good), Ok(()), "{good}");
        }
        for bad in [
            "127.0.0.1:8080",
            "ftp://a",
            "http://a/path",
            "http://a?x",
            "http://",
            "http://a:0",
            "http://a:99999",
            "http://[::1",
            "http://[::1]x",
            "http://a b",
            "http://a:80:80",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        let error = of("http://user:hunter2@a").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn an_origin_has_a_scheme_and_no_path() {
        for good in ["*", "https://app.example.com", "http://localhost:3000"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in ["app.example.com", "https://a/", "null", "", "https://"] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
