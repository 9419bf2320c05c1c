//! Changes: what is put comes back, and a change is done wholly or not at all.

use std::collections::BTreeSet;

use portcullis_model::credential::Kind;
use portcullis_model::id::Revision;
use portcullis_model::source::{
    CreatorRule, CredentialState, Installation, SecretVersion, SignatureMode, TenantState, UserState,
};
use portcullis_model::time::Expiry;
use portcullis_store::{
    AuditFilter, Change, CredentialFilter, FIRST_REVISION, GroupKind, Outcome, Preflight, Snapshot, Store, StoreError,
    Stored, Write,
};

use crate::sample::*;

fn stored<T>(record: T, created_at: Revision, changed: Revision) -> Stored<T> {
    Stored { record, changed, created: at(2000 + created_at.0) }
}

#[tokio::test]
async fn a_new_store_holds_what_it_was_given() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    assert_eq!(store.revision().await.unwrap(), FIRST_REVISION);
    assert_eq!(store.seed(), fresh().seed);
    let installation = store.installation().await.unwrap();
    assert_eq!(installation, Stored { record: fresh().installation, changed: FIRST_REVISION, created: at(1000) });
    assert_eq!(
        store.snapshot().await.unwrap(),
        Snapshot {
            revision: FIRST_REVISION,
            seed: fresh().seed,
            installation: fresh().installation,
            services: Vec::new(),
            tenants: Vec::new(),
            settings: Vec::new(),
            applications: Vec::new(),
            feeds: Vec::new(),
            groups: Vec::new(),
            users: Vec::new(),
            credentials: Vec::new(),
        }
    );
}

#[tokio::test]
async fn the_installation_can_be_replaced() {
    let Sandbox { store, folder: _folder } = Sandbox::empty().await;
    let installation = Installation {
        clock_skew_s: 1,
        max_staleness_s: u32::MAX,
        trusted_proxies: Vec::new(),
        signature_profiles: Vec::new(),
        token_keys: Vec::new(),
    };
    let revision = commit(&store, vec![Write::PutInstallation(installation.clone())]).await.unwrap();
    let expected = Stored { record: installation, changed: revision, created: at(1000) };
    assert_eq!(store.installation().await.unwrap(), expected);
}

#[tokio::test]
async fn a_service_round_trips() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let made = commit(&store, vec![Write::PutService(service("shop", None))]).await.unwrap();
    assert_eq!(store.service(&id("shop")).await.unwrap(), Some(stored(service("shop", None), made, made)));
    let mut record = service("shop", Some("acme"));
    record.delivery.preflight = Some(Preflight { origins: vec!["*".to_owned()], headers: Vec::new(), max_age_s: 5 });
    record.name = "Renamed".to_owned();
    let edited = commit(&store, vec![Write::PutService(record.clone())]).await.unwrap();
    assert_eq!(store.service(&id("shop")).await.unwrap(), Some(stored(record.clone(), made, edited)));
    assert_eq!(store.services().await.unwrap(), [stored(record.clone(), made, edited)]);
    assert_eq!(store.snapshot().await.unwrap().services, [(record.service, record.delivery.reserved_prefix)]);
    commit(&store, vec![Write::RemoveService(id("shop"))]).await.unwrap();
    assert_eq!(store.service(&id("shop")).await.unwrap(), None);
    assert_eq!(store.services().await.unwrap(), []);
}

#[tokio::test]
async fn a_tenant_and_its_settings_round_trip() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let mut record = tenant("acme");
    record.state = TenantState::Suspended;
    record.modules = Vec::new();
    record.key_limit = 0;
    let put = |settings| Write::PutSettings { tenant: id("acme"), settings };
    let (events, orders) =
        (settings("shop/events", SignatureMode::Observed), settings("shop/orders", SignatureMode::Off));
    let made = commit(&store, vec![put(events.clone()), put(orders.clone())]).await.unwrap();
    let edited = commit(&store, vec![Write::PutTenant(record.clone())]).await.unwrap();
    assert_eq!(store.tenant(&id("acme")).await.unwrap(), Some(stored(record.clone(), Revision(2), edited)));
    let enforced = settings("shop/events", SignatureMode::Enforced);
    let set = commit(&store, vec![put(enforced.clone())]).await.unwrap();
    let listed = store.settings(&id("acme")).await.unwrap();
    assert_eq!(listed, [stored(enforced.clone(), made, set), stored(orders.clone(), made, made)]);
    assert_eq!(store.settings(&id("globex")).await.unwrap(), []);
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.tenants, [record, tenant("globex")]);
    assert_eq!(snapshot.settings, [(id("acme"), enforced), (id("acme"), orders.clone())]);
    let remove = Write::RemoveSettings { tenant: id("acme"), endpoint: endpoint("shop/events") };
    commit(&store, vec![remove]).await.unwrap();
    assert_eq!(store.settings(&id("acme")).await.unwrap(), [stored(orders, made, made)]);
}

#[tokio::test]
async fn groups_and_applications_round_trip() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let (mine, theirs) = (group("acme", "crm", &["shop/events", "shop/orders"]), group("globex", "crm", &[]));
    let writes = vec![
        Write::PutGroup(mine.clone()),
        Write::PutGroup(theirs.clone()),
        Write::PutApplication(application("acme", "app")),
        Write::PutApplication(application("globex", "app")),
    ];
    let made = commit(&store, writes).await.unwrap();
    assert_eq!(store.group(&id("acme"), &id("crm")).await.unwrap(), Some(stored(mine.clone(), made, made)));
    assert_eq!(store.group(&id("globex"), &id("crm")).await.unwrap(), Some(stored(theirs.clone(), made, made)));
    let mut edited = group("acme", "crm", &["shop/orders", "api/users"]);
    edited.kind = GroupKind::Member;
    let revision = commit(&store, vec![Write::PutGroup(edited.clone())]).await.unwrap();
    assert_eq!(store.group(&id("acme"), &id("crm")).await.unwrap(), Some(stored(edited.clone(), made, revision)));
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.groups, [edited.group, theirs.group]);
    let (app, other) = (application("acme", "app"), application("globex", "app"));
    assert_eq!(snapshot.applications, [app.application.clone(), other.application.clone()]);
    let found = store.application(&id("acme"), &id("app")).await.unwrap();
    assert_eq!(found, Some(stored(app, made, made)));
    let removes = vec![
        Write::RemoveGroup { tenant: id("acme"), group: id("crm") },
        Write::RemoveApplication { tenant: id("acme"), application: id("app") },
    ];
    commit(&store, removes).await.unwrap();
    assert_eq!(store.group(&id("acme"), &id("crm")).await.unwrap(), None);
    assert_eq!(store.application(&id("acme"), &id("app")).await.unwrap(), None);
    assert!(store.group(&id("globex"), &id("crm")).await.unwrap().is_some());
    assert!(store.application(&id("globex"), &id("app")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_deleted_user_is_gone_and_the_id_stays_taken() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let made = commit(&store, vec![Write::PutUser(user("acme", "ann", None))]).await.unwrap();
    let mut record = user("acme", "ann", Some("crm"));
    record.user.state = UserState::Active;
    let edited = commit(&store, vec![Write::PutUser(record.clone())]).await.unwrap();
    assert_eq!(store.user(&id("acme"), &id("ann")).await.unwrap(), Some(stored(record.clone(), made, edited)));
    assert_eq!(store.snapshot().await.unwrap().users, [record.user.clone()]);

    commit(&store, vec![Write::RemoveUser { tenant: id("acme"), user: id("ann") }]).await.unwrap();
    assert_eq!(store.user(&id("acme"), &id("ann")).await.unwrap(), None);
    assert_eq!(store.users(&id("acme"), ALL).await.unwrap().items, []);
    assert_eq!(store.snapshot().await.unwrap().users, []);
    assert!(store.user_id_is_taken(&id("acme"), &id("ann")).await.unwrap());
    assert!(!store.user_id_is_taken(&id("globex"), &id("ann")).await.unwrap());
    let again = commit(&store, vec![Write::PutUser(record)]).await;
    assert!(matches!(again, Err(StoreError::IdTaken { id }) if id.as_str() == "ann"));
}

#[tokio::test]
async fn a_credential_round_trips_with_everything_it_can_have() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let mut record = key("acme", "k1", 1);
    let credential = &mut record.credential;
    credential.kind = Kind::Management;
    credential.expires = Some(Expiry::at(at(9_000_000_000)));
    credential.secrets = vec![
        SecretVersion { version: 1, sha256: digest(1), until: Some(Expiry::at(at(5))), signing_slot: None },
        SecretVersion { version: 2, sha256: digest(2), until: None, signing_slot: None },
    ];
    credential.group = Some(id("crm"));
    credential.ip_allowlist = cidrs(&["192.0.2.1", "2001:db8::/64"]);
    credential.endpoints = vec![endpoint("shop/events"), endpoint("shop/orders"), endpoint("api/users")];
    credential.applications = vec![id("app")];
    credential.creator = Some(id("ann"));
    credential.creator_rule = CreatorRule::Independent;
    record.description = "line\n\"quoted\" \u{1f511}".to_owned();
    record.created_by.credential = Some(id("root"));
    record.created_by.user = Some(id("ann"));
    record.sealed_key = Some(vec![0, 255, 1]);
    record.sealed_secret = Some(Vec::new());
    let made = commit(&store, vec![Write::PutCredential(record.clone())]).await.unwrap();
    assert_eq!(store.credential(&id("k1")).await.unwrap(), Some(stored(record.clone(), made, made)));
    assert_eq!(store.snapshot().await.unwrap().credentials, [record.credential.clone()]);

    // The first version is gone, so its key may be another's.
    record.credential.secrets.remove(0);
    record.credential.state = CredentialState::Revoked;
    let rotated = commit(&store, vec![Write::PutCredential(record.clone())]).await.unwrap();
    assert_eq!(store.credential(&id("k1")).await.unwrap(), Some(stored(record.clone(), made, rotated)));
    let second = key("globex", "k2", 1);
    commit(&store, vec![Write::PutCredential(second.clone())]).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().credentials, [record.credential, second.credential]);
}

#[tokio::test]
async fn a_deleted_credential_keeps_no_secret_and_its_id_stays_taken() {
    let sandbox = Sandbox::with_tenants().await;
    let store = &sandbox.store;
    let mut record = key("acme", "k1", 1);
    record.sealed_key = Some(vec![1]);
    record.sealed_secret = Some(vec![2]);
    record.credential.endpoints = vec![endpoint("shop/events")];
    commit(store, vec![Write::PutCredential(record.clone())]).await.unwrap();
    commit(store, vec![Write::RemoveCredential(id("k1"))]).await.unwrap();
    assert_eq!(store.credential(&id("k1")).await.unwrap(), None);
    let filter = CredentialFilter::all(id("acme"), Kind::Tenant);
    assert_eq!(store.credentials(&filter, ALL).await.unwrap().items, []);
    assert_eq!(store.snapshot().await.unwrap().credentials, []);
    assert!(store.credential_id_is_taken(&id("k1")).await.unwrap());
    assert!(!store.credential_id_is_taken(&id("k2")).await.unwrap());
    let left = "SELECT (SELECT count(*) FROM credential_secret) + (SELECT count(*) FROM credential_service)
              + (SELECT count(*) FROM credential WHERE sealed_key IS NOT NULL OR sealed_secret IS NOT NULL)";
    let left: i64 = sandbox.raw().query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
    let again = commit(store, vec![Write::PutCredential(record)]).await;
    assert!(matches!(again, Err(StoreError::IdTaken { id }) if id.as_str() == "k1"));
    commit(store, vec![Write::PutCredential(key("acme", "k2", 1))]).await.unwrap();
}

#[tokio::test]
async fn a_put_moves_no_credential_to_another_tenant_or_kind() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    commit(&store, vec![Write::PutCredential(key("acme", "k1", 1))]).await.unwrap();
    let elsewhere = commit(&store, vec![Write::PutCredential(key("globex", "k1", 2))]).await;
    assert!(matches!(elsewhere, Err(StoreError::IdTaken { .. })));
    let mut other = key("acme", "k1", 2);
    other.credential.kind = Kind::Workspace;
    assert!(matches!(commit(&store, vec![Write::PutCredential(other)]).await, Err(StoreError::IdTaken { .. })));
    assert_eq!(store.credential(&id("k1")).await.unwrap().unwrap().record, key("acme", "k1", 1));
}

#[tokio::test]
async fn removing_what_is_not_there_is_done_already() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let writes = vec![
        Write::RemoveService(id("x")),
        Write::RemoveSettings { tenant: id("acme"), endpoint: endpoint("x/y") },
        Write::RemoveGroup { tenant: id("acme"), group: id("x") },
        Write::RemoveApplication { tenant: id("acme"), application: id("x") },
        Write::RemoveUser { tenant: id("acme"), user: id("x") },
        Write::RemoveCredential(id("x")),
    ];
    let before = store.snapshot().await.unwrap();
    let revision = commit(&store, writes).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap(), Snapshot { revision, ..before });
}

#[tokio::test]
async fn a_change_that_fails_leaves_nothing_behind() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    commit(&store, vec![Write::PutCredential(key("acme", "k1", 1))]).await.unwrap();
    let before = store.snapshot().await.unwrap();
    let audit = store.audit(&AuditFilter::default(), ALL).await.unwrap();
    let writes = vec![
        Write::PutService(service("shop", None)),
        Write::PutCredential(key("acme", "k2", 2)),
        Write::PutGroup(group("acme", "crm", &["shop/events"])),
        Write::RemoveCredential(id("k1")),
        Write::PutUser(user("acme", "ann", None)),
        Write::PutCredential(key("globex", "k3", 2)),
    ];
    let failed = commit(&store, writes.clone()).await;
    assert!(matches!(failed, Err(StoreError::DuplicateDigest)), "{failed:?}");
    assert_eq!(store.snapshot().await.unwrap(), before);
    assert_eq!(store.audit(&AuditFilter::default(), ALL).await.unwrap(), audit);
    assert!(!store.user_id_is_taken(&id("acme"), &id("ann")).await.unwrap());
    commit(&store, writes[..5].to_vec()).await.unwrap();
    assert!(store.verify_audit(None).await.unwrap().is_intact());
}

#[tokio::test]
async fn two_versions_of_one_credential_cannot_have_one_digest() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let mut record = key("acme", "k1", 1);
    record.credential.secrets.push(SecretVersion { version: 2, sha256: digest(1), until: None, signing_slot: None });
    let failed = commit(&store, vec![Write::PutCredential(record)]).await;
    assert!(matches!(failed, Err(StoreError::DuplicateDigest)));
}

#[tokio::test]
async fn a_change_from_another_revision_is_a_conflict() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    for from in [Revision(1), Revision(3), Revision(0)] {
        let failed = store.commit(&change(from, vec![Write::PutTenant(tenant("third"))])).await;
        let Err(StoreError::Conflict { from: said, at }) = failed else { panic!("{failed:?}") };
        assert_eq!((said, at), (from, Revision(2)));
    }
    assert_eq!(store.tenant(&id("third")).await.unwrap(), None);
}

#[tokio::test]
async fn a_revision_only_goes_forward() {
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    for to in [Revision(2), Revision(1)] {
        let change = Change { to, ..change(Revision(2), vec![Write::PutTenant(tenant("third"))]) };
        assert!(store.commit(&change).await.is_err());
    }
    assert_eq!(store.revision().await.unwrap(), Revision(2));
    let leap = Change { to: Revision(1 << 40), ..change(Revision(2), Vec::new()) };
    store.commit(&leap).await.unwrap();
    assert_eq!(store.revision().await.unwrap(), Revision(1 << 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_lose_nothing() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let Sandbox { store, folder: _folder } = Sandbox::with_tenants().await;
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write_keys(store.clone(), writer, EACH)));
    let mut revisions = BTreeSet::new();
    for writer in writers.collect::<Vec<_>>() {
        for revision in writer.await.unwrap() {
            assert!(revisions.insert(revision), "{revision} was answered twice");
        }
    }
    let total = WRITERS * EACH;
    assert_eq!(revisions.len() as u64, total);
    assert_eq!(store.revision().await.unwrap(), Revision(2 + total));
    let snapshot = store.snapshot().await.unwrap();
    let found: BTreeSet<_> = snapshot.credentials.iter().map(|credential| credential.id.to_string()).collect();
    let expected = (0..WRITERS).flat_map(|writer| (0..EACH).map(move |count| format!("k{writer}-{count}")));
    assert_eq!(found, expected.collect());
    let report = store.verify_audit(Some(&id("acme"))).await.unwrap();
    assert!(report.is_intact());
    // Two entries of the tenants, one of each key, and one refusal of each.
    assert_eq!(report.chains[0].rows, 2 + 2 * total);
}

async fn write_keys(store: Store, writer: u64, count: u64) -> Vec<Revision> {
    let mut revisions = Vec::new();
    for number in 0..count {
        let record = key("acme", &format!("k{writer}-{number}"), writer << 32 | number);
        let revision = loop {
            match commit(&store, vec![Write::PutCredential(record.clone())]).await {
                Ok(revision) => break revision,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        store.append_audit(&[entry("acme", "create", Outcome::Refused { code: "limit" })]).await.unwrap();
        revisions.push(revision);
    }
    revisions
}
