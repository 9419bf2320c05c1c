//! Uses of secrets: added up by version and by day.

use portcullis_store::{SecretUse, SecretUsed};

use crate::sample::*;

const DAY: u64 = 86_400;

fn used(version: u16, last: u64, count: u64) -> SecretUse {
    SecretUse {
        credential: id("k"),
        version,
        last: at(last),
        address: Some(format!("192.0.2.{}", last % 200).parse().unwrap()),
        count,
    }
}

#[tokio::test]
async fn uses_are_added_up_and_the_last_one_is_told_whatever_order_they_come_in() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    assert_eq!(store.uses(&[id("k")], at(0)).await.unwrap(), []);
    store.add_uses(&[used(1, 20, 5), used(2, 10, 1)]).await.unwrap();
    store.add_uses(&[used(1, 15, 2)]).await.unwrap();
    let of = |version, last: u64, count, recent| SecretUsed {
        version,
        last: at(last),
        address: Some(format!("192.0.2.{}", last % 200).parse().unwrap()),
        count,
        recent,
    };
    let found = store.uses(&[id("k"), id("never")], at(30)).await.unwrap();
    assert_eq!(found, [(id("k"), of(1, 20, 7, 7)), (id("k"), of(2, 10, 1, 1))]);
    assert_eq!(store.uses(&[], at(30)).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_recent_is_of_today_and_yesterday() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    let recent = async |now: u64| {
        let (_, used) = store.uses(&[id("k")], at(now)).await.unwrap()[0];
        (used.count, used.recent)
    };
    store.add_uses(&[used(1, DAY, 1)]).await.unwrap();
    store.add_uses(&[used(1, 2 * DAY, 10)]).await.unwrap();
    assert_eq!(recent(2 * DAY).await, (11, 11));
    assert_eq!(recent(3 * DAY).await, (11, 10));
    assert_eq!(recent(4 * DAY).await, (11, 0));
    // One that comes late counts for the day that the row is at.
    store.add_uses(&[used(1, 2 * DAY - 1, 100)]).await.unwrap();
    assert_eq!(recent(3 * DAY).await, (111, 110));
    store.add_uses(&[used(1, 5 * DAY, 1000)]).await.unwrap();
    assert_eq!(recent(5 * DAY).await, (1111, 1000));
}
