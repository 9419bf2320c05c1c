//! `/v1/me`: a person's own matters, behind `Authorization: Session-v1`. A session is opened with a one-time code, which is
//! presented in the same way and does nothing else.

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::{Caller, Command, Repetition};
use portcullis_model::credential::Kind;
use portcullis_model::id::Id;
use portcullis_model::source::Role;
use portcullis_model::time::Expiry;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::answer::{Created, Removed, Shown, Uncached, created, shown};
use super::extract::{Asked, At, Body, Confirm, confirmation};
use super::keys::{KeyView, Secret, issued};
use super::problem::Problem;
use super::{Api, schema};

/// Who has signed in.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Person")]
pub(super) struct PersonView {
    #[schemars(with = "schema::Id")]
    tenant: Id,
    #[schemars(with = "schema::Id")]
    user: Id,
    name: String,
    #[schemars(with = "schema::Role")]
    role: Role,
    #[schemars(with = "Option<schema::Id>")]
    group: Option<Id>,
    #[schemars(with = "Option<schema::Expiry>")]
    session_expires: Option<Expiry>,
}

/// A code or a session, once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Opened")]
pub(super) struct OpenView {
    #[schemars(with = "schema::Id")]
    tenant: Id,
    #[schemars(with = "Option<schema::Id>")]
    user: Option<Id>,
    #[schemars(with = "Option<schema::Expiry>")]
    expires: Option<Expiry>,
    /// What opens a session, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    code: Option<Secret>,
    /// What `Authorization: Session-v1` takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    session: Option<Secret>,
}

#[derive(Clone, Copy)]
enum Opens {
    Code,
    Session,
}

pub(super) async fn me(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<PersonView>, Problem> {
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
) -> Result<Uncached<Created<OpenView>>, Problem> {
    opened(&api, &caller, Command::Enrol(tenant, user), Opens::Code).await
}

pub(super) async fn open_session(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Uncached<Created<OpenView>>, Problem> {
    opened(&api, &caller, Command::OpenSession, Opens::Session).await
}

async fn opened(
    api: &Api,
    caller: &Caller,
    command: Command,
    opens: Opens,
) -> Result<Uncached<Created<OpenView>>, Problem> {
    let done = api.order(caller, None, command).await?;
    let issued = done.issued.ok_or(portcullis_control::Failed::Interrupted)?;
    let secret = |wanted: bool, key: &SecretString| wanted.then(|| Secret(key.clone()));
    let credential = issued.record.record.credential;
    let view = OpenView {
        tenant: credential.tenant,
        user: credential.creator,
        expires: credential.expires,
        code: secret(matches!(opens, Opens::Code), &issued.key),
        session: secret(matches!(opens, Opens::Session), &issued.key),
    };
    Ok(Uncached(created(Repetition::First, done.revision, "/v1/me".to_owned(), view)))
}

pub(super) async fn close_session(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Removed, Problem> {
    api.order(&caller, None, Command::CloseSession).await?;
    Ok(Removed)
}

pub(super) async fn personal_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Shown<KeyView>, Problem> {
    let stored = api.control.own_view(&caller).await?.personal_key().await?;
    let rules = api.control.rules(&caller.tenant).await?;
    Ok(shown(stored.changed, KeyView::of(stored, api.control.now(), &rules)))
}

pub(super) async fn create_personal_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let done = api.order(&caller, None, Command::CreatePersonalKey).await?;
    issued(&api, &caller, (&caller.tenant, Kind::Personal), done).await
}

/// `{"confirm": true}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegenerateBody {
    #[serde(default)]
    confirm: bool,
}

pub(super) async fn regenerate_personal_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<RegenerateBody>,
) -> Result<Uncached<Created<KeyView>>, Problem> {
    let done = api.order(&caller, None, Command::RegeneratePersonalKey(confirmation(body.confirm))).await?;
    issued(&api, &caller, (&caller.tenant, Kind::Personal), done).await
}

pub(super) async fn delete_personal_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Asked(confirm): Asked<Confirm>,
) -> Result<Removed, Problem> {
    api.order(&caller, None, Command::DeletePersonalKey(confirm.confirmation())).await?;
    Ok(Removed)
}
