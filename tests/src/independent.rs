//! Where `tests/independent/install` has put what others wrote.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Where Debian keeps programs that only root is expected to start.
const BESIDE_PATH: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The folder of the installer below the target folder that this program was built into.
///
/// # Errors
/// Where this program is not at the place where cargo puts tests, examples and benchmarks.
pub fn folder() -> Result<PathBuf> {
    let program = env::current_exe()?;
    // target/PROFILE/deps/PROGRAM
    let target = program.ancestors().nth(3).context("the program is not below a target folder")?;
    Ok(target.join("tmp").join("independent"))
}

/// The real Envoy.
///
/// # Errors
/// How to install it, where it is missing.
pub fn envoy() -> Result<PathBuf> {
    let folder = folder()?;
    let envoy = folder.join("envoy");
    if folder.join("stamp").exists() && envoy.exists() {
        return Ok(envoy);
    }
    bail!("Envoy is not installed: run `{}`", install(&folder))
}

/// The real nginx.
///
/// # Errors
/// How to install it, where it is missing.
pub fn nginx() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(BESIDE_PATH.map(PathBuf::from));
    let found = folders.map(|folder| folder.join(OsStr::new("nginx"))).find(|program| program.is_file());
    found.with_context(|| format!("nginx is not installed: run `{}`", install(&folder().unwrap_or_default())))
}

fn install(folder: &Path) -> String {
    format!("tests/independent/install {}", folder.display())
}
