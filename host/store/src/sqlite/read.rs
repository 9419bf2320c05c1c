//! Lists and single records, for the admin API and the console.

use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{Application, EndpointSettings, Group, Installation, User};
use rusqlite::params;

use super::Store;
use super::rows::{Columns, after, all, fetch, limit, one, page, scalar};
use crate::change::{GroupUse, Referring};
use crate::error::StoreError;
use crate::record::{
    ApplicationRecord, FeedRecord, GroupRecord, Page, Paging, ServiceRecord, Stored, TenantRecord, UserRecord,
};

type Decode<T> = fn(&Columns<'_>) -> Result<T, StoreError>;

impl Store {
    /// What holds for the whole installation.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn installation(&self) -> Result<Stored<Installation>, StoreError> {
        let found = self.readers.read(|db| {
            one(db, "SELECT * FROM installation", [], "installation", |row| row.stored(row.json("body")?))
        })?;
        found.ok_or_else(|| StoreError::Damaged("there is no installation".to_owned()))
    }

    /// Every service, in order of creation.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn services(&self) -> Result<Vec<Stored<ServiceRecord>>, StoreError> {
        self.readers.read(|db| all(db, "SELECT * FROM service ORDER BY seq", [], "service", service))
    }

    /// One service.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn service(&self, id: &Id) -> Result<Option<Stored<ServiceRecord>>, StoreError> {
        self.readers.read(|db| one(db, "SELECT * FROM service WHERE id = ?1", [id.as_str()], "service", service))
    }

    /// The tenants, in order of creation.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn tenants(&self, paging: Paging) -> Result<Page<Stored<TenantRecord>>, StoreError> {
        let limit = limit(paging);
        let query = "SELECT * FROM tenant WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let params = params![after(paging), fetch(limit)];
        self.readers.read(|db| page(db, query, params, limit, "tenant", |row| row.stored(tenant(row)?)))
    }

    /// One tenant.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn tenant(&self, id: &Id) -> Result<Option<Stored<TenantRecord>>, StoreError> {
        let query = "SELECT * FROM tenant WHERE id = ?1";
        self.readers.read(|db| one(db, query, [id.as_str()], "tenant", |row| row.stored(tenant(row)?)))
    }

    /// What a tenant has set for endpoints, in order of creation.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn settings(&self, tenant: &Id) -> Result<Vec<Stored<EndpointSettings>>, StoreError> {
        let query = "SELECT * FROM setting WHERE tenant = ?1 ORDER BY seq";
        self.readers.read(|db| all(db, query, [tenant.as_str()], "setting", |row| row.stored(setting(row)?)))
    }

    /// The applications of a tenant, in order of creation.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn applications(
        &self,
        tenant: &Id,
        paging: Paging,
    ) -> Result<Page<Stored<ApplicationRecord>>, StoreError> {
        let query = "SELECT * FROM application WHERE tenant = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
        self.page_of_tenant(query, tenant, paging, "application", application_record)
    }

    /// One application.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn application(&self, tenant: &Id, id: &Id) -> Result<Option<Stored<ApplicationRecord>>, StoreError> {
        let query = "SELECT * FROM application WHERE tenant = ?1 AND id = ?2";
        self.one_of_tenant(query, tenant, id, "application", application_record)
    }

    /// Every feed, in order of creation.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn feeds(&self) -> Result<Vec<Stored<FeedRecord>>, StoreError> {
        let query = "SELECT * FROM feed ORDER BY seq";
        self.readers.read(|db| all(db, query, [], "feed", |row| row.stored(feed(row)?)))
    }

    /// One feed.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn feed(&self, id: &Id) -> Result<Option<Stored<FeedRecord>>, StoreError> {
        let query = "SELECT * FROM feed WHERE id = ?1";
        self.readers.read(|db| one(db, query, [id.as_str()], "feed", |row| row.stored(feed(row)?)))
    }

    /// The groups of a tenant, in order of creation.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn groups(&self, tenant: &Id, paging: Paging) -> Result<Page<Stored<GroupRecord>>, StoreError> {
        let query = "SELECT * FROM permission_group WHERE tenant = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
        self.page_of_tenant(query, tenant, paging, "permission_group", group_record)
    }

    /// One group.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn group(&self, tenant: &Id, id: &Id) -> Result<Option<Stored<GroupRecord>>, StoreError> {
        let query = "SELECT * FROM permission_group WHERE tenant = ?1 AND id = ?2";
        self.one_of_tenant(query, tenant, id, "permission_group", group_record)
    }

    /// The users of a tenant that are not deleted, in order of creation.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn users(&self, tenant: &Id, paging: Paging) -> Result<Page<Stored<UserRecord>>, StoreError> {
        let query = "SELECT * FROM person WHERE tenant = ?1 AND deleted = 0 AND seq > ?2 ORDER BY seq LIMIT ?3";
        self.page_of_tenant(query, tenant, paging, "person", user_record)
    }

    /// One user, unless deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn user(&self, tenant: &Id, id: &Id) -> Result<Option<Stored<UserRecord>>, StoreError> {
        let query = "SELECT * FROM person WHERE tenant = ?1 AND id = ?2 AND deleted = 0";
        self.one_of_tenant(query, tenant, id, "person", user_record)
    }

    /// Whether a user of the tenant has that id or had it before being deleted.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn user_id_is_taken(&self, tenant: &Id, id: &Id) -> Result<bool, StoreError> {
        let query = "SELECT EXISTS (SELECT 1 FROM person WHERE tenant = ?1 AND id = ?2)";
        self.readers.read(|db| scalar(db, query, [tenant.as_str(), id.as_str()]))
    }

    /// Who has a group.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn group_use(&self, tenant: &Id, group: &Id) -> Result<GroupUse, StoreError> {
        let query = "SELECT (SELECT count(*) FROM credential
                     WHERE tenant = ?1 AND permission_group = ?2 AND deleted = 0 AND state = 'active') AS credentials,
                    (SELECT count(*) FROM person WHERE tenant = ?1 AND permission_group = ?2 AND deleted = 0) AS members";
        let found = self.readers.read(|db| {
            one(db, query, [tenant.as_str(), group.as_str()], "permission_group", |row| {
                Ok(GroupUse { credentials: row.number("credentials")?, members: row.number("members")? })
            })
        })?;
        found.ok_or_else(|| StoreError::Damaged("a count gave nothing".to_owned()))
    }

    /// What names endpoints of a service.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn referring(&self, service: &Id) -> Result<Referring, StoreError> {
        let tenants = "SELECT DISTINCT tenant FROM setting WHERE service = ?1 ORDER BY tenant";
        let groups = "SELECT tenant, id FROM group_service JOIN permission_group ON seq = group_seq
             WHERE service = ?1 ORDER BY group_seq";
        let credentials = "SELECT id FROM credential_service JOIN credential ON seq = credential_seq
             WHERE service = ?1 ORDER BY credential_seq";
        let service = [service.as_str()];
        // At once, so that the three lists are of one revision.
        self.readers.read_at_once(|db| {
            let pair = |row: &Columns<'_>| Ok((row.id("tenant")?, row.id("id")?));
            Ok(Referring {
                tenants: all(db, tenants, service, "setting", |row| row.id("tenant"))?,
                groups: all(db, groups, service, "permission_group", pair)?,
                credentials: all(db, credentials, service, "credential", |row| row.id("id"))?,
            })
        })
    }

    fn page_of_tenant<T>(
        &self,
        query: &'static str,
        tenant: &Id,
        paging: Paging,
        table: &'static str,
        decode: Decode<T>,
    ) -> Result<Page<T>, StoreError> {
        let limit = limit(paging);
        let params = params![tenant.as_str(), after(paging), fetch(limit)];
        self.readers.read(|db| page(db, query, params, limit, table, decode))
    }

    fn one_of_tenant<T>(
        &self,
        query: &'static str,
        tenant: &Id,
        id: &Id,
        table: &'static str,
        decode: Decode<T>,
    ) -> Result<Option<T>, StoreError> {
        self.readers.read(|db| one(db, query, [tenant.as_str(), id.as_str()], table, decode))
    }
}

fn service(row: &Columns<'_>) -> Result<Stored<ServiceRecord>, StoreError> {
    row.stored(ServiceRecord {
        service: row.json("body")?,
        name: row.get("name")?,
        delivery: row.json("delivery")?,
        catalogue: row.json("catalogue")?,
    })
}

pub(super) fn tenant(row: &Columns<'_>) -> Result<TenantRecord, StoreError> {
    Ok(TenantRecord {
        id: row.id("id")?,
        name: row.get("name")?,
        state: row.word("state")?,
        modules: row.json("modules")?,
        key_limit: row.small("key_limit")?,
        rules: row.json("rules")?,
    })
}

pub(super) fn setting(row: &Columns<'_>) -> Result<EndpointSettings, StoreError> {
    Ok(EndpointSettings {
        endpoint: EndpointRef { service: row.id("service")?, endpoint: row.id("endpoint")? },
        ip_ranges: row.json("ip_ranges")?,
        signature: row.word("signature")?,
        replay: row.word("replay")?,
    })
}

pub(super) fn application(row: &Columns<'_>) -> Result<Application, StoreError> {
    Ok(Application { id: row.id("id")?, tenant: row.id("tenant")? })
}

fn application_record(row: &Columns<'_>) -> Result<Stored<ApplicationRecord>, StoreError> {
    row.stored(ApplicationRecord { application: application(row)?, name: row.get("name")? })
}

pub(super) fn feed(row: &Columns<'_>) -> Result<FeedRecord, StoreError> {
    Ok(FeedRecord { id: row.id("id")?, services: row.json("services")? })
}

pub(super) fn group(row: &Columns<'_>) -> Result<Group, StoreError> {
    Ok(Group { id: row.id("id")?, tenant: row.id("tenant")?, permissions: row.json("permissions")? })
}

fn group_record(row: &Columns<'_>) -> Result<Stored<GroupRecord>, StoreError> {
    row.stored(GroupRecord { group: group(row)?, name: row.get("name")?, kind: row.word("kind")? })
}

pub(super) fn user(row: &Columns<'_>) -> Result<User, StoreError> {
    Ok(User {
        id: row.id("id")?,
        tenant: row.id("tenant")?,
        role: row.word("role")?,
        state: row.word("state")?,
        group: row.maybe_id("permission_group")?,
    })
}

fn user_record(row: &Columns<'_>) -> Result<Stored<UserRecord>, StoreError> {
    row.stored(UserRecord { user: user(row)?, name: row.get("name")? })
}
