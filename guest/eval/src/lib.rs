//! The decision: normalise, authenticate, authorize.
//!
//! Pure functions over a loaded policy. There is no clock here, no randomness, no I/O and no state that could change a
//! verdict: the same policy, request and time give the same answer in every build.
//!
//! A request goes through [`Gate::decide`]: it is normalised once, or refused; routed to a service; its credential is
//! proven; then everything the credential is allowed is checked in a fixed order, and the first failure is the reason.

mod authenticate;
mod authorize;
mod client;
mod client_secret;
mod gate;
mod normalise;
mod signature;
mod token;
mod trace;

pub use gate::{Description, Gate, Input};
pub use trace::{Check, Outcome, Recorder, Silent, Step, Trace};
