//! Random changes against a store made of maps.

use std::collections::BTreeMap;

use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{Credential, CredentialState, EndpointSettings, SecretVersion, SignatureMode};
use portcullis_store::{
    ApplicationRecord, CredentialRecord, GroupRecord, ServiceRecord, Snapshot, Store, StoreError, UserRecord, Write,
};

use crate::sample::*;

/// What the store should hold. Deleted users and credentials are `None`.
#[derive(Clone, PartialEq, Debug, Default)]
struct Model {
    services: BTreeMap<Id, ServiceRecord>,
    settings: BTreeMap<(Id, String), EndpointSettings>,
    groups: BTreeMap<(Id, Id), GroupRecord>,
    applications: BTreeMap<(Id, Id), ApplicationRecord>,
    users: BTreeMap<(Id, Id), Option<UserRecord>>,
    credentials: BTreeMap<Id, Option<CredentialRecord>>,
}

impl Model {
    /// Does the writes in order, or says which of them the store must refuse.
    fn apply(&self, writes: &[Write]) -> Result<Model, Refusal> {
        let mut next = self.clone();
        for write in writes {
            next.write(write)?;
        }
        Ok(next)
    }

    fn write(&mut self, write: &Write) -> Result<(), Refusal> {
        match write.clone() {
            Write::PutService(record) => drop(self.services.insert(record.service.id.clone(), record)),
            Write::RemoveService(id) => drop(self.services.remove(&id)),
            Write::PutSettings { tenant, settings } => {
                drop(self.settings.insert((tenant, settings.endpoint.to_string()), settings));
            }
            Write::RemoveSettings { tenant, endpoint } => drop(self.settings.remove(&(tenant, endpoint.to_string()))),
            Write::PutGroup(record) => {
                drop(self.groups.insert((record.group.tenant.clone(), record.group.id.clone()), record));
            }
            Write::RemoveGroup { tenant, group } => drop(self.groups.remove(&(tenant, group))),
            Write::PutApplication(record) => {
                let key = (record.application.tenant.clone(), record.application.id.clone());
                drop(self.applications.insert(key, record));
            }
            Write::RemoveApplication { tenant, application } => drop(self.applications.remove(&(tenant, application))),
            Write::PutUser(record) => {
                let key = (record.user.tenant.clone(), record.user.id.clone());
                if self.users.get(&key) == Some(&None) {
                    return Err(Refusal::IdTaken);
                }
                drop(self.users.insert(key, Some(record)));
            }
            Write::RemoveUser { tenant, user } => {
                if let Some(user) = self.users.get_mut(&(tenant, user)) {
                    *user = None;
                }
            }
            Write::PutCredential(record) => return self.put_credential(record),
            Write::RemoveCredential(id) => {
                if let Some(credential) = self.credentials.get_mut(&id) {
                    *credential = None;
                }
            }
            Write::PutInstallation(_)
            | Write::PutTenant(_)
            | Write::AddCredentials(_)
            | Write::PutFeed(_)
            | Write::RemoveFeed(_)
            | Write::PutErrorLogSettings { .. }
            | Write::PutTokenKey(_)
            | Write::RemoveTokenKey(_) => unreachable!("not made here"),
        }
        Ok(())
    }

    fn put_credential(&mut self, record: CredentialRecord) -> Result<(), Refusal> {
        let id = record.credential.id.clone();
        match self.credentials.get(&id) {
            Some(None) => return Err(Refusal::IdTaken),
            Some(Some(old)) if old.credential.tenant != record.credential.tenant => return Err(Refusal::IdTaken),
            Some(Some(_)) | None => {}
        }
        let others =
            self.credentials.iter().filter(|(other, _)| **other != id).filter_map(|(_, record)| record.as_ref());
        let mut taken = others.flat_map(|other| &other.credential.secrets);
        let mut mine = record.credential.secrets.iter();
        if taken.any(|secret| mine.clone().any(|own| own.sha256 == secret.sha256))
            || mine
                .any(|own| record.credential.secrets.iter().any(|o| o.version != own.version && o.sha256 == own.sha256))
        {
            return Err(Refusal::DuplicateDigest);
        }
        drop(self.credentials.insert(id, Some(record)));
        Ok(())
    }
}

#[derive(PartialEq, Debug)]
enum Refusal {
    IdTaken,
    DuplicateDigest,
}

/// SplitMix64: enough randomness for tests, and the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn write(&mut self) -> Write {
        let tenant = self.pick(&["acme", "globex"]);
        let name = self.pick(&["a", "b", "c"]);
        let endpoints = ["shop/events", "shop/orders", "api/users"];
        let some: Vec<&str> = endpoints.into_iter().filter(|_| self.below(2) == 0).collect();
        match self.below(14) {
            0 => Write::PutService(service(name, [None, Some("acme")][usize::from(self.below(2) == 0)])),
            1 => Write::RemoveService(id(name)),
            2 => Write::PutSettings {
                tenant: id(tenant),
                settings: settings(
                    self.pick(&endpoints),
                    [SignatureMode::Off, SignatureMode::Enforced][usize::from(self.below(2) == 0)],
                ),
            },
            3 => Write::RemoveSettings { tenant: id(tenant), endpoint: endpoint(self.pick(&endpoints)) },
            4 => Write::PutGroup(group(tenant, name, &some)),
            5 => Write::RemoveGroup { tenant: id(tenant), group: id(name) },
            6 => Write::PutApplication(application(tenant, name)),
            7 => Write::RemoveApplication { tenant: id(tenant), application: id(name) },
            8 => Write::PutUser(user(tenant, self.pick(&["u1", "u2", "u3", "u4", "u5", "u6"]), Some(name))),
            9 if self.below(3) == 0 => {
                Write::RemoveUser { tenant: id(tenant), user: id(self.pick(&["u1", "u2", "u3", "u4", "u5", "u6"])) }
            }
            10 if self.below(3) == 0 => Write::RemoveCredential(id(&format!("k{}", self.below(20)))),
            _ => Write::PutCredential(self.credential(tenant, name, &some)),
        }
    }

    fn credential(&mut self, tenant: &str, group: &str, endpoints: &[&str]) -> CredentialRecord {
        let number = self.below(20);
        // Mostly in the tenant that the number has, with secrets that are mostly its own.
        let home = if number.is_multiple_of(2) { "acme" } else { "globex" };
        let tenant = if self.below(10) == 0 { tenant } else { home };
        let mut record = key(tenant, &format!("k{number}"), number * 4 + self.below(5));
        let credential = &mut record.credential;
        if self.below(3) == 0 {
            let sha256 = digest(number * 4 + self.below(4));
            credential.secrets.push(SecretVersion { version: 2, sha256, until: None, signing_slot: None });
        }
        credential.group = (self.below(2) == 0).then(|| id(group));
        credential.endpoints = endpoints.iter().map(|name| endpoint(name)).collect();
        if self.below(3) == 0 {
            credential.state = CredentialState::Revoked;
        }
        record
    }
}

#[tokio::test]
async fn random_changes_do_what_a_store_of_maps_does() {
    let mut refused = 0;
    for seed in 0..6 {
        let mut random = Random(seed);
        let sandbox = Sandbox::with_tenants().await;
        let (mut store, mut model) = (sandbox.store.clone(), Model::default());
        drop(sandbox.store);
        for step in 0..60 {
            let writes: Vec<Write> = (0..=random.below(5)).map(|_| random.write()).collect();
            match (model.apply(&writes), commit(&store, writes.clone()).await) {
                (Ok(next), Ok(_)) => model = next,
                (Err(Refusal::IdTaken), Err(StoreError::IdTaken { .. }))
                | (Err(Refusal::DuplicateDigest), Err(StoreError::DuplicateDigest)) => refused += 1,
                (expected, got) => panic!("seed {seed}, step {step}: {got:?}, not {:?}: {writes:?}", expected.err()),
            }
            if step % 20 == 10 {
                store.close().await;
                store = Store::open(&sandbox.folder.path().join("db"), &fresh()).await.unwrap();
            }
            compare(&store, &model).await;
        }
        assert!(store.verify_audit(None).await.unwrap().is_intact());
    }
    assert!(refused > 20, "only {refused} changes were refused: the test looks away");
}

async fn compare(store: &Store, model: &Model) {
    let Snapshot { services, settings, applications, groups, users, credentials, .. } = store.snapshot().await.unwrap();
    let sorted = |mut list: Vec<Credential>| {
        list.sort_by(|a, b| a.id.cmp(&b.id));
        list
    };
    let expected = model.credentials.values().flatten().map(|record| record.credential.clone());
    assert_eq!(sorted(credentials), expected.collect::<Vec<_>>());
    let found: BTreeMap<_, _> = services.into_iter().map(|(service, _)| (service.id.clone(), service)).collect();
    let expected = model.services.iter().map(|(id, record)| (id.clone(), record.service.clone()));
    assert_eq!(found, expected.collect());
    let found: BTreeMap<_, _> =
        settings.into_iter().map(|(tenant, set)| ((tenant, set.endpoint.to_string()), set)).collect();
    assert_eq!(found, model.settings);
    let found: BTreeMap<_, _> =
        groups.into_iter().map(|group| ((group.tenant.clone(), group.id.clone()), group)).collect();
    assert_eq!(found, model.groups.iter().map(|(key, record)| (key.clone(), record.group.clone())).collect());
    let found: BTreeMap<_, _> =
        applications.into_iter().map(|app| ((app.tenant.clone(), app.id.clone()), app)).collect();
    let expected = model.applications.iter().map(|(key, record)| (key.clone(), record.application.clone()));
    assert_eq!(found, expected.collect());
    let found: BTreeMap<_, _> = users.into_iter().map(|user| ((user.tenant.clone(), user.id.clone()), user)).collect();
    let live = model.users.iter().filter_map(|(key, user)| Some((key.clone(), user.as_ref()?.user.clone())));
    assert_eq!(found, live.collect());
    assert!(store.revision().await.unwrap() > Revision(1));
}
