//! `/v1/error-log`, `/v1/tenants/{tenant}/error-log`: failed calls, and what is kept of them.

use std::net::IpAddr;

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::store::{ErrorEntry, ErrorFilter, ErrorLogSettings, Stored};
use portcullis_control::{Caller, Command, FieldFault};
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::time::UnixTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{List, Shown, shown};
use super::extract::{Asked, At, Body, IfMatch, paging};
use super::problem::Problem;
use super::{Api, schema};
use crate::journal::DecisionId;

/// A failed call in a list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FailedCallLine")]
pub(super) struct Line {
    id: u64,
    decision: String,
    at: String,
    #[schemars(with = "Option<schema::Id>")]
    tenant: Option<Id>,
    /// Whether a proven credential named the tenant; of other calls the heads alone are kept.
    proven: bool,
    credential: Option<String>,
    endpoint: Option<String>,
    reason: String,
    status: u16,
    client: Option<IpAddr>,
    method: Option<String>,
    path: Option<String>,
}

/// A failed call as a whole.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FailedCall")]
pub(super) struct EntryView {
    #[serde(flatten)]
    line: Line,
    /// The request, redacted.
    request: Value,
    /// The response, redacted; null where there was none.
    response: Value,
}

impl EntryView {
    pub(super) fn of(entry: ErrorEntry) -> Self {
        let mut call: Value = serde_json::from_str(&entry.call).unwrap_or_default();
        let mut take = |name: &str| call.get_mut(name).map(Value::take).unwrap_or_default();
        let (request, response, client) = (take("request"), take("response"), take("client"));
        let text = |name: &str| request.get(name).and_then(Value::as_str).map(str::to_owned);
        let line = Line {
            id: entry.id,
            decision: DecisionId(entry.decision).to_string(),
            at: entry.at.to_string(),
            tenant: entry.tenant,
            proven: entry.proven,
            credential: entry.credential,
            endpoint: entry.endpoint,
            reason: entry.reason,
            status: entry.status,
            client: client.as_str().and_then(|client| client.parse().ok()),
            method: text("method"),
            path: text("path"),
        };
        EntryView { line, request, response }
    }
}

/// `?since=TIME&until=TIME&credential=ID&endpoint=SERVICE/ENDPOINT&reason=NAME&status=N&after=CURSOR&limit=N`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorQuery {
    /// Not before this time, as RFC 3339.
    since: Option<String>,
    /// Before this time, as RFC 3339.
    until: Option<String>,
    /// Of the credential of this id alone.
    #[schemars(with = "Option<String>")]
    credential: Option<Id>,
    /// Of this endpoint alone, as `service/endpoint`.
    #[schemars(with = "Option<String>")]
    endpoint: Option<EndpointRef>,
    /// Of this reason alone, by its name.
    reason: Option<String>,
    /// With this status alone.
    status: Option<u16>,
    /// `next` of the page before.
    after: Option<u64>,
    /// The most records: 50 where it is left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

impl ErrorQuery {
    fn filter(&self) -> Result<ErrorFilter, Problem> {
        let time = |field: &str, text: &Option<String>| {
            let time = text.as_ref().map(|text| text.parse::<UnixTime>()).transpose();
            time.map_err(|error| {
                Problem::invalid(vec![FieldFault { field: field.to_owned(), what: error.to_string() }])
            })
        };
        Ok(ErrorFilter {
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            credential: self.credential.as_ref().map(Id::to_string),
            endpoint: self.endpoint.as_ref().map(EndpointRef::to_string),
            reason: self.reason.clone(),
            status: self.status,
        })
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<ErrorQuery>,
) -> Result<Json<List<Line>>, Problem> {
    let paging = paging(query.after, query.limit)?;
    let page = api.control.system_view(&caller)?.errors(&query.filter()?, paging).await?;
    Ok(Json(List::of(page, |entry| EntryView::of(entry).line)))
}

pub(super) async fn entry(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<u64>,
) -> Result<Json<EntryView>, Problem> {
    Ok(Json(EntryView::of(api.control.system_view(&caller)?.error_entry(id).await?)))
}

pub(super) async fn tenant_list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Asked(query): Asked<ErrorQuery>,
) -> Result<Json<List<Line>>, Problem> {
    let paging = paging(query.after, query.limit)?;
    let page = api.control.tenant_view(&caller, &tenant).await?.errors(&query.filter()?, paging).await?;
    Ok(Json(List::of(page, |entry| EntryView::of(entry).line)))
}

pub(super) async fn tenant_entry(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, u64)>,
) -> Result<Json<EntryView>, Problem> {
    Ok(Json(EntryView::of(api.control.tenant_view(&caller, &tenant).await?.error_entry(id).await?)))
}

/// What a tenant has set for its error log.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ErrorLogSettings")]
pub(super) struct SettingsView {
    #[serde(flatten)]
    #[schemars(with = "schema::ErrorLogSettings")]
    settings: ErrorLogSettings,
    /// The revision that changed it last, which is its `ETag`.
    changed: u64,
}

/// The same, as a tenant sets it.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct SettingsBody(ErrorLogSettings);

schema::described_as!(SettingsBody: schema::ErrorLogSettings);

pub(super) async fn settings(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
) -> Result<Shown<SettingsView>, Problem> {
    let stored = api.control.tenant_view(&caller, &tenant).await?.error_log_settings().await?;
    let Stored { record: settings, changed, .. } = stored;
    Ok(shown(changed, SettingsView { settings, changed: changed.0 }))
}

pub(super) async fn put_settings(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    IfMatch(if_match): IfMatch,
    Body(SettingsBody(body)): Body<SettingsBody>,
) -> Result<Shown<SettingsView>, Problem> {
    state.order(&caller, if_match, Command::PutErrorLogSettings(tenant.clone(), body)).await?;
    settings(state, Extension(caller), At(tenant)).await
}
