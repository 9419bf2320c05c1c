//! Running the binary, and the sample policy.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The keys of the sample policy. Their digests are in it; they are for nothing else.
pub(crate) const TENANT_KEY: &str = "ptc_tkAcme01_2QDM4q6fFuV4VikgcpcPavCAp0IgQxGo54Otfsw";
pub(crate) const WORKSPACE_KEY: &str = "ptc_wsAcme01_1IrZKglEufK5GrJwD52BfXI0ak2crIYfj4LVRhi";
pub(crate) const MANAGEMENT_KEY: &str = "ptc_mkAcme01_2KJ8uw4vGoDcIbwJQFwbZuc6vYZt7uSkh2P31Dn";

pub(crate) const EVENTS: &str = "https://api.shop.example/v1/events";

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The output of a run that succeeded.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        String::from_utf8(self.stdout).unwrap()
    }

    /// Asserts that the run failed with exactly this message, and did nothing.
    #[track_caller]
    pub(crate) fn fails_with(self, message: &str) {
        assert_eq!(self.stderr, format!("error: {message}\n"));
        assert_eq!((self.code, self.text()), (2, ""));
    }
}

pub(crate) fn run<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Ran {
    run_with_stdin(args, b"")
}

pub(crate) fn run_with_stdin<I: IntoIterator<Item: AsRef<OsStr>>>(args: I, stdin: &[u8]) -> Ran {
    run_in(&[], args, stdin)
}

/// Runs the binary with these variables and no others.
pub(crate) fn run_in<I: IntoIterator<Item: AsRef<OsStr>>>(vars: &[(&str, &str)], args: I, stdin: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(args)
        .env_clear()
        .envs(vars.iter().copied())
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A run that fails early leaves its input unread.
    drop(child.stdin.take().unwrap().write_all(stdin));
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `check` against the sample policy.
pub(crate) fn check(args: &[&str]) -> Ran {
    let policy = sample("policy.json");
    run(["check", "--policy", policy.to_str().unwrap()].iter().chain(args))
}

/// The path of a sample.
pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sample").join(name)
}

/// A folder of files for one test.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).into_os_string().into_string().unwrap()
    }

    pub(crate) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The sample policy with a part of its text replaced.
    pub(crate) fn edited(&self, name: &str, from: &str, to: &str) -> String {
        let text = fs::read_to_string(sample("policy.json")).unwrap();
        assert!(text.contains(from), "the sample has no `{from}`");
        self.put(name, text.replacen(from, to, 1))
    }

    /// The sample policy, compiled.
    pub(crate) fn compiled(&self, name: &str) -> String {
        let path = self.path(name);
        run(["policy", "build", sample("policy.json").to_str().unwrap(), "-o", &path]).done();
        path
    }

    /// The delta to the sample in which the tenant key is revoked, compiled.
    pub(crate) fn delta(&self, name: &str) -> String {
        let path = self.path(name);
        let (old, new) = (sample("policy.json"), sample("revoked.json"));
        run(["policy", "diff", old.to_str().unwrap(), new.to_str().unwrap(), "-o", &path]).done();
        path
    }

    /// The names of all files, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
