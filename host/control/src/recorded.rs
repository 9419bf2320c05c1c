//! Recorded decisions as a tenant sees them, and when its credentials were used.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis_model::answer::Details;
use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use portcullis_store::{
    DecisionFilter, DecisionItem, DecisionRecord, Gap, MAX_PAGE, Page, SecretUse, SecretUsed, Store, StoreError, Which,
};

use crate::error::{CommandError, Failed};
use crate::view::found;
use crate::{Control, SystemView, TenantView};

/// Pages of decisions that are looked through for one page of a tenant's: where others have most of the traffic the page is
/// short, and goes on from there.
const SCANNED_PAGES: usize = 16;
/// How many bits of a decision's id count the decisions of one millisecond.
const COUNT_BITS: u32 = 20;
/// The most addresses that are told apart among recent clients.
const MAX_CLIENTS: usize = 1000;

/// From where recent requests came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecentClients {
    /// How many decisions were looked at that have an address.
    pub decisions: u64,
    /// Whether there were more in that time than were looked at.
    pub is_cut: bool,
    /// The addresses, and how many requests came from each.
    pub addresses: BTreeMap<IpAddr, u64>,
}

impl Control {
    /// Adds uses of secrets.
    ///
    /// # Errors
    /// Where the store does not take them; none of them is added then.
    pub async fn add_uses(&self, uses: &[SecretUse]) -> Result<(), StoreError> {
        self.store.add_uses(uses).await
    }

    /// Keeps decisions that a worker of a feed gives back, those that are not kept already, and gives these back.
    ///
    /// # Errors
    /// Where the store does not take them; none of them is kept then.
    pub async fn keep_fed_decisions(
        &self,
        feed: &Id,
        worker: &str,
        records: Vec<DecisionRecord>,
        gaps: Vec<Gap>,
    ) -> Result<Vec<DecisionRecord>, Failed> {
        Ok(self.store.append_fed_decisions(format!("{feed}/{worker}"), records, gaps).await?)
    }
}

#[expect(clippy::missing_errors_doc, reason = "each fails only where the store does, or a record is not there")]
impl TenantView<'_> {
    /// When the secrets of credentials were used last; nothing of those that never were.
    pub async fn uses(&self, credentials: &[Id]) -> Result<BTreeMap<Id, Vec<SecretUsed>>, CommandError> {
        let mut uses: BTreeMap<Id, Vec<SecretUsed>> = BTreeMap::new();
        for (id, used) in self.control.store.uses(credentials, self.control.now()).await? {
            uses.entry(id).or_default().push(used);
        }
        Ok(uses)
    }

    /// Decisions whose facts name this tenant, newest first. Gaps name nobody and are not here.
    pub async fn decisions(&self, filter: &DecisionFilter, limit: u32) -> Result<Page<DecisionRecord>, CommandError> {
        let limit = usize::try_from(limit.clamp(1, MAX_PAGE)).unwrap_or(1);
        let mut items = Vec::new();
        let mut filter = filter.clone();
        for _ in 0..SCANNED_PAGES {
            let page = self.control.store.decisions(&filter, MAX_PAGE).await?;
            for item in page.items {
                let DecisionItem::Record(record) = item else { continue };
                if !names(&record, self.id()) {
                    continue;
                }
                if items.len() == limit {
                    let next = items.last().map(|last: &DecisionRecord| last.id);
                    return Ok(Page { items, next });
                }
                items.push(record);
            }
            filter.before = page.next;
            if filter.before.is_none() {
                break;
            }
        }
        Ok(Page { items, next: filter.before })
    }

    /// One decision whose facts name this tenant.
    pub async fn decision(&self, id: u64, shown: &str) -> Result<DecisionRecord, CommandError> {
        let record = self.control.store.decision(id).await?;
        found(record.filter(|record| names(record, self.id())), "decision", &shown)
    }

    /// From where the requests of this tenant's credentials came since a time.
    pub async fn recent_clients(&self, since: UnixTime) -> Result<RecentClients, CommandError> {
        recent_clients(&self.control.store, since, |record| names(record, self.id())).await
    }
}

#[expect(clippy::missing_errors_doc, reason = "each fails only where the store does, or a record is not there")]
impl SystemView<'_> {
    /// From where all requests came since a time.
    pub async fn recent_clients(&self, since: UnixTime) -> Result<RecentClients, CommandError> {
        recent_clients(&self.control.store, since, |_| true).await
    }
}

fn names(record: &DecisionRecord, tenant: &Id) -> bool {
    Details::unpack(&record.details).is_ok_and(|details| details.facts.tenant == tenant.as_str())
}

async fn recent_clients(
    store: &Store,
    since: UnixTime,
    is_wanted: impl Fn(&DecisionRecord) -> bool,
) -> Result<RecentClients, CommandError> {
    let oldest = since.as_secs().saturating_mul(1000) << COUNT_BITS;
    let mut recent = RecentClients::default();
    let mut filter = DecisionFilter { which: Which::All, before: None };
    for _ in 0..SCANNED_PAGES {
        let page = store.decisions(&filter, MAX_PAGE).await?;
        for item in page.items {
            let DecisionItem::Record(record) = item else { continue };
            if record.id < oldest {
                return Ok(recent);
            }
            if is_wanted(&record) {
                recent.add(&record);
            }
        }
        filter.before = page.next;
        if filter.before.is_none_or(|before| before < oldest) {
            return Ok(recent);
        }
    }
    recent.is_cut = true;
    Ok(recent)
}

impl RecentClients {
    fn add(&mut self, record: &DecisionRecord) {
        let Ok(details) = Details::unpack(&record.details) else { return };
        let facts = details.facts;
        // The admin API has a listener and clients of its own.
        if facts.client.is_unspecified() || facts.service == crate::ADMIN_SERVICE {
            return;
        }
        self.decisions += 1;
        if let Some(count) = self.addresses.get_mut(&facts.client) {
            *count += 1;
        } else if self.addresses.len() < MAX_CLIENTS {
            self.addresses.insert(facts.client, 1);
        } else {
            self.is_cut = true;
        }
    }
}
