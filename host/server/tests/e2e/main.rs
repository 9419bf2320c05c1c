//! The server as its users meet it: the real binary, real sockets, real files. Names of tests are what is promised.
//!
//! Nothing here knows the inside of the server. Ports are chosen by the system, waiting is polling with a deadline, and every
//! test has a data folder of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod audit;
mod catalogue;
mod clients;
mod configuration;
mod crash;
mod database;
mod declared;
mod demo;
mod described;
mod error_log;
mod exclusive;
mod explained;
mod feed;
mod feeds;
mod http;
mod idempotency;
mod import;
mod independent;
mod ip_filter;
mod last_used;
mod leaked;
mod life;
mod limits;
mod management_keys;
mod matrix;
mod operations;
mod parallel;
mod people;
mod random;
mod refusals;
mod rekey;
mod rotation;
mod secrets;
mod server;
mod signed;
mod signer;
mod storage;
mod streams;
mod tenant_keys;
mod tls;
mod token_keys;
mod token_log;
mod tokens;
mod upstream;
mod upstreams;
mod workspace_keys;
mod world;
