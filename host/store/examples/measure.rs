//! Measures the store on this machine: `cargo run --release -p portcullis-store --example measure -- 1000000`.
//!
//! The number is how many credentials one tenant has. It needs about 700 bytes of disk for each.

use std::time::Instant;

use portcullis_model::credential::{Kind, SecretDigest, Seed};
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{CreatorRule, Credential, CredentialState, Installation, SecretVersion, TenantState};
use portcullis_model::time::UnixTime;
use portcullis_store::{
    Actor, Change, Channel, CredentialFilter, CredentialRecord, DecisionFilter, DecisionRecord, Entry, Fresh, MAX_PAGE,
    Origin, Outcome, Paging, Store, TenantRecord, Which, Write,
};
use sha2::{Digest as _, Sha256};

/// Credentials in one transaction while the store is filled.
const BATCH: u64 = 10_000;

/// How often each thing is done.
const ROUNDS: u64 = 300;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let fresh = Fresh { seed: Seed([0; 16]), at: UnixTime::default(), installation: Installation::default() };
    let store = Store::open(&folder.path().join("db"), &fresh).await?;
    let tenant: Id = "acme".parse()?;
    fill(&store, &tenant, count).await?;
    writes(&store, &tenant, count).await?;
    reads(&store, &tenant, count).await?;
    decisions(&store).await?;
    let began = Instant::now();
    let report = store.verify_audit(None).await?;
    anyhow::ensure!(report.is_intact(), "the audit has a fault");
    let rows: u64 = report.chains.iter().map(|chain| chain.rows).sum();
    println!("audit of {rows} rows verified: {:.0?}", began.elapsed());
    let began = Instant::now();
    let snapshot = store.snapshot().await?;
    println!("snapshot of {} credentials: {:.2?}", snapshot.credentials.len(), began.elapsed());
    store.close().await;
    println!("file: {} MB", std::fs::metadata(folder.path().join("db"))?.len() / 1_000_000);
    Ok(())
}

async fn fill(store: &Store, tenant: &Id, count: u64) -> anyhow::Result<()> {
    let record = TenantRecord {
        id: tenant.clone(),
        name: "Acme".to_owned(),
        state: TenantState::Active,
        modules: Vec::new(),
        key_limit: u32::MAX,
        rules: Default::default(),
    };
    store.commit(&change(store, vec![Write::PutTenant(record)], tenant).await?).await?;
    let began = Instant::now();
    for first in (0..count).step_by(usize::try_from(BATCH)?) {
        let numbers = first..(first + BATCH).min(count);
        let writes = numbers.map(|number| key(tenant, number).map(Write::PutCredential));
        let writes = writes.collect::<anyhow::Result<Vec<_>>>()?;
        store.commit(&change(store, writes, tenant).await?).await?;
    }
    println!("filled with {count} credentials: {:.1?}", began.elapsed());
    Ok(())
}

async fn writes(store: &Store, tenant: &Id, count: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    for number in count..count + ROUNDS {
        let writes = vec![Write::PutCredential(key(tenant, number)?)];
        store.commit(&change(store, writes, tenant).await?).await?;
    }
    let each = began.elapsed() / u32::try_from(ROUNDS)?;
    println!("one credential with its audit entry: {each:.0?}, {:.0} a second", 1.0 / each.as_secs_f64());
    Ok(())
}

async fn reads(store: &Store, tenant: &Id, count: u64) -> anyhow::Result<()> {
    for (name, state) in [("any", None), ("active", Some(CredentialState::Active))] {
        let filter = CredentialFilter { state, ..CredentialFilter::all(tenant.clone(), Kind::Tenant) };
        for (place, after) in [("first", None), ("middle", Some(count / 2))] {
            let began = Instant::now();
            let page = store.credentials(&filter, Paging { after, limit: MAX_PAGE }).await?;
            println!("{place} page of {} credentials, {name} state: {:.2?}", page.items.len(), began.elapsed());
        }
    }
    let filter = CredentialFilter {
        state: Some(CredentialState::Revoked),
        ..CredentialFilter::all(tenant.clone(), Kind::Tenant)
    };
    let began = Instant::now();
    let page = store.credentials(&filter, Paging { after: None, limit: MAX_PAGE }).await?;
    println!("page of {} revoked credentials: {:.2?}", page.items.len(), began.elapsed());
    let began = Instant::now();
    let live = store.count_live(tenant, Kind::Tenant, UnixTime::default()).await?;
    println!("{live} live credentials counted: {:.2?}", began.elapsed());
    Ok(())
}

async fn decisions(store: &Store) -> anyhow::Result<()> {
    let began = Instant::now();
    for block in 0..ROUNDS {
        let record = |count| DecisionRecord { id: (block << 24) + count, reason: 0, details: vec![0; 200].into() };
        store.append_decisions(&(0..500).map(record).collect::<Vec<_>>(), &[]).await?;
    }
    let each = began.elapsed() / u32::try_from(ROUNDS)?;
    println!("500 decisions of 200 bytes: {each:.0?}, {:.0} decisions a second", 500.0 / each.as_secs_f64());
    let began = Instant::now();
    let found = store.decision((ROUNDS / 2) << 24).await?;
    anyhow::ensure!(found.is_some(), "a decision is lost");
    println!("one decision found: {:.2?}", began.elapsed());
    let began = Instant::now();
    let denied = store.decisions(&DecisionFilter { which: Which::Denied, before: None }, MAX_PAGE).await?;
    println!("{} denied decisions listed: {:.2?}", denied.items.len(), began.elapsed());
    Ok(())
}

async fn change(store: &Store, writes: Vec<Write>, tenant: &Id) -> anyhow::Result<Change> {
    let from = store.revision().await?;
    let (at, to) = (UnixTime::default(), Revision(from.0 + 1));
    let entry = Entry {
        at,
        tenant: tenant.clone(),
        actor: Actor { tenant: tenant.clone(), credential: None, user: None },
        origin: Origin { channel: Channel::System, address: None },
        action: "create",
        object_kind: "tenant-key",
        object: "measured".to_owned(),
        outcome: Outcome::Done { revision: to },
        details: r#"{"name":"A key like many others"}"#.to_owned(),
    };
    Ok(Change { from, to, at, writes, audit: vec![entry], remember: None })
}

fn key(tenant: &Id, number: u64) -> anyhow::Result<CredentialRecord> {
    let sha256 = SecretDigest::new(Sha256::digest(number.to_le_bytes()).into());
    let credential = Credential {
        id: format!("acme-key-{number}").parse()?,
        tenant: tenant.clone(),
        kind: Kind::Tenant,
        state: CredentialState::Active,
        expires: None,
        secrets: vec![SecretVersion { version: 1, sha256, until: None, signing_slot: None }],
        group: Some("integration".parse()?),
        ip_allowlist: Vec::new(),
        endpoints: Vec::new(),
        applications: Vec::new(),
        creator: None,
        creator_rule: CreatorRule::FollowCreator,
        signature_profile: None,
        signed_only: false,
    };
    Ok(CredentialRecord {
        credential,
        name: format!("Key number {number}"),
        description: "For the nightly import".to_owned(),
        created_by: Actor { tenant: tenant.clone(), credential: Some("root".parse()?), user: Some("admin".parse()?) },
        sealed_key: None,
        sealed_secret: None,
        terms: None,
    })
}
