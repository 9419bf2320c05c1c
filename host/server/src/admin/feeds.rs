//! `/v1/feeds`: what workers in proxies get of the policy. What a feed serves to them is elsewhere.

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::store::{FeedRecord, Stored};
use portcullis_control::{Caller, Command, FeedEdit, NewFeed};
use portcullis_model::id::Id;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Created, List, Removed, Shown, created, shown};
use super::extract::{Asked, At, Body, Confirm, Creation, IfMatch};
use super::problem::Problem;
use super::{Api, schema};

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
