//! Builds the module for Envoy, which the program carries.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

#[path = "../guest_build.rs"]
mod guest_build;

use guest_build::Guest;

const FILTER: Guest = Guest {
    package: "portcullis-envoy",
    folder: "guest/envoy",
    target: "wasm32-wasip1",
    // Envoy's V8 refuses wide arithmetic.
    flags: &["-Ctarget-feature=+simd128"],
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    fs::copy(FILTER.build()?, Path::new(&env::var("OUT_DIR")?).join("portcullis-envoy.wasm"))?;
    Ok(())
}
