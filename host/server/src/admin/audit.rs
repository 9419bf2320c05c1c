//! `/v1/audit`, `/v1/audit/...`, `/v1/tenants/{tenant}/audit`: what was done and refused, and the means to check it.

use std::net::IpAddr;

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::store::{AuditFilter, AuditRow, Channel, OutcomeFilter, Paging, RecordedOutcome};
use portcullis_control::{AuditVerification, Caller, CheckpointState, FieldFault};
use portcullis_model::id::Id;
use portcullis_model::time::{Expiry, UnixTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::answer::List;
use super::extract::{Asked, At, paging};
use super::keys::who;
use super::problem::Problem;
use super::{Api, schema};
use crate::evidence::{CheckpointLine, EntryLine, Findings, Line, hex};

/// The seconds of a day.
const DAY_S: u64 = 86_400;

/// An entry of the audit.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub(super) struct AuditView {
    /// Its number in the installation.
    id: u64,
    #[schemars(with = "schema::Id")]
    tenant: Id,
    /// Its number in the tenant's chain.
    number: u64,
    at: String,
    by: String,
    #[schemars(with = "Option<schema::Id>")]
    credential: Option<Id>,
    channel: &'static str,
    address: Option<IpAddr>,
    action: String,
    object_kind: String,
    object: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// What was asked for, without secrets.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    details: Box<RawValue>,
    hash: String,
}

impl AuditView {
    fn of(row: AuditRow) -> Self {
        let (outcome, revision, code) = match row.outcome {
            RecordedOutcome::Done { revision } => ("done", Some(revision.0), None),
            RecordedOutcome::Refused { code } => ("refused", None, Some(code)),
        };
        // Portcullis itself acts without a credential too, and never over the API.
        let is_stranger =
            row.origin.channel == Channel::Api && row.actor.credential.is_none() && row.actor.user.is_none();
        AuditView {
            id: row.id,
            tenant: row.tenant,
            number: row.number,
            at: row.at.to_string(),
            by: if is_stranger { "unauthenticated".to_owned() } else { who(&row.actor) },
            credential: row.actor.credential,
            channel: row.origin.channel.as_str(),
            address: row.origin.address,
            action: row.action,
            object_kind: row.object_kind,
            object: row.object,
            outcome,
            revision,
            code,
            details: RawValue::from_string(row.details).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            hash: hex(&row.hash),
        }
    }
}

/// `?object_kind=KIND&object=ID&action=WORD&outcome=done&from=TIME&until=TIME&after=CURSOR&limit=N`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Of this kind of object alone, such as `tenant-key`.
    object_kind: Option<String>,
    /// Of the object of this id alone.
    object: Option<String>,
    /// Of this action alone, such as `create`.
    action: Option<String>,
    /// What was done alone, or what was refused.
    outcome: Option<OutcomeName>,
    /// Not before this time, as RFC 3339; a bare date is its beginning in UTC.
    from: Option<String>,
    /// Before this time, as RFC 3339; a bare date is its end in UTC.
    until: Option<String>,
    /// `next` of the page before.
    after: Option<u64>,
    /// The most records: 50 where it is left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum OutcomeName {
    Done,
    Refused,
}

impl AuditQuery {
    fn read(self) -> Result<(AuditFilter, Paging), Problem> {
        let filter = AuditFilter {
            tenant: None,
            object_kind: self.object_kind,
            object: self.object,
            action: self.action,
            outcome: self.outcome.map(|outcome| match outcome {
                OutcomeName::Done => OutcomeFilter::Done,
                OutcomeName::Refused => OutcomeFilter::Refused,
            }),
            from: self.from.map(|text| begin(&text)).transpose()?,
            until: self.until.map(|text| end("until", &text)).transpose()?,
        };
        Ok((filter, paging(self.after, self.limit)?))
    }
}

/// A time; a bare date is its beginning, in UTC.
fn begin(text: &str) -> Result<UnixTime, Problem> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let end = end("from", text)?;
    Ok(UnixTime::from_secs(end.as_secs().saturating_sub(DAY_S)).unwrap_or_default())
}

/// A time; a bare date is its end, in UTC.
fn end(field: &str, text: &str) -> Result<UnixTime, Problem> {
    text.parse::<Expiry>()
        .map(Expiry::instant)
        .map_err(|error| Problem::invalid(vec![FieldFault { field: field.to_owned(), what: error.to_string() }]))
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<AuditQuery>,
) -> Result<Json<List<AuditView>>, Problem> {
    let (filter, paging) = query.read()?;
    let page = api.control.system_view(&caller)?.audit(&filter, paging).await?;
    Ok(Json(List::of(page, AuditView::of)))
}

pub(super) async fn of_tenant(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Asked(query): Asked<AuditQuery>,
) -> Result<Json<List<AuditView>>, Problem> {
    let (filter, paging) = query.read()?;
    let page = api.control.tenant_view(&caller, &tenant).await?.audit(filter, paging).await?;
    Ok(Json(List::of(page, AuditView::of)))
}

/// `?tenant=ID&after=CURSOR`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    /// Entries of this tenant alone.
    #[schemars(with = "Option<String>")]
    tenant: Option<Id>,
    /// `next` of the page before.
    after: Option<u64>,
}

/// An entry with everything that its hash is computed from.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct ExportedEntry(Line);

schema::described_as!(ExportedEntry: schema::ExportedEntry);

/// A signed checkpoint.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct SignedCheckpoint(Line);

schema::described_as!(SignedCheckpoint: schema::SignedCheckpoint);

/// Entries as they are hashed, the oldest first.
pub(super) async fn export(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<ExportQuery>,
) -> Result<Json<List<ExportedEntry>>, Problem> {
    let view = api.control.system_view(&caller)?;
    let page = view.export_audit(query.tenant.as_ref(), query.after).await?;
    Ok(Json(List::of(page, |row| ExportedEntry(Line::Entry(Box::new(EntryLine::of(row)))))))
}

/// The newest checkpoint, made anew where entries have come since.
pub(super) async fn checkpoint(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<SignedCheckpoint>, Problem> {
    let (checkpoint, key) = api.control.system_view(&caller)?.checkpoint().await?;
    Ok(Json(SignedCheckpoint(Line::Checkpoint(CheckpointLine::of(&checkpoint, &key)))))
}

/// What recomputing the chains found.
pub(super) async fn verify(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Findings>, Problem> {
    let found = api.control.system_view(&caller)?.verify_audit().await?;
    let unsigned = found.unsigned();
    let AuditVerification { report, checkpoint, public_key } = found;
    let state = match checkpoint {
        CheckpointState::Signed => "signed",
        CheckpointState::Forged => "forged",
        CheckpointState::Missing => "missing",
    };
    Ok(Json(Findings::new(report.checkpoint.as_ref(), state, public_key, report.chains, unsigned, None)))
}
