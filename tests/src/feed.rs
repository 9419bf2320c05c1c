//! A host's feed, played by a test: policies, key sheets and confirmations for workers in proxies, told just as it likes.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portcullis_model::feed::{CURSOR_HEADER, Frame, MAX_WAIT_S, WORKER_HEADER};
use portcullis_model::policy::Policy;
use portcullis_model::time::UnixTime;
use sha2::{Digest as _, Sha256};

use crate::corpus::Built;
use crate::wire::{Answer, Received, Server};

/// How long a worker may take to follow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Small parts, so that policies of tests have several.
const PART_BYTES: usize = 16 * 1024;

/// Feeds by name, on one listener.
pub struct Feeds {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    feeds: Mutex<BTreeMap<String, Feed>>,
    changed: Condvar,
}

struct Feed {
    base: Option<Vec<u8>>,
    revision: u64,
    /// What is told after the base, before the confirmation.
    frames: Vec<u8>,
    confirmed: Option<UnixTime>,
    /// How often the confirmation was changed.
    round: u64,
    /// By worker, the last round that it has applied: it asks for what comes after.
    workers: BTreeMap<String, u64>,
    /// The batches of decision records.
    batches: Vec<Vec<u8>>,
}

impl Feeds {
    /// The credential that workers must show.
    pub const KEY: &'static str = "ptc_feed0000_a-key-that-tests-alone-know-of";

    /// Starts a listener without a feed.
    ///
    /// # Errors
    /// Where no port can be had.
    pub fn start() -> Result<Feeds> {
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        let server = Server::start(move |request| served.answer(&request))?;
        Ok(Feeds { server, shared })
    }

    /// The port of the listener.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.address.port()
    }

    /// Adds a feed, or has another policy in its place.
    ///
    /// # Errors
    /// Where the base is none.
    pub fn put(&self, name: &str, built: Built, confirmed: Option<UnixTime>) -> Result<()> {
        let revision = match &built.base {
            Some(base) => Policy::open(base.clone())?.revision().0,
            None => 0,
        };
        let mut frames = Vec::new();
        for sheet in built.sheets {
            Frame::Keys(&sheet).pack(&mut frames);
        }
        for delta in built.deltas {
            Frame::Delta(&delta).pack(&mut frames);
        }
        let (workers, batches) = Default::default();
        let feed = Feed { base: built.base, revision, frames, confirmed, round: 1, workers, batches };
        self.shared.lock().insert(name.to_owned(), feed);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Confirms the policy of a feed as of a time.
    ///
    /// # Errors
    /// Where there is no such feed.
    pub fn confirm(&self, name: &str, time: UnixTime) -> Result<()> {
        let mut feeds = self.shared.lock();
        let feed = feeds.get_mut(name).with_context(|| format!("there is no feed `{name}`"))?;
        feed.confirmed = Some(time);
        feed.round += 1;
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until so many workers have all that a feed tells.
    ///
    /// # Errors
    /// Where they do not come.
    pub fn until_followed(&self, name: &str, workers: usize) -> Result<()> {
        let begun = Instant::now();
        let mut feeds = self.shared.lock();
        loop {
            let feed = feeds.get(name).with_context(|| format!("there is no feed `{name}`"))?;
            if feed.workers.values().filter(|round| **round == feed.round).count() >= workers {
                return Ok(());
            }
            let left = PATIENCE.checked_sub(begun.elapsed());
            let left = left.with_context(|| format!("round {} of `{name}`: {:?}", feed.round, feed.workers))?;
            feeds = self.shared.wait(feeds, left);
        }
    }

    /// The batches of decision records that came for a feed.
    #[must_use]
    pub fn batches(&self, name: &str) -> Vec<Vec<u8>> {
        self.shared.lock().get(name).map(|feed| feed.batches.clone()).unwrap_or_default()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Feed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(
        &self,
        feeds: MutexGuard<'g, BTreeMap<String, Feed>>,
        most: Duration,
    ) -> MutexGuard<'g, BTreeMap<String, Feed>> {
        self.changed.wait_timeout(feeds, most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn answer(&self, request: &Received) -> Answer {
        if request.field("authorization") != Some(&format!("ManagementKey-v1 {}", Feeds::KEY)) {
            return Answer::new(401, Vec::new());
        }
        let target = String::from_utf8_lossy(&request.target).into_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let parts: Vec<&str> = path.split('/').collect();
        let answered = match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["", "v1", "feeds", feed, "base"]) => self.base(feed),
            ("GET", ["", "v1", "feeds", feed, "base", _, part]) => self.part(feed, part),
            ("GET", ["", "v1", "feeds", feed, "changes"]) => {
                self.changes(feed, query, request.field(WORKER_HEADER).unwrap_or_default())
            }
            ("POST", ["", "v1", "feeds", feed, "decisions"]) => self.decisions(feed, &request.body),
            _ => Ok(None),
        };
        match answered {
            Ok(Some(answer)) => answer,
            Ok(None) => Answer::new(404, Vec::new()),
            Err(error) => {
                eprintln!("a worker asked for {target}: {error:#}");
                Answer::new(400, Vec::new())
            }
        }
    }

    fn base(&self, feed: &str) -> Result<Option<Answer>> {
        let feeds = self.lock();
        let Some(feed) = feeds.get(feed) else { return Ok(None) };
        let Some(base) = &feed.base else { return Ok(None) };
        let sums: Vec<String> =
            base.chunks(PART_BYTES).map(|part| base16ct::lower::encode_string(&Sha256::digest(part))).collect();
        let told = serde_json::json!({
            "base": "b1", "revision": feed.revision, "bytes": base.len(), "part_bytes": PART_BYTES, "sha256": sums,
        });
        let mut answer = Answer::new(200, told.to_string().into_bytes());
        answer.fields.push(("content-type".to_owned(), b"application/json".to_vec()));
        Ok(Some(answer))
    }

    fn part(&self, feed: &str, part: &str) -> Result<Option<Answer>> {
        let feeds = self.lock();
        let base = feeds.get(feed).and_then(|feed| feed.base.as_ref());
        let part = base.and_then(|base| base.chunks(PART_BYTES).nth(part.parse().unwrap_or(usize::MAX)));
        Ok(part.map(|part| Answer::new(200, part.to_vec())))
    }

    fn changes(&self, name: &str, query: &str, worker: &str) -> Result<Option<Answer>> {
        let find = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let cursor = find("cursor").context("there is no cursor")?;
        let wait: u32 = find("wait").context("there is no wait")?.parse()?;
        ensure!(wait <= MAX_WAIT_S, "it would wait {wait} s");
        let until = Instant::now() + Duration::from_secs(wait.into());
        let mut feeds = self.lock();
        let seen = match cursor.strip_prefix('c') {
            Some(round) => Some(round.parse::<u64>()?),
            None => None,
        };
        if let (Some(feed), Some(seen)) = (feeds.get_mut(name), seen) {
            feed.workers.insert(worker.to_owned(), seen);
            self.changed.notify_all();
        }
        loop {
            let Some(feed) = feeds.get(name) else { return Ok(None) };
            let left = until.saturating_duration_since(Instant::now());
            if seen.is_some_and(|seen| seen == feed.round) && !left.is_zero() {
                feeds = self.wait(feeds, left);
                continue;
            }
            let mut body = if seen.is_none() { feed.frames.clone() } else { Vec::new() };
            if let Some(time) = feed.confirmed {
                Frame::Confirmed(time).pack(&mut body);
            }
            let mut answer = Answer::new(200, body);
            answer.fields.push((CURSOR_HEADER.to_owned(), format!("c{}", feed.round).into_bytes()));
            return Ok(Some(answer));
        }
    }

    fn decisions(&self, feed: &str, body: &[u8]) -> Result<Option<Answer>> {
        let mut feeds = self.lock();
        let Some(feed) = feeds.get_mut(feed) else { return Ok(None) };
        feed.batches.push(body.to_vec());
        self.changed.notify_all();
        Ok(Some(Answer::new(204, Vec::new())))
    }
}
