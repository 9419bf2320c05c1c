//! `/v1/tenants/{tenant}/groups` and `/users`: what keys depend on.

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::store::{GroupKind, GroupRecord, Stored, UserRecord};
use portcullis_control::{Caller, Command, GroupEdit, NewGroup, NewUser, UserEdit};
use portcullis_model::id::Id;
use portcullis_model::source::{Permission, Role, UserState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Created, List, Removed, Shown, created, shown};
use super::extract::{Asked, At, Body, Confirm, Creation, IfMatch, Paged};
use super::problem::Problem;
use super::{Api, schema};

/// A group.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Group")]
pub(super) struct GroupView {
    #[schemars(with = "schema::Id")]
    id: Id,
    name: String,
    #[schemars(with = "schema::GroupKind")]
    r#type: GroupKind,
    #[schemars(with = "Vec<schema::Permission>")]
    permissions: Vec<Permission>,
    /// When it was made, as RFC 3339.
    created_at: String,
    /// The revision that changed it last, which is its `ETag`.
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
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupBody {
    #[schemars(with = "schema::Id")]
    id: Id,
    #[serde(default)]
    name: String,
    #[serde(default = "for_tenant_keys")]
    #[schemars(with = "schema::GroupKind")]
    r#type: GroupKind,
    #[serde(default)]
    #[schemars(with = "Vec<schema::Permission>")]
    permissions: Vec<Permission>,
}

fn for_tenant_keys() -> GroupKind {
    GroupKind::TenantKey
}

/// What changes of a group.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupPatch {
    name: Option<String>,
    #[schemars(with = "Option<Vec<schema::Permission>>")]
    permissions: Option<Vec<Permission>>,
}

pub(super) async fn groups(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Paged(paging): Paged,
) -> Result<Json<List<GroupView>>, Problem> {
    let page = api.control.tenant_view(&caller, &tenant).await?.groups(paging).await?;
    Ok(Json(List::of(page, GroupView::of)))
}

pub(super) async fn create_group(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Creation(body, idempotency): Creation<GroupBody>,
) -> Result<Created<GroupView>, Problem> {
    let id = body.id.clone();
    let new = NewGroup { id: body.id, name: body.name, kind: body.r#type, permissions: body.permissions };
    let done = api.create(&caller, None, idempotency, Command::CreateGroup(tenant.clone(), new)).await?;
    let stored = api.control.tenant_view(&caller, &tenant).await?.group(&id).await?;
    Ok(created(done.repetition, stored.changed, format!("/v1/tenants/{tenant}/groups/{id}"), GroupView::of(stored)))
}

pub(super) async fn group(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
) -> Result<Shown<GroupView>, Problem> {
    let stored = api.control.tenant_view(&caller, &tenant).await?.group(&id).await?;
    Ok(shown(stored.changed, GroupView::of(stored)))
}

pub(super) async fn edit_group(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
    Body(patch): Body<GroupPatch>,
) -> Result<Shown<GroupView>, Problem> {
    let edit = GroupEdit { name: patch.name, permissions: patch.permissions };
    state.order(&caller, if_match, Command::EditGroup(tenant.clone(), id.clone(), edit)).await?;
    group(state, Extension(caller), At((tenant, id))).await
}

pub(super) async fn remove_group(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
    IfMatch(if_match): IfMatch,
) -> Result<Removed, Problem> {
    api.order(&caller, if_match, Command::RemoveGroup(tenant, id)).await?;
    Ok(Removed)
}

/// A user.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "User")]
pub(super) struct UserView {
    #[schemars(with = "schema::Id")]
    id: Id,
    name: String,
    #[schemars(with = "schema::Role")]
    role: Role,
    #[schemars(with = "schema::UserState")]
    state: UserState,
    #[schemars(with = "Option<schema::Id>")]
    group: Option<Id>,
    /// Whether the user has a personal key, which nobody else sees more of; only where one user is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    personal_key: Option<bool>,
    /// When it was made, as RFC 3339.
    created_at: String,
    /// The revision that changed it last, which is its `ETag`.
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
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserBody {
    #[schemars(with = "schema::Id")]
    id: Id,
    #[serde(default)]
    name: String,
    #[schemars(with = "schema::Role")]
    role: Role,
    #[schemars(with = "Option<schema::Id>")]
    group: Option<Id>,
}

/// What changes of a user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPatch {
    name: Option<String>,
    #[schemars(with = "Option<schema::Role>")]
    role: Option<Role>,
    #[schemars(with = "Option<schema::UserState>")]
    state: Option<UserState>,
    #[schemars(with = "Option<schema::Id>")]
    group: Option<Id>,
}

pub(super) async fn users(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Paged(paging): Paged,
) -> Result<Json<List<UserView>>, Problem> {
    let page = api.control.tenant_view(&caller, &tenant).await?.users(paging).await?;
    Ok(Json(List::of(page, UserView::of)))
}

pub(super) async fn create_user(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(tenant): At<Id>,
    Creation(body, idempotency): Creation<UserBody>,
) -> Result<Created<UserView>, Problem> {
    let id = body.id.clone();
    let new = NewUser { id: body.id, name: body.name, role: body.role, group: body.group };
    let done = api.create(&caller, None, idempotency, Command::CreateUser(tenant.clone(), new)).await?;
    let stored = api.control.tenant_view(&caller, &tenant).await?.user(&id).await?;
    Ok(created(done.repetition, stored.changed, format!("/v1/tenants/{tenant}/users/{id}"), UserView::of(stored)))
}

pub(super) async fn user(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At((tenant, id)): At<(Id, Id)>,
) -> Result<Shown<UserView>, Problem> {
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
) -> Result<Shown<UserView>, Problem> {
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
) -> Result<Removed, Problem> {
    api.order(&caller, if_match, Command::RemoveUser(tenant, id, confirm.confirmation())).await?;
    Ok(Removed)
}
