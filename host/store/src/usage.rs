//! When credentials were used last, and how often.

use std::net::IpAddr;

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;

/// Uses of one version of a credential's secret that are to be added to those before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretUse {
    /// The credential.
    pub credential: Id,
    /// The version of its secret.
    pub version: u16,
    /// When the last of them was.
    pub last: UnixTime,
    /// Where the last of them came from.
    pub address: Option<IpAddr>,
    /// How many they are.
    pub count: u64,
}

/// What is known of the uses of one version of a credential's secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SecretUsed {
    /// The version.
    pub version: u16,
    /// When it was used last.
    pub last: UnixTime,
    /// Where the last use came from.
    pub address: Option<IpAddr>,
    /// How often it was used.
    pub count: u64,
    /// How often it was used today and yesterday (UTC).
    pub recent: u64,
}
