//! Records of decisions: found by id, listed newest first, bounded in bytes.

use portcullis_store::{DecisionFilter, DecisionItem, DecisionRecord, Gap, MAX_PAGE, Store, Which};

use crate::sample::*;

/// The id of the `count`th decision of a millisecond.
fn decision_id(ms: u64, count: u64) -> u64 {
    ((1_750_000_000_000 + ms) << 20) + count
}

/// A decision whose reason and details follow from its id.
fn record(id: u64) -> DecisionRecord {
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let reason = u16::try_from(mixed % 4).unwrap();
    DecisionRecord { id, reason, details: vec![3; usize::try_from(mixed % 50).unwrap()].into() }
}

fn id_of(item: &DecisionItem) -> u64 {
    match item {
        DecisionItem::Record(record) => record.id,
        DecisionItem::Gap(gap) => gap.last,
    }
}

/// Follows a list to its end.
async fn all(store: &Store, which: &Which, limit: u32) -> Vec<DecisionItem> {
    let (mut items, mut before) = (Vec::new(), None);
    loop {
        let page = store.decisions(&DecisionFilter { which: which.clone(), before }, limit).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        assert!(page.items.iter().all(|item| before.is_none_or(|before| id_of(item) < before)));
        items.extend(page.items);
        match page.next {
            None => return items,
            next => {
                assert!(before.is_none() || next < before, "a page leads to itself");
                before = next;
            }
        }
    }
}

/// What a list should be.
fn expected(ids: &[u64], gaps: &[Gap], which: &Which) -> Vec<DecisionItem> {
    let wanted = |record: &DecisionRecord| match which {
        Which::All => true,
        Which::Denied => record.reason != 0,
        Which::Reasons(reasons) => reasons.contains(&record.reason),
        // None of these has details.
        Which::Observed => false,
    };
    let records = ids.iter().map(|id| record(*id)).filter(wanted).map(DecisionItem::Record);
    let mut items: Vec<_> = records.chain(gaps.iter().map(|gap| DecisionItem::Gap(*gap))).collect();
    items.sort_by_key(|item| std::cmp::Reverse(id_of(item)));
    items
}

#[tokio::test]
async fn lists_and_look_ups_agree_with_what_went_in_however_it_came() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    assert_eq!(all(&store, &Which::All, 10).await, []);
    // Batches of very different sizes whose ids interleave, some over many seconds; every third batch leaves a gap.
    let (mut ids, mut gaps) = (Vec::new(), Vec::new());
    for batch in 0..12_u64 {
        let size = [1, 40, 700, 3][usize::try_from(batch % 4).unwrap()];
        let batch_ids: Vec<u64> =
            (0..size).map(|n| decision_id((batch * 700 + n * 37) % 9_000 + batch * 2_000, batch * 1000 + n)).collect();
        let records: Vec<_> = batch_ids.iter().rev().map(|id| record(*id)).collect();
        let gap = Gap {
            count: batch + 1,
            first: decision_id(batch * 2_000, 900_000 + batch),
            last: decision_id(batch * 4_000, 900_500 + batch),
        };
        let gap = (batch % 3 == 0).then_some(gap);
        store.append_decisions(&records, gap.as_slice()).await.unwrap();
        ids.extend(batch_ids);
        gaps.extend(gap);
    }
    for which in
        [Which::All, Which::Denied, Which::Reasons(vec![0]), Which::Reasons(vec![2, 3]), Which::Reasons(vec![])]
    {
        for limit in [1, 7, MAX_PAGE] {
            if limit == 1 && which == Which::All {
                continue;
            }
            assert_eq!(all(&store, &which, limit).await, expected(&ids, &gaps, &which), "{which:?}, {limit}");
        }
    }
    for id in &ids {
        assert_eq!(store.decision(*id).await.unwrap(), Some(record(*id)));
    }
    for missing in [0, decision_id(0, 1 << 19), u64::MAX, gaps[0].first] {
        assert_eq!(store.decision(missing).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_page_holds_as_many_as_it_may() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    let ids: Vec<u64> = (0..u64::from(MAX_PAGE) + 1).map(|count| decision_id(0, count)).collect();
    let records: Vec<_> = ids.iter().map(|id| record(*id)).collect();
    let everything = DecisionFilter { which: Which::All, before: None };
    let (last, rest) = records.split_last().unwrap();
    store.append_decisions(rest, &[]).await.unwrap();
    let page = store.decisions(&everything, u32::MAX).await.unwrap();
    assert_eq!((page.items.len(), page.next), (MAX_PAGE as usize, None));
    store.append_decisions(std::slice::from_ref(last), &[]).await.unwrap();
    let page = store.decisions(&everything, u32::MAX).await.unwrap();
    assert_eq!((page.items.len(), page.next), (MAX_PAGE as usize, Some(ids[1])));
    assert_eq!(store.decisions(&everything, 0).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_rare_reason_is_found_page_by_page() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    // More blocks than one page reads, each with a denial, and the wanted one at the far end.
    let rare = DecisionRecord { id: decision_id(0, 0), reason: 9, details: Box::default() };
    store.append_decisions(std::slice::from_ref(&rare), &[]).await.unwrap();
    for second in 1..300 {
        let denied = DecisionRecord { id: decision_id(second * 1_000, 0), reason: 1, details: Box::default() };
        store.append_decisions(&[denied], &[]).await.unwrap();
    }
    let first = DecisionFilter { which: Which::Reasons(vec![9]), before: None };
    let page = store.decisions(&first, 10).await.unwrap();
    assert!(page.items.is_empty() && page.next.is_some(), "the work for one page is bounded");
    assert_eq!(all(&store, &first.which, 10).await, [DecisionItem::Record(rare)]);
}

#[tokio::test]
async fn many_blocks_that_overlap_are_no_trap() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    // Each batch spans seconds and has few records: every block reaches over all of the others.
    let mut ids = Vec::new();
    for batch in 0..300 {
        let batch_ids = [decision_id(batch, 0), decision_id(5_000 + batch, 0)];
        store.append_decisions(&batch_ids.map(record), &[]).await.unwrap();
        ids.extend(batch_ids);
    }
    let which = Which::Reasons(vec![1]);
    assert_eq!(all(&store, &which, 3).await, expected(&ids, &[], &which));
}

#[tokio::test]
async fn the_oldest_are_pruned() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    let ids: Vec<u64> = (0..400).map(|second| decision_id(second * 1_000, 0)).collect();
    let size = |id: &u64| 64 + 1 + 14 + record(*id).details.len() as u64;
    for batch in ids.chunks(1) {
        store.append_decisions(&batch.iter().map(|id| record(*id)).collect::<Vec<_>>(), &[]).await.unwrap();
    }
    let gap = Gap { count: 3, first: decision_id(0, 1), last: decision_id(0, 9) };
    store.append_decisions(&[], &[gap]).await.unwrap();
    store.prune_decisions(u64::MAX).await.unwrap();
    assert_eq!(all(&store, &Which::All, 200).await.len(), 401);

    let keep: u64 = ids[250..].iter().map(size).sum();
    store.prune_decisions(keep).await.unwrap();
    assert_eq!(all(&store, &Which::All, 200).await, expected(&ids[250..], &[], &Which::All), "exactly what fits");
    store.prune_decisions(keep - 1).await.unwrap();
    assert_eq!(all(&store, &Which::All, 200).await, expected(&ids[251..], &[], &Which::All), "one byte fewer");
    assert_eq!(store.decision(ids[250]).await.unwrap(), None);
    store.prune_decisions(0).await.unwrap();
    store.prune_decisions(0).await.unwrap();
    assert_eq!(all(&store, &Which::All, 200).await, []);
    store.append_decisions(&[record(ids[0])], &[]).await.unwrap();
    assert_eq!(all(&store, &Which::All, 200).await.len(), 1);
}

#[tokio::test]
async fn decisions_are_no_change() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let before = store.snapshot().await.unwrap();
    store.append_decisions(&[record(decision_id(0, 0))], &[]).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap(), before);
}

#[tokio::test]
async fn what_a_source_gives_is_stored_once() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    let give = async |source: &str, ids: &[u64], gaps: &[Gap]| {
        let records = ids.iter().map(|id| record(*id)).collect();
        let new = store.append_fed_decisions(source.to_owned(), records, gaps.to_vec()).await.unwrap();
        new.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    // Further apart than one block reaches.
    let ids = [decision_id(0, 1), decision_id(3, 2), decision_id(20_000, 1)];
    let gap = Gap { count: 2, first: decision_id(4, 1), last: decision_id(4, 2) };
    assert_eq!(give("edge/a", &ids, &[gap]).await, ids);
    assert!(give("edge/a", &ids, &[gap]).await.is_empty());
    let later = decision_id(20_001, 1);
    assert_eq!(
        give("edge/a", &[ids[1], ids[2], later, later], &[gap]).await,
        [later],
        "twice in one batch is once too"
    );
    let expected = expected(&[ids[0], ids[1], ids[2], later], &[gap], &Which::All);
    assert_eq!(all(&store, &Which::All, 50).await, expected);
    // Neither another source nor the host itself can take the place of what this one gave, or is going to give.
    assert_eq!(give("edge/b", &[ids[0]], &[]).await, [ids[0]]);
    store.append_decisions(&[record(decision_id(9, 9))], &[]).await.unwrap();
    assert_eq!(give("edge/a", &[decision_id(9, 9)], &[]).await, [decision_id(9, 9)]);
}
