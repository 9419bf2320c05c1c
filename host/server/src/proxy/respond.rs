//! Everything the proxy says itself: denials and failures, as problem documents (RFC 9457) that tell a stranger nothing.

use http::header::{AUTHORIZATION, CONNECTION};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use portcullis_model::verdict::PublicCode;

use super::body::Outgoing;
use crate::journal::DecisionId;
use portcullis_tower::answer::{self, DECISION};
use portcullis_tower::enforce::Denial;

/// Why a permitted request could not be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// No connection to the upstream, or it broke before the head of a response.
    UpstreamUnavailable,
    /// The upstream took too long.
    UpstreamTimeout,
    /// The client's body is longer than the limit.
    BodyTooLarge,
    /// The client's body stood still.
    BodyTimeout,
    /// The client's body broke off, or was no body.
    BodyBroken,
    /// The credential was revoked while its body was being sent.
    Revoked,
    /// The gate's answer could not be carried out.
    Unavailable,
}

impl Failure {
    fn status(self) -> StatusCode {
        match self {
            Failure::UpstreamUnavailable => StatusCode::BAD_GATEWAY,
            Failure::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Failure::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Failure::BodyBroken => StatusCode::BAD_REQUEST,
            Failure::Revoked => StatusCode::FORBIDDEN,
            Failure::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Failure::UpstreamUnavailable => "upstream_unavailable",
            Failure::UpstreamTimeout => "upstream_timeout",
            Failure::BodyTooLarge => "body_too_large",
            Failure::BodyTimeout => "body_timeout",
            Failure::BodyBroken => "bad_body",
            Failure::Revoked => PublicCode::Forbidden.as_str(),
            Failure::Unavailable => PublicCode::Unavailable.as_str(),
        }
    }

    /// Whether what the client still sends belongs to nothing any more.
    fn closes(self) -> bool {
        match self {
            Failure::BodyTooLarge | Failure::BodyTimeout | Failure::BodyBroken | Failure::Revoked => true,
            Failure::UpstreamUnavailable | Failure::UpstreamTimeout | Failure::Unavailable => false,
        }
    }
}

/// The answer to a denied request. All of one status and code have the same bytes, but for the decision's id.
pub(crate) fn denied(denial: &Denial, decision: DecisionId) -> Response<Outgoing> {
    denied_as(denial, "", decision)
}

/// The envelope of the Antavo API's errors, for a denial that it has a code for. It goes by what was sent, never by what was
/// wrong with it.
pub(super) fn antavo(denial: &Denial, headers: &HeaderMap) -> Option<&'static str> {
    const BEARER: &[u8] = b"bearer ";
    let is_bearer = headers.get(AUTHORIZATION).is_some_and(|value| {
        value.as_bytes().get(..BEARER.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(BEARER))
    });
    let envelope = match is_bearer {
        true => {
            r#","error":{"type":"UnauthorizedException","code":220052,"message":"Bearer token authentication failed"}"#
        }
        false => r#","error":{"type":"UnauthorizedException","code":101021,"message":"Auth header format is invalid"}"#,
    };
    (denial.status() == StatusCode::UNAUTHORIZED).then_some(envelope)
}

/// The same, with more members of the problem document.
pub(super) fn denied_as(denial: &Denial, members: &str, decision: DecisionId) -> Response<Outgoing> {
    answer::denied(denial, members, decision).map(Outgoing::whole)
}

/// The answer to a permitted request that could not be served.
pub(super) fn failed(failure: Failure, decision: DecisionId) -> Response<Outgoing> {
    let mut response = problem(failure.status(), failure.code(), decision);
    if failure.closes() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a report that was taken: nothing.
pub(super) fn accepted(decision: DecisionId) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(id) = HeaderValue::from_bytes(&decision.text()) {
        response.headers_mut().insert(DECISION, id);
    }
    response
}

/// A problem document. The code is one of ours and needs no escaping.
pub(super) fn problem(status: StatusCode, code: &str, decision: DecisionId) -> Response<Outgoing> {
    answer::problem(status, code, "", decision).map(Outgoing::whole)
}
