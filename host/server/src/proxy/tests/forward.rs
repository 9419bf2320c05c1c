//! What goes through: everything, but for the edits that are named.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::world::{Choice, OK, PERMITTED, Raw, World, certificate, field, rest, until, value};

#[tokio::test]
async fn a_request_arrives_as_it_was_but_for_the_edits() {
    let mut upstream = Raw::answering(OK).await;
    let world = Choice::of(&upstream.origin).start();
    let fields = "x-portcullis-tenant: forged\r\nX-Portcullis-Extra: forged\r\nX-Odd: a  b\r\nte: gzip, trailers\r\n\
        keep-alive: timeout=5\r\nx-session: 1\r\nconnection: x-session\r\nproxy-authorization: Basic x\r\n\
        cookie: a=1\r\nx-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\nforwarded: for=192.0.2.1\r\n";
    let target = "/events/%C3%A4?x=%7E&&y=a+b";
    let request = format!("{PERMITTED}{fields}connection: close\r\n\r\n").replace("/events", target);
    assert!(world.exchange(request).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let received = upstream.request().await;
    let (head, _) = received.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), format!("GET {target} HTTP/1.1"));
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "connection: te",
            "cookie: a=1",
            "forwarded: for=192.0.2.1, for=127.0.0.1",
            "host: api.example",
            "te: trailers",
            "x-forwarded-for: 192.0.2.1, 127.0.0.1",
            "x-forwarded-host: api.example",
            "x-forwarded-proto: http",
            "x-odd: a  b",
            "x-portcullis-credential: key",
            "x-portcullis-endpoint: shop/events",
            "x-portcullis-kind: tenant",
            "x-portcullis-tenant: acme",
        ]
    );
}

#[tokio::test]
async fn a_key_in_the_query_is_cut_out_and_the_rest_stays() {
    let mut upstream = Raw::answering(OK).await;
    let world = Choice::of(&upstream.origin).start();
    for (query, left) in [("?api_key=w", ""), ("?a=%41&api_key=w&b", "?a=%41&b"), ("?api_key=w&", "?")] {
        let request = format!("GET /events{query} HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\n\r\n");
        let answer = world.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let received = upstream.request().await;
        assert!(received.starts_with(&format!("GET /events{left} HTTP/1.1\r\n")), "{received}");
        assert_eq!(field(&received, "x-portcullis-credential"), Some("workspace"));
    }
}

#[tokio::test]
async fn the_upstream_gets_its_own_host_where_it_is_so_set() {
    let mut upstream = Raw::answering(OK).await;
    let mut choice = Choice::of(&upstream.origin);
    choice.service.preserve_host = false;
    let world = choice.start();
    assert!(world.permitted("").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let received = upstream.request().await;
    assert_eq!(field(&received, "host"), upstream.origin.strip_prefix("http://"));
    assert_eq!(field(&received, "x-forwarded-host"), Some("api.example"));
}

#[tokio::test]
async fn a_response_comes_back_as_it_was_but_for_the_edits() {
    let response = "HTTP/1.1 203 Fine\r\ncontent-length: 2\r\nx-portcullis-decision: forged\r\nkeep-alive: timeout=5\r\n\
        connection: keep-alive, x-session\r\nx-session: 1\r\nset-cookie: a\r\nset-cookie: b\r\nproxy-authenticate: x\r\n\r\nok";
    let upstream = Raw::answering(response).await;
    let world = Choice::of(&upstream.origin).start();
    let answer = world.permitted("").await;
    assert!(answer.starts_with("HTTP/1.1 203 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert_eq!(answer.matches("set-cookie: ").count(), 2);
    for gone in ["x-portcullis", "keep-alive", "x-session", "proxy-authenticate"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    world.measured("portcullis_responses_total{class=\"2xx\"} 1").await;
}

#[tokio::test]
async fn responses_without_bodies_have_none() {
    for (method, response, head) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n", "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n"),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n",
        ),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"),
    ] {
        let upstream = Raw::answering(response).await;
        let world = Choice::of(&upstream.origin).start();
        // Two on one connection: a body that is not there would be taken for the next response.
        let request = format!("{PERMITTED}\r\n{PERMITTED}connection: close\r\n\r\n").replace("GET", method);
        let answer = world.exchange(request).await;
        assert!(answer.starts_with(head) && answer.ends_with("\r\n\r\n"), "{method} {response}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
        assert!(!answer.contains("transfer-encoding"), "{answer}");
    }
}

#[tokio::test]
async fn bodies_go_through_both_ways_with_their_trailers() {
    let response = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-portcullis-tenant\r\n\r\n\
        2\r\nok\r\n0\r\nx-sum: 2\r\nx-portcullis-tenant: forged\r\n\r\n";
    let mut upstream = Raw::answering(response).await;
    let world = Choice::of(&upstream.origin).start();
    let head = PERMITTED.replace("GET", "POST");
    let request = format!(
        "{head}te: trailers\r\ntrailer: x-check, x-portcullis-tenant\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         3\r\nabc\r\n0\r\nx-check: 3\r\nx-portcullis-tenant: forged\r\n\r\n"
    );
    let answer = world.exchange(request).await;
    assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n"), "{answer}");
    let received = upstream.request().await;
    assert!(received.ends_with("\r\n\r\n3\r\nabc\r\n0\r\nx-check: 3\r\n\r\n"), "{received}");
}

#[tokio::test]
async fn an_expectation_is_met_once_the_upstream_takes_the_body() {
    let mut upstream = Raw::answering(OK).await;
    let world = Choice::of(&upstream.origin).start();
    let mut client = world.connect().await;
    let head = PERMITTED.replace("GET", "POST");
    let asked = format!("{head}expect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n");
    client.write_all(asked.as_bytes()).await.unwrap();
    assert_eq!(until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let received = upstream.request().await;
    assert!(received.ends_with("\r\n\r\nbody") && !received.contains("expect"), "{received}");
}

#[tokio::test]
async fn connections_to_an_upstream_are_kept_and_one_that_was_closed_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = Choice::of(&format!("http://{}", listener.local_addr().unwrap())).start();
    let mut client = world.connect().await;
    let ask = format!("{PERMITTED}\r\n");
    client.write_all(ask.as_bytes()).await.unwrap();
    let (mut first, _) = listener.accept().await.unwrap();
    for _ in 0..2 {
        until(&mut first, "\r\n\r\n").await;
        first.write_all(OK.as_bytes()).await.unwrap();
        until(&mut client, "ok").await;
        client.write_all(ask.as_bytes()).await.unwrap();
    }
    until(&mut first, "\r\n\r\n").await;
    first.write_all(OK.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    drop(first);
    until(&mut client, "ok").await;
    client.write_all(ask.as_bytes()).await.unwrap();
    let (mut second, _) = listener.accept().await.unwrap();
    until(&mut second, "\r\n\r\n").await;
    second.write_all(OK.as_bytes()).await.unwrap();
    until(&mut client, "ok").await;
}

/// A request over HTTP/2 without TLS.
async fn over_http2(world: &World, request: Request<Empty<Bytes>>) -> Response<Incoming> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

fn request() -> Request<Empty<Bytes>> {
    let request = Request::get("http://api.example/events?a=1").header("x-api-key", "k");
    request.header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_request_over_http2_goes_to_an_upstream_of_http1() {
    let mut upstream = Raw::answering(OK).await;
    let world = Choice::of(&upstream.origin).start();
    let response = over_http2(&world, request()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    let received = upstream.request().await;
    assert!(received.starts_with("GET /events?a=1 HTTP/1.1\r\n"), "{received}");
    assert_eq!(field(&received, "host"), Some("api.example"));
    assert_eq!(field(&received, "cookie"), Some("a=1; b=2"));
    assert_eq!(field(&received, "x-forwarded-host"), Some("api.example"));
    assert_eq!(field(&received, "x-api-key"), None);
}

/// An upstream that tells in its body what it was asked, and by which version.
async fn telling(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let version = if request.version() == Version::HTTP_2 { "2" } else { "1.1" };
    let host = match request.headers().get(header::HOST) {
        Some(host) => host.to_str().unwrap().to_owned(),
        None => request.uri().authority().unwrap().to_string(),
    };
    let te = request.headers().contains_key("te");
    let told = format!("{version} {host} {} te={te}", request.uri().path_and_query().unwrap());
    Ok(Response::new(Full::from(told)))
}

async fn serving(tls: Option<rustls::ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                let _ = match tls {
                    None => http.serve_connection(TokioIo::new(stream), service_fn(telling)).await,
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        http.serve_connection(TokioIo::new(stream), service_fn(telling)).await
                    }
                };
            });
        }
    });
    port
}

async fn told(world: &World) -> String {
    let response = over_http2(world, request()).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    format!("{} {}", status.as_u16(), String::from_utf8_lossy(&body))
}

#[tokio::test]
async fn an_upstream_of_http2_gets_the_host_as_its_authority() {
    let port = serving(None).await;
    let mut choice = Choice::of(&format!("h2c://127.0.0.1:{port}"));
    let world = choice.start();
    for _ in 0..3 {
        assert_eq!(told(&world).await, "200 2 api.example /events?a=1 te=true");
    }
    choice = Choice::of(&format!("h2c://127.0.0.1:{port}"));
    choice.service.preserve_host = false;
    assert_eq!(told(&choice.start()).await, format!("200 2 127.0.0.1:{port} /events?a=1 te=true"));
}

#[tokio::test]
async fn an_upstream_with_tls_is_checked_and_spoken_to() {
    let folder = tempfile::tempdir().unwrap();
    let (authorities, config) = certificate(folder.path());
    let port = serving(Some(config)).await;
    let origin = format!("https://localhost:{port}");
    let choice = |preserve_host| {
        let mut choice = Choice { authorities: Some(authorities.clone()), ..Choice::of(&origin) };
        choice.service.preserve_host = preserve_host;
        choice
    };
    assert_eq!(told(&choice(true).start()).await, "200 1.1 api.example /events?a=1 te=true");
    assert_eq!(told(&choice(false).start()).await, format!("200 2 localhost:{port} /events?a=1 te=true"));
    // Nobody vouches for it among the system's authorities.
    let world = Choice::of(&origin).start();
    assert!(told(&world).await.starts_with("502 "));
}

#[tokio::test]
async fn a_listener_with_tls_speaks_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let (authorities, config) = certificate(folder.path());
    let mut upstream = Raw::answering(OK).await;
    let world = Choice { tls: Some(config), ..Choice::of(&upstream.origin) }.start();
    for protocol in ["h2", "http/1.1"] {
        let mut config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(crate::tls::authorities(&authorities).unwrap())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(world.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        let response = if protocol == "h2" {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request()).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let mut request = request();
            *request.uri_mut() = "/events".parse().unwrap();
            request.headers_mut().insert(header::HOST, value("api.example"));
            sender.send_request(request).await.unwrap()
        };
        assert_eq!(response.status(), 200);
        assert_eq!(field(&upstream.request().await, "x-forwarded-proto"), Some("https"));
    }
}
