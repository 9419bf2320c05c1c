//! Many new credentials at once, and how many are live.

use portcullis_model::credential::Kind;
use portcullis_model::source::{CredentialState, SecretVersion};
use portcullis_store::{CredentialFilter, Paging, StoreError, TakenDigest, Write};

use crate::sample::{Sandbox, at, cidrs, commit, digest, endpoint, expiring, id, key};

const DAY: u64 = 86_400;

#[tokio::test]
async fn credentials_that_are_added_at_once_are_as_those_that_are_put() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    commit(&store, vec![Write::PutCredential(key("acme", "first", 1_000_000))]).await.unwrap();
    // More than one statement takes, and a last one that is not full.
    let mut records: Vec<_> = (1..=250).map(|number| key("acme", &format!("k{number}"), number)).collect();
    records[7] = expiring(records[7].clone(), 5 * DAY);
    records[8].credential.ip_allowlist = cidrs(&["192.0.2.0/24"]);
    records[9].credential.endpoints = vec![endpoint("shop/events"), endpoint("shop/orders")];
    records[10].credential.secrets.push(SecretVersion {
        version: 2,
        sha256: digest(77_777),
        until: None,
        signing_slot: None,
    });
    records[11].sealed_key = Some(vec![1, 2, 3]);
    commit(&store, vec![Write::AddCredentials(records.clone())]).await.unwrap();
    let filter = CredentialFilter::all(id("acme"), Kind::Tenant);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.credentials(&filter, Paging { after, limit: 100 }).await.unwrap();
        found.extend(page.items.into_iter().map(|stored| stored.record));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found[0], key("acme", "first", 1_000_000));
    assert_eq!(found[1..], records);
    assert_eq!(store.referring(&id("shop")).await.unwrap().credentials, [id("k10")]);
    assert_eq!(store.count_live(&id("acme"), Kind::Tenant, at(DAY)).await.unwrap(), 251);
}

#[tokio::test]
async fn one_that_is_not_new_undoes_them_all() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let both = [key("acme", "k1", 1), key("acme", "k2", 2)].map(Write::PutCredential).to_vec();
    commit(&store, both).await.unwrap();
    commit(&store, vec![Write::RemoveCredential(id("k2"))]).await.unwrap();
    let error = |records| async { commit(&store, vec![Write::AddCredentials(records)]).await.unwrap_err() };
    let taken = error(vec![key("acme", "new", 3), key("acme", "k1", 4)]).await;
    assert!(matches!(&taken, StoreError::IdTaken { id } if id.as_str() == "k1"), "{taken:?}");
    let deleted = error(vec![key("acme", "new", 3), key("acme", "k2", 4)]).await;
    assert!(matches!(&deleted, StoreError::IdTaken { id } if id.as_str() == "k2"), "{deleted:?}");
    let twice = error(vec![key("acme", "new", 3), key("acme", "new", 4)]).await;
    assert!(matches!(&twice, StoreError::IdTaken { id } if id.as_str() == "new"), "{twice:?}");
    let digest_of_another = error(vec![key("acme", "new", 1)]).await;
    assert!(matches!(digest_of_another, StoreError::DuplicateDigest), "{digest_of_another:?}");
    assert!(store.credential(&id("new")).await.unwrap().is_none());
    assert_eq!(store.count_live(&id("acme"), Kind::Tenant, at(1)).await.unwrap(), 1);

    let of = |number, name: &str| TakenDigest { sha256: digest(number), tenant: id("acme"), credential: id(name) };
    let digests = [digest(1), digest(2), digest(3), digest(5)];
    let found = async || {
        let mut found = store.taken_digests(&digests).await.unwrap();
        found.sort_by(|a, b| a.credential.cmp(&b.credential).then(a.sha256.cmp(&b.sha256)));
        found
    };
    assert_eq!(found().await, [of(1, "k1"), of(2, "k2")], "a deleted one keeps its digest from coming back");
    let mut rotated = key("acme", "k1", 5);
    rotated.credential.secrets[0].version = 2;
    commit(&store, vec![Write::PutCredential(rotated.clone())]).await.unwrap();
    rotated.name = "Edited".to_owned();
    commit(&store, vec![Write::PutCredential(rotated)]).await.unwrap();
    assert_eq!(found().await, [of(5, "k1"), of(1, "k1"), of(2, "k2")], "and so does a rotated one");
    let ids = store.taken_credential_ids(&["k1", "k2", "k3"].map(id)).await.unwrap();
    assert_eq!(ids, ["k1", "k2"].map(id), "a deleted one keeps its id");
}

#[tokio::test]
async fn live_credentials_are_counted_to_the_second() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let noon = 10 * DAY + DAY / 2;
    let records = vec![
        key("acme", "never", 1),
        expiring(key("acme", "noon", 2), noon),
        expiring(key("acme", "evening", 3), noon + 3600),
        expiring(key("acme", "midnight", 4), 11 * DAY),
        expiring(key("acme", "past", 5), 3 * DAY),
    ];
    commit(&store, vec![Write::AddCredentials(records.clone())]).await.unwrap();
    let live = async |now| store.count_live(&id("acme"), Kind::Tenant, at(now)).await.unwrap();
    for (now, count) in [(1, 5), (3 * DAY, 4), (noon - 1, 4), (noon, 3), (noon + 3600, 2), (11 * DAY, 1)] {
        assert_eq!(live(now).await, count, "at {now}");
    }
    // Each way in which one begins or ceases to be live.
    let mut revoked = records[0].clone();
    revoked.credential.state = CredentialState::Revoked;
    commit(&store, vec![Write::PutCredential(revoked)]).await.unwrap();
    assert_eq!(live(1).await, 4);
    commit(&store, vec![Write::PutCredential(expiring(records[4].clone(), 20 * DAY))]).await.unwrap();
    assert_eq!((live(3 * DAY).await, live(15 * DAY).await), (4, 1));
    commit(&store, vec![Write::RemoveCredential(id("past"))]).await.unwrap();
    assert_eq!((live(3 * DAY).await, live(15 * DAY).await), (3, 0));
    assert_eq!(store.count_live(&id("globex"), Kind::Tenant, at(1)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_snapshot_that_two_connections_read_is_whole_and_in_order() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let records: Vec<_> = (0..20_500).map(|number| key("acme", &format!("k{number}"), number)).collect();
    commit(&store, vec![Write::AddCredentials(records.clone())]).await.unwrap();
    commit(&store, vec![Write::RemoveCredential(id("k7"))]).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let kept = records.into_iter().map(|record| record.credential).filter(|credential| credential.id != id("k7"));
    assert!(snapshot.credentials == kept.collect::<Vec<_>>());
    assert_eq!(snapshot.revision, store.revision().await.unwrap());
    assert!(store.snapshot_unhurried().unwrap() == snapshot, "by one connection it is the same");
}
