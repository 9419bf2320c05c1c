//! REQUIREMENTS P6 and P10: denials explained, and what the node sees of client addresses.

use serde_json::{Value, json};

use crate::server::{eventually, portcullis, run};
use crate::world::{Admin, Key, MANAGEMENT_KEYS, TENANT_KEYS, World};

const SETTINGS: &str = "/v1/tenants/acme/settings/shop/events";
const TEST: &str = "/v1/tenants/acme/client-ip";

/// A key of the tenant itself, for everything that only reads.
fn own_admin(world: &World) -> Admin {
    let body = json!({
        "name": "Own", "expires": "2099-12-31", "creator_rule": "independent",
        "endpoints": ["portcullis/decisions.read", "portcullis/client-ip.read", "portcullis/error-log.read"],
    });
    world.admin_with(&Key::of(&world.admin().post(MANAGEMENT_KEYS, body).expect(201)).key)
}

fn step<'a>(trace: &'a Value, check: &str) -> &'a Value {
    let steps = trace["now"]["steps"].as_array().unwrap_or_else(|| panic!("no steps: {trace}"));
    steps.iter().find(|step| step["check"] == check).unwrap_or_else(|| panic!("no {check}: {trace}"))
}

#[test]
fn p6_a_denial_is_traced_step_by_step_then_and_now() {
    let world = World::new();
    let (admin, own) = (world.admin(), own_admin(&world));
    let key = world.tenant_key();
    admin.put(SETTINGS, json!({ "ip_ranges": ["203.0.113.0/24"] })).expect(200);
    let call = world.call("POST", "/events").field("x-api-key", &key.key).json(&json!({ "order": 17 }));
    let told = call.send(world.server.proxy).problem(403, "address_forbidden");
    let id = told["decision"].as_str().unwrap();
    let at = format!("/v1/tenants/acme/decisions/{id}");
    let trace = eventually("the decision and the call are kept", || {
        let answer = own.get(&at);
        (answer.status() == 200).then(|| answer.json()).filter(|trace| trace["call"].is_object())
    });
    assert_eq!((&trace["verdict"], &trace["reason"]), (&"deny".into(), &"address-not-in-endpoint".into()), "{trace}");
    assert_eq!(step(&trace, "endpoint-address")["outcome"], "fail", "{trace}");
    assert!(step(&trace, "endpoint-address")["detail"].as_str().unwrap().contains("127.0.0.1"), "{trace}");
    assert_eq!(trace["call"]["request"]["body"]["json"]["order"], 17, "{trace}");
    assert!(trace["summary"].as_str().unwrap().contains("now: deny address-not-in-endpoint"), "{trace}");

    admin.delete(SETTINGS).expect(204);
    let trace = own.get(&at).expect(200).json();
    let summary = trace["summary"].as_str().unwrap();
    assert!(summary.starts_with("then: deny address-not-in-endpoint at revision "), "{summary}");
    assert!(summary.contains("; now: allow at revision "), "{summary}");
    assert_eq!(step(&trace, "endpoint-address")["outcome"], "skip", "{trace}");
    assert!(!trace.to_string().contains(&key.key), "{trace}");
    // What was sent is for those who may read the error log.
    let body = json!({
        "name": "Less", "expires": "2099-12-31", "creator_rule": "independent", "endpoints": ["portcullis/decisions.read"],
    });
    let less = world.admin_with(&Key::of(&admin.post(MANAGEMENT_KEYS, body).expect(201)).key);
    let trace = less.get(&at).expect(200).json();
    assert_eq!((&trace["reason"], &trace["call"]), (&"address-not-in-endpoint".into(), &Value::Null), "{trace}");

    let shown = run(portcullis()
        .args(["decision", "show", id])
        .env("PORTCULLIS_SERVER", format!("http://{}", world.server.admin))
        .env("PORTCULLIS_KEY", &world.site.admin_key));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("now: allow") && shown.stdout.contains("Steps now"), "{}", shown.stdout);
    assert!(shown.stdout.contains("The call") && shown.stdout.contains("\"order\": 17"), "{}", shown.stdout);
}

#[test]
fn p6_a_tenant_sees_its_own_decisions_alone() {
    let world = World::new();
    let own = own_admin(&world);
    let key = world.tenant_key();
    for _ in 0..2 {
        world.events(&key.key).expect(200);
    }
    let stranger = world.events("ptc_nobody").problem(401, "unauthorized");
    let id = stranger["decision"].as_str().unwrap();
    let trace = world.decision(id);
    assert!(trace["summary"].as_str().unwrap().contains("it cannot be judged again"), "{trace}");
    assert_eq!(trace["now"], Value::Null, "{trace}");
    own.get(&format!("/v1/tenants/acme/decisions/{id}")).problem(404, "not_found");
    own.get("/v1/decisions").problem(403, "forbidden");
    let decisions = own.all("/v1/tenants/acme/decisions");
    assert!(decisions.iter().all(|item| item["facts"]["tenant"] == "acme"), "{decisions:?}");
    assert!(decisions.iter().any(|item| item["facts"]["credential"]["id"] == key.id.as_str()), "{decisions:?}");
    assert!(own.all("/v1/tenants/acme/decisions?denied=true").iter().all(|item| item["verdict"] == "deny"));
    world.admin().post("/v1/tenants", json!({ "id": "other", "name": "Other" })).expect(201);
    own.get("/v1/tenants/other/decisions").problem(404, "not_found");
    assert_eq!(world.admin().all("/v1/tenants/other/decisions"), [] as [Value; 0]);
    // Page by page it is the same.
    let first = own.get("/v1/tenants/acme/decisions?limit=1").expect(200).json();
    let next = first["next"].as_str().unwrap();
    let second = own.get(&format!("/v1/tenants/acme/decisions?limit=1&after={next}")).expect(200).json();
    assert!(second["items"][0]["id"].as_str() < first["items"][0]["id"].as_str(), "{first} {second}");
}

#[test]
fn p10_the_self_test_tells_the_hops_and_who_would_be_blocked() {
    let world = World::new();
    let (admin, own) = (world.admin(), own_admin(&world));
    let quiet = own.get(TEST).expect(200).json();
    assert_eq!(quiet["this_call"]["peer"], "127.0.0.1", "{quiet}");
    assert_eq!(quiet["judged_by"], "this_call", "{quiet}");

    let key = world.tenant_key();
    for _ in 0..10 {
        world.events(&key.key).expect(200);
    }
    let seen = eventually("the decisions are recorded", || {
        let seen = own.get(TEST).expect(200).json();
        (seen["recent"]["requests"] == 10).then_some(seen)
    });
    let warned = |seen: &Value, what: &str| {
        let warnings = seen["warnings"].as_array().unwrap();
        warnings.iter().any(|warning| warning.as_str().unwrap().contains(what))
    };
    assert!(warned(&seen, "all 10 requests of the last hour came from 127.0.0.1"), "{seen}");
    assert_eq!(seen["blocks_everyone"], json!({ "endpoints": [], "keys": [] }), "{seen}");

    // Lists that let nobody in who comes.
    admin.put(SETTINGS, json!({ "ip_ranges": ["203.0.113.0/24"] })).expect(200);
    let reports = json!({ "ip_ranges": ["127.0.0.0/8"] });
    admin.put("/v1/tenants/acme/settings/shop/reports", reports).expect(200);
    let listed = json!({ "name": "Elsewhere", "group": "all", "ip_allowlist": ["198.51.100.7"] });
    let elsewhere = Key::of(&admin.post(TENANT_KEYS, listed).expect(201));
    let seen = own.get(TEST).expect(200).json();
    let blocked = &seen["blocks_everyone"];
    assert_eq!(blocked["endpoints"], json!([{ "endpoint": "shop/events", "ip_ranges": ["203.0.113.0/24"] }]), "{seen}");
    assert_eq!(blocked["keys"][0]["id"], elsewhere.id.as_str(), "{seen}");
    assert_eq!(blocked["keys"].as_array().map(Vec::len), Some(1), "{seen}");

    // Hops from whom nobody trusts are told and not believed; then they are.
    let hop = |admin: &Admin| {
        let call = admin.call("GET", TEST).field("x-forwarded-for", "198.51.100.9, 127.0.0.1");
        call.send(admin.address).expect(200).json()
    };
    let seen = hop(&own);
    assert!(warned(&seen, "`x-forwarded-for` came from 127.0.0.1"), "{seen}");
    assert_eq!(
        (&seen["this_call"]["client"], &seen["this_call"]["peer_trusted"]),
        (&"127.0.0.1".into(), &false.into())
    );
    admin.patch("/v1/installation", json!({ "trusted_proxies": ["127.0.0.0/8"] })).expect(200);
    let seen = hop(&own);
    assert_eq!(seen["this_call"]["client"], "198.51.100.9", "{seen}");
    assert_eq!(
        (&seen["this_call"]["hops"][0]["trusted"], &seen["this_call"]["hops"][1]["trusted"]),
        (&false.into(), &true.into())
    );
    assert!(!warned(&seen, "was not believed"), "{seen}");

    own.get("/v1/client-ip").problem(403, "forbidden");
    assert_eq!(admin.get("/v1/client-ip").expect(200).json()["recent"]["requests"], 10);
    let shown = run(portcullis()
        .args(["client-ip", "acme"])
        .env("PORTCULLIS_SERVER", format!("http://{}", world.server.admin))
        .env("PORTCULLIS_KEY", &world.site.admin_key));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("`shop/events` let in none"), "{}", shown.stdout);
}
