//! The examples, as somebody runs them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub, reason = "tests")]

#[allow(dead_code, reason = "its main is not run here")]
#[path = "../examples/axum.rs"]
mod axum_example;
#[allow(dead_code, reason = "its main is not run here")]
#[path = "../examples/tonic.rs"]
mod tonic_example;

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use portcullis_model::id::Revision;
use portcullis_model::policy;
use portcullis_model::source::{HostPattern, Source};
use tokio::net::TcpListener;

const KEY: &str = "ptc_tkAcme01_2QDM4q6fFuV4VikgcpcPavCAp0IgQxGo54Otfsw";

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn client(is_http2: bool) -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http()
}

async fn whole(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn axum_serves_whom_the_gate_lets_in() {
    let (listener, address) = listener().await;
    tokio::spawn(axum_example::serve(listener, axum_example::engine().unwrap()));
    let request = || Request::get(format!("http://{address}/v1/events")).header("host", "api.shop.example");
    let client = client(false);
    let allowed = request().header("x-api-key", KEY).body(Full::default()).unwrap();
    let allowed = whole(client.request(allowed).await.unwrap()).await;
    assert_eq!(allowed.body(), "acme-tenant-1 of acme may use shop/events\n");
    let denied = client.request(request().body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(denied.status(), StatusCode::UNAUTHORIZED);
}

/// A message of gRPC: not compressed, its length, and a StringValue of that text.
fn message(text: &str) -> Bytes {
    let length = u8::try_from(text.len()).unwrap();
    let mut bytes = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    bytes.extend_from_slice(text.as_bytes());
    bytes.into()
}

#[tokio::test]
async fn tonic_serves_whom_the_gate_lets_in() {
    let (listener, address) = listener().await;
    // The authority of HTTP/2 is the address, so that is a host of the service here.
    let mut source = Source::from_json(include_bytes!("../../server/sample/policy.json")).unwrap();
    source.services[0].hosts.push(HostPattern::try_from("127.0.0.1".to_owned()).unwrap());
    source.revision = Revision(2);
    let engine = tonic_example::engine().unwrap();
    engine.load(policy::build(&source).unwrap().into()).unwrap();
    let example = tonic_example::serve(listener, engine);
    tokio::spawn(async move { example.await.unwrap() });
    let client = client(true);
    let call = |key: &'static str| {
        let request = Request::post(format!("http://{address}/v1/events")).header("content-type", "application/grpc");
        let request = request.header("te", "trailers").header("x-api-key", key);
        client.request(request.body(Full::new(message("hello"))).unwrap())
    };
    let denied = call("another").await.unwrap();
    assert_eq!((denied.status(), &denied.headers()["grpc-status"]), (StatusCode::OK, &"16".parse().unwrap()));
    let allowed = whole(call(KEY).await.unwrap()).await;
    assert_eq!(allowed.body(), &message("acme-tenant-1 says hello"));
}
