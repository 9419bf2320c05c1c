//! What there is to say to workers: the deltas of late, and the keys of the days.
//!
//! Nothing is projected before somebody asks. What a feed gets of a delta is kept beside the delta, so that the many workers
//! of a feed cost one projection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use portcullis_model::feed::{Frame, MAX_CHANGES_BYTES};
use portcullis_model::id::{Id, Revision};
use portcullis_model::key_sheet::{Day, DayKey};
use portcullis_model::policy;
use portcullis_model::source::{Credential, Delta, KeptTenants, Projected, Projection, Replaced, Service};
use portcullis_model::time::UnixTime;
use portcullis_store::{FeedRecord, Write};
use rand::Rng as _;
use tokio::sync::watch;

use super::cursor::Cursor;
use super::keys::Keys;

/// The most deltas that are kept. A worker that misses as many takes a new base.
pub const MAX_FEED_DELTAS: usize = 4096;
/// The most bytes of deltas that are kept, as the gate has them.
pub const MAX_FEED_DELTA_BYTES: usize = 16 << 20;
/// The most bytes of projected deltas that are kept for all feeds together. Beyond them they are made again.
const MAX_PROJECTED_BYTES: usize = 64 << 20;
/// The most deltas of one answer: what is projected at a time is bounded.
const MAX_STEPS: usize = 1024;
/// The bytes that the frame of a confirmation has.
const CONFIRMATION_BYTES: usize = 13;

/// Everything of feeds that lives in memory.
pub(crate) struct Hub {
    state: Mutex<State>,
    /// Counts what there was to say.
    news: watch::Sender<u64>,
    /// Tells this process from the one before, which counted keys in another way.
    number: u64,
    /// How much of projected deltas is kept.
    projected: AtomicUsize,
}

struct State {
    revision: Revision,
    services: Arc<[Service]>,
    feeds: BTreeMap<Id, Arc<Feed>>,
    steps: VecDeque<Arc<Step>>,
    bytes: usize,
    keys: Keys,
    is_ending: bool,
}

/// A feed as it stands.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) id: Id,
    pub(super) projection: Projection,
    /// The revision from which on it has these services.
    since: Revision,
}

/// A delta in force.
struct Step {
    delta: Delta,
    replaced: Vec<Credential>,
    /// The services before it.
    services: Arc<[Service]>,
    bytes: usize,
    /// What feeds got of it.
    projected: Mutex<BTreeMap<(Id, Revision), Place>>,
}

/// What a feed gets of a delta, once somebody has asked.
type Place = Arc<OnceLock<Part>>;

/// What a feed gets of a delta.
#[derive(Clone)]
enum Part {
    Delta(Arc<[u8]>),
    NewBase,
}

/// A change that is in force now.
pub(crate) struct InForce {
    pub(crate) delta: Delta,
    /// The credentials that it takes the place of; nothing where nobody asked for them, because there was no feed.
    pub(crate) replaced: Option<Vec<Credential>>,
    /// How long it is as the gate has it.
    pub(crate) bytes: usize,
}

/// The answer to a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changes {
    /// Frames, as `portcullis_model::feed` has them.
    pub frames: Vec<u8>,
    /// From where to go on.
    pub cursor: String,
    /// Whether anything but a confirmation is in it.
    pub(super) is_news: bool,
}

impl Hub {
    /// A hub of the installation as it stands. `owners` are the tenants of the slots that are taken.
    pub(crate) fn new(
        revision: Revision,
        services: Vec<Service>,
        feeds: Vec<(FeedRecord, Revision)>,
        owners: Vec<(u32, Id)>,
    ) -> Hub {
        let feeds = feeds.into_iter().map(|(record, since)| (record.id.clone(), Feed::new(record, since))).collect();
        let mut keys = Keys::default();
        owners.into_iter().for_each(|(slot, tenant)| keys.own(slot, tenant));
        let state = State {
            revision,
            services: services.into(),
            feeds,
            steps: VecDeque::new(),
            bytes: 0,
            keys,
            is_ending: false,
        };
        Hub {
            state: Mutex::new(state),
            news: watch::Sender::new(0),
            number: rand::rng().next_u64(),
            projected: AtomicUsize::new(0),
        }
    }

    /// Takes over what the store has, where the lane did so. Workers take a new base.
    pub(crate) fn reset(&self, revision: Revision, services: Vec<Service>, feeds: Vec<(FeedRecord, Revision)>) {
        let mut state = self.state();
        self.forget_steps(&mut state);
        state.revision = revision;
        state.services = services.into();
        state.feeds = feeds.into_iter().map(|(record, since)| (record.id.clone(), Feed::new(record, since))).collect();
        drop(state);
        self.tell();
    }

    /// Whether there is a feed: without one nobody asks for what a delta takes the place of.
    pub(crate) fn has_feeds(&self) -> bool {
        !self.state().feeds.is_empty()
    }

    /// A change is in force from now on. `services` are all of them, asked for where it changed them.
    pub(crate) fn push(&self, change: InForce, writes: &[Write], services: impl FnOnce() -> Vec<Service>) {
        let InForce { delta, replaced, bytes } = change;
        let mut state = self.state();
        let (from, to) = (delta.from, delta.revision);
        let before = Arc::clone(&state.services);
        if !delta.services.is_empty() || !delta.removed.services.is_empty() {
            state.services = services().into();
        }
        match replaced {
            Some(replaced) if state.revision == from => {
                let step = Step { delta, replaced, services: before, bytes, projected: Mutex::default() };
                state.bytes += bytes;
                state.steps.push_back(Arc::new(step));
            }
            // Something is missing between: nobody goes on over it.
            Some(_) | None => self.forget_steps(&mut state),
        }
        state.revision = to;
        for write in writes {
            if let Write::PutFeed(record) = write {
                state.feeds.insert(record.id.clone(), Feed::new(record.clone(), to));
            }
            if let Write::RemoveFeed(id) = write {
                state.feeds.remove(id);
            }
        }
        while state.steps.len() > MAX_FEED_DELTAS || state.bytes > MAX_FEED_DELTA_BYTES {
            let Some(step) = state.steps.pop_front() else { break };
            state.bytes = state.bytes.saturating_sub(step.bytes);
            self.forget_projected(&step);
        }
        if self.projected.load(Ordering::Relaxed) > MAX_PROJECTED_BYTES {
            state.steps.iter().for_each(|step| self.forget_projected(step));
        }
        drop(state);
        self.tell();
    }

    /// Takes note whose a slot is, before its keys come.
    pub(crate) fn own(&self, slot: u32, tenant: Id) {
        self.state().keys.own(slot, tenant);
    }

    /// Nobody has the slot any more.
    pub(crate) fn release(&self, slot: u32) {
        self.state().keys.release(slot);
    }

    /// Takes keys that the gate has. Workers are told with the next change, or by [`Hub::tell`].
    pub(crate) fn keys(&self, day: Day, first: u32, keys: &[DayKey]) {
        self.state().keys.put(day, first, keys);
    }

    /// Wakes whoever waits.
    pub(crate) fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Lets nobody wait any more: the process ends.
    pub(crate) fn end(&self) {
        self.state().is_ending = true;
        self.tell();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.state().is_ending
    }

    /// Told whenever there may be something to say.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The revision up to which it can say something.
    pub(super) fn revision(&self) -> Revision {
        self.state().revision
    }

    /// The feed of that id.
    pub(super) fn feed(&self, id: &Id) -> Option<Arc<Feed>> {
        self.state().feeds.get(id).cloned()
    }

    /// The services that the policy of a feed has, be it their place alone.
    pub(super) fn services_of(&self, feed: &Id) -> Option<BTreeSet<Id>> {
        let state = self.state();
        let projection = &state.feeds.get(feed)?.projection;
        Some(projection.catalogue(&state.services).into_iter().map(|service| service.id).collect())
    }

    /// Whether a base of a feed at a revision leads on to the newest state.
    pub(super) fn leads_on(&self, feed: &Feed, from: Revision) -> bool {
        let (is_current, steps) = {
            let state = self.state();
            let is_current = state.feeds.get(&feed.id).is_some_and(|now| now.since == feed.since);
            (is_current && from >= feed.since, state.steps_after(from))
        };
        is_current
            && steps.is_some_and(|steps| steps.iter().all(|step| !matches!(self.part(feed, step), Part::NewBase)))
    }

    /// What there is to say to a worker of a feed. Nothing where there is no such feed.
    pub(super) fn changes(&self, feed: &Id, cursor: Cursor, now: UnixTime) -> Option<Changes> {
        let (feed, steps, parts) = {
            let state = self.state();
            let feed = Arc::clone(state.feeds.get(feed)?);
            let steps = state.steps_after(cursor.revision).filter(|_| cursor.revision >= feed.since);
            let Some(steps) = steps else { return Some(self.rebase(cursor)) };
            let seen = cursor.keys.filter(|(_, hub)| *hub == self.number).map_or(0, |(seen, _)| seen);
            let tenants: KeptTenants = feed.projection.tenants(&state.services);
            let parts = state.keys.after(seen, &tenants, MAX_CHANGES_BYTES / 2);
            (feed, steps, parts)
        };
        let mut frames = Vec::new();
        parts.parts.iter().for_each(|part| Frame::Keys(part).pack(&mut frames));
        let mut is_news = !frames.is_empty();
        let mut cursor = Cursor { keys: Some((parts.seen, self.number)), ..cursor };
        // INVARIANT (keys-before-names): no delta goes before all keys that were there when it was taken.
        let mut is_newest = parts.complete;
        for step in steps.iter().take(if parts.complete { steps.len() } else { 0 }) {
            let part = self.part(&feed, step);
            let Part::Delta(delta) = part else { return Some(self.rebase(cursor)) };
            let frame = Frame::Delta(&delta);
            if frame.packed_len() > MAX_CHANGES_BYTES - CONFIRMATION_BYTES {
                return Some(self.rebase(cursor));
            }
            let goes = frames.len() + frame.packed_len() <= MAX_CHANGES_BYTES - CONFIRMATION_BYTES;
            if !goes {
                is_newest = false;
                break;
            }
            frame.pack(&mut frames);
            (cursor.revision, is_news) = (step.delta.revision, true);
        }
        is_newest &= steps.len() < MAX_STEPS;
        if is_newest {
            Frame::Confirmed(now).pack(&mut frames);
        }
        Some(Changes { frames, cursor: cursor.to_string(), is_news: is_news || !is_newest })
    }

    fn rebase(&self, cursor: Cursor) -> Changes {
        let mut frames = Vec::new();
        Frame::Rebase.pack(&mut frames);
        Changes { frames, cursor: cursor.to_string(), is_news: true }
    }

    /// What a feed gets of a delta, made where it is not there.
    fn part(&self, feed: &Feed, step: &Step) -> Part {
        let place = {
            let mut projected = step.projected.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(projected.entry((feed.id.clone(), feed.since)).or_default())
        };
        let made = place.get_or_init(|| {
            let was = Replaced { services: &step.services, credentials: &step.replaced };
            let Projected::Delta(delta) = feed.projection.delta(&step.delta, &was) else { return Part::NewBase };
            match policy::build_delta(&delta) {
                Ok(bytes) => {
                    self.projected.fetch_add(bytes.len(), Ordering::Relaxed);
                    Part::Delta(bytes.into())
                }
                Err(error) => {
                    tracing::error!(%error, feed = %feed.id, "a delta could not be projected: workers take a new base");
                    Part::NewBase
                }
            }
        });
        made.clone()
    }

    fn forget_steps(&self, state: &mut State) {
        for step in state.steps.drain(..) {
            self.forget_projected(&step);
        }
        state.bytes = 0;
    }

    fn forget_projected(&self, step: &Step) {
        let projected = std::mem::take(&mut *step.projected.lock().unwrap_or_else(PoisonError::into_inner));
        let made = projected.values().filter_map(|place| match place.get() {
            Some(Part::Delta(bytes)) => Some(bytes.len()),
            Some(Part::NewBase) | None => None,
        });
        let bytes: usize = made.sum();
        // One that is being made meanwhile is counted for ever, which only makes the others go earlier.
        let _ = self
            .projected
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(before.saturating_sub(bytes)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn new(record: FeedRecord, since: Revision) -> Arc<Feed> {
        let services: BTreeSet<Id> = record.services.into_iter().collect();
        Arc::new(Feed { id: record.id, projection: Projection::new(services, crate::system_tenant()), since })
    }
}

impl State {
    /// The deltas after a revision, at most [`MAX_STEPS`] of them; nothing where one is not there any more, or the revision is
    /// none of ours.
    fn steps_after(&self, revision: Revision) -> Option<Vec<Arc<Step>>> {
        if revision == self.revision {
            return Some(Vec::new());
        }
        let first = self.steps.partition_point(|step| step.delta.from < revision);
        let leads = self.steps.get(first).is_some_and(|step| step.delta.from == revision);
        leads.then(|| self.steps.iter().skip(first).take(MAX_STEPS).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::credential::Seed;
    use portcullis_model::feed::frames;

    use super::*;

    const SEED: Seed = Seed([7; 16]);

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    /// A hub at revision 1, with the feed `edge` of a service that is not there.
    fn hub() -> Hub {
        let record = FeedRecord { id: id("edge"), services: BTreeSet::from([id("shop")]) };
        Hub::new(Revision(1), Vec::new(), vec![(record, Revision(1))], Vec::new())
    }

    fn push(hub: &Hub, bytes: usize) {
        let Revision(at) = hub.revision();
        let delta = Delta::empty(Revision(at), Revision(at + 1), SEED);
        hub.push(InForce { delta, replaced: Some(Vec::new()), bytes }, &[], Vec::new);
    }

    /// What a worker at that revision is told: the number of deltas, whether that is all, or nothing for a new base.
    fn told(hub: &Hub, revision: u64) -> Option<(usize, bool)> {
        let cursor = Cursor { revision: Revision(revision), keys: None };
        let changes = hub.changes(&id("edge"), cursor, UnixTime::MAX).unwrap();
        let frames = frames(&changes.frames).unwrap();
        if frames == [Frame::Rebase] {
            return None;
        }
        let deltas = frames.iter().filter(|frame| matches!(frame, Frame::Delta(_))).count();
        Some((deltas, matches!(frames.last(), Some(Frame::Confirmed(_)))))
    }

    #[test]
    fn who_misses_more_deltas_than_are_kept_takes_a_new_base() {
        let hub = hub();
        (0..MAX_FEED_DELTAS).for_each(|_| push(&hub, 1));
        assert_eq!(told(&hub, 1), Some((MAX_STEPS, false)));
        push(&hub, 1);
        assert_eq!((told(&hub, 1), told(&hub, 2)), (None, Some((MAX_STEPS, false))));
        let newest = hub.revision().0;
        assert_eq!((told(&hub, newest), told(&hub, newest - 1)), (Some((0, true)), Some((1, true))));
        assert_eq!(told(&hub, newest + 1), None, "a revision that is not ours");
    }

    #[test]
    fn deltas_are_kept_up_to_their_bytes() {
        let hub = hub();
        push(&hub, MAX_FEED_DELTA_BYTES - 1);
        push(&hub, 1);
        assert_eq!(told(&hub, 1), Some((2, true)));
        push(&hub, 1);
        assert_eq!((told(&hub, 1), told(&hub, 2)), (None, Some((2, true))));
    }

    #[test]
    fn over_what_is_missing_nobody_goes_on() {
        let hub = hub();
        push(&hub, 1);
        let delta = Delta::empty(Revision(3), Revision(4), SEED);
        hub.push(InForce { delta, replaced: Some(Vec::new()), bytes: 1 }, &[], Vec::new);
        assert_eq!((told(&hub, 1), told(&hub, 2), told(&hub, 4)), (None, None, Some((0, true))));
        // Of a change of which nobody asked what it took the place of.
        let delta = Delta::empty(Revision(4), Revision(5), SEED);
        hub.push(InForce { delta, replaced: None, bytes: 1 }, &[], Vec::new);
        assert_eq!((told(&hub, 4), told(&hub, 5)), (None, Some((0, true))));
    }

    #[test]
    fn a_feed_that_comes_again_is_another() {
        let hub = hub();
        let record = FeedRecord { id: id("edge"), services: BTreeSet::new() };
        let feed = hub.feed(&id("edge")).unwrap();
        let delta = Delta::empty(Revision(1), Revision(2), SEED);
        let change = InForce { delta, replaced: Some(Vec::new()), bytes: 1 };
        hub.push(change, &[Write::RemoveFeed(id("edge")), Write::PutFeed(record)], Vec::new);
        assert!(!hub.leads_on(&feed, Revision(2)));
        assert_eq!((told(&hub, 1), told(&hub, 2)), (None, Some((0, true))));
    }

    #[test]
    fn projected_deltas_are_made_once_and_let_go_of() {
        let hub = hub();
        push(&hub, 1);
        assert_eq!(hub.projected.load(Ordering::Relaxed), 0);
        told(&hub, 1);
        let made = hub.projected.load(Ordering::Relaxed);
        told(&hub, 1);
        assert!(made > 0 && hub.projected.load(Ordering::Relaxed) == made);
        push(&hub, MAX_FEED_DELTA_BYTES);
        assert_eq!(hub.projected.load(Ordering::Relaxed), 0);
    }
}
