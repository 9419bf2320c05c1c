//! Who may do what: every operation of the admin API, asked for by every role, in one reviewed file.
//!
//! The operations are those that the server itself describes. For each there is a request in [`request`]; an operation without
//! one fails the test. `PORTCULLIS_BLESS=1` writes the file anew, to be reviewed. Every answer is compared with the description
//! too: its status is one that the operation has, its body fits the schema, a problem has a code of the table.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use serde_json::{Value, json};

use crate::described::{Described, Operation};
use crate::http::{Call, Message};
use crate::server::eventually;
use crate::signer::escher;
use crate::world::{Admin, Key, World};

/// What stands above the table.
const LEGEND: &str = "\
# Every operation of the admin API, and what it answers to whom. Written by the tests of the whole; review every line.
#
# nobody     no key
# superuser  a key of the system tenant with every endpoint
# support    a key of the system tenant with three endpoints to read: self, tenants, audit
# admin      a key of the tenant's admin, with every endpoint of the admin API; `beyond`: of the shop not `vault`, which is asked for
# reader     a key of the same admin, with every endpoint to read
# foreign    a key of another tenant's admin, with every endpoint: what is not its own answers as what is missing
# code       a code that a member of the tenant was given to sign in with
# session    a member of the tenant who has signed in
# session-a  an admin of the tenant who has signed in
# revoked, expired, orphan   keys like that of the admin, revoked, expired, and of an admin who is disabled
";

/// Operations that answer differently with something else in the request: what stands after the id, and after the path.
const VARIANTS: [(&str, &str); 4] =
    [("", ""), (" admin", " (an admin)"), (" beyond", " (beyond)"), (" unconfirmed", " (unconfirmed)")];

/// A role: its column, and what it is proven by.
struct Caller {
    name: &'static str,
    proof: Proof,
}

enum Proof {
    None,
    Key(String),
    /// A code for a person of this role, new each time.
    Code(&'static str),
    /// A session of a person of this role, new each time. For what is done to a personal key the person has one.
    Session(&'static str),
}

impl Proof {
    /// What the call has in `Authorization`.
    fn authorization(&self, world: &World, operation: &Operation, n: u32) -> Option<String> {
        let root = world.admin();
        let enrol = |role: &str| {
            let user = format!("person-{n}");
            root.post("/v1/tenants/acme/users", json!({ "id": user, "role": role })).expect(201);
            let path = format!("/v1/tenants/acme/users/{user}/enrolment");
            let told = root.call("POST", &path).body("").send(root.address).expect(201).json();
            format!("Session-v1 {}", told["code"].as_str().unwrap())
        };
        let post = |path: &str, authorization: &str| {
            let call = Call::new("POST", path).field("host", "localhost").field("authorization", authorization);
            call.send(world.server.admin).expect(201).json()
        };
        match self {
            Proof::None => None,
            Proof::Key(key) => Some(format!("ManagementKey-v1 {key}")),
            Proof::Code(role) => Some(enrol(role)),
            Proof::Session(role) => {
                let told = post("/v1/me/session", &enrol(role));
                let session = format!("Session-v1 {}", told["session"].as_str().unwrap());
                if ["showPersonalKey", "deletePersonalKey", "regeneratePersonalKey"].contains(&operation.id.as_str()) {
                    post("/v1/me/personal-key", &session);
                }
                Some(session)
            }
        }
    }
}

/// What was recorded of calls before: decisions and failed calls, of nobody and of `acme`.
struct Recorded {
    decision: String,
    own_decision: String,
    error: String,
    own_error: String,
}

impl Recorded {
    fn make(world: &World) -> Recorded {
        let root = world.admin();
        root.put("/v1/signature-profiles/ours", escher()).expect(200);
        let decision = |answer: &Message| answer.field("x-portcullis-decision").unwrap().to_owned();
        let stranger = decision(&world.events("ptc_nobody").expect(401));
        let body = json!({ "name": "Elsewhere", "group": "all", "ip_allowlist": ["192.0.2.0/24"] });
        let key = Key::of(&root.post("/v1/tenants/acme/tenant-keys", body).expect(201));
        let own = decision(&world.events(&key.key).expect(403));
        [&stranger, &own].into_iter().for_each(|id| drop(world.decision(id)));
        let first = |path: &str| {
            let entry =
                eventually("the failed call is kept", || root.all(path).first().map(|entry| entry["id"].clone()));
            entry.to_string()
        };
        Recorded {
            decision: stranger,
            own_decision: own,
            error: first("/v1/error-log"),
            own_error: first("/v1/tenants/acme/error-log"),
        }
    }
}

/// A request to be made in somebody's name.
struct Asked {
    path: String,
    body: Option<Value>,
}

fn plain(path: &str) -> Asked {
    Asked { path: path.to_owned(), body: None }
}

fn with(path: &str, body: Value) -> Asked {
    Asked { path: path.to_owned(), body: Some(body) }
}

/// The request of an operation or a variant of it, about records of `acme` that root has made for it and nobody has used. `n` is new each time.
fn request(root: &Admin, id: &str, n: u32, recorded: &Recorded) -> Option<Asked> {
    let acme = |rest: &str| format!("/v1/tenants/acme/{rest}");
    let settings = acme("settings/shop/events");
    let set = || {
        root.put(&settings, json!({ "ip_ranges": ["192.0.2.0/24", "198.51.100.0/24"] })).expect(200);
    };
    // Makes a record to be used up, and leads to it.
    let made = |folder: &str, body: Value| {
        let told = root.post(folder, body).expect(201).json();
        format!("{folder}/{}", told["id"].as_str().unwrap())
    };
    let service = |n: u32| json!({ "id": format!("service-{n}"), "hosts": [format!("host-{n}.example")], "upstream": "http://127.0.0.1:9" });
    let feed = |n: u32| json!({ "id": format!("feed-{n}"), "services": ["shop"] });
    let pair = json!({ "name": "Pair", "profile": "ours", "confirm": true });
    let theirs = json!({ "key_id": format!("theirs-{n}"), "secret": "a secret of theirs", "profile": "ours" });
    let profile = format!("/v1/signature-profiles/profile-{n}");
    let tenant_key = json!({ "name": "Made", "group": "all" });
    let management_key =
        json!({ "name": "Made", "expires": "2099-12-31", "endpoints": ["shop/events"], "creator": "eve" });
    let client = json!({ "name": "Made", "scopes": ["async-events"], "audiences": ["https://api.shop.example"] });
    let (pairs, tenant_keys, management_keys) = (acme("workspace-keys"), acme("tenant-keys"), acme("management-keys"));
    let (clients, personal_key) = (acme("clients"), "/v1/me/personal-key");
    // Makes a key of which two secrets work.
    let rotated = |folder: &str, body: Value| {
        let key = made(folder, body);
        root.post(&format!("{key}/rotate"), json!({ "confirm": true, "overlap_s": 3600 })).expect(201);
        format!("{key}/end-overlap")
    };
    let imported = json!({ "keys": [{ "sha256": format!("{n:064x}"), "name": "Theirs", "group": "all" }] });
    let confirmed = json!({ "confirm": true });
    Some(match id {
        "showSelf" => plain("/v1/self"),
        "showInstallation" => plain("/v1/installation"),
        "editInstallation" => with("/v1/installation", json!({ "clock_skew_s": 300 })),
        "listSignatureProfiles" => plain("/v1/signature-profiles"),
        "showSignatureProfile" => plain("/v1/signature-profiles/ours"),
        "putSignatureProfile" => with("/v1/signature-profiles/ours", escher()),
        "deleteSignatureProfile" => {
            root.put(&profile, escher()).expect(200);
            plain(&profile)
        }
        "listServices" => plain("/v1/services"),
        "createService" => with("/v1/services", service(n)),
        "showService" => plain("/v1/services/shop"),
        "editService" => with("/v1/services/shop", json!({ "name": "Shop" })),
        "deleteService" => plain(&format!("{}?confirm=true", made("/v1/services", service(n)))),
        "listEndpoints" => plain("/v1/services/shop/endpoints"),
        "showEndpoint" => plain("/v1/services/shop/endpoints/events"),
        "putEndpoint" => {
            with(&format!("/v1/services/shop/endpoints/new-{n}"), json!({ "paths": [format!("/new-{n}")] }))
        }
        "deleteEndpoint" => {
            let at = format!("/v1/services/shop/endpoints/old-{n}");
            root.put(&at, json!({ "paths": [format!("/old-{n}")] })).expect(200);
            plain(&format!("{at}?confirm=true"))
        }
        "listNodes" => plain("/v1/nodes"),
        "listFeeds" => plain("/v1/feeds"),
        "createFeed" => with("/v1/feeds", feed(n)),
        "showFeed" => plain("/v1/feeds/edge"),
        "editFeed" => with(&made("/v1/feeds", feed(n)), json!({ "services": ["shop"] })),
        "deleteFeed" => plain(&format!("{}?confirm=true", made("/v1/feeds", feed(n)))),
        "deleteFeed unconfirmed" => plain(&made("/v1/feeds", feed(n))),
        // A call of a worker says who it is; whoever may make it is told so.
        "showFeedBase" => plain("/v1/feeds/edge/base"),
        "showFeedPart" => plain("/v1/feeds/edge/base/0/0"),
        "listFeedChanges" => plain("/v1/feeds/edge/changes?cursor=r1"),
        // Nothing was decided, which every worker may say that says who it is.
        "giveDecisions" => plain("/v1/feeds/edge/decisions"),
        "listTenants" => plain("/v1/tenants"),
        "createTenant" => with("/v1/tenants", json!({ "id": format!("tenant-{n}") })),
        "showTenant" => plain("/v1/tenants/acme"),
        "editTenant" => with("/v1/tenants/acme", json!({ "name": "Acme" })),
        "listSettings" => plain(&acme("settings")),
        "showSettings" => {
            set();
            plain(&settings)
        }
        "putSettings" => with(&settings, json!({ "ip_ranges": ["192.0.2.0/24"], "signature": "observed" })),
        "deleteSettings" => {
            set();
            plain(&settings)
        }
        "deleteRange" => {
            set();
            plain(&format!("{settings}/ip-ranges?entry=192.0.2.0%2F24"))
        }
        "listGroups" => plain(&acme("groups")),
        "createGroup" => with(&acme("groups"), json!({ "id": format!("group-{n}") })),
        "showGroup" => plain(&acme("groups/all")),
        "editGroup" => with(&acme("groups/all"), json!({ "name": "All" })),
        "deleteGroup" => plain(&made(&acme("groups"), json!({ "id": format!("group-{n}") }))),
        "listApplications" => plain(&acme("applications")),
        "createApplication" => with(&acme("applications"), json!({ "id": format!("app-{n}") })),
        "showApplication" => plain(&made(&acme("applications"), json!({ "id": format!("app-{n}") }))),
        "deleteApplication" => plain(&made(&acme("applications"), json!({ "id": format!("app-{n}") }))),
        "listUsers" => plain(&acme("users")),
        "createUser" => with(&acme("users"), json!({ "id": format!("user-{n}"), "role": "member" })),
        "createUser admin" => with(&acme("users"), json!({ "id": format!("user-{n}"), "role": "admin" })),
        "showUser" => plain(&acme("users/max")),
        "editUser" => with(&acme("users/max"), json!({ "name": "Max" })),
        "editUser admin" => with(&acme("users/eve"), json!({ "name": "Eve" })),
        "deleteUser admin" => {
            let user = made(&acme("users"), json!({ "id": format!("user-{n}"), "role": "admin" }));
            plain(&format!("{user}?confirm=true"))
        }
        "deleteUser unconfirmed" => plain(&acme("users/max")),
        "deleteService unconfirmed" => plain("/v1/services/shop"),
        "deleteEndpoint unconfirmed" => plain("/v1/services/shop/endpoints/events"),
        "createWorkspaceKey unconfirmed" => {
            made(&pairs, pair);
            with(&pairs, json!({ "name": "Pair", "profile": "ours" }))
        }
        "importWorkspaceKey" => with(&format!("{pairs}/import"), merged(theirs, confirmed)),
        "importWorkspaceKey unconfirmed" => {
            made(&pairs, pair);
            with(&format!("{pairs}/import"), theirs)
        }
        "revokeWorkspaceKey unconfirmed" => with(&format!("{}/revoke", made(&pairs, pair)), json!({})),
        "rotateTenantKey unconfirmed" => with(&format!("{}/rotate", made(&tenant_keys, tenant_key)), json!({})),
        "revokeTenantKey unconfirmed" => with(&format!("{}/revoke", made(&tenant_keys, tenant_key)), json!({})),
        "rotateManagementKey unconfirmed" => {
            with(&format!("{}/rotate", made(&management_keys, management_key)), json!({}))
        }
        "revokeManagementKey unconfirmed" => {
            with(&format!("{}/revoke", made(&management_keys, management_key)), json!({}))
        }
        "deleteManagementKey unconfirmed" => plain(&made(&management_keys, management_key)),
        "deleteUser" => {
            let user = made(&acme("users"), json!({ "id": format!("user-{n}"), "role": "member" }));
            plain(&format!("{user}?confirm=true"))
        }
        "editTenant unconfirmed" => {
            set();
            with("/v1/tenants/acme", json!({ "modules": [] }))
        }
        "enrolUser" => plain(&acme("users/max/enrolment")),
        "enrolUser admin" => plain(&acme("users/eve/enrolment")),
        "openSession" => plain("/v1/me/session"),
        "endSession" => plain("/v1/me/end-session"),
        "showMe" => plain("/v1/me"),
        "showPersonalKey" | "createPersonalKey" | "deletePersonalKey unconfirmed" => plain(personal_key),
        "deletePersonalKey" => plain("/v1/me/personal-key?confirm=true"),
        "regeneratePersonalKey" => with("/v1/me/personal-key/regenerate", confirmed),
        "regeneratePersonalKey unconfirmed" => with("/v1/me/personal-key/regenerate", json!({})),
        "showCheckpoint" => plain("/v1/audit/checkpoint"),
        "exportAudit" => plain("/v1/audit/export"),
        "listTenantDecisions" => plain(&acme("decisions")),
        "showTenantDecision" => plain(&acme(&format!("decisions/{}", recorded.own_decision))),
        "listErrors" => plain("/v1/error-log"),
        "showError" => plain(&format!("/v1/error-log/{}", recorded.error)),
        "listTenantErrors" => plain(&acme("error-log")),
        "showTenantError" => plain(&acme(&format!("error-log/{}", recorded.own_error))),
        "showErrorLogSettings" => plain(&acme("error-log/settings")),
        "putErrorLogSettings" => with(&acme("error-log/settings"), json!({ "enabled": true })),
        "browseEndpoints" => plain(&acme("endpoints")),
        "testClientIp" => plain("/v1/client-ip"),
        "testTenantClientIp" => plain(&acme("client-ip")),
        "reportLeaked" => with("/v1/leaked", json!({ "keys": ["ptc_nobody"] })),
        "importTenantKeys" => with(&format!("{tenant_keys}/import"), imported),
        "endOverlapTenantKey" => with(&rotated(&tenant_keys, tenant_key), confirmed),
        "endOverlapTenantKey unconfirmed" => with(&rotated(&tenant_keys, tenant_key), json!({})),
        "endOverlapManagementKey" => with(&rotated(&management_keys, management_key), confirmed),
        "endOverlapManagementKey unconfirmed" => with(&rotated(&management_keys, management_key), json!({})),
        "listClients" => plain(&clients),
        "createClient" => with(&clients, client),
        "createClient beyond" => {
            let terms = json!({ "scopes": ["vault"], "audiences": ["https://api.shop.example"] });
            with(&clients, merged(client, terms))
        }
        "createManagementKey beyond" => {
            with(&management_keys, merged(management_key, json!({ "endpoints": ["shop/vault"] })))
        }
        "showClient" => plain(&made(&clients, client)),
        "revokeClient" => with(&format!("{}/revoke", made(&clients, client)), confirmed),
        "revokeClient unconfirmed" => with(&format!("{}/revoke", made(&clients, client)), json!({})),
        "listClientTokens" => plain(&format!("{}/tokens", made(&clients, client))),
        "listClientLog" => plain(&format!("{}/log", made(&clients, client))),
        "listTokenKeys" => plain("/v1/token-keys"),
        "rotateTokenKey" => with("/v1/token-keys/rotate", json!({ "at_once": true })),
        "retireTokenKey" => with(&format!("/v1/token-keys/{}/retire", old_token_key(root)), confirmed),
        "retireTokenKey unconfirmed" => with(&format!("/v1/token-keys/{}/retire", old_token_key(root)), json!({})),
        "listTenantAudit" => plain(&acme("audit")),
        "listAudit" => plain("/v1/audit"),
        "verifyAudit" => plain("/v1/audit/verification"),
        "listDecisions" => plain("/v1/decisions"),
        "showDecision" => plain(&format!("/v1/decisions/{}", recorded.decision)),
        "check" => with("/v1/check", Value::Null),
        "listWorkspaceKeys" => plain(&pairs),
        "createWorkspaceKey" => with(&pairs, pair),
        "showWorkspaceKey" => plain(&made(&pairs, pair)),
        "revokeWorkspaceKey" => with(&format!("{}/revoke", made(&pairs, pair)), confirmed),
        "listTenantKeys" => plain(&tenant_keys),
        "createTenantKey" => with(&tenant_keys, tenant_key),
        "showTenantKey" => plain(&made(&tenant_keys, tenant_key)),
        "editTenantKey" => with(&made(&tenant_keys, tenant_key), json!({ "description": "For a test" })),
        "rotateTenantKey" => with(&format!("{}/rotate", made(&tenant_keys, tenant_key)), confirmed),
        "revokeTenantKey" => with(&format!("{}/revoke", made(&tenant_keys, tenant_key)), confirmed),
        "listManagementKeys" => plain(&management_keys),
        "createManagementKey" => with(&management_keys, management_key),
        "showManagementKey" => plain(&made(&management_keys, management_key)),
        "rotateManagementKey" => with(&format!("{}/rotate", made(&management_keys, management_key)), confirmed),
        "revokeManagementKey" => with(&format!("{}/revoke", made(&management_keys, management_key)), confirmed),
        "deleteManagementKey" => plain(&format!("{}?confirm=true", made(&management_keys, management_key))),
        _ => return None,
    })
}

/// A key of access tokens that signs no more. There are few places for such, so one that is there will do.
fn old_token_key(root: &Admin) -> String {
    let find = |told: Value| {
        let items = told["items"].as_array().unwrap().clone();
        items.into_iter().find(|key| key["role"] == "old").map(|key| key["kid"].as_str().unwrap().to_owned())
    };
    let known = find(root.get("/v1/token-keys").expect(200).json());
    known.or_else(|| find(root.post("/v1/token-keys/rotate", json!({ "at_once": true })).expect(200).json())).unwrap()
}

fn merged(mut body: Value, other: Value) -> Value {
    body.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    body
}

/// The keys of the roles.
fn callers(world: &World, described: &Described) -> Vec<Caller> {
    let root = world.admin();
    // What only people who have signed in have, no key can be given.
    let for_keys = |needs: &&str| !needs.is_empty() && !["me", "enrolment"].contains(&last(needs));
    let needed = described.operations.iter().map(|operation| operation.needs.as_str());
    let all: BTreeSet<String> = needed.filter(for_keys).map(str::to_owned).collect();
    let all: Vec<String> = all
        .into_iter()
        .chain(["shop/events", "shop/reports", "shop/items", "shop/async-events"].map(str::to_owned))
        .collect();
    let reading: Vec<String> = all.iter().filter(|endpoint| endpoint.ends_with(".read")).cloned().collect();
    let few = ["self", "tenants", "audit"].map(|id| format!("portcullis/{id}.read"));
    for (tenant, user) in [("acme", "ada"), ("acme", "eve"), ("acme", "gone"), ("globex", "bob")] {
        let body = json!({ "id": user, "role": "admin" });
        root.post(&format!("/v1/tenants/{tenant}/users"), body).expect(201);
    }
    let key = |tenant: &str, name: &str, creator: Option<&str>, endpoints: &[String], expires: &str| {
        let body = json!({ "name": name, "creator": creator, "endpoints": endpoints, "expires": expires });
        Key::of(&root.post(&format!("/v1/tenants/{tenant}/management-keys"), body).expect(201))
    };
    const LATER: &str = "2099-12-31";
    let revoked = key("acme", "revoked", Some("ada"), &all, LATER);
    let at = format!("/v1/tenants/acme/management-keys/{}/revoke", revoked.id);
    root.post(&at, json!({ "confirm": true })).expect(200);
    // As soon as can be: an expiry lies in the future and is a whole second.
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 2;
    let soon = portcullis_time(soon);
    let expired = key("acme", "expired", Some("ada"), &all, &soon);
    eventually("the key expires", || (world.admin_with(&expired.key).get("/v1/self").status() == 401).then_some(()));
    let orphan = key("acme", "orphan", Some("gone"), &all, LATER);
    root.patch("/v1/tenants/acme/users/gone", json!({ "state": "disabled" })).expect(200);
    let caller = |name, key: String| Caller { name, proof: Proof::Key(key) };
    vec![
        Caller { name: "nobody", proof: Proof::None },
        caller("superuser", world.site.admin_key.clone()),
        caller("support", key("system", "support", None, &few, LATER).key),
        caller("admin", key("acme", "admin", Some("ada"), &all, LATER).key),
        caller("reader", key("acme", "reader", Some("ada"), &reading, LATER).key),
        caller("foreign", key("globex", "foreign", Some("bob"), &all, LATER).key),
        Caller { name: "code", proof: Proof::Code("member") },
        Caller { name: "session", proof: Proof::Session("member") },
        Caller { name: "session-a", proof: Proof::Session("admin") },
        caller("revoked", revoked.key),
        caller("expired", expired.key),
        caller("orphan", orphan.key),
    ]
}

/// An endpoint of the admin API without its service, and whether it is the one to read.
fn last(needs: &str) -> &str {
    needs.trim_start_matches("portcullis/").trim_end_matches(".read")
}

/// A time as RFC 3339, from seconds since 1970.
fn portcullis_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date after Howard Hinnant's `civil_from_days`, for dates after 1970.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

fn ask(world: &World, operation: &Operation, asked: &Asked, authorization: Option<&str>) -> Message {
    let mut call = Call::new(&operation.method, &asked.path).field("host", "localhost");
    if let Some(authorization) = authorization {
        call = call.field("authorization", authorization);
    }
    if operation.path.starts_with("/v1/feeds/{application}/") {
        // Workers say who they are.
        for (name, value) in [("node", "edge-1"), ("worker", "00000000000000a1"), ("now", "1800000000")] {
            call = call.field(&format!("x-portcullis-{name}"), value);
        }
    }
    call = match &asked.body {
        // Bytes that are no packed head are explained as that.
        Some(Value::Null) => call.field("content-type", "application/octet-stream").body("no head"),
        Some(body) => call.json(body),
        None => call,
    };
    call.send(world.server.admin)
}

/// Asserts that what is another tenant's answers as what is not there: under its tenant's name, and under the caller's own.
fn assert_missing(world: &World, operation: &Operation, asked: &Asked, authorization: &str, answer: &Message) {
    let under = |tenant: &str| {
        let path = asked.path.replacen("/acme", &format!("/{tenant}"), 1);
        ask(world, operation, &Asked { path, body: asked.body.clone() }, Some(authorization))
    };
    let missing = under("nobody").text().replace("nobody", "acme");
    let (found, missing) = (without_decision(&answer.text()), without_decision(&missing));
    assert_eq!(found, missing, "{} tells a foreign tenant from a missing one", operation.id);
    let names_record = ["{group}", "{name}", "{user}", "{key}", "{decision}", "{entry}"]
        .iter()
        .any(|name| operation.path.contains(name));
    if names_record {
        let own = under("globex");
        assert_eq!(own.status(), 404, "{} reaches into another tenant: {}", operation.id, own.text());
    }
}

/// A problem without the number of its decision, which is another each time.
fn without_decision(text: &str) -> Value {
    let mut told: Value = serde_json::from_str(text).unwrap();
    told.as_object_mut().unwrap().remove("decision");
    told
}

#[test]
fn every_operation_answers_every_role_as_reviewed() {
    let world = World::new();
    let root = world.admin();
    root.post("/v1/tenants", json!({ "id": "globex" })).expect(201);
    root.post("/v1/feeds", json!({ "id": "edge", "services": ["shop"] })).expect(201);
    root.post("/v1/tenants/acme/users", json!({ "id": "max", "role": "member" })).expect(201);
    for name in ["async-events", "vault"] {
        let endpoint = json!({ "paths": [format!("/{name}")], "scope": name });
        root.put(&format!("/v1/services/shop/endpoints/{name}"), endpoint).expect(200);
    }
    let described = Described::by(world.server.admin);
    let callers = callers(&world, &described);
    let recorded = Recorded::make(&world);

    let mut table = LEGEND.to_owned();
    let mut line = format!("\n{:<7}{:<77}", "", "");
    callers.iter().for_each(|caller| write!(line, " {:<9}", caller.name).unwrap());
    table.push_str(line.trim_end());
    table.push('\n');
    let mut n = 0;
    for operation in &described.operations {
        for (suffix, words) in VARIANTS {
            let id = format!("{}{suffix}", operation.id);
            n += 1;
            if request(&root, &id, n, &recorded).is_none() {
                assert!(
                    !suffix.is_empty(),
                    "{} {} is not in the matrix of roles: give it a request in `request` of tests/e2e/matrix.rs, under its \
                     id `{id}`",
                    operation.method,
                    operation.path,
                );
                continue;
            }
            let mut line = format!("{:<7}{:<77}", operation.method, format!("{}{words}", operation.path));
            for caller in &callers {
                n += 1;
                let asked = request(&root, &id, n, &recorded).unwrap();
                let authorization = caller.proof.authorization(&world, operation, n);
                let answer = ask(&world, operation, &asked, authorization.as_deref());
                described.check(operation, &answer);
                if caller.name == "foreign" && asked.path.starts_with("/v1/tenants/acme") {
                    assert_missing(&world, operation, &asked, authorization.as_deref().unwrap(), &answer);
                }
                write!(line, " {:<9}", answer.status()).unwrap();
            }
            table.push_str(line.trim_end());
            table.push('\n');
        }
    }

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/matrix.txt");
    if env::var_os("PORTCULLIS_BLESS").is_some() {
        fs::write(&file, &table).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    let differing: Vec<_> = table.lines().filter(|line| !expected.lines().any(|known| known == *line)).collect();
    assert!(table == expected, "the matrix differs from {}:\n{}", file.display(), differing.join("\n"));
    root.assert_audit_is_intact();
}
