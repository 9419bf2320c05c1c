//! One permitted request, to its upstream and back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use portcullis_control::WireBody;
use portcullis_model::answer::Place;

use super::body::{Outgoing, Progress, Upload, UploadFault};
use super::clients::{Demand, SendError};
use super::edit;
use super::judge::Watched;
use super::peer::Peer;
use super::respond::{self, Failure};
use super::routing::{Protocol, Service, Upstream};
use super::signed::RequestBody;
use super::{Asked, Proxy, tunnel};
use crate::metrics::UpstreamFailure;
use portcullis_tower::edit::BadEdit;
use portcullis_tower::enforce::Permit;

/// A protocol that the client wants to switch to.
struct Switch {
    to: HeaderValue,
    client: OnUpgrade,
}

/// A request ready to be sent.
struct Prepared {
    request: Request<Upload>,
    demand: Demand,
    progress: Option<Arc<Progress>>,
    switch: Option<Switch>,
}

impl Proxy {
    /// Forwards a request that was permitted and whose decision was recorded. Whatever happens, there is an answer.
    pub(super) async fn forward(
        &self,
        permit: Permit,
        asked: Asked,
        service: Arc<Service>,
        peer: &Peer,
        parts: Parts,
        body: RequestBody,
    ) -> Response<Outgoing> {
        let limit = self.bounds.request_body_limit.unwrap_or(u64::MAX);
        let is_too_large = matches!(&body, RequestBody::Coming(body) if body.size_hint().lower() > limit);
        let watched = self.judge.watch(permit);
        if is_too_large {
            return self.fail(Failure::BodyTooLarge, &asked, &watched, WireBody::Unread("it is longer than the limit"));
        }
        let Ok(prepared) = self.prepare(&watched, &service, peer, parts, body, limit) else {
            return self.fail(Failure::Unavailable, &asked, &watched, WireBody::Unread("it was not sent on"));
        };
        let Prepared { request, demand, progress, switch } = prepared;
        let began = Instant::now();
        let sent = self.send(&service, demand, request, progress.as_deref()).await;
        let response = match sent {
            Ok(response) => response,
            Err(failure) => {
                let failure = self.explain(failure, progress.as_deref());
                return self.fail(failure, &asked, &watched, sent_of(progress.as_deref()));
            }
        };
        self.metrics.upstream_responded(began);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.pass_back(response, watched, &asked, progress);
        }
        match switch {
            Some(switch) => self.switch(switch, response, watched, &asked, peer),
            // An answer to something that was not asked.
            None => {
                self.metrics.upstream_failed(UpstreamFailure::Broken);
                self.fail(Failure::UpstreamUnavailable, &asked, &watched, sent_of(progress.as_deref()))
            }
        }
    }

    /// The answer to a permitted request that could not be served, of which note is taken.
    fn fail(&self, failure: Failure, asked: &Asked, watched: &Watched, request: WireBody) -> Response<Outgoing> {
        let response = respond::failed(failure, asked.recorded);
        let reason = failure.code().replace('_', "-");
        let failed = self.failures.failed(watched.permit().packed(), &asked.head, asked.recorded, &reason, &response);
        if let Some(failed) = failed {
            failed.end(request, response.body().kept());
        }
        response
    }

    fn prepare(
        &self,
        watched: &Arc<Watched>,
        service: &Service,
        peer: &Peer,
        mut parts: Parts,
        body: RequestBody,
        limit: u64,
    ) -> Result<Prepared, BadEdit> {
        let details = watched.permit().details();
        let switch = wanted_switch(&mut parts, service);
        let host = parts.headers.remove(HOST).or_else(|| authority(&parts.uri));
        edit::request(&mut parts.headers, &details)?;
        edit::forwarded(&mut parts.headers, peer, details.facts.client, host.clone());
        let host = host.filter(|_| service.preserve_host).unwrap_or_else(|| service.upstream.host.clone());
        parts.uri = target(&parts.uri, details.strip, &service.upstream, &host).ok_or(BadEdit)?;
        let demand = if service.preserve_host || switch.is_some() { Demand::Http1 } else { Demand::Any };
        match service.upstream.protocol {
            // The authority of the target says it; a field beside it could only contradict.
            Protocol::H2c => {}
            Protocol::Http | Protocol::Https => {
                parts.headers.insert(HOST, host);
            }
        }
        if service.upstream.protocol == Protocol::Http && parts.headers.contains_key(TE) {
            // RFC 9110 section 10.1.4. Over HTTP/2 there is no such field and TE stands alone.
            parts.headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        if let Some(switch) = &switch {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, switch.to.clone());
        }
        let is_empty = body.is_empty();
        let room = || self.failures.room(&details.facts);
        let (upload, progress) = match body {
            _ if is_empty => (Upload::none(), None),
            RequestBody::Coming(body) => {
                let (upload, progress) =
                    Upload::new(body, self.bounds.idle_timeout, limit, room(), Arc::clone(watched));
                (upload, Some(progress))
            }
            RequestBody::Whole(whole) => {
                let (upload, progress) = Upload::whole(whole, room());
                (upload, Some(progress))
            }
            // Nobody permits a request whose body could not be read.
            RequestBody::Gone(_) => return Err(BadEdit),
        };
        let mut request = Request::new(upload);
        *request.method_mut() = parts.method;
        *request.uri_mut() = parts.uri;
        *request.headers_mut() = parts.headers;
        if service.upstream.protocol == Protocol::H2c {
            *request.version_mut() = Version::HTTP_2;
        }
        Ok(Prepared { request, demand, progress, switch })
    }

    /// Sends a request and waits for the head of the response. The wait begins anew as long as the client's body moves.
    async fn send(
        &self,
        service: &Service,
        demand: Demand,
        request: Request<Upload>,
        progress: Option<&Progress>,
    ) -> Result<Response<Incoming>, SendFailure> {
        let mut sending = pin!(self.clients.send(service, demand, request));
        let mut seen = (0, false);
        loop {
            match tokio::time::timeout(service.response_timeout, sending.as_mut()).await {
                Ok(result) => return result.map_err(SendFailure::Sending),
                Err(_) => {
                    let so_far = progress.map_or((0, false), Progress::so_far);
                    if so_far == seen {
                        return Err(SendFailure::NoResponse);
                    }
                    seen = so_far;
                }
            }
        }
    }

    /// What a failure was: the client's where its own body failed, else the upstream's.
    fn explain(&self, failure: SendFailure, progress: Option<&Progress>) -> Failure {
        if let Some(fault) = progress.and_then(Progress::fault) {
            return match fault {
                UploadFault::Stalled => Failure::BodyTimeout,
                UploadFault::Denied => Failure::Revoked,
                UploadFault::TooLarge => Failure::BodyTooLarge,
                UploadFault::Source => Failure::BodyBroken,
            };
        }
        let (kind, failure) = match failure {
            SendFailure::NoResponse | SendFailure::Sending(SendError::ConnectTimeout) => {
                (UpstreamFailure::Timeout, Failure::UpstreamTimeout)
            }
            SendFailure::Sending(SendError::Connect) => (UpstreamFailure::Connect, Failure::UpstreamUnavailable),
            SendFailure::Sending(SendError::Broken) => (UpstreamFailure::Broken, Failure::UpstreamUnavailable),
        };
        self.metrics.upstream_failed(kind);
        failure
    }

    fn pass_back(
        &self,
        response: Response<Incoming>,
        watched: Arc<Watched>,
        asked: &Asked,
        request: Option<Arc<Progress>>,
    ) -> Response<Outgoing> {
        let (mut parts, body) = response.into_parts();
        edit::end_to_end(&mut parts.headers);
        let mut passed = Response::new(Outgoing::empty());
        *passed.status_mut() = parts.status;
        *passed.headers_mut() = parts.headers;
        let failed = match passed.status().as_u16() {
            ..400 => None,
            _ => {
                let details = watched.permit().packed();
                self.failures.failed(details, &asked.head, asked.recorded, UPSTREAM_STATUS, &passed)
            }
        };
        let idle = self.bounds.idle_timeout;
        *passed.body_mut() = match (failed, body.is_end_stream()) {
            (None, true) => Outgoing::empty(),
            (None, false) => Outgoing::streamed(body, idle, watched),
            (Some(failed), true) => {
                failed.end(sent_of(request.as_deref()), WireBody::Empty);
                Outgoing::empty()
            }
            (Some(failed), false) => Outgoing::recorded(body, idle, watched, failed, request),
        };
        passed
    }

    fn switch(
        &self,
        switch: Switch,
        mut response: Response<Incoming>,
        watched: Arc<Watched>,
        asked: &Asked,
        peer: &Peer,
    ) -> Response<Outgoing> {
        let upstream = hyper::upgrade::on(&mut response);
        let to = response.headers().get(UPGRADE).cloned().unwrap_or(switch.to);
        let mut passed = self.pass_back(response, Arc::clone(&watched), asked, None);
        let headers = passed.headers_mut();
        // RFC 9110 section 15.2.2: nothing follows the head but the new protocol.
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, to);
        *passed.body_mut() = Outgoing::empty();
        tunnel::open(peer.connection.clone(), switch.client, upstream, watched);
        passed
    }
}

/// The reason of a call that failed because the upstream said so.
const UPSTREAM_STATUS: &str = "upstream-status";

/// What was taken of a request's body.
fn sent_of(progress: Option<&Progress>) -> WireBody {
    progress.map_or(WireBody::Empty, Progress::kept)
}

enum SendFailure {
    Sending(SendError),
    NoResponse,
}

/// The switch that a client asks for, where the service's upstream could answer it. HTTP/2 has none (RFC 9113 section 8.6),
/// and a server may always go on with the protocol that it has (RFC 9110 section 7.8).
fn wanted_switch(parts: &mut Parts, service: &Service) -> Option<Switch> {
    let client = parts.extensions.remove::<OnUpgrade>()?;
    let is_asked = parts.version == Version::HTTP_11 && edit::lists(&parts.headers, &CONNECTION, "upgrade");
    if !is_asked || service.upstream.protocol == Protocol::H2c {
        return None;
    }
    let mut protocols = parts.headers.get_all(UPGRADE).iter();
    let to = protocols.next().filter(|_| protocols.next().is_none())?.clone();
    // Another HTTP inside would carry requests that nobody decided.
    let is_http = to.to_str().map_or(true, |list| list.split(',').any(is_http));
    (!is_http).then_some(Switch { to, client })
}

fn is_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default().trim();
    ["h2c", "h2", "h3", "http", "tls"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn authority(uri: &Uri) -> Option<HeaderValue> {
    uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
}

/// The target as it was decided, without the credential, at the upstream.
fn target(decided: &Uri, strip: Option<Place<'_>>, upstream: &Upstream, host: &HeaderValue) -> Option<Uri> {
    let path_and_query = decided.path_and_query()?;
    let without = strip.and_then(|place| place.cut_from(path_and_query.as_str()));
    let path_and_query = match without {
        Some(without) => PathAndQuery::try_from(without).ok()?,
        None => path_and_query.clone(),
    };
    let authority = match upstream.protocol {
        Protocol::H2c => host.to_str().ok()?.parse().ok()?,
        Protocol::Http | Protocol::Https => upstream.authority.clone(),
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(upstream.scheme.clone());
    parts.authority = Some(authority);
    parts.path_and_query = Some(path_and_query);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_http_is_switched_to() {
        for (protocol, http) in [
            ("websocket", false),
            ("h2c", true),
            ("HTTP/2.0", true),
            ("TLS/1.0", true),
            (" h2 ", true),
            ("httpx", false),
        ] {
            assert_eq!(is_http(protocol), http, "{protocol}");
        }
    }

    #[test]
    fn the_target_is_the_one_that_was_decided() {
        let upstream = Upstream::parse("http://127.0.0.1:9000").unwrap();
        let host = HeaderValue::from_static("api.example");
        let of = |decided: &str, strip| target(&decided.parse().unwrap(), strip, &upstream, &host).unwrap().to_string();
        assert_eq!(of("/a%20b?x=%7e&y", None), "http://127.0.0.1:9000/a%20b?x=%7e&y");
        assert_eq!(of("http://api.example/a?", None), "http://127.0.0.1:9000/a?");
        assert_eq!(of("/a?k=1&b", Some(Place::Parameter("k"))), "http://127.0.0.1:9000/a?b");
        let presigned = "/a?X-Ems-Date=1&b&X-Ems-Signature=2&X-Ems=3";
        assert_eq!(of(presigned, Some(Place::Presigned("Ems"))), "http://127.0.0.1:9000/a?b&X-Ems=3");
        assert_eq!(of("/a?k=1", Some(Place::Header("k"))), "http://127.0.0.1:9000/a?k=1");
        let h2c = Upstream::parse("h2c://127.0.0.1:9000").unwrap();
        assert_eq!(target(&"/a".parse().unwrap(), None, &h2c, &host).unwrap(), "http://api.example/a");
    }
}
