//! How the policy comes from a host: the base in parts, then deltas and key sheets by long poll.

use std::time::Duration;

use crate::config::{ConfigError, FeedConfig};
use crate::worker::Worker;

/// How often the worker looks at what is to be done.
pub const TICK: Duration = Duration::from_millis(100);

/// Where a feed stands.
pub struct Feed {
    config: FeedConfig,
}

impl Feed {
    /// A feed of which nothing was asked yet.
    ///
    /// # Errors
    /// Where its key is not in the environment.
    pub fn start(config: FeedConfig, _node: Option<&str>) -> Result<Feed, ConfigError> {
        Ok(Feed { config })
    }

    /// What it was told.
    #[must_use]
    pub fn config(&self) -> &FeedConfig {
        &self.config
    }
}

/// The time for something has come.
pub fn on_tick(_worker: &Worker) {}

/// A call was answered, or failed: the status is then missing.
pub fn on_response(_worker: &Worker, _token: u32, _body_size: usize) {}
