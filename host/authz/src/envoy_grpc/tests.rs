use super::*;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address as Wrapped, HeaderMap, Pipe, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context;

fn source(address: Address) -> attribute_context::Peer {
    attribute_context::Peer { address: Some(Wrapped { address: Some(address) }), ..Default::default() }
}

fn socket(address: &str) -> Address {
    let port_specifier = Some(PortSpecifier::PortValue(40_000));
    Address::SocketAddress(SocketAddress { address: address.to_owned(), port_specifier, ..Default::default() })
}

fn raw(fields: &[(&str, &[u8])]) -> HeaderMap {
    let field = |(key, value): &(&str, &[u8])| HeaderValue {
        key: (*key).to_owned(),
        raw_value: value.to_vec(),
        ..HeaderValue::default()
    };
    HeaderMap { headers: fields.iter().map(field).collect() }
}

fn http(fields: &[(&str, &[u8])]) -> HttpRequest {
    HttpRequest {
        method: "POST".to_owned(),
        path: "/events?a=%2F&b".to_owned(),
        host: "shop.example:8443".to_owned(),
        scheme: "https".to_owned(),
        protocol: "HTTP/1.1".to_owned(),
        header_map: Some(raw(fields)),
        ..HttpRequest::default()
    }
}

fn check(http: HttpRequest) -> CheckRequest {
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source(socket("192.0.2.7"))),
            request: Some(attribute_context::Request { http: Some(http), ..Default::default() }),
            ..AttributeContext::default()
        }),
    }
}

fn changed(change: impl FnOnce(&mut AttributeContext)) -> CheckRequest {
    let mut check = check(http(&[]));
    change(check.attributes.as_mut().unwrap());
    check
}

fn fault(check: &CheckRequest) -> HostFault {
    match Asked::of(check, false) {
        Ok(_) => panic!("it is taken"),
        Err(incomplete) => incomplete.fault,
    }
}

#[test]
fn a_request_is_read_as_it_came() {
    let fields: &[(&str, &[u8])] = &[
        (":authority", b"shop.example:8443"),
        (":method", b"POST"),
        ("x-api-key", b"one"),
        ("x-api-key", b"two"),
        ("x-odd", b"\xff\x01"),
        (PARTIAL_BODY, b"false"),
    ];
    let request = check(http(fields));
    let Ok(asked) = Asked::of(&request, false) else { panic!("it is not taken") };
    let original = asked.original;
    let found: Vec<(&[u8], &[u8])> = original.fields.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    let expected: [(&[u8], &[u8]); 4] =
        [(b"host", b"shop.example:8443"), (b"x-api-key", b"one"), (b"x-api-key", b"two"), (b"x-odd", b"\xff\x01")];
    assert_eq!(found, expected);
    assert_eq!((original.method, original.target), (&b"POST"[..], &b"/events?a=%2F&b"[..]));
    assert_eq!((original.secure, original.authority), (true, None));
    assert_eq!(original.peer, "192.0.2.7".parse::<IpAddr>().unwrap());
}

#[test]
fn over_http2_the_host_is_the_authority() {
    let request = check(HttpRequest { protocol: "HTTP/2".to_owned(), ..http(&[]) });
    let Ok(asked) = Asked::of(&request, false) else { panic!("it is not taken") };
    assert_eq!(asked.original.authority, Some(&b"shop.example:8443"[..]));
    assert!(asked.original.fields.is_empty());
}

#[test]
fn joined_fields_are_refused() {
    let mut request = http(&[]);
    request.header_map = None;
    request.headers.insert("x-api-key".to_owned(), "one,two".to_owned());
    assert_eq!(fault(&check(request)), HostFault::HeadersNotRaw);
}

#[test]
fn what_is_missing_denies() {
    assert_eq!(fault(&CheckRequest { attributes: None }), HostFault::OriginalMissing);
    assert_eq!(fault(&changed(|check| check.request = None)), HostFault::OriginalMissing);
    assert_eq!(fault(&check(HttpRequest { method: String::new(), ..http(&[]) })), HostFault::OriginalMissing);
    assert_eq!(fault(&check(HttpRequest { path: String::new(), ..http(&[]) })), HostFault::OriginalMissing);
    assert_eq!(fault(&changed(|check| check.source = None)), HostFault::PeerUnknown);
    assert_eq!(fault(&changed(|check| check.source = Some(source(socket(""))))), HostFault::PeerUnknown);
    assert_eq!(fault(&changed(|check| check.source = Some(source(socket("example.com"))))), HostFault::PeerUnknown);
    let pipe = Address::Pipe(Pipe { path: "/run/envoy".to_owned(), mode: 0 });
    assert_eq!(fault(&changed(|check| check.source = Some(source(pipe)))), HostFault::PeerUnknown);
}

/// Whether it is certain that there is no body, where not all bodies come.
fn bodiless(protocol: &str, fields: &[(&str, &[u8])], body: &[u8]) -> bool {
    bodiless_of(protocol, fields, body, false)
}

fn bodiless_of(protocol: &str, fields: &[(&str, &[u8])], body: &[u8], whole: bool) -> bool {
    let request = check(HttpRequest { protocol: protocol.to_owned(), raw_body: body.to_vec(), ..http(fields) });
    Asked::of(&request, whole).is_ok_and(|asked| asked.original.bodiless)
}

#[test]
fn there_is_no_body_only_where_that_is_certain() {
    assert!(bodiless("HTTP/1.1", &[], b""));
    assert!(bodiless("HTTP/1.0", &[("content-length", b"0")], b""));
    assert!(bodiless("HTTP/2", &[("content-length", b"0")], b""));
    assert!(!bodiless("HTTP/2", &[], b""), "one may follow unannounced");
    assert!(!bodiless("", &[], b""));
    assert!(bodiless_of("HTTP/2", &[], b"", true), "it would be here");
    assert!(!bodiless_of("HTTP/2", &[], b"x", true));
    assert!(!bodiless_of("HTTP/2", &[("content-length", b"1")], b"", true));
    assert!(!bodiless_of("HTTP/1.1", &[("transfer-encoding", b"chunked")], b"", true));
    assert!(!bodiless("HTTP/1.1", &[("transfer-encoding", b"chunked")], b""));
    assert!(!bodiless("HTTP/1.1", &[("content-length", b"1")], b""));
    assert!(!bodiless("HTTP/1.1", &[], b"x"));
}

fn body(fields: &[(&str, &[u8])], change: impl FnOnce(&mut HttpRequest), whole: bool) -> Result<Vec<u8>, HostFault> {
    let mut request = http(fields);
    change(&mut request);
    let request = check(request);
    let Ok(asked) = Asked::of(&request, false) else { panic!("it is not taken") };
    asked.body(whole).map(<[u8]>::to_vec)
}

#[test]
fn a_body_counts_only_where_it_came_whole() {
    const WHOLE: (&str, &[u8]) = (PARTIAL_BODY, b"false");
    const UNAVAILABLE: Result<Vec<u8>, HostFault> = Err(HostFault::BodyUnavailable);
    let with = |request: &mut HttpRequest| request.raw_body = b"abc".to_vec();
    let without = |_: &mut HttpRequest| ();
    let three: (&str, &[u8]) = ("content-length", b"3");
    for whole in [true, false] {
        assert_eq!(body(&[WHOLE, three], with, whole), Ok(b"abc".to_vec()));
        assert_eq!(body(&[WHOLE], with, whole), Ok(b"abc".to_vec()));
        assert_eq!(body(&[], with, whole), UNAVAILABLE, "Envoy marks what it sends");
        assert_eq!(body(&[(PARTIAL_BODY, b"true"), three], with, whole), UNAVAILABLE);
        assert_eq!(body(&[WHOLE, (PARTIAL_BODY, b"true")], with, whole), UNAVAILABLE, "whoever says so");
        assert_eq!(body(&[WHOLE, ("content-length", b"4")], with, whole), UNAVAILABLE);
        assert_eq!(body(&[three], without, whole), UNAVAILABLE);
        let text = |request: &mut HttpRequest| request.body = "abc".to_owned();
        assert_eq!(body(&[WHOLE, three], text, whole), UNAVAILABLE, "not as bytes");
    }
    assert_eq!(body(&[], without, true), Ok(Vec::new()), "there is none, where the listener is told that all come");
    assert_eq!(body(&[], without, false), UNAVAILABLE, "it may not have been sent");
    assert_eq!(body(&[("transfer-encoding", b"chunked")], without, true), UNAVAILABLE);
    assert_eq!(body(&[("transfer-encoding", b"chunked"), WHOLE], without, true), Ok(Vec::new()));
}

#[test]
fn a_denial_is_told_as_the_proxy_tells_it() {
    let denial = Denial::by_host(HostFault::BodyTooLarge);
    let answer = deny(&denial, "0123456789abc");
    let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else { panic!("it is no denial") };
    assert_eq!(denied.status.unwrap().code, 413);
    assert_eq!(answer.status.unwrap().code, i32::from(Code::PermissionDenied));
    let document: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
    assert_eq!((&document["code"], &document["decision"]), (&"body_too_large".into(), &"0123456789abc".into()));
    let fields: Vec<(String, String)> =
        denied.headers.into_iter().map(|option| option.header.map(|h| (h.key, h.value)).unwrap()).collect();
    let has = |name: &str, value: &str| fields.iter().any(|field| field.0 == name && field.1 == value);
    assert!(has("content-type", "application/problem+json") && has("x-portcullis-decision", "0123456789abc"));
    assert!(has("cache-control", "no-store"));
}
