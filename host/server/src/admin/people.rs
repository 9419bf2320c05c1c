//! `/v1/tenants/{tenant}/groups` and `/users`: what keys depend on.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use portcullis_control::store::{GroupKind, GroupRecord, Stored, UserRecord};
use portcullis_control::{Caller, Command, GroupEdit, NewGroup, NewUser, UserEdit};
use portcullis_model::id::Id;
use portcullis_model::source::{Permission, Role, UserState};
use serde::{Deserialize, Serialize};

use super::extract::{Asked, At, Body, Confirm, IfMatch, Paged};
use super::problem::Problem;
use super::{Api, List, created, no_content, shown};

/// A group.
#[derive(Serialize)]
struct GroupView {
    id: Id,
    name: String,
    r#type: GroupKind,
    permissions: Vec<Permission>,
    created_at: String,
    changed: u64,
}

impl GroupView {
    fn of(stored: Stored<GroupRecord>) -> Self {
        let GroupRecord { group, name, kind } = stored.record;
        GroupView {
            id: group.id,
            name,
            r#type: kind,
            permissions: group.permissions,
            created_at: stored.created.to_string(),
            changed: stored.changed.0,
        }
    }
}

/// A group to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupBody {
    id: Id,
    #[serde(default)]
    name: String,
    #[serde(default = "for_tenant_keys")]
    r#type: GroupKind,
    #[serde(default)]
    permissions: Vec<Permission>,
}

fn for_tenant_keys() -> GroupKind {
    GroupKind::TenantKey
}

/// What changes of a group.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupPatch {
    name: Option<String>,
    permissions: Option<Vec<Permission>>,
}

pub(super) async fn groups(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Paged(paging): Paged,
) -> Result<Json<List<impl Serialize>>, Problem> {
    let page = api.control.tenant_view(&caller, &tenant).await?.groups(paging).await?;
    Ok(Json(List::of(page, GroupView::of)))
}

pub(super) async fn create_group(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Body(body): Body<GroupBody>,
) -> Result<Response, Problem> {
    let id = body.id.clone();
    let new = NewGroup { id: body.id, name: body.name, kind: body.r#type, permissions: body.permissions };
    api.order(&caller, None, Command::CreateGroup(tenant.clone(), new)).await?;
    let stored = api.control.tenant_view(&caller, &tenant).await?.group(&id).await?;
    Ok(created(stored.changed, &format!("/v1/tenants/{tenant}/groups/{id}"), GroupView::of(stored)))
}

pub(super) async fn group(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
) -> Result<Response, Problem> {
    let stored = api.control.tenant_view(&caller, &tenant).await?.group(&id).await?;
    Ok(shown(stored.changed, GroupView::of(stored)))
}

pub(super) async fn edit_group(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Body(patch): Body<GroupPatch>,
) -> Result<Response, Problem> {
    let edit = GroupEdit { name: patch.name, permissions: patch.permissions };
    state.order(&caller, if_match, Command::EditGroup(tenant.clone(), id.clone(), edit)).await?;
    group(state, Extension(caller), At((tenant, id))).await
}

pub(super) async fn remove_group(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
) -> Result<Response, Problem> {
    api.order(&caller, if_match, Command::RemoveGroup(tenant, id)).await?;
    Ok(no_content())
}

/// A user.
#[derive(Serialize)]
struct UserView {
    id: Id,
    name: String,
    role: Role,
    state: UserState,
    group: Option<Id>,
    /// Whether the user has a personal key, which nobody else sees more of; only where one user is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    personal_key: Option<bool>,
    created_at: String,
    changed: u64,
}

impl UserView {
    fn of(stored: Stored<UserRecord>) -> Self {
        let UserRecord { user, name } = stored.record;
        UserView {
            id: user.id,
            name,
            role: user.role,
            state: user.state,
            group: user.group,
            personal_key: None,
            created_at: stored.created.to_string(),
            changed: stored.changed.0,
        }
    }
}

/// A user to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserBody {
    id: Id,
    #[serde(default)]
    name: String,
    role: Role,
    group: Option<Id>,
}

/// What changes of a user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPatch {
    name: Option<String>,
    role: Option<Role>,
    state: Option<UserState>,
    group: Option<Id>,
}

pub(super) async fn users(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Paged(paging): Paged,
) -> Result<Json<List<impl Serialize>>, Problem> {
    let page = api.control.tenant_view(&caller, &tenant).await?.users(paging).await?;
    Ok(Json(List::of(page, UserView::of)))
}

pub(super) async fn create_user(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Body(body): Body<UserBody>,
) -> Result<Response, Problem> {
    let id = body.id.clone();
    let new = NewUser { id: body.id, name: body.name, role: body.role, group: body.group };
    api.order(&caller, None, Command::CreateUser(tenant.clone(), new)).await?;
    let stored = api.control.tenant_view(&caller, &tenant).await?.user(&id).await?;
    Ok(created(stored.changed, &format!("/v1/tenants/{tenant}/users/{id}"), UserView::of(stored)))
}

pub(super) async fn user(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
) -> Result<Response, Problem> {
    let view = api.control.tenant_view(&caller, &tenant).await?;
    let stored = view.user(&id).await?;
    let personal_key = Some(view.has_personal_key(&id).await?);
    Ok(shown(stored.changed, UserView { personal_key, ..UserView::of(stored) }))
}

pub(super) async fn edit_user(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Body(patch): Body<UserPatch>,
) -> Result<Response, Problem> {
    let edit = UserEdit { name: patch.name, role: patch.role, state: patch.state, group: patch.group };
    state.order(&caller, if_match, Command::EditUser(tenant.clone(), id.clone(), edit)).await?;
    user(state, Extension(caller), At((tenant, id))).await
}

pub(super) async fn remove_user(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Asked(confirm): Asked<Confirm>,
) -> Result<Response, Problem> {
    api.order(&caller, if_match, Command::RemoveUser(tenant, id, confirm.confirmation())).await?;
    Ok(no_content())
}
