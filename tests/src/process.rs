//! A program that a test starts, and whose words are told where the test fails.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a program may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is asked whether it is.
const PAUSE: Duration = Duration::from_millis(20);
/// How much of the end of its words is told.
const TOLD_BYTES: usize = 8 * 1024;

/// A running program. It ends with its owner.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it says goes to the end of a file.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(command: &mut Command, log: &Path) -> Result<Process> {
        let file = File::options().create(true).append(true).open(log)?;
        let command = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{} does not start", command.get_program().display()))?;
        Ok(Process { child, log: log.to_owned() })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it said.
    #[must_use]
    pub fn words(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `ready` gives something.
    ///
    /// # Errors
    /// With its last words, where the program ends before or takes too long.
    pub fn until<T>(&mut self, what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(ready) = ready() {
                return Ok(ready);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}) before {what}:\n{}", self.last_words());
            }
            if begun.elapsed() > PATIENCE {
                bail!("it waited {PATIENCE:?} for {what}:\n{}", self.last_words());
            }
            thread::sleep(PAUSE);
        }
    }

    /// The end of what it said.
    #[must_use]
    pub fn last_words(&self) -> String {
        let words = self.words();
        let mut start = words.len().saturating_sub(TOLD_BYTES);
        while !words.is_char_boundary(start) {
            start += 1;
        }
        words.get(start..).unwrap_or_default().to_owned()
    }

    /// Kills it, as a machine that loses its power would.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("-- the last words of {}:\n{}", self.log.display(), self.last_words());
        }
    }
}

/// A command with an environment of its own: nothing that the machine has set decides what is tested.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command
}
