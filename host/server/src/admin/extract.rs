//! What handlers take from a request, each refused with a problem where it is not what it should be.

use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use portcullis_control::store::{MAX_PAGE, Paging};
use portcullis_control::{Confirmation, FieldFault, Idempotency, MAX_IDEMPOTENCY_KEY_BYTES};
use portcullis_model::id::Revision;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::describe::{Operation, Taken};
use super::problem::Problem;

/// The longest body of a command in bytes. A list of ten thousand address ranges is a fifth of it.
const MAX_BODY_BYTES: usize = 1 << 20;
/// How long the body of a command may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many records a page has where the caller does not say.
const USUAL_PAGE: u32 = 50;
/// The field that names a creation (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The same, as the description writes it.
pub(super) const IDEMPOTENCY_KEY_FIELD: &str = "Idempotency-Key";

/// Ids out of the path. A text that is no id names nothing, so it is not found.
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(ids)| At(ids)).map_err(|_| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is nothing of that name: ids are letters, digits, `.`, `_` and `-`",
            )
        })
    }
}

impl<T> Taken for At<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.refuses(&[404]);
    }
}

/// The JSON of a command, at most `LIMIT` bytes of it. Unknown fields are refused, and a fault names the field.
pub(super) struct Body<T, const LIMIT: usize = MAX_BODY_BYTES>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync, const LIMIT: usize> FromRequest<S> for Body<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        object(&json_of(LIMIT, request).await?).map(Body)
    }
}

impl<T: JsonSchema, const LIMIT: usize> Taken for Body<T, LIMIT> {
    fn describe(operation: &mut Operation<'_>) {
        operation.takes_body::<T>();
    }
}

/// The JSON of a creation, and what a repetition of it is known by.
pub(super) struct Creation<T>(pub(super) T, pub(super) Option<Idempotency>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Creation<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let mut values = request.headers().get_all(IDEMPOTENCY_KEY).iter();
        let key = values.next().cloned();
        if values.next().is_some() {
            let detail = "there is more than one `Idempotency-Key`: send one";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_idempotency_key", detail));
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let body = json_of(MAX_BODY_BYTES, request).await?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let parts: [&[u8]; 3] = [method.as_str().as_bytes(), target.as_bytes(), &body];
        let idempotency = key.map(|key| Idempotency::new(key.as_bytes(), &parts)).transpose();
        let idempotency = idempotency
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_idempotency_key", error.to_string()))?;
        Ok(Creation(object(&body)?, idempotency))
    }
}

impl<T: JsonSchema> Taken for Creation<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.takes_body::<T>();
        let description = "Names this creation, so that sending it again does not do it twice: a new UUID for each.";
        let schema = json!({
            "type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY_BYTES, "pattern": "^[!-~]+$",
        });
        operation.takes_header(IDEMPOTENCY_KEY_FIELD, description, schema);
    }
}

/// The bytes of a body that says that it is JSON.
async fn json_of(limit: usize, request: Request) -> Result<bytes::Bytes, Problem> {
    let media = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_json = media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"));
    // A form that a browser sends across origins cannot have this media type without a preflight.
    if !is_json {
        let detail = "the body is not JSON: send `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail));
    }
    within(limit, request).await
}

/// What the object of a body says.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would take a list for an object, its fields in the order of our code.
    if !matches!(body.trim_ascii_start().first(), None | Some(b'{')) {
        let what = "the body is no JSON object: write it as `{..}`".to_owned();
        return Err(Problem::invalid(vec![FieldFault { field: String::new(), what }]));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        // Of JSON that breaks off the path is not known.
        let field = if matches!(field.as_str(), "." | "?") { String::new() } else { field };
        let what = error.inner().to_string();
        Problem::invalid(vec![FieldFault { field, what }])
    })?;
    if json.end().is_err() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "not_json", "something follows the JSON of the body"));
    }
    Ok(value)
}

/// A body of bytes.
pub(super) async fn bounded(request: Request) -> Result<bytes::Bytes, Problem> {
    within(MAX_BODY_BYTES, request).await
}

pub(super) async fn within(limit: usize, request: Request) -> Result<bytes::Bytes, Problem> {
    let collected = Limited::new(request.into_body(), limit).collect();
    let Ok(collected) = tokio::time::timeout(BODY_TIMEOUT, collected).await else {
        let detail = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", detail));
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("the body is longer than {limit} bytes: split what it asks for");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
        }
        Err(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "cut_off", "the body ended before it was whole")),
    }
}

/// `?after=CURSOR&limit=N`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// `next` of the page before.
    after: Option<u64>,
    /// The most records: 50 where it is left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

/// Which part of a list is asked for.
pub(super) struct Paged(pub(super) Paging);

impl<S: Send + Sync> FromRequestParts<S> for Paged {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Asked(PageQuery { after, limit }) = Asked::from_request_parts(parts, state).await?;
        Ok(Paged(paging(after, limit)?))
    }
}

impl Taken for Paged {
    fn describe(operation: &mut Operation<'_>) {
        operation.takes_query::<PageQuery>();
        operation.refuses(&[422]);
    }
}

/// A checked page.
pub(super) fn paging(after: Option<u64>, limit: Option<u32>) -> Result<Paging, Problem> {
    let limit = limit.unwrap_or(USUAL_PAGE);
    if limit == 0 || limit > MAX_PAGE {
        let what = format!("1 to {MAX_PAGE}");
        return Err(Problem::invalid(vec![FieldFault { field: "limit".to_owned(), what }]));
    }
    Ok(Paging { after, limit })
}

/// The query. Unknown parameters are refused where the type says so.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(asked)| Asked(asked))
            .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, "bad_query", rejection.body_text()))
    }
}

impl<T: JsonSchema> Taken for Asked<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.takes_query::<T>();
        operation.refuses(&[422]);
    }
}

/// `?confirm=true`, where there is no body to say so.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirm {
    /// It cannot be undone: without this it is refused, and the refusal tells what would happen.
    #[serde(default)]
    confirm: bool,
}

impl Confirm {
    pub(super) fn confirmation(&self) -> Confirmation {
        confirmation(self.confirm)
    }
}

pub(super) fn confirmation(confirm: bool) -> Confirmation {
    if confirm { Confirmation::Confirmed } else { Confirmation::Missing }
}

/// The revision in `If-Match`, which is the `changed` of the record as it was read.
pub(super) struct IfMatch(pub(super) Option<Revision>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(header::IF_MATCH).iter();
        let Some(value) = values.next() else { return Ok(IfMatch(None)) };
        let text = value.to_str().ok().map(str::trim);
        let tag = text.and_then(|text| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
        match (text, tag, values.next()) {
            (Some("*"), _, None) => Ok(IfMatch(None)),
            (_, Some(revision), None) => Ok(IfMatch(Some(Revision(revision)))),
            _ => {
                let detail = "`If-Match` is not one ETag as it was given: send it back with its quotes";
                Err(Problem::new(StatusCode::BAD_REQUEST, "bad_if_match", detail))
            }
        }
    }
}

impl Taken for IfMatch {
    fn describe(operation: &mut Operation<'_>) {
        let description = "The `ETag` of the record as it was read. Has it changed since, the change is refused.";
        operation.takes_header("If-Match", description, json!({ "type": "string" }));
        operation.refuses(&[412]);
    }
}
