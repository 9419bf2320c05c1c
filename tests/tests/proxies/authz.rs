//! The authorization service beside the real Envoy and nginx. Each policy has an engine, and for each dialect a listener, in
//! this program: so the time is what the case says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use portcullis_authz::{Authz, Dialect, Terms, Wiring};
use portcullis_engine::Engine;
use portcullis_model::time::UnixTime;
use portcullis_tower::replays::Replays;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::places::Places;

/// The longest body that is taken for a signature; what the proxies here send is shorter.
pub(crate) const BODY_LIMIT: usize = 1 << 20;

/// What Envoy's HTTP service puts before a target.
pub(crate) const PATH_PREFIX: &str = "/check";
/// The most fields of a check: those of a request, and the proxy's own.
const MAX_FIELDS: usize = 256;
/// The most signed requests that are remembered; the corpus has fewer.
const REPLAYS: usize = 1024;

/// The services of one dialect.
pub(crate) struct Services {
    engines: Vec<(Arc<Engine>, bool)>,
    addresses: BTreeMap<String, SocketAddr>,
    clock: Arc<AtomicU64>,
    runtime: Runtime,
}

impl Services {
    /// Starts one for each place.
    pub(crate) fn start(dialect: Dialect, places: &Places<'_>) -> Result<Services> {
        let runtime = Runtime::new()?;
        let clock = Arc::new(AtomicU64::new(0));
        let mut services = Services { engines: Vec::new(), addresses: BTreeMap::new(), clock, runtime };
        for (name, mut setting, follows) in places.all() {
            if follows {
                // No time is older than the oldest that a gate was told.
                setting.confirmed = None;
            }
            let engine = Arc::new(setting.engine(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled"))?);
            let address = services.serve(dialect, Arc::clone(&engine)).with_context(|| name.clone())?;
            services.addresses.insert(name, address);
            services.engines.push((engine, follows));
        }
        Ok(services)
    }

    fn serve(&self, dialect: Dialect, engine: Arc<Engine>) -> Result<SocketAddr> {
        let clock = Arc::clone(&self.clock);
        let decisions = AtomicU64::new(1);
        let wiring = Wiring {
            engine,
            clock: Box::new(move || UnixTime::from_secs(clock.load(Ordering::Relaxed)).unwrap_or_default()),
            replays: Arc::new(Replays::new(REPLAYS)),
            serves: Box::new(|_| true),
            record: Box::new(move |_, _| format!("{:x}", decisions.fetch_add(1, Ordering::Relaxed))),
            note: Box::new(|_| ()),
        };
        let terms = Terms {
            dialect,
            service: None,
            secret: None,
            path_prefix: if dialect == Dialect::EnvoyHttp { PATH_PREFIX.to_owned() } else { String::new() },
            whole_bodies: dialect != Dialect::Nginx,
            body_limit: BODY_LIMIT,
        };
        let authz = Authz::new(Arc::new(wiring), terms);
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let authz = Arc::clone(&authz);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let authz = Arc::clone(&authz);
                        async move { Ok::<_, std::convert::Infallible>(authz.handle(request).await) }
                    });
                    // A proxy that ends takes its connections along.
                    let mut http = auto::Builder::new(TokioExecutor::new());
                    http.http1().max_headers(MAX_FIELDS);
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(address)
    }

    /// What time it is from now on.
    pub(crate) fn set(&self, time: UnixTime) {
        self.clock.store(time.as_secs(), Ordering::Relaxed);
        for (engine, _) in self.engines.iter().filter(|(_, follows)| *follows) {
            engine.confirm(time);
        }
    }

    /// The ports, by place.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (&str, u16)> {
        self.addresses.iter().map(|(name, address)| (name.as_str(), address.port()))
    }
}
