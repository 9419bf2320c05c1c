//! Our authorization service, in a process of its own as it is in life, without a store and without records.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use portcullis_authz::{Authz, Dialect, Terms, Wiring};
use portcullis_engine::Engine;
use portcullis_model::time::UnixTime;
use portcullis_tower::replays::Replays;
use tokio::net::TcpListener;

/// What this program is started with to be the service.
pub(crate) const ARGUMENT: &str = "authorization-service";
/// How often the policy is confirmed.
const CONFIRM_EVERY: Duration = Duration::from_secs(60);

/// A service that runs until it is dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Service {
    /// Starts this program anew as the service, with the policy of a file.
    pub(crate) fn start(policy: &Path) -> Result<Service> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg(ARGUMENT).arg(policy).stdout(Stdio::piped()).spawn()?;
        let told = child.stdout.take().context("it has standard output")?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(told), &mut line)?;
        let address = line.trim().parse().context("the service did not start")?;
        Ok(Service { child, address })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_secs(since.as_secs()).unwrap_or_default()
}

/// Is the service.
pub(crate) fn serve(policy: &Path) -> Result<()> {
    let engine = Arc::new(Engine::new(&portcullis_engine::Config::default())?);
    engine.load(fs::read(policy)?.into())?;
    engine.confirm(now());
    let wiring = Wiring {
        engine: Arc::clone(&engine),
        clock: Box::new(now),
        replays: Arc::new(Replays::closed()),
        serves: Box::new(|_| true),
        record: Box::new(|_, _| String::from("0")),
        note: Box::new(|_| ()),
    };
    let terms = Terms {
        dialect: Dialect::EnvoyGrpc,
        service: None,
        secret: None,
        path_prefix: String::new(),
        whole_bodies: false,
        body_limit: 0,
    };
    let authz = Authz::new(Arc::new(wiring), terms);
    tokio::runtime::Runtime::new()?.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(CONFIRM_EVERY).await;
                engine.confirm(now());
            }
        });
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let authz = Arc::clone(&authz);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let authz = Arc::clone(&authz);
                    async move { Ok::<_, Infallible>(authz.handle(request).await) }
                });
                // Envoy goes away at the end.
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
