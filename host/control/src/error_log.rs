//! The error log: which calls are kept for whom, and by what rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_model::id::Id;
use portcullis_store::{
    ErrorEntry, ErrorFilter, ErrorLogSettings, NewErrorEntry, Page, Paging, Store, StoreError, Stored, Write,
};
use tokio::sync::watch;

use crate::compile::Catalogue;
use crate::error::CommandError;
use crate::view::found;
use crate::{Control, SystemView, TenantView};

/// What tenants have set, and what services say of credentials. A clone is a copy.
#[derive(Clone, Debug, Default)]
pub struct ErrorLogRules {
    tenants: BTreeMap<String, ErrorLogSettings>,
    usual: ErrorLogSettings,
    /// The tenant that each pinned service is of.
    pinned: BTreeMap<String, Id>,
    /// Every header field in which a service takes a credential, lower case.
    headers: Vec<String>,
    /// Every query parameter in which a service takes a credential.
    parameters: Vec<String>,
}

impl ErrorLogRules {
    /// What holds for a tenant, or for what is the installation's own.
    #[must_use]
    pub fn settings(&self, tenant: Option<&str>) -> &ErrorLogSettings {
        tenant.and_then(|tenant| self.tenants.get(tenant)).unwrap_or(&self.usual)
    }

    /// The tenant that a service is pinned to.
    #[must_use]
    pub fn pinned(&self, service: &str) -> Option<&Id> {
        self.pinned.get(service)
    }

    pub(crate) fn headers(&self) -> &[String] {
        &self.headers
    }

    pub(crate) fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// The rules as the store has them.
    pub(crate) async fn read(store: &Store, catalogue: &Catalogue) -> Result<Arc<ErrorLogRules>, StoreError> {
        let tenants = store.all_error_log_settings().await?.into_iter();
        let tenants = tenants.map(|(tenant, settings)| (tenant.to_string(), settings)).collect();
        let mut rules = ErrorLogRules { tenants, ..ErrorLogRules::default() };
        rules.take(catalogue);
        Ok(Arc::new(rules))
    }

    /// The rules once `writes` are done, or nothing where they stay as they are.
    pub(crate) fn after(&self, writes: &[Write], catalogue: &Catalogue) -> Option<Arc<ErrorLogRules>> {
        let mut after = None;
        for write in writes {
            if let Write::PutErrorLogSettings { tenant, settings } = write {
                after.get_or_insert_with(|| self.clone()).tenants.insert(tenant.to_string(), settings.clone());
            }
            if let Write::PutService(_) | Write::RemoveService(_) = write {
                after.get_or_insert_with(|| self.clone()).take(catalogue);
            }
        }
        after.map(Arc::new)
    }

    /// Whatever any service takes for a credential is one, whichever service it was sent to.
    fn take(&mut self, catalogue: &Catalogue) {
        let pinned =
            |service: &portcullis_model::source::Service| Some((service.id.to_string(), service.tenant.clone()?));
        self.pinned = catalogue.services().filter_map(pinned).collect();
        let accepted = || catalogue.services().flat_map(|service| &service.accept);
        self.headers = accepted().filter_map(|way| way.header.as_deref()).map(str::to_ascii_lowercase).collect();
        self.headers.sort_unstable();
        self.headers.dedup();
        self.parameters = accepted().filter_map(|way| way.parameter.clone()).collect();
        self.parameters.sort_unstable();
        self.parameters.dedup();
    }

    #[cfg(test)]
    pub(crate) fn for_tenant(tenant: &str, settings: ErrorLogSettings) -> ErrorLogRules {
        ErrorLogRules { tenants: BTreeMap::from([(tenant.to_owned(), settings)]), ..ErrorLogRules::default() }
    }
}

impl Control {
    /// By what rules failed calls are kept, as it changes. A change is there before it is answered.
    #[must_use]
    pub fn error_log_rules(&self) -> watch::Receiver<Arc<ErrorLogRules>> {
        self.error_log.subscribe()
    }

    /// Keeps failed calls, which have been redacted.
    ///
    /// # Errors
    /// Where the store does not take them; none of them is kept then.
    pub async fn keep_errors(&self, entries: &[NewErrorEntry]) -> Result<(), StoreError> {
        self.store.append_errors(entries).await
    }
}

#[expect(clippy::missing_errors_doc, reason = "each fails only where the store does, or a record is not there")]
impl TenantView<'_> {
    /// What the tenant has set for its error log, or what holds where it has set nothing.
    pub async fn error_log_settings(&self) -> Result<Stored<ErrorLogSettings>, CommandError> {
        let stored = self.control.store.error_log_settings(self.id()).await?;
        let (changed, created) = (self.tenant().changed, self.tenant().created);
        Ok(stored.unwrap_or_else(|| Stored { record: ErrorLogSettings::default(), changed, created }))
    }

    /// The tenant's failed calls, newest first.
    pub async fn errors(&self, filter: &ErrorFilter, paging: Paging) -> Result<Page<ErrorEntry>, CommandError> {
        Ok(self.control.store.errors(Some(self.id()), filter, paging).await?)
    }

    /// One failed call of the tenant.
    pub async fn error_entry(&self, id: u64) -> Result<ErrorEntry, CommandError> {
        let entry = self.control.store.error_entry(id).await?;
        found(entry.filter(|entry| entry.tenant.as_ref() == Some(self.id())), "error log entry", &id)
    }

    /// What was kept of the call of a decision, if it failed.
    pub async fn error_of(&self, decision: u64) -> Result<Option<ErrorEntry>, CommandError> {
        let entry = self.control.store.error_of(decision).await?;
        Ok(entry.filter(|entry| entry.tenant.as_ref() == Some(self.id())))
    }
}

#[expect(clippy::missing_errors_doc, reason = "each fails only where the store does, or a record is not there")]
impl SystemView<'_> {
    /// Failed calls that are no tenant's, newest first.
    pub async fn errors(&self, filter: &ErrorFilter, paging: Paging) -> Result<Page<ErrorEntry>, CommandError> {
        Ok(self.control.store.errors(None, filter, paging).await?)
    }

    /// One failed call that is no tenant's.
    pub async fn error_entry(&self, id: u64) -> Result<ErrorEntry, CommandError> {
        let entry = self.control.store.error_entry(id).await?;
        found(entry.filter(|entry| entry.tenant.is_none()), "error log entry", &id)
    }

    /// What was kept of the call of a decision, if it failed.
    pub async fn error_of(&self, decision: u64) -> Result<Option<ErrorEntry>, CommandError> {
        Ok(self.control.store.error_of(decision).await?)
    }
}
