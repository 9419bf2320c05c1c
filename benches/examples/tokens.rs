//! How many access tokens the real server issues, each with its row in the audit before the answer.
//!
//! ```sh
//! cargo build --release -p portcullis && cargo run --release -p portcullis-benches --example tokens
//! cargo run --release -p portcullis-benches --example tokens -- EdDSA 64 10   # algorithm, connections, seconds
//! ```
//!
//! Closed loop over loopback: every connection asks for its next token when it has the last. The clients are in this process,
//! so the server has what they leave of the machine. What it used itself is told per core: tokens for each second of its
//! processor time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// What Linux counts processor time in, for each second (`sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let algorithm = arguments.next().unwrap_or_else(|| "EdDSA".to_owned());
    let connections: usize = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path(), &algorithm)?;
    let request = server.client(folder.path())?;
    let (is_over, length) = (AtomicBool::new(false), Duration::from_secs(seconds));
    let (before, began) = (server.used()?, Instant::now());
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| -> Result<Vec<Duration>> {
        let asking: Vec<_> = (0..connections).map(|_| scope.spawn(|| ask(server.proxy, &request, &is_over))).collect();
        std::thread::sleep(length);
        is_over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for asked in asking {
            all.extend(asked.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        Ok(all)
    })?;
    let (elapsed, used) = (began.elapsed().as_secs_f64(), server.used()? - before);
    latencies.sort_unstable();
    let count = latencies.len() as f64;
    let at = |number: usize| latencies.get(number).copied().unwrap_or_default().as_secs_f64() * 1000.0;
    println!("{algorithm}, {connections} connections, {seconds} s: {:.0} tokens/s", count / elapsed);
    println!("p50 {:.1} ms, p99 {:.1} ms", at(latencies.len() / 2), at(latencies.len() * 99 / 100));
    println!("the server used {used:.1} s of processor time: {:.0} tokens for each second of a core", count / used);
    let audit = server.run(&["audit", "verify"])?;
    ensure!(audit.status.success(), "the audit is not intact");
    Ok(())
}

/// Asks until it is over. Leads to how long each answer took.
fn ask(proxy: SocketAddr, request: &[u8], is_over: &AtomicBool) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(proxy)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let (mut latencies, mut line, mut body) = (Vec::new(), String::new(), Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        reader.get_mut().write_all(request)?;
        let mut length = 0;
        line.clear();
        reader.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "answered {line}");
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

struct Server {
    child: Child,
    program: PathBuf,
    proxy: SocketAddr,
    admin: SocketAddr,
    key: String,
}

impl Server {
    fn start(folder: &Path, algorithm: &str) -> Result<Server> {
        let mut program = std::env::current_exe()?;
        // From target/release/examples to what was built beside it.
        program.pop();
        program.pop();
        program.push("portcullis");
        ensure!(program.exists(), "build the server first: cargo build --release -p portcullis");
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        let (proxy, admin) = (free()?, free()?);
        let config = folder.join("portcullis.toml");
        let text = format!(
            "data = \"data\"\n[proxy]\nlisten = \"{proxy}\"\n[admin]\nlisten = \"{admin}\"\n[tokens]\nalgorithm = \"{algorithm}\"\n\
             [log]\nlevel = \"warn\"\n"
        );
        std::fs::write(&config, text)?;
        let recovered = Command::new(&program).arg("recover").arg("--config").arg(&config).output()?;
        let key = String::from_utf8(recovered.stdout)?.trim().to_owned();
        let child = Command::new(&program).arg("serve").arg("--config").arg(&config).stdin(Stdio::null()).spawn()?;
        let server = Server { child, program, proxy, admin, key };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(admin).is_err() || !server.run(&["whoami"])?.status.success() {
            ensure!(Instant::now() < deadline, "the server does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn run(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("PORTCULLIS_SERVER", format!("http://{}", self.admin));
        Ok(command.env("PORTCULLIS_KEY", &self.key).output()?)
    }

    /// Sets up a client. Leads to its request for a token.
    fn client(&self, folder: &Path) -> Result<Vec<u8>> {
        let secret = folder.join("secret");
        let secret = secret.to_str().context("a folder with a name of UTF-8")?;
        for arguments in [
            "tenant create acme",
            "service create shop --host shop.example --upstream http://127.0.0.1:9 --reserved-prefix /.portcullis",
            "endpoint put shop/orders --path /orders --scope orders",
        ] {
            let done = self.run(&arguments.split(' ').collect::<Vec<_>>())?;
            ensure!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
        }
        let create = "client create acme --name Load --scope orders --audience shop --json --secret-out";
        let made = self.run(&create.split(' ').chain([secret]).collect::<Vec<_>>())?;
        let made: Value = serde_json::from_slice(&made.stdout)?;
        let Some(id) = made["id"].as_str() else { bail!("no client: {made}") };
        let secret = std::fs::read_to_string(secret)?;
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={}", secret.trim());
        let head = format!(
            "POST /.portcullis/v1/auth/token HTTP/1.1\r\nhost: shop.example\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
            form.len()
        );
        Ok([head.into_bytes(), form.into_bytes()].concat())
    }

    /// The processor time that the server has used, in seconds.
    fn used(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Fields 14 and 15, counted behind the name, which may hold spaces (proc(5)).
        let rest = stat.rsplit_once(')').context("no stat")?.1;
        let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
