//! Builds a crate of the guest for WebAssembly: what the build scripts of host/engine and host/server share.
//!
//! A nested cargo compiles it, always optimised, into a target folder of its own beside this build's. Cargo runs the script
//! again only when a file of the guest, the contract or the lock file changes. Paths are remapped, so two builds give the same
//! bytes wherever they are made.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every crate of the guest is made of.
const SOURCES: [&str; 7] =
    ["guest/model", "guest/eval", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "host/guest_build.rs", "wit"];

/// A crate of the guest.
pub(crate) struct Guest {
    /// The crate.
    pub(crate) package: &'static str,
    /// Its folder.
    pub(crate) folder: &'static str,
    /// What it is compiled for.
    pub(crate) target: &'static str,
    /// Flags for the compiler.
    pub(crate) flags: &'static [&'static str],
}

impl Guest {
    /// Compiles the guest and gives the path of its module.
    pub(crate) fn build(&self) -> Result<PathBuf, Box<dyn Error>> {
        let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
        for source in SOURCES.iter().chain([&self.folder]) {
            println!("cargo::rerun-if-changed={}", root.join(source).display());
        }
        self.ensure_target()?;
        self.compile(&root, &target_folder(Path::new(&env::var("OUT_DIR")?))?)
    }

    /// Adds the Rust target where it is missing.
    fn ensure_target(&self) -> Result<(), Box<dyn Error>> {
        let target = self.target;
        let rustc = env::var("RUSTC")?;
        let printed = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output()?;
        let folder = PathBuf::from(String::from_utf8(printed.stdout)?.trim());
        if folder.is_dir() {
            return Ok(());
        }
        let added = Command::new("rustup").args(["target", "add", target]).output();
        let why = match added {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => format!("rustup could not be started: {error}"),
        };
        Err(format!(
            "the guest needs Rust's standard library for {target}, and adding it failed.\n\
             Install it with\n\n    rustup target add {target}\n\n\
             or, where Rust does not come from rustup, from the package your system has it in \
             (Debian: libstd-rust-dev-wasm32).\nWhat rustup said: {why}"
        )
        .into())
    }

    fn compile(&self, root: &Path, target: &Path) -> Result<PathBuf, Box<dyn Error>> {
        let home = match env::var_os("CARGO_HOME") {
            Some(home) => PathBuf::from(home),
            None => env::home_dir().ok_or("there is no home folder")?.join(".cargo"),
        };
        let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
        let flags = self.flags.iter().map(|flag| (*flag).to_owned());
        let flags: Vec<_> = flags.chain([remap(root, "/portcullis"), remap(&home, "/cargo")]).collect();
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
            .args(["build", "--locked", "--package", self.package, "--profile", "guest", "--target", self.target])
            .arg("--target-dir")
            .arg(target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .output()?;
        if !output.status.success() {
            return Err(format!("building the guest failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(target.join(self.target).join("guest").join(self.package.replace('-', "_")).with_extension("wasm"))
    }
}

/// The guest's own target folder, `guest` beside `debug` and `release`.
fn target_folder(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out, with a triple before the profile in cross builds.
    let build = out.ancestors().find(|folder| folder.ends_with("build")).ok_or("OUT_DIR has no `build` folder")?;
    let target = build.ancestors().nth(2).ok_or("OUT_DIR is too short")?;
    Ok(target.join("guest"))
}
