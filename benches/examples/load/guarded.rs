//! The real server, set up as its operators do: a configuration, `portcullis recover`, the admin API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The host of the guarded service.
pub(crate) const HOST: &str = "api.shop.example";

/// A server that runs until it is dropped.
pub(crate) struct Guarded {
    pub(crate) address: SocketAddr,
    /// A key that passes: a group, an allowlist, a filter on the endpoint.
    pub(crate) key: String,
    _child: Child,
    _folder: TempDir,
}

/// Starts the server and makes a service in front of the upstream, a tenant and a key.
pub(crate) async fn start(upstream: SocketAddr) -> Result<Guarded> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("portcullis.toml");
    let listen = "listen = \"127.0.0.1:0\"";
    std::fs::write(&config, format!("data = \"data\"\n[proxy]\n{listen}\n[admin]\n{listen}\n"))?;
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
    let (address, admin) = loop {
        let line = log.next_line().await?.context("the server did not start")?;
        let named = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.parse().ok());
        if let (Some(proxy), Some(admin)) = (named("proxy="), named("admin=")) {
            break (proxy, admin);
        }
        eprintln!("{line}");
    };
    // What it says from now on is shown, so that its log is never full.
    tokio::spawn(async move {
        while let Ok(Some(line)) = log.next_line().await {
            eprintln!("{line}");
        }
    });
    let key = furnish(&Admin { address: admin, key: admin_key }, upstream).await?;
    Ok(Guarded { address, key, _child: child, _folder: folder })
}

/// The server beside this program, in the same build.
fn binary() -> Result<PathBuf> {
    let examples = std::env::current_exe()?;
    let binary = examples.parent().and_then(|folder| folder.parent()).context("a folder")?.join("portcullis");
    ensure!(binary.exists(), "`{}` is not there: cargo build --release -p portcullis", binary.display());
    Ok(binary)
}

async fn furnish(admin: &Admin, upstream: SocketAddr) -> Result<String> {
    let put = [
        ("POST", "/v1/tenants", json!({ "id": "acme", "modules": ["ip_filter"] })),
        (
            "POST",
            "/v1/services",
            json!({
                "id": "shop", "hosts": [HOST], "upstream": format!("http://{upstream}"), "preset": "antavo",
            }),
        ),
        ("PUT", "/v1/tenants/acme/settings/shop/events", json!({ "ip_ranges": ["127.0.0.0/8", "192.0.2.0/24"] })),
        (
            "POST",
            "/v1/tenants/acme/groups",
            json!({
                "id": "all", "permissions": [{ "endpoint": "shop/events" }, { "endpoint": "shop/customer" }],
            }),
        ),
    ];
    for (method, path, body) in put {
        admin.ask(method, path, &body).await?;
    }
    let key = json!({ "name": "Load", "group": "all", "ip_allowlist": ["127.0.0.1", "198.51.100.0/24"] });
    let made = admin.ask("POST", "/v1/tenants/acme/tenant-keys", &key).await?;
    Ok(made.get("key").and_then(Value::as_str).context("the answer has the key")?.to_owned())
}

struct Admin {
    address: SocketAddr,
    key: String,
}

impl Admin {
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("ManagementKey-v1 {}", self.key))
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(body.to_string()))?;
        let response = tokio::time::timeout(Duration::from_secs(30), sender.send_request(request)).await??;
        let status = response.status();
        let told = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&told));
        Ok(serde_json::from_slice(&told)?)
    }
}
