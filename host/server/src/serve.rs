//! `portcullis serve`: the whole server, from its configuration to its end.
//!
//! What runs: on the threads of traffic the proxy's listener, those that answer other proxies, and the task that gathers
//! decisions to be written; on the threads of keeping the listeners of the admin API and of feeds, the task that keeps the policy
//! confirmed and compact, the one that keeps the audit, one task for each certificate, and every call of the store. They end in
//! this order: no new connections, requests drained, the last decisions written, the store closed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::service::service_fn;
use portcullis_control::store::{DecisionRecord, Delivery, Gap};
use portcullis_control::{Control, Deliveries, StartError, TokenDesk};
use portcullis_engine::{Config as EngineConfig, Engine, EngineError};
use portcullis_model::id::Id;
use portcullis_tower::replays::{self, Replays};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::{self, Admin, Refusals};
use crate::audit_keeper;
use crate::authz::{self, OpenError};
use crate::config::{Config, ConfigError, LogConfig, LogFormat};
use crate::demo::{self, Demo, DemoError};
use crate::journal::{self, Batches};
use crate::listen::{Connection, Limits, ListenError, Listener, Shutdown};
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::proxy::{
    Bounds, ClientSettings, ClientsError, Issuing, Preflight, Proxy, Routing, Service, Upstream, Wiring,
};
use crate::usage::Usage;
use crate::{Exit, clock, envoy, failures, leaked, master_key, tls};

/// The threads of everything that may wait for the store's disk. Requests through the proxy and checks for others have threads
/// of their own and never do.
const KEEPERS: usize = 4;
/// How often the policy is confirmed. It is current by itself: this process alone writes to the store.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(30);
/// How often it is looked whether the keys of another day are needed. Tomorrow's are there twelve hours before.
const SHEETS_INTERVAL: Duration = Duration::from_secs(10);
/// How often old decisions are removed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(30);
/// How often keys of access tokens are looked at.
const TOKEN_KEYS_INTERVAL: Duration = Duration::from_secs(60);
/// How long to wait after the store refused decisions, before the next are given to it.
const STORE_REST: Duration = Duration::from_millis(500);
/// The bounds of the admin listener. A few people and programs use it.
const ADMIN_LIMITS: Limits =
    Limits { max_connections: 256, head_timeout: Duration::from_secs(15), idle_timeout: Duration::from_secs(60) };

/// The bounds of the listener of feeds. A worker has two connections: one that waits, and one on which decisions come.
const FEED_LIMITS: Limits =
    Limits { max_connections: 4096, head_timeout: Duration::from_secs(15), idle_timeout: Duration::from_secs(60) };

const HELP: &str = "\
The first start makes the data folder. `portcullis recover` makes the first admin key, on the same
configuration and before the server is started.

`--demo` needs no configuration: it guards an echo service, with an installation in the folder
`portcullis-demo`, and prints keys and commands to try.

SIGTERM and SIGINT end it: requests that have begun are finished first. `/healthz`, `/readyz` and
`/metrics` are on the admin listener.

Examples:
  portcullis serve --demo
  portcullis serve --check --config /etc/portcullis.toml
  portcullis serve --config /etc/portcullis.toml";

/// Guard services: the reverse proxy, and the admin API beside it
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE", required_unless_present = "demo", conflicts_with = "demo")]
    config: Option<PathBuf>,
    /// Read and check the configuration, and do no more
    #[arg(long, requires = "config")]
    check: bool,
    /// Guard an echo service, with keys to try
    #[arg(long)]
    demo: bool,
    /// The demo's data folder
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "portcullis-demo",
        requires = "demo",
        conflicts_with = "config"
    )]
    data: PathBuf,
    /// Where the demo's proxy listens; the next free port where it is taken
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080",
        requires = "demo",
        conflicts_with = "config"
    )]
    listen: SocketAddr,
    /// Where the demo's admin API listens; the next free port where it is taken
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:9180",
        requires = "demo",
        conflicts_with = "config"
    )]
    admin_listen: SocketAddr,
}

/// Why the server did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}: check the memory and threads that this process may have")]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    TwoMasterKeys(#[from] master_key::TwoMasterKeys),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Authz(#[from] OpenError),
    #[error(transparent)]
    Clients(#[from] ClientsError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error("the runtime cannot be started: {0}: check the threads that this process may have")]
    Runtime(std::io::Error),
    #[error("signals cannot be listened for: {0}")]
    Signals(std::io::Error),
    #[error("the server had to stop: {0}")]
    Stopped(&'static str),
}

/// Runs the command.
///
/// # Errors
/// Where the server does not start, or had to stop.
pub(crate) fn run(args: &Args) -> Result<Exit, ServeError> {
    let config = match &args.config {
        Some(path) => Config::read(path)?,
        None => demo_config(args)?,
    };
    if args.check {
        return Ok(Exit::Success);
    }
    log(&config.log);
    let runtime = |name: &str| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.enable_all().thread_name(name);
        runtime
    };
    let traffic = runtime("traffic").build().map_err(ServeError::Runtime)?;
    let keeping = runtime("keeping").worker_threads(KEEPERS).build().map_err(ServeError::Runtime)?;
    keeping.block_on(serve(config, args.demo, traffic.handle()))?;
    Ok(Exit::Success)
}

/// The demo's configuration: a file that says where, and leaves everything else as it is.
fn demo_config(args: &Args) -> Result<Config, ConfigError> {
    let data = toml::Value::String(args.data.to_string_lossy().into_owned());
    let (listen, admin) = (args.listen, args.admin_listen);
    let text = format!(
        "data = {data}\n[proxy]\nlisten = \"{listen}\"\n[admin]\nlisten = \"{admin}\"\n[log]\nlevel = \"warn\"\n"
    );
    Config::parse(&text, Path::new("the demo's configuration"), Path::new("."))
}

fn log(config: &LogConfig) {
    let logger = tracing_subscriber::fmt().with_max_level(config.level).with_writer(std::io::stderr).with_target(false);
    match config.format {
        LogFormat::Text => logger.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => logger.json().flatten_event(true).init(),
    }
}

/// An engine whose compiled code is kept in the data folder.
pub(crate) fn engine(data: &Path) -> Result<Engine, EngineError> {
    // The compiler's cache wants to know where it is, whatever becomes of the working directory.
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    Engine::new(&EngineConfig { cache: Some(data.join("cache")), ..EngineConfig::default() })
}

async fn serve(config: Config, is_demo: bool, traffic: &Handle) -> Result<(), ServeError> {
    let metrics = Metrics::new();
    // A port that is taken is told before anything is made. Whoever connects meanwhile waits to be accepted.
    let limits = Limits {
        max_connections: config.proxy.max_connections,
        head_timeout: config.proxy.head_timeout,
        idle_timeout: config.proxy.idle_timeout,
    };
    let bind = if is_demo { bind_near } else { Listener::bind };
    let identity = |identity: &Option<tls::Identity>| identity.as_ref().map(tls::Identity::server_config).transpose();
    let proxy_tls = identity(&config.proxy.tls)?;
    let admin_tls = identity(&config.admin.tls)?;
    let proxying = {
        let _entered = traffic.enter();
        bind("proxy.listen", config.proxy.listen, proxy_tls, limits, metrics.clone())?
    };
    let administration = bind("admin.listen", config.admin.listen, admin_tls, ADMIN_LIMITS, metrics.clone())?;
    let feeding = match &config.feed {
        Some(feed) => Some(bind("feed.listen", feed.listen, identity(&feed.tls)?, FEED_LIMITS, metrics.clone())?),
        None => None,
    };

    let identities = authz::identities(&config.authz);
    let asked: Vec<_> = {
        let _entered = traffic.enter();
        config.authz.into_iter().map(|one| authz::open(one, limits, &metrics)).collect::<Result<_, _>>()?
    };

    let engine = Arc::new(engine(&config.data)?);
    let current = Arc::new(ArcSwap::from_pointee(Routing::default()));
    let routes = Arc::clone(&current);
    let deliver = Box::new(move |deliveries: &Deliveries| routes.store(Arc::new(routing(deliveries))));
    let source = master_key::source(&config.data, config.master_key_file.as_ref())?;
    let control =
        Control::open_under(&source, &config.data, Arc::clone(&engine), clock::now, deliver, config.tokens.clone())
            .await?;
    drop(source);
    let demo = if is_demo { Some(demo::set_up(&control, clock::now()).await?) } else { None };
    let (journal, batches) = journal::channel(config.decisions.queue);
    let (failures, captured) = failures::channel(control.error_log_rules(), metrics.clone());
    let usage = Usage::default();

    let (reports, inbox) = leaked::channel();
    let (desk, issues) = TokenDesk::open(&control);
    let replays = Arc::new(Replays::new(replays::MAX_ENTRIES));
    let shared = authz::Shared {
        engine: Arc::clone(&engine),
        routing: Arc::clone(&current),
        journal: journal.clone(),
        replays: Arc::clone(&replays),
        metrics: metrics.clone(),
    };
    let proxy = Proxy::new(Wiring {
        replays,
        issuing: Some(Issuing { desk, control: Arc::clone(&control) }),
        reports: reports.clone(),
        engine: Arc::clone(&engine),
        routing: current,
        revisions: control.enforced(),
        journal: journal.clone(),
        failures,
        metrics: metrics.clone(),
        bounds: Bounds {
            idle_timeout: config.proxy.idle_timeout,
            request_body_limit: config.proxy.request_body_limit,
            signed_body_limit: config.proxy.signed_body_limit,
        },
        clients: ClientSettings {
            connect_timeout: config.proxy.upstream_connect_timeout,
            idle_timeout: config.proxy.idle_timeout,
            idle_connections: config.proxy.upstream_idle_connections,
            authorities: config.proxy.upstream_ca.clone(),
        },
    })?;
    let refusals = Arc::new(Refusals::new());
    let nodes = Nodes::new(Some(envoy::carried()));
    tokio::spawn(nodes.clone().follow(control.enforced()));
    let admin = Arc::new(Admin::new(admin::Wiring {
        control: Arc::clone(&control),
        engine: Arc::clone(&engine),
        journal: journal.clone(),
        refusals: Arc::clone(&refusals),
        metrics: metrics.clone(),
        reports,
        nodes,
        usage: usage.clone(),
        hosts: &config.admin.hosts,
    }));

    let of_feed = config.feed.iter().filter_map(|feed| feed.tls.as_ref());
    for identity in config.proxy.tls.iter().chain(&config.admin.tls).chain(of_feed).chain(&identities) {
        tokio::spawn(identity.clone().follow(tls::POLL_INTERVAL));
    }
    tokio::spawn(keep_current(Arc::clone(&control), metrics.clone()));
    let reported = tokio::spawn(inbox.work(Arc::clone(&control)));
    tokio::spawn(keep_sheets(Arc::clone(&control)));
    tokio::spawn(prune(Arc::clone(&control), config.decisions.keep));
    let noted = Arc::clone(&refusals);
    let issued = tokio::spawn(issues.work(move |counted| noted.note_token(&counted)));
    tokio::spawn(keep_token_keys(Arc::clone(&control)));
    let kept = tokio::spawn(audit_keeper::keep(Arc::clone(&control), Arc::clone(&refusals), config.audit));
    // Beside those who decide, so that none of them has to wake another thread: see `Control::keep_decisions`.
    let written = traffic.spawn(write_decisions(Arc::clone(&control), batches, usage.clone()));
    let logged = tokio::spawn(captured.write(Arc::clone(&control)));
    tokio::spawn(usage.clone().keep_written(Arc::clone(&control)));

    let addresses = (proxying.address(), administration.address());
    let shutdown = Shutdown::new();
    let serving = traffic.spawn(proxying.serve(shutdown.clone(), move |connection| proxy.service(connection)));
    let feeding = feeding.map(|listener| {
        tracing::info!(feed = %listener.address(), "serving feeds");
        let admin = Arc::clone(&admin);
        tokio::spawn(listener.serve(shutdown.clone(), move |connection: Connection| {
            let admin = Arc::clone(&admin);
            service_fn(move |request| {
                let (admin, peer, secure) = (Arc::clone(&admin), connection.peer.ip(), connection.secure);
                async move { Ok(admin.handle_worker(peer, secure, request).await) }
            })
        }))
    });
    let administering = tokio::spawn(administration.serve(shutdown.clone(), move |connection: Connection| {
        let admin = Arc::clone(&admin);
        service_fn(move |request| {
            let (admin, peer, secure) = (Arc::clone(&admin), connection.peer.ip(), connection.secure);
            async move { Ok(admin.handle(peer, secure, request).await) }
        })
    }));
    let answering = authz::serve(asked, shared, &shutdown, traffic);
    introduce(demo.as_ref(), addresses, &config.data);

    let why = ended(control.stopped()).await?;
    drop(journal);
    // Workers that wait would be waited for.
    control.end_feeds();
    let cut = shutdown.drain(config.proxy.drain_timeout).await;
    end(serving).await;
    end(administering).await;
    for task in feeding.into_iter().chain(answering) {
        end(task).await;
    }
    end(issued).await;
    end(written).await;
    end(logged).await;
    usage.write(&control).await;
    // What was reported and is not ended yet has to be reported again: a shutdown does not wait for a store that fails.
    reported.abort();
    kept.abort();
    audit_keeper::end(&control, &refusals).await;
    control.close().await;
    tracing::info!(cut, "stopped");
    why.map_or(Ok(()), |why| Err(ServeError::Stopped(why)))
}

/// Waits until somebody asks the server to end, or it has to. Leads to why it has to.
async fn ended(mut stopped: watch::Receiver<Option<&'static str>>) -> Result<Option<&'static str>, ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    tokio::select! {
        _ = terminate.recv() => Ok(None),
        _ = interrupt.recv() => Ok(None),
        why = stopped.wait_for(Option::is_some) => Ok(why.ok().and_then(|why| *why)),
    }
}

async fn end(task: JoinHandle<()>) {
    if task.await.is_err() {
        tracing::error!("a task of the server panicked");
    }
}

fn introduce(demo: Option<&Demo>, (proxy, admin): (SocketAddr, SocketAddr), data: &Path) {
    tracing::info!(%proxy, %admin, data = %data.display(), "serving");
    if let Some(demo) = demo {
        let data = std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
        // Where nobody reads it the demo goes on all the same.
        let _ = crate::output::say(&demo.introduction(proxy, admin, &data));
    }
}

/// Opens a socket at the address, or where its port is taken, at a free one: a demo has no reason to insist.
fn bind_near(
    key: &'static str,
    address: SocketAddr,
    tls: Option<rustls::ServerConfig>,
    limits: Limits,
    metrics: Metrics,
) -> Result<Listener, ListenError> {
    match Listener::bind(key, address, tls.clone(), limits, metrics.clone()) {
        Err(error) if error.is_taken() => Listener::bind(key, SocketAddr::new(address.ip(), 0), tls, limits, metrics),
        other => other,
    }
}

/// What the proxy needs of each service. One that cannot be delivered to is left out, and is denied.
fn routing(deliveries: &Deliveries) -> Routing {
    let Deliveries { services, antavo } = deliveries;
    let services = services.iter().filter_map(|(id, delivery)| match service(id, delivery, antavo.contains(id)) {
        Some(service) => Some((id.to_string(), service)),
        None => {
            tracing::error!(service = %id, "the service has no usable upstream: its requests are denied");
            None
        }
    });
    Routing::new(services)
}

fn service(id: &Id, delivery: &Delivery, is_antavo: bool) -> Option<Service> {
    let preflight = match &delivery.preflight {
        Some(rule) => Some(Preflight::new(rule.origins.clone(), &rule.headers, rule.max_age_s)?),
        None => None,
    };
    Some(Service {
        id: id.clone(),
        upstream: Upstream::parse(&delivery.upstream).ok()?,
        preserve_host: delivery.preserve_host,
        response_timeout: Duration::from_secs(delivery.response_timeout_s.into()),
        leaked: delivery.reserved_prefix.as_ref().map(|prefix| format!("{prefix}{}", leaked::PATH)),
        reserved: delivery.reserved_prefix.clone(),
        errors: if is_antavo { crate::proxy::ErrorForm::Antavo } else { crate::proxy::ErrorForm::Problem },
        preflight,
    })
}

/// Confirms the policy again and again, and gives the engine a new base when deltas have gathered.
async fn keep_current(control: Arc<Control>, metrics: Metrics) {
    let mut enforced = control.enforced();
    let mut ticks = tokio::time::interval(CONFIRM_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => control.confirm(),
            changed = enforced.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let revision = *enforced.borrow_and_update();
        metrics.policy(revision, clock::now().as_secs());
        if let Err(error) = control.compact().await {
            tracing::error!(%error, "the policy could not be compacted");
        }
    }
}

/// Gives the gate the day keys of signers as days come.
async fn keep_sheets(control: Arc<Control>) {
    let mut ticks = tokio::time::interval(SHEETS_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = control.keep_sheets().await {
            tracing::error!(%error, "the keys by which signatures are checked could not be derived");
        }
    }
}

/// Removes keys of access tokens whose last token is over.
async fn keep_token_keys(control: Arc<Control>) {
    let mut ticks = tokio::time::interval(TOKEN_KEYS_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = control.keep_token_keys().await {
            tracing::error!(%error, "old keys of access tokens could not be removed");
        }
    }
}

async fn prune(control: Arc<Control>, keep_bytes: u64) {
    let mut ticks = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = control.prune_decisions(keep_bytes).await {
            tracing::warn!(%error, "old decisions could not be removed");
        }
    }
}

/// Writes decisions until every journal is gone. What the store does not take is tried once more after a rest, then given up
/// as a gap: the queue must not stand still for good, and the gap says how many are missing.
async fn write_decisions(control: Arc<Control>, mut batches: Batches, usage: Usage) {
    let mut lost: Option<Gap> = None;
    while let Some(batch) = batches.next().await {
        usage.count(&batch.records);
        let gaps: Vec<Gap> = lost.into_iter().chain(batch.gap).collect();
        let records: Arc<[DecisionRecord]> = batch.records.into();
        let mut kept = control.keep_decisions(&records, &gaps).await;
        if kept.is_err() {
            tokio::time::sleep(STORE_REST).await;
            kept = control.keep_decisions(&records, &gaps).await;
        }
        lost = match kept {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(%error, decisions = records.len(), "decisions could not be written");
                over(&records, &gaps)
            }
        };
    }
    if let Some(gap) = lost {
        tracing::error!(decisions = gap.count, "decisions were lost");
    }
}

/// One gap in place of everything that was not written.
fn over(records: &[DecisionRecord], gaps: &[Gap]) -> Option<Gap> {
    let single = records.iter().map(|record| Gap { count: 1, first: record.id, last: record.id });
    single.chain(gaps.iter().copied()).reduce(|all, gap| Gap {
        count: all.count + gap.count,
        first: all.first.min(gap.first),
        last: all.last.max(gap.last),
    })
}
