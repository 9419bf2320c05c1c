//! A service of axum behind the gate.
//!
//! ```text
//! cargo run -p portcullis-tower --example axum
//! curl -i -H 'x-api-key: demo-key-for-the-examples-of-this-crate' http://localhost:PORT/notes
//! ```

use std::sync::Arc;

use anyhow::Result;
use axum::routing::get;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use portcullis_engine::{Config, Engine};
use portcullis_model::policy::build;
use portcullis_model::source::Source;
use portcullis_tower::head::Peer;
use portcullis_tower::{Caller, GateLayer, clock};
use tokio::net::TcpListener;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<()> {
    let listener = TcpListener::bind("localhost:0").await?;
    println!("http://localhost:{}/notes", listener.local_addr()?.port());
    serve(listener).await
}

/// Serves until accepting fails.
pub async fn serve(listener: TcpListener) -> Result<()> {
    let gate = GateLayer::new(engine()?).service("notes");
    let app = Router::new().route("/notes", get(notes));
    loop {
        let (stream, address) = listener.accept().await?;
        let peer = Peer { address: address.ip(), secure: false };
        // The gate is around the router, so that it sees each request as it came.
        let guarded = ServiceBuilder::new().layer(Extension(peer)).layer(gate.clone()).service(app.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that breaks off is its client's business.
            drop(server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(guarded)).await);
        });
    }
}

async fn notes(Extension(caller): Extension<Caller>) -> String {
    format!("the notes of {}, read by {}\n", caller.tenant, caller.credential)
}

fn engine() -> Result<Arc<Engine>> {
    let source = Source::from_json(include_bytes!("policy.json"))?;
    let engine = Engine::new(&Config::default())?;
    engine.load(build(&source)?.into())?;
    // A program that gets changes from elsewhere confirms again whenever it knows that it has the newest.
    engine.confirm(clock::now());
    Ok(Arc::new(engine))
}
