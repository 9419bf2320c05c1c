//! `/v1/token-keys`, `/v1/tenants/{tenant}/clients/{key}/tokens` and `.../log`: keys of access tokens, and what became of clients.

use std::net::IpAddr;

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::store::{AuditFilter, AuditRow, RecordedOutcome};
use portcullis_control::{Caller, Command, Confirmation, Takeover, TokenKeyView};
use portcullis_model::credential::Kind;
use portcullis_model::id::Id;
use portcullis_model::source::TokenAlgorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{List, Removed};
use super::extract::{At, Body, Paged, confirmation};
use super::keys::who;
use super::problem::Problem;
use super::{Api, schema};

/// A key that signs access tokens, without its private half.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenKey")]
pub(super) struct KeyView {
    /// Its id: the thumbprint of its public half (RFC 7638).
    kid: String,
    #[schemars(with = "schema::TokenAlgorithm")]
    algorithm: TokenAlgorithm,
    /// `next`: it is published and will sign; `signing`; `old`: tokens of it are still good.
    role: &'static str,
    /// From when on it signs, as RFC 3339.
    signs_from: String,
    /// When it will be removed, where another one has taken over or will.
    removed_at: Option<String>,
    created_at: String,
}

impl KeyView {
    fn of(key: TokenKeyView) -> KeyView {
        let TokenKeyView { stored, role, until } = key;
        KeyView {
            kid: stored.record.kid,
            algorithm: stored.record.algorithm,
            role: role.as_str(),
            signs_from: stored.record.signs_from.to_string(),
            removed_at: until.map(|until| until.to_string()),
            created_at: stored.created.to_string(),
        }
    }
}

/// All keys of access tokens: there are few.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenKeys")]
pub(super) struct Keys {
    items: Vec<KeyView>,
}

/// When the new key takes over.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenKeyRotation")]
pub(super) struct RotateBody {
    /// Whether it signs at once; else it is published for ten minutes before, so that copies of the keys have it.
    #[serde(default)]
    at_once: bool,
}

/// The end of a key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenKeyRetirement")]
pub(super) struct RetireBody {
    #[serde(default)]
    confirm: bool,
}

async fn all(api: &Api, caller: &Caller) -> Result<Json<Keys>, Problem> {
    let keys = api.control.system_view(caller)?.token_keys().await?;
    Ok(Json(Keys { items: keys.into_iter().map(KeyView::of).collect() }))
}

pub(super) async fn keys(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Result<Json<Keys>, Problem> {
    all(&api, &caller).await
}

pub(super) async fn rotate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<RotateBody>,
) -> Result<Json<Keys>, Problem> {
    let takeover = if body.at_once { Takeover::AtOnce } else { Takeover::Published };
    api.order(&caller, None, Command::RotateTokenKey(takeover)).await?;
    all(&api, &caller).await
}

pub(super) async fn retire(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(kid): At<String>,
    Body(body): Body<RetireBody>,
) -> Result<Removed, Problem> {
    let confirmation: Confirmation = confirmation(body.confirm);
    api.order(&caller, None, Command::RetireTokenKey(kid, confirmation)).await?;
    Ok(Removed)
}

/// What became of a request for a token.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenLogEntry")]
pub(super) struct TokenEntry {
    id: u64,
    client_id: String,
    /// `issued` or `error`.
    action: &'static str,
    created_at: String,
    metadata: Metadata,
    /// Only on failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<TokenFailure>,
}

/// What is known of the request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenLogMetadata")]
struct Metadata {
    /// The decision of the request, as `X-Portcullis-Decision` has it.
    request_id: Option<String>,
    address: Option<IpAddr>,
    /// The token's id (`jti`).
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Why there was none.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenLogError")]
struct TokenFailure {
    code: String,
    message: String,
}

impl TokenEntry {
    fn of(row: AuditRow) -> TokenEntry {
        let details: Value = serde_json::from_str(&row.details).unwrap_or_default();
        let text = |name: &str| details.get(name).and_then(Value::as_str).map(str::to_owned);
        let error = match row.outcome {
            RecordedOutcome::Done { .. } => None,
            RecordedOutcome::Refused { code } => {
                Some(TokenFailure { code, message: text("message").unwrap_or_default() })
            }
        };
        TokenEntry {
            id: row.id,
            client_id: row.object,
            action: if error.is_some() { "error" } else { "issued" },
            created_at: row.at.to_string(),
            metadata: Metadata {
                request_id: text("request"),
                address: row.origin.address,
                token_id: text("token"),
                scope: text("scope"),
            },
            error,
        }
    }
}

/// What was done with a client.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ClientLogEntry")]
pub(super) struct ClientEntry {
    id: u64,
    client_id: String,
    /// `create`, `revoke`, or `leaked`: revoked by somebody who held its secret.
    action: String,
    source: Source,
    created_at: String,
    created_by: String,
    /// Only where it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// Where it was done.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ClientLogSource")]
struct Source {
    /// `api`, `cli`, `offline` or `system`.
    channel: &'static str,
    address: Option<IpAddr>,
}

impl ClientEntry {
    fn of(row: AuditRow) -> ClientEntry {
        ClientEntry {
            id: row.id,
            client_id: row.object,
            action: row.action,
            source: Source { channel: row.origin.channel.as_str(), address: row.origin.address },
            created_at: row.at.to_string(),
            created_by: who(&row.actor),
            refused: match row.outcome {
                RecordedOutcome::Done { .. } => None,
                RecordedOutcome::Refused { code } => Some(code),
            },
        }
    }
}

fn of_client(kind: &str, client: &Id) -> AuditFilter {
    AuditFilter { object_kind: Some(kind.to_owned()), object: Some(client.to_string()), ..AuditFilter::default() }
}

pub(super) async fn tokens(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, client)): At<(Id, Id)>,
    Paged(paging): Paged,
) -> Result<Json<List<TokenEntry>>, Problem> {
    let view = api.control.tenant_view(&caller, &tenant).await?;
    // That there is such a client, and that it is the tenant's.
    view.key(Kind::Client, &client).await?;
    Ok(Json(List::of(view.audit(of_client("token", &client), paging).await?, TokenEntry::of)))
}

pub(super) async fn log(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, client)): At<(Id, Id)>,
    Paged(paging): Paged,
) -> Result<Json<List<ClientEntry>>, Problem> {
    let view = api.control.tenant_view(&caller, &tenant).await?;
    view.key(Kind::Client, &client).await?;
    Ok(Json(List::of(view.audit(of_client("client", &client), paging).await?, ClientEntry::of)))
}
