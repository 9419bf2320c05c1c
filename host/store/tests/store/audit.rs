//! The audit: what goes in comes out, and nobody changes it unnoticed.

use portcullis_model::id::Revision;
use portcullis_store::{
    AuditFault, AuditFilter, AuditReport, Channel, Entry, Origin, Outcome, Paging, RecordedOutcome, Store, Write,
};
use rusqlite::Connection;

use crate::sample::*;

/// A store with five rows of `acme`, three of `globex` between them.
async fn with_rows() -> Sandbox {
    let sandbox = Sandbox::with_tenants().await;
    for number in 0..3 {
        let rows = [
            entry("globex", "create", Outcome::Done { revision: Revision(number) }),
            entry("acme", "create", Outcome::Refused { code: "limit" }),
        ];
        sandbox.store.append_audit(&rows).await.unwrap();
    }
    sandbox
}

#[tokio::test]
async fn entries_come_back_newest_first() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let mut odd = entry("acme", "revoke", Outcome::Refused { code: "not-found" });
    odd.actor.credential = None;
    odd.actor.user = None;
    odd.origin = Origin { channel: Channel::Offline, address: None };
    odd.object = String::new();
    let usual = entry("globex", "rotate", Outcome::Done { revision: Revision(9) });
    store.append_audit(&[odd.clone(), usual.clone()]).await.unwrap();
    let page = store.audit(&AuditFilter::default(), Paging { after: None, limit: 2 }).await.unwrap();
    let [second, first] = page.items.as_slice() else { panic!("two rows") };
    for (row, entry, number) in [(first, &odd, 3), (second, &usual, 1)] {
        assert_eq!((row.number, row.at, &row.tenant), (number, entry.at, &entry.tenant));
        assert_eq!((&row.actor, row.origin), (&entry.actor, entry.origin));
        assert_eq!((row.action.as_str(), row.object_kind.as_str()), (entry.action, entry.object_kind));
        assert_eq!((&row.object, &row.details), (&entry.object, &entry.details));
    }
    assert_eq!(first.outcome, RecordedOutcome::Refused { code: "not-found".to_owned() });
    assert_eq!(second.outcome, RecordedOutcome::Done { revision: Revision(9) });
}

#[tokio::test]
async fn the_audit_has_pages() {
    let Sandbox { store, folder: _folder } = with_rows().await;
    for (tenant, count) in [(Some(id("acme")), 5), (Some(id("globex")), 3), (None, 8), (Some(id("nobody")), 0)] {
        for limit in [1, 2, 5, 8, 200] {
            let (mut ids, mut after) = (Vec::new(), None);
            loop {
                let page = store
                    .audit(&AuditFilter { tenant: tenant.clone(), ..AuditFilter::default() }, Paging { after, limit })
                    .await
                    .unwrap();
                assert!(page.items.len() <= limit as usize);
                assert!(page.items.iter().all(|row| tenant.as_ref().is_none_or(|tenant| row.tenant == *tenant)));
                ids.extend(page.items.iter().map(|row| row.id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(ids.len(), count);
            assert!(ids.is_sorted_by(|a, b| a > b));
        }
    }
}

#[tokio::test]
async fn an_untouched_audit_is_intact() {
    let Sandbox { store, folder: _folder } = with_rows().await;
    let report = store.verify_audit(None).await.unwrap();
    assert!(report.is_intact());
    let newest = |tenant: &str| {
        let chain = report.chains.iter().find(|chain| chain.tenant == id(tenant)).unwrap();
        (chain.rows, chain.newest)
    };
    for (tenant, rows) in [("acme", 5), ("globex", 3)] {
        let page = store.audit(&AuditFilter::of(&id(tenant)), Paging { after: None, limit: 1 }).await.unwrap();
        assert_eq!(newest(tenant), (rows, page.items[0].hash));
    }
    let one = store.verify_audit(Some(&id("acme"))).await.unwrap();
    assert_eq!(one.chains, report.chains[..1]);
    let none = store.verify_audit(Some(&id("nobody"))).await.unwrap();
    assert!(none.is_intact() && none.chains[0].rows == 0);
}

#[tokio::test]
async fn a_long_chain_is_verified_in_parts() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    let entries: Vec<Entry> =
        (0..1200).map(|revision| entry("acme", "create", Outcome::Done { revision: Revision(revision) })).collect();
    store.append_audit(&entries).await.unwrap();
    let report = store.verify_audit(None).await.unwrap();
    assert!(report.is_intact());
    assert_eq!(report.chains[0].rows, 1200);
}

#[tokio::test]
async fn rows_can_neither_be_edited_nor_deleted() {
    let sandbox = with_rows().await;
    let raw = sandbox.raw();
    for statement in [
        "UPDATE audit SET details = '{}'",
        "DELETE FROM audit",
        "UPDATE audit_head SET count = 1",
        "UPDATE audit_head SET hash = zeroblob(32)",
        "DELETE FROM audit_head",
    ] {
        let error = raw.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    assert!(sandbox.store.verify_audit(None).await.unwrap().is_intact());
}

/// Lets somebody with the file at hand do `statements`, and verifies.
async fn after(statements: &[&str]) -> AuditReport {
    let sandbox = with_rows().await;
    let raw = sandbox.raw();
    disarm(&raw);
    for statement in statements {
        assert!(raw.execute(statement, []).unwrap() > 0, "{statement}");
    }
    sandbox.store.verify_audit(None).await.unwrap()
}

fn disarm(raw: &Connection) {
    for trigger in
        ["audit_is_not_edited", "audit_is_not_deleted", "audit_head_goes_forward", "audit_head_is_not_deleted"]
    {
        raw.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
}

/// The faults of `acme` and `globex`, with the rows before them.
fn faults(report: &AuditReport) -> [(u64, Option<AuditFault>); 2] {
    ["acme", "globex"].map(|tenant| {
        let chain = report.chains.iter().find(|chain| chain.tenant == id(tenant)).unwrap();
        (chain.rows, chain.fault)
    })
}

#[tokio::test]
async fn an_edited_field_is_found_whichever_it_is() {
    for edit in [
        "at = at + 1",
        "actor_tenant = 'other'",
        "actor_credential = 'other'",
        "actor_credential = NULL",
        "actor_user = 'other'",
        "channel = 'cli'",
        "channel = 'smoke'",
        "address = '192.0.2.1'",
        "address = 'nowhere'",
        "action = 'edit'",
        "object_kind = 'service'",
        "object = 'k2'",
        "code = 'other'",
        "code = NULL, revision = 3",
        "details = '{}'",
        "hash = zeroblob(32)",
    ] {
        let statement = format!("UPDATE audit SET {edit} WHERE tenant = 'acme' AND number = 4");
        let report = after(&[&statement]).await;
        assert_eq!(faults(&report), [(3, Some(AuditFault::Edited { number: 4 })), (3, None)], "{edit}");
        assert!(!report.is_intact());
    }
}

#[tokio::test]
async fn a_row_that_is_gone_is_found() {
    let report = after(&["DELETE FROM audit WHERE tenant = 'acme' AND number = 2"]).await;
    assert_eq!(faults(&report), [(1, Some(AuditFault::Missing { number: 2 })), (3, None)]);
    let report = after(&["DELETE FROM audit WHERE tenant = 'acme' AND number = 1"]).await;
    assert_eq!(faults(&report), [(0, Some(AuditFault::Missing { number: 1 })), (3, None)]);
}

#[tokio::test]
async fn a_row_that_was_put_into_another_chain_is_found_in_both() {
    let report = after(&["UPDATE audit SET tenant = 'globex' WHERE tenant = 'acme' AND number = 5"]).await;
    let expected = [
        (4, Some(AuditFault::Truncated { rows: 4, head: 5 })),
        // It lies behind the newest row of `globex` and has a number that comes later.
        (3, Some(AuditFault::Missing { number: 4 })),
    ];
    assert_eq!(faults(&report), expected);
}

#[tokio::test]
async fn swapped_rows_are_found() {
    let second = "(SELECT seq FROM audit WHERE tenant = 'acme' AND number = 2)";
    let third = "(SELECT seq FROM audit WHERE tenant = 'acme' AND number = 3)";
    let report = after(&[
        &format!("INSERT INTO audit_head VALUES ('swap-a', {second}, zeroblob(32)), ('swap-b', {third}, zeroblob(32))"),
        "UPDATE audit SET seq = -1 WHERE tenant = 'acme' AND number = 2",
        "UPDATE audit SET seq = (SELECT count FROM audit_head WHERE tenant = 'swap-a') WHERE tenant = 'acme' AND number = 3",
        "UPDATE audit SET seq = (SELECT count FROM audit_head WHERE tenant = 'swap-b') WHERE seq = -1",
        "DELETE FROM audit_head WHERE tenant LIKE 'swap-%'",
    ])
    .await;
    assert_eq!(faults(&report), [(1, Some(AuditFault::Reordered { number: 2 })), (3, None)]);
    // The same by giving them each other's numbers.
    let report = after(&[
        "UPDATE audit SET number = -2 WHERE tenant = 'acme' AND number = 2",
        "UPDATE audit SET number = 2 WHERE tenant = 'acme' AND number = 3",
        "UPDATE audit SET number = 3 WHERE tenant = 'acme' AND number = -2",
    ])
    .await;
    assert_eq!(faults(&report), [(1, Some(AuditFault::Reordered { number: 2 })), (3, None)]);
}

#[tokio::test]
async fn a_tail_that_was_cut_off_is_found_by_the_head() {
    let report = after(&["DELETE FROM audit WHERE tenant = 'acme' AND number > 3"]).await;
    assert_eq!(faults(&report), [(3, Some(AuditFault::Truncated { rows: 3, head: 5 })), (3, None)]);
    let report = after(&["DELETE FROM audit WHERE tenant = 'acme'"]).await;
    assert_eq!(faults(&report), [(0, Some(AuditFault::Truncated { rows: 0, head: 5 })), (3, None)]);
}

#[tokio::test]
async fn a_head_that_does_not_belong_to_the_rows_is_found() {
    for statement in [
        "DELETE FROM audit_head WHERE tenant = 'acme'",
        "UPDATE audit_head SET count = 4 WHERE tenant = 'acme'",
        "UPDATE audit_head SET hash = zeroblob(32) WHERE tenant = 'acme'",
    ] {
        assert_eq!(faults(&after(&[statement]).await), [(5, Some(AuditFault::Head)), (3, None)], "{statement}");
    }
}

#[tokio::test]
async fn what_a_witness_is_for_is_not_found() {
    // With rows and head cut alike nothing in the file tells; an exported hash does.
    let report = after(&[
        "UPDATE audit_head SET count = 4, hash = (SELECT hash FROM audit WHERE tenant = 'acme' AND number = 4)
         WHERE tenant = 'acme'",
        "DELETE FROM audit WHERE tenant = 'acme' AND number = 5",
    ])
    .await;
    assert_eq!(faults(&report), [(4, None), (3, None)]);
}

#[tokio::test]
async fn a_change_and_its_entries_are_one() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let revision = commit(&store, vec![Write::PutService(service("shop", None))]).await.unwrap();
    assert_eq!(newest_outcome(&store).await, RecordedOutcome::Done { revision });
    commit(&store, vec![Write::PutUser(user("nobody", "ann", None))]).await.unwrap_err();
    assert_eq!(newest_outcome(&store).await, RecordedOutcome::Done { revision });
}

async fn newest_outcome(store: &Store) -> RecordedOutcome {
    store.audit(&AuditFilter::default(), Paging { after: None, limit: 1 }).await.unwrap().items.remove(0).outcome
}
