//! What control promises of tokens: none is issued on a decision that a change has overtaken, none leaves without its row,
//! and keys that sign stay as long as their tokens.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_control::store::{AuditFilter, Channel, ClientTerms, Origin, Paging, RecordedOutcome};
use portcullis_control::{
    Asked, Caller, Claimed, Command, Confirmation, Control, Done, KeyRef, NewClient, NewService, NewTenant, Order,
    OtherKeys, ProvenClient, Takeover, TenantEdit, TokenDesk, TokenErrorCode, TokenKeyRole, TokenWriter, Unanswered,
};
use portcullis_engine::{Config, Engine};
use portcullis_model::credential::Kind;
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{Endpoint, HostPattern, Presentation, TenantState};
use portcullis_model::time::{Expiry, UnixTime};

const START: u64 = 1_800_000_000;

thread_local! {
    // A test runs on one thread; control's clock is a plain function.
    static NOW: AtomicU64 = const { AtomicU64::new(START) };
}

fn now() -> UnixTime {
    UnixTime::from_secs(NOW.with(|now| now.load(Ordering::Relaxed))).unwrap()
}

fn later(seconds: u64) {
    NOW.with(|now| now.fetch_add(seconds, Ordering::Relaxed));
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

struct House {
    control: Arc<Control>,
    root: Caller,
    client: Id,
    _folder: tempfile::TempDir,
}

impl House {
    async fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(&Config { workers: NonZeroUsize::MIN, ..Config::default() }).unwrap();
        let control = Control::open(folder.path(), Arc::new(engine), now, Box::new(|_| {})).await.unwrap();
        let expires = Expiry::at(UnixTime::from_secs(START + 86_400 * 30).unwrap());
        let made = control.recover("root", expires, OtherKeys::Keep).await.unwrap();
        let origin = Origin { channel: Channel::Api, address: None };
        let root = Caller { tenant: id("system"), credential: id(&made.object), origin };
        let mut house = House { control, root, client: id("none"), _folder: folder };
        let tenant = NewTenant {
            id: id("acme"),
            name: String::new(),
            modules: Vec::new(),
            key_limit: 3,
            rules: Default::default(),
        };
        house.done(Command::CreateTenant(tenant)).await;
        let delivery = serde_json::json!({ "upstream": "http://127.0.0.1:9", "reserved_prefix": "/own" });
        let service = NewService {
            id: id("shop"),
            name: String::new(),
            hosts: vec![HostPattern::try_from("shop.example".to_owned()).unwrap()],
            prefix: "/".to_owned(),
            tenant: None,
            accept: Presentation::usual(),
            delivery: serde_json::from_value(delivery).unwrap(),
            preset: None,
        };
        house.done(Command::CreateService(service)).await;
        let orders = serde_json::json!({ "id": "orders", "paths": ["/orders"], "scope": "orders" });
        let orders: Endpoint = serde_json::from_value(orders).unwrap();
        house.done(Command::PutEndpoint(id("shop"), Box::new(orders))).await;
        let client = NewClient {
            name: "Client".to_owned(),
            purpose: String::new(),
            expires: None,
            terms: ClientTerms { scopes: vec!["orders".to_owned()], audiences: vec!["shop".to_owned()] },
        };
        house.client = id(&house.done(Command::CreateClient(id("acme"), client)).await.object);
        house
    }

    async fn done(&self, command: Command) -> Done {
        let caller = self.root.clone();
        self.control.execute(Order { caller, if_match: None, idempotency: None, command }).await.unwrap()
    }

    fn revision(&self) -> Revision {
        Revision(*self.control.enforced().borrow())
    }

    /// The client, as a decision of a revision proves it.
    fn proven(&self, decided: Revision) -> ProvenClient {
        ProvenClient { credential: self.client.clone(), secret_version: 1, decided, service: id("shop") }
    }

    async fn rows(&self) -> Vec<RecordedOutcome> {
        let filter = AuditFilter { object_kind: Some("token".to_owned()), ..AuditFilter::default() };
        let paging = Paging { after: None, limit: 200 };
        let page = self.control.system_view(&self.root).unwrap().audit(&filter, paging).await.unwrap();
        page.items.into_iter().map(|row| row.outcome).collect()
    }

    async fn revoke(&self) {
        let key = KeyRef { tenant: id("acme"), kind: Kind::Client, id: self.client.clone() };
        self.done(Command::RevokeKey(key, Confirmation::Confirmed)).await;
    }

    async fn kids(&self) -> Vec<(String, TokenKeyRole)> {
        let keys = self.control.system_view(&self.root).unwrap().token_keys().await.unwrap();
        keys.into_iter().map(|key| (key.stored.record.kid, key.role)).collect()
    }
}

fn from() -> (IpAddr, String) {
    ([192, 0, 2, 1].into(), "request".to_owned())
}

fn start(writer: TokenWriter) {
    tokio::spawn(writer.work(|counted| panic!("{counted:?}")));
}

#[tokio::test]
async fn a_decision_that_a_revocation_has_overtaken_issues_nothing() {
    let house = House::new().await;
    let (desk, writer) = TokenDesk::open(&house.control);
    start(writer);
    let decided = house.revision();
    let ask = || desk.issue(house.proven(decided), Kind::Client, Ok(Asked::default()), from());
    ask().await.unwrap().unwrap();
    // A change that has nothing to do with the client takes nothing from the decision.
    let other = NewTenant {
        id: id("globex"),
        name: String::new(),
        modules: Vec::new(),
        key_limit: 3,
        rules: Default::default(),
    };
    house.done(Command::CreateTenant(other)).await;
    ask().await.unwrap().unwrap();
    house.revoke().await;
    assert_eq!(ask().await.unwrap_err(), Unanswered::Outdated(house.revision()));
    assert_eq!(house.rows().await.len(), 2, "nothing is written down of what was not issued");
}

#[tokio::test]
async fn a_revocation_that_comes_while_requests_wait_is_seen() {
    let house = House::new().await;
    let (desk, writer) = TokenDesk::open(&house.control);
    let client = house.proven(house.revision());
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let (desk, client) = (desk.clone(), client.clone());
            tokio::spawn(async move { desk.issue(client, Kind::Client, Ok(Asked::default()), from()).await })
        })
        .collect();
    tokio::task::yield_now().await;
    house.revoke().await;
    start(writer);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap_err(), Unanswered::Outdated(house.revision()));
    }
    assert!(house.rows().await.is_empty());
}

#[tokio::test]
async fn a_suspended_tenants_decision_is_overtaken_too() {
    let house = House::new().await;
    let (desk, writer) = TokenDesk::open(&house.control);
    start(writer);
    let decided = house.revision();
    let edit = TenantEdit { state: Some(TenantState::Suspended), ..TenantEdit::default() };
    house.done(Command::EditTenant(id("acme"), edit)).await;
    let asked = desk.issue(house.proven(decided), Kind::Client, Ok(Asked::default()), from()).await;
    assert_eq!(asked.unwrap_err(), Unanswered::Outdated(house.revision()));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_a_row_as_well() {
    let house = House::new().await;
    let (desk, writer) = TokenDesk::open(&house.control);
    start(writer);
    let asked = Asked { scope: Some("admin".to_owned()), audiences: Vec::new() };
    let refused = desk.issue(house.proven(house.revision()), Kind::Client, Ok(asked), from()).await.unwrap();
    assert_eq!(refused.unwrap_err().code, TokenErrorCode::InvalidScope);
    assert_eq!(house.rows().await, [RecordedOutcome::Refused { code: "invalid_scope".to_owned() }]);
}

#[tokio::test]
async fn a_full_queue_issues_nothing() {
    let house = House::new().await;
    // Nobody takes anything out.
    let (desk, _writer) = TokenDesk::open(&house.control);
    let claimed = || Claimed { client: None, proven: None, reason: "credential-missing" };
    assert!((0..4096).all(|_| desk.failed(claimed(), from()).is_ok()));
    assert_eq!(desk.failed(claimed(), from()), Err(Unanswered::Unavailable));
    let asked = desk.issue(house.proven(house.revision()), Kind::Client, Ok(Asked::default()), from()).await;
    assert_eq!(asked.unwrap_err(), Unanswered::Unavailable);
}

#[tokio::test]
async fn an_old_key_stays_until_its_last_token_is_over() {
    let house = House::new().await;
    let first = house.kids().await;
    assert_eq!(first.len(), 1);
    house.done(Command::RotateTokenKey(Takeover::Published)).await;
    let roles = |kids: &[(String, TokenKeyRole)]| kids.iter().map(|(_, role)| *role).collect::<Vec<_>>();
    assert_eq!(roles(&house.kids().await), [TokenKeyRole::Signing, TokenKeyRole::Next]);
    later(599);
    assert_eq!(roles(&house.kids().await), [TokenKeyRole::Signing, TokenKeyRole::Next]);
    later(1);
    assert_eq!(roles(&house.kids().await), [TokenKeyRole::Old, TokenKeyRole::Signing]);
    // A day is the longest life of a token, and five minutes the skew.
    later(86_400 + 299);
    house.control.keep_token_keys().await.unwrap();
    assert_eq!(house.kids().await.len(), 2);
    later(1);
    house.control.keep_token_keys().await.unwrap();
    let left = house.kids().await;
    assert_eq!(roles(&left), [TokenKeyRole::Signing]);
    assert_ne!(left[0].0, first[0].0);
    assert_eq!(house.control.jwks()["keys"].as_array().unwrap().len(), 1);
}
