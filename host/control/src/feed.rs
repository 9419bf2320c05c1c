//! What a feed serves: the policy cut down to its services, as a base in parts, then deltas and key sheets as they come.
//!
//! A worker loads a base, then asks for changes from its revision on, again and again. Whatever is in force here is in the
//! next answer; a call that finds nothing waits until there is something.

mod bases;
mod cursor;
mod hub;
mod keys;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_model::feed::MAX_WAIT_S;
use portcullis_model::id::Id;
use portcullis_model::policy;
use portcullis_model::source::{Credential, Delta};
use portcullis_store::{Store, StoreError, Write};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use self::bases::Bases;
pub use self::bases::{BASE_KEPT, FeedBase, MAX_BASES_BYTES, MAX_BASES_OF_FEED};
use self::cursor::Cursor;
pub use self::hub::{Changes, MAX_FEED_DELTA_BYTES, MAX_FEED_DELTAS};
pub(crate) use self::hub::{Hub, InForce};
use crate::Control;
use crate::change::Lane;
use crate::compile;
use crate::error::Failed;

/// The most calls of workers that wait at once: for changes, or for a base to be made.
pub const MAX_FEED_CALLS: usize = 2048;
/// How long a base waits for the change that it has in it already to be told to all.
const CATCH_UP: Duration = Duration::from_secs(10);

/// What feeds need beside the hub.
pub(crate) struct Feeds {
    pub(crate) hub: Arc<Hub>,
    bases: Bases,
    /// Held while a base is made: several at once would need the memory several times.
    making: Mutex<()>,
    calls: Semaphore,
}

/// Why a worker gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// There is no such feed.
    #[error("there is no feed `{0}`")]
    NotFound(Id),
    /// The base is not kept any more, or has no such part.
    #[error("that base is not kept any more: begin anew")]
    Gone,
    /// The cursor is none that was given out.
    #[error("the cursor is none: begin with `r` and the revision of the base, then send what the last answer gave")]
    Cursor,
    /// As many calls wait as may.
    #[error("{MAX_FEED_CALLS} calls of workers are waiting, which is as many as may: try again in a moment")]
    Busy,
    /// This process is about to end.
    #[error("this host stops: ask another, or try again")]
    Stopping,
    /// It could not be made.
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl Feeds {
    pub(crate) fn new(hub: Hub) -> Feeds {
        Feeds {
            hub: Arc::new(hub),
            bases: Bases::default(),
            making: Mutex::new(()),
            calls: Semaphore::new(MAX_FEED_CALLS),
        }
    }

    /// Lets go of bases that nobody asks for.
    pub(crate) fn prune(&self) {
        self.bases.prune(Instant::now());
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, FeedError> {
        self.calls.try_acquire().map_err(|_| FeedError::Busy)
    }
}

impl Control {
    /// A base of a feed: one that is there and leads to the newest state, or one that is made now.
    ///
    /// # Errors
    /// Any [`FeedError`] but [`FeedError::Cursor`] and [`FeedError::Gone`].
    pub async fn feed_base(self: &Arc<Self>, feed: &Id) -> Result<Arc<FeedBase>, FeedError> {
        let _place = self.feeds.place()?;
        if let Some(base) = self.usable_base(feed)? {
            return Ok(base);
        }
        // It is made to its end whether the caller waits or not: the next one finds it.
        let (control, feed) = (Arc::clone(self), feed.clone());
        let made = tokio::spawn(async move { control.make_base(&feed).await });
        made.await.map_err(|_| Failed::Interrupted)?
    }

    /// A part of a base that was given out, and its number from 0.
    ///
    /// # Errors
    /// [`FeedError::NotFound`] and [`FeedError::Gone`].
    pub fn feed_part(&self, feed: &Id, base: &str, part: usize) -> Result<Vec<u8>, FeedError> {
        self.feeds.hub.feed(feed).ok_or_else(|| FeedError::NotFound(feed.clone()))?;
        let base = self.feeds.bases.get(feed, base, Instant::now()).ok_or(FeedError::Gone)?;
        base.part(part).map(<[u8]>::to_vec).ok_or(FeedError::Gone)
    }

    /// The services that a feed's policy has: its own, and those whose requests must not fall to them because they share a host.
    #[must_use]
    pub fn feed_services(&self, feed: &Id) -> BTreeSet<Id> {
        self.feeds.hub.services_of(feed).unwrap_or_default()
    }

    /// What there is to say to a worker that has come to `cursor`. Where there is nothing it waits for it, and after `wait`
    /// confirms that there is nothing.
    ///
    /// # Errors
    /// [`FeedError::NotFound`], [`FeedError::Cursor`], [`FeedError::Busy`], and [`FeedError::Stopping`] where this process could
    /// not bring in force what is written down.
    pub async fn feed_changes(&self, feed: &Id, cursor: &str, wait: Duration) -> Result<Changes, FeedError> {
        let cursor: Cursor = cursor.parse().map_err(|_| FeedError::Cursor)?;
        let _place = self.feeds.place()?;
        let hub = &self.feeds.hub;
        let mut news = hub.news();
        let wait = tokio::time::sleep(wait.min(Duration::from_secs(MAX_WAIT_S.into())));
        tokio::pin!(wait);
        let mut is_over = false;
        loop {
            news.mark_unchanged();
            // What is confirmed here must be all that is written down.
            if self.stopped.borrow().is_some() {
                return Err(FeedError::Stopping);
            }
            let changes = hub.changes(feed, cursor, (self.clock)()).ok_or_else(|| FeedError::NotFound(feed.clone()))?;
            if changes.is_news || is_over || hub.is_ending() {
                return Ok(changes);
            }
            tokio::select! {
                _ = news.changed() => {}
                () = &mut wait => is_over = true,
            }
        }
    }

    /// Lets no worker wait any more, because the process is about to end.
    pub fn end_feeds(&self) {
        self.feeds.hub.end();
    }

    fn usable_base(&self, feed: &Id) -> Result<Option<Arc<FeedBase>>, FeedError> {
        let stands = self.feeds.hub.feed(feed).ok_or_else(|| FeedError::NotFound(feed.clone()))?;
        let newest = self.feeds.bases.newest(feed, Instant::now());
        Ok(newest.filter(|base| self.feeds.hub.leads_on(&stands, base.revision)))
    }

    async fn make_base(&self, feed: &Id) -> Result<Arc<FeedBase>, FeedError> {
        let _alone = self.feeds.making.lock().await;
        // Whoever was before may have made it.
        if let Some(base) = self.usable_base(feed)? {
            return Ok(base);
        }
        let stands = self.feeds.hub.feed(feed).ok_or_else(|| FeedError::NotFound(feed.clone()))?;
        let snapshot = self.store.snapshot().await.map_err(Failed::from)?;
        let revision = snapshot.revision;
        // The services as of the snapshot: the feed may have changed since it was looked at.
        let record = snapshot.feeds.iter().find(|record| record.id == *feed);
        let projection = record.map(|record| stands.projection.of(record.services.iter().cloned().collect()));
        let projection = projection.ok_or_else(|| FeedError::NotFound(feed.clone()))?;
        let (id, issuer, checkpoint) = (feed.clone(), self.tokens.issuer.clone(), self.witness.for_base());
        let made = tokio::task::spawn_blocking(move || -> Result<FeedBase, Failed> {
            let source = projection.source(compile::source(snapshot, &issuer, checkpoint));
            Ok(FeedBase::new(id, revision, policy::build(&source)?))
        });
        let base = Arc::new(made.await.map_err(|_| Failed::Interrupted)??);
        self.feeds.bases.put(Arc::clone(&base), Instant::now());
        tracing::info!(%feed, %revision, bytes = base.size(), "base of a feed made");
        // The snapshot may hold a change that is not in force yet. It is not given out before its delta has been told.
        let mut news = self.feeds.hub.news();
        let told = async {
            while self.feeds.hub.revision() < revision {
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(CATCH_UP, told).await.map_err(|_| FeedError::Busy)?;
        Ok(base)
    }

    /// The credentials that a change takes the place of, where there is a feed to tell it to.
    pub(crate) async fn replaced_by(
        &self,
        delta: &Delta,
        writes: &[Write],
    ) -> Result<Option<Vec<Credential>>, StoreError> {
        if !self.feeds.hub.has_feeds() {
            return Ok(None);
        }
        // What is added is new, and may be ten thousand.
        let mut added = BTreeSet::new();
        let mut touched = BTreeSet::new();
        for write in writes {
            if let Write::AddCredentials(records) = write {
                added.extend(records.iter().map(|record| &record.credential.id));
            }
            if let Write::RemoveCredential(id) = write {
                touched.insert(id);
            }
            if let Write::PutCredential(record) = write {
                touched.insert(&record.credential.id);
            }
        }
        touched.extend(delta.credentials.iter().map(|credential| &credential.id).filter(|id| !added.contains(id)));
        let mut replaced = Vec::new();
        for id in touched {
            replaced.extend(self.store.credential(id).await?.map(|stored| stored.record.credential));
        }
        Ok(Some(replaced))
    }
}

/// The hub of an installation, as the store has it.
pub(crate) async fn hub(store: &Store, lane: &Lane) -> Result<Hub, StoreError> {
    let feeds = store.feeds().await?.into_iter().map(|stored| (stored.record, stored.changed)).collect();
    let owners = store.signing_slots().await?.into_iter().map(|(_, tenant, slot)| (slot, tenant)).collect();
    Ok(Hub::new(lane.revision, lane.catalogue.in_force().collect(), feeds, owners))
}

/// The same, for the hub that is there.
pub(crate) async fn reset(hub: &Hub, store: &Store, lane: &Lane) -> Result<(), StoreError> {
    let feeds = store.feeds().await?.into_iter().map(|stored| (stored.record, stored.changed)).collect();
    let owners = store.signing_slots().await?;
    hub.reset(lane.revision, lane.catalogue.in_force().collect(), feeds);
    owners.into_iter().for_each(|(_, tenant, slot)| hub.own(slot, tenant));
    Ok(())
}
