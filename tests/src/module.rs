//! The filter, built as it is shipped.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const TARGET: &str = "wasm32-wasip1";
/// What Envoy's V8 runs.
const FEATURES: &str = "-Ctarget-feature=+simd128";

/// The module. It is built where it is not, in the folder of the guest's other build.
///
/// # Errors
/// Where it cannot be built.
pub fn filter() -> Result<PathBuf> {
    build(
        &["--profile", "guest", "--package", "portcullis-envoy"],
        "Cargo.toml",
        "guest",
        "guest/portcullis_envoy.wasm",
    )
}

/// Builds a crate with these arguments to cargo, by the manifest below the root of the project, into a folder of its own below
/// the target folder; and gives the path of the module in it.
///
/// # Errors
/// Where it cannot be built.
pub fn build(arguments: &[&str], manifest: &str, folder: &str, module: &str) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3).context("the program is not below a target folder")?.join(folder);
    let mut rustup = Command::new("rustup");
    // Where Rust does not come from rustup, cargo says what is missing.
    let _ = rustup.args(["target", "add", TARGET]).current_dir(&root).output();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--target", TARGET]).args(arguments);
    cargo.arg("--manifest-path").arg(root.join(manifest)).arg("--target-dir").arg(&target);
    cargo.env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", FEATURES);
    for of_this_build in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(of_this_build);
    }
    let status = cargo.status().context("cargo does not start")?;
    ensure!(status.success(), "{manifest} is not built for {TARGET}");
    Ok(target.join(TARGET).join(module))
}

/// The server, as the tests of its own crate start it.
///
/// # Errors
/// Where it cannot be built.
pub fn server() -> Result<PathBuf> {
    if let Some(server) = env::var_os("PORTCULLIS_SERVER") {
        return Ok(server.into());
    }
    let program = env::current_exe()?;
    // target/PROFILE/deps/PROGRAM
    let profile = program.ancestors().nth(2).context("the program is not below a target folder")?;
    let server = profile.join("portcullis");
    if !server.exists() {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--locked", "--package", "portcullis"]);
        cargo.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
        cargo.arg("--target-dir").arg(profile.parent().context("a profile is in a target folder")?);
        ensure!(cargo.status().context("cargo does not start")?.success(), "the server is not built");
    }
    Ok(server)
}
