//! The filter, built as it is shipped.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use wasmparser::{Parser, Payload};

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

/// The module, but that it traps at each head, written into a folder.
///
/// # Errors
/// Where the module cannot be built, or has no such function.
#[expect(clippy::wildcard_enum_match_arm, reason = "other sections stay as they are")]
pub fn trapping(folder: &Path) -> Result<PathBuf> {
    let mut module = fs::read(filter()?)?;
    let (mut imported, mut function, mut bodies) = (0, None, Vec::new());
    for payload in Parser::new(0).parse_all(&module) {
        match payload? {
            Payload::ImportSection(section) => imported = section.into_imports().count(),
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.name == "proxy_on_request_headers" {
                        function = Some(usize::try_from(export.index)?);
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let range = body.range();
                bodies.push(usize::try_from(range.start)?..usize::try_from(range.end)?);
            }
            _ => {}
        }
    }
    let function = function.and_then(|function| function.checked_sub(imported));
    let body = function.and_then(|function| bodies.get(function)).context("the module takes no heads")?;
    let body = module.get_mut(body.clone()).context("the body ends behind the module")?;
    // No locals, `unreachable`, `nop` up to the end.
    body.fill(0x01);
    if let [locals, first, .., end] = body {
        (*locals, *first, *end) = (0x00, 0x00, 0x0b);
    }
    let path = folder.join("trapping.wasm");
    fs::write(&path, module)?;
    Ok(path)
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
