use portcullis_model::credential::Seed;
use portcullis_model::id::Revision;
use portcullis_model::key_sheet::{self, Day};
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{Delta, Source};
use portcullis_model::time::UnixTime;
use proptest::prelude::*;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::feed::pace::MAX_WAIT_MS;

const NOW: u64 = 1_800_000_000;
const PART_BYTES: usize = 100;

fn source(revision: u64) -> Source {
    Source::empty(Revision(revision), Seed([7; 16]))
}

fn base(revision: u64) -> Vec<u8> {
    build(&source(revision)).unwrap()
}

fn delta(from: u64, to: u64) -> Vec<u8> {
    build_delta(&Delta::between(&source(from), &source(to))).unwrap()
}

fn sheet() -> Vec<u8> {
    key_sheet::encode(
        Day::of(UnixTime::from_secs(NOW).unwrap()),
        0,
        &[key_sheet::DayKey([9; key_sheet::DAY_KEY_BYTES])],
    )
    .unwrap()
}

fn body(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    frames.iter().for_each(|frame| frame.pack(&mut body));
    body
}

fn confirmed() -> Frame<'static> {
    Frame::Confirmed(UnixTime::from_secs(NOW).unwrap())
}

fn manifest(base: &[u8], revision: u64) -> Vec<u8> {
    let sums: Vec<String> =
        base.chunks(PART_BYTES).map(|part| base16ct::lower::encode_string(&Sha256::digest(part))).collect();
    json!({ "base": "b1", "revision": revision, "bytes": base.len(), "part_bytes": PART_BYTES, "sha256": sums })
        .to_string()
        .into_bytes()
}

/// A worker, and the time that it has.
struct Worker {
    puller: Puller,
    gate: Gate,
    now_ms: u64,
}

impl Worker {
    fn new() -> Worker {
        Worker { puller: Puller::new("edge".parse().unwrap(), 7), gate: Gate::default(), now_ms: 0 }
    }

    /// One that decides by revision 7, of a base of which no part is left to come.
    fn following() -> Worker {
        let mut worker = Worker::new();
        worker.fetch(7);
        worker.changes("c1", &[confirmed()]);
        assert_eq!(worker.decides_by(), Some(7));
        worker.notes();
        worker
    }

    #[track_caller]
    fn ask(&mut self) -> Get {
        self.puller.ask(self.now_ms).expect("it asks for something")
    }

    /// What it asks for, once it is time.
    #[track_caller]
    fn ask_later(&mut self) -> Get {
        assert_eq!(self.puller.ask(self.now_ms), None, "it waits");
        self.now_ms += MAX_WAIT_MS;
        self.ask()
    }

    fn reply(&mut self, status: u32, body: &[u8], cursor: Option<&str>) {
        let reply = Reply { status: Some(status), cursor, body: Some(body) };
        self.puller.answered(reply, self.now_ms, &mut self.gate);
    }

    fn fail(&mut self, status: Option<u32>) {
        let body = status.map(|_| &b"no"[..]);
        self.puller.answered(Reply { status, cursor: None, body }, self.now_ms, &mut self.gate);
    }

    fn decides_by(&self) -> Option<u64> {
        let described = self.gate.describe();
        described.confirmed.and(described.revision).map(|revision| revision.0)
    }

    fn notes(&mut self) -> Vec<String> {
        self.puller.notes().into_iter().map(|note| note.text).collect()
    }

    /// A base comes in parts.
    #[track_caller]
    fn fetch(&mut self, revision: u64) {
        let bytes = base(revision);
        assert_eq!(self.ask(), Get::Base);
        self.reply(200, &manifest(&bytes, revision), None);
        self.parts(&bytes);
    }

    #[track_caller]
    fn parts(&mut self, bytes: &[u8]) {
        for (number, part) in bytes.chunks(PART_BYTES).enumerate() {
            assert_eq!(self.ask(), Get::Part { base: "b1".to_owned(), part: number, bytes: part.len() });
            self.reply(200, part, None);
        }
    }

    /// Changes come; gives what they were asked for by.
    #[track_caller]
    fn changes(&mut self, cursor: &str, frames: &[Frame<'_>]) -> (String, u32) {
        let Get::Changes { cursor: asked, wait_s } = self.ask() else { panic!("it asks for changes") };
        self.now_ms += u64::from(wait_s) * 1000;
        self.reply(200, &body(frames), Some(cursor));
        (asked, wait_s)
    }
}

#[test]
fn a_base_and_then_changes_by_long_poll() {
    let mut worker = Worker::new();
    worker.fetch(7);
    assert_eq!(worker.decides_by(), None, "nobody has confirmed it");
    let (sheet, delta) = (sheet(), delta(7, 8));
    assert_eq!(worker.changes("c1", &[Frame::Keys(&sheet), Frame::Delta(&delta)]), ("r7".to_owned(), 0));
    assert_eq!(worker.decides_by(), None, "more follows");
    assert_eq!(worker.changes("c2", &[confirmed()]), ("c1".to_owned(), 0));
    assert_eq!(worker.decides_by(), Some(8));
    assert_eq!(worker.gate.describe().key_days.len(), 1);
    assert_eq!(worker.changes("c3", &[confirmed()]), ("c2".to_owned(), WAIT_S));
    assert_eq!(worker.changes("c4", &[confirmed()]), ("c3".to_owned(), WAIT_S));
    let bytes = base(7).len();
    assert_eq!(worker.notes(), [format!("feed `edge`: revision 8 is in force, from a base of {bytes} bytes")]);
}

#[test]
fn one_call_is_on_its_way_at_a_time() {
    let mut worker = Worker::new();
    worker.ask();
    assert_eq!(worker.puller.ask(u64::MAX / 2), None);
    worker.puller.lost();
    assert_eq!(worker.ask(), Get::Base, "what is lost is asked for again, at once");
    worker.fail(None);
    worker.reply(200, b"late", None);
    assert_eq!(worker.decides_by(), None, "what nobody asked for is passed over");
}

#[test]
fn paths_are_those_of_the_host() {
    let feed: Id = "edge".parse().unwrap();
    let part = Get::Part { base: "b1".to_owned(), part: 3, bytes: 10 };
    let changes = Get::Changes { cursor: "r7".to_owned(), wait_s: 25 };
    assert_eq!(Get::Base.path(&feed), "/v1/feeds/edge/base");
    assert_eq!(part.path(&feed), "/v1/feeds/edge/base/b1/3");
    assert_eq!(changes.path(&feed), "/v1/feeds/edge/changes?cursor=r7&wait=25");
    assert!(changes.timeout_ms() > 25_000 && part.max_bytes() == 11);
}

#[test]
fn a_host_that_fails_is_asked_again_in_every_state() {
    for status in [None, Some(500), Some(503), Some(301), Some(204), Some(404), Some(401), Some(403), Some(429)] {
        let mut worker = Worker::new();
        worker.ask();
        worker.fail(status);
        assert_eq!(worker.ask_later(), Get::Base, "{status:?}");
        let mut worker = Worker::following();
        worker.ask();
        worker.fail(status);
        assert_eq!(worker.ask_later(), Get::Changes { cursor: "c1".to_owned(), wait_s: WAIT_S }, "{status:?}");
        assert_eq!(worker.decides_by(), Some(7));
    }
    let mut worker = Worker::new();
    worker.ask();
    worker.reply(200, &manifest(&base(7), 7), None);
    let part = worker.ask();
    worker.fail(Some(503));
    assert_eq!(worker.ask_later(), part, "the same part");
}

#[test]
fn trouble_is_told_once_and_so_is_its_end() {
    let mut worker = Worker::following();
    worker.ask();
    for status in [None, Some(503), None, Some(401), Some(403), Some(401)] {
        worker.fail(status);
        worker.ask_later();
    }
    let told = worker.notes();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("the key of the feed `edge` is not accepted (status 401)"), "{told:?}");
    worker.reply(200, &body(&[confirmed()]), Some("c2"));
    assert_eq!(worker.notes(), ["feed `edge`: the host answers again"]);
}

#[test]
fn a_part_of_a_base_that_is_gone_begins_anew() {
    let mut worker = Worker::new();
    worker.ask();
    worker.reply(200, &manifest(&base(7), 7), None);
    worker.ask();
    worker.fail(Some(404));
    worker.now_ms += MAX_WAIT_MS;
    worker.fetch(8);
    worker.changes("c1", &[confirmed()]);
    assert_eq!(worker.decides_by(), Some(8));
}

#[test]
fn a_damaged_part_is_fetched_again_and_then_the_base_is() {
    let bytes = base(7);
    for bad in [&bytes[..PART_BYTES - 1], &bytes[..PART_BYTES + 1], &[0; PART_BYTES], b""] {
        let mut worker = Worker::new();
        worker.ask();
        worker.reply(200, &manifest(&bytes, 7), None);
        let part = worker.ask();
        for _ in 0..2 {
            worker.reply(200, bad, None);
            assert_eq!(worker.ask_later(), part);
        }
        worker.reply(200, bad, None);
        assert_eq!(worker.ask_later(), Get::Base);
        assert_eq!(worker.notes().len(), 3);
        worker.reply(200, &manifest(&bytes, 7), None);
        worker.parts(&bytes);
        worker.changes("c1", &[confirmed()]);
        assert_eq!(worker.decides_by(), Some(7));
    }
}

#[test]
fn a_base_that_is_none_is_not_taken() {
    let bytes = base(7);
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let manifests = [
        b"<html>".to_vec(),
        json!({ "base": "b", "revision": 7, "bytes": 5, "part_bytes": 0, "sha256": [] }).to_string().into_bytes(),
        manifest(&vec![0; MAX_MANIFEST_BYTES], 7),
    ];
    for bad in manifests {
        let mut worker = Worker::new();
        worker.ask();
        worker.reply(200, &bad, None);
        if bad.starts_with(b"{") && bad.len() > 1000 {
            continue;
        }
        assert_eq!(worker.ask_later(), Get::Base);
    }
    // Right sums of wrong bytes, and a revision that is another one than was said.
    for (bytes, revision) in [(damaged, 7), (bytes, 8), (delta(7, 8), 8)] {
        let mut worker = Worker::new();
        worker.ask();
        worker.reply(200, &manifest(&bytes, revision), None);
        worker.parts(&bytes);
        assert_eq!(worker.ask_later(), Get::Base);
        assert_eq!((worker.decides_by(), worker.notes().len()), (None, 1));
    }
}

/// What is in force goes on, and nothing of the bad answer stays, until a new base is confirmed.
#[test]
fn any_fault_of_changes_takes_a_new_base_while_the_old_policy_decides() {
    let (mut bad_delta, mut bad_sheet) = (delta(7, 8), sheet());
    *bad_delta.last_mut().unwrap() ^= 1;
    bad_sheet.truncate(10);
    let (wrong, past) = (delta(8, 9), delta(6, 7));
    let cut = body(&[Frame::Delta(&delta(7, 8))]);
    let bodies = [
        body(&[Frame::Delta(&bad_delta), confirmed()]),
        body(&[Frame::Keys(&bad_sheet), confirmed()]),
        body(&[Frame::Delta(&wrong), confirmed()]),
        body(&[Frame::Delta(&past), confirmed()]),
        body(&[Frame::Rebase]),
        vec![9, 0, 0, 0, 0],
        cut[..cut.len() - 1].to_vec(),
        b"<html>an error page</html>".to_vec(),
    ];
    for bad in bodies {
        let mut worker = Worker::following();
        worker.ask();
        worker.reply(200, &bad, Some("c2"));
        assert_eq!(worker.decides_by(), Some(7));
        assert_eq!(worker.notes().len(), 1);
        assert_eq!(worker.ask_later(), Get::Base);
        worker.fail(Some(503));
        worker.now_ms += MAX_WAIT_MS;
        worker.fetch(9);
        assert_eq!(worker.decides_by(), Some(7), "the new one is not confirmed yet");
        worker.changes("c9", &[confirmed()]);
        assert_eq!(worker.decides_by(), Some(9));
        assert_eq!(worker.changes("c10", &[confirmed()]), ("c9".to_owned(), WAIT_S));
    }
}

#[test]
fn a_fault_of_changes_to_a_new_base_begins_anew() {
    for bad in [body(&[Frame::Delta(&delta(8, 9))]), body(&[Frame::Rebase]), vec![7], body(&[])] {
        let mut worker = Worker::new();
        worker.fetch(7);
        worker.ask();
        worker.reply(200, &bad, Some("c1"));
        assert_eq!(worker.ask_later(), Get::Base);
        assert_eq!(worker.decides_by(), None);
    }
}

#[test]
fn an_answer_without_a_cursor_is_none() {
    for cursor in [None, Some(""), Some("a&b"), Some(&*"c".repeat(129))] {
        let mut worker = Worker::following();
        worker.ask();
        worker.reply(200, &body(&[Frame::Delta(&delta(7, 8)), confirmed()]), cursor);
        assert_eq!(worker.decides_by(), Some(7), "{cursor:?}");
        assert_eq!(worker.ask_later(), Get::Changes { cursor: "c1".to_owned(), wait_s: WAIT_S });
    }
}

#[test]
fn an_answer_whose_body_was_not_read_is_a_failure() {
    let mut worker = Worker::following();
    worker.ask();
    worker.puller.answered(Reply { status: Some(200), cursor: Some("c2"), body: None }, 0, &mut worker.gate);
    assert_eq!(worker.ask_later(), Get::Changes { cursor: "c1".to_owned(), wait_s: WAIT_S });
}

#[test]
fn a_host_that_answers_at_once_with_nothing_is_not_asked_in_a_loop() {
    let mut worker = Worker::following();
    let mut asked = 0;
    while worker.puller.ask(worker.now_ms).is_some() {
        worker.reply(200, &body(&[confirmed()]), Some("c2"));
        asked += 1;
    }
    assert_eq!(asked, MAX_IDLE + 1);
    let mut worker = Worker::following();
    worker.ask();
    worker.reply(200, b"", Some("c2"));
    worker.ask_later();
}

#[test]
fn while_a_new_base_is_fetched_changes_are_followed_in_turn() {
    let mut worker = Worker::following();
    worker.puller.want(worker.now_ms);
    let bytes = base(8);
    let mut revision = 7;
    let mut gets = Vec::new();
    while worker.puller.next.is_some() {
        let get = worker.ask();
        match &get {
            Get::Base => worker.reply(200, &manifest(&bytes, 8), None),
            Get::Part { part, .. } => worker.reply(200, bytes.chunks(PART_BYTES).nth(*part).unwrap(), None),
            Get::Changes { cursor, wait_s } if cursor == "r8" => {
                assert_eq!(*wait_s, 0);
                worker.reply(200, &body(&[Frame::Delta(&delta(8, revision)), confirmed()]), Some("c99"));
            }
            Get::Changes { wait_s, .. } => {
                assert_eq!(*wait_s, 0);
                worker.reply(200, &body(&[Frame::Delta(&delta(revision, revision + 1)), confirmed()]), Some("c"));
                revision += 1;
                assert_eq!(worker.decides_by(), Some(revision));
            }
        }
        gets.push(matches!(get, Get::Changes { .. }));
    }
    assert_eq!(worker.decides_by(), Some(revision));
    let followed = gets.iter().filter(|changes| **changes).count();
    assert!(followed >= gets.len() / 2, "{gets:?}");
    assert_eq!(worker.ask(), Get::Changes { cursor: "c99".to_owned(), wait_s: WAIT_S });
}

#[test]
fn while_a_new_base_has_to_wait_changes_are_followed() {
    let mut worker = Worker::following();
    worker.puller.want(worker.now_ms);
    while worker.ask() != Get::Base {
        worker.reply(200, &body(&[confirmed()]), Some("c2"));
    }
    worker.fail(Some(503));
    let cursor = "c1".to_owned();
    let get = worker.ask();
    assert!(
        get == Get::Changes { cursor, wait_s: SHORT_WAIT_S }
            || get == Get::Changes { cursor: "c2".to_owned(), wait_s: SHORT_WAIT_S },
        "{get:?}"
    );
}

/// What a host may say.
#[derive(Clone, Debug)]
enum Saying {
    Right,
    Status(u32),
    Nothing,
    Foreign,
    Cut(usize),
    Flipped(usize),
    Frames(u8),
    Lost,
}

fn saying() -> impl Strategy<Value = Saying> {
    prop_oneof![
        6 => Just(Saying::Right),
        1 => prop::sample::select(vec![201, 204, 302, 400, 401, 403, 404, 429, 500, 503]).prop_map(Saying::Status),
        1 => Just(Saying::Nothing),
        1 => Just(Saying::Foreign),
        1 => any::<usize>().prop_map(Saying::Cut),
        1 => any::<usize>().prop_map(Saying::Flipped),
        1 => (0..8_u8).prop_map(Saying::Frames),
        1 => Just(Saying::Lost),
    ]
}

/// Answers as a host at this revision does, or not.
fn say(worker: &mut Worker, get: &Get, saying: &Saying, revision: u64) {
    let bytes = base(revision);
    let (mut answer, cursor) = match get {
        Get::Base => (manifest(&bytes, revision), None),
        Get::Part { part, .. } => (bytes.chunks(PART_BYTES).nth(*part).unwrap_or_default().to_vec(), None),
        Get::Changes { cursor, .. } => {
            let from = cursor[1..].parse().unwrap();
            let delta = (from < revision).then(|| delta(from, revision));
            let frames: Vec<Frame<'_>> = delta.as_deref().map(Frame::Delta).into_iter().chain([confirmed()]).collect();
            (body(&frames), Some(format!("r{revision}")))
        }
    };
    let foreign = base(FOREIGN);
    match saying {
        Saying::Right => {}
        Saying::Status(status) => return worker.reply(*status, &answer, cursor.as_deref()),
        Saying::Nothing => return worker.fail(None),
        Saying::Lost => return worker.puller.lost(),
        // A policy that nobody may decide by, in good order but with other sums than were said.
        Saying::Foreign => {
            answer = match get {
                Get::Part { part, .. } => foreign.chunks(PART_BYTES).nth(*part).unwrap_or_default().to_vec(),
                Get::Base | Get::Changes { .. } => foreign,
            };
        }
        Saying::Cut(at) => answer.truncate(at % (answer.len() + 1)),
        Saying::Flipped(at) => {
            let at = at % answer.len();
            // Digits of a manifest would be those of another host; its name is not covered by a sum.
            answer[at] ^= if *get == Get::Base { 0x80 } else { 1 };
        }
        Saying::Frames(kind) => answer = vec![*kind, 0, 0, 0, 0],
    }
    worker.reply(200, &answer, cursor.as_deref());
}

/// The revision of what must never be decided by.
const FOREIGN: u64 = 999;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Whatever is answered, nothing is decided by that was not checked, revisions never fall, and once the host is as it should
    /// be the worker ends in following it.
    #[test]
    fn any_answers_lead_to_following(sayings in prop::collection::vec((saying(), any::<bool>()), 0..60), seed: u64) {
        let mut worker = Worker::new();
        worker.puller = Puller::new("edge".parse().unwrap(), seed);
        let mut revision = 7;
        let mut decided = None;
        for (saying, moves_on) in sayings {
            revision += u64::from(moves_on);
            worker.now_ms += MAX_WAIT_MS;
            let get = worker.ask();
            say(&mut worker, &get, &saying, revision);
            let now = worker.decides_by();
            prop_assert!(now != Some(FOREIGN) && now.is_none_or(|now| now <= revision), "{now:?}");
            prop_assert!(now >= decided, "{now:?} after {decided:?}");
            decided = now;
        }
        for _ in 0..40 {
            worker.now_ms += MAX_WAIT_MS;
            let get = worker.ask();
            say(&mut worker, &get, &Saying::Right, revision);
        }
        prop_assert_eq!(worker.decides_by(), Some(revision));
        worker.now_ms += MAX_WAIT_MS;
        prop_assert_eq!(worker.ask(), Get::Changes { cursor: format!("r{revision}"), wait_s: WAIT_S });
    }
}
