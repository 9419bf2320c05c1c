//! Creations that may be repeated are written down with the change, or not at all.

use portcullis_model::id::Revision;
use portcullis_model::time::UnixTime;
use portcullis_store::{Change, Remember, Remembered, StoreError, Write};

use crate::sample::{Sandbox, at, change, id, tenant};

fn creation(key: &str, outdated: u64) -> Remember {
    Remember {
        tenant: id("acme"),
        credential: id("k1"),
        key: key.to_owned(),
        fingerprint: [9; 32],
        object: "third".to_owned(),
        outdated: at(outdated),
    }
}

fn making(from: u64, remember: Remember) -> Change {
    let writes = vec![Write::PutTenant(tenant("third"))];
    Change { remember: Some(remember), ..change(Revision(from), writes) }
}

#[tokio::test]
async fn a_creation_and_what_is_remembered_of_it_are_one() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let long_ago = UnixTime::default();
    let failed = store.commit(&making(1, creation("one", 0))).await;
    assert!(matches!(failed, Err(StoreError::Conflict { .. })), "{failed:?}");
    assert_eq!(store.remembered(&id("k1"), "one", long_ago).await.unwrap(), None);
    store.commit(&making(2, creation("one", 0))).await.unwrap();
    let found = store.remembered(&id("k1"), "one", long_ago).await.unwrap();
    let expected = Remembered { fingerprint: [9; 32], object: "third".to_owned(), revision: Revision(3) };
    assert_eq!(found, Some(expected));
    // Another credential's, another key: not this.
    assert_eq!(store.remembered(&id("k2"), "one", long_ago).await.unwrap(), None);
    assert_eq!(store.remembered(&id("k1"), "two", long_ago).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_outdated_is_not_found_and_goes() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    // The change that leads to a revision is of the time 2000 + revision.
    store.commit(&making(2, creation("one", 0))).await.unwrap();
    store.commit(&making(3, creation("two", 0))).await.unwrap();
    assert!(store.remembered(&id("k1"), "one", at(2002)).await.unwrap().is_some());
    assert!(store.remembered(&id("k1"), "one", at(2003)).await.unwrap().is_none());
    assert_eq!(store.count_remembered(&id("acme"), at(2002)).await.unwrap(), 2);
    assert_eq!(store.count_remembered(&id("acme"), at(2003)).await.unwrap(), 1);
    assert_eq!(store.count_remembered(&id("globex"), at(0)).await.unwrap(), 0);
    store.commit(&making(4, creation("three", 2003))).await.unwrap();
    assert_eq!(store.count_remembered(&id("acme"), at(0)).await.unwrap(), 2, "the first is gone");
    // The same key again, once it is outdated.
    store.commit(&making(5, creation("two", 2003))).await.unwrap();
    let again = store.remembered(&id("k1"), "two", at(0)).await.unwrap();
    assert_eq!(again.map(|found| found.revision), Some(Revision(6)));
}
