//! The filter, built as it is shipped.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// The module.
///
/// # Errors
/// Where it cannot be built.
pub fn filter() -> Result<PathBuf> {
    Ok(std::env::var_os("PORTCULLIS_FILTER").context("no filter")?.into())
}
