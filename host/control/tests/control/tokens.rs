//! What control promises of tokens: none is issued on a decision that a change has overtaken, none leaves without its row,
//! and keys that sign stay as long as their tokens.

use std::net::IpAddr;

use portcullis_control::store::{AuditFilter, ClientTerms, Paging, RecordedOutcome};
use portcullis_control::{
    Asked, Claimed, Command, Confirmation, KeyRef, NewClient, ProvenClient, Takeover, TenantEdit, TokenDesk,
    TokenErrorCode, TokenKeyRole, TokenWriter, Unanswered,
};
use portcullis_model::credential::Kind;
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{Endpoint, TenantState};

use crate::house::{House, id, later, service, tenant};

/// An installation with a client, which has a scope of a service.
struct Office {
    house: House,
    client: Id,
}

impl Office {
    async fn new() -> Office {
        let house = House::bare().await;
        house.done(tenant("acme", &[])).await;
        let mut shop = service("shop");
        shop.delivery.reserved_prefix = Some("/own".to_owned());
        house.done(Command::CreateService(shop)).await;
        let orders = serde_json::json!({ "id": "orders", "paths": ["/orders"], "scope": "orders" });
        let orders: Endpoint = serde_json::from_value(orders).unwrap();
        house.done(Command::PutEndpoint(id("shop"), Box::new(orders))).await;
        let client = NewClient {
            name: "Client".to_owned(),
            purpose: String::new(),
            expires: None,
            terms: ClientTerms { scopes: vec!["orders".to_owned()], audiences: vec!["shop".to_owned()] },
        };
        let client = id(&house.done(Command::CreateClient(id("acme"), client)).await.object);
        Office { house, client }
    }

    fn revision(&self) -> Revision {
        Revision(*self.house.control.enforced().borrow())
    }

    /// The client, as a decision of a revision proves it.
    fn proven(&self, decided: Revision) -> ProvenClient {
        ProvenClient { credential: self.client.clone(), secret_version: 1, decided, service: id("shop") }
    }

    async fn rows(&self) -> Vec<RecordedOutcome> {
        let filter = AuditFilter { object_kind: Some("token".to_owned()), ..AuditFilter::default() };
        let paging = Paging { after: None, limit: 200 };
        let page = self.house.control.system_view(&self.house.root).unwrap().audit(&filter, paging).await.unwrap();
        page.items.into_iter().map(|row| row.outcome).collect()
    }

    async fn revoke(&self) {
        let key = KeyRef { tenant: id("acme"), kind: Kind::Client, id: self.client.clone() };
        self.house.done(Command::RevokeKey(key, Confirmation::Confirmed)).await;
    }

    async fn kids(&self) -> Vec<(String, TokenKeyRole)> {
        let keys = self.house.control.system_view(&self.house.root).unwrap().token_keys().await.unwrap();
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
    let office = Office::new().await;
    let (desk, writer) = TokenDesk::open(&office.house.control);
    start(writer);
    let decided = office.revision();
    let ask = || desk.issue(office.proven(decided), Kind::Client, Ok(Asked::default()), from());
    ask().await.unwrap().unwrap();
    // A change that has nothing to do with the client takes nothing from the decision.
    office.house.done(tenant("globex", &[])).await;
    ask().await.unwrap().unwrap();
    office.revoke().await;
    assert_eq!(ask().await.unwrap_err(), Unanswered::Outdated(office.revision()));
    assert_eq!(office.rows().await.len(), 2, "nothing is written down of what was not issued");
}

#[tokio::test]
async fn a_revocation_that_comes_while_requests_wait_is_seen() {
    let office = Office::new().await;
    let (desk, writer) = TokenDesk::open(&office.house.control);
    let client = office.proven(office.revision());
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let (desk, client) = (desk.clone(), client.clone());
            tokio::spawn(async move { desk.issue(client, Kind::Client, Ok(Asked::default()), from()).await })
        })
        .collect();
    tokio::task::yield_now().await;
    office.revoke().await;
    start(writer);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap_err(), Unanswered::Outdated(office.revision()));
    }
    assert!(office.rows().await.is_empty());
}

#[tokio::test]
async fn a_suspended_tenants_decision_is_overtaken_too() {
    let office = Office::new().await;
    let (desk, writer) = TokenDesk::open(&office.house.control);
    start(writer);
    let decided = office.revision();
    let edit = TenantEdit { state: Some(TenantState::Suspended), ..TenantEdit::default() };
    office.house.done(Command::EditTenant(id("acme"), edit)).await;
    let asked = desk.issue(office.proven(decided), Kind::Client, Ok(Asked::default()), from()).await;
    assert_eq!(asked.unwrap_err(), Unanswered::Outdated(office.revision()));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_a_row_as_well() {
    let office = Office::new().await;
    let (desk, writer) = TokenDesk::open(&office.house.control);
    start(writer);
    let asked = Asked { scope: Some("admin".to_owned()), audiences: Vec::new() };
    let refused = desk.issue(office.proven(office.revision()), Kind::Client, Ok(asked), from()).await.unwrap();
    assert_eq!(refused.unwrap_err().code, TokenErrorCode::InvalidScope);
    assert_eq!(office.rows().await, [RecordedOutcome::Refused { code: "invalid_scope".to_owned() }]);
}

#[tokio::test]
async fn a_full_queue_issues_nothing() {
    let office = Office::new().await;
    // Nobody takes anything out.
    let (desk, _writer) = TokenDesk::open(&office.house.control);
    let claimed = || Claimed { client: None, proven: None, reason: "credential-missing" };
    assert!((0..4096).all(|_| desk.failed(claimed(), from()).is_ok()));
    assert_eq!(desk.failed(claimed(), from()), Err(Unanswered::Unavailable));
    let asked = desk.issue(office.proven(office.revision()), Kind::Client, Ok(Asked::default()), from()).await;
    assert_eq!(asked.unwrap_err(), Unanswered::Unavailable);
}

#[tokio::test]
async fn an_old_key_stays_until_its_last_token_is_over() {
    let office = Office::new().await;
    let first = office.kids().await;
    assert_eq!(first.len(), 1);
    office.house.done(Command::RotateTokenKey(Takeover::Published)).await;
    let roles = |kids: &[(String, TokenKeyRole)]| kids.iter().map(|(_, role)| *role).collect::<Vec<_>>();
    assert_eq!(roles(&office.kids().await), [TokenKeyRole::Signing, TokenKeyRole::Next]);
    later(599);
    assert_eq!(roles(&office.kids().await), [TokenKeyRole::Signing, TokenKeyRole::Next]);
    later(1);
    assert_eq!(roles(&office.kids().await), [TokenKeyRole::Old, TokenKeyRole::Signing]);
    // A day is the longest life of a token, and five minutes the skew.
    later(86_400 + 299);
    office.house.control.keep_token_keys().await.unwrap();
    assert_eq!(office.kids().await.len(), 2);
    later(1);
    office.house.control.keep_token_keys().await.unwrap();
    let left = office.kids().await;
    assert_eq!(roles(&left), [TokenKeyRole::Signing]);
    assert_ne!(left[0].0, first[0].0);
    assert_eq!(office.house.control.jwks()["keys"].as_array().unwrap().len(), 1);
}
