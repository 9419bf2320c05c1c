//! When each key was used last: counted from the journal's batches, so that no request pays for it, and written from time to
//! time.
//!
//! Allowed requests count. A decision that was counted into a gap is not known by its key and does not count here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_control::Control;
use portcullis_control::store::{DecisionRecord, SecretUse};
use portcullis_model::answer::Details;
use portcullis_model::time::UnixTime;
use tokio::sync::Notify;

/// How often uses are written. What is known of a key is as much behind, and a journal's batch.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// The most versions of secrets that are counted between two writes: about 10 MB.
const MAX_COUNTED: usize = 100_000;
/// The most that are written at once, so that changes do not wait for a long transaction.
const MAX_WRITTEN: usize = 1000;

/// What was counted since it was last written. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Usage(Arc<Shared>);

#[derive(Default)]
struct Shared {
    counted: Mutex<HashMap<(Box<str>, u16), Counted>>,
    full: Notify,
}

#[derive(Clone, Copy)]
struct Counted {
    last: UnixTime,
    address: Option<IpAddr>,
    count: u64,
}

impl Usage {
    /// Counts the allowed requests among decisions.
    pub(crate) fn count(&self, records: &[DecisionRecord]) {
        let mut counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records.iter().filter(|record| record.reason == 0) {
            let Ok(details) = Details::unpack(&record.details) else { continue };
            let Some(credential) = details.facts.credential else { continue };
            let (last, client) = (details.facts.now, details.facts.client);
            let address = Some(client).filter(|client| !client.is_unspecified());
            let is_full = counted.len() >= MAX_COUNTED;
            let key = (credential.id.into(), credential.secret_version);
            if let Some(known) = counted.get_mut(&key) {
                known.count += 1;
                if last >= known.last {
                    (known.last, known.address) = (last, address);
                }
            } else if is_full {
                self.0.full.notify_one();
            } else {
                counted.insert(key, Counted { last, address, count: 1 });
            }
        }
    }

    /// Writes what was counted, again and again.
    pub(crate) async fn keep_written(self, control: Arc<Control>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(FLUSH_INTERVAL) => {}
                () = self.0.full.notified() => {}
            }
            self.write(&control).await;
        }
    }

    /// Writes what was counted. What the store does not take is counted on.
    pub(crate) async fn write(&self, control: &Control) {
        let counted = std::mem::take(&mut *self.0.counted.lock().unwrap_or_else(PoisonError::into_inner));
        let uses: Vec<SecretUse> = counted.into_iter().filter_map(use_of).collect();
        let mut refused = Vec::new();
        for part in uses.chunks(MAX_WRITTEN) {
            if let Err(error) = control.add_uses(part).await {
                tracing::warn!(%error, "uses of keys could not be written");
                refused.extend_from_slice(part);
            }
        }
        if !refused.is_empty() {
            self.put_back(refused);
        }
    }

    fn put_back(&self, uses: Vec<SecretUse>) {
        let mut counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for SecretUse { credential, version, last, address, count } in uses {
            let before = Counted { last, address, count };
            let known = counted.entry((credential.as_str().into(), version)).or_insert(Counted { count: 0, ..before });
            known.count += count;
            if last > known.last {
                (known.last, known.address) = (last, address);
            }
        }
    }
}

fn use_of(((credential, version), counted): ((Box<str>, u16), Counted)) -> Option<SecretUse> {
    let Counted { last, address, count } = counted;
    Some(SecretUse { credential: credential.parse().ok()?, version, last, address, count })
}

#[cfg(test)]
mod tests {
    use portcullis_model::credential::Kind;
    use portcullis_model::facts::{CredentialFacts, Facts, Proof};
    use portcullis_model::id::Revision;

    use super::*;

    fn record(reason: u16, version: u16, at: u64, client: &str) -> DecisionRecord {
        let now = UnixTime::from_secs(at).unwrap();
        let credential = CredentialFacts { id: "key", kind: Kind::Tenant, proof: Proof::Key, secret_version: version };
        let facts = Facts::unknown(Revision(1), now, client.parse().unwrap());
        let mut details = Vec::new();
        Details::of(Facts { tenant: "acme", credential: Some(credential), ..facts }).pack(&mut details).unwrap();
        DecisionRecord { id: at, reason, details: details.into() }
    }

    #[test]
    fn allowed_requests_count_for_the_version_of_the_secret_that_they_used() {
        let usage = Usage::default();
        usage.count(&[
            record(0, 1, 10, "192.0.2.1"),
            record(0, 2, 12, "192.0.2.2"),
            record(0, 2, 11, "192.0.2.3"),
            record(70, 2, 13, "192.0.2.4"),
        ]);
        let counted = usage.0.counted.lock().unwrap();
        let of = |version: u16| counted[&(Box::from("key"), version)];
        assert_eq!((of(1).count, of(2).count), (1, 2));
        assert_eq!((of(2).last.as_secs(), of(2).address), (12, Some("192.0.2.2".parse().unwrap())));
    }
}
