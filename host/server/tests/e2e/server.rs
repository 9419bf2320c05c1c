//! The server as a process, and the folder it lives in.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::http::Call;

/// By when a test gives up. Nothing is measured by it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Asks again and again until there is something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The binary with an empty environment.
pub(crate) fn portcullis() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.env_clear();
    command
}

/// How a run that ends by itself ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Lines that a test adds to the configuration, by their table.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    pub(crate) proxy: &'a str,
    pub(crate) admin: &'a str,
    pub(crate) log: &'a str,
    pub(crate) audit: &'a str,
    /// Whole lines that stand before the first table.
    pub(crate) top: &'a str,
}

/// An installation: its folder with the configuration, and the admin key.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) admin_key: String,
}

impl Site {
    /// One whose folder has what the settings ask for.
    pub(crate) fn prepared(settings: Settings<'_>, prepare: impl FnOnce(&Site)) -> Site {
        let mut site = Site::without_key(settings);
        prepare(&site);
        site.admin_key = site.recover();
        site
    }

    /// A configuration and nothing else.
    pub(crate) fn without_key(settings: Settings<'_>) -> Site {
        let site = Site { folder: tempfile::tempdir().unwrap(), admin_key: String::new() };
        site.configure(settings);
        site
    }

    pub(crate) fn configure(&self, settings: Settings<'_>) {
        let Settings { proxy, admin, log, audit, top } = settings;
        let text = format!(
            "data = \"data\"\n{top}[proxy]\nlisten = \"127.0.0.1:0\"\n{proxy}\n[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n[log]\n{log}\n[audit]\n{audit}\n"
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("portcullis.toml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Makes a superuser key while no server runs.
    pub(crate) fn recover(&self) -> String {
        let ran = run(portcullis().arg("recover").arg("--config").arg(self.config()));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let key = ran.stdout.trim_end();
        assert!(key.starts_with("ptc_") && !key.contains(char::is_whitespace), "the key alone: {ran:?}");
        assert!(!ran.stderr.contains(key), "{ran:?}");
        key.to_owned()
    }

    pub(crate) fn serve(&self) -> Command {
        let mut command = portcullis();
        command.arg("serve").arg("--config").arg(self.config());
        command
    }

    pub(crate) fn start(&self) -> Server {
        Server::start(&mut self.serve(), logged)
    }
}

/// Where a server listens, by its log.
pub(crate) fn logged(server: &Server) -> Option<(SocketAddr, SocketAddr)> {
    let log = server.stderr();
    log.lines().filter(|line| line.contains("serving")).find_map(|line| {
        let address = |name: &str| {
            let rest = line.split_once(name)?.1.trim_start_matches(['=', '"', ':']);
            rest.split(['"', ' ']).next()?.parse().ok()
        };
        Some((address("proxy")?, address("admin")?))
    })
}

/// A server that runs. It is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// Starts one and waits until it is ready. `addresses` finds where it listens in what it printed.
    pub(crate) fn start(
        command: &mut Command,
        addresses: impl Fn(&Server) -> Option<(SocketAddr, SocketAddr)>,
    ) -> Server {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers =
            vec![collect(child.stdout.take().unwrap(), &stdout), collect(child.stderr.take().unwrap(), &stderr)];
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server { child, stdout, stderr, readers, proxy: nowhere, admin: nowhere };
        (server.proxy, server.admin) = eventually("the server listens", || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?} {}", server.stderr());
            addresses(&server)
        });
        server
    }

    /// Waits until the server says that it is ready. Plain text only.
    pub(crate) fn ready(self) -> Server {
        eventually("the server is ready", || {
            Call::new("GET", "/readyz")
                .field("host", "localhost")
                .try_send(self.admin)
                .ok()
                .filter(|a| a.status() == 200)
        });
        self
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().unwrap()).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it at once, as `kill -9` does, while others still talk to it. [`Server::kill`] or the next start waits for it.
    pub(crate) fn kill_from_outside(&self) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -KILL {}", self.child.id())).status().unwrap();
        assert!(sent.success());
    }

    /// Asks it to end, as an operator does.
    pub(crate) fn terminate(&self) {
        // The standard library sends no other signal than SIGKILL.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = eventually("the server ends", || self.child.try_wait().unwrap());
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status
    }

    /// Asks it to end, and waits until it has.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.terminate();
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.stderr());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.stderr();
            let last: Vec<&str> = said.lines().rev().take(20).collect();
            eprintln!("the server said at last:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

fn collect(mut from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap().extend_from_slice(&chunk[..length]);
        }
    })
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
