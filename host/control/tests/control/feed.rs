//! What a feed serves: a worker that follows it decides as the host does, has the keys of signers before their names, and
//! gets nothing of anybody else.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::task::Poll;
use std::time::Duration;

use portcullis_control::store::GroupKind;
use portcullis_control::{
    Command, Confirmation, FeedEdit, FeedError, KeyRef, MAX_FEED_CALLS, NewFeed, NewGroup, NewService, NewTenantKey,
};
use portcullis_engine::{Config, Engine, Request};
use portcullis_model::credential::Kind;
use portcullis_model::feed::{Frame, frames};
use portcullis_model::head::RequestHead;
use portcullis_model::id::EndpointRef;
use portcullis_model::key_sheet::Day;
use portcullis_model::method::Methods;
use portcullis_model::source::{Endpoint, Permission};
use portcullis_model::verdict::{Reason, Verdict};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use crate::house::{House, id, now, service, set, tenant};
use crate::signers::{TEN, passes_in, signing};

/// Longer than any test takes.
const WAIT: Duration = Duration::from_secs(30);

/// A worker of a proxy.
struct Worker {
    feed: &'static str,
    engine: Engine,
    cursor: String,
}

/// What an answer consisted of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kinds {
    Delta,
    Keys,
    Confirmed,
    Rebase,
}
use Kinds::{Confirmed, Delta, Keys, Rebase};

impl Worker {
    /// One that has loaded the base and asked once.
    async fn of(house: &House, feed: &'static str) -> Worker {
        let base = house.control.feed_base(&id(feed)).await.unwrap();
        let mut bytes = Vec::new();
        for (number, sha256) in base.sha256.iter().enumerate() {
            let part = house.control.feed_part(&id(feed), &base.id, number).unwrap();
            assert_eq!(*sha256, <[u8; 32]>::from(Sha256::digest(&part)));
            bytes.extend(part);
        }
        assert_eq!(bytes.len(), base.size());
        let engine = Engine::new(&Config { workers: NonZeroUsize::MIN, ..Config::default() }).unwrap();
        assert_eq!(engine.load(bytes.into()).unwrap(), base.revision);
        let mut worker = Worker { feed, engine, cursor: format!("r{}", base.revision) };
        worker.poll(house, Duration::ZERO).await;
        worker
    }

    async fn poll(&mut self, house: &House, wait: Duration) -> Vec<Kinds> {
        let (kinds, _) = self.poll_bytes(house, wait).await;
        kinds
    }

    async fn poll_bytes(&mut self, house: &House, wait: Duration) -> (Vec<Kinds>, Vec<u8>) {
        let changes = house.control.feed_changes(&id(self.feed), &self.cursor, wait).await.unwrap();
        let mut kinds = Vec::new();
        for frame in frames(&changes.frames).unwrap() {
            kinds.push(match frame {
                Frame::Delta(delta) => {
                    self.engine.apply(delta).unwrap();
                    Delta
                }
                Frame::Keys(part) => {
                    self.engine.load_keys(part).unwrap();
                    Keys
                }
                Frame::Confirmed(at) => {
                    self.engine.confirm(at);
                    Confirmed
                }
                Frame::Rebase => Rebase,
            });
        }
        self.cursor = changes.cursor;
        (kinds, changes.frames)
    }

    fn decides(&self, host: &str, key: &str) -> Verdict {
        verdict(&self.engine, host, key)
    }

    fn days(&self) -> Vec<i64> {
        let today = i64::from(Day::of(now()).0);
        self.engine.describe().unwrap().key_days.iter().map(|day| i64::from(day.0) - today).collect()
    }
}

fn verdict(engine: &Engine, host: &str, key: &str) -> Verdict {
    let headers: [(&[u8], &[u8]); 2] = [(b"host", host.as_bytes()), (b"x-api-key", key.as_bytes())];
    let head = RequestHead {
        secure: true,
        bodiless: true,
        peer: "192.0.2.1".parse().unwrap(),
        method: b"GET",
        authority: None,
        target: b"/events",
        headers: &headers,
    };
    engine.decide(Request::new(&head.pack().unwrap(), now())).unwrap().verdict()
}

fn feed(name: &str, services: &[&str]) -> Command {
    Command::CreateFeed(NewFeed { id: id(name), services: services.iter().map(|service| id(service)).collect() })
}

fn group(services: &[&str]) -> NewGroup {
    let endpoint = |service: &&str| EndpointRef::try_from(format!("{service}/events")).unwrap();
    let permission = |service| Permission { endpoint: endpoint(service), methods: Methods::default() };
    let permissions = services.iter().map(permission).collect();
    NewGroup { id: id("events"), name: String::new(), kind: GroupKind::TenantKey, permissions }
}

/// The services `shop`, which all share, and `wallet` of acme; the tenants acme and globex; a feed of each service.
async fn house() -> House {
    let house = House::bare().await;
    for name in ["acme", "globex"] {
        house.done(tenant(name, &[])).await;
    }
    house.done(Command::CreateService(service("shop"))).await;
    house.done(Command::CreateService(NewService { tenant: Some(id("acme")), ..service("wallet") })).await;
    for name in ["shop", "wallet"] {
        house.done(Command::PutEndpoint(id(name), Box::new(endpoint("events", "/events")))).await;
    }
    for name in ["acme", "globex"] {
        house.done(Command::CreateGroup(id(name), group(&["shop", "wallet"]))).await;
    }
    house.done(feed("edge", &["shop"])).await;
    house.done(feed("pinned", &["wallet"])).await;
    house
}

fn endpoint(name: &str, path: &str) -> Endpoint {
    serde_json::from_value(serde_json::json!({ "id": name, "paths": [path] })).unwrap()
}

async fn key(house: &House, tenant: &str) -> (KeyRef, String) {
    let new = NewTenantKey {
        name: "Webshop".to_owned(),
        description: String::new(),
        group: id("events"),
        expires: None,
        ip_allowlist: Vec::new(),
    };
    let done = house.done(Command::CreateTenantKey(id(tenant), new)).await;
    let secret = done.issued.unwrap().key.expose_secret().to_owned();
    (KeyRef { tenant: id(tenant), kind: Kind::Tenant, id: id(&done.object) }, secret)
}

fn revoke(key: &KeyRef) -> Command {
    Command::RevokeKey(key.clone(), Confirmation::Confirmed)
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[tokio::test]
async fn a_call_that_waits_is_answered_by_the_revocation() {
    let house = house().await;
    let (credential, secret) = key(&house, "acme").await;
    let mut worker = Worker::of(&house, "edge").await;
    assert_eq!(worker.decides("shop.example", &secret), Verdict::Allow);
    assert_eq!(worker.decides("wallet.example", &secret), Verdict::Deny(Reason::ServiceUnknown), "it has no wallet");

    let before = worker.cursor.clone();
    let (kinds, _) = tokio::join!(worker.poll(&house, WAIT), house.done(revoke(&credential)));
    assert_eq!(kinds, [Delta, Confirmed]);
    assert_ne!(worker.cursor, before);
    assert_eq!(worker.decides("shop.example", &secret), verdict(&house.engine, "shop.example", &secret));
    assert!(matches!(worker.decides("shop.example", &secret), Verdict::Deny(_)));
    // Whoever asks again with an old cursor gets the same again.
    worker.cursor = before;
    let changes = house.control.feed_changes(&id("edge"), &worker.cursor, WAIT).await.unwrap();
    assert!(matches!(frames(&changes.frames).unwrap()[..], [Frame::Delta(_), Frame::Confirmed(_)]));
}

#[tokio::test]
async fn where_nothing_changes_there_is_a_confirmation_once_the_time_is_over() {
    let house = house().await;
    let mut worker = Worker::of(&house, "edge").await;
    let cursor = worker.cursor.clone();
    assert_eq!(worker.poll(&house, Duration::from_millis(1)).await, [Confirmed]);
    assert_eq!(worker.cursor, cursor);
}

#[tokio::test]
async fn a_change_of_others_is_told_as_a_revision_alone() {
    let house = house().await;
    let mut worker = Worker::of(&house, "pinned").await;
    let (_, secret) = key(&house, "globex").await;
    let (kinds, bytes) = worker.poll_bytes(&house, WAIT).await;
    assert_eq!(kinds, [Delta, Confirmed]);
    assert!(!has(&bytes, b"globex") && !has(&bytes, &Sha256::digest(secret.as_bytes())));
    assert_eq!(worker.engine.describe().unwrap().revision, house.engine.describe().unwrap().revision);
}

#[tokio::test]
async fn a_pinned_feed_holds_nothing_of_others() {
    let house = house().await;
    let (theirs, foreign) = (key(&house, "acme").await, key(&house, "globex").await);
    // A checkpoint of the audit names every tenant.
    house.control.system_view(&house.root).unwrap().checkpoint().await.unwrap();
    let mut worker = Worker::of(&house, "pinned").await;
    assert_eq!(worker.engine.describe().unwrap().checkpoint, "");
    let edge = Worker::of(&house, "edge").await;
    assert!(edge.engine.describe().unwrap().checkpoint.contains("globex"), "who may have all tenants is a witness");
    let base = house.control.feed_base(&id("pinned")).await.unwrap();
    let bytes = house.control.feed_part(&id("pinned"), &base.id, 0).unwrap();
    assert_eq!(bytes.len(), base.size());
    let digest = |secret: &str| Sha256::digest(secret.as_bytes()).to_vec();
    assert!(has(&bytes, b"acme") && has(&bytes, &digest(&theirs.1)));
    assert!(!has(&bytes, b"globex") && !has(&bytes, &digest(&foreign.1)) && !has(&bytes, b"shop"));
    assert_eq!(worker.decides("wallet.example", &theirs.1), Verdict::Allow);
    for credential in [&foreign.0, &theirs.0] {
        house.done(revoke(credential)).await;
    }
    let (kinds, bytes) = worker.poll_bytes(&house, WAIT).await;
    assert_eq!(kinds, [Delta, Delta, Confirmed]);
    assert!(!has(&bytes, b"globex") && !has(&bytes, &digest(&foreign.1)));
    assert!(matches!(worker.decides("wallet.example", &theirs.1), Verdict::Deny(_)));
}

#[tokio::test]
async fn no_feed_has_keys_of_the_system_tenant() {
    let house = house().await;
    let base = house.control.feed_base(&id("edge")).await.unwrap();
    let bytes = house.control.feed_part(&id("edge"), &base.id, 0).unwrap();
    assert!(!has(&bytes, house.root.credential.as_str().as_bytes()) && !has(&bytes, b"portcullis/"));
}

#[tokio::test]
async fn the_services_of_a_feed_change_by_a_new_base() {
    let house = house().await;
    let (_, secret) = key(&house, "acme").await;
    let mut worker = Worker::of(&house, "edge").await;
    let mut other = Worker::of(&house, "pinned").await;
    // Of a service that changes a delta tells.
    house.done(Command::PutEndpoint(id("shop"), Box::new(endpoint("more", "/more")))).await;
    assert_eq!(worker.poll(&house, WAIT).await, [Delta, Confirmed]);

    let services = Some(vec![id("shop"), id("wallet")]);
    let edit = Command::EditFeed(id("edge"), FeedEdit { services });
    let (kinds, _) = tokio::join!(worker.poll(&house, WAIT), house.done(edit));
    assert_eq!(kinds, [Rebase]);
    assert_eq!(other.poll(&house, WAIT).await, [Delta, Delta, Confirmed], "another feed goes on");
    let worker = Worker::of(&house, "edge").await;
    assert_eq!(worker.decides("wallet.example", &secret), Verdict::Allow);

    house.done(Command::RemoveService(id("wallet"), Confirmation::Confirmed)).await;
    let mut gone = worker;
    assert_eq!(gone.poll(&house, WAIT).await, [Rebase]);
    assert_eq!(other.poll(&house, WAIT).await, [Rebase]);
    let gone = Worker::of(&house, "edge").await;
    assert_eq!(gone.decides("wallet.example", &secret), Verdict::Deny(Reason::ServiceUnknown));
    assert_eq!(gone.decides("shop.example", &secret), Verdict::Allow);
}

#[tokio::test]
async fn a_base_is_made_once_and_leads_on() {
    let house = house().await;
    let first = house.control.feed_base(&id("edge")).await.unwrap();
    let (credential, secret) = key(&house, "acme").await;
    let again = house.control.feed_base(&id("edge")).await.unwrap();
    assert_eq!(again.id, first.id, "deltas lead on from it");
    let mut worker = Worker::of(&house, "edge").await;
    assert_eq!(worker.decides("shop.example", &secret), Verdict::Allow);
    house.done(revoke(&credential)).await;
    assert_eq!(worker.poll(&house, WAIT).await, [Delta, Confirmed]);
    for (feed, base, part) in [("edge", "nothing", 0), ("edge", first.id.as_str(), 1), ("pinned", first.id.as_str(), 0)]
    {
        assert!(matches!(house.control.feed_part(&id(feed), base, part), Err(FeedError::Gone)), "{feed} {base} {part}");
    }
}

#[tokio::test]
async fn keys_come_before_names_and_go_with_their_signer() {
    let house = signing().await;
    house.done(feed("edge", &["shop"])).await;
    let mut worker = Worker::of(&house, "edge").await;
    assert_eq!(worker.days(), [-2, -1, 0]);
    let (kinds, pair) = tokio::join!(worker.poll(&house, WAIT), house.pair("acme"));
    assert_eq!(kinds, [Keys, Keys, Keys, Delta, Confirmed]);
    assert!(passes_in(&worker.engine, &pair, TEN));
    let next = house.pair("acme").await;
    worker.poll(&house, WAIT).await;
    assert!(!passes_in(&worker.engine, &pair, TEN) && passes_in(&worker.engine, &next, TEN));
}

#[tokio::test]
async fn midnight_comes_as_keys_alone() {
    let house = signing().await;
    house.done(feed("edge", &["shop"])).await;
    let pair = house.pair("acme").await;
    let mut worker = Worker::of(&house, "edge").await;
    set(TEN + 2 * 3600);
    let (kinds, kept) = tokio::join!(worker.poll(&house, WAIT), house.control.keep_sheets());
    kept.unwrap();
    assert_eq!((kinds, worker.days()), (vec![Keys, Confirmed], vec![-2, -1, 0, 1]));
    let midnight = 20_901 * 86_400;
    for at in [midnight - 1, midnight, midnight + 1] {
        set(at);
        worker.poll(&house, Duration::ZERO).await;
        assert!(passes_in(&worker.engine, &pair, at), "{at}");
    }
}

#[tokio::test]
async fn a_pinned_feed_has_no_day_keys_of_others() {
    let house = signing().await;
    let (theirs, _foreign) = (house.pair("acme").await, house.pair("globex").await);
    let own = NewService { tenant: Some(id("acme")), ..service("wallet") };
    house.done(Command::CreateService(own)).await;
    house.done(feed("pinned", &["wallet"])).await;
    house.done(feed("edge", &["shop"])).await;
    let keys = |feed: &'static str| {
        let house = &house;
        async move {
            let base = house.control.feed_base(&id(feed)).await.unwrap();
            let cursor = format!("r{}", base.revision);
            let changes = house.control.feed_changes(&id(feed), &cursor, Duration::ZERO).await.unwrap();
            let read = frames(&changes.frames).unwrap();
            let keys = read.iter().filter_map(|frame| if let Frame::Keys(part) = frame { Some(*part) } else { None });
            keys.flat_map(|part| part[32..].chunks(64).map(<[u8]>::to_vec).collect::<Vec<_>>()).collect::<Vec<_>>()
        }
    };
    let is_key = |key: &&Vec<u8>| key.iter().any(|byte| *byte != 0);
    let (pinned, all) = (keys("pinned").await, keys("edge").await);
    assert_eq!(pinned.iter().filter(is_key).count() * 2, all.iter().filter(is_key).count());
    assert!(pinned.iter().filter(is_key).all(|key| all.contains(key)));
    assert!(passes_in(&Worker::of(&house, "edge").await.engine, &theirs, TEN));
}

#[tokio::test]
async fn a_restarted_host_goes_on_from_an_old_cursor_and_sends_all_keys_again() {
    let house = signing().await;
    house.done(feed("edge", &["shop"])).await;
    let pair = house.pair("acme").await;
    let mut worker = Worker::of(&house, "edge").await;
    let house = house.again().await;
    assert_eq!(worker.poll(&house, WAIT).await, [Keys, Keys, Keys, Confirmed]);
    assert_eq!(worker.poll(&house, Duration::ZERO).await, [Confirmed]);
    let next = house.pair("acme").await;
    assert_eq!(worker.poll(&house, WAIT).await.last(), Some(&Confirmed));
    assert!(!passes_in(&worker.engine, &pair, TEN) && passes_in(&worker.engine, &next, TEN));

    // What it did not get before the host ended is not there any more.
    house.pair("acme").await;
    let house = house.again().await;
    assert_eq!(worker.poll(&house, WAIT).await, [Rebase]);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused() {
    let house = house().await;
    let poll = |feed: &'static str, cursor: &'static str| {
        let house = &house;
        async move { house.control.feed_changes(&id(feed), cursor, Duration::ZERO).await }
    };
    assert!(matches!(poll("other", "r1").await, Err(FeedError::NotFound(_))));
    assert!(matches!(house.control.feed_base(&id("other")).await, Err(FeedError::NotFound(_))));
    assert!(matches!(house.control.feed_part(&id("other"), "x", 0), Err(FeedError::NotFound(_))));
    for cursor in ["", "1", "r", "r1.k", "r1&x"] {
        assert!(matches!(poll("edge", cursor).await, Err(FeedError::Cursor)), "{cursor}");
    }
    // A revision from before the feed, and one that is not there yet.
    for cursor in ["r1", "r999999"] {
        let changes = poll("edge", cursor).await.unwrap();
        assert_eq!(frames(&changes.frames).unwrap(), [Frame::Rebase], "{cursor}");
    }
}

#[tokio::test]
async fn as_many_calls_wait_as_may_and_all_end_with_the_process() {
    let house = house().await;
    let cursor = Worker::of(&house, "edge").await.cursor;
    let (edge, mut calls) = (id("edge"), Vec::new());
    for number in 0..=MAX_FEED_CALLS {
        let mut call = Box::pin(house.control.feed_changes(&edge, &cursor, WAIT));
        let now = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        match now {
            Poll::Pending if number < MAX_FEED_CALLS => calls.push(call),
            Poll::Ready(Err(FeedError::Busy)) if number == MAX_FEED_CALLS => {}
            other @ (Poll::Pending | Poll::Ready(_)) => panic!("call {number}: {other:?}"),
        }
    }
    assert!(matches!(house.control.feed_base(&edge).await, Err(FeedError::Busy)));
    house.control.end_feeds();
    for call in calls {
        let changes = call.await.unwrap();
        assert!(matches!(frames(&changes.frames).unwrap()[..], [Frame::Confirmed(_)]));
    }
    // Whoever asks from now on does not wait.
    house.control.feed_changes(&edge, &cursor, WAIT).await.unwrap();
}
