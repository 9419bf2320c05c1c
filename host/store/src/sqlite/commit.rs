//! The writes of a change, each one statement or a few, within the transaction that the writer has opened.

use portcullis_model::id::{EndpointRef, Id, Revision};
use portcullis_model::source::{EndpointSettings, Installation};
use sqlx::{Row as _, SqliteConnection};

use super::bulk;
use super::chain;
use super::credentials;
use super::error_log;
use super::idempotency;
use super::rows::{encode, int, number, word};
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

pub(super) async fn apply(tx: &mut SqliteConnection, change: &Change) -> Result<(), StoreError> {
    advance(tx, change.from, change.to).await?;
    let stamp = Stamp { at: int(change.at.as_secs())?, revision: int(change.to.0)? };
    for write in &change.writes {
        put(tx, write, stamp).await?;
    }
    if let Some(new) = &change.remember {
        idempotency::remember(tx, new, stamp).await?;
    }
    chain::append(tx, &change.audit).await
}

/// INVARIANT (no-lost-update): the comparison and the new revision are one statement within the change's transaction.
async fn advance(tx: &mut SqliteConnection, from: Revision, to: Revision) -> Result<(), StoreError> {
    let moved = sqlx::query("UPDATE meta SET revision = ?1 WHERE revision = ?2")
        .bind(int(to.0)?)
        .bind(int(from.0)?)
        .execute(&mut *tx)
        .await?;
    if moved.rows_affected() == 1 {
        return Ok(());
    }
    let at: i64 = sqlx::query_scalar("SELECT revision FROM meta").fetch_one(tx).await?;
    Err(StoreError::Conflict { from, at: Revision(number(at)?) })
}

async fn put(tx: &mut SqliteConnection, write: &Write, stamp: Stamp) -> Result<(), StoreError> {
    match write {
        Write::PutInstallation(installation) => put_installation(tx, installation, stamp).await,
        Write::PutService(service) => put_service(tx, service, stamp).await,
        Write::RemoveService(id) => {
            sqlx::query("DELETE FROM service WHERE id = ?1").bind(id.as_str()).execute(tx).await?;
            Ok(())
        }
        Write::PutTenant(tenant) => put_tenant(tx, tenant, stamp).await,
        Write::PutSettings { tenant, settings } => put_settings(tx, tenant, settings, stamp).await,
        Write::RemoveSettings { tenant, endpoint } => remove_settings(tx, tenant, endpoint).await,
        Write::PutGroup(group) => put_group(tx, group, stamp).await,
        Write::RemoveGroup { tenant, group } => {
            let delete = sqlx::query("DELETE FROM permission_group WHERE tenant = ?1 AND id = ?2");
            delete.bind(tenant.as_str()).bind(group.as_str()).execute(tx).await?;
            Ok(())
        }
        Write::PutApplication(application) => put_application(tx, application, stamp).await,
        Write::RemoveApplication { tenant, application } => {
            let delete = sqlx::query("DELETE FROM application WHERE tenant = ?1 AND id = ?2");
            delete.bind(tenant.as_str()).bind(application.as_str()).execute(tx).await?;
            Ok(())
        }
        Write::PutFeed(feed) => put_feed(tx, feed, stamp).await,
        Write::RemoveFeed(id) => {
            sqlx::query("DELETE FROM feed WHERE id = ?1").bind(id.as_str()).execute(tx).await?;
            Ok(())
        }
        Write::PutUser(user) => put_user(tx, user, stamp).await,
        Write::RemoveUser { tenant, user } => {
            let delete = sqlx::query(
                "UPDATE person SET deleted = 1, changed = ?3 WHERE tenant = ?1 AND id = ?2 AND deleted = 0",
            );
            delete.bind(tenant.as_str()).bind(user.as_str()).bind(stamp.revision).execute(tx).await?;
            Ok(())
        }
        Write::PutCredential(credential) => credentials::put(tx, credential, stamp).await,
        Write::AddCredentials(credentials) => bulk::add(tx, credentials, stamp).await,
        Write::RemoveCredential(id) => credentials::remove(tx, id, stamp).await,
        Write::PutErrorLogSettings { tenant, settings } => error_log::put_settings(tx, tenant, settings, stamp).await,
        Write::PutTokenKey(key) => tokens::put_key(tx, key, stamp).await,
        Write::RemoveTokenKey(kid) => tokens::remove_key(tx, kid).await,
    }
}

async fn put_installation(
    tx: &mut SqliteConnection,
    installation: &Installation,
    stamp: Stamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE installation SET body = ?1, changed = ?2")
        .bind(encode(installation)?)
        .bind(stamp.revision)
        .execute(tx)
        .await?;
    Ok(())
}

async fn put_service(tx: &mut SqliteConnection, record: &ServiceRecord, stamp: Stamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO service (id, tenant, name, body, delivery, created, changed, catalogue)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, name = excluded.name, body = excluded.body,
             delivery = excluded.delivery, changed = excluded.changed, catalogue = excluded.catalogue",
    )
    .bind(record.service.id.as_str())
    .bind(record.service.tenant.as_ref().map(Id::as_str))
    .bind(record.name.as_str())
    .bind(encode(&record.service)?)
    .bind(encode(&record.delivery)?)
    .bind(stamp.at)
    .bind(stamp.revision)
    .bind(encode(&record.catalogue)?)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put_tenant(tx: &mut SqliteConnection, record: &TenantRecord, stamp: Stamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tenant (id, name, state, modules, key_limit, created, changed, rules)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state, modules = excluded.modules,
             key_limit = excluded.key_limit, changed = excluded.changed, rules = excluded.rules",
    )
    .bind(record.id.as_str())
    .bind(record.name.as_str())
    .bind(word(record.state)?)
    .bind(encode(&record.modules)?)
    .bind(i64::from(record.key_limit))
    .bind(stamp.at)
    .bind(stamp.revision)
    .bind(encode(&record.rules)?)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put_settings(
    tx: &mut SqliteConnection,
    tenant: &Id,
    settings: &EndpointSettings,
    stamp: Stamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO setting (tenant, service, endpoint, ip_ranges, signature, created, changed, replay)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (tenant, service, endpoint) DO UPDATE SET ip_ranges = excluded.ip_ranges,
             signature = excluded.signature, changed = excluded.changed, replay = excluded.replay",
    )
    .bind(tenant.as_str())
    .bind(settings.endpoint.service.as_str())
    .bind(settings.endpoint.endpoint.as_str())
    .bind(encode(&settings.ip_ranges)?)
    .bind(word(settings.signature)?)
    .bind(stamp.at)
    .bind(stamp.revision)
    .bind(word(settings.replay)?)
    .execute(tx)
    .await?;
    Ok(())
}

async fn remove_settings(tx: &mut SqliteConnection, tenant: &Id, endpoint: &EndpointRef) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM setting WHERE tenant = ?1 AND service = ?2 AND endpoint = ?3")
        .bind(tenant.as_str())
        .bind(endpoint.service.as_str())
        .bind(endpoint.endpoint.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

async fn put_application(
    tx: &mut SqliteConnection,
    record: &ApplicationRecord,
    stamp: Stamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO application (tenant, id, name, created, changed) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name, changed = excluded.changed",
    )
    .bind(record.application.tenant.as_str())
    .bind(record.application.id.as_str())
    .bind(record.name.as_str())
    .bind(stamp.at)
    .bind(stamp.revision)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put_feed(tx: &mut SqliteConnection, record: &FeedRecord, stamp: Stamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO feed (id, services, created, changed) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET services = excluded.services, changed = excluded.changed",
    )
    .bind(record.id.as_str())
    .bind(encode(&record.services)?)
    .bind(stamp.at)
    .bind(stamp.revision)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put_group(tx: &mut SqliteConnection, record: &GroupRecord, stamp: Stamp) -> Result<(), StoreError> {
    let group = &record.group;
    let row = sqlx::query(
        "INSERT INTO permission_group (tenant, id, name, kind, permissions, created, changed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name, kind = excluded.kind,
             permissions = excluded.permissions, changed = excluded.changed
         RETURNING seq",
    )
    .bind(group.tenant.as_str())
    .bind(group.id.as_str())
    .bind(record.name.as_str())
    .bind(word(record.kind)?)
    .bind(encode(&group.permissions)?)
    .bind(stamp.at)
    .bind(stamp.revision)
    .fetch_one(&mut *tx)
    .await?;
    let seq: i64 = row.try_get("seq")?;
    sqlx::query("DELETE FROM group_service WHERE group_seq = ?1").bind(seq).execute(&mut *tx).await?;
    for permission in &group.permissions {
        sqlx::query("INSERT INTO group_service (group_seq, service) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
            .bind(seq)
            .bind(permission.endpoint.service.as_str())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn put_user(tx: &mut SqliteConnection, record: &UserRecord, stamp: Stamp) -> Result<(), StoreError> {
    let user = &record.user;
    let put = sqlx::query(
        "INSERT INTO person (tenant, id, name, role, state, permission_group, created, changed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name, role = excluded.role, state = excluded.state,
             permission_group = excluded.permission_group, changed = excluded.changed
             WHERE deleted = 0",
    )
    .bind(user.tenant.as_str())
    .bind(user.id.as_str())
    .bind(record.name.as_str())
    .bind(word(user.role)?)
    .bind(word(user.state)?)
    .bind(user.group.as_ref().map(Id::as_str))
    .bind(stamp.at)
    .bind(stamp.revision)
    .execute(tx)
    .await?;
    match put.rows_affected() {
        0 => Err(StoreError::IdTaken { id: user.id.clone() }),
        _ => Ok(()),
    }
}
