//! A host that does what a test says, right or wrong. What is right is in `portcullis_model::feed`; the real host is in the tests
//! of the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use portcullis_model::feed::{CURSOR_HEADER, ENFORCED_HEADER, Frame, WORKER_HEADER};
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{Delta, Source};
use portcullis_model::time::UnixTime;
use portcullis_tests::wire::{Answer, Received, Server};
use sha2::{Digest as _, Sha256};

/// How long a worker may take to do what is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The credential that workers must show.
pub(crate) const KEY: &str = "ptc_feed0000_a-key-that-tests-alone-know-of";

/// What the host says in place of what is right.
#[derive(Clone, Debug)]
pub(crate) enum Spoiled {
    /// A byte of a part is another one.
    Part,
    /// The second half of a part is missing.
    CutPart,
    /// These are the changes.
    Changes(Vec<u8>),
    /// The last byte of the changes is missing.
    CutChanges,
    /// To everything.
    Status(u16),
}

pub(crate) struct Host {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    source: Source,
    base: Vec<u8>,
    base_revision: u64,
    part_bytes: usize,
    deltas: BTreeMap<u64, Vec<u8>>,
    /// Nothing: the time that it is.
    time: Option<UnixTime>,
    spoiled: Option<(Spoiled, usize)>,
    /// By worker, what it said last that it decides by.
    enforced: BTreeMap<String, Option<u64>>,
    bases_asked: usize,
    batches: Vec<Vec<u8>>,
    /// How many polls wait here.
    polls: usize,
}

impl Host {
    /// A host that has a policy from the start.
    pub(crate) fn start(source: Source) -> Result<Host> {
        let base = build(&source).context("the source of a test builds")?;
        let state = State {
            base_revision: source.revision.0,
            part_bytes: (base.len() / 5).clamp(64, 1 << 20),
            source,
            base,
            deltas: BTreeMap::new(),
            time: None,
            spoiled: None,
            enforced: BTreeMap::new(),
            bases_asked: 0,
            batches: Vec::new(),
            polls: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let served = Arc::clone(&shared);
        Ok(Host { server: Server::start(move |request| served.answer(&request))?, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.address.port()
    }

    /// Changes the policy.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Source)) -> Result<u64> {
        let mut state = self.shared.lock();
        let mut next = state.source.clone();
        next.revision.0 += 1;
        change(&mut next);
        let delta = build_delta(&Delta::between(&state.source, &next))?;
        let from = state.source.revision.0;
        state.deltas.insert(from, delta);
        state.source = next;
        self.shared.changed.notify_all();
        Ok(from + 1)
    }

    /// Makes a base of what there is, and forgets what led to it, as a host does that was started anew.
    pub(crate) fn forget(&self) -> Result<()> {
        let mut state = self.shared.lock();
        state.base = build(&state.source)?;
        state.base_revision = state.source.revision.0;
        state.deltas.clear();
        Ok(())
    }

    /// The time of which it confirms.
    pub(crate) fn set_time(&self, time: UnixTime) {
        self.shared.lock().time = Some(time);
    }

    /// The next so many answers, of those that it concerns, are wrong.
    pub(crate) fn spoil(&self, what: Spoiled, times: usize) {
        self.shared.lock().spoiled = Some((what, times));
        self.shared.changed.notify_all();
    }

    /// Waits until all that was to be wrong has been.
    pub(crate) fn until_spoiled(&self) -> Result<()> {
        self.until("the wrong answers were fetched", |state| state.spoiled.as_ref().is_none_or(|(_, left)| *left == 0))
    }

    /// Waits until so many workers say that they decide by the newest revision.
    pub(crate) fn until_enforced(&self, workers: usize) -> Result<()> {
        self.until("the workers decide by the newest revision", |state| {
            let newest = Some(state.source.revision.0);
            state.enforced.values().filter(|enforced| **enforced == newest).count() >= workers
        })
    }

    pub(crate) fn until_batches(&self, count: usize) -> Result<Vec<Vec<u8>>> {
        self.until("batches of decisions came", |state| state.batches.len() >= count)?;
        Ok(self.shared.lock().batches.clone())
    }

    /// How many workers ever called.
    pub(crate) fn workers(&self) -> usize {
        self.shared.lock().enforced.len()
    }

    pub(crate) fn until_workers(&self, count: usize) -> Result<()> {
        self.until("new workers call", |state| {
            let newest = Some(state.source.revision.0);
            state.enforced.values().filter(|enforced| **enforced == newest).count() >= count
        })
    }

    pub(crate) fn base_bytes(&self) -> usize {
        self.shared.lock().base.len()
    }

    /// How often a base was asked for.
    pub(crate) fn bases_asked(&self) -> usize {
        self.shared.lock().bases_asked
    }

    /// Waits until no more than so many workers poll.
    pub(crate) fn until_polled_by(&self, workers: usize) -> Result<()> {
        self.until("workers that are gone stop polling", |state| state.polls <= workers)
    }

    fn until(&self, what: &str, is: impl Fn(&State) -> bool) -> Result<()> {
        let begun = Instant::now();
        let mut state = self.shared.lock();
        while !is(&state) {
            let left = PATIENCE.checked_sub(begun.elapsed());
            let left = left.with_context(|| format!("never: {what}: {:?}", state.enforced))?;
            state = self.shared.wait(state, left);
        }
        Ok(())
    }
}

impl State {
    /// Whether this answer is to be a wrong one of that kind.
    fn spoils(&mut self, is: impl Fn(&Spoiled) -> bool) -> Option<Spoiled> {
        let (spoiled, left) = self.spoiled.as_mut()?;
        if *left == 0 || !is(spoiled) {
            return None;
        }
        *left -= 1;
        Some(spoiled.clone())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, most: Duration) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn answer(&self, request: &Received) -> Answer {
        let mut state = self.lock();
        if let Some(Spoiled::Status(status)) = state.spoils(|spoiled| matches!(spoiled, Spoiled::Status(_))) {
            self.changed.notify_all();
            return Answer::new(status, b"out of order".to_vec());
        }
        if request.field("authorization") != Some(&format!("ManagementKey-v1 {KEY}")) {
            return Answer::new(401, Vec::new());
        }
        let enforced = request.field(ENFORCED_HEADER).and_then(|enforced| enforced.parse().ok());
        state.enforced.insert(request.field(WORKER_HEADER).unwrap_or_default().to_owned(), enforced);
        self.changed.notify_all();
        let target = String::from_utf8_lossy(&request.target).into_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let parts: Vec<&str> = path.split('/').collect();
        let answer = match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["", "v1", "feeds", "edge", "base"]) => Some(manifest(&mut state)),
            ("GET", ["", "v1", "feeds", "edge", "base", base, part]) => part_of(&mut state, base, part),
            ("GET", ["", "v1", "feeds", "edge", "changes"]) => self.changes(state, query),
            ("POST", ["", "v1", "feeds", "edge", "decisions"]) => {
                state.batches.push(request.body.clone());
                Some(Answer::new(204, Vec::new()))
            }
            _ => None,
        };
        self.changed.notify_all();
        answer.unwrap_or_else(|| Answer::new(404, Vec::new()))
    }

    fn changes(&self, mut state: MutexGuard<'_, State>, query: &str) -> Option<Answer> {
        let find = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let from: u64 = find("cursor")?.strip_prefix('r')?.parse().ok()?;
        let until = Instant::now() + Duration::from_secs(find("wait")?.parse().ok()?);
        let is_of_changes = |spoiled: &Spoiled| matches!(spoiled, Spoiled::Changes(_) | Spoiled::CutChanges);
        state.polls += 1;
        let spoiled = loop {
            if let Some(spoiled) = state.spoils(is_of_changes) {
                break Some(spoiled);
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.source.revision.0 != from || left.is_zero() {
                break None;
            }
            state = self.wait(state, left);
        };
        state.polls -= 1;
        let mut body = Vec::new();
        let mut at = from;
        while let Some(delta) = state.deltas.get(&at) {
            Frame::Delta(delta).pack(&mut body);
            at += 1;
        }
        if at == state.source.revision.0 {
            Frame::Confirmed(state.time.unwrap_or_else(now)).pack(&mut body);
        } else {
            body.clear();
            Frame::Rebase.pack(&mut body);
        }
        match spoiled {
            Some(Spoiled::Changes(bytes)) => body = bytes,
            Some(_) => drop(body.pop()),
            None => {}
        }
        let mut answer = Answer::new(200, body);
        answer.fields.push((CURSOR_HEADER.to_owned(), format!("r{at}").into_bytes()));
        Some(answer)
    }
}

fn manifest(state: &mut State) -> Answer {
    state.bases_asked += 1;
    let sums: Vec<String> =
        state.base.chunks(state.part_bytes).map(|part| base16ct::lower::encode_string(&Sha256::digest(part))).collect();
    let told = serde_json::json!({
        "base": format!("b{}", state.base_revision),
        "revision": state.base_revision,
        "bytes": state.base.len(),
        "part_bytes": state.part_bytes,
        "sha256": sums,
    });
    Answer::new(200, told.to_string().into_bytes())
}

fn part_of(state: &mut State, base: &str, part: &str) -> Option<Answer> {
    if base != format!("b{}", state.base_revision) {
        return None;
    }
    let mut bytes = state.base.chunks(state.part_bytes).nth(part.parse().ok()?)?.to_vec();
    match state.spoils(|spoiled| matches!(spoiled, Spoiled::Part | Spoiled::CutPart)) {
        Some(Spoiled::CutPart) => bytes.truncate(bytes.len() / 2),
        Some(_) => bytes[0] ^= 1,
        None => {}
    }
    Some(Answer::new(200, bytes))
}

pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_secs(since.as_secs()).unwrap_or(UnixTime::MAX)
}
