//! The description of the admin API as it is served: the document, and a page for people.
//!
//! It holds nothing of the installation and needs no key. The page is made here; nothing is fetched from anywhere, and without
//! a script it is only not filtered.

mod page;

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::problem::Problem;

/// Where the document is.
const API_PATH: &str = "/v1/openapi.json";

/// What the page may do: be styled and filtered by what this listener serves, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What is served without a key.
pub(super) struct Docs {
    document: Bytes,
    page: Bytes,
}

impl Docs {
    pub(super) fn new(document: &Value) -> Docs {
        Docs { document: text(document).into(), page: page::page(document).into() }
    }

    /// The answer, if it is one of these that is asked for.
    pub(super) fn answer(&self, method: &Method, path: &str) -> Option<Response> {
        let (media, body) = match path {
            API_PATH => ("application/json", self.document.clone()),
            "/docs" => ("text/html; charset=utf-8", self.page.clone()),
            "/docs/style.css" => ("text/css; charset=utf-8", Bytes::from_static(include_bytes!("docs/style.css"))),
            "/docs/filter.js" => {
                ("text/javascript; charset=utf-8", Bytes::from_static(include_bytes!("docs/filter.js")))
            }
            _ => return None,
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this can be read and nothing else: send GET",
            )
            .into_response();
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        let fields: [(HeaderName, &'static str); 5] = [
            (header::CONTENT_TYPE, media),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        Some((fields, body).into_response())
    }
}

/// The document as it is served and reviewed.
fn text(document: &Value) -> String {
    // A value of JSON has a text.
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
