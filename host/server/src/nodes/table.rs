//! The table itself. Time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use tokio::time::Instant;

use super::receipts::{Receipt, Standing};
use super::report::{ModuleDigest, NodeReport, WorkerId};
use super::{LIVE, difference};

/// The most workers of one feed that are told apart. Envoy has one for each thread and one more.
pub(super) const MAX_WORKERS: usize = 4096;
/// How long after its last call a worker is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Revisions of which it is known since when they are in force: what is further behind has been so for at least as long.
const MAX_REVISIONS: usize = 4096;

/// A worker of a feed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) feed: Id,
    pub(super) worker: WorkerId,
}

#[derive(Default)]
pub(super) struct Table {
    feeds: BTreeMap<Id, BTreeMap<WorkerId, Worker>>,
    /// Revisions, rising, and since when each is in force here. One that was passed over stands under the next.
    revisions: VecDeque<(u64, Instant)>,
}

struct Worker {
    node: String,
    address: IpAddr,
    module: Option<ModuleDigest>,
    enforced: Option<u64>,
    /// When it first said that it decides by that revision.
    raised: Instant,
    clock_difference_s: i64,
    /// Calls that are open.
    open: usize,
    seen: Instant,
    seen_at: UnixTime,
}

impl Worker {
    fn is_live(&self, now: Instant) -> bool {
        self.open > 0 || now.saturating_duration_since(self.seen) < LIVE
    }
}

/// The feed has as many live workers as are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the feed has {MAX_WORKERS} live workers, which is as many as are told apart: spread them over more feeds")]
pub(crate) struct Full;

/// A worker as people see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) feed: Id,
    pub(crate) node: String,
    pub(crate) worker: WorkerId,
    pub(crate) address: IpAddr,
    pub(crate) module: Option<ModuleDigest>,
    pub(crate) enforced: Option<u64>,
    /// How many revisions it is behind; unknown where it decides by none.
    pub(crate) lag: Option<u64>,
    /// For how long the first revision that it does not decide by has been in force here; at least so long.
    pub(crate) behind: Option<Duration>,
    /// Its clock less ours, in seconds.
    pub(crate) clock_difference_s: i64,
    pub(crate) seen_at: UnixTime,
    pub(crate) live: bool,
}

impl Table {
    pub(super) fn attend(&mut self, report: NodeReport, clock: UnixTime, now: Instant) -> Result<(), Full> {
        let workers = self.feeds.entry(report.feed).or_default();
        if !workers.contains_key(&report.worker) && workers.len() >= MAX_WORKERS {
            workers.retain(|_, worker| worker.open > 0 || now.saturating_duration_since(worker.seen) < FORGOTTEN);
            make_room(workers, now)?;
        }
        let worker = workers.entry(report.worker).or_insert_with(|| Worker {
            node: String::new(),
            address: report.address,
            module: None,
            enforced: None,
            raised: now,
            clock_difference_s: 0,
            open: 0,
            seen: now,
            seen_at: clock,
        });
        if worker.enforced != report.enforced {
            worker.raised = now;
        }
        worker.node = report.node;
        worker.address = report.address;
        worker.module = report.module;
        worker.enforced = report.enforced;
        worker.clock_difference_s = difference(report.now, clock);
        worker.open += 1;
        (worker.seen, worker.seen_at) = (now, clock);
        Ok(())
    }

    pub(super) fn leave(&mut self, key: &Key, clock: UnixTime, now: Instant) {
        if let Some(worker) = self.feeds.get_mut(&key.feed).and_then(|workers| workers.get_mut(&key.worker)) {
            worker.open = worker.open.saturating_sub(1);
            (worker.seen, worker.seen_at) = (now, clock);
        }
    }

    pub(super) fn enforced(&mut self, revision: u64, now: Instant) {
        if self.revisions.back().is_some_and(|(last, _)| *last >= revision) {
            return;
        }
        if self.revisions.len() >= MAX_REVISIONS {
            self.revisions.pop_front();
        }
        self.revisions.push_back((revision, now));
    }

    pub(super) fn rows(&mut self, revision: u64, now: Instant) -> Vec<Row> {
        for workers in self.feeds.values_mut() {
            workers.retain(|_, worker| worker.open > 0 || now.saturating_duration_since(worker.seen) < FORGOTTEN);
        }
        self.feeds.retain(|_, workers| !workers.is_empty());
        let mut rows: Vec<Row> = Vec::new();
        for (feed, workers) in &self.feeds {
            rows.extend(workers.iter().map(|(id, worker)| Row {
                feed: feed.clone(),
                node: worker.node.clone(),
                worker: *id,
                address: worker.address,
                module: worker.module,
                enforced: worker.enforced,
                lag: worker.enforced.map(|enforced| revision.saturating_sub(enforced)),
                behind: worker.enforced.map(|enforced| self.behind(enforced, now)),
                clock_difference_s: worker.clock_difference_s,
                seen_at: worker.seen_at,
                live: worker.is_live(now),
            }));
        }
        rows.sort_by(|a, b| (&a.feed, &a.node, a.worker).cmp(&(&b.feed, &b.node, b.worker)));
        rows
    }

    fn behind(&self, enforced: u64, now: Instant) -> Duration {
        let at = self.revisions.partition_point(|(revision, _)| *revision <= enforced);
        self.revisions.get(at).map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }

    /// Adds to receipts what is known of each worker that is live or was while they were waited for.
    pub(super) fn note(
        &self,
        revision: u64,
        since: Instant,
        now: Instant,
        receipts: &mut BTreeMap<Key, Receipt>,
    ) -> Standing {
        let mut standing = Standing::Reached;
        let mut found = BTreeMap::new();
        for (feed, workers) in &self.feeds {
            for (id, worker) in workers {
                let key = Key { feed: feed.clone(), worker: *id };
                let live = worker.is_live(now);
                if !live && !receipts.contains_key(&key) {
                    continue;
                }
                let reached = worker.enforced.is_some_and(|enforced| enforced >= revision);
                if live && !reached {
                    let ends = (worker.open == 0).then(|| worker.seen + LIVE);
                    standing = standing.and_waits_until(ends);
                }
                let receipt = Receipt {
                    node: worker.node.clone(),
                    worker: *id,
                    feed: feed.clone(),
                    enforced: worker.enforced,
                    latency: reached.then(|| worker.raised.saturating_duration_since(since)),
                    gone: !live && !reached,
                };
                found.insert(key, receipt);
            }
        }
        // One that had to make room for others does not come back into the table by itself.
        for (_, receipt) in receipts.iter_mut().filter(|(key, _)| !found.contains_key(key)) {
            receipt.gone = receipt.latency.is_none();
        }
        receipts.append(&mut found);
        standing
    }
}

/// Makes room for one more: the one that has been silent for longest goes.
fn make_room(workers: &mut BTreeMap<WorkerId, Worker>, now: Instant) -> Result<(), Full> {
    if workers.len() < MAX_WORKERS {
        return Ok(());
    }
    let silent = workers.iter().filter(|(_, worker)| !worker.is_live(now));
    let oldest = silent.min_by_key(|(_, worker)| worker.seen).map(|(id, _)| *id).ok_or(Full)?;
    workers.remove(&oldest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time() -> UnixTime {
        UnixTime::from_secs(1_800_000_000).unwrap()
    }

    fn report(feed: &str, worker: u64, enforced: Option<u64>) -> NodeReport {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-portcullis-node", format!("node-{worker}").parse().unwrap());
        headers.insert("x-portcullis-worker", format!("{worker:016x}").parse().unwrap());
        headers.insert("x-portcullis-now", "1800000003".parse().unwrap());
        if let Some(enforced) = enforced {
            headers.insert("x-portcullis-enforced", enforced.into());
        }
        NodeReport::read(feed.parse().unwrap(), "192.0.2.1".parse().unwrap(), &headers).unwrap()
    }

    /// A table with a clock that only tests move.
    struct Kept {
        table: Table,
        start: Instant,
    }

    impl Kept {
        fn new() -> Kept {
            Kept { table: Table::default(), start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn call(&mut self, ms: u64, report: NodeReport) -> Result<(), Full> {
            let (key, at) = (report.key(), self.at(ms));
            self.table.attend(report, time(), at)?;
            self.table.leave(&key, time(), at);
            Ok(())
        }

        fn open(&mut self, ms: u64, report: NodeReport) -> Key {
            let (key, at) = (report.key(), self.at(ms));
            self.table.attend(report, time(), at).unwrap();
            key
        }

        fn live(&mut self, ms: u64) -> Vec<bool> {
            let at = self.at(ms);
            self.table.rows(0, at).iter().map(|row| row.live).collect()
        }

        /// What is known at a time of who has reached a revision: the worker, its latency, whether it is gone.
        fn receipts(
            &self,
            ms: u64,
            revision: u64,
            receipts: &mut BTreeMap<Key, Receipt>,
        ) -> (Standing, Vec<(u64, Option<u128>, bool)>) {
            let standing = self.table.note(revision, self.at(1000), self.at(ms), receipts);
            let told = receipts.values().map(|receipt| {
                let worker = u64::from_str_radix(&receipt.worker.to_string(), 16).unwrap();
                (worker, receipt.latency.map(|latency| latency.as_millis()), receipt.gone)
            });
            (standing, told.collect())
        }
    }

    #[test]
    fn a_worker_is_live_while_its_call_is_open_and_for_a_while_after() {
        let mut kept = Kept::new();
        let key = kept.open(0, report("edge", 1, None));
        kept.call(0, report("edge", 2, None)).unwrap();
        assert_eq!(kept.live(9_999), [true, true]);
        assert_eq!(kept.live(10_000), [true, false]);
        assert_eq!(kept.live(599_999), [true, false]);
        assert_eq!(kept.live(600_000), [true], "it is forgotten, but not one with an open call");
        kept.table.leave(&key, time(), kept.at(600_000));
        assert_eq!(kept.live(609_999), [true]);
        assert_eq!(kept.live(610_000), [false]);
        assert!(kept.live(1_200_000).is_empty());
        assert!(kept.table.feeds.is_empty(), "nothing is left of a feed that nobody reads");
    }

    #[test]
    fn the_longest_silent_makes_room_and_a_live_one_does_not() {
        let mut kept = Kept::new();
        for worker in 0..MAX_WORKERS as u64 {
            kept.call(worker, report("edge", worker, None)).unwrap();
        }
        assert_eq!(kept.call(9_999, report("edge", 9_999, None)), Err(Full));
        assert_eq!(kept.call(9_999, report("edge", 7, None)), Ok(()), "one that is known needs no room");
        assert_eq!(kept.call(9_999, report("other", 9_999, None)), Ok(()), "another feed has room of its own");
        // Of all but one the last call is ten seconds ago at the earliest.
        assert_eq!(kept.call(10_000, report("edge", 9_999, None)), Ok(()));
        let at = kept.at(10_000);
        let rows = kept.table.rows(0, at);
        let first = format!("{:016x}", 0);
        assert_eq!(rows.iter().filter(|row| row.feed.as_str() == "edge").count(), MAX_WORKERS);
        assert!(!rows.iter().any(|row| row.worker.to_string() == first), "the first was silent for longest");
    }

    #[test]
    fn how_far_behind_a_worker_is_is_told_in_revisions_and_in_time() {
        let mut kept = Kept::new();
        for (revision, ms) in [(5, 0), (6, 1000), (8, 3000)] {
            let at = kept.at(ms);
            kept.table.enforced(revision, at);
        }
        for (worker, enforced) in [(1, Some(8)), (2, Some(6)), (3, Some(5)), (4, Some(2)), (5, None), (6, Some(9))] {
            kept.call(3000, report("edge", worker, enforced)).unwrap();
        }
        let at = kept.at(4000);
        let rows = kept.table.rows(8, at);
        let lags: Vec<_> = rows.iter().map(|row| (row.lag, row.behind.map(|behind| behind.as_millis()))).collect();
        assert_eq!(
            lags,
            [
                (Some(0), Some(0)),
                (Some(2), Some(1000)),
                (Some(3), Some(3000)),
                (Some(6), Some(4000)),
                (None, None),
                (Some(0), Some(0))
            ]
        );
        assert!(rows.iter().all(|row| row.clock_difference_s == 3));
    }

    #[test]
    fn revisions_are_remembered_as_far_as_there_is_room() {
        let mut kept = Kept::new();
        for revision in 1..=MAX_REVISIONS as u64 + 1 {
            let at = kept.at(revision);
            kept.table.enforced(revision, at);
        }
        assert_eq!(kept.table.revisions.len(), MAX_REVISIONS);
        let now = kept.at(5000);
        assert_eq!(kept.table.behind(0, now).as_millis(), 4998, "it is behind for at least so long");
        assert_eq!(kept.table.behind(1, now).as_millis(), 4998);
        assert_eq!(kept.table.behind(2, now).as_millis(), 4997);
    }

    #[test]
    fn receipts_are_there_once_every_live_worker_has_reached_the_revision() {
        let mut kept = Kept::new();
        let mut receipts = BTreeMap::new();
        let slow = kept.open(500, report("edge", 1, Some(7)));
        kept.call(500, report("edge", 2, Some(7))).unwrap();
        kept.call(500, report("dmz", 3, Some(9))).unwrap();
        let waits = Standing::Waits { until: Some(kept.at(10_500)) };
        let told = vec![(3, Some(0), false), (1, None, false), (2, None, false)];
        assert_eq!(kept.receipts(1000, 8, &mut receipts), (waits, told), "one is there already");

        kept.call(1040, report("edge", 2, Some(8))).unwrap();
        let told = vec![(3, Some(0), false), (1, None, false), (2, Some(40), false)];
        assert_eq!(kept.receipts(1050, 8, &mut receipts), (Standing::Waits { until: None }, told));

        kept.table.leave(&slow, time(), kept.at(2000));
        kept.call(2000, report("edge", 1, Some(9))).unwrap();
        let told = vec![(3, Some(0), false), (1, Some(1000), false), (2, Some(40), false)];
        assert_eq!(kept.receipts(2000, 8, &mut receipts), (Standing::Reached, told));
    }

    #[test]
    fn a_worker_that_falls_silent_is_gone_and_holds_nobody_up() {
        let mut kept = Kept::new();
        let mut receipts = BTreeMap::new();
        kept.call(0, report("edge", 1, Some(7))).unwrap();
        kept.call(900, report("edge", 2, Some(8))).unwrap();
        let (standing, _) = kept.receipts(9_999, 8, &mut receipts);
        assert_eq!(standing, Standing::Waits { until: Some(kept.at(10_000)) });
        let told = vec![(1, None, true), (2, Some(0), false)];
        assert_eq!(kept.receipts(10_000, 8, &mut receipts), (Standing::Reached, told.clone()));
        // Forgotten altogether, it is still named.
        let at = kept.at(700_000);
        kept.table.rows(8, at);
        assert_eq!(kept.receipts(700_000, 8, &mut receipts), (Standing::Reached, told));
        // Who was silent before it began is not waited for.
        assert_eq!(kept.receipts(700_000, 8, &mut BTreeMap::new()), (Standing::Reached, Vec::new()));
    }

    #[test]
    fn a_worker_that_comes_meanwhile_is_waited_for() {
        let mut kept = Kept::new();
        let mut receipts = BTreeMap::new();
        assert_eq!(kept.receipts(1000, 8, &mut receipts), (Standing::Reached, Vec::new()));
        kept.open(1100, report("edge", 1, None));
        let told = vec![(1, None, false)];
        assert_eq!(kept.receipts(1200, 8, &mut receipts), (Standing::Waits { until: None }, told));
    }
}
