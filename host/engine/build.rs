//! Builds the guest for WebAssembly and makes it a component.
//!
//! A nested cargo compiles `portcullis-component` for `wasm32-unknown-unknown`, always optimised, into a target folder of
//! its own beside this build's; the `wit-component` library then encodes the module. Cargo runs this script again only when
//! a file of the guest, the contract or the lock file changes. Paths are remapped, so two builds give the same bytes
//! wherever they are made.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";
/// What the sandbox runs and Envoy's does not: the component is for wasmtime alone.
const FEATURES: &str = "-Ctarget-feature=+simd128,+wide-arithmetic";
/// Ed25519 with words of 64 bits: with wide arithmetic they multiply at once, which takes half the time. By itself the crate
/// goes by the width of pointers, which is 32 bits here.
const DALEK: &str = "--cfg=curve25519_dalek_bits=\"64\"";
const SOURCES: [&str; 8] = [
    "wit",
    "guest/model",
    "guest/eval",
    "guest/component",
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "host/engine/build.rs",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    ensure_target()?;
    let module = fs::read(build(&root, &target_folder(&out)?)?)?;
    let component = wit_component::ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    fs::write(out.join("portcullis.wasm"), component)?;
    Ok(())
}

/// The guest's own target folder, `guest` beside `debug` and `release`.
fn target_folder(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out, with a triple before the profile in cross builds.
    let build = out.ancestors().find(|folder| folder.ends_with("build")).ok_or("OUT_DIR has no `build` folder")?;
    let target = build.ancestors().nth(2).ok_or("OUT_DIR is too short")?;
    Ok(target.join("guest"))
}

/// Adds the Rust target where it is missing.
fn ensure_target() -> Result<(), Box<dyn Error>> {
    let rustc = env::var("RUSTC")?;
    let printed = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output()?;
    let folder = PathBuf::from(String::from_utf8(printed.stdout)?.trim());
    if folder.is_dir() {
        return Ok(());
    }
    let added = Command::new("rustup").args(["target", "add", TARGET]).output();
    let why = match added {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("rustup could not be started: {error}"),
    };
    Err(format!(
        "the guest needs Rust's standard library for {TARGET}, and adding it failed.\n\
         Install it with\n\n    rustup target add {TARGET}\n\n\
         or, where Rust does not come from rustup, from the package your system has it in \
         (Debian: libstd-rust-dev-wasm32).\nWhat rustup said: {why}"
    )
    .into())
}

/// Compiles the guest and gives the path of its module.
fn build(root: &Path, target: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => env::home_dir().ok_or("there is no home folder")?.join(".cargo"),
    };
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags =
        [FEATURES.to_owned(), DALEK.to_owned(), remap(root, "/portcullis"), remap(&home, "/cargo")].join("\x1f");
    let mut cargo = Command::new(env::var("CARGO")?);
    // Flags, wrappers (as clippy's) and profiles of the outer build are for the host.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let outer = [
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_BUILD_",
            "CARGO_PROFILE_",
            "CARGO_FEATURE_",
            "CARGO_CFG_",
            "CARGO_TARGET_",
        ];
        if outer.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(name.as_ref());
        }
    }
    let output = cargo
        .current_dir(root)
        .args(["build", "--locked", "--package", "portcullis-component", "--profile", "guest", "--target", TARGET])
        .arg("--target-dir")
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .output()?;
    if !output.status.success() {
        return Err(format!("building the guest failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(target.join(TARGET).join("guest/portcullis_component.wasm"))
}
