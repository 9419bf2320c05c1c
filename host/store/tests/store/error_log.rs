//! The error log: shares by number and by size, and what is found by what.

use portcullis_store::{ErrorFilter, ErrorLogSettings, NewErrorEntry, Paging, Store, Write};

use crate::sample::*;

fn entry(number: u64) -> NewErrorEntry {
    NewErrorEntry {
        tenant: Some(id("acme")),
        proven: true,
        decision: number,
        at: at(number),
        credential: Some("k".to_owned()),
        endpoint: Some("shop/events".to_owned()),
        reason: "upstream-status".to_owned(),
        status: 500,
        call: "{}".to_owned(),
        max_entries: 3,
        max_bytes: 1 << 20,
    }
}

/// The decisions of a tenant's entries, the newest first.
async fn kept(store: &Store, tenant: Option<&str>) -> Vec<u64> {
    let tenant = tenant.map(id);
    let page = store.errors(tenant.as_ref(), &ErrorFilter::default(), ALL).await.unwrap();
    page.items.into_iter().map(|entry| entry.decision).collect()
}

#[tokio::test]
async fn the_oldest_go_first_where_there_are_more_than_may_be() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    store.append_errors(&[entry(1), entry(2), entry(3)]).await.unwrap();
    assert_eq!(kept(&store, Some("acme")).await, [3, 2, 1]);
    store.append_errors(&[entry(4)]).await.unwrap();
    assert_eq!(kept(&store, Some("acme")).await, [4, 3, 2]);
    // Strangers and others have shares of their own.
    let stranger = |number| NewErrorEntry { proven: false, credential: None, ..entry(number) };
    let nobody = |number| NewErrorEntry { tenant: None, ..stranger(number) };
    let many = (10..20).flat_map(|number| [stranger(number), nobody(number)]);
    store.append_errors(&many.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(kept(&store, Some("acme")).await, [19, 18, 17, 4, 3, 2]);
    assert_eq!(kept(&store, None).await, [19, 18, 17]);
    assert_eq!(kept(&store, Some("globex")).await, [] as [u64; 0]);
    // A smaller share holds from the next entry on, over more than is deleted at once.
    let wide = |number| NewErrorEntry { max_entries: 10_000, ..entry(number) };
    store.append_errors(&(100..700).map(wide).collect::<Vec<_>>()).await.unwrap();
    store.append_errors(&[NewErrorEntry { max_entries: 1, ..entry(700) }]).await.unwrap();
    assert_eq!(kept(&store, Some("acme")).await, [700, 19, 18, 17]);
}

#[tokio::test]
async fn bytes_are_bounded_like_entries() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    // A row counts 128 bytes and its call.
    let sized = |number, bytes: usize| NewErrorEntry { call: "x".repeat(bytes - 128), max_bytes: 600, ..entry(number) };
    store.append_errors(&[sized(1, 200), sized(2, 200), sized(3, 200)]).await.unwrap();
    assert_eq!(kept(&store, Some("acme")).await, [3, 2, 1]);
    store.append_errors(&[sized(4, 201)]).await.unwrap();
    assert_eq!(kept(&store, Some("acme")).await, [4, 3], "601 bytes are one too many");
    store.append_errors(&[sized(5, 601)]).await.unwrap();
    assert_eq!(kept(&store, Some("acme")).await, [] as [u64; 0], "one that is too large by itself does not stay");
    store.append_errors(&[sized(6, 600)]).await.unwrap();
    assert_eq!(kept(&store, Some("acme")).await, [6]);
}

#[tokio::test]
async fn entries_are_found_by_what_they_are_and_page_by_page() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    let all = (1..=3).map(|number| NewErrorEntry { status: 499 + u16::try_from(number).unwrap(), ..entry(number) });
    store.append_errors(&all.collect::<Vec<_>>()).await.unwrap();
    let found = async |filter: ErrorFilter| -> Vec<u64> {
        let page = store.errors(Some(&id("acme")), &filter, ALL).await.unwrap();
        page.items.into_iter().map(|entry| entry.decision).collect()
    };
    assert_eq!(found(ErrorFilter { since: Some(at(2)), ..ErrorFilter::default() }).await, [3, 2]);
    assert_eq!(found(ErrorFilter { until: Some(at(2)), ..ErrorFilter::default() }).await, [1]);
    assert_eq!(found(ErrorFilter { status: Some(501), ..ErrorFilter::default() }).await, [2]);
    let other = Some("other".to_owned());
    assert_eq!(found(ErrorFilter { credential: other.clone(), ..ErrorFilter::default() }).await, [] as [u64; 0]);
    assert_eq!(found(ErrorFilter { endpoint: other.clone(), ..ErrorFilter::default() }).await, [] as [u64; 0]);
    assert_eq!(found(ErrorFilter { reason: other, ..ErrorFilter::default() }).await, [] as [u64; 0]);
    let first =
        store.errors(Some(&id("acme")), &ErrorFilter::default(), Paging { after: None, limit: 2 }).await.unwrap();
    let second = Paging { after: first.next, limit: 2 };
    let second = store.errors(Some(&id("acme")), &ErrorFilter::default(), second).await.unwrap();
    assert_eq!((first.items.len(), second.items.len(), second.next), (2, 1, None));
    let newest = &first.items[0];
    assert_eq!(store.error_entry(newest.id).await.unwrap().as_ref(), Some(newest));
    assert_eq!(store.error_of(3).await.unwrap().as_ref(), Some(newest));
    assert_eq!(store.error_of(99).await.unwrap(), None);
}

#[tokio::test]
async fn settings_come_back_as_they_were_put() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    assert_eq!(store.error_log_settings(&id("acme")).await.unwrap(), None);
    for max_entries in [7, 8] {
        let settings = ErrorLogSettings { enabled: false, max_entries, ..ErrorLogSettings::default() };
        let write = Write::PutErrorLogSettings { tenant: id("acme"), settings: settings.clone() };
        let to = commit(&store, vec![write]).await.unwrap();
        let stored = store.error_log_settings(&id("acme")).await.unwrap().unwrap();
        assert_eq!((stored.record, stored.changed), (settings.clone(), to));
        assert_eq!(store.all_error_log_settings().await.unwrap(), [(id("acme"), settings)]);
    }
}
