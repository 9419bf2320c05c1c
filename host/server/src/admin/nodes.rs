//! `/v1/nodes`: who decides by which revision. And receipts, which revocations can be asked to wait for.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use portcullis_control::{Caller, FieldFault};
use portcullis_model::id::{Id, Revision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::answer::{List, Removed};
use super::describe::{Answer, Operation};
use super::problem::Problem;
use super::{Api, schema};
use crate::evidence::hex;
use crate::nodes::{LIVE, Nodes, Receipt, Receipts, Row};

/// How long receipts are waited for where the caller does not say, in seconds.
const USUAL_WAIT_S: u32 = 10;
/// The longest that they are waited for, in seconds.
const MAX_WAIT_S: u32 = 60;
/// What this host calls itself among the nodes.
const THIS_HOST: &str = "this host";

/// A worker of a proxy, or this host itself.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Node")]
pub(super) struct NodeView {
    /// The name of its proxy.
    node: String,
    /// Which worker of it; null of this host.
    worker: Option<String>,
    /// The feed that it reads; null of this host.
    #[schemars(with = "Option<schema::Id>")]
    feed: Option<Id>,
    /// From where it called last; null of this host.
    address: Option<IpAddr>,
    /// SHA-256 of the module by which it decides; null where it does not say.
    module: Option<String>,
    /// Whether that is the module that this host carries for proxies; null where the worker does not say.
    same_module: Option<bool>,
    /// The revision by which it decides; null where it has no policy and denies everything.
    revision: Option<u64>,
    /// How many revisions it is behind.
    lag: Option<u64>,
    /// For how many milliseconds it has been behind, at least.
    behind_ms: Option<u64>,
    /// Its clock less this host's, in seconds.
    clock_difference_s: i64,
    /// When it called last, as RFC 3339.
    last_seen: String,
    /// Whether a call of it is open, or was ten seconds ago or less.
    live: bool,
}

impl NodeView {
    fn of(row: Row, nodes: &Nodes) -> NodeView {
        NodeView {
            node: row.node,
            worker: Some(row.worker.to_string()),
            feed: Some(row.feed),
            address: Some(row.address),
            module: row.module.map(|module| hex(&module)),
            same_module: row.module.and_then(|module| nodes.is_carried(module)),
            revision: row.enforced,
            lag: row.lag,
            behind_ms: row.behind.map(milliseconds),
            clock_difference_s: row.clock_difference_s,
            last_seen: row.seen_at.to_string(),
            live: row.live,
        }
    }

    fn of_host(api: &Api, revision: u64) -> NodeView {
        let enforced = api.engine.describe().ok().and_then(|described| described.revision);
        let enforced = enforced.map(|Revision(enforced)| enforced);
        NodeView {
            node: THIS_HOST.to_owned(),
            worker: None,
            feed: None,
            address: None,
            module: Some(hex(&api.nodes.component())),
            same_module: Some(true),
            revision: enforced,
            lag: enforced.map(|enforced| revision.saturating_sub(enforced)),
            behind_ms: Some(0),
            clock_difference_s: 0,
            last_seen: api.control.now().to_string(),
            live: api.engine.in_rotation() > 0,
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<List<NodeView>>, Problem> {
    api.control.system_view(&caller)?;
    let revision = *api.control.enforced().borrow();
    let workers = api.nodes.rows(revision).into_iter().map(|row| NodeView::of(row, &api.nodes));
    let items = std::iter::once(NodeView::of_host(&api, revision)).chain(workers).collect();
    Ok(Json(List { items, next: None }))
}

/// Whom a change waits for before it is answered.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum WaitFor {
    All,
}

/// `?wait=all&wait_timeout_s=N`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    /// `all`: answer once every live worker of a proxy decides by the change, with the receipt of each.
    wait: Option<WaitFor>,
    /// How long to wait for that at most: 10 where it is left out. The change stands in any case.
    #[schemars(range(min = 1, max = 60))]
    wait_timeout_s: Option<u32>,
}

/// `?confirm=true&wait=all&wait_timeout_s=N`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmedWait {
    /// It cannot be undone: without this it is refused, and the refusal tells what would happen.
    #[serde(default)]
    pub(super) confirm: bool,
    /// `all`: answer once every live worker of a proxy decides by the change, with the receipt of each.
    wait: Option<WaitFor>,
    /// How long to wait for that at most: 10 where it is left out. The change stands in any case.
    #[schemars(range(min = 1, max = 60))]
    wait_timeout_s: Option<u32>,
}

impl ConfirmedWait {
    pub(super) fn wait(&self, api: &Api) -> Result<Option<Wait>, Problem> {
        Wait::of(api, self.wait, self.wait_timeout_s)
    }
}

impl WaitQuery {
    pub(super) fn wait(&self, api: &Api) -> Result<Option<Wait>, Problem> {
        Wait::of(api, self.wait, self.wait_timeout_s)
    }
}

/// Waits for receipts of a change that is about to be made.
pub(super) struct Wait {
    since: Instant,
    timeout: Duration,
    _place: OwnedSemaphorePermit,
}

impl Wait {
    /// Before anything is changed: who cannot be kept waiting is refused.
    fn of(api: &Api, wait: Option<WaitFor>, timeout_s: Option<u32>) -> Result<Option<Wait>, Problem> {
        let invalid = |what: String| Problem::invalid(vec![FieldFault { field: "wait_timeout_s".to_owned(), what }]);
        let seconds = timeout_s.unwrap_or(USUAL_WAIT_S);
        if !(1..=MAX_WAIT_S).contains(&seconds) {
            return Err(invalid(format!("1 to {MAX_WAIT_S}")));
        }
        match wait {
            None if timeout_s.is_some() => Err(invalid("it goes with `wait=all`".to_owned())),
            None => Ok(None),
            Some(WaitFor::All) => {
                let busy = || {
                    let detail =
                        "too many revocations wait for receipts, nothing has changed: try again, or do not wait";
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
                };
                let place = api.nodes.waiting().ok_or_else(busy)?;
                Ok(Some(Wait { since: Instant::now(), timeout: Duration::from_secs(seconds.into()), _place: place }))
            }
        }
    }

    /// The receipts of a revision. Latencies count from when the change was asked for.
    pub(super) async fn receipts(self, nodes: &Nodes, revision: Revision) -> ReceiptsView {
        ReceiptsView::of(nodes.receipts(revision.0, self.since, self.timeout).await)
    }
}

/// Who decides by a change.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Receipts")]
pub(super) struct ReceiptsView {
    /// Whether every live worker does. The change stands where it is false too; those that do not decide by it are in `nodes`.
    complete: bool,
    /// The revision that was waited for.
    revision: u64,
    nodes: Vec<ReceiptView>,
}

/// What a worker is known to decide by.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Receipt")]
struct ReceiptView {
    node: String,
    worker: String,
    #[schemars(with = "schema::Id")]
    feed: Id,
    /// The revision by which it decides; null where it has no policy.
    revision: Option<u64>,
    /// How many milliseconds after the change was asked for it said so; null where it did not.
    latency_ms: Option<u64>,
    /// There, and true, where it fell silent before it said so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

impl ReceiptsView {
    fn of(receipts: Receipts) -> ReceiptsView {
        let complete = receipts.is_complete();
        let view = |receipt: Receipt| ReceiptView {
            node: receipt.node,
            worker: receipt.worker.to_string(),
            feed: receipt.feed,
            revision: receipt.enforced,
            latency_ms: receipt.latency.map(milliseconds),
            gone: receipt.gone,
        };
        ReceiptsView { complete, revision: receipts.revision, nodes: receipts.workers.into_iter().map(view).collect() }
    }
}

/// What is left to say of a record that is gone: who decides by that, where it was waited for.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RemovedEverywhere")]
pub(super) struct RemovedEverywhere {
    pub(super) receipts: Option<ReceiptsView>,
}

impl IntoResponse for RemovedEverywhere {
    fn into_response(self) -> Response {
        if self.receipts.is_some() { Json(self).into_response() } else { Removed.into_response() }
    }
}

impl Answer for RemovedEverywhere {
    fn describe(operation: &mut Operation<'_>) {
        Removed::describe(operation);
        operation.answers::<RemovedEverywhere>(200, "It is gone, and receipts were waited for.", json!({}));
    }
}

// The description of the API says ten seconds in words.
const _: () = assert!(LIVE.as_secs() == 10);
