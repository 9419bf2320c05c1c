//! Builds the guest for WebAssembly and makes it a component, by the `wit-component` library.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

#[path = "../guest_build.rs"]
mod guest_build;

use guest_build::Guest;

const COMPONENT: Guest = Guest {
    package: "portcullis-component",
    folder: "guest/component",
    target: "wasm32-unknown-unknown",
    flags: &[
        // What the sandbox runs and Envoy's does not: the component is for wasmtime alone.
        "-Ctarget-feature=+simd128,+wide-arithmetic",
        // Ed25519 with words of 64 bits: with wide arithmetic they multiply at once, which takes half the time. By itself the
        // crate goes by the width of pointers, which is 32 bits here.
        "--cfg=curve25519_dalek_bits=\"64\"",
    ],
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let module = fs::read(COMPONENT.build()?)?;
    let component = wit_component::ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("portcullis.wasm"), component)?;
    Ok(())
}
