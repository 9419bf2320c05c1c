//! What the tests that cross crates share.

pub mod clock;
pub mod corpus;
pub mod envoy;
pub mod feed;
pub mod independent;
pub mod minter;
pub mod module;
pub mod nginx;
pub mod process;
pub mod random;
pub mod wire;

use std::env;
use std::path::{Path, PathBuf};

/// A folder of public test vectors: in the folder that PORTCULLIS_VECTORS names, else in `shared/vectors` beside the project.
/// Where it is missing that is said loudly, and in CI it is a failure.
#[must_use]
pub fn vectors(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = env::var_os("PORTCULLIS_VECTORS").map_or_else(beside, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    let what =
        format!("NOT TESTED: there are no vectors at {}; PORTCULLIS_VECTORS names their folder", folder.display());
    assert!(env::var("CI").as_deref() != Ok("true"), "{what}");
    eprintln!("{what}");
    None
}
