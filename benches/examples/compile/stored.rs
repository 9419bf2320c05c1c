//! A database as an import leaves it.

use std::path::Path;

use anyhow::{Context as _, Result};
use portcullis_benches::now;
use portcullis_control::DATABASE;
use portcullis_control::store::{
    Actor, Change, Channel, CredentialRecord, Delivery, Entry, Fresh, GroupKind, GroupRecord, Origin, Outcome,
    ServiceRecord, Store, TenantRecord, TenantRules, Write,
};
use portcullis_model::credential::Seed;
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{Credential, Source};

/// How many credentials are written at once, as by an import.
const AT_ONCE: usize = 5_000;

/// The document with ids as they come: eight characters in no order.
pub(crate) fn as_imported(mut source: Source) -> Result<Source> {
    for (number, credential) in (0u64..).zip(&mut source.credentials) {
        let mixed =
            (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        credential.id = format!("{:08x}", mixed >> 32).parse()?;
    }
    Ok(source)
}

pub(crate) async fn open(folder: &Path) -> Result<Store> {
    let fresh = Fresh { seed: Seed(*b"a benchmark seed"), at: now()?, installation: Default::default() };
    Ok(Store::open(&folder.join(DATABASE), &fresh).await?)
}

/// Writes the records of a document.
pub(crate) async fn fill(folder: &Path, source: &Source) -> Result<()> {
    let store = open(folder).await?;
    let mut writes = Vec::new();
    for service in &source.services {
        // Beside it there may be a service that is called.
        let delivery = Delivery {
            upstream: "http://127.0.0.1:9".to_owned(),
            preserve_host: true,
            response_timeout_s: 30,
            reserved_prefix: None,
            preflight: None,
        };
        let (mut service, name) = (service.clone(), service.id.to_string());
        service.hosts = vec!["other.example".to_owned().try_into()?];
        writes.push(Write::PutService(ServiceRecord { service, name, delivery, catalogue: Default::default() }));
    }
    for tenant in &source.tenants {
        writes.push(Write::PutTenant(TenantRecord {
            id: tenant.id.clone(),
            name: tenant.id.to_string(),
            state: tenant.state,
            modules: tenant.modules.clone(),
            key_limit: u32::MAX,
            rules: TenantRules::default(),
        }));
        let settings = tenant.endpoints.iter().cloned();
        writes.extend(settings.map(|settings| Write::PutSettings { tenant: tenant.id.clone(), settings }));
    }
    for group in &source.groups {
        let (group, name) = (group.clone(), group.id.to_string());
        writes.push(Write::PutGroup(GroupRecord { group, name, kind: GroupKind::TenantKey }));
    }
    commit(&store, writes).await?;
    for some in source.credentials.chunks(AT_ONCE) {
        commit(&store, vec![Write::AddCredentials(some.iter().map(record).collect())]).await?;
    }
    store.close().await;
    Ok(())
}

fn record(credential: &Credential) -> CredentialRecord {
    CredentialRecord {
        credential: credential.clone(),
        name: "Imported".to_owned(),
        description: String::new(),
        created_by: Actor { tenant: credential.tenant.clone(), credential: None, user: None },
        sealed_key: None,
        sealed_secret: None,
        terms: None,
    }
}

async fn commit(store: &Store, writes: Vec<Write>) -> Result<()> {
    let from = store.revision().await?;
    let to = Revision(from.0 + 1);
    let system: Id = "system".parse().context("an id")?;
    let entry = Entry {
        at: now()?,
        tenant: system.clone(),
        actor: Actor { tenant: system, credential: None, user: None },
        origin: Origin { channel: Channel::Api, address: None },
        action: "import",
        object_kind: "tenant-key",
        object: String::new(),
        outcome: Outcome::Done { revision: to },
        details: "{}".to_owned(),
    };
    Ok(store.commit(&Change { from, to, at: now()?, writes, audit: vec![entry], remember: None }).await?)
}
