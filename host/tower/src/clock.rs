//! The one place where the data plane reads the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_model::time::UnixTime;

/// The time in whole seconds, as the gate takes it.
///
/// A clock from before 1970 reads as 1970 and one beyond the last date as that: either is far from every confirmation, so
/// the gate denies.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime::from_secs(since_epoch().as_secs()).unwrap_or(UnixTime::MAX)
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
