//! `kill -9` in the middle of changes, 200 times: what was answered is there with its audit entry, nothing is half there.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Connection, Message};
use crate::random::Random;
use crate::world::{Admin, TENANT_KEYS, World};

const CRASHES: usize = 200;
const CLIENTS: usize = 8;
/// The longest that clients work before a crash, in milliseconds.
const MAX_WORK_MS: u64 = 80;

/// A key as its client knows it. What was answered is in here; what was not is in [`Client::pending`].
struct Owned {
    id: String,
    name: String,
    /// The present secret; nothing where the answer that had it was lost.
    secret: Option<String>,
    version: u64,
    revoked: bool,
}

#[derive(Debug)]
enum Change {
    Create { name: String },
    Edit { index: usize, name: String },
    Rotate { index: usize },
    Revoke { index: usize },
}

/// One who changes keys that nobody else changes.
struct Client {
    number: usize,
    random: Random,
    names: u64,
    keys: Vec<Owned>,
    /// Sent and not answered.
    pending: Option<Change>,
    /// What was answered since the last crash: action, id of the key.
    answered: Vec<(&'static str, String)>,
}

impl Client {
    fn new(number: usize) -> Client {
        Client { number, random: Random::new(), names: 0, keys: Vec::new(), pending: None, answered: Vec::new() }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("client {} key {}", self.number, self.names)
    }

    fn draw(&mut self) -> Change {
        let active: Vec<usize> = (0..self.keys.len()).filter(|&index| !self.keys[index].revoked).collect();
        let kind = self.random.below(4);
        if active.is_empty() || kind == 0 {
            return Change::Create { name: self.name() };
        }
        let chosen = self.random.below(active.len().try_into().unwrap());
        let index = active[usize::try_from(chosen).unwrap()];
        match kind {
            1 => Change::Edit { index, name: self.name() },
            2 => Change::Rotate { index },
            _ => Change::Revoke { index },
        }
    }

    /// Makes changes until the server is gone.
    fn work(&mut self, admin: &Admin) {
        let Ok(mut connection) = Connection::open(admin.address) else { return };
        loop {
            let change = self.draw();
            let at = |index: usize, step: &str| format!("{TENANT_KEYS}/{}{step}", self.keys[index].id);
            let confirmed = json!({ "confirm": true });
            let call = match &change {
                Change::Create { name } => {
                    admin.call("POST", TENANT_KEYS).json(&json!({ "name": name, "group": "all" }))
                }
                Change::Edit { index, name } => admin.call("PATCH", &at(*index, "")).json(&json!({ "name": name })),
                Change::Rotate { index } => admin.call("POST", &at(*index, "/rotate")).json(&confirmed),
                Change::Revoke { index } => admin.call("POST", &at(*index, "/revoke")).json(&confirmed),
            };
            self.pending = Some(change);
            let Ok(answer) = connection.send(&call) else { return };
            let change = self.pending.take().unwrap();
            self.learn(change, &answer);
        }
    }

    fn learn(&mut self, change: Change, answer: &Message) {
        let told = answer.json();
        let status = if matches!(change, Change::Create { .. } | Change::Rotate { .. }) { 201 } else { 200 };
        assert_eq!(answer.status(), status, "{change:?}: {told}");
        let id = told["id"].as_str().unwrap().to_owned();
        let secret = told["key"].as_str().map(str::to_owned);
        let action = match change {
            Change::Create { name } => {
                self.keys.push(Owned { id: id.clone(), name, secret, version: 1, revoked: false });
                "create"
            }
            Change::Edit { index, name } => {
                self.keys[index].name = name;
                "edit"
            }
            Change::Rotate { index } => {
                self.keys[index].secret = secret;
                self.keys[index].version += 1;
                "rotate"
            }
            Change::Revoke { index } => {
                self.keys[index].revoked = true;
                "revoke"
            }
        };
        self.answered.push((action, id));
    }

    /// Finds out by the audit alone whether the change that was not answered was made. The records are compared with that.
    fn settle(&mut self, entries: &mut Entries) {
        for (action, id) in self.answered.drain(..) {
            assert!(entries.take(action, &id), "an answered {action} of {id} is not in the audit");
        }
        match self.pending.take() {
            None => {}
            Some(Change::Create { name }) => {
                if let Some(id) = entries.take_creation(&name) {
                    self.keys.push(Owned { id, name, secret: None, version: 1, revoked: false });
                }
            }
            Some(Change::Edit { index, name }) if entries.take("edit", &self.keys[index].id) => {
                self.keys[index].name = name;
            }
            Some(Change::Rotate { index }) if entries.take("rotate", &self.keys[index].id) => {
                self.keys[index].version += 1;
                // The old one must be dead, and nobody has the new one.
                self.keys[index].secret = None;
            }
            // It was not made.
            Some(Change::Edit { .. } | Change::Rotate { .. }) => {}
            Some(Change::Revoke { index }) => self.keys[index].revoked |= entries.take("revoke", &self.keys[index].id),
        }
    }
}

/// The entries of the audit since the last crash that nobody has claimed yet.
struct Entries(HashMap<(String, String), Vec<Value>>);

impl Entries {
    fn take(&mut self, action: &str, id: &str) -> bool {
        self.0.get_mut(&(action.to_owned(), id.to_owned())).is_some_and(|entries| entries.pop().is_some())
    }

    fn take_creation(&mut self, name: &str) -> Option<String> {
        let is_it = |entry: &&Value| entry["action"] == "create" && entry["details"]["name"] == name;
        let id = self.0.values().flatten().find(is_it)?["object"].as_str()?.to_owned();
        self.take("create", &id).then_some(id)
    }
}

/// What the audit says of everything that was done, read from where the last reading ended.
struct Reader {
    number: u64,
    revision: u64,
}

impl Reader {
    /// The new entries of the tenant. Each has a number and a revision of its own, without holes.
    fn read(&mut self, admin: &Admin) -> Entries {
        let (mut entries, mut after) = (Vec::new(), String::new());
        'pages: loop {
            let page = admin.get(&format!("/v1/tenants/acme/audit?limit=100{after}")).expect(200).json();
            for entry in page["items"].as_array().unwrap() {
                if entry["number"].as_u64().unwrap() <= self.number {
                    break 'pages;
                }
                entries.push(entry.clone());
            }
            if page["next"].is_null() {
                break;
            }
            after = format!("&after={}", page["next"]);
        }
        let mut unclaimed: HashMap<_, Vec<_>> = HashMap::new();
        for entry in entries.into_iter().rev() {
            self.number += 1;
            self.revision += 1;
            assert_eq!((&entry["number"], &entry["revision"]), (&self.number.into(), &self.revision.into()), "{entry}");
            let text = |field: &str| entry[field].as_str().unwrap().to_owned();
            unclaimed.entry((text("action"), text("object"))).or_default().push(entry);
        }
        Entries(unclaimed)
    }
}

#[test]
fn after_each_of_200_crashes_what_was_answered_is_there_and_nothing_is_half_there() {
    let mut world = World::new();
    let mut reader = {
        let newest = world.newest_entry();
        let of = |field: &str| newest[field].as_u64().unwrap();
        Reader { number: of("number"), revision: of("revision") }
    };
    let mut clients: Vec<Client> = (0..CLIENTS).map(Client::new).collect();
    let mut random = Random::new();
    let (mut answered, mut unanswered) = (0, 0);
    for crash in 0..CRASHES {
        let admin = world.admin();
        std::thread::scope(|scope| {
            for client in &mut clients {
                let admin = &admin;
                scope.spawn(move || client.work(admin));
            }
            // Not to wait for anything: the crash comes at any moment.
            std::thread::sleep(Duration::from_micros(random.below(MAX_WORK_MS * 1000)));
            world.server.kill();
        });
        answered += clients.iter().map(|client| client.answered.len()).sum::<usize>();
        unanswered += clients.iter().filter(|client| client.pending.is_some()).count();
        world.restart();
        let admin = world.admin();
        admin.assert_audit_is_intact();
        let mut entries = reader.read(&admin);
        let touched: Vec<Vec<usize>> = clients.iter_mut().map(|client| touched(client, &mut entries)).collect();
        let left: Vec<_> = entries.0.into_values().flatten().collect();
        assert!(left.is_empty(), "crash {crash}: nobody asked for this: {left:?}");
        let revision = format!("portcullis_policy_revision {}", reader.revision);
        let metrics = admin.get("/metrics").expect(200).text();
        assert!(metrics.lines().any(|line| line == revision), "crash {crash}: {revision}: {metrics}");
        for (client, touched) in clients.iter().zip(touched) {
            for index in touched {
                check(&world, &client.keys[index]);
            }
        }
    }
    eprintln!("{CRASHES} crashes, {answered} changes answered, {unanswered} cut off");
    assert!(answered > CRASHES && unanswered > CRASHES, "crashes came in the middle: {answered}, {unanswered}");
    check_all(&world, &clients);
    world.server.stop();
}

/// Settles what the client did before the crash. Leads to the keys that it touched.
fn touched(client: &mut Client, entries: &mut Entries) -> Vec<usize> {
    let mut ids: Vec<String> = client.answered.iter().map(|(_, id)| id.clone()).collect();
    if let Some(Change::Edit { index, .. } | Change::Rotate { index } | Change::Revoke { index }) = &client.pending {
        ids.push(client.keys[*index].id.clone());
    }
    let before = client.keys.len();
    client.settle(entries);
    (0..client.keys.len()).filter(|&index| index >= before || ids.contains(&client.keys[index].id)).collect()
}

/// Compares a key with its record and with what the guarded service does.
fn check(world: &World, key: &Owned) {
    let stored = world.admin().get(&format!("{TENANT_KEYS}/{}", key.id)).expect(200).json();
    assert_eq!(known(&stored), of(key), "{stored}");
    if let Some(secret) = &key.secret {
        let status = world.events(secret).status();
        assert_eq!(status, if key.revoked { 401 } else { 200 }, "{stored}");
    }
}

/// Every key there is, against every key that clients know of.
fn check_all(world: &World, clients: &[Client]) {
    let mut stored: Vec<_> = world.admin().all(TENANT_KEYS).iter().map(known).collect();
    let mut expected: Vec<_> = clients.iter().flat_map(|client| &client.keys).map(of).collect();
    stored.sort();
    expected.sort();
    assert_eq!(stored, expected);
}

type Known = (String, String, bool, u64);

fn known(stored: &Value) -> Known {
    let text = |field: &str| stored[field].as_str().unwrap().to_owned();
    (text("id"), text("name"), stored["state"] == "revoked", stored["secret_version"].as_u64().unwrap())
}

fn of(key: &Owned) -> Known {
    (key.id.clone(), key.name.clone(), key.revoked, key.version)
}
