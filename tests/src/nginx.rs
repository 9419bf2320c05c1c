//! The real nginx, started for a test in a folder of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::independent;
use crate::process::{Process, command};

/// What every configuration here begins with: no daemon, no user to change to, nothing outside of the prefix.
const BEGIN: &str = "daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
";

/// A running nginx. It ends with its owner.
pub struct Nginx {
    process: Process,
    folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts it with the rest of a configuration: `events`, `http`. It is ready when it takes connections at `sockets`, paths
    /// that are relative to its folder; [`Nginx::PREFIX`] in the text stands for that folder.
    ///
    /// # Errors
    /// Where it is not installed, and with its words where it does not take the configuration.
    pub fn start(text: &str, sockets: &[&str]) -> Result<Nginx> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("nginx.conf");
        let prefix = folder.path().display().to_string();
        fs::write(&file, format!("{BEGIN}{}", text.replace(Nginx::PREFIX, &prefix)))?;
        let mut command = command(independent::nginx()?);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
        let process = Process::start(&mut command, &folder.path().join("nginx.log"))?;
        let mut nginx = Nginx { process, folder };
        for socket in sockets {
            let path = nginx.socket(socket);
            nginx.process.until("it took connections", || UnixStream::connect(&path).ok())?;
        }
        Ok(nginx)
    }

    /// Stands for nginx's folder in a configuration.
    pub const PREFIX: &'static str = "@PREFIX@";

    /// The whole path of a socket in its folder.
    #[must_use]
    pub fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything it said.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.words()
    }
}
