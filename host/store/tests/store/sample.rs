//! Records to store, and a store to put them in.

use std::path::PathBuf;

use portcullis_model::credential::{Kind, SecretDigest, Seed};
use portcullis_model::id::{EndpointRef, Id, Revision};
use portcullis_model::source::{
    Application, Credential, CredentialState, EndpointSettings, Group, Installation, Permission, Role, SecretVersion,
    Service, SignatureMode, TenantState, User, UserState,
};
use portcullis_model::time::{Expiry, UnixTime};
use portcullis_store::{
    Actor, ApplicationRecord, Change, Channel, CredentialRecord, Delivery, Entry, Fresh, GroupKind, GroupRecord,
    MAX_PAGE, Origin, Outcome, Paging, ServiceRecord, Store, StoreError, TenantRecord, UserRecord, Write,
};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) const ALL: Paging = Paging { after: None, limit: MAX_PAGE };

/// A store in a folder of its own.
pub(crate) struct Sandbox {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
}

impl Sandbox {
    /// An empty one.
    pub(crate) async fn empty() -> Sandbox {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db"), &fresh()).await.unwrap();
        Sandbox { folder, store }
    }

    /// One with the tenants `acme` and `globex`.
    pub(crate) async fn with_tenants() -> Sandbox {
        let sandbox = Sandbox::empty().await;
        let tenants = ["acme", "globex"].map(|id| Write::PutTenant(tenant(id)));
        commit(&sandbox.store, tenants.to_vec()).await.unwrap();
        sandbox
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    /// A connection that has nothing to do with the store.
    pub(crate) fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

pub(crate) fn fresh() -> Fresh {
    let installation = Installation { trusted_proxies: cidrs(&["10.0.0.0/8"]), ..Installation::default() };
    Fresh { seed: Seed([7; 16]), at: at(1000), installation }
}

/// Commits writes from whatever revision the store is at, with one audit entry each.
pub(crate) async fn commit(store: &Store, writes: Vec<Write>) -> Result<Revision, StoreError> {
    let from = store.revision().await?;
    let change = change(from, writes);
    store.commit(&change).await?;
    Ok(change.to)
}

pub(crate) fn change(from: Revision, writes: Vec<Write>) -> Change {
    let to = Revision(from.0 + 1);
    let audit = writes.iter().map(|_| entry("acme", "edit", Outcome::Done { revision: to })).collect();
    Change { from, to, at: at(2000 + to.0), writes, audit, remember: None }
}

pub(crate) fn entry(tenant: &str, action: &'static str, outcome: Outcome) -> Entry {
    Entry {
        at: at(3000),
        tenant: id(tenant),
        actor: Actor { tenant: id("system"), credential: Some(id("root")), user: Some(id("admin")) },
        origin: Origin { channel: Channel::Api, address: Some("2001:db8::1".parse().unwrap()) },
        action,
        object_kind: "tenant-key",
        object: "k1".to_owned(),
        outcome,
        details: r#"{"name":["old","new"]}"#.to_owned(),
    }
}

pub(crate) fn id(text: &str) -> Id {
    text.parse().unwrap()
}

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds).unwrap()
}

pub(crate) fn endpoint(text: &str) -> EndpointRef {
    text.to_owned().try_into().unwrap()
}

pub(crate) fn cidrs(texts: &[&str]) -> Vec<portcullis_model::address::Cidr> {
    texts.iter().map(|text| serde_json::from_value((*text).into()).unwrap()).collect()
}

pub(crate) fn digest(number: u64) -> SecretDigest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    SecretDigest::new(bytes)
}

pub(crate) fn tenant(name: &str) -> TenantRecord {
    TenantRecord {
        id: id(name),
        name: format!("Customer \u{201c}{name}\u{201d}"),
        state: TenantState::Active,
        modules: vec![portcullis_model::source::Module::IpFilter],
        key_limit: u32::MAX,
        rules: Default::default(),
    }
}

pub(crate) fn service(name: &str, tenant: Option<&str>) -> ServiceRecord {
    let json = serde_json::json!({
        "id": name, "hosts": [format!("{name}.example"), format!("*.{name}.example")], "prefix": "/v1", "tenant": tenant,
        "endpoints": [{"id": "events", "name": "Events API", "methods": ["GET"], "paths": ["/events/{id}"]}],
    });
    let service: Service = serde_json::from_value(json).unwrap();
    let delivery = Delivery {
        upstream: "http://127.0.0.1:9".to_owned(),
        preserve_host: false,
        response_timeout_s: 7,
        reserved_prefix: None,
        preflight: None,
    };
    ServiceRecord { service, name: format!("The {name}"), delivery, catalogue: Default::default() }
}

pub(crate) fn settings(name: &str, signature: SignatureMode) -> EndpointSettings {
    EndpointSettings {
        endpoint: endpoint(name),
        ip_ranges: cidrs(&["192.0.2.0/24", "2001:db8::/32"]),
        signature,
        replay: Default::default(),
    }
}

pub(crate) fn group(tenant: &str, name: &str, endpoints: &[&str]) -> GroupRecord {
    let permission = |name: &&str| Permission { endpoint: endpoint(name), methods: Default::default() };
    GroupRecord {
        group: Group { id: id(name), tenant: id(tenant), permissions: endpoints.iter().map(permission).collect() },
        name: format!("Group {name}"),
        kind: GroupKind::TenantKey,
    }
}

pub(crate) fn application(tenant: &str, name: &str) -> ApplicationRecord {
    ApplicationRecord {
        application: Application { id: id(name), tenant: id(tenant) },
        name: format!("Application {name}"),
    }
}

pub(crate) fn user(tenant: &str, name: &str, group: Option<&str>) -> UserRecord {
    let user =
        User { id: id(name), tenant: id(tenant), role: Role::Member, state: UserState::Disabled, group: group.map(id) };
    UserRecord { user, name: "Ann \u{00c9}xample".to_owned() }
}

/// A tenant key with the secret of that number and nothing else.
pub(crate) fn key(tenant: &str, name: &str, secret: u64) -> CredentialRecord {
    let credential = Credential {
        id: id(name),
        tenant: id(tenant),
        kind: Kind::Tenant,
        state: CredentialState::Active,
        expires: None,
        secrets: vec![SecretVersion { version: 1, sha256: digest(secret), until: None, signing_slot: None }],
        group: None,
        ip_allowlist: Vec::new(),
        endpoints: Vec::new(),
        applications: Vec::new(),
        creator: None,
        creator_rule: Default::default(),
        signature_profile: None,
        signed_only: false,
    };
    CredentialRecord {
        credential,
        name: format!("Key {name}"),
        description: String::new(),
        created_by: Actor { tenant: id(tenant), credential: None, user: None },
        sealed_key: None,
        sealed_secret: None,
        terms: None,
    }
}

pub(crate) fn expiring(mut record: CredentialRecord, at: u64) -> CredentialRecord {
    record.credential.expires = Some(Expiry::at(self::at(at)));
    record
}
