//! A running installation with something to guard: a service, a tenant, a group.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http::{Call, Message};
use crate::server::{Server, Settings, Site};
use crate::upstream::Echo;

/// The host of the service that is guarded.
pub(crate) const HOST: &str = "shop.example";
/// Where the tenant's keys are.
pub(crate) const TENANT_KEYS: &str = "/v1/tenants/acme/tenant-keys";
pub(crate) const WORKSPACE_KEYS: &str = "/v1/tenants/acme/workspace-keys";
pub(crate) const MANAGEMENT_KEYS: &str = "/v1/tenants/acme/management-keys";

/// The admin API, called with one key.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

impl Admin {
    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        let authorization = format!("ManagementKey-v1 {}", self.key);
        Call::new(method, path).field("host", "localhost").field("authorization", &authorization)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Message {
        self.call("GET", path).send(self.address)
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Message {
        self.call("DELETE", path).send(self.address)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: Value) -> Message {
        self.call("POST", path).json(&body).send(self.address)
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: Value) -> Message {
        self.call("PUT", path).json(&body).send(self.address)
    }

    #[track_caller]
    pub(crate) fn patch(&self, path: &str, body: Value) -> Message {
        self.call("PATCH", path).json(&body).send(self.address)
    }

    /// All items of a list, page after page.
    pub(crate) fn all(&self, path: &str) -> Vec<Value> {
        let (mut items, mut after) = (Vec::new(), String::new());
        loop {
            let mark = if path.contains('?') { '&' } else { '?' };
            let mut page = self.get(&format!("{path}{mark}limit=200{after}")).expect(200).json();
            items.append(page["items"].as_array_mut().unwrap());
            match &page["next"] {
                Value::Null => return items,
                Value::String(next) => after = format!("&after={next}"),
                Value::Number(next) => after = format!("&after={next}"),
                next @ (Value::Bool(_) | Value::Array(_) | Value::Object(_)) => panic!("no cursor: {next}"),
            }
        }
    }

    /// Asserts that no chain of the audit is broken.
    #[track_caller]
    pub(crate) fn assert_audit_is_intact(&self) {
        let found = self.get("/v1/audit/verification").expect(200).json();
        assert_eq!(found["intact"], true, "{found}");
    }
}

/// A key that was made or rotated.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) key: String,
}

impl Key {
    #[track_caller]
    pub(crate) fn of(answer: &Message) -> Key {
        let told = answer.json();
        let text = |name: &str| told[name].as_str().unwrap_or_else(|| panic!("no {name}: {told}")).to_owned();
        Key { id: text("id"), key: text("key") }
    }
}

pub(crate) struct World {
    // Before the site: its folder goes when nobody writes to it any more.
    pub(crate) server: Server,
    pub(crate) echo: Echo,
    pub(crate) site: Site,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings<'_>) -> World {
        World::prepared(settings, |_| ())
    }

    /// One whose folder has what the settings ask for.
    pub(crate) fn prepared(settings: Settings<'_>, prepare: impl FnOnce(&Site)) -> World {
        let site = Site::prepared(settings, prepare);
        let server = site.start().ready();
        let world = World { server, echo: Echo::start(), site };
        furnish(&world.admin(), world.echo.address);
        world
    }

    /// Starts the server anew on the same folder, after it has ended.
    pub(crate) fn restart(&mut self) {
        self.server = self.site.start().ready();
    }

    pub(crate) fn admin(&self) -> Admin {
        self.admin_with(&self.site.admin_key)
    }

    pub(crate) fn admin_with(&self, key: &str) -> Admin {
        Admin { address: self.server.admin, key: key.to_owned() }
    }

    /// A new tenant key of the group `all`.
    #[track_caller]
    pub(crate) fn tenant_key(&self) -> Key {
        Key::of(&self.admin().post(TENANT_KEYS, json!({ "name": "For a test", "group": "all" })).expect(201))
    }

    /// A new pair.
    #[track_caller]
    pub(crate) fn workspace_key(&self) -> Key {
        Key::of(&self.admin().post(WORKSPACE_KEYS, json!({ "name": "Pair", "confirm": true })).expect(201))
    }

    /// A new management key for the events that nobody else answers for.
    #[track_caller]
    pub(crate) fn management_key(&self) -> Key {
        let body = json!({
            "name": "For a test", "expires": "2099-12-31", "endpoints": ["shop/events"], "creator_rule": "independent",
        });
        Key::of(&self.admin().post(MANAGEMENT_KEYS, body).expect(201))
    }

    /// A request to the guarded service.
    pub(crate) fn call(&self, method: &str, target: &str) -> Call {
        Call::new(method, target).field("host", HOST)
    }

    /// Asks for the events with a tenant key.
    #[track_caller]
    pub(crate) fn events(&self, key: &str) -> Message {
        self.try_events(key).unwrap()
    }

    pub(crate) fn try_events(&self, key: &str) -> io::Result<Message> {
        self.call("GET", "/events").field("x-api-key", key).try_send(self.server.proxy)
    }

    /// Points the service at another upstream.
    #[track_caller]
    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        self.admin().patch("/v1/services/shop", json!({ "upstream": format!("http://{upstream}") })).expect(200);
    }

    /// The newest entry of the tenant's audit.
    #[track_caller]
    pub(crate) fn newest_entry(&self) -> Value {
        self.admin().get("/v1/tenants/acme/audit?limit=1").expect(200).json()["items"][0].clone()
    }

    /// The newest decision, once it is written down: it is known by the id in the answer.
    #[track_caller]
    pub(crate) fn decision(&self, id: &str) -> Value {
        crate::server::eventually("the decision is recorded", || {
            let answer = self.admin().get(&format!("/v1/decisions/{id}"));
            (answer.status() == 200).then(|| answer.json())
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What a failed test wants to know first: which denials there were.
        if std::thread::panicking()
            && let Ok(metrics) = self.admin().call("GET", "/metrics").try_send(self.server.admin)
        {
            let text = metrics.text();
            let denials = text.lines().filter(|line| line.contains("verdict=\"deny\"") && !line.ends_with(" 0"));
            denials.for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Makes the service `shop` in front of the upstream, with endpoints for everybody and for applications, the tenant `acme`
/// with every module, and the group `all`.
pub(crate) fn furnish(admin: &Admin, upstream: SocketAddr) {
    let tenant =
        json!({ "id": "acme", "name": "Acme", "modules": ["ip_filter", "signature_check"], "key_limit": 100_000 });
    admin.post("/v1/tenants", tenant).expect(201);
    let service = json!({ "id": "shop", "hosts": [HOST], "upstream": format!("http://{upstream}") });
    admin.post("/v1/services", service).expect(201);
    for (id, body) in [
        ("events", json!({ "paths": ["/events", "/events/{id}"], "methods": ["GET", "POST"] })),
        ("reports", json!({ "paths": ["/reports"] })),
        ("items", json!({ "paths": ["/apps/{application}/items"], "per_application": true })),
    ] {
        admin.put(&format!("/v1/services/shop/endpoints/{id}"), body).expect(200);
    }
    let permissions = json!([{ "endpoint": "shop/events" }, { "endpoint": "shop/reports" }]);
    admin.post("/v1/tenants/acme/groups", json!({ "id": "all", "permissions": permissions })).expect(201);
}
