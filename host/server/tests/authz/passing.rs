//! What each of the three does with requests, all with the files in `deploy/`.

use crate::front::{Front, Kind, SECRET, metric, world};
use crate::http::Call;
use crate::signer::escher;
use crate::world::{HOST, World};

fn call(method: &str, target: &str, key: &str) -> Call {
    Call::new(method, target).field("host", HOST).field("x-api-key", key)
}

fn each(check: impl Fn(&World, &Front)) {
    let world = world();
    for kind in Kind::ALL {
        check(&world, &Front::start(&world, kind));
    }
}

#[test]
fn what_is_allowed_passes_with_who_it_is_and_without_its_key() {
    each(|world, front| {
        let key = world.tenant_key();
        let forged = call("GET", "/events?a=1", &key.key)
            .field("x-portcullis-tenant", "forged")
            .field("x-portcullis-tenant", "twice")
            .field("x-portcullis-endpoint", "forged")
            .field("x-portcullis-target", "/forged")
            .field("x-kept", "1");
        front.passes(&forged);
        let received = world.echo.last();
        assert_eq!(received.target(), "/events?a=1");
        assert_eq!(received.field("host"), Some(HOST));
        for (name, value) in [
            ("x-portcullis-tenant", Some("acme")),
            ("x-portcullis-credential", Some(key.id.as_str())),
            ("x-portcullis-kind", Some("tenant")),
            ("x-portcullis-endpoint", Some("shop/events")),
            ("x-portcullis-target", None),
            ("x-api-key", None),
            ("x-kept", Some("1")),
        ] {
            assert_eq!(received.field(name), value, "{:?}: {name}", front.kind);
        }
        let names: Vec<&str> = received.fields.iter().map(|(name, _)| name.as_str()).collect();
        let ours = names.iter().filter(|name| name.starts_with("x-portcullis-")).count();
        assert_eq!(ours, 4, "{:?}: {names:?}", front.kind);
        // Any other of these names goes too, where the proxy can take it out.
        front.passes(&call("GET", "/events", &key.key).field("x-portcullis-admin", "forged"));
        let kept = world.echo.last().field("x-portcullis-admin").is_some();
        assert_eq!(kept, front.kind == Kind::Nginx, "{:?}", front.kind);
    });
}

#[test]
fn what_is_denied_is_told_as_the_proxy_of_portcullis_tells_it() {
    each(|world, front| {
        let key = world.tenant_key();
        let before = world.echo.count();
        let unknown = call("GET", "/events", "ptc_nobody");
        let decision = front.problem(&unknown, 401, "unauthorized");
        let answer = front.send(&unknown);
        let challenges: Vec<_> = answer.fields.iter().filter(|(name, _)| name == "www-authenticate").collect();
        let own = unknown.send(world.server.proxy);
        assert_eq!(challenges.len(), usize::from(own.field("www-authenticate").is_some()), "{:?}", front.kind);
        assert_eq!(answer.field("www-authenticate"), own.field("www-authenticate"), "{:?}", front.kind);
        let recorded = world.decision(&decision);
        assert_eq!(recorded["reason"], own_reason(world, &unknown), "{recorded}");

        front.problem(&call("GET", "/nowhere", &key.key), 403, "no_such_endpoint");
        front.problem(&call("DELETE", "/events", &key.key), 403, "method_not_allowed");
        front.problem(&Call::new("GET", "/events").field("host", "other.example"), 403, "no_such_endpoint");
        front.problem(&call("GET", "//events", &key.key), 400, "bad_target");
        front.problem(&call("GET", "/events/%2e%2e", &key.key), 400, "bad_target");
        front.problem(&call("GET", &format!("/events?{}", "a".repeat(9000)), &key.key), 414, "too_large");
        // The admin API is a service of the same policy.
        let admin = format!("ManagementKey-v1 {}", world.site.admin_key);
        let admin = Call::new("GET", "/v1/tenants").field("host", "localhost").field("authorization", &admin);
        front.problem(&admin, 403, "no_such_endpoint");
        assert_eq!(world.echo.count(), before, "{:?}", front.kind);
    });
}

fn own_reason(world: &World, call: &Call) -> serde_json::Value {
    let told = call.send(world.server.proxy).json();
    world.decision(told["decision"].as_str().unwrap())["reason"].clone()
}

#[test]
fn a_doubled_key_is_seen() {
    each(|world, front| {
        let key = world.tenant_key();
        let doubled = call("GET", "/events", &key.key).field("x-api-key", &key.key);
        // Envoy's HTTP service joins the two, and no key has a comma.
        let (status, code) =
            if front.kind == Kind::EnvoyHttp { (401, "unauthorized") } else { (400, "ambiguous_credential") };
        front.problem(&doubled, status, code);
    });
}

#[test]
fn the_target_arrives_byte_for_byte() {
    each(|world, front| {
        let key = world.tenant_key();
        for target in ["/events/a%20b?x=%2F&x=%2f&y", "/events?", "/events?b=2&a=1&&c==&%41", "/events/%C3%A9?a=%20+"] {
            front.passes(&call("GET", target, &key.key));
            assert_eq!(world.echo.last().target(), target, "{:?}", front.kind);
        }
    });
}

#[test]
fn a_key_in_the_query_is_cut_out_and_the_rest_stays_as_it_is() {
    each(|world, front| {
        world.accept_signatures("ours", &escher());
        let key = world.workspace_key();
        let target = format!("/events?z=1&api_key={}&b=%7E&a&&c=", key.key);
        let decided = Call::new("GET", &target).field("host", HOST);
        let own = decided.send(world.server.proxy);
        let expected = if own.status() == 200 { Some(world.echo.last().target().to_owned()) } else { None };
        let answer = front.send(&decided);
        assert_eq!(answer.status, own.status(), "{:?}: {}", front.kind, String::from_utf8_lossy(&answer.body));
        let expected = expected.expect("a workspace key may be in the query");
        assert!(!expected.contains("api_key"), "{expected}");
        assert_eq!(world.echo.last().target(), expected, "{:?}", front.kind);
    });
}

#[test]
fn a_signature_over_a_body_passes_where_the_body_comes_whole() {
    each(|world, front| {
        let signer = world.signer(escher());
        world.signatures("enforced", "any");
        front.passes(&signer.call("GET", "/events?a=1", &[], ""));
        let body = r#"{"name":"\u00e9","bytes":"%00"}"#;
        let signed = signer.call("POST", "/events", &[], body).body(body);
        let altered = signer.call("POST", "/events", &[], body).body(body.replace("name", "mane"));
        let before = world.echo.count();
        if front.kind == Kind::Nginx {
            let decision = front.problem(&signed, 503, "body_unavailable");
            assert_eq!(world.decision(&decision)["reason"], "body-unavailable");
            front.problem(&altered, 503, "body_unavailable");
            assert_eq!(world.echo.count(), before);
        } else {
            front.passes(&signed);
            assert_eq!(world.echo.last().text(), body, "{:?}", front.kind);
            front.problem(&altered, 401, "unauthorized");
            assert_eq!(world.echo.count(), before + 1);
        }
    });
}

#[test]
fn a_signed_request_that_is_accepted_once_is_so_across_proxies() {
    let world = world();
    let signer = world.signer(escher());
    world.signatures("enforced", "once");
    let fronts = Kind::ALL.map(|kind| Front::start(&world, kind));
    for (at, first) in fronts.iter().enumerate() {
        let once = signer.call("GET", &format!("/events?at={at}"), &[], "");
        first.passes(&once);
        for front in &fronts {
            front.problem(&once, 401, "unauthorized");
        }
        once.send(world.server.proxy).problem(401, "unauthorized");
    }
}

#[test]
fn a_revoked_key_is_dead_on_the_next_request() {
    each(|world, front| {
        let key = world.tenant_key();
        front.passes(&call("GET", "/events", &key.key));
        let revoke = format!("{}/{}/revoke", crate::world::TENANT_KEYS, key.id);
        let revoked = world.admin().post(&revoke, serde_json::json!({ "confirm": true }));
        assert!(revoked.status() < 300, "{}", revoked.text());
        front.problem(&call("GET", "/events", &key.key), 401, "unauthorized");
    });
}

#[test]
fn nothing_passes_while_the_server_is_dead() {
    let mut world = world();
    let key = world.tenant_key();
    let fronts = Kind::ALL.map(|kind| Front::start(&world, kind));
    fronts.iter().for_each(|front| front.passes(&call("GET", "/events", &key.key)));
    let before = world.echo.count();
    world.server.kill();
    for front in &fronts {
        for _ in 0..3 {
            let answer = front.send(&call("GET", "/events", &key.key));
            assert_eq!(answer.status, 503, "{:?}", front.kind);
        }
    }
    assert_eq!(world.echo.count(), before);
}

#[test]
fn a_proxy_with_another_secret_gets_nothing_through() {
    let world = world();
    let key = world.tenant_key();
    let before = world.echo.count();
    for (at, kind) in (1..).zip(Kind::ALL) {
        let other = SECRET.to_uppercase();
        let front = Front::with(&world, kind, &other, |text| text);
        let answer = front.send(&call("GET", "/events", &key.key));
        // Envoy takes a failed call over gRPC for no answer, and passes a 401 over HTTP on.
        let expected = if kind == Kind::EnvoyHttp { 401 } else { 503 };
        assert_eq!(answer.status, expected, "{kind:?}");
        assert_eq!(metric(&world, "portcullis_authz_strangers_refused_total"), at);
    }
    assert_eq!(world.echo.count(), before);
    assert!(!world.server.stderr().contains(SECRET), "nobody is told the secret");
}

#[test]
fn fields_that_do_not_come_raw_deny_and_the_log_says_what_to_do() {
    let world = world();
    let key = world.tenant_key();
    let front = Front::with(&world, Kind::EnvoyGrpc, SECRET, |text| {
        text.replace("encode_raw_headers: true", "encode_raw_headers: false")
    });
    for _ in 0..2 {
        let decision = front.problem(&call("GET", "/events", &key.key), 503, "unavailable");
        assert_eq!(world.decision(&decision)["reason"], "headers-not-raw");
    }
    assert_eq!(world.server.stderr().matches("encode_raw_headers: true").count(), 1);
}

#[test]
fn a_route_that_is_confined_to_a_service_leads_to_no_other() {
    let world = world();
    let key = world.tenant_key();
    let confined = |service: &str| {
        let service = service.to_owned();
        Front::with(&world, Kind::EnvoyGrpc, SECRET, move |text| {
            let text = text.replace("service: shop }", &format!("service: {service} }}"));
            let lines = text.lines().map(|line| {
                let is_it =
                    ["typed_per_filter_config", "envoy.filters.http.ext_authz:", "ExtAuthzPerRoute", "check_settings"]
                        .iter()
                        .any(|part| line.contains(part));
                if is_it { line.replacen("# ", "", 1) } else { line.to_owned() }
            });
            lines.collect::<Vec<_>>().join("\n")
        })
    };
    confined("shop").passes(&call("GET", "/events", &key.key));
    confined("other").problem(&call("GET", "/events", &key.key), 403, "no_such_endpoint");
}
