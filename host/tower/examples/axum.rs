//! The gate in front of an axum service: `cargo run -p portcullis-tower --example axum`, then
//! `curl -i -H 'Host: api.shop.example' -H "X-API-Key: $KEY" http://127.0.0.1:3000/v1/events`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::ConnectInfo;
use axum::routing::get;
use axum::{Extension, Router};
use portcullis_engine::{Config, Engine};
use portcullis_model::policy;
use portcullis_model::source::Source;
use portcullis_model::time::UnixTime;
use portcullis_tower::head::Peer;
use portcullis_tower::{Caller, GateLayer};
use tokio::net::TcpListener;

const POLICY: &[u8] = include_bytes!("../../server/sample/policy.json");

/// An engine with the sample's policy in force. A program that runs for long confirms it again and again, each time that it
/// knows it to be current, and applies deltas as they come.
pub fn engine() -> anyhow::Result<Arc<Engine>> {
    let engine = Engine::new(&Config::default())?;
    engine.load(policy::build(&Source::from_json(POLICY)?)?.into())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    engine.confirm(UnixTime::from_secs(now).ok_or(anyhow::anyhow!("the clock is wrong"))?);
    Ok(Arc::new(engine))
}

/// Answers whoever the gate has let in.
async fn events(Extension(caller): Extension<Caller>) -> String {
    format!("{} of {} may use {}\n", caller.credential, caller.tenant, caller.endpoint)
}

/// Serves until the program ends.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>) -> std::io::Result<()> {
    let gate = GateLayer::new(engine).service("shop").peer(|extensions| {
        let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(Peer { address: peer.ip(), secure: false })
    });
    let app = Router::new().route("/v1/events", get(events)).layer(gate);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(serve(listener, engine()?).await?)
}
