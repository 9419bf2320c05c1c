//! What tenants set for their error logs.

use portcullis_model::id::Id;
use portcullis_store::{ErrorLogSettings, Write};
use serde_json::json;

use super::{Faults, Situation};
use crate::change::Plan;
use crate::error::CommandError;
use crate::redact;

/// The most entries that a tenant may have kept: more than anybody reads, and a few hundred megabytes at the very worst.
const MAX_ENTRIES: u32 = 10_000;
/// The most redactions of one sort.
const MAX_REDACTIONS: usize = 100;
/// The longest redaction in characters.
const REDACTION_CHARS: (usize, usize) = (1, 200);

pub(super) async fn put_settings(
    s: &Situation<'_>,
    tenant: &Id,
    settings: &ErrorLogSettings,
) -> Result<Plan, CommandError> {
    if let Some(stored) = s.control.store.error_log_settings(tenant).await? {
        s.require_unchanged("error log settings", &stored)?;
    }
    let mut faults = Faults::default();
    if settings.max_entries == 0 || settings.max_entries > MAX_ENTRIES {
        faults.add("max_entries", format!("1 to {MAX_ENTRIES}"));
    }
    let redact = &settings.redact;
    let lists = [
        ("fields", &redact.fields),
        ("headers", &redact.headers),
        ("values", &redact.values),
        ("patterns", &redact.patterns),
    ];
    for (name, list) in lists {
        if list.len() > MAX_REDACTIONS {
            let what = format!("it has {} entries, at most {MAX_REDACTIONS} are taken", list.len());
            faults.add(format!("redact.{name}"), what);
        }
        for (index, entry) in list.iter().enumerate() {
            faults.text(&format!("redact.{name}[{index}]"), entry, REDACTION_CHARS);
        }
    }
    for (index, pattern) in redact.patterns.iter().enumerate() {
        if let Err(error) = redact::pattern(pattern) {
            faults.add(format!("redact.patterns[{index}]"), error.to_string());
        }
    }
    faults.end()?;
    // A text to take out may itself be what nobody should read, and the audit is for good: it gets numbers.
    let count = json!({
        "fields": redact.fields.len(), "headers": redact.headers.len(), "values": redact.values.len(),
        "patterns": redact.patterns.len(),
    });
    let details = json!({ "enabled": settings.enabled, "max_entries": settings.max_entries, "redact": count });
    let write = Write::PutErrorLogSettings { tenant: tenant.clone(), settings: settings.clone() };
    Ok(Plan::new(vec![write], details))
}
