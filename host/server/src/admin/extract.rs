//! What handlers take from a request, each refused with a problem where it is not what it should be.

use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use portcullis_control::Confirmation;
use portcullis_control::store::{MAX_PAGE, Paging};
use portcullis_model::id::Revision;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The longest body of a command in bytes. A list of ten thousand address ranges is a fifth of it.
const MAX_BODY_BYTES: usize = 1 << 20;
/// How long the body of a command may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many records a page has where the caller does not say.
const USUAL_PAGE: u32 = 50;

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

/// The JSON of a command, at most `LIMIT` bytes of it. Unknown fields are refused, and a fault names the field.
pub(super) struct Body<T, const LIMIT: usize = MAX_BODY_BYTES>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync, const LIMIT: usize> FromRequest<S> for Body<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let media =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_json =
            media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"));
        // A form that a browser sends across origins cannot have this media type without a preflight.
        if !is_json {
            let detail = "the body is not JSON: send `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail));
        }
        let body = within(LIMIT, request).await?;
        // serde would take a list for an object, its fields in the order of our code.
        if !matches!(body.trim_ascii_start().first(), None | Some(b'{')) {
            let what = "the body is no JSON object: write it as `{..}`".to_owned();
            return Err(Problem::invalid(vec![portcullis_control::FieldFault { field: String::new(), what }]));
        }
        let mut json = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = error.path().to_string();
            // Of JSON that breaks off the path is not known.
            let field = if matches!(field.as_str(), "." | "?") { String::new() } else { field };
            let what = error.inner().to_string();
            Problem::invalid(vec![portcullis_control::FieldFault { field, what }])
        })?;
        if json.end().is_err() {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "not_json", "something follows the JSON of the body"));
        }
        Ok(Body(value))
    }
}

/// A body of bytes.
pub(super) async fn bounded(request: Request) -> Result<bytes::Bytes, Problem> {
    within(MAX_BODY_BYTES, request).await
}

async fn within(limit: usize, request: Request) -> Result<bytes::Bytes, Problem> {
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
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    after: Option<u64>,
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

/// A checked page.
pub(super) fn paging(after: Option<u64>, limit: Option<u32>) -> Result<Paging, Problem> {
    let limit = limit.unwrap_or(USUAL_PAGE);
    if limit == 0 || limit > MAX_PAGE {
        let what = format!("1 to {MAX_PAGE}");
        return Err(Problem::invalid(vec![portcullis_control::FieldFault { field: "limit".to_owned(), what }]));
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

/// `?confirm=true`, where there is no body to say so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirm {
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
