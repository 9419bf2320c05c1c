//! Answers to CORS preflights (Fetch standard, section 4.8). Browsers send no credential with them, so where a service has
//! a rule the proxy answers what the gate must deny. Nothing reaches the upstream.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use portcullis_model::verdict::PublicCode;

use super::body::Outgoing;
use super::respond;
use super::routing::Preflight;
use crate::journal::DecisionId;

const VARIES: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

/// The answer, or nothing where the request is no preflight.
pub(super) fn answer(rule: &Preflight, parts: &Parts, decision: DecisionId) -> Option<Response<Outgoing>> {
    if parts.method != Method::OPTIONS {
        return None;
    }
    let origin = only(parts, &ORIGIN)?;
    let method = only(parts, &ACCESS_CONTROL_REQUEST_METHOD)?;
    let asked = Method::from_bytes(method.as_bytes()).ok()?;
    let any = rule.origins.iter().any(|known| known == "*");
    // Origins are compared as browsers serialise them, byte for byte.
    if !any && !rule.origins.iter().any(|known| known.as_bytes() == origin.as_bytes()) {
        return Some(respond::problem(StatusCode::FORBIDDEN, PublicCode::Forbidden.as_str(), decision));
    }
    let mut response = Response::new(Outgoing::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let allowed = if any { HeaderValue::from_static("*") } else { origin.clone() };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    // Whether the endpoint has the method is decided with the request itself, which has a credential to decide by.
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_str(asked.as_str()).ok()?);
    if !rule.headers.is_empty() {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, rule.headers.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(rule.max_age_s));
    headers.insert(VARY, HeaderValue::from_static(VARIES));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

/// The value of a field that is given once.
fn only<'a>(parts: &'a Parts, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = parts.headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
