//! The examples do what they show.

use axum::body::Body;
use http::{Request, uri::PathAndQuery};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tonic::{Code, client::Grpc, metadata::MetadataValue};
use tonic_prost::ProstCodec;

use crate::world::read;

#[expect(dead_code, unreachable_pub, reason = "its `main` starts the same outside of tests")]
#[path = "../../examples/axum.rs"]
mod axum_service;
#[expect(dead_code, unreachable_pub, reason = "its `main` starts the same outside of tests")]
#[path = "../../examples/tonic.rs"]
mod tonic_service;

const KEY: &str = "demo-key-for-the-examples-of-this-crate";

#[tokio::test]
async fn the_example_of_axum_serves_whoever_has_a_key() {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let at = format!("http://localhost:{}/notes", listener.local_addr().unwrap().port());
    tokio::spawn(axum_service::serve(listener));
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let ask = |key| Request::get(&at).header("x-api-key", key).body(Body::empty()).unwrap();
    let answered = read(client.request(ask(KEY)).await.unwrap()).await;
    assert_eq!((answered.status, &answered.body[..]), (200, &b"the notes of acme, read by demo\n"[..]));
    let answered = read(client.request(ask("wrong")).await.unwrap()).await;
    assert_eq!((answered.status, &*answered.code()), (401, "unauthorized"));
}

#[tokio::test]
async fn the_example_of_tonic_serves_whoever_has_a_key() {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(tonic_service::serve(listener));
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<tonic::body::Body>();
    let mut client = Grpc::with_origin(client, origin.parse().unwrap());
    let path = PathAndQuery::from_static("/demo.Greeter/Hello");
    let mut call = async |key: Option<&'static str>| {
        client.ready().await.unwrap();
        let mut request = tonic::Request::new("you".to_owned());
        if let Some(key) = key {
            request.metadata_mut().insert("x-api-key", MetadataValue::from_static(key));
        }
        let codec = ProstCodec::<String, String>::default();
        client.unary(request, path.clone(), codec).await.map(tonic::Response::into_inner)
    };
    assert_eq!(call(Some(KEY)).await.unwrap(), "hello you, from acme");
    let status = call(None).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "unauthorized"));
    assert!(status.metadata().contains_key("x-portcullis-decision"));
}
