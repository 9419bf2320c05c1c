//! The proxy over real sockets: a real engine, real upstreams, and the raw bytes on both sides.

mod denied;
mod failures;
mod forward;
mod smuggling;
mod streams;
mod world;
