//! The writes of a change, each one statement or a few, within the transaction that the writer has opened.

use portcullis_model::id::{EndpointRef, Id, Revision};
use portcullis_model::source::{EndpointSettings, Installation};
use rusqlite::{Connection, params};

use super::chain;
use super::credentials;
use super::error_log;
use super::idempotency;
use super::rows::{encode, execute, int, number, scalar, word};
use super::tokens;
use crate::change::Change;
use crate::error::StoreError;
use crate::record::{ApplicationRecord, FeedRecord, GroupRecord, ServiceRecord, TenantRecord, UserRecord, Write};

/// What every row says of the change that wrote it.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub(super) at: i64,
    pub(super) revision: i64,
}

pub(super) fn apply(tx: &Connection, change: &Change) -> Result<(), StoreError> {
    advance(tx, change.from, change.to)?;
    let stamp = Stamp { at: int(change.at.as_secs())?, revision: int(change.to.0)? };
    for write in &change.writes {
        put(tx, write, stamp)?;
    }
    if let Some(new) = &change.remember {
        idempotency::remember(tx, new, stamp)?;
    }
    chain::append(tx, &change.audit)
}

/// INVARIANT (no-lost-update): the comparison and the new revision are one statement within the change's transaction.
fn advance(tx: &Connection, from: Revision, to: Revision) -> Result<(), StoreError> {
    let advance = "UPDATE meta SET revision = ?1 WHERE revision = ?2";
    if execute(tx, advance, params![int(to.0)?, int(from.0)?])? == 1 {
        return Ok(());
    }
    let at: i64 = scalar(tx, "SELECT revision FROM meta", [])?;
    Err(StoreError::Conflict { from, at: Revision(number(at)?) })
}

fn put(tx: &Connection, write: &Write, stamp: Stamp) -> Result<(), StoreError> {
    match write {
        Write::PutInstallation(installation) => put_installation(tx, installation, stamp),
        Write::PutService(service) => put_service(tx, service, stamp),
        Write::RemoveService(id) => {
            execute(tx, "DELETE FROM service WHERE id = ?1", [id.as_str()])?;
            Ok(())
        }
        Write::PutTenant(tenant) => put_tenant(tx, tenant, stamp),
        Write::PutSettings { tenant, settings } => put_settings(tx, tenant, settings, stamp),
        Write::RemoveSettings { tenant, endpoint } => remove_settings(tx, tenant, endpoint),
        Write::PutGroup(group) => put_group(tx, group, stamp),
        Write::RemoveGroup { tenant, group } => {
            let delete = "DELETE FROM permission_group WHERE tenant = ?1 AND id = ?2";
            execute(tx, delete, params![tenant.as_str(), group.as_str()])?;
            Ok(())
        }
        Write::PutApplication(application) => put_application(tx, application, stamp),
        Write::RemoveApplication { tenant, application } => {
            let delete = "DELETE FROM application WHERE tenant = ?1 AND id = ?2";
            execute(tx, delete, params![tenant.as_str(), application.as_str()])?;
            Ok(())
        }
        Write::PutFeed(feed) => put_feed(tx, feed, stamp),
        Write::RemoveFeed(id) => {
            execute(tx, "DELETE FROM feed WHERE id = ?1", [id.as_str()])?;
            Ok(())
        }
        Write::PutUser(user) => put_user(tx, user, stamp),
        Write::RemoveUser { tenant, user } => {
            let delete = "UPDATE person SET deleted = 1, changed = ?3 WHERE tenant = ?1 AND id = ?2 AND deleted = 0";
            execute(tx, delete, params![tenant.as_str(), user.as_str(), stamp.revision])?;
            Ok(())
        }
        Write::PutCredential(credential) => credentials::put(tx, credential, stamp),
        Write::AddCredentials(credentials) => credentials::add(tx, credentials, stamp),
        Write::RemoveCredential(id) => credentials::remove(tx, id, stamp),
        Write::PutErrorLogSettings { tenant, settings } => error_log::put_settings(tx, tenant, settings, stamp),
        Write::PutTokenKey(key) => tokens::put_key(tx, key, stamp),
        Write::RemoveTokenKey(kid) => tokens::remove_key(tx, kid),
    }
}

fn put_installation(tx: &Connection, installation: &Installation, stamp: Stamp) -> Result<(), StoreError> {
    execute(tx, "UPDATE installation SET body = ?1, changed = ?2", params![encode(installation)?, stamp.revision])?;
    Ok(())
}

fn put_service(tx: &Connection, record: &ServiceRecord, stamp: Stamp) -> Result<(), StoreError> {
    execute(
        tx,
        "INSERT INTO service (id, tenant, name, body, delivery, created, changed, catalogue)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, name = excluded.name, body = excluded.body,
             delivery = excluded.delivery, changed = excluded.changed, catalogue = excluded.catalogue",
        params![
            record.service.id.as_str(),
            record.service.tenant.as_ref().map(Id::as_str),
            record.name.as_str(),
            encode(&record.service)?,
            encode(&record.delivery)?,
            stamp.at,
            stamp.revision,
            encode(&record.catalogue)?
        ],
    )?;
    Ok(())
}

fn put_tenant(tx: &Connection, record: &TenantRecord, stamp: Stamp) -> Result<(), StoreError> {
    execute(
        tx,
        "INSERT INTO tenant (id, name, state, modules, key_limit, created, changed, rules)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state, modules = excluded.modules,
             key_limit = excluded.key_limit, changed = excluded.changed, rules = excluded.rules",
        params![
            record.id.as_str(),
            record.name.as_str(),
            word(record.state)?,
            encode(&record.modules)?,
            i64::from(record.key_limit),
            stamp.at,
            stamp.revision,
            encode(&record.rules)?
        ],
    )?;
    Ok(())
}

fn put_settings(tx: &Connection, tenant: &Id, settings: &EndpointSettings, stamp: Stamp) -> Result<(), StoreError> {
    execute(
        tx,
        "INSERT INTO setting (tenant, service, endpoint, ip_ranges, signature, created, changed, replay)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (tenant, service, endpoint) DO UPDATE SET ip_ranges = excluded.ip_ranges,
             signature = excluded.signature, changed = excluded.changed, replay = excluded.replay",
        params![
            tenant.as_str(),
            settings.endpoint.service.as_str(),
            settings.endpoint.endpoint.as_str(),
            encode(&settings.ip_ranges)?,
            word(settings.signature)?,
            stamp.at,
            stamp.revision,
            word(settings.replay)?
        ],
    )?;
    Ok(())
}

fn remove_settings(tx: &Connection, tenant: &Id, endpoint: &EndpointRef) -> Result<(), StoreError> {
    execute(
        tx,
        "DELETE FROM setting WHERE tenant = ?1 AND service = ?2 AND endpoint = ?3",
        params![tenant.as_str(), endpoint.service.as_str(), endpoint.endpoint.as_str()],
    )?;
    Ok(())
}

fn put_application(tx: &Connection, record: &ApplicationRecord, stamp: Stamp) -> Result<(), StoreError> {
    execute(
        tx,
        "INSERT INTO application (tenant, id, name, created, changed) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name, changed = excluded.changed",
        params![
            record.application.tenant.as_str(),
            record.application.id.as_str(),
            record.name.as_str(),
            stamp.at,
            stamp.revision
        ],
    )?;
    Ok(())
}

fn put_feed(tx: &Connection, record: &FeedRecord, stamp: Stamp) -> Result<(), StoreError> {
    execute(
        tx,
        "INSERT INTO feed (id, services, created, changed) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET services = excluded.services, changed = excluded.changed",
        params![record.id.as_str(), encode(&record.services)?, stamp.at, stamp.revision],
    )?;
    Ok(())
}

fn put_group(tx: &Connection, record: &GroupRecord, stamp: Stamp) -> Result<(), StoreError> {
    let group = &record.group;
    let seq: i64 = scalar(
        tx,
        "INSERT INTO permission_group (tenant, id, name, kind, permissions, created, changed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name, kind = excluded.kind,
             permissions = excluded.permissions, changed = excluded.changed
         RETURNING seq",
        params![
            group.tenant.as_str(),
            group.id.as_str(),
            record.name.as_str(),
            word(record.kind)?,
            encode(&group.permissions)?,
            stamp.at,
            stamp.revision
        ],
    )?;
    execute(tx, "DELETE FROM group_service WHERE group_seq = ?1", [seq])?;
    for permission in &group.permissions {
        let service = "INSERT INTO group_service (group_seq, service) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        execute(tx, service, params![seq, permission.endpoint.service.as_str()])?;
    }
    Ok(())
}

fn put_user(tx: &Connection, record: &UserRecord, stamp: Stamp) -> Result<(), StoreError> {
    let user = &record.user;
    let put = execute(
        tx,
        "INSERT INTO person (tenant, id, name, role, state, permission_group, created, changed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name, role = excluded.role, state = excluded.state,
             permission_group = excluded.permission_group, changed = excluded.changed
             WHERE deleted = 0",
        params![
            user.tenant.as_str(),
            user.id.as_str(),
            record.name.as_str(),
            word(user.role)?,
            word(user.state)?,
            user.group.as_ref().map(Id::as_str),
            stamp.at,
            stamp.revision
        ],
    )?;
    match put {
        0 => Err(StoreError::IdTaken { id: user.id.clone() }),
        _ => Ok(()),
    }
}
