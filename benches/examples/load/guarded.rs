//! The real server, set up as its operators do: a configuration, `portcullis recover`, the admin API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::stored;

/// The host of the guarded service.
pub(crate) const HOST: &str = "api.shop.example";

/// A server that runs until it is dropped.
pub(crate) struct Guarded {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Admin,
    /// How often it has had a new base from its store, the first one at its start.
    pub(crate) bases: Arc<AtomicU64>,
    child: Child,
    _folder: TempDir,
}

/// Starts the server with a service in front of the upstream, and that many keys of other tenants in its store.
pub(crate) async fn start(upstream: SocketAddr, others: usize) -> Result<Guarded> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("portcullis.toml");
    let listen = "listen = \"127.0.0.1:0\"";
    std::fs::write(&config, format!("data = \"data\"\n[proxy]\n{listen}\n[admin]\n{listen}\n"))?;
    if others > 0 {
        stored::fill(&folder.path().join("data"), &stored::as_imported(portcullis_benches::source(others)?)?).await?;
    }
    let command = |name: &str| -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg(name).arg("--config").arg(&config).kill_on_drop(true);
        Ok(command)
    };
    let recovered = command("recover")?.output().await?;
    ensure!(recovered.status.success(), "{}", String::from_utf8_lossy(&recovered.stderr));
    let admin_key = String::from_utf8(recovered.stdout)?.trim().to_owned();
    let mut child = command("serve")?.stderr(Stdio::piped()).spawn()?;
    let mut log = BufReader::new(child.stderr.take().context("it has standard error")?).lines();
    let bases = Arc::new(AtomicU64::new(0));
    let count = |line: &str, bases: &AtomicU64| {
        if line.contains("policy loaded") || line.contains("policy compacted") {
            bases.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (address, admin) = loop {
        let line = log.next_line().await?.context("the server did not start")?;
        count(&line, &bases);
        let named = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.parse().ok());
        if let (Some(proxy), Some(admin)) = (named("proxy="), named("admin=")) {
            break (proxy, admin);
        }
        eprintln!("{line}");
    };
    // What it says from now on is shown, so that its log is never full.
    let counted = Arc::clone(&bases);
    tokio::spawn(async move {
        while let Ok(Some(line)) = log.next_line().await {
            count(&line, &counted);
            eprintln!("{line}");
        }
    });
    let admin = Admin { address: admin, key: admin_key };
    let service = json!({
        "id": "store", "hosts": [HOST], "upstream": format!("http://{upstream}"), "preset": "antavo",
    });
    admin.connect().await?.ask("POST", "/v1/services", &service).await?;
    Ok(Guarded { address, admin, bases, child, _folder: folder })
}

/// The server beside this program, in the same build.
fn binary() -> Result<PathBuf> {
    let examples = std::env::current_exe()?;
    let binary = examples.parent().and_then(|folder| folder.parent()).context("a folder")?.join("portcullis");
    ensure!(binary.exists(), "`{}` is not there: cargo build --release -p portcullis", binary.display());
    Ok(binary)
}

impl Guarded {
    /// The time that processors have spent on the process and for it, in seconds.
    pub(crate) fn processor_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id().context("it runs")?))?;
        // Behind the name in brackets: the 12th and 13th, in hundredths (proc_pid_stat(5)).
        let (_, fields) = stat.rsplit_once(") ").context("a name")?;
        let hundredths = fields.split(' ').skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        Ok(hundredths / 100.0)
    }

    /// The memory that the process has now, in megabytes.
    pub(crate) fn resident_mb(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().context("it runs")?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a line")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
    }
}

/// Makes a tenant whose keys pass: a group `all`, a filter on the endpoint.
pub(crate) async fn tenant(calls: &mut Calls, id: &str) -> Result<()> {
    calls.ask("POST", "/v1/tenants", &json!({ "id": id, "modules": ["ip_filter"], "key_limit": 1000 })).await?;
    calls.ask("PUT", &format!("/v1/tenants/{id}/settings/store/events"), &filter(true)).await?;
    let group = json!({ "id": "all", "permissions": permissions(true) });
    calls.ask("POST", &format!("/v1/tenants/{id}/groups"), &group).await?;
    Ok(())
}

/// The endpoint's filter with or without the addresses of clients.
pub(crate) fn filter(passes: bool) -> Value {
    json!({ "ip_ranges": addresses(passes, "192.0.2.0/24") })
}

/// A key's allowlist with or without the addresses of clients.
pub(crate) fn allowlist(passes: bool) -> Value {
    json!({ "ip_allowlist": addresses(passes, "198.51.100.0/24") })
}

fn addresses(passes: bool, other: &str) -> Value {
    if passes { json!(["127.0.0.0/8", other]) } else { json!([other]) }
}

/// What a group permits, with or without the endpoint that is called.
pub(crate) fn permissions(passes: bool) -> Value {
    let customer = json!({ "endpoint": "store/customer" });
    if passes { json!([{ "endpoint": "store/events" }, customer]) } else { json!([customer]) }
}

/// Where the server is administered, and with which key.
pub(crate) struct Admin {
    address: SocketAddr,
    key: String,
}

impl Admin {
    pub(crate) async fn connect(&self) -> Result<Calls> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Calls { sender, key: self.key.clone() })
    }
}

/// A connection to the admin API.
pub(crate) struct Calls {
    sender: SendRequest<Full<Bytes>>,
    key: String,
}

impl Calls {
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("ManagementKey-v1 {}", self.key))
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(if body.is_null() { String::new() } else { body.to_string() }))?;
        self.sender.ready().await?;
        let response = tokio::time::timeout(Duration::from_secs(30), self.sender.send_request(request)).await??;
        let status = response.status();
        let told = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&told));
        Ok(if told.is_empty() { Value::Null } else { serde_json::from_slice(&told)? })
    }
}
