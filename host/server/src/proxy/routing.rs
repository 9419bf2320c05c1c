//! Which upstream a service has, and how its requests are delivered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::{Authority, Scheme};
use portcullis_control::{JWKS_PATH, TOKEN_PATH};
use portcullis_model::id::Id;

use crate::oauth::METADATA_PATH;

/// The upstreams of all services.
#[derive(Default)]
pub(crate) struct Routing {
    services: HashMap<Box<str>, Arc<Service>>,
}

impl Routing {
    /// Takes the services by their ids.
    pub(crate) fn new(services: impl IntoIterator<Item = (String, Service)>) -> Self {
        let services = services.into_iter().map(|(id, service)| (id.into_boxed_str(), Arc::new(service))).collect();
        Routing { services }
    }

    /// The service of that id, where this listener serves it.
    pub(crate) fn service(&self, id: &str) -> Option<&Arc<Service>> {
        self.services.get(id)
    }
}

/// How the requests of one service are delivered.
#[derive(Debug)]
pub(crate) struct Service {
    /// Its id.
    pub(crate) id: Id,
    /// Where they go.
    pub(crate) upstream: Upstream,
    /// Whether the upstream gets the Host that the client sent, instead of its own.
    pub(crate) preserve_host: bool,
    /// How long the upstream may take until the head of its response.
    pub(crate) response_timeout: Duration,
    /// The path at which leaked keys are reported, where the service has one.
    pub(crate) leaked: Option<String>,
    /// The prefix of the paths that it keeps for Portcullis, where there are tokens.
    pub(crate) reserved: Option<String>,
    /// What clients expect of denials.
    pub(crate) errors: ErrorForm,
    /// What answers CORS preflights; without it they are requests like any other.
    pub(crate) preflight: Option<Preflight>,
}

/// What a denial's body has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ErrorForm {
    /// A problem document.
    Problem,
    /// The same, with the envelope of the Antavo API's errors as a member more.
    Antavo,
}

/// A path that Portcullis answers itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Own {
    /// Tokens are issued there.
    Token,
    /// The keys that verify them are there.
    Keys,
    /// What the authorization server says of itself is there.
    Metadata,
}

impl Service {
    /// What is at a path, where it is Portcullis's own.
    pub(crate) fn own(&self, path: &str) -> Option<Own> {
        let below = path.strip_prefix(self.reserved.as_deref()?);
        match below {
            Some(TOKEN_PATH) => Some(Own::Token),
            Some(JWKS_PATH) => Some(Own::Keys),
            Some(METADATA_PATH) => Some(Own::Metadata),
            Some(_) | None => path.starts_with(METADATA_PATH).then_some(Own::Metadata),
        }
    }
}

/// Who may ask by CORS preflights, and what they are told.
#[derive(Debug)]
pub(crate) struct Preflight {
    /// The origins, such as `https://app.example.com`; `*` alone for all.
    pub(crate) origins: Vec<String>,
    /// The names of fields that scripts may send, as one list.
    pub(crate) headers: HeaderValue,
    /// How long browsers may remember the answer, in seconds.
    pub(crate) max_age_s: u32,
}

impl Preflight {
    /// Takes the rule as an administrator writes it, or nothing where a name of a field is none.
    pub(crate) fn new(origins: Vec<String>, headers: &[String], max_age_s: u32) -> Option<Self> {
        let are_names = headers.iter().all(|name| http::HeaderName::try_from(name.as_str()).is_ok());
        let headers = HeaderValue::try_from(headers.join(", ")).ok().filter(|_| are_names)?;
        Some(Preflight { origins, headers, max_age_s })
    }
}

/// The origin of an upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Upstream {
    pub(super) protocol: Protocol,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// The authority as the field Host has it.
    pub(super) host: HeaderValue,
}

/// What an upstream speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// TLS, and HTTP/2 or HTTP/1.1 in it.
    Https,
    /// HTTP/2 without TLS and without asking first (RFC 9113 section 3.3).
    H2c,
}

impl Upstream {
    /// Reads an origin: `http://host:port`, `https://host:port` or `h2c://host:port`. Without a port it is the scheme's.
    ///
    /// # Errors
    /// Where it is anything else.
    pub(crate) fn parse(text: &str) -> Result<Self, UpstreamError> {
        let failed = |what| Err(UpstreamError { text: text.chars().take(MAX_SHOWN).collect(), what });
        let (protocol, scheme, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (Protocol::Http, Scheme::HTTP, rest)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (Protocol::Https, Scheme::HTTPS, rest)
        } else if let Some(rest) = text.strip_prefix("h2c://") {
            (Protocol::H2c, Scheme::HTTP, rest)
        } else {
            return failed("does not begin with `http://`, `https://` or `h2c://`");
        };
        if rest.contains(['/', '?', '#']) {
            return failed("has a path, but requests keep their own");
        }
        if rest.contains('@') {
            return failed("has a user, but credentials of upstreams do not belong into an address");
        }
        let Ok(authority) = rest.parse::<Authority>() else { return failed("has no host that could be one") };
        let has_port = !authority.host().is_empty() && authority.as_str().len() > authority.host().len();
        if authority.host().is_empty() || (has_port && authority.port_u16().is_none_or(|port| port == 0)) {
            return failed("has no host, or a port that is none");
        }
        let Ok(host) = HeaderValue::try_from(authority.as_str()) else {
            return failed("has no host that could be one");
        };
        Ok(Upstream { protocol, scheme, authority, host })
    }
}

/// The most characters of a wrong text that are repeated.
const MAX_SHOWN: usize = 200;

/// Text that is no origin of an upstream.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the upstream `{text}` {what}: write an origin such as `http://127.0.0.1:9000`")]
pub(crate) struct UpstreamError {
    text: String,
    what: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_an_upstream_and_nothing_else_is() {
        for (text, protocol, authority) in [
            ("http://127.0.0.1:9000", Protocol::Http, "127.0.0.1:9000"),
            ("https://api.example", Protocol::Https, "api.example"),
            ("h2c://[::1]:50051", Protocol::H2c, "[::1]:50051"),
        ] {
            let upstream = Upstream::parse(text).unwrap();
            assert_eq!((upstream.protocol, upstream.authority.as_str()), (protocol, authority));
        }
        for (text, part) in [
            ("api.example:80", "does not begin with"),
            ("ftp://api.example", "does not begin with"),
            ("http://api.example/", "has a path"),
            ("http://api.example?x", "has a path"),
            ("http://u:p@api.example", "has a user"),
            ("http://", "has no host"),
            ("http://:80", "has no host"),
            ("http://api.example:", "a port that is none"),
            ("http://api.example:0", "a port that is none"),
            ("http://api.example:70000", "a port that is none"),
            ("http://a b", "has no host"),
        ] {
            let told = Upstream::parse(text).unwrap_err().to_string();
            assert!(told.contains(part), "{told}");
        }
    }
}
