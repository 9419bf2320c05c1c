//! What control promises of signatures: the gate has the keys of every signer for every day that counts, before the policy
//! names the signer and before the day begins, and of nobody else.

use portcullis_control::{Command, Confirmation, NewService, NewWorkspaceKey};
use portcullis_engine::{Engine, Request};
use portcullis_model::credential::Kind;
use portcullis_model::head::RequestHead;
use portcullis_model::key_sheet::Day;
use portcullis_model::signing::presets;
use portcullis_model::signing::signer::{Signer, Unsigned};
use portcullis_model::source::{Endpoint, Presentation};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Verdict;
use secrecy::ExposeSecret as _;

use crate::house::{House, id, now, service, set, tenant};

/// Ten o'clock of some day.
pub(crate) const TEN: u64 = 20_900 * 86_400 + 10 * 3600;

const SCOPE: &str = "eu/shop/request";

pub(crate) struct Pair {
    key: String,
    secret: String,
}

/// A service that accepts signatures, and two tenants.
pub(crate) async fn signing() -> House {
    set(TEN);
    let house = House::bare().await;
    house.done(Command::PutSignatureProfile(Box::new(presets::escher(SCOPE)))).await;
    let signed =
        Presentation { signature: Some(id("escher")), kinds: vec![Kind::Workspace], ..Presentation::default() };
    house.done(Command::CreateService(NewService { accept: vec![signed], ..service("shop") })).await;
    let endpoint = serde_json::from_str::<Endpoint>(r#"{"id": "events", "paths": ["/events"]}"#).unwrap();
    house.done(Command::PutEndpoint(id("shop"), Box::new(endpoint))).await;
    for name in ["acme", "globex"] {
        house.done(tenant(name, &[])).await;
    }
    house
}

impl House {
    pub(crate) async fn pair(&self, tenant: &str) -> Pair {
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
        passes_in(&self.engine, pair, signed_at)
    }
}

pub(crate) fn passes_in(engine: &Engine, pair: &Pair, signed_at: u64) -> bool {
    let signed_at = UnixTime::from_secs(signed_at).unwrap();
    let profile = presets::escher(SCOPE);
    let request = Unsigned { method: "GET", target: "/events", host: "shop.example", headers: &[], body: b"" };
    let signer = Signer { profile: &profile, key_id: &pair.key, secret: pair.secret.as_bytes() };
    let signed = signer.sign(&request, &[], signed_at);
    let headers: Vec<_> = signed.added.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let head = RequestHead {
        secure: true,
        bodiless: true,
        peer: "192.0.2.1".parse().unwrap(),
        method: b"GET",
        authority: None,
        target: b"/events",
        headers: &headers,
    };
    let verdict = engine.decide(Request::new(&head.pack().unwrap(), now())).unwrap().verdict();
    verdict == Verdict::Allow
}

#[tokio::test]
async fn midnight_passes_without_a_gap_and_without_a_rebuild() {
    let house = signing().await;
    let pair = house.pair("acme").await;
    assert_eq!(house.days(), [-2, -1, 0]);
    let revision = house.engine.describe().unwrap().revision;
    // The keeper looks from time to time; before noon there is nothing to do.
    house.control.keep_sheets().await.unwrap();
    assert_eq!(house.days(), [-2, -1, 0]);
    set(TEN + 2 * 3600);
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
    let house = signing().await;
    set(TEN + 2 * 3600);
    house.control.keep_sheets().await.unwrap();
    let (first, other) = (house.pair("acme").await, house.pair("globex").await);
    set(20_901 * 86_400 + 10);
    house.control.confirm();
    for pair in [&first, &other] {
        assert!(house.passes(pair, 20_901 * 86_400) && house.passes(pair, 20_901 * 86_400 - 1));
    }
    let mixed = Pair { key: first.key.clone(), secret: other.secret.clone() };
    assert!(!house.passes(&mixed, 20_901 * 86_400));

    let house = house.again().await;
    assert!(house.passes(&first, 20_901 * 86_400) && house.passes(&other, 20_901 * 86_400));
}

#[tokio::test]
async fn a_signer_that_goes_leaves_no_key_and_its_place_to_the_next() {
    let house = signing().await;
    let first = house.pair("acme").await;
    let second = house.pair("acme").await;
    assert!(!house.passes(&first, TEN) && house.passes(&second, TEN));
    // Of three pairs one after the other two places are used.
    let third = house.pair("acme").await;
    assert!(!house.passes(&second, TEN) && house.passes(&third, TEN));
    let other = house.pair("globex").await;
    assert!(house.passes(&other, TEN) && house.passes(&third, TEN));
}
