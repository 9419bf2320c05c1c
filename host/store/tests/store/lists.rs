//! Lists, their pages, and the counts that rules are made of.

use portcullis_model::credential::Kind;
use portcullis_model::id::Id;
use portcullis_model::source::{CredentialState, SignatureMode};
use portcullis_store::{
    CredentialFilter, FeedRecord, GroupUse, MAX_PAGE, Page, Paging, Referring, Store, StoreError, Stored, Write,
};

use crate::sample::*;

/// Follows a list to its end and says how long each page was.
async fn pages<T, F>(limit: u32, mut page: impl FnMut(Paging) -> F) -> (Vec<T>, Vec<usize>)
where
    F: Future<Output = Result<Page<Stored<T>>, StoreError>>,
{
    let (mut records, mut lengths, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = page(Paging { after, limit }).await.unwrap();
        lengths.push(page.items.len());
        records.extend(page.items.into_iter().map(|stored| stored.record));
        match page.next {
            Some(_) => after = page.next,
            None => return (records, lengths),
        }
    }
}

#[tokio::test]
async fn every_list_has_pages() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    commit(&store, names.map(|name| Write::PutTenant(tenant(name))).to_vec()).await.unwrap();
    let mut writes = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        writes.push(Write::PutGroup(group("a", name, &[])));
        writes.push(Write::PutApplication(application("a", name)));
        writes.push(Write::PutUser(user("a", name, None)));
        writes.push(Write::PutCredential(key("a", name, number as u64)));
        // Another tenant's rows lie between.
        writes.push(Write::PutGroup(group("b", name, &[])));
        writes.push(Write::PutApplication(application("b", name)));
        writes.push(Write::PutUser(user("b", name, None)));
        writes.push(Write::PutCredential(key("b", &format!("b-{name}"), 100 + number as u64)));
    }
    commit(&store, writes).await.unwrap();
    let tenant = &id("a");
    // Seven records: pages of exactly all, one more and one fewer than there are.
    for (limit, expected) in [(7, vec![7]), (8, vec![7]), (6, vec![6, 1]), (3, vec![3, 3, 1]), (0, vec![1; 7])] {
        let (records, lengths) = pages(limit, |paging| store.tenants(paging)).await;
        assert_eq!(lengths, expected);
        assert_eq!(records, names.map(crate::sample::tenant));
        let (records, lengths) = pages(limit, |paging| store.groups(tenant, paging)).await;
        assert_eq!(lengths, expected);
        assert_eq!(records, names.map(|name| group("a", name, &[])));
        let (records, lengths) = pages(limit, |paging| store.applications(tenant, paging)).await;
        assert_eq!(lengths, expected);
        assert_eq!(records, names.map(|name| application("a", name)));
        let (records, lengths) = pages(limit, |paging| store.users(tenant, paging)).await;
        assert_eq!(lengths, expected);
        assert_eq!(records, names.map(|name| user("a", name, None)));
        let filter = CredentialFilter::all(tenant.clone(), Kind::Tenant);
        let (records, lengths) = pages(limit, |paging| store.credentials(&filter, paging)).await;
        assert_eq!(lengths, expected);
        assert_eq!(records.iter().map(|record| record.credential.id.as_str()).collect::<Vec<_>>(), names);
    }
}

#[tokio::test]
async fn a_page_ends_at_its_limit_whatever_is_asked() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let applications =
        |count: u32| (0..count).map(|number| Write::PutApplication(application("acme", &number.to_string())));
    commit(&store, applications(MAX_PAGE).collect()).await.unwrap();
    let all = Paging { after: None, limit: u32::MAX };
    let page = store.applications(&id("acme"), all).await.unwrap();
    assert_eq!((page.items.len(), page.next), (MAX_PAGE as usize, None));
    commit(&store, applications(MAX_PAGE + 1).collect()).await.unwrap();
    let page = store.applications(&id("acme"), all).await.unwrap();
    assert_eq!(page.items.len(), MAX_PAGE as usize);
    let rest = store.applications(&id("acme"), Paging { after: page.next, limit: u32::MAX }).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    let beyond = Paging { after: Some(u64::MAX), limit: 1 };
    assert_eq!(store.applications(&id("acme"), beyond).await.unwrap().items, []);
}

#[tokio::test]
async fn a_page_goes_on_where_the_one_before_ended_whatever_changes_meanwhile() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let put = |name: &str| Write::PutApplication(application("acme", name));
    commit(&store, ["a", "b", "c"].map(put).to_vec()).await.unwrap();
    let first = store.applications(&id("acme"), Paging { after: None, limit: 2 }).await.unwrap();
    let gone = ["a", "b", "c"].map(|name| Write::RemoveApplication { tenant: id("acme"), application: id(name) });
    commit(&store, gone.to_vec()).await.unwrap();
    // A cursor is never given to a later record, even when the newest record was removed.
    commit(&store, vec![put("d")]).await.unwrap();
    let rest = store.applications(&id("acme"), Paging { after: first.next, limit: 2 }).await.unwrap();
    assert_eq!(rest.items.into_iter().map(|stored| stored.record).collect::<Vec<_>>(), [application("acme", "d")]);
}

#[tokio::test]
async fn credentials_are_filtered_by_tenant_kind_and_state() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let mut writes = Vec::new();
    let mut number = 0;
    for tenant in ["acme", "globex"] {
        for kind in Kind::ALL {
            for state in [CredentialState::Active, CredentialState::Revoked] {
                number += 1;
                let mut record = key(tenant, &format!("k{number}"), number);
                record.credential.kind = kind;
                record.credential.state = state;
                writes.push(record);
            }
        }
    }
    commit(&store, writes.iter().cloned().map(Write::PutCredential).collect()).await.unwrap();
    for tenant in ["acme", "globex"] {
        for kind in Kind::ALL {
            for state in [None, Some(CredentialState::Active), Some(CredentialState::Revoked)] {
                let filter = CredentialFilter { state, ..CredentialFilter::all(id(tenant), kind) };
                let (found, _) = pages(1, |paging| store.credentials(&filter, paging)).await;
                let admits = |credential: &&portcullis_model::source::Credential| {
                    credential.tenant == filter.tenant
                        && credential.kind == kind
                        && state.is_none_or(|state| credential.state == state)
                };
                let expected = writes.iter().map(|record| &record.credential).filter(admits);
                assert_eq!(
                    found.iter().map(|record| &record.credential).collect::<Vec<_>>(),
                    expected.collect::<Vec<_>>()
                );
            }
        }
    }
}

#[tokio::test]
async fn live_credentials_are_active_and_not_expired() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let mut revoked = key("acme", "revoked", 3);
    revoked.credential.state = CredentialState::Revoked;
    let mut other_kind = key("acme", "workspace", 4);
    other_kind.credential.kind = Kind::Workspace;
    let writes = [
        key("acme", "never", 1),
        expiring(key("acme", "at-100", 2), 100),
        revoked,
        other_kind,
        key("globex", "other", 5),
        key("acme", "deleted", 6),
    ];
    commit(&store, writes.map(Write::PutCredential).to_vec()).await.unwrap();
    commit(&store, vec![Write::RemoveCredential(id("deleted"))]).await.unwrap();
    let live = async |now| store.count_live(&id("acme"), Kind::Tenant, at(now)).await.unwrap();
    assert_eq!(live(99).await, 2);
    assert_eq!(live(100).await, 1, "expired at its expiry");
    assert_eq!(live(101).await, 1);
    assert_eq!(store.count_live(&id("nobody"), Kind::Tenant, at(0)).await.unwrap(), 0);
}

#[tokio::test]
async fn the_use_of_a_group_is_counted() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let with_group = |tenant: &str, name: &str, secret| {
        let mut record = key(tenant, name, secret);
        record.credential.group = Some(id("crm"));
        record
    };
    let mut revoked = with_group("acme", "k3", 3);
    revoked.credential.state = CredentialState::Revoked;
    let writes = vec![
        Write::PutCredential(with_group("acme", "k1", 1)),
        Write::PutCredential(expiring(with_group("acme", "k2", 2), 1)),
        Write::PutCredential(revoked),
        Write::PutCredential(with_group("globex", "k4", 4)),
        Write::PutCredential(with_group("acme", "k5", 5)),
        Write::RemoveCredential(id("k5")),
        Write::PutUser(user("acme", "ann", Some("crm"))),
        Write::PutUser(user("acme", "bob", Some("crm"))),
        Write::PutUser(user("acme", "cay", Some("other"))),
        Write::RemoveUser { tenant: id("acme"), user: id("bob") },
    ];
    commit(&store, writes).await.unwrap();
    let uses = async |tenant: &str, group: &str| store.group_use(&id(tenant), &id(group)).await.unwrap();
    assert_eq!(uses("acme", "crm").await, GroupUse { credentials: 2, members: 1 });
    assert_eq!(uses("globex", "crm").await, GroupUse { credentials: 1, members: 0 });
    assert_eq!(uses("acme", "other").await, GroupUse { credentials: 0, members: 1 });
}

#[tokio::test]
async fn what_names_a_service_is_found_until_it_does_not() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let mut management = key("acme", "m1", 1);
    management.credential.kind = Kind::Management;
    management.credential.endpoints = vec![endpoint("shop/events"), endpoint("shop/orders")];
    let mut revoked = key("globex", "m2", 2);
    revoked.credential.endpoints = vec![endpoint("shop/events")];
    revoked.credential.state = CredentialState::Revoked;
    let set = |tenant: &str, endpoint: &str| Write::PutSettings {
        tenant: id(tenant),
        settings: settings(endpoint, SignatureMode::Off),
    };
    let writes = vec![
        set("globex", "shop/events"),
        set("globex", "shop/orders"),
        set("acme", "api/users"),
        Write::PutGroup(group("acme", "crm", &["shop/events", "shop/orders", "api/users"])),
        Write::PutGroup(group("acme", "other", &["api/users"])),
        Write::PutCredential(management.clone()),
        Write::PutCredential(revoked),
    ];
    commit(&store, writes).await.unwrap();
    let expected = Referring {
        tenants: vec![id("globex")],
        groups: vec![(id("acme"), id("crm"))],
        credentials: vec![id("m1"), id("m2")],
    };
    assert_eq!(referring(&store, "shop").await, expected);
    management.credential.endpoints = vec![endpoint("api/users")];
    let writes = vec![
        Write::RemoveSettings { tenant: id("globex"), endpoint: endpoint("shop/events") },
        Write::RemoveSettings { tenant: id("globex"), endpoint: endpoint("shop/orders") },
        Write::PutGroup(group("acme", "crm", &["api/users"])),
        Write::RemoveGroup { tenant: id("acme"), group: id("other") },
        Write::PutCredential(management),
        Write::RemoveCredential(id("m2")),
    ];
    commit(&store, writes).await.unwrap();
    let nothing = Referring { tenants: Vec::new(), groups: Vec::new(), credentials: Vec::new() };
    assert_eq!(referring(&store, "shop").await, nothing);
    let expected =
        Referring { tenants: vec![id("acme")], groups: vec![(id("acme"), id("crm"))], credentials: vec![id("m1")] };
    assert_eq!(referring(&store, "api").await, expected);
}

async fn referring(store: &Store, service: &str) -> Referring {
    store.referring(&id(service)).await.unwrap()
}

#[tokio::test]
async fn what_names_a_service_is_listed_whole() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let names: Vec<Id> = (0..=MAX_PAGE).map(|number| id(&format!("g{number}"))).collect();
    let put = |name: &Id| Write::PutGroup(group("acme", name.as_str(), &["shop/events"]));
    commit(&store, names.iter().map(put).collect()).await.unwrap();
    let found = referring(&store, "shop").await.groups;
    let expected = names.iter().map(|name| (id("acme"), name.clone()));
    assert_eq!(found, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn feeds_are_listed_in_order_of_creation() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let feed = |name: &str, services: &[&str]| FeedRecord {
        id: id(name),
        services: services.iter().map(|service| id(service)).collect(),
    };
    let made = commit(&store, vec![Write::PutFeed(feed("edge", &["shop"])), Write::PutFeed(feed("dmz", &[]))]).await;
    let made = made.unwrap();
    let changed = commit(&store, vec![Write::PutFeed(feed("edge", &["shop", "wallet"]))]).await.unwrap();
    let edge = store.feed(&id("edge")).await.unwrap().unwrap();
    assert_eq!((edge.record, edge.changed), (feed("edge", &["shop", "wallet"]), changed));
    assert_eq!(edge.created, at(2000 + made.0), "a change leaves the time of its making");
    let listed: Vec<_> = store.feeds().await.unwrap().into_iter().map(|stored| stored.record.id).collect();
    assert_eq!(listed, [id("edge"), id("dmz")]);
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.feeds, [feed("edge", &["shop", "wallet"]), feed("dmz", &[])]);
    commit(&store, vec![Write::RemoveFeed(id("edge"))]).await.unwrap();
    assert_eq!(store.feed(&id("edge")).await.unwrap(), None);
}
