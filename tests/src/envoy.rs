//! The real Envoy, started for a test.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::independent;
use crate::process::{Process, command};
use crate::wire;

/// How an [`Envoy`] is started.
pub struct Config {
    /// The configuration, YAML or JSON. Its listeners may have port 0; see [`Envoy::listener`].
    pub text: String,
    /// How many workers it has.
    pub workers: u32,
    /// Its environment.
    pub environment: Vec<(String, String)>,
}

/// A running Envoy. It ends with its owner.
pub struct Envoy {
    process: Process,
    config: Config,
    folder: tempfile::TempDir,
    admin: SocketAddr,
}

impl Envoy {
    /// Starts it and waits until it is ready: listeners, clusters and filters are there.
    ///
    /// # Errors
    /// Where it is not installed, and with its words where it does not take the configuration.
    pub fn start(config: Config) -> Result<Envoy> {
        let folder = tempfile::tempdir()?;
        let (process, admin) = launch(&config, folder.path())?;
        let mut envoy = Envoy { process, config, folder, admin };
        envoy.until_ready()?;
        Ok(envoy)
    }

    /// Kills it and starts it again with the same configuration. Ports that it chose itself are others then.
    ///
    /// # Errors
    /// As of [`Envoy::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        (self.process, self.admin) = launch(&self.config, self.folder.path())?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> Result<()> {
        let admin = self.admin;
        self.process.until("it was ready", || {
            wire::ask(admin, "GET", "/ready", &[], b"").is_ok_and(|answer| answer.status == 200).then_some(())
        })
    }

    /// Where its admin listener is.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What the admin listener says to a GET.
    ///
    /// # Errors
    /// Where it does not say 200.
    pub fn get(&self, target: &str) -> Result<String> {
        let answer = wire::ask(self.admin, "GET", target, &[], b"")?;
        ensure!(answer.status == 200, "{target}: {}", answer.status);
        Ok(String::from_utf8(answer.body)?)
    }

    /// Where a listener of the configuration listens.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn listener(&self, name: &str) -> Result<SocketAddr> {
        self.listeners()?.remove(name).with_context(|| format!("Envoy has no listener `{name}`"))
    }

    /// Where every listener listens, by name.
    ///
    /// # Errors
    /// Where Envoy does not say so.
    pub fn listeners(&self) -> Result<BTreeMap<String, SocketAddr>> {
        let told: Value = serde_json::from_str(&self.get("/listeners?format=json")?)?;
        let statuses = told.get("listener_statuses").and_then(Value::as_array).into_iter().flatten();
        let address = |status: &Value| {
            let name = status.get("name")?.as_str()?.to_owned();
            let socket = status.pointer("/local_address/socket_address")?;
            let port = u16::try_from(socket.get("port_value")?.as_u64()?).ok()?;
            Some((name, SocketAddr::new(socket.get("address")?.as_str()?.parse().ok()?, port)))
        };
        statuses.map(|status| address(status).with_context(|| format!("no address is in {status}"))).collect()
    }

    /// A counter or gauge; 0 where there is none of that name yet.
    ///
    /// # Errors
    /// Where Envoy does not answer.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let stats = self.get("/stats")?;
        let mut lines = stats.lines().filter_map(|line| line.split_once(": "));
        Ok(lines.find(|(found, _)| *found == name).map_or(Ok(0), |(_, value)| value.trim().parse())?)
    }

    /// What its allocator says of its memory, in bytes by name (`allocated`, `heap_size` and others).
    ///
    /// # Errors
    /// Where Envoy does not answer.
    pub fn memory(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/memory")?)?)
    }

    /// The resident memory of its process in bytes, which has the memory of WebAssembly too.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("there is no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// The time that its process has spent on processors so far.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn cpu_time(&self) -> Result<Duration> {
        cpu_time(self.process.id())
    }

    /// The id of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.words()
    }

    /// Waits until it has logged a text.
    ///
    /// # Errors
    /// Where it does not.
    pub fn until_logged(&mut self, text: &str) -> Result<()> {
        let log = self.folder.path().join("envoy.log");
        self.process.until(text, || {
            let words = fs::read(&log).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(text).then_some(())
        })
    }

    /// The end of what it logged.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }

    /// A folder of its own, which goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The time that a process has spent on processors so far, all threads of it.
///
/// # Errors
/// Where the system does not tell.
pub fn cpu_time(process: u32) -> Result<Duration> {
    /// Linux counts in hundredths of a second for programs, whatever it does inside (proc(5)).
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program is in brackets and may have anything in it.
    let (_, fields) = stat.rsplit_once(") ").context("there is no name")?;
    let ticks: Vec<u32> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(TICK * ticks.iter().sum())
}

fn launch(config: &Config, folder: &Path) -> Result<(Process, SocketAddr)> {
    let file = folder.join("envoy.yaml");
    fs::write(&file, &config.text)?;
    let told: PathBuf = folder.join("admin");
    if told.exists() {
        fs::remove_file(&told)?;
    }
    let mut command = command(independent::envoy()?);
    // The admin listener is ours, whatever the configuration says of it.
    let admin = "{admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}}";
    command.arg("--config-path").arg(&file).arg("--config-yaml").arg(admin).arg("--admin-address-path").arg(&told);
    command.arg("--concurrency").arg(config.workers.to_string());
    command.args([
        "--use-dynamic-base-id",
        "--disable-hot-restart",
        // What a new configuration replaces is gone soon.
        "--drain-time-s",
        "1",
        "--log-level",
        "warning",
        "--component-log-level",
        "wasm:info",
    ]);
    command.envs(config.environment.iter().map(|(name, value)| (name, value)));
    let mut process = Process::start(&mut command, &folder.join("envoy.log"))?;
    let admin = process.until("its admin listener was there", || fs::read_to_string(&told).ok()?.parse().ok())?;
    Ok((process, admin))
}
