//! `/v1/me`: a person's own matters, behind `Authorization: Session-v1`. A session is opened with a one-time code, which is
//! presented in the same way and does nothing else.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use portcullis_control::{Caller, Command};
use portcullis_model::id::Id;
use portcullis_model::source::Role;
use portcullis_model::time::Expiry;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::extract::{Asked, At, Body, Confirm, confirmation};
use super::keys::{KeyView, Shown, issued, uncached};
use super::problem::Problem;
use super::{Api, created, no_content, shown};

/// Who has signed in.
#[derive(Serialize)]
struct PersonView {
    tenant: Id,
    user: Id,
    name: String,
    role: Role,
    group: Option<Id>,
    session_expires: Option<Expiry>,
}

/// A code or a session, once.
#[derive(Serialize)]
struct OpenView {
    tenant: Id,
    user: Option<Id>,
    expires: Option<Expiry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Shown>,
}

#[derive(Clone, Copy)]
enum Opens {
    Code,
    Session,
}

pub(super) async fn me(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<impl Serialize>, Problem> {
    let view = api.control.own_view(&caller).await?;
    let record = view.user().record.clone();
    Ok(Json(PersonView {
        tenant: record.user.tenant,
        user: record.user.id,
        name: record.name,
        role: record.user.role,
        group: record.user.group,
        session_expires: view.session_ends(),
    }))
}

pub(super) async fn enrol(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, user)): At<(Id, Id)>,
) -> Result<Response, Problem> {
    opened(&api, &caller, Command::Enrol(tenant, user), Opens::Code).await
}

pub(super) async fn open_session(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    opened(&api, &caller, Command::OpenSession, Opens::Session).await
}

async fn opened(api: &Api, caller: &Caller, command: Command, opens: Opens) -> Result<Response, Problem> {
    let done = api.order(caller, None, command).await?;
    let issued = done.issued.ok_or(portcullis_control::Failed::Interrupted)?;
    let secret = |wanted: bool, key: &SecretString| wanted.then(|| Shown(key.clone()));
    let credential = issued.record.record.credential;
    let view = OpenView {
        tenant: credential.tenant,
        user: credential.creator,
        expires: credential.expires,
        code: secret(matches!(opens, Opens::Code), &issued.key),
        session: secret(matches!(opens, Opens::Session), &issued.key),
    };
    Ok(uncached(created(done.revision, "/v1/me", view)))
}

pub(super) async fn close_session(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    api.order(&caller, None, Command::CloseSession).await?;
    Ok(no_content())
}

pub(super) async fn personal_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    let stored = api.control.own_view(&caller).await?.personal_key().await?;
    let rules = api.control.rules(&caller.tenant).await?;
    Ok(shown(stored.changed, KeyView::of(stored, api.control.now(), &rules)))
}

pub(super) async fn create_personal_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    let done = api.order(&caller, None, Command::CreatePersonalKey).await?;
    issued(&api, done).await
}

/// `{"confirm": true}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegenerateBody {
    #[serde(default)]
    confirm: bool,
}

pub(super) async fn regenerate_personal_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<RegenerateBody>,
) -> Result<Response, Problem> {
    let done = api.order(&caller, None, Command::RegeneratePersonalKey(confirmation(body.confirm))).await?;
    issued(&api, done).await
}

pub(super) async fn delete_personal_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(confirm): Asked<Confirm>,
) -> Result<Response, Problem> {
    api.order(&caller, None, Command::DeletePersonalKey(confirm.confirmation())).await?;
    Ok(no_content())
}
