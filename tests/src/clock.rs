//! The time of day that a program believes, set by a test.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use portcullis_model::time::UnixTime;

/// A clock for programs that are started with its [`Clock::environment`].
pub struct Clock {
    folder: tempfile::TempDir,
    file: File,
}

impl Clock {
    /// Builds it with the C compiler that Rust links with.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(time: UnixTime) -> Result<Clock> {
        let folder = tempfile::tempdir()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(folder.path().join("clock.so")).arg(source);
        let status = compiler.status().context("a C compiler is missing: install gcc or clang")?;
        ensure!(status.success(), "the clock is not compiled: {status}");
        let file = File::create(folder.path().join("now"))?;
        let clock = Clock { folder, file };
        clock.set(time)?;
        Ok(clock)
    }

    /// Sets it, forward or back. Programs see it at once.
    ///
    /// # Errors
    /// Where its file cannot be written.
    pub fn set(&self, time: UnixTime) -> Result<()> {
        // One write of a fixed length: a reader sees the old time or the new one.
        Ok(self.file.write_all_at(format!("{:020}", time.as_secs()).as_bytes(), 0)?)
    }

    /// What makes a program believe it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |name| self.folder.path().join(name).display().to_string();
        vec![("LD_PRELOAD".to_owned(), path("clock.so")), ("TESTS_CLOCK".to_owned(), path("now"))]
    }
}
