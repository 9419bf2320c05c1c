//! Calls that failed, as they are kept: redacted, by tenant, bounded by number and size.

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use serde::{Deserialize, Serialize};

/// How many entries a tenant's error log has where nobody says.
pub const USUAL_ERROR_ENTRIES: u32 = 1000;

/// What a tenant sets for its error log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorLogSettings {
    /// Whether failed calls are kept at all.
    pub enabled: bool,
    /// How many are kept, proven ones and those of strangers each; the oldest go first.
    pub max_entries: u32,
    /// What is taken out of each, besides what always is.
    pub redact: Redactions,
}

impl Default for ErrorLogSettings {
    fn default() -> Self {
        ErrorLogSettings { enabled: true, max_entries: USUAL_ERROR_ENTRIES, redact: Redactions::default() }
    }
}

/// What is taken out of a failed call before it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redactions {
    /// Names of JSON fields at any depth, form fields and query parameters; their values go.
    pub fields: Vec<String>,
    /// Names of header fields; their values go.
    pub headers: Vec<String>,
    /// Texts that go wherever they occur.
    pub values: Vec<String>,
    /// Regular expressions; what they match goes wherever it occurs.
    pub patterns: Vec<String>,
}

/// A failed call to be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewErrorEntry {
    /// The tenant; nothing for the installation's own.
    pub tenant: Option<Id>,
    /// Whether a proven credential named the tenant.
    pub proven: bool,
    /// The id of the decision.
    pub decision: u64,
    /// When.
    pub at: UnixTime,
    /// The proven credential.
    pub credential: Option<String>,
    /// The endpoint, as `service/endpoint`.
    pub endpoint: Option<String>,
    /// Why it failed, in one word.
    pub reason: String,
    /// The status that the client got.
    pub status: u16,
    /// Request and response, redacted, as JSON.
    pub call: String,
    /// How many entries the tenant may have of this sort.
    pub max_entries: u32,
    /// How many bytes they may have.
    pub max_bytes: u64,
}

/// A failed call that was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorEntry {
    /// Its number, which is the cursor of pages.
    pub id: u64,
    /// The tenant; nothing for the installation's own.
    pub tenant: Option<Id>,
    /// Whether a proven credential named the tenant.
    pub proven: bool,
    /// The id of the decision.
    pub decision: u64,
    /// When.
    pub at: UnixTime,
    /// The proven credential.
    pub credential: Option<String>,
    /// The endpoint, as `service/endpoint`.
    pub endpoint: Option<String>,
    /// Why it failed, in one word.
    pub reason: String,
    /// The status that the client got.
    pub status: u16,
    /// Request and response, redacted, as JSON.
    pub call: String,
}

/// Which failed calls are asked for. What is left out does not narrow.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ErrorFilter {
    /// At this time or later.
    pub since: Option<UnixTime>,
    /// Before this time.
    pub until: Option<UnixTime>,
    /// Of this credential.
    pub credential: Option<String>,
    /// Of this endpoint.
    pub endpoint: Option<String>,
    /// For this reason.
    pub reason: Option<String>,
    /// With this status.
    pub status: Option<u16>,
}
