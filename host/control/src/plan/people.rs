//! Groups and users: what keys of others depend on.

use portcullis_model::id::Id;
use portcullis_model::source::{Group, Permission, Role, User, UserState};
use portcullis_store::{GroupKind, GroupRecord, UserRecord, Write};
use serde_json::json;

use super::{Faults, MAX_NAME_CHARS, Situation, missing, require_confirmed};
use crate::catalogue::SYSTEM_TENANT;
use crate::change::Plan;
use crate::command::{Confirmation, GroupEdit, NewGroup, NewUser, UserEdit};
use crate::error::{CommandError, Refused};

pub(super) async fn create_group(s: &Situation<'_>, tenant: &Id, new: &NewGroup) -> Result<Plan, CommandError> {
    if s.control.store.group(tenant, &new.id).await?.is_some() {
        return Err(Refused::Exists { kind: "group", id: new.id.to_string() }.into());
    }
    let permissions = stable(s, &new.permissions);
    check_group(s, tenant, &new.name, &permissions)?;
    let details = json!({ "name": new.name, "type": new.kind, "permissions": permissions });
    let group = Group { id: new.id.clone(), tenant: tenant.clone(), permissions };
    let record = GroupRecord { group, name: new.name.clone(), kind: new.kind };
    Ok(Plan::new(vec![Write::PutGroup(record)], details))
}

pub(super) async fn edit_group(
    s: &Situation<'_>,
    tenant: &Id,
    id: &Id,
    edit: &GroupEdit,
) -> Result<Plan, CommandError> {
    let stored = s.control.store.group(tenant, id).await?.ok_or_else(|| missing("group", id))?;
    s.require_unchanged("group", &stored)?;
    let mut record = stored.record;
    let mut details = serde_json::Map::new();
    if let Some(name) = &edit.name {
        record.name.clone_from(name);
        details.insert("name".to_owned(), json!(name));
    }
    let permissions = edit.permissions.as_deref().map(|permissions| stable(s, permissions));
    check_group(s, tenant, &record.name, permissions.as_deref().unwrap_or_default())?;
    if let Some(permissions) = permissions {
        details.insert("permissions".to_owned(), json!(permissions));
        record.group.permissions = permissions;
    }
    Ok(Plan::new(vec![Write::PutGroup(record)], details.into()))
}

pub(super) async fn remove_group(s: &Situation<'_>, tenant: &Id, id: &Id) -> Result<Plan, CommandError> {
    let stored = s.control.store.group(tenant, id).await?.ok_or_else(|| missing("group", id))?;
    s.require_unchanged("group", &stored)?;
    let used = s.control.store.group_use(tenant, id).await?;
    if used.credentials + used.members > 0 {
        let what = format!(
            "the group `{id}` is in use by {} active keys and {} members: give them another group first",
            used.credentials, used.members
        );
        return Err(Refused::State { code: "group_in_use", what }.into());
    }
    let write = Write::RemoveGroup { tenant: tenant.clone(), group: id.clone() };
    Ok(Plan::new(vec![write], json!({})))
}

/// Permissions by the stable names of their endpoints.
fn stable(s: &Situation<'_>, permissions: &[Permission]) -> Vec<Permission> {
    let by_name = |permission: &Permission| Permission {
        endpoint: s.lane.catalogue.stable(&permission.endpoint),
        methods: permission.methods,
    };
    permissions.iter().map(by_name).collect()
}

fn check_group(s: &Situation<'_>, tenant: &Id, name: &str, permissions: &[Permission]) -> Result<(), Refused> {
    let mut faults = Faults::default();
    faults.text("name", name, (0, MAX_NAME_CHARS));
    faults.list("permissions", permissions);
    for (index, permission) in permissions.iter().enumerate() {
        if s.lane.catalogue.endpoint(&permission.endpoint).is_none() {
            let what = format!("there is no endpoint `{}`", permission.endpoint);
            faults.add(format!("permissions[{index}].endpoint"), what);
        }
    }
    faults.end()?;
    s.require_power(tenant, permissions.iter().map(|permission| permission.endpoint.clone()), &[], "permissions")
}

pub(super) async fn create_user(s: &Situation<'_>, tenant: &Id, new: &NewUser) -> Result<Plan, CommandError> {
    if s.control.store.user_id_is_taken(tenant, &new.id).await? {
        return Err(Refused::Exists { kind: "user", id: new.id.to_string() }.into());
    }
    let user = User {
        id: new.id.clone(),
        tenant: tenant.clone(),
        role: new.role,
        state: UserState::Active,
        group: new.group.clone(),
    };
    let record = UserRecord { user, name: new.name.clone() };
    check_user(s, &record, None).await?;
    // The name is a person's: it stays out of the audit, which nobody can take it out of again.
    Ok(Plan::new(vec![Write::PutUser(record)], json!({ "role": new.role, "group": new.group })))
}

pub(super) async fn edit_user(s: &Situation<'_>, tenant: &Id, id: &Id, edit: &UserEdit) -> Result<Plan, CommandError> {
    let stored = s.control.store.user(tenant, id).await?.ok_or_else(|| missing("user", id))?;
    s.require_unchanged("user", &stored)?;
    let before = stored.record;
    let mut record = before.clone();
    let mut details = serde_json::Map::new();
    if let Some(name) = &edit.name {
        record.name.clone_from(name);
        details.insert("name".to_owned(), json!("(changed)"));
    }
    if let Some(role) = edit.role {
        record.user.role = role;
        if role != Role::Member {
            record.user.group = None;
        }
        details.insert("role".to_owned(), json!(role));
    }
    if let Some(state) = edit.state {
        record.user.state = state;
        details.insert("state".to_owned(), json!(state));
    }
    if let Some(group) = &edit.group {
        record.user.group = Some(group.clone());
        details.insert("group".to_owned(), json!(group));
    }
    check_user(s, &record, Some(&before)).await?;
    Ok(Plan::new(vec![Write::PutUser(record)], details.into()))
}

pub(super) async fn remove_user(
    s: &Situation<'_>,
    tenant: &Id,
    id: &Id,
    confirmation: Confirmation,
) -> Result<Plan, CommandError> {
    let stored = s.control.store.user(tenant, id).await?.ok_or_else(|| missing("user", id))?;
    s.require_unchanged("user", &stored)?;
    require_mightier(s, &stored.record.user)?;
    if s.authorized.actor.user.as_ref() == Some(id) && s.authorized.actor.tenant == *tenant {
        let what = "your own key follows this user and would die with it: let somebody else delete it".to_owned();
        return Err(Refused::State { code: "own_user", what }.into());
    }
    let consequence = format!("the user `{id}` is gone for good, and every key that follows it is dead at once");
    require_confirmed(confirmation, consequence)?;
    let mut writes = vec![Write::RemoveUser { tenant: tenant.clone(), user: id.clone() }];
    writes.extend(super::own::belongings(s, tenant, id).await?);
    Ok(Plan::new(writes, json!({})))
}

async fn check_user(s: &Situation<'_>, record: &UserRecord, before: Option<&UserRecord>) -> Result<(), CommandError> {
    let user = &record.user;
    let mut faults = Faults::default();
    faults.text("name", &record.name, (0, MAX_NAME_CHARS));
    let in_system = user.tenant.as_str() == SYSTEM_TENANT;
    if in_system != (user.role == Role::Superuser) {
        faults.add("role", "the users of the system tenant are superusers, and no others are");
    }
    if user.group.is_some() && user.role != Role::Member {
        faults.add("group", "it is the profile of a member; an admin has the whole tenant");
    }
    let mut profile = None;
    if let Some(group) = &user.group {
        match s.control.store.group(&user.tenant, group).await? {
            None => faults.add("group", format!("there is no group `{group}`")),
            Some(stored) if stored.record.kind != GroupKind::Member => {
                faults.add("group", format!("`{group}` is of the type tenant key, a profile is of the type member"));
            }
            Some(stored) => profile = Some(stored.record),
        }
    }
    faults.end()?;
    if let Some(before) = before {
        require_mightier(s, &before.user)?;
    }
    require_mightier(s, user)?;
    if let Some(profile) = profile {
        let endpoints = profile.group.permissions.into_iter().map(|permission| permission.endpoint);
        s.require_power(&user.tenant, endpoints, &[], "group")?;
    }
    Ok(())
}

/// Admins are made, changed and deleted by superusers: they have the whole tenant, which no key of it can hand on.
pub(super) fn require_mightier(s: &Situation<'_>, user: &User) -> Result<(), Refused> {
    if user.role == Role::Member || s.authorized.order.caller.is_superuser() {
        return Ok(());
    }
    let what = "admins are made and changed by keys of the system tenant: ask whoever operates this installation";
    Err(Refused::Forbidden(what.to_owned()))
}
