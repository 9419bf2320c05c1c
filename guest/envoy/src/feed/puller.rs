//! The way of the policy: a base in parts, then deltas and key sheets by long poll. A state machine without a clock or a socket:
//! it says what to ask for, and takes what came.
//!
//! A new base is brought up to date in a gate of its own, while the one in force goes on deciding and following; it takes its place
//! once the host has confirmed it. So a worker never goes back to an older policy, and never decides by one that nobody confirmed.

use std::mem;

use portcullis_eval::Gate;
use portcullis_model::feed::{FeedMalformed, Frame, MAX_CHANGES_BYTES, frames, is_cursor};
use portcullis_model::id::Id;
use portcullis_model::key_sheet::SheetError;
use portcullis_model::policy::{LoadError, MAX_OVERLAY_BYTES, MAX_OVERLAY_LAYERS};
use proxy_wasm::types::LogLevel;

use crate::feed::base::{BadManifest, Download, Part};
use crate::feed::pace::{MIN_WAIT_MS, Pace};

/// How long a poll waits at the host, in seconds.
pub(crate) const WAIT_S: u32 = 25;
/// How long it waits while a new base cannot be asked for yet, in seconds.
const SHORT_WAIT_S: u32 = 1;
/// The time that a call may take beyond what it waits at the host, in milliseconds. The first one for a base may have it compiled.
const CALL_MS: u64 = 15_000;
/// The longest answer about a base, in bytes.
const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// A poll that brings nothing and takes less than this is short, in milliseconds.
const MIN_POLL_MS: u64 = 1000;
/// So many polls in a row may bring nothing and be short.
const MAX_IDLE: u32 = 8;
/// Workers that want a new base because of all their deltas come for it within this time, in milliseconds.
const COMPACT_WITHIN_MS: u64 = 60_000;

/// What the host is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Get {
    /// What there is of a base.
    Base,
    /// A part of a base.
    Part {
        /// The base's name.
        base: String,
        /// The part's number.
        part: usize,
        /// How long it is.
        bytes: usize,
    },
    /// What changed.
    Changes {
        /// Since when.
        cursor: String,
        /// How long the host may wait for something.
        wait_s: u32,
    },
}

impl Get {
    /// The path and query, for a feed.
    #[must_use]
    pub(crate) fn path(&self, feed: &Id) -> String {
        match self {
            Get::Base => format!("/v1/feeds/{feed}/base"),
            Get::Part { base, part, .. } => format!("/v1/feeds/{feed}/base/{base}/{part}"),
            Get::Changes { cursor, wait_s } => format!("/v1/feeds/{feed}/changes?cursor={cursor}&wait={wait_s}"),
        }
    }

    /// How long it may take, in milliseconds.
    #[must_use]
    pub(crate) fn timeout_ms(&self) -> u64 {
        match self {
            Get::Base | Get::Part { .. } => 2 * CALL_MS,
            Get::Changes { wait_s, .. } => CALL_MS + u64::from(*wait_s) * 1000,
        }
    }

    /// The longest answer that is looked at, in bytes.
    #[must_use]
    pub(crate) fn max_bytes(&self) -> usize {
        match self {
            Get::Base => MAX_MANIFEST_BYTES,
            // A longer one is seen to be damaged.
            Get::Part { bytes, .. } => bytes + 1,
            Get::Changes { .. } => MAX_CHANGES_BYTES,
        }
    }
}

/// What came of a call.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Reply<'r> {
    /// The status; nothing where there was no answer.
    pub status: Option<u32>,
    /// The header with the next cursor.
    pub cursor: Option<&'r str>,
    /// The body; nothing where it is longer than [`Get::max_bytes`], or was not read.
    pub body: Option<&'r [u8]>,
}

/// A line for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    /// How grave it is.
    pub level: LogLevel,
    /// The text, without a secret.
    pub text: String,
}

/// Where a worker stands.
pub(crate) struct Puller {
    feed: Id,
    /// How the policy in force is followed; nothing where there is none, or no way on.
    poll: Option<Poll>,
    /// The base that is to take its place.
    next: Option<Next>,
    asked: Option<Asked>,
    /// Whose turn it is where both are asked for.
    is_polls_turn: bool,
    /// When a new base is to be fetched because of all the deltas.
    compact_at_ms: Option<u64>,
    /// What has been told of the feed not answering.
    told: Told,
    notes: Vec<Note>,
}

struct Poll {
    cursor: String,
    pace: Pace,
    not_before_ms: u64,
    /// How many answers in a row came at once and brought nothing.
    idle: u32,
}

struct Next {
    stage: Stage,
    pace: Pace,
    not_before_ms: u64,
}

enum Stage {
    /// Nothing is known of it.
    Wanted,
    /// Some of its parts are there.
    Fetched(Download),
    /// It is loaded, and followed up to what is newest.
    Followed { gate: Box<Gate>, cursor: String },
}

struct Asked {
    get: Get,
    for_poll: bool,
    at_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Trouble,
    Refused,
}

/// Why a policy cannot be gone on with.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Frames(#[from] FeedMalformed),
    #[error("a delta: {0}")]
    Delta(LoadError),
    #[error("a key sheet: {0}")]
    Keys(#[from] SheetError),
    #[error("the host has no way on from here")]
    Rebase,
}

/// What the frames of an answer were.
#[derive(Clone, Copy, Default, Debug)]
struct Applied {
    any: bool,
    changed: bool,
    confirmed: bool,
}

impl Puller {
    /// One that has nothing yet. `random` tells this worker from others.
    #[must_use]
    pub(crate) fn new(feed: Id, random: u64) -> Puller {
        Puller {
            feed,
            poll: None,
            next: Some(Next { stage: Stage::Wanted, pace: Pace::new(random), not_before_ms: 0 }),
            asked: None,
            is_polls_turn: false,
            compact_at_ms: None,
            told: Told::Nothing,
            notes: Vec::new(),
        }
    }

    /// What there is for the log.
    pub(crate) fn notes(&mut self) -> Vec<Note> {
        mem::take(&mut self.notes)
    }

    /// What the host is to be asked for now; nothing where a call is on its way, or it is not time yet.
    pub(crate) fn ask(&mut self, now_ms: u64) -> Option<Get> {
        if self.asked.is_some() {
            return None;
        }
        let poll = self.poll.as_ref().filter(|poll| poll.not_before_ms <= now_ms);
        let next = self.next.as_ref().filter(|next| next.not_before_ms <= now_ms);
        let for_poll = match (poll, next) {
            (None, None) => return None,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(_), Some(_)) => self.is_polls_turn,
        };
        let get = match (poll, next) {
            (Some(poll), _) if for_poll => {
                let wait_s = match (&self.next, next) {
                    (None, _) => WAIT_S,
                    (Some(_), None) => SHORT_WAIT_S,
                    (Some(_), Some(_)) => 0,
                };
                Get::Changes { cursor: poll.cursor.clone(), wait_s }
            }
            (_, next) => match &next?.stage {
                Stage::Wanted => Get::Base,
                Stage::Fetched(download) => Get::Part {
                    base: download.base().to_owned(),
                    part: download.next_part(),
                    bytes: download.next_bytes(),
                },
                Stage::Followed { cursor, .. } => Get::Changes { cursor: cursor.clone(), wait_s: 0 },
            },
        };
        self.is_polls_turn = !for_poll;
        self.asked = Some(Asked { get: get.clone(), for_poll, at_ms: now_ms });
        Some(get)
    }

    /// The call is gone without an answer, through no fault of the host: it is made again.
    pub(crate) fn lost(&mut self) {
        self.asked = None;
    }

    /// What was asked for came, or not.
    pub(crate) fn answered(&mut self, reply: Reply<'_>, now_ms: u64, gate: &mut Gate) {
        let Some(asked) = self.asked.take() else { return };
        let body = match (reply.status, reply.body) {
            (Some(200), Some(body)) => body,
            (status, _) => return self.failed(&asked, status, now_ms),
        };
        match asked.get {
            Get::Base => self.began(body, now_ms),
            Get::Part { .. } => self.part_came(body, now_ms),
            Get::Changes { wait_s, .. } => {
                let Some(cursor) = reply.cursor.filter(|cursor| is_cursor(cursor)) else {
                    return self.failed(&asked, None, now_ms);
                };
                let poll_ms = if wait_s == 0 { 0 } else { MIN_POLL_MS };
                if asked.for_poll {
                    self.polled(body, cursor, gate, now_ms, asked.at_ms + poll_ms);
                } else {
                    self.followed(body, cursor, gate, now_ms);
                }
            }
        }
    }

    /// A host that does not answer, or not with 200.
    fn failed(&mut self, asked: &Asked, status: Option<u32>, now_ms: u64) {
        let what = status.map_or("no answer that can be used".to_owned(), |status| format!("status {status}"));
        if asked.for_poll {
            if let Some(poll) = &mut self.poll {
                poll.not_before_ms = now_ms + poll.pace.failed();
            }
        } else if let Some(next) = &mut self.next {
            next.not_before_ms = now_ms + next.pace.failed();
            if status == Some(404) && matches!(asked.get, Get::Part { .. }) {
                self.note(LogLevel::Warn, "the base is gone at the host; a new one is asked for");
                return self.want_anew();
            }
        }
        let feed = &self.feed;
        match (status, self.told) {
            (Some(401 | 403), Told::Nothing | Told::Trouble) => {
                self.told = Told::Refused;
                let text = format!(
                    "the key of the feed `{feed}` is not accepted ({what}): it has to be a key that reads this feed, not \
                     expired or revoked; make one with `portcullis feed key {feed}` and start the proxy anew with it"
                );
                self.note(LogLevel::Error, &text);
            }
            (Some(404), Told::Nothing) => {
                self.told = Told::Trouble;
                self.note(LogLevel::Error, "the host does not know the feed, or nothing of it (status 404)");
            }
            (_, Told::Nothing) => {
                self.told = Told::Trouble;
                self.note(LogLevel::Warn, &format!("the host gives no changes: {what}; it is asked again and again"));
            }
            (_, Told::Trouble | Told::Refused) => {}
        }
    }

    /// What the host says of a base.
    fn began(&mut self, manifest: &[u8], now_ms: u64) {
        match Download::begin(manifest) {
            Ok(download) => self.set_stage(Stage::Fetched(download)),
            Err(bad @ (BadManifest::Json(_) | BadManifest::Inconsistent | BadManifest::TooLarge(_))) => {
                self.next_failed(now_ms, &bad.to_string());
            }
        }
    }

    fn part_came(&mut self, part: &[u8], now_ms: u64) {
        let Some(Next { stage: Stage::Fetched(download), .. }) = &mut self.next else { return };
        let number = download.next_part();
        match download.take(part) {
            Part::More => {}
            Part::Damaged => {
                let text = format!("part {number} of the base is not what the host said; it is fetched again");
                self.note(LogLevel::Warn, &text);
                self.delay_next(now_ms);
            }
            Part::Hopeless => {
                self.next_failed(now_ms, &format!("part {number} of the base came damaged again and again"));
            }
            Part::Complete => self.complete(now_ms),
        }
    }

    /// All parts are there, each with the right digest.
    fn complete(&mut self, now_ms: u64) {
        let Some(next) = &mut self.next else { return };
        let Stage::Fetched(download) = mem::replace(&mut next.stage, Stage::Wanted) else { return };
        let said = download.revision();
        let mut gate = Box::<Gate>::default();
        match gate.load(download.into_bytes()) {
            Ok(revision) if revision.0 == said => {
                let cursor = format!("r{said}");
                self.set_stage(Stage::Followed { gate, cursor });
            }
            Ok(revision) => {
                self.next_failed(now_ms, &format!("the base is of revision {revision} instead of {said}"));
            }
            Err(error) => self.next_failed(now_ms, &format!("the base cannot be loaded: {error}")),
        }
    }

    /// Changes for the policy in force.
    fn polled(&mut self, body: &[u8], cursor: &str, gate: &mut Gate, now_ms: u64, idle_until_ms: u64) {
        match apply(body, gate) {
            Ok(applied) => {
                let Some(poll) = &mut self.poll else { return };
                cursor.clone_into(&mut poll.cursor);
                // A host that answers at once, again and again, though it has nothing is not asked at once again.
                let is_idle = !applied.changed && now_ms < idle_until_ms;
                poll.idle = if is_idle { poll.idle + 1 } else { 0 };
                if !applied.any {
                    poll.not_before_ms = now_ms + poll.pace.failed();
                } else {
                    poll.pace.succeeded();
                    if poll.idle > MAX_IDLE {
                        poll.not_before_ms = now_ms + MIN_WAIT_MS;
                    }
                }
                self.answers_again();
                self.compact(gate, now_ms);
            }
            Err(fault) => {
                let level = if matches!(fault, Fault::Rebase) { LogLevel::Info } else { LogLevel::Error };
                self.note(level, &format!("{fault}; a new base is fetched, and what was in force goes on until then"));
                self.poll = None;
                if self.next.is_none() {
                    self.want(now_ms);
                }
                self.delay_next(now_ms);
            }
        }
    }

    /// Changes for the base that is to take the place of the policy in force.
    fn followed(&mut self, body: &[u8], cursor: &str, in_force: &mut Gate, now_ms: u64) {
        let Some(Next { stage: Stage::Followed { gate, cursor: known }, .. }) = &mut self.next else { return };
        match apply(body, gate) {
            Ok(applied) if applied.confirmed => {
                mem::swap(in_force, &mut **gate);
                let described = in_force.describe();
                let random = self.next.take().map_or(1, |mut next| next.pace.below(u64::MAX));
                self.poll =
                    Some(Poll { cursor: cursor.to_owned(), pace: Pace::new(random), not_before_ms: 0, idle: 0 });
                self.compact_at_ms = None;
                self.answers_again();
                let revision = described.revision.map_or(0, |revision| revision.0);
                let bytes = described.counts.base_bytes;
                self.note(LogLevel::Info, &format!("revision {revision} is in force, from a base of {bytes} bytes"));
            }
            Ok(applied) if applied.changed => cursor.clone_into(known),
            Ok(_) => self.next_failed(now_ms, "the host does not confirm its base"),
            Err(fault) => self.next_failed(now_ms, &fault.to_string()),
        }
    }

    /// Deltas must not pile up for ever: at half of what an overlay may hold, a new base takes their place.
    fn compact(&mut self, gate: &Gate, now_ms: u64) {
        let counts = gate.describe().counts;
        let holds = |value: u64, most: usize| value >= u64::try_from(most / 2).unwrap_or(u64::MAX);
        let is_due =
            holds(counts.overlay_layers.into(), MAX_OVERLAY_LAYERS) || holds(counts.overlay_bytes, MAX_OVERLAY_BYTES);
        if !is_due || self.next.is_some() {
            return;
        }
        let Some(poll) = &mut self.poll else { return };
        let at_ms = *self.compact_at_ms.get_or_insert_with(|| now_ms + poll.pace.below(COMPACT_WITHIN_MS));
        if now_ms >= at_ms {
            self.compact_at_ms = None;
            self.want(now_ms);
        }
    }

    fn want(&mut self, now_ms: u64) {
        let random = now_ms ^ self.poll.as_mut().map_or(1, |poll| poll.pace.below(u64::MAX));
        self.next = Some(Next { stage: Stage::Wanted, pace: Pace::new(random), not_before_ms: now_ms });
    }

    fn want_anew(&mut self) {
        self.set_stage(Stage::Wanted);
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(next) = &mut self.next {
            next.stage = stage;
        }
    }

    /// The base cannot be used: a new one is asked for, after a while.
    fn next_failed(&mut self, now_ms: u64, why: &str) {
        self.note(LogLevel::Error, &format!("{why}; a new base is asked for"));
        self.want_anew();
        self.delay_next(now_ms);
    }

    fn delay_next(&mut self, now_ms: u64) {
        if let Some(next) = &mut self.next {
            next.not_before_ms = now_ms + next.pace.failed();
        }
    }

    fn answers_again(&mut self) {
        if mem::replace(&mut self.told, Told::Nothing) != Told::Nothing {
            self.note(LogLevel::Info, "the host answers again");
        }
    }

    fn note(&mut self, level: LogLevel, text: &str) {
        self.notes.push(Note { level, text: format!("feed `{}`: {text}", self.feed) });
    }
}

/// Applies what came, in its order. INVARIANT (whole-answers): nothing of an answer that is cut off is applied.
fn apply(body: &[u8], gate: &mut Gate) -> Result<Applied, Fault> {
    let mut applied = Applied::default();
    for frame in frames(body)? {
        applied.any = true;
        match frame {
            Frame::Delta(delta) => {
                let revision = gate.check_delta(delta.to_vec()).map_err(Fault::Delta)?;
                gate.apply_delta(revision).map_err(Fault::Delta)?;
                applied.changed = true;
            }
            Frame::Keys(part) => {
                gate.load_keys(part)?;
                applied.changed = true;
            }
            Frame::Confirmed(at) => {
                gate.confirm(at);
                applied.confirmed = true;
            }
            Frame::Rebase => return Err(Fault::Rebase),
        }
    }
    Ok(applied)
}

#[cfg(test)]
mod tests;
