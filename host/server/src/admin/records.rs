//! `/v1/decisions`, `/v1/check`, `/v1/self`: what was decided, and why, and who asks.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use portcullis_control::Caller;
use portcullis_control::store::{DecisionFilter, DecisionItem, DecisionRecord, Which};
use portcullis_model::answer::Details;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::time::{Expiry, UnixTime};
use portcullis_model::verdict::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error_log::EntryView;
use super::extract::{Asked, At, bounded, paging};
use super::problem::Problem;
use super::{Api, Proven, schema};
use crate::evidence::unhex;
use crate::journal::DecisionId;
use crate::report::{DecidedFacts, Explained};
use portcullis_tower::enforce::cause_name;

/// A decision.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Decision")]
pub(super) struct DecisionView {
    id: String,
    at: String,
    verdict: &'static str,
    reason: Option<&'static str>,
    reason_text: Option<&'static str>,
    status: Option<u16>,
    facts: Option<DecidedFacts>,
    observed: Vec<&'static str>,
}

/// Decisions of which nothing is known but how many they were.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DecisionGap")]
pub(super) struct GapView {
    gap: u64,
    first: String,
    last: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "DecisionItem")]
pub(super) enum ItemView {
    Decision(Box<DecisionView>),
    Gap(GapView),
}

impl DecisionView {
    fn of(record: &DecisionRecord) -> Self {
        let id = DecisionId(record.id);
        let reason = Reason::from_number(record.reason);
        let details = Details::unpack(&record.details).ok();
        DecisionView {
            id: id.to_string(),
            at: id.at().to_string(),
            verdict: if record.reason == 0 { "allow" } else { "deny" },
            reason: cause_name(record.reason),
            reason_text: reason.map(Reason::text),
            status: reason.map(Reason::status),
            facts: details.as_ref().map(|details| DecidedFacts::of(&details.facts)),
            observed: details.iter().flat_map(|details| &details.observed).map(|reason| reason.name()).collect(),
        }
    }
}

/// `?denied=true&observed=true&reason=NAME&after=ID&limit=N`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DecisionQuery {
    /// Denials alone.
    #[serde(default)]
    denied: bool,
    /// Those alone of which something was observed that enforcing would have denied.
    #[serde(default)]
    observed: bool,
    /// Denials of this reason alone, by its name.
    reason: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// The most decisions: 50 where it is left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Decisions {
    items: Vec<ItemView>,
    next: Option<String>,
}

/// What a query asks for, and how many.
fn asked(query: &DecisionQuery) -> Result<(DecisionFilter, u32), Problem> {
    let invalid = |field: &str, what: String| {
        Problem::invalid(vec![portcullis_control::FieldFault { field: field.to_owned(), what }])
    };
    let limit = paging(None, query.limit)?.limit;
    let which = match (&query.reason, query.denied, query.observed) {
        (None, false, false) => Which::All,
        (None, true, false) => Which::Denied,
        (None, false, true) => Which::Observed,
        (None, true, true) | (Some(_), _, true) => {
            return Err(invalid("observed", "it is asked for alone: leave `denied` and `reason` out".to_owned()));
        }
        (Some(name), _, false) => {
            let reason = Reason::ALL.iter().find(|reason| reason.name() == name);
            let reason = reason.ok_or_else(|| invalid("reason", format!("there is no reason `{name}`")))?;
            Which::Reasons(vec![reason.number()])
        }
    };
    let before = match &query.after {
        None => None,
        Some(text) => {
            let id: DecisionId = text.parse().map_err(|_| invalid("after", format!("`{text}` is no decision id")))?;
            Some(id.0)
        }
    };
    Ok((DecisionFilter { which, before }, limit))
}

pub(super) async fn decisions(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<DecisionQuery>,
) -> Result<Json<Decisions>, Problem> {
    let (filter, limit) = asked(&query)?;
    let page = api.control.system_view(&caller)?.decisions(&filter, limit).await?;
    let next = page.next.map(|id| DecisionId(id).to_string());
    let items = page.items.into_iter().map(|item| match item {
        DecisionItem::Record(record) => ItemView::Decision(Box::new(DecisionView::of(&record))),
        DecisionItem::Gap(gap) => ItemView::Gap(GapView {
            gap: gap.count,
            first: DecisionId(gap.first).to_string(),
            last: DecisionId(gap.last).to_string(),
        }),
    });
    Ok(Json(Decisions { items: items.collect(), next }))
}

pub(super) async fn decision(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(proven): Extension<Proven>,
    At(text): At<String>,
) -> Result<Json<Traced>, Problem> {
    let missing = || Problem::from(portcullis_control::Refused::NotFound { kind: "decision", id: text.clone() });
    let id: DecisionId = text.parse().map_err(|_| missing())?;
    let view = api.control.system_view(&caller)?;
    let record = view.decision(id.0, &text).await?;
    let failed = view.error_of(id.0).await?.filter(|_| api.may_get(&proven, "/v1/error-log"));
    Ok(Json(Traced::of(&api, &record, failed.map(EntryView::of))))
}

pub(super) async fn tenant_decisions(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Asked(query): Asked<DecisionQuery>,
) -> Result<Json<Decisions>, Problem> {
    let (filter, limit) = asked(&query)?;
    let page = api.control.tenant_view(&caller, &tenant).await?.decisions(&filter, limit).await?;
    let items = page.items.iter().map(|record| ItemView::Decision(Box::new(DecisionView::of(record))));
    Ok(Json(Decisions { items: items.collect(), next: page.next.map(|id| DecisionId(id).to_string()) }))
}

pub(super) async fn tenant_decision(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(proven): Extension<Proven>,
    At((tenant, text)): At<(Id, String)>,
) -> Result<Json<Traced>, Problem> {
    let missing = || Problem::from(portcullis_control::Refused::NotFound { kind: "decision", id: text.clone() });
    let view = api.control.tenant_view(&caller, &tenant).await?;
    let id: DecisionId = text.parse().map_err(|_| missing())?;
    let record = view.decision(id.0, &text).await?;
    let log = format!("/v1/tenants/{tenant}/error-log");
    let failed = view.error_of(id.0).await?.filter(|_| api.may_get(&proven, &log));
    Ok(Json(Traced::of(&api, &record, failed.map(EntryView::of))))
}

/// A decision with its trace: what the policy that is in force now says of the same facts, step by step, and what was kept
/// of the call if it failed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TracedDecision")]
pub(super) struct Traced {
    #[serde(flatten)]
    decision: DecisionView,
    /// Then and now, in one sentence.
    summary: String,
    /// What is decided of it now; null where no credential was proven, so that it cannot be judged again.
    now: Option<Explained>,
    /// For those alone who may read the error log.
    call: Option<EntryView>,
}

impl Traced {
    fn of(api: &Api, record: &DecisionRecord, call: Option<EntryView>) -> Traced {
        let decision = DecisionView::of(record);
        let details = Details::unpack(&record.details).ok();
        let then = match (&decision.reason, details.as_ref().map(|details| details.facts.revision)) {
            (None, Some(revision)) => format!("then: allow at revision {revision}"),
            (Some(reason), Some(revision)) => format!("then: deny {reason} at revision {revision}"),
            (Some(reason), None) => format!("then: deny {reason}, before the gate was asked"),
            (None, None) => "then: allow".to_owned(),
        };
        // What is judged again begins with a proven credential; without one it would be missing, whatever it was then.
        let facts = details.map(|details| details.facts).filter(|facts| facts.credential.is_some());
        let now = facts.and_then(|facts| {
            let mut packed = Vec::new();
            facts.pack(&mut packed).ok()?;
            api.engine.explain_judged(&packed, api.control.now()).ok().map(|explanation| Explained::of(&explanation))
        });
        let summary = match now.as_ref().map(Explained::in_short) {
            Some(now) => format!("{then}; now: {now}"),
            None => format!("{then}; no credential was proven, so it cannot be judged again"),
        };
        Traced { decision, summary, now, call }
    }
}

/// `?at=TIME&body_digest=HEX`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckQuery {
    /// The time of the request, as RFC 3339: now where it is left out.
    at: Option<String>,
    /// The digest of the body in hex, SHA-256 or SHA-512 as a verdict `need_body` asks for it.
    body_digest: Option<String>,
}

/// Explains what would be decided of a packed head (`portcullis_model::head`): the body of this call.
pub(super) async fn check(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<CheckQuery>,
    request: Request,
) -> Result<Json<Explained>, Problem> {
    api.control.system_view(&caller)?;
    let at = query.at.map(|text| text.parse::<UnixTime>()).transpose().map_err(|error| {
        Problem::invalid(vec![portcullis_control::FieldFault { field: "at".to_owned(), what: error.to_string() }])
    })?;
    let digest = query.body_digest.map(|text| digest(&text)).transpose()?;
    let head = bounded(request).await?;
    let now = at.unwrap_or_else(|| api.control.now());
    let asked =
        portcullis_engine::Request { body_digest: digest.as_deref(), ..portcullis_engine::Request::new(&head, now) };
    let explanation = api.engine.explain(asked).map_err(|error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", format!("{error}, so there is no verdict"))
    })?;
    Ok(Json(Explained::of(&explanation)))
}

fn digest(hex: &str) -> Result<Vec<u8>, Problem> {
    let digest = unhex::<32>(hex).map(Vec::from).or_else(|| unhex::<64>(hex).map(Vec::from));
    digest.ok_or_else(|| {
        Problem::invalid(vec![portcullis_control::FieldFault {
            field: "body_digest".to_owned(),
            what: "it is no SHA-256 or SHA-512 digest in hex".to_owned(),
        }])
    })
}

/// The key that the caller used.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Self")]
pub(super) struct SelfView {
    #[schemars(with = "schema::Id")]
    tenant: Id,
    #[schemars(with = "schema::Id")]
    credential: Id,
    name: String,
    #[schemars(with = "Option<schema::Id>")]
    user: Option<Id>,
    superuser: bool,
    #[schemars(with = "Option<schema::Expiry>")]
    expires: Option<Expiry>,
    #[schemars(with = "Vec<schema::EndpointRef>")]
    endpoints: Vec<EndpointRef>,
}

pub(super) async fn own(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<SelfView>, Problem> {
    let record = api.control.own_key(&caller).await?.record;
    Ok(Json(SelfView {
        superuser: caller.is_superuser(),
        tenant: caller.tenant,
        credential: caller.credential,
        name: record.name,
        user: record.credential.creator,
        expires: record.credential.expires,
        endpoints: record.credential.endpoints,
    }))
}
