//! One base for all instances: what is held, what is given back, and what it leaves as it was.
//!
//! Mappings are told apart by their length, so each test has a base of its own length.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_engine::{Config, DecideError, Engine, LoadError, Request};
use portcullis_model::credential::SecretDigest;
use portcullis_model::head::RequestHead;
use portcullis_model::id::Revision;
use portcullis_model::policy::build;
use portcullis_model::source::Source;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Verdict;

const PAGE_BYTES: u64 = 4096;
const WASM_PAGE_BYTES: usize = 64 << 10;

/// A service, a tenant, a group and one key: `k`, by its SHA-256.
const SOURCE: &str = include_str!("shop.json");

/// A policy with the key and that many more.
fn source(more: u32) -> Source {
    let mut source = Source::from_json(SOURCE.as_bytes()).unwrap();
    for number in 0..more {
        let mut credential = source.credentials.first().unwrap().clone();
        credential.id = format!("key-{number}").parse().unwrap();
        let mut digest = [0; 32];
        *digest.first_chunk_mut().unwrap() = number.to_le_bytes();
        credential.secrets.first_mut().unwrap().sha256 = SecretDigest::new(digest);
        source.credentials.push(credential);
    }
    source
}

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

fn config(workers: usize) -> Config {
    Config { workers: NonZeroUsize::new(workers).unwrap(), ..Config::default() }
}

fn head() -> Vec<u8> {
    let headers: [(&[u8], &[u8]); 2] = [(b"host", b"api.example"), (b"x-api-key", b"k")];
    RequestHead {
        secure: true,
        peer: "192.0.2.1".parse().unwrap(),
        method: b"GET",
        authority: None,
        target: b"/events",
        headers: &headers,
        bodiless: false,
    }
    .pack()
    .unwrap()
}

fn decide(engine: &Engine) -> Result<Verdict, DecideError> {
    engine.decide(Request::new(&head(), now())).map(|decision| decision.verdict())
}

/// What this process has mapped of a base.
#[derive(Default, Debug)]
struct Mapped {
    mappings: usize,
    /// Bytes that only one mapping has, because somebody wrote there.
    written_bytes: u64,
    /// Bytes of memory, where each mapping counts for its share of a page.
    held_bytes: u64,
}

fn mapped(base: &[u8]) -> Mapped {
    let length = (base.len() as u64).next_multiple_of(PAGE_BYTES);
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut found = Mapped::default();
    let mut is_base = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap(), words.next().unwrap());
        let kib = || 1024 * second.parse::<u64>().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
            is_base = line.contains("memfd:portcullis-base") && end - start == length;
            found.mappings += usize::from(is_base);
        } else if is_base && first == "Anonymous:" {
            found.written_bytes += kib();
        } else if is_base && first == "Pss:" {
            found.held_bytes += kib();
        }
    }
    found
}

/// How many files with a base of that length this process has open.
fn open(base: &[u8]) -> usize {
    let files = fs::read_dir("/proc/self/fd").unwrap();
    let is_base = |file: &fs::DirEntry| {
        // Others open and close files meanwhile.
        let name = fs::read_link(file.path()).unwrap_or_default();
        let length = fs::metadata(file.path()).map_or(0, |metadata| metadata.len());
        name.to_string_lossy().contains("memfd:portcullis-base") && length == base.len() as u64
    };
    files.filter_map(Result::ok).filter(is_base).count()
}

#[test]
fn the_workers_and_the_spare_share_the_memory_of_one_base() {
    let base = build(&source(40_000)).unwrap();
    let engine = Engine::new(&config(8)).unwrap();
    engine.load(base.clone().into()).unwrap();
    engine.confirm(now());
    for _ in 0..100 {
        assert_eq!(decide(&engine), Ok(Verdict::Allow));
    }
    let mapped = mapped(&base);
    assert_eq!((mapped.mappings, mapped.written_bytes, open(&base)), (9, 0, 1), "{mapped:?}");
    assert!(mapped.held_bytes <= base.len() as u64 + 16 * PAGE_BYTES, "{mapped:?} of {}", base.len());
    drop(engine);
    assert_eq!((self::mapped(&base).mappings, open(&base)), (0, 0));
}

#[test]
fn a_base_that_was_replaced_is_given_back_while_others_decide() {
    let mut source = source(5_000);
    let base = build(&source).unwrap();
    let engine = Engine::new(&config(2)).unwrap();
    engine.load(base.clone().into()).unwrap();
    engine.confirm(now());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(decide(&engine), Ok(Verdict::Allow));
                }
            });
        }
        for revision in 2..52 {
            source.revision = Revision(revision);
            let next = build(&source).unwrap();
            assert_eq!(next.len(), base.len());
            assert_eq!(engine.load(next.into()), Ok(Revision(revision)));
            // Between loads there is one base, mapped by two workers and their spare.
            assert_eq!((mapped(&base).mappings, open(&base)), (3, 1), "at {revision}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_base_that_is_refused_is_given_back() {
    let base = build(&source(6_000)).unwrap();
    let engine = Engine::new(&config(2)).unwrap();
    engine.load(base.clone().into()).unwrap();
    engine.confirm(now());
    let mut damaged = base.clone();
    damaged[100] ^= 1;
    for _ in 0..3 {
        assert!(matches!(engine.load(damaged.clone().into()), Err(LoadError::Invalid(_))));
        assert_eq!((mapped(&base).mappings, open(&base)), (3, 1));
    }
    assert_eq!(decide(&engine), Ok(Verdict::Allow));
}

#[test]
fn an_instance_that_takes_the_place_of_a_ruined_one_maps_the_same_base() {
    let base = build(&source(7_000)).unwrap();
    // With no time at all, a decision that a tick falls into is over.
    let engine = Engine::new(&Config { decide_deadline: Duration::ZERO, ..config(1) }).unwrap();
    engine.load(base.clone().into()).unwrap();
    engine.confirm(now());
    let mut ruined = 0;
    while ruined < 3 {
        match decide(&engine) {
            Ok(verdict) => assert_eq!(verdict, Verdict::Allow),
            Err(DecideError::Deadline) => ruined += 1,
            // The spare is still being made.
            Err(DecideError::NoInstance) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    while mapped(&base).mappings != 2 {
        thread::yield_now();
    }
    assert_eq!(open(&base), 1);
}

#[test]
fn the_memory_limit_of_an_instance_holds_to_the_page() {
    let base = build(&source(8_000)).unwrap();
    // Compiled once. wasmtime goes on writing there for a while, so the folder stays for the next run.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sharing");
    let fits = |pages: usize| {
        let memory_limit = pages * WASM_PAGE_BYTES;
        let engine = Engine::new(&Config { memory_limit, cache: Some(cache.clone()), ..config(1) }).ok();
        match engine.map(|engine| engine.load(base.clone().into())) {
            Some(Ok(_)) => true,
            Some(Err(LoadError::OutOfMemory)) | None => false,
            Some(Err(error)) => panic!("{error}"),
        }
    };
    let (mut too_few, mut enough) = (0_usize, 1024);
    while enough - too_few > 1 {
        let pages = too_few.midpoint(enough);
        if fits(pages) { enough = pages } else { too_few = pages }
    }
    assert!(fits(enough) && !fits(too_few));
    // A base counts, though its pages are not the instance's own; and it counts once.
    let base_pages = base.len().div_ceil(WASM_PAGE_BYTES);
    assert!((base_pages..base_pages + 48).contains(&enough), "{enough} for {base_pages}");
}
