//! The gate in front of a gRPC service of tonic: `cargo run -p portcullis-tower --example tonic`.
//!
//! `POST /v1/events` of the sample's policy is a method of gRPC here: of the service `v1`, the method `events`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_engine::{Config, Engine};
use portcullis_model::policy;
use portcullis_model::source::Source;
use portcullis_model::time::UnixTime;
use portcullis_tower::head::Peer;
use portcullis_tower::{Caller, GateLayer};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};
use tonic::{Extensions, Status};
use tonic_prost::ProstCodec;

const POLICY: &[u8] = include_bytes!("../../server/sample/policy.json");

/// What `protoc` would have made of a service with one method from a StringValue to a StringValue.
#[derive(Clone)]
struct Events;

impl NamedService for Events {
    const NAME: &'static str = "v1";
}

impl tower::Service<Request<Body>> for Events {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(Greet, request).await) })
    }
}

/// Answers whoever the gate has let in.
struct Greet;

impl UnaryService<String> for Greet {
    type Response = String;
    type Future = BoxFuture<tonic::Response<String>, Status>;

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().map(|caller| caller.credential.clone());
        Box::pin(async move {
            let caller = caller.ok_or_else(|| Status::internal("the gate is not in front of this"))?;
            Ok(tonic::Response::new(format!("{caller} says {}", request.into_inner())))
        })
    }
}

fn peer(extensions: &Extensions) -> Option<Peer> {
    let address: SocketAddr = extensions.get::<TcpConnectInfo>()?.remote_addr()?;
    Some(Peer { address: address.ip(), secure: false })
}

/// An engine with the sample's policy in force.
pub fn engine() -> anyhow::Result<Arc<Engine>> {
    let engine = Engine::new(&Config::default())?;
    engine.load(policy::build(&Source::from_json(POLICY)?)?.into())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    engine.confirm(UnixTime::from_secs(now).ok_or(anyhow::anyhow!("the clock is wrong"))?);
    Ok(Arc::new(engine))
}

/// Serves until the program ends.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>) -> anyhow::Result<()> {
    let server = Server::builder().layer(GateLayer::new(engine).service("shop").peer(peer)).add_service(Events);
    Ok(server.serve_with_incoming(TcpIncoming::from(listener)).await?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:3001").await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, engine()?).await
}
