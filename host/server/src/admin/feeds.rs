//! `/v1/feeds`: what workers in proxies get of the policy, and the decisions that they give back. What a feed serves to them is
//! elsewhere.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use portcullis_control::store::{FeedRecord, Stored};
use portcullis_control::{Caller, Command, FeedEdit, NewFeed};
use portcullis_model::feed::MAX_BATCH_BYTES;
use portcullis_model::id::Id;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Created, List, Removed, Shown, created, shown};
use super::client_ip::Peer;
use super::describe::{Answer, Operation};
use super::extract::{Asked, At, Body, Confirm, Creation, IfMatch, within};
use super::problem::Problem;
use super::{Api, schema};
use crate::clock;
use crate::nodes::{Attending, NodeReport, read_batch};

/// A feed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Feed")]
pub(super) struct FeedView {
    #[schemars(with = "schema::Id")]
    id: Id,
    /// The services of which it has the policy, in order of their ids.
    #[schemars(with = "Vec<schema::Id>")]
    services: Vec<Id>,
    /// When it was made, as RFC 3339.
    created_at: String,
    /// The revision that changed it last, which is its `ETag`.
    changed: u64,
}

impl FeedView {
    fn of(stored: Stored<FeedRecord>) -> Self {
        let FeedRecord { id, services } = stored.record;
        FeedView {
            id,
            services: services.into_iter().collect(),
            created_at: stored.created.to_string(),
            changed: stored.changed.0,
        }
    }
}

/// A feed to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedBody {
    /// The application of the system tenant, to which its keys are confined, gets the same id.
    #[schemars(with = "schema::Id")]
    id: Id,
    #[schemars(with = "Vec<schema::Id>")]
    services: Vec<Id>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedPatch {
    /// All of them, in place of those that it has.
    #[schemars(with = "Option<Vec<schema::Id>>")]
    services: Option<Vec<Id>>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<List<FeedView>>, Problem> {
    let feeds = api.control.system_view(&caller)?.feeds().await?;
    Ok(Json(List { items: feeds.into_iter().map(FeedView::of).collect(), next: None }))
}

pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Creation(body, idempotency): Creation<FeedBody>,
) -> Result<Created<FeedView>, Problem> {
    let id = body.id.clone();
    let new = NewFeed { id: body.id, services: body.services };
    let done = api.create(&caller, None, idempotency, Command::CreateFeed(new)).await?;
    let stored = api.control.system_view(&caller)?.feed(&id).await?;
    Ok(created(done.repetition, stored.changed, format!("/v1/feeds/{id}"), FeedView::of(stored)))
}

pub(super) async fn get(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
) -> Result<Shown<FeedView>, Problem> {
    let stored = api.control.system_view(&caller)?.feed(&id).await?;
    Ok(shown(stored.changed, FeedView::of(stored)))
}

pub(super) async fn edit(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
    IfMatch(if_match): IfMatch,
    Body(patch): Body<FeedPatch>,
) -> Result<Shown<FeedView>, Problem> {
    let edit = FeedEdit { services: patch.services };
    state.order(&caller, if_match, Command::EditFeed(id.clone(), edit)).await?;
    get(state, Extension(caller), At(id)).await
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
    IfMatch(if_match): IfMatch,
    Asked(confirm): Asked<Confirm>,
) -> Result<Removed, Problem> {
    api.order(&caller, if_match, Command::DeleteFeed(id, confirm.confirmation())).await?;
    Ok(Removed)
}

/// Who asks by a feed, taken note of while the call lasts.
pub(super) struct Attended {
    pub(super) report: NodeReport,
    _call: Attending,
}

/// Takes note of a call of a worker.
///
/// # Errors
/// Where the worker does not say who it is, or there are too many of them.
pub(super) fn attend(api: &Api, feed: &Id, peer: Peer, headers: &HeaderMap) -> Result<Attended, Problem> {
    let bad = |error| Problem::new(StatusCode::BAD_REQUEST, "bad_request", format!("{error}"));
    let report = NodeReport::read(feed.clone(), peer.0, headers).map_err(bad)?;
    let full = |full| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_workers", format!("{full}"));
    let call = api.nodes.attend(report.clone()).map_err(full)?;
    Ok(Attended { report, _call: call })
}

/// What was given back is kept.
pub(super) struct Kept;

impl IntoResponse for Kept {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Answer for Kept {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers_nothing(204, "All of it is kept, some of it perhaps since before.");
        operation.refuses(&[422, 429, 503]);
    }
}

/// Takes a batch of decisions (`portcullis_model::feed`): the body of this call.
pub(super) async fn decisions(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    At(id): At<Id>,
    headers: HeaderMap,
    request: Request,
) -> Result<Kept, Problem> {
    let view = api.control.system_view(&caller)?;
    let feed = view.feed(&id).await?.record;
    let Attended { report, _call } = attend(&api, &id, peer, &headers)?;
    let Some(_place) = api.nodes.take_batch(&id, &report.node) else {
        let detail = "as many batches are being taken as may be: keep this one and send it again in a moment";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_batches", detail));
    };
    let body = within(MAX_BATCH_BYTES, request).await?;
    let skew_s = view.installation().await?.record.clock_skew_s;
    let latest_ms = clock::unix_ms().saturating_add(u64::from(skew_s).saturating_mul(1000));
    let batch = read_batch(&body, &feed.services, &api.control.feed_services(&id), latest_ms).map_err(|bad| {
        tracing::error!(feed = %id, node = %report.node, worker = %report.worker, %bad, "decisions were refused");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_batch", format!("nothing of it is kept: {bad}"))
    })?;
    let worker = report.worker.to_string();
    let new = api.control.keep_fed_decisions(&id, &worker, batch.records, batch.gaps).await?;
    api.usage.count(&new);
    Ok(Kept)
}
