//! What handlers answer: records with their ETag, pages, and nothing.

use std::fmt::Write as _;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portcullis_control::Repetition;
use portcullis_control::store::Page;
use portcullis_model::id::Revision;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::describe::{Answer, Operation};
use super::extract::IDEMPOTENCY_KEY_FIELD;

/// Says that what is answered was done before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A page of records.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub(super) struct List<T> {
    /// The records: the oldest first; of the audit and of decisions the newest.
    pub(super) items: Vec<T>,
    /// What to give as `after` for the next page; null at the end.
    pub(super) next: Option<u64>,
}

impl<T> List<T> {
    pub(super) fn of<S>(page: Page<S>, view: impl FnMut(S) -> T) -> List<T> {
        List { items: page.items.into_iter().map(view).collect(), next: page.next }
    }
}

/// A record, with its ETag.
pub(super) struct Shown<T> {
    pub(super) changed: Revision,
    pub(super) view: T,
}

pub(super) fn shown<T>(changed: Revision, view: T) -> Shown<T> {
    Shown { changed, view }
}

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.view).into_response();
        tag(&mut response, self.changed);
        response
    }
}

impl<T: JsonSchema> Answer for Shown<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers::<T>(200, "The record.", json!({ "ETag": etag() }));
    }
}

/// A record that was made, with its place.
pub(super) struct Created<T> {
    changed: Revision,
    at: String,
    view: T,
    repetition: Repetition,
}

pub(super) fn created<T>(repetition: Repetition, changed: Revision, at: String, view: T) -> Created<T> {
    Created { changed, at, view, repetition }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Json(self.view)).into_response();
        if let Ok(location) = HeaderValue::from_str(&self.at) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if self.repetition == Repetition::Replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        tag(&mut response, self.changed);
        response
    }
}

impl<T: JsonSchema> Answer for Created<T> {
    fn describe(operation: &mut Operation<'_>) {
        let headers = json!({
            "ETag": etag(),
            "Location": { "description": "Where it is.", "schema": { "type": "string" } },
        });
        operation.answers::<T>(201, "It is made and in force.", headers);
        if operation.has_header(IDEMPOTENCY_KEY_FIELD) {
            let replayed = json!({
                "description": "There, and `true`, where it was made before under the same `Idempotency-Key`.",
                "schema": { "type": "string", "enum": ["true"] },
            });
            operation.answers_with("Idempotency-Replayed", &replayed);
        }
    }
}

fn etag() -> serde_json::Value {
    json!({ "description": "What to give as `If-Match` with a change.", "schema": { "type": "string" } })
}

/// What was asked to go is gone.
pub(super) struct Removed;

impl IntoResponse for Removed {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Answer for Removed {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers_nothing(204, "It is gone.");
    }
}

/// What was asked to go is gone out of a record, which is changed by it.
pub(super) struct TakenOut(pub(super) Revision);

impl IntoResponse for TakenOut {
    fn into_response(self) -> Response {
        let mut response = Removed.into_response();
        tag(&mut response, self.0);
        response
    }
}

impl Answer for TakenOut {
    fn describe(operation: &mut Operation<'_>) {
        Removed::describe(operation);
        operation.answers_with("ETag", &etag());
    }
}

/// An answer that nothing on the way may keep.
pub(super) struct Uncached<T>(pub(super) T);

impl<T: IntoResponse> IntoResponse for Uncached<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl<T: Answer> Answer for Uncached<T> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
        operation.answers_with("Cache-Control", &json!({ "schema": { "type": "string", "enum": ["no-store"] } }));
    }
}

fn tag(response: &mut Response, changed: Revision) {
    let mut tag = String::with_capacity(24);
    // Writing to a string cannot fail.
    let _ = write!(tag, "\"{changed}\"");
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
}
