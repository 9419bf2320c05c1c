//! The real server and the real command line.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// How long a start or a call may take. Verifying the audit of a million keys takes seconds.
const LONG: Duration = Duration::from_secs(120);

/// An installation.
pub(crate) struct Site {
    folder: TempDir,
    admin_key: String,
}

/// A server that runs until it is stopped or dropped.
pub(crate) struct Server {
    child: Child,
    proxy: SocketAddr,
    admin: SocketAddr,
    key: String,
}

impl Site {
    pub(crate) fn new() -> Result<Site> {
        let mut site = Site { folder: tempfile::tempdir()?, admin_key: String::new() };
        let listen = "listen = \"127.0.0.1:0\"";
        std::fs::write(
            site.path("portcullis.toml"),
            format!("data = \"data\"\n[proxy]\n{listen}\n[admin]\n{listen}\n"),
        )?;
        let recovered = site.command("recover")?.output()?;
        ensure!(recovered.status.success(), "{}", String::from_utf8_lossy(&recovered.stderr));
        site.admin_key = String::from_utf8(recovered.stdout)?.trim().to_owned();
        Ok(site)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg(name).arg("--config").arg(self.path("portcullis.toml"));
        Ok(command)
    }

    /// Starts a server and waits until it is ready.
    pub(crate) fn start(&self) -> Result<Server> {
        let mut child = self.command("serve")?.stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(child.stderr.take().context("it has standard error")?).lines();
        let (proxy, admin) = loop {
            let line = log.next().context("the server did not start")??;
            let named = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.parse().ok());
            if let (Some(proxy), Some(admin)) = (named("proxy="), named("admin=")) {
                break (proxy, admin);
            }
        };
        std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        let server = Server { child, proxy, admin, key: self.admin_key.clone() };
        let began = Instant::now();
        while server.call(admin, "GET", "/readyz", "", "")?.0 != 200 {
            ensure!(began.elapsed() < LONG, "the server is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Runs a command on a server.
    pub(crate) fn run(&self, server: &Server, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("PORTCULLIS_SERVER", format!("http://{}", server.admin));
        let ran = command.env("PORTCULLIS_KEY", &self.admin_key).output()?;
        ensure!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(())
    }
}

impl Server {
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.admin_call("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Result<Value> {
        self.admin_call("POST", path, body)
    }

    fn admin_call(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let fields = format!("authorization: ManagementKey-v1 {}\r\ncontent-type: application/json\r\n", self.key);
        let (status, told) = self.call(self.admin, method, path, &fields, body)?;
        ensure!((200..300).contains(&status), "{method} {path}: {status} {told}");
        Ok(serde_json::from_str(&told)?)
    }

    /// The status that a key gets at the guarded service.
    pub(crate) fn events(&self, key: &str) -> Result<u16> {
        Ok(self.call(self.proxy, "GET", "/events", &format!("x-api-key: {key}\r\n"), "")?.0)
    }

    fn call(&self, to: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Result<(u16, String)> {
        let host = if to == self.admin { "localhost" } else { "api.shop.example" };
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(LONG))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{fields}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a head")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// What the system says of the server's memory: `VmRSS` now, `VmHWM` at the most.
    pub(crate) fn memory_mb(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).context("a line")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes / 1024)
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status()?;
        ensure!(sent.success(), "the server cannot be asked to end");
        let ended = self.child.wait()?;
        ensure!(ended.success(), "the server ended with {ended}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that was stopped has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server beside this program, in the same build.
fn binary() -> Result<PathBuf> {
    let examples = std::env::current_exe()?;
    let binary = examples.parent().and_then(|folder| folder.parent()).context("a folder")?.join("portcullis");
    ensure!(binary.exists(), "`{}` is not there: cargo build --release -p portcullis", binary.display());
    Ok(binary)
}
