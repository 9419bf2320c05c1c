//! A service of tonic behind the gate: `Hello` takes and gives a `google.protobuf.StringValue`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use http::{Extensions, Request, Response};
use portcullis_engine::{Config, Engine};
use portcullis_model::policy::build;
use portcullis_model::source::Source;
use portcullis_tower::head::Peer;
use portcullis_tower::{Caller, GateLayer, clock};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::server::{Server, TcpConnectInfo, TcpIncoming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

#[tokio::main]
async fn main() -> Result<()> {
    let listener = TcpListener::bind("localhost:0").await?;
    println!("http://localhost:{}/demo.Greeter/Hello", listener.local_addr()?.port());
    serve(listener).await
}

/// Serves until accepting fails.
pub async fn serve(listener: TcpListener) -> Result<()> {
    let gate = GateLayer::new(engine()?).service("greeter").peer(peer);
    Ok(Server::builder().layer(gate).add_service(Greeter).serve_with_incoming(TcpIncoming::from(listener)).await?)
}

/// Where tonic says that a request comes from.
fn peer(extensions: &Extensions) -> Option<Peer> {
    let address = extensions.get::<TcpConnectInfo>()?.remote_addr()?.ip();
    Some(Peer { address, secure: false })
}

fn hello(request: tonic::Request<String>) -> Ready<Result<tonic::Response<String>, tonic::Status>> {
    let caller = request.extensions().get::<Caller>().map(|caller| caller.tenant.clone()).unwrap_or_default();
    ready(Ok(tonic::Response::new(format!("hello {}, from {caller}", request.get_ref()))))
}

/// What the code that is generated for a service does.
#[derive(Clone)]
struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "demo.Greeter";
}

impl Service<Request<Body>> for Greeter {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            match request.uri().path() {
                "/demo.Greeter/Hello" => {
                    let codec = ProstCodec::<String, String>::default();
                    Ok(Grpc::new(codec).unary(service_fn(hello), request).await)
                }
                _ => Ok(tonic::Status::unimplemented("").into_http()),
            }
        })
    }
}

fn engine() -> Result<Arc<Engine>> {
    let source = Source::from_json(include_bytes!("policy.json"))?;
    let engine = Engine::new(&Config::default())?;
    engine.load(build(&source)?.into())?;
    engine.confirm(clock::now());
    Ok(Arc::new(engine))
}
