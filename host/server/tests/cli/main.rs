//! The commands as a shell runs them: output, exit codes, files. Each test runs the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod bad_input;
mod change;
mod check;
mod command;
mod confirm;
mod connect;
mod fake;
mod help;
mod policy;
mod remote;
mod secrets;
mod shown;
mod sign;
mod signed;
