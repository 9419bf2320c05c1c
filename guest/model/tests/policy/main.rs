//! The compiled policy against its source: lookups, deltas, determinism, damage and limits.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "these are tests")]

mod damage;
mod determinism;
mod limits;
mod oracle;
mod overlay;

mod sources;
