//! The gate in its sandbox, for any Rust program.
//!
//! An [`Engine`] keeps one WebAssembly instance of the gate for each worker, all with the same policy, and one spare. A
//! decision takes an instance for about a microsecond. An instance that traps or runs out of time is lost for good: that
//! request is denied, the spare takes its place, and a new spare is made in the background.
//!
//! ```
//! use portcullis_engine::{Config, Engine, Request};
//! use portcullis_model::credential::Seed;
//! use portcullis_model::head::RequestHead;
//! use portcullis_model::id::Revision;
//! use portcullis_model::time::UnixTime;
//! use portcullis_model::{policy, source::Source, verdict::Verdict};
//!
//! let engine = Engine::new(&Config::default())?;
//! let base = policy::build(&Source::empty(Revision(1), Seed([0; 16])))?;
//! engine.load(base.into())?;
//! let now = UnixTime::from_secs(1_800_000_000).ok_or("no such time")?;
//! engine.confirm(now);
//!
//! let head = RequestHead {
//!     secure: true,
//!     bodiless: true,
//!     peer: "192.0.2.1".parse()?,
//!     method: b"GET",
//!     authority: None,
//!     target: b"/v1/events",
//!     headers: &[(b"host", b"api.example.com")],
//! };
//! let decision = engine.decide(Request::new(&head.pack()?, now))?;
//! assert!(matches!(decision.verdict(), Verdict::Deny(_)), "the empty policy denies everything");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod abi;
mod decision;
mod error;
mod instance;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(not(target_os = "linux"))]
#[path = "memory/copied.rs"]
mod memory;
mod rotation;

pub use decision::{Decision, Explanation, Outcome, Request, Step};
pub use error::{DecideError, EngineError, LoadError};
pub use instance::Description;
pub use rotation::{Engine, Prepared};

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// The component that decides, as it is built into this crate.
pub static COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/portcullis.wasm"));

/// How an [`Engine`] is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many instances decide, each with a memory of its own. One for each thread that decides is best. On Linux they share
    /// the pages of the base; elsewhere each has a copy of it.
    pub workers: NonZeroUsize,
    /// The most memory in bytes of one instance: the base, the overlay and a little. At most 4 GiB.
    pub memory_limit: usize,
    /// How long one decision may take before its instance is given up. A decision takes microseconds, but this is wall time:
    /// on a busy machine its thread may have to wait for its turn.
    pub decide_deadline: Duration,
    /// How long loading a policy or applying a delta may take before its instance is given up.
    pub load_deadline: Duration,
    /// A folder of its own for compiled code, made with mode 0700. Without one the component is compiled at every start,
    /// which takes a part of a second.
    pub cache: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            memory_limit: 2 << 30,
            decide_deadline: Duration::from_millis(500),
            load_deadline: Duration::from_secs(60),
            cache: None,
        }
    }
}
