//! What control promises of signatures: the gate has the keys of every signer for every day that counts, before the policy
//! names the signer and before the day begins, and of nobody else.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_control::store::{Channel, Delivery, Origin};
use portcullis_control::{
    Caller, Command, Confirmation, Control, NewService, NewTenant, NewWorkspaceKey, Order, OtherKeys,
};
use portcullis_engine::{Config, Engine, Request};
use portcullis_model::head::RequestHead;
use portcullis_model::id::Id;
use portcullis_model::key_sheet::Day;
use portcullis_model::signing::date::long_date;
use portcullis_model::signing::{self, presets};
use portcullis_model::source::{Endpoint, HostPattern, Presentation};
use portcullis_model::time::{Expiry, UnixTime};
use portcullis_model::verdict::Verdict;
use secrecy::ExposeSecret as _;

/// Ten o'clock of some day.
const START: u64 = 20_900 * 86_400 + 10 * 3600;

const HOST: &str = "shop.example";
const SCOPE: &str = "eu/shop/request";

thread_local! {
    // A test runs on one thread; control's clock is a plain function.
    static NOW: AtomicU64 = const { AtomicU64::new(START) };
}

fn now() -> UnixTime {
    UnixTime::from_secs(NOW.with(|now| now.load(Ordering::Relaxed))).unwrap()
}

fn set(seconds: u64) {
    NOW.with(|now| now.store(seconds, Ordering::Relaxed));
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

struct House {
    control: Arc<Control>,
    engine: Arc<Engine>,
    root: Caller,
    folder: tempfile::TempDir,
}

struct Pair {
    key: String,
    secret: String,
}

async fn open(folder: &Path) -> (Arc<Control>, Arc<Engine>) {
    let workers = NonZeroUsize::new(2).unwrap();
    let engine = Arc::new(Engine::new(&Config { workers, ..Config::default() }).unwrap());
    let control = Control::open(folder, Arc::clone(&engine), now, Box::new(|_| {})).await.unwrap();
    (control, engine)
}

impl House {
    /// A service that accepts signatures, and a tenant.
    async fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let (control, engine) = open(folder.path()).await;
        let expires = Expiry::at(UnixTime::from_secs(START + 86_400 * 30).unwrap());
        let made = control.recover("root", expires, OtherKeys::Keep).await.unwrap();
        let origin = Origin { channel: Channel::Api, address: None };
        let root = Caller { tenant: id("system"), credential: id(&made.object), origin };
        let house = House { control, engine, root, folder };
        house.done(Command::PutSignatureProfile(Box::new(presets::escher(SCOPE)))).await;
        let signed = Presentation {
            signature: Some(id("escher")),
            kinds: vec![portcullis_model::credential::Kind::Workspace],
            ..Presentation::default()
        };
        let service = NewService {
            id: id("shop"),
            name: String::new(),
            hosts: vec![HostPattern::try_from(HOST.to_owned()).unwrap()],
            prefix: "/".to_owned(),
            tenant: None,
            accept: vec![signed],
            delivery: Delivery {
                upstream: "http://127.0.0.1:9".to_owned(),
                preserve_host: true,
                response_timeout_s: 30,
                reserved_prefix: None,
                preflight: None,
            },
            preset: None,
        };
        house.done(Command::CreateService(service)).await;
        let endpoint = serde_json::from_str::<Endpoint>(r#"{"id": "events", "paths": ["/events"]}"#).unwrap();
        house.done(Command::PutEndpoint(id("shop"), Box::new(endpoint))).await;
        for tenant in ["acme", "globex"] {
            let new = NewTenant {
                id: id(tenant),
                name: String::new(),
                modules: Vec::new(),
                key_limit: 3,
                rules: Default::default(),
            };
            house.done(Command::CreateTenant(new)).await;
        }
        house
    }

    async fn done(&self, command: Command) -> portcullis_control::Done {
        let order = Order { caller: self.root.clone(), if_match: None, idempotency: None, command };
        self.control.execute(order).await.unwrap()
    }

    async fn pair(&self, tenant: &str) -> Pair {
        let new = NewWorkspaceKey {
            name: String::new(),
            profile: None,
            signed_only: true,
            confirmation: Confirmation::Confirmed,
        };
        let issued = self.done(Command::CreateWorkspaceKey(id(tenant), new)).await.issued.unwrap();
        let secret = issued.signing_secret.unwrap().expose_secret().to_owned();
        Pair { key: issued.key.expose_secret().to_owned(), secret }
    }

    /// The days whose keys the gate has, from today.
    fn days(&self) -> Vec<i64> {
        let today = i64::from(Day::of(now()).0);
        self.engine.describe().unwrap().key_days.iter().map(|day| i64::from(day.0) - today).collect()
    }

    fn passes(&self, pair: &Pair, signed_at: u64) -> bool {
        let signed_at = UnixTime::from_secs(signed_at).unwrap();
        let profile = presets::escher(SCOPE);
        let date = String::from_utf8(long_date(signed_at).to_vec()).unwrap();
        let names = "host;x-escher-date";
        let empty = profile.hash.digest(b"").to_hex();
        let canonical = format!("GET\n/events\n\nhost:{HOST}\nx-escher-date:{date}\n\n{names}\n{empty}");
        let mut to_sign = Vec::new();
        signing::write_string_to_sign(&mut to_sign, ("ESR", profile.hash, SCOPE), signed_at, canonical.as_bytes());
        let key = signing::day_key(&profile, pair.secret.as_bytes(), Day::of(signed_at));
        let signature = signing::signature(profile.hash, &key, &to_sign).to_hex();
        let credential = format!("{}/{}/{SCOPE}", pair.key, &date[..8]);
        let auth = format!("ESR-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
        let headers: [(&[u8], &[u8]); 3] =
            [(b"host", HOST.as_bytes()), (b"x-escher-date", date.as_bytes()), (b"x-escher-auth", auth.as_bytes())];
        let head = RequestHead {
            secure: true,
            bodiless: true,
            peer: "192.0.2.1".parse().unwrap(),
            method: b"GET",
            authority: None,
            target: b"/events",
            headers: &headers,
        };
        let verdict = self.engine.decide(Request::new(&head.pack().unwrap(), now())).unwrap().verdict();
        verdict == Verdict::Allow
    }
}

#[tokio::test]
async fn midnight_passes_without_a_gap_and_without_a_rebuild() {
    let house = House::new().await;
    let pair = house.pair("acme").await;
    assert_eq!(house.days(), [-2, -1, 0]);
    let revision = house.engine.describe().unwrap().revision;
    // The keeper looks from time to time; before noon there is nothing to do.
    house.control.keep_sheets().await.unwrap();
    assert_eq!(house.days(), [-2, -1, 0]);
    set(START + 2 * 3600);
    house.control.keep_sheets().await.unwrap();
    assert_eq!(house.days(), [-2, -1, 0, 1], "tomorrow's are there twelve hours before");
    let midnight = 20_901 * 86_400;
    for at in [midnight - 301, midnight - 1, midnight, midnight + 1, midnight + 299] {
        set(at);
        house.control.confirm();
        // Clocks of clients go before and behind.
        for signed_at in [at - 300, at, at + 300] {
            assert!(house.passes(&pair, signed_at), "at {at}, signed at {signed_at}");
        }
        assert!(!house.passes(&pair, at - 301) && !house.passes(&pair, at + 301), "at {at}");
    }
    house.control.keep_sheets().await.unwrap();
    assert_eq!(house.days(), [-3, -2, -1, 0], "a day that is over goes when the next one comes");
    set(midnight + 12 * 3600);
    house.control.keep_sheets().await.unwrap();
    assert_eq!(house.days(), [-2, -1, 0, 1]);
    assert_eq!(house.engine.describe().unwrap().revision, revision, "nothing was rebuilt");
}

#[tokio::test]
async fn a_signer_signs_at_once_on_every_day_that_is_there_and_after_a_restart() {
    let house = House::new().await;
    set(START + 2 * 3600);
    house.control.keep_sheets().await.unwrap();
    let (first, other) = (house.pair("acme").await, house.pair("globex").await);
    set(20_901 * 86_400 + 10);
    house.control.confirm();
    for pair in [&first, &other] {
        assert!(house.passes(pair, 20_901 * 86_400) && house.passes(pair, 20_901 * 86_400 - 1));
    }
    let mixed = Pair { key: first.key.clone(), secret: other.secret.clone() };
    assert!(!house.passes(&mixed, 20_901 * 86_400));

    house.control.close().await;
    let House { control, engine, root, folder } = house;
    drop((control, engine));
    let (control, engine) = open(folder.path()).await;
    let house = House { control, engine, root, folder };
    assert!(house.passes(&first, 20_901 * 86_400) && house.passes(&other, 20_901 * 86_400));
}

#[tokio::test]
async fn a_signer_that_goes_leaves_no_key_and_its_place_to_the_next() {
    let house = House::new().await;
    let first = house.pair("acme").await;
    let second = house.pair("acme").await;
    assert!(!house.passes(&first, START) && house.passes(&second, START));
    // Of three pairs one after the other two places are used.
    let third = house.pair("acme").await;
    assert!(!house.passes(&second, START) && house.passes(&third, START));
    let other = house.pair("globex").await;
    assert!(house.passes(&other, START) && house.passes(&third, START));
}
