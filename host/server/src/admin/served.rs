//! What a feed serves to the workers of proxies: the base in parts, and what changes from then on.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use portcullis_control::{Caller, Changes, FeedBase, FeedError, FieldFault};
use portcullis_model::feed::{CURSOR_HEADER, MAX_WAIT_S, PART_BYTES};
use portcullis_model::id::Id;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Api;
use super::answer::Uncached;
use super::client_ip::Peer;
use super::describe::{Answer, Operation};
use super::extract::{Asked, At};
use super::feeds::attend;
use super::problem::Problem;
use crate::evidence::hex;

/// Whether a path is one of those that workers call. The gate and the router look at it again.
pub(super) fn is_call_of_workers(path: &str) -> bool {
    let Some((_, call)) = path.strip_prefix("/v1/feeds/").and_then(|rest| rest.split_once('/')) else { return false };
    matches!(call, "base" | "changes" | "decisions") || call.starts_with("base/")
}

/// A base of a feed: what to fetch, and how to know it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FeedBase")]
pub(super) struct BaseView {
    /// What its parts are asked for by. It is kept for ten minutes after it was asked for last.
    base: String,
    /// The revision that it is of: the first cursor is `r` and this.
    revision: u64,
    /// How long it is.
    bytes: usize,
    /// How long each part is; the last may be shorter.
    part_bytes: usize,
    /// The SHA-256 of each part, in hex.
    sha256: Vec<String>,
}

impl BaseView {
    fn of(base: &FeedBase) -> BaseView {
        BaseView {
            base: base.id.clone(),
            revision: base.revision.0,
            bytes: base.size(),
            part_bytes: PART_BYTES,
            sha256: base.sha256.iter().map(|part| hex(part)).collect(),
        }
    }
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Problem {
        let (status, code) = match error {
            FeedError::Failed(failed) => return failed.into(),
            FeedError::NotFound(_) | FeedError::Gone => (StatusCode::NOT_FOUND, "not_found"),
            FeedError::Cursor => {
                return Problem::invalid(vec![FieldFault { field: "cursor".to_owned(), what: error.to_string() }]);
            }
            FeedError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            FeedError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        };
        Problem::new(status, code, error.to_string())
    }
}

/// Describes the base by which a worker begins.
pub(super) async fn base(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    At(id): At<Id>,
    headers: HeaderMap,
) -> Result<Uncached<Json<BaseView>>, Problem> {
    // The gate has looked whether the key is for this feed, of its own tenant; feeds are the system tenant's.
    api.control.system_view(&caller)?;
    let _attended = attend(&api, &id, peer, &headers)?;
    let base = api.control.feed_base(&id).await?;
    Ok(Uncached(Json(BaseView::of(&base))))
}

/// A part of a base.
pub(super) async fn part(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    At((id, base, part)): At<(Id, String, usize)>,
    headers: HeaderMap,
) -> Result<Bytes, Problem> {
    api.control.system_view(&caller)?;
    let _attended = attend(&api, &id, peer, &headers)?;
    Ok(Bytes { body: api.control.feed_part(&id, &base, part)?, cursor: None })
}

/// `?cursor=C&wait=S`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    /// `r` and the revision of the base that was loaded, then what the field `x-portcullis-cursor` of the last answer said.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[0-9A-Za-z.-]+$"))]
    cursor: String,
    /// How long to wait for something to say, in seconds: not at all where it is left out.
    #[serde(default)]
    #[schemars(range(max = 30))]
    wait: u32,
}

/// What there is to say since a cursor, as soon as there is something.
pub(super) async fn changes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    At(id): At<Id>,
    Asked(ChangesQuery { cursor, wait }): Asked<ChangesQuery>,
    headers: HeaderMap,
) -> Result<Bytes, Problem> {
    api.control.system_view(&caller)?;
    if wait > MAX_WAIT_S {
        let what = format!("0 to {MAX_WAIT_S} seconds");
        return Err(Problem::invalid(vec![FieldFault { field: "wait".to_owned(), what }]));
    }
    let _attended = attend(&api, &id, peer, &headers)?;
    let wait = Duration::from_secs(wait.into());
    let Changes { frames, cursor, .. } = api.control.feed_changes(&id, &cursor, wait).await?;
    Ok(Bytes { body: frames, cursor: Some(cursor) })
}

/// Bytes, and where to go on.
pub(super) struct Bytes {
    body: Vec<u8>,
    cursor: Option<String>,
}

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(cursor) = self.cursor.and_then(|cursor| HeaderValue::try_from(cursor).ok()) {
            headers.insert(CURSOR_HEADER, cursor);
        }
        response
    }
}

impl Answer for Bytes {
    fn describe(operation: &mut Operation<'_>) {
        let cursor = json!({
            "description": "Of changes: the cursor of the next call.", "schema": { "type": "string", "maxLength": 128 },
        });
        operation.answers_bytes(200, "The bytes, as `portcullis_model::feed` has them.");
        operation.answers_with(CURSOR_HEADER, &cursor);
        operation.refuses(&[400, 422, 503]);
    }
}
