//! What the audit is checked by: checkpoints, stubs, filters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_model::id::Revision;
use portcullis_store::{
    Against, AuditFault, AuditFilter, ChainReport, Entry, Notary, Outcome, OutcomeFilter, Paging, Pruned, Retention,
    StoreError,
};

use crate::sample::*;

/// Signs with the digest itself: a signature that anybody could make, which the store cannot know.
fn notary() -> Notary {
    let signed = |digest: &[u8; 32]| [*digest, *digest].concat().try_into().unwrap();
    Notary { sign: Arc::new(signed), has_signed: Arc::new(move |digest, signature| signed(digest) == *signature) }
}

fn told(at: portcullis_model::time::UnixTime, revision: Revision, pruned: Pruned) -> Entry {
    let details = format!("{{\"removed\":{}}}", pruned.rows);
    Entry { at, details, ..entry("system", "prune", Outcome::Done { revision }) }
}

/// Adds entries of a tenant, the first at second `from` and each one second later.
async fn add(sandbox: &Sandbox, tenant: &str, from: u64, count: u64) {
    let entries: Vec<Entry> = (from..from + count)
        .map(|second| Entry { at: at(second), ..entry(tenant, "create", Outcome::Done { revision: Revision(second) }) })
        .collect();
    sandbox.store.append_audit(&entries).await.unwrap();
}

/// Lets somebody with the file at hand do `statements`.
fn tamper(sandbox: &Sandbox, statements: &[&str]) {
    let raw = sandbox.raw();
    let triggers: Vec<String> = {
        let query = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'audit_%'";
        let mut query = raw.prepare(query).unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    for trigger in triggers {
        raw.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    for statement in statements {
        assert!(raw.execute(statement, []).unwrap() > 0, "{statement}");
    }
}

async fn chain(sandbox: &Sandbox, tenant: &str) -> ChainReport {
    sandbox.store.verify_audit(Some(&id(tenant))).await.unwrap().chains.remove(0)
}

#[tokio::test]
async fn a_checkpoint_has_every_chain_and_is_made_when_there_is_something_new() {
    let sandbox = Sandbox::with_tenants().await;
    add(&sandbox, "globex", 10, 3).await;
    assert_eq!(sandbox.store.unsigned_rows().await.unwrap(), 5);
    let first = sandbox.store.sign_checkpoint(at(20), &notary()).await.unwrap();
    assert!(first.is_new && first.broken.is_empty());
    let marks: Vec<_> = first.checkpoint.chains.iter().map(|mark| (mark.tenant.as_str(), mark.count)).collect();
    assert_eq!((first.checkpoint.number, marks), (1, vec![("acme", 2), ("globex", 3)]));
    assert_eq!(sandbox.store.unsigned_rows().await.unwrap(), 0);
    let same = sandbox.store.sign_checkpoint(at(30), &notary()).await.unwrap();
    assert_eq!((same.is_new, same.checkpoint), (false, first.checkpoint.clone()));
    add(&sandbox, "globex", 40, 1).await;
    let second = sandbox.store.sign_checkpoint(at(50), &notary()).await.unwrap().checkpoint;
    assert_eq!((second.number, second.chains[0].clone()), (2, first.checkpoint.chains[0].clone()));
    let report = sandbox.store.verify_audit(None).await.unwrap();
    assert!(report.is_intact());
    assert_eq!(report.checkpoint, Some(second));
}

#[tokio::test]
async fn what_was_signed_can_neither_be_cut_nor_made_anew() {
    let cut = [
        "UPDATE audit_head SET count = 4, hash = (SELECT hash FROM audit WHERE tenant = 'acme' AND number = 4) WHERE tenant = 'acme'",
        "DELETE FROM audit WHERE tenant = 'acme' AND number > 4",
    ];
    let sandbox = Sandbox::empty().await;
    add(&sandbox, "acme", 10, 6).await;
    sandbox.store.sign_checkpoint(at(20), &notary()).await.unwrap();
    tamper(&sandbox, &cut);
    let fault = AuditFault::Cut { rows: 4, number: 6, against: Against::Checkpoint };
    assert_eq!(chain(&sandbox, "acme").await.fault, Some(fault));
    // New rows on top are written, and never signed.
    add(&sandbox, "acme", 30, 2).await;
    let fault = AuditFault::Recomputed { number: 6, against: Against::Checkpoint };
    assert_eq!(chain(&sandbox, "acme").await.fault, Some(fault));
    let next = sandbox.store.sign_checkpoint(at(40), &notary()).await.unwrap();
    assert!(!next.is_new && next.broken.len() == 1, "{next:?}");
    assert_eq!(chain(&sandbox, "acme").await.fault, Some(fault));
    // Other chains are signed all the same.
    add(&sandbox, "globex", 50, 1).await;
    let next = sandbox.store.sign_checkpoint(at(60), &notary()).await.unwrap();
    assert!(next.is_new && next.broken.len() == 1, "{next:?}");
    assert_eq!(chain(&sandbox, "acme").await.fault, Some(fault));
    assert_eq!(chain(&sandbox, "globex").await.fault, None);
}

#[tokio::test]
async fn a_checkpoint_that_was_changed_is_not_signed_over() {
    for statements in [
        ["UPDATE audit_mark SET count = 1"].as_slice(),
        &["UPDATE audit_mark SET hash = zeroblob(32)"],
        &["DELETE FROM audit_mark"],
        &["UPDATE audit_checkpoint SET number = 7"],
        &["UPDATE audit_checkpoint SET revision = 7"],
        &["UPDATE audit_checkpoint SET signature = zeroblob(64)"],
        &["DELETE FROM audit_checkpoint"],
        &[
            "INSERT INTO audit_stub VALUES ('acme', 1, (SELECT hash FROM audit WHERE number = 1), 0)",
            "DELETE FROM audit WHERE number = 1",
        ],
    ] {
        let sandbox = Sandbox::empty().await;
        add(&sandbox, "acme", 10, 3).await;
        sandbox.store.sign_checkpoint(at(20), &notary()).await.unwrap();
        tamper(&sandbox, statements);
        add(&sandbox, "acme", 30, 1).await;
        let error = sandbox.store.sign_checkpoint(at(40), &notary()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unsigned), "{statements:?}: {error:?}");
        let all = Retention { before: Some(at(1000)), keep_rows: None };
        let error = sandbox.store.prune_audit(all, at(50), &notary(), told).await;
        assert!(matches!(error, Err(StoreError::Unsigned)), "{statements:?}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_old_goes_behind_a_stub_and_the_chain_goes_on() {
    let sandbox = Sandbox::empty().await;
    add(&sandbox, "acme", 100, 50).await;
    add(&sandbox, "globex", 120, 10).await;
    let by_age = Retention { before: Some(at(125)), keep_rows: None };
    // What is not signed stays.
    assert_eq!(sandbox.store.prune_audit(by_age, at(200), &notary(), told).await.unwrap(), Pruned::default());
    sandbox.store.sign_checkpoint(at(200), &notary()).await.unwrap();
    let pruned = sandbox.store.prune_audit(by_age, at(201), &notary(), told).await.unwrap();
    assert_eq!(pruned, Pruned { chains: 2, rows: 25 + 5 });
    assert_eq!(sandbox.store.prune_audit(by_age, at(202), &notary(), told).await.unwrap(), Pruned::default());
    let report = sandbox.store.verify_audit(None).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
    let of = |report: &ChainReport| (report.removed, report.rows);
    assert_eq!(report.chains.iter().map(of).collect::<Vec<_>>(), [(25, 50), (5, 10), (0, 1)]);
    let checkpoint = report.checkpoint.unwrap();
    assert_eq!(checkpoint.chains[0].stub.map(|stub| stub.number), Some(25));

    let by_count = Retention { before: None, keep_rows: Some(10) };
    let pruned = sandbox.store.prune_audit(by_count, at(300), &notary(), told).await.unwrap();
    assert_eq!(pruned, Pruned { chains: 1, rows: 15 });
    add(&sandbox, "acme", 400, 1).await;
    let report = sandbox.store.verify_audit(None).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.chains.iter().map(of).collect::<Vec<_>>(), [(40, 51), (5, 10), (0, 2)]);

    // All of a chain may go, it does not begin anew; but the newest row of all stays, so that its id is not given again.
    sandbox.store.sign_checkpoint(at(500), &notary()).await.unwrap();
    let all = Retention { before: Some(at(1000)), keep_rows: None };
    sandbox.store.prune_audit(all, at(500), &notary(), told).await.unwrap();
    add(&sandbox, "acme", 600, 1).await;
    let acme = chain(&sandbox, "acme").await;
    assert_eq!((of(&acme), acme.fault), ((50, 52), None));
    let next = sandbox.store.sign_checkpoint(at(700), &notary()).await.unwrap();
    assert!(next.is_new && next.broken.is_empty(), "{next:?}");
    sandbox.store.prune_audit(all, at(800), &notary(), told).await.unwrap();
    let left = sandbox.store.audit(&AuditFilter::default(), Paging { after: None, limit: 10 }).await.unwrap().items;
    let left: Vec<_> = left.iter().map(|row| (row.tenant.as_str(), row.action.as_str())).collect();
    assert_eq!(left, [("system", "prune"), ("acme", "create")]);
    add(&sandbox, "acme", 900, 1).await;
    add(&sandbox, "globex", 900, 1).await;
    let next = sandbox.store.sign_checkpoint(at(1000), &notary()).await.unwrap();
    assert!(next.is_new && next.broken.is_empty(), "{next:?}");
    assert!(sandbox.store.verify_audit(None).await.unwrap().is_intact());
}

#[tokio::test]
async fn the_triggers_let_signed_removal_pass_and_nothing_else() {
    let sandbox = Sandbox::empty().await;
    add(&sandbox, "acme", 100, 5).await;
    sandbox.store.sign_checkpoint(at(200), &notary()).await.unwrap();
    let by_age = Retention { before: Some(at(102)), keep_rows: None };
    sandbox.store.prune_audit(by_age, at(200), &notary(), told).await.unwrap();
    let raw = sandbox.raw();
    for statement in [
        "DELETE FROM audit WHERE tenant = 'acme' AND number = 3",
        "UPDATE audit SET details = ''",
        "UPDATE audit_stub SET number = 1",
        "UPDATE audit_stub SET number = 4",
        "UPDATE audit_stub SET number = 9, hash = zeroblob(32)",
        "INSERT INTO audit_stub VALUES ('globex', 1, zeroblob(32), 0)",
        "DELETE FROM audit_stub",
        "UPDATE audit_checkpoint SET number = 1",
        "DELETE FROM audit_checkpoint",
        "UPDATE audit_mark SET count = 1",
        "DELETE FROM audit_mark",
    ] {
        let error = raw.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
}

#[tokio::test]
async fn a_broken_chain_is_not_removed() {
    let sandbox = Sandbox::empty().await;
    add(&sandbox, "acme", 100, 10).await;
    add(&sandbox, "globex", 100, 10).await;
    sandbox.store.sign_checkpoint(at(200), &notary()).await.unwrap();
    tamper(&sandbox, &["UPDATE audit SET action = 'other' WHERE tenant = 'acme' AND number = 3"]);
    let by_age = Retention { before: Some(at(105)), keep_rows: None };
    let pruned = sandbox.store.prune_audit(by_age, at(200), &notary(), told).await.unwrap();
    assert_eq!(pruned, Pruned { chains: 1, rows: 5 });
    assert_eq!(chain(&sandbox, "acme").await.fault, Some(AuditFault::Edited { number: 3 }));
}

#[tokio::test]
async fn a_removal_that_nobody_signed_is_found() {
    let sandbox = Sandbox::empty().await;
    add(&sandbox, "acme", 100, 5).await;
    tamper(
        &sandbox,
        &[
            "INSERT INTO audit_stub SELECT tenant, number, hash, 0 FROM audit WHERE number = 2",
            "DELETE FROM audit WHERE number <= 2",
        ],
    );
    assert_eq!(chain(&sandbox, "acme").await.fault, Some(AuditFault::Removed { number: 2 }));
}

#[tokio::test]
async fn entries_are_found_by_what_they_are_about() {
    let sandbox = Sandbox::empty().await;
    let refused = Outcome::Refused { code: "limit" };
    let done = |second| Outcome::Done { revision: Revision(second) };
    let entries = [
        Entry { object: "a".into(), at: at(100), ..entry("acme", "create", done(1)) },
        Entry { object: "a".into(), at: at(101), object_kind: "client", ..entry("acme", "create", done(2)) },
        Entry { object: "a".into(), at: at(102), object_kind: "client", ..entry("acme", "revoke", done(3)) },
        Entry { object: "b".into(), at: at(103), object_kind: "client", ..entry("acme", "revoke", refused.clone()) },
        Entry { object: "a".into(), at: at(104), object_kind: "client", ..entry("globex", "revoke", refused) },
    ];
    sandbox.store.append_audit(&entries).await.unwrap();
    let all = AuditFilter::default;
    let some = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (all(), &[5, 4, 3, 2, 1][..]),
        (AuditFilter::of(&id("acme")), &[4, 3, 2, 1]),
        (AuditFilter { object_kind: some("client"), ..all() }, &[5, 4, 3, 2]),
        (AuditFilter { object_kind: some("client"), object: some("a"), ..all() }, &[5, 3, 2]),
        (AuditFilter { object: some("a"), ..AuditFilter::of(&id("acme")) }, &[3, 2, 1]),
        (AuditFilter { action: some("revoke"), ..all() }, &[5, 4, 3]),
        (AuditFilter { outcome: Some(OutcomeFilter::Done), ..all() }, &[3, 2, 1]),
        (AuditFilter { outcome: Some(OutcomeFilter::Refused), ..all() }, &[5, 4]),
        (AuditFilter { from: Some(at(101)), until: Some(at(103)), ..all() }, &[3, 2]),
        (AuditFilter { action: some("'; DROP TABLE audit; --"), ..all() }, &[]),
    ] {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = sandbox.store.audit(&filter, Paging { after, limit: 2 }).await.unwrap();
            ids.extend(page.items.iter().map(|row| row.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(ids, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn looking_for_a_record_reads_an_index() {
    let sandbox = Sandbox::empty().await;
    let raw = sandbox.raw();
    let query = "EXPLAIN QUERY PLAN SELECT * FROM audit WHERE seq < 9 AND object_kind = 'client' AND object = 'a'
         ORDER BY seq DESC LIMIT 50";
    let mut query = raw.prepare(query).unwrap();
    let plan: Vec<String> = query.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    assert!(plan.len() == 1 && plan[0].contains("audit_by_object (object=? AND object_kind=? AND seq<?)"), "{plan:?}");
}

/// How long an import of a hundred thousand keys may spend on its entries, on a machine that is busy with other things and
/// in a build that is not optimised. It takes a small part of it.
const IMPORT_TIME: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_hundred_thousand_entries_are_appended_in_a_few_transactions() {
    let sandbox = Sandbox::empty().await;
    let began = Instant::now();
    for first in (0..100_000).step_by(5000) {
        add(&sandbox, "acme", first, 5000).await;
    }
    let took = began.elapsed();
    eprintln!("100,000 entries appended in {took:.2?}");
    assert!(took < IMPORT_TIME, "{took:?}");
    let began = Instant::now();
    assert!(sandbox.store.sign_checkpoint(at(1), &notary()).await.unwrap().is_new);
    eprintln!("signed for the first time in {:.2?}", began.elapsed());
    let acme = chain(&sandbox, "acme").await;
    assert_eq!((acme.rows, acme.fault), (100_000, None));
}
