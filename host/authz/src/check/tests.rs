use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;

use http::Request;
use portcullis_engine::{Config, Engine};
use portcullis_model::time::UnixTime;
use portcullis_tower::replays::Replays;

use super::*;
use crate::{Note, Secret, Terms, Wiring};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn terms(dialect: Dialect) -> Terms {
    Terms { dialect, service: None, secret: None, path_prefix: String::new(), whole_bodies: false, body_limit: 1024 }
}

/// One without a policy: it denies whatever it is asked, with `policy-missing`.
struct Gate {
    authz: Arc<Authz>,
    recorded: Arc<Mutex<Vec<&'static str>>>,
    strangers: Arc<Mutex<usize>>,
}

impl Gate {
    fn new(terms: Terms) -> Gate {
        let config = Config { workers: NonZeroUsize::MIN, ..Config::default() };
        let (recorded, strangers) = (Arc::<Mutex<Vec<&'static str>>>::default(), Arc::<Mutex<usize>>::default());
        let (record, note) = (Arc::clone(&recorded), Arc::clone(&strangers));
        let wiring = Wiring {
            engine: Arc::new(Engine::new(&config).unwrap()),
            clock: Box::new(|| UnixTime::from_secs(1_800_000_000).unwrap()),
            replays: Arc::new(Replays::new(16)),
            serves: Box::new(|_| true),
            record: Box::new(move |cause, _| {
                record.lock().unwrap().push(cause.map_or("allow", |cause| cause.name()));
                "0123456789abc".to_owned()
            }),
            note: Box::new(move |told| {
                if told == Note::Stranger {
                    *note.lock().unwrap() += 1;
                }
            }),
        };
        Gate { authz: Authz::new(Arc::new(wiring), terms), recorded, strangers }
    }

    /// The status and the fields of the answer, and why it is one.
    async fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> (u16, HeaderMap, Option<&'static str>) {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = self.authz.handle(request).await;
        (response.status().as_u16(), response.headers().clone(), self.recorded.lock().unwrap().pop())
    }
}

const NGINX: [(&str, &str); 6] = [
    ("x-original-method", "GET"),
    ("x-original-uri", "/events"),
    ("x-original-host", "shop.example"),
    ("x-original-proto", "https"),
    ("x-original-framing", "HTTP/1.1;;"),
    ("x-real-ip", "192.0.2.7"),
];
const FORWARD: [(&str, &str); 5] = [
    ("x-forwarded-method", "GET"),
    ("x-forwarded-uri", "/events"),
    ("x-forwarded-host", "shop.example"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-for", "192.0.2.7"),
];

#[tokio::test]
async fn a_check_without_one_of_its_fields_or_with_it_twice_denies() {
    for (dialect, fields, peer) in
        [(Dialect::Nginx, &NGINX[..], "x-real-ip"), (Dialect::ForwardAuth, &FORWARD[..], "x-forwarded-for")]
    {
        let gate = Gate::new(terms(dialect));
        assert_eq!(gate.ask("GET", "/", fields).await.2, Some("policy-missing"), "whole checks are decided");
        for (at, (name, value)) in fields.iter().enumerate() {
            let lacks = if *name == peer { "peer-unknown" } else { "original-missing" };
            let without: Vec<_> =
                fields.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, field)| *field).collect();
            let (status, headers, why) = gate.ask("GET", "/", &without).await;
            assert_eq!(why, Some(lacks), "without {name}");
            let told =
                headers.get("x-portcullis-status").map_or(status, |told| told.to_str().unwrap().parse().unwrap());
            assert_eq!(told, 503);
            assert_eq!(
                gate.ask("GET", "/", &[&without[..], &[(name, "")]].concat()).await.2,
                Some(lacks),
                "empty {name}"
            );
            if *name == "x-forwarded-for" {
                // A list, of which the last member counts.
                continue;
            }
            assert_eq!(gate.ask("GET", "/", &[fields, &[(name, value)]].concat()).await.2, Some(lacks), "twice {name}");
        }
        for (name, bad) in [
            ("x-real-ip", "192.0.2.7:80"),
            ("x-forwarded-for", "192.0.2.7, unknown"),
            ("x-forwarded-for", "192.0.2.7,"),
        ] {
            if name == peer {
                let changed: Vec<_> =
                    fields.iter().map(|field| if field.0 == name { (name, bad) } else { *field }).collect();
                assert_eq!(gate.ask("GET", "/", &changed).await.2, Some("peer-unknown"), "{bad}");
            }
        }
        for bad in ["HTTPS", "ws", "http,https"] {
            let changed: Vec<_> = fields.iter().map(|f| if f.0.ends_with("proto") { (f.0, bad) } else { *f }).collect();
            assert_eq!(gate.ask("GET", "/", &changed).await.2, Some("original-missing"), "{bad}");
        }
    }
}

#[tokio::test]
async fn envoys_http_service_has_to_tell_the_peer_and_the_prefix() {
    let gate = Gate::new(Terms { path_prefix: "/check".to_owned(), ..terms(Dialect::EnvoyHttp) });
    let host = ("host", "shop.example");
    let peer = ("x-portcullis-peer", "192.0.2.7");
    assert_eq!(gate.ask("GET", "/check/events", &[host, peer]).await.2, Some("policy-missing"));
    for (target, fields, why) in [
        ("/check/events", &[host][..], "peer-unknown"),
        ("/check/events", &[host, peer, peer], "peer-unknown"),
        ("/check/events", &[host, ("x-portcullis-peer", "%DOWNSTREAM%")], "peer-unknown"),
        ("/events", &[host, peer], "original-missing"),
        ("/checkevents", &[host, peer], "original-missing"),
        ("/check", &[host, peer], "original-missing"),
    ] {
        let (status, _, found) = gate.ask("GET", target, fields).await;
        assert_eq!((status, found), (503, Some(why)), "{target} {fields:?}");
    }
}

#[tokio::test]
async fn a_check_without_the_secret_is_nobodys() {
    for dialect in [Dialect::EnvoyHttp, Dialect::Nginx, Dialect::ForwardAuth] {
        let secret = Some(Secret::new(SECRET.as_bytes()).unwrap());
        let gate = Gate::new(Terms { secret, ..terms(dialect) });
        let fields: Vec<(&str, &str)> = [&NGINX[..], &FORWARD[..], &[("x-portcullis-peer", "192.0.2.7")]].concat();
        let with = |more: &[(&'static str, &'static str)]| [&fields[..], more].concat();
        for more in [&[][..], &[(SECRET_HEADER, "wrong")], &[(SECRET_HEADER, SECRET), (SECRET_HEADER, SECRET)]] {
            let (status, headers, recorded) = gate.ask("GET", "/events", &with(more)).await;
            assert_eq!((status, recorded), (401, None), "{dialect:?} {more:?}");
            assert!(headers.is_empty(), "{headers:?}");
        }
        assert_eq!(*gate.strangers.lock().unwrap(), 3);
        let known = gate.ask("GET", "/events", &with(&[(SECRET_HEADER, SECRET)])).await;
        assert_eq!(known.2, Some("policy-missing"), "{dialect:?}");
    }
}

#[tokio::test]
async fn nginx_is_told_what_it_cannot_pass_on_beside_a_403() {
    let gate = Gate::new(terms(Dialect::Nginx));
    let (status, headers, _) = gate.ask("GET", "/", &NGINX).await;
    assert_eq!(status, 403);
    for (name, value) in [
        ("x-portcullis-status", "503"),
        ("x-portcullis-code", "unavailable"),
        ("x-portcullis-decision", "0123456789abc"),
    ] {
        assert_eq!(headers[name], value);
    }
    let gate = Gate::new(terms(Dialect::ForwardAuth));
    let (status, headers, _) = gate.ask("GET", "/", &FORWARD).await;
    assert_eq!((status, headers.get("x-portcullis-status")), (503, None));
}

fn parts(fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri("/asked");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn texts(original: &Original<'_>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    original.fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn the_gate_gets_the_fields_of_the_request_and_none_of_the_check() {
    let own = [("x-api-key", "a"), ("x-api-key", "b"), ("cookie", "c"), ("x-portcullis-tenant", "forged")];
    let check = [("host", "portcullis"), ("content-length", "0"), ("connection", "close"), (SECRET_HEADER, SECRET)];
    let expected = |more: &[(&str, &str)]| -> Vec<(String, String)> {
        own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };

    let read = parts(&[&check[..], &NGINX[..], &own[..]].concat());
    let asked = nginx::read(&read).unwrap();
    assert_eq!(texts(&asked.original), expected(&[("host", "shop.example")]));
    assert_eq!((asked.original.target, asked.original.method), (&b"/events"[..], &b"GET"[..]));
    assert_eq!((asked.original.secure, asked.original.bodiless, asked.body), (true, true, Coming::No));

    let read = parts(&[&check[..], &FORWARD[..], &own[..]].concat());
    let asked = forward_auth::read(&read, &terms(Dialect::ForwardAuth), true).unwrap();
    assert_eq!(texts(&asked.original), expected(&[("host", "shop.example")]));
    assert_eq!((asked.original.secure, asked.original.bodiless, asked.body), (false, false, Coming::No));
}

#[test]
fn the_peer_of_forward_auth_is_the_last_hop() {
    for (hops, peer, rest) in [
        (&["192.0.2.1"][..], "192.0.2.1", None),
        (&["192.0.2.1, 192.0.2.2"], "192.0.2.2", Some("192.0.2.1")),
        (&["192.0.2.1", "192.0.2.2, 2001:db8::1"], "2001:db8::1", Some("192.0.2.1,192.0.2.2")),
        (&["forged,192.0.2.2"], "192.0.2.2", Some("forged")),
    ] {
        let mut fields: Vec<(&str, &str)> = FORWARD[..4].to_vec();
        fields.extend(hops.iter().map(|hop| ("x-forwarded-for", *hop)));
        let read = parts(&fields);
        let asked = forward_auth::read(&read, &terms(Dialect::ForwardAuth), true).unwrap();
        assert_eq!(asked.original.peer, peer.parse::<IpAddr>().unwrap(), "{hops:?}");
        let found = texts(&asked.original).into_iter().find(|(name, _)| name == "x-forwarded-for");
        assert_eq!(found.map(|(_, value)| value).as_deref(), rest, "{hops:?}");
    }
}

#[test]
fn a_body_of_envoys_http_service_counts_where_it_is_whole() {
    let peer = ("x-portcullis-peer", "192.0.2.7");
    let coming = |fields: &[(&str, &str)], whole_bodies: bool| {
        let read = parts(&[&[peer], fields].concat());
        envoy_http::read(&read, &Terms { whole_bodies, ..terms(Dialect::EnvoyHttp) }, false).unwrap().body
    };
    let mark = crate::envoy_grpc::PARTIAL_BODY;
    assert_eq!(coming(&[], true), Coming::Whole);
    assert_eq!(coming(&[], false), Coming::UnlessEmpty);
    assert_eq!(coming(&[(mark, "false")], true), Coming::Whole);
    for marks in [&[(mark, "true")][..], &[(mark, "false,true")], &[(mark, "false"), (mark, "true")]] {
        assert_eq!(coming(marks, true), Coming::No, "{marks:?}");
    }
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit_and_given_back() {
    let gate = Gate::new(terms(Dialect::EnvoyHttp));
    let read = async |length: usize, cap: usize| {
        gate.authz.read(Full::<Bytes>::from(vec![7; length]), cap).await.map(|(bytes, _)| bytes.len())
    };
    assert_eq!(read(0, 8).await, Ok(0));
    assert_eq!(read(8, 8).await, Ok(8));
    assert_eq!(read(9, 8).await, Err(HostFault::BodyTooLarge));
    let held = gate.authz.read(Full::<Bytes>::from(vec![7; 1024]), 4096).await.unwrap();
    assert_eq!(gate.authz.held.available_permits(), MAX_HELD_KIB - 1);
    let rest = u32::try_from(MAX_HELD_KIB - 1).unwrap();
    let full = gate.authz.held.try_acquire_many(rest).unwrap();
    assert_eq!(read(1, 8).await, Err(HostFault::BodiesFull), "{MAX_HELD_BYTES} are held");
    drop((held, full));
    assert_eq!(gate.authz.held.available_permits(), MAX_HELD_KIB);
}

#[test]
fn an_empty_check_is_of_a_request_without_a_body_only_where_all_bodies_come() {
    let peer = ("x-portcullis-peer", "192.0.2.7");
    let partial = (crate::envoy_grpc::PARTIAL_BODY, "true");
    for (whole_bodies, is_empty, fields, expected) in [
        (true, true, &[peer][..], true),
        (true, false, &[peer], false),
        (false, true, &[peer], false),
        (true, true, &[peer, partial], false),
    ] {
        let read = parts(fields);
        let terms = Terms { whole_bodies, ..terms(Dialect::EnvoyHttp) };
        assert_eq!(envoy_http::read(&read, &terms, is_empty).unwrap().original.bodiless, expected, "{fields:?}");
    }
    let read = parts(&FORWARD);
    for (whole_bodies, is_empty) in [(true, true), (true, false), (false, true), (false, false)] {
        let terms = Terms { whole_bodies, ..terms(Dialect::ForwardAuth) };
        let asked = forward_auth::read(&read, &terms, is_empty).unwrap();
        assert_eq!(asked.original.bodiless, whole_bodies && is_empty);
    }
}
