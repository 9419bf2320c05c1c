//! The compiled policy against its source: lookups, deltas, determinism, damage and limits.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "these are tests")]

mod determinism;
mod oracle;

mod sources;
