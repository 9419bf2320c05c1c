//! What a caller is told of a denial: a problem document (RFC 9457) that tells a stranger nothing.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use portcullis_model::decision::DecisionId;
use portcullis_model::problem;

use crate::enforce::Denial;

/// The field that names the decision, for a caller who asks an administrator about it.
pub const DECISION: HeaderName = HeaderName::from_static(problem::DECISION_HEADER);

/// The answer to a denied request. All of one status and code have the same bytes, but for the decision's id.
///
/// `members` are more members of the document, each behind a comma.
#[must_use]
pub fn denied(denial: &Denial, members: &str, decision: DecisionId) -> Response<Bytes> {
    let mut response = self::problem(denial.status(), denial.code(), members, decision);
    if !denial.challenge().is_empty()
        && let Ok(challenge) = HeaderValue::from_str(denial.challenge())
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    if problem::ends_connection(response.status().as_u16()) || denial.ends_body() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A problem document. The code is one of ours and needs no escaping.
#[must_use]
pub fn problem(status: StatusCode, code: &str, members: &str, decision: DecisionId) -> Response<Bytes> {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = problem::document(status.as_u16(), title, code, &decision.to_string(), members);
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_bytes(&decision.text()) {
        headers.insert(DECISION, id);
    }
    response
}
