//! What the dialects over HTTP share: the request that a check is about, its body, and the answer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use portcullis_model::fault::HostFault;
use portcullis_model::problem;
use portcullis_tower::enforce::{Denial, Permit};
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::{Edits, Told};
use crate::gate::{First, Original, Pins};
use crate::{Authz, Dialect, Incomplete, PEER_HEADER, SECRET_HEADER, envoy_http, forward_auth, nginx};

/// The most bytes of bodies that one listener holds for signatures at once.
pub const MAX_HELD_BYTES: usize = MAX_HELD_KIB * 1024;
pub(crate) const MAX_HELD_KIB: usize = 256 * 1024;
/// How long a proxy may take for the body of a check, which it has already.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// The status that a denial has, where the proxy passes on no other than 401 and 403.
const STATUS: HeaderName = HeaderName::from_static("x-portcullis-status");
/// Its public code.
const CODE: HeaderName = HeaderName::from_static("x-portcullis-code");
/// The target without the credential; the one that came where the credential is not in it.
const TARGET: HeaderName = HeaderName::from_static("x-portcullis-target");
/// The name of the field that the credential stands in.
const STRIP: HeaderName = HeaderName::from_static("x-portcullis-strip");
/// The fields that Envoy is to take out.
const ENVOY_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Fields of a check that are about the check itself: its own connection and framing, and who asks.
const OF_THE_CHECK: [&str; 4] = ["connection", "content-length", "transfer-encoding", SECRET_HEADER];

/// A check, read.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) original: Original<'a>,
    pub(crate) body: Coming,
}

/// What the body of a check says of the request's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Coming {
    /// Nothing.
    No,
    /// It is the request's, whole.
    Whole,
    /// It is the request's where it is not empty; an empty one may not have been sent.
    UnlessEmpty,
}

/// The value of a field that has to be there once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str, lacks: Incomplete) -> Result<&'a [u8], Incomplete> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if !value.is_empty() => Ok(value.as_bytes()),
        (_, _) => Err(lacks),
    }
}

/// An address without a port.
pub(crate) fn address(text: &[u8], lacks: Incomplete) -> Result<IpAddr, Incomplete> {
    std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).ok_or(lacks)
}

/// Whether the scheme is that of TLS; one that is neither is no scheme of a request.
pub(crate) fn is_secure(scheme: &[u8], lacks: Incomplete) -> Result<bool, Incomplete> {
    match scheme {
        b"https" => Ok(true),
        b"http" => Ok(false),
        _ => Err(lacks),
    }
}

/// Whether the check itself has no body.
pub(crate) fn is_empty(headers: &HeaderMap) -> bool {
    let is_none = |length: &HeaderValue| length == "0";
    !headers.contains_key(TRANSFER_ENCODING) && headers.get_all(CONTENT_LENGTH).iter().all(is_none)
}

/// The fields of a check that are the request's, in order: all but those about the check and the named ones.
pub(crate) fn fields<'a>(headers: &'a HeaderMap, but: &[&str]) -> Vec<(&'a [u8], Cow<'a, [u8]>)> {
    let is_own = |name: &str| !OF_THE_CHECK.contains(&name) && !but.contains(&name);
    let own = headers.iter().filter(|(name, _)| is_own(name.as_str()));
    own.map(|(name, value)| (name.as_str().as_bytes(), Cow::Borrowed(value.as_bytes()))).collect()
}

impl Authz {
    /// Answers a check over HTTP.
    pub(crate) async fn answer<B>(&self, parts: &Parts, body: B) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        if !self.knows(&parts.headers) {
            // It is nobody's check, so there is no decision to name.
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            return response;
        }
        let asked = match self.terms.dialect {
            Dialect::EnvoyHttp | Dialect::EnvoyGrpc => envoy_http::read(parts, &self.terms),
            Dialect::Nginx => nginx::read(parts),
            Dialect::ForwardAuth => forward_auth::read(parts, &self.terms),
        };
        let (original, outcome) = match asked {
            Ok(asked) => {
                let outcome = self.decide(&asked, body).await;
                (Some(asked.original), outcome)
            }
            Err(incomplete) => (None, Err(self.incomplete(incomplete))),
        };
        let decision = self.record(&outcome);
        let answer = match (&outcome, &original) {
            (Ok(permit), Some(original)) => self.allowed(permit, original, &decision),
            (Ok(_), None) => None,
            (Err(denial), _) => self.denied(denial, &decision),
        };
        answer.unwrap_or_else(|| {
            // The gate allows with something that no field can say, which breaks the contract.
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        })
    }

    async fn decide<B>(&self, asked: &Asked<'_>, body: B) -> Result<Permit, Denial>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        let pins = Pins([self.terms.service.as_deref(), None]);
        let pending = match self.wiring.first(&asked.original, pins) {
            First::Done(outcome) => return outcome,
            First::NeedsBody(pending) => pending,
        };
        let read = match asked.body {
            Coming::No => Err(HostFault::BodyUnavailable),
            Coming::Whole | Coming::UnlessEmpty => self.read(body, pending.cap().min(self.terms.body_limit)).await,
        };
        let body = match &read {
            Ok((bytes, _)) if bytes.is_empty() && asked.body == Coming::UnlessEmpty => Err(HostFault::BodyUnavailable),
            Ok((bytes, _)) => Ok(bytes.as_slice()),
            Err(fault) => Err(*fault),
        };
        self.wiring.finish(&pending, body, pins)
    }

    /// Reads a body, and takes its share of what is held for as long as it is.
    async fn read<B>(&self, mut body: B, cap: usize) -> Result<(Vec<u8>, OwnedSemaphorePermit), HostFault>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        let hint = body.size_hint();
        let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        if length(hint.lower()) > cap {
            return Err(HostFault::BodyTooLarge);
        }
        let expected = hint.upper().map_or(cap, length).min(cap);
        let kib = u32::try_from(expected.div_ceil(1024)).map_err(|_| HostFault::BodiesFull)?;
        let held = std::sync::Arc::clone(&self.held).try_acquire_many_owned(kib).map_err(|_| HostFault::BodiesFull)?;
        let reading = async {
            let mut whole = BytesMut::with_capacity(expected.min(64 * 1024));
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| HostFault::BodyBroken)?;
                let data = frame.into_data().map_err(|_| HostFault::BodyTrailers)?;
                if whole.len().saturating_add(data.len()) > expected {
                    return Err(HostFault::BodyTooLarge);
                }
                whole.extend_from_slice(&data);
            }
            Ok(whole.to_vec())
        };
        let whole = tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(|_| HostFault::BodyTimeout)??;
        Ok((whole, held))
    }

    /// Nothing where something cannot be said in a field.
    fn allowed(&self, permit: &Permit, original: &Original<'_>, decision: &str) -> Option<Response<Full<Bytes>>> {
        let Edits { set, mut remove, target, credential } = Edits::of(permit, original);
        let mut response = Response::new(Full::default());
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(problem::DECISION_HEADER, HeaderValue::from_str(decision).ok()?);
        for (name, value) in &set {
            headers.insert(*name, HeaderValue::from_str(value).ok()?);
        }
        let target = target.as_ref().map_or(original.target, String::as_bytes);
        headers.insert(TARGET, HeaderValue::from_bytes(target).ok()?);
        match self.terms.dialect {
            Dialect::EnvoyHttp | Dialect::EnvoyGrpc => {
                // Envoy takes out after it has set, so not the target, which is set in place of a client's.
                remove.retain(|name| name != TARGET.as_str());
                // Those of the check itself too: a client may have sent them.
                remove.extend([PEER_HEADER, SECRET_HEADER].map(str::to_owned));
                headers.insert(ENVOY_REMOVE, HeaderValue::from_str(&remove.join(",")).ok()?);
            }
            Dialect::Nginx | Dialect::ForwardAuth => {
                if let Some(credential) = credential {
                    headers.insert(STRIP, HeaderValue::from_str(&credential).ok()?);
                }
            }
        }
        Some(response)
    }

    fn denied(&self, denial: &Denial, decision: &str) -> Option<Response<Full<Bytes>>> {
        let Told { status, code, fields, document } = Told::of(denial, decision);
        let mut response = Response::new(Full::from(document));
        let headers = response.headers_mut();
        for (name, value) in &fields {
            headers.insert(*name, HeaderValue::from_str(value).ok()?);
        }
        if self.terms.dialect == Dialect::Nginx {
            headers.insert(STATUS, HeaderValue::from(status.as_u16()));
            headers.insert(CODE, HeaderValue::from_static(code));
        }
        *response.status_mut() = match self.terms.dialect {
            Dialect::Nginx if status != StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
            Dialect::EnvoyGrpc | Dialect::EnvoyHttp | Dialect::Nginx | Dialect::ForwardAuth => status,
        };
        Some(response)
    }
}

#[cfg(test)]
mod tests;
