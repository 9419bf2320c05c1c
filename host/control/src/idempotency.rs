//! Creations that may be repeated without being done again (draft-ietf-httpapi-idempotency-key-header).
//!
//! Whoever does not hear of a creation's end asks again under the same key. What came of the first is written down in the
//! transaction that did it, so after a crash there is either both or neither. A repetition leads to the same record, without
//! its secret, which leaves once. What was refused is not remembered: it has made nothing.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use portcullis_store::Remember;
use sha2::{Digest as _, Sha256};

use crate::Control;
use crate::change::{Done, Repetition};
use crate::command::Order;
use crate::error::{CommandError, Refused};

/// The longest key in bytes. A UUID in quotes has 38.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
/// How long a creation is remembered, in seconds: a day, as long as anybody goes on asking.
pub const REMEMBERED_S: u64 = 86_400;
/// How many creations of one tenant's credentials are remembered at once. That is more than one a second all day.
pub const MAX_REMEMBERED: u64 = 100_000;

/// What a repetition of a creation is known by: a key of its caller's, and what is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Idempotency {
    key: String,
    fingerprint: [u8; 32],
}

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an `Idempotency-Key` has 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters: a UUID does well")]
pub struct IdempotencyKeyError;

impl Idempotency {
    /// The creation that `parts` describe, under a key. The parts hold no secret; only their digest is kept.
    ///
    /// # Errors
    /// The key has not 1 to [`MAX_IDEMPOTENCY_KEY_BYTES`] visible ASCII characters.
    pub fn new(key: &[u8], parts: &[&[u8]]) -> Result<Idempotency, IdempotencyKeyError> {
        let is_key = (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(key).ok().filter(|_| is_key).ok_or(IdempotencyKeyError)?;
        let mut hash = Sha256::new();
        for part in parts {
            // With its length, so that no two lists of parts are the same bytes.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        Ok(Idempotency { key: text.to_owned(), fingerprint: hash.finalize().into() })
    }
}

impl fmt::Debug for Idempotency {
    /// The key is its caller's alone, and anything may be in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").finish_non_exhaustive()
    }
}

/// The creations that are being done at present.
#[derive(Default)]
pub(crate) struct InProgress(Mutex<HashSet<(Id, String)>>);

/// Ends a creation's place among those that are being done.
pub(crate) struct Turn<'p> {
    all: &'p InProgress,
    own: Option<(Id, String)>,
}

impl InProgress {
    /// A turn for the order, unless the same creation is being done.
    pub(crate) fn enter(&self, order: &Order) -> Option<Turn<'_>> {
        let Some(idempotency) = &order.idempotency else { return Some(Turn { all: self, own: None }) };
        let own = (order.caller.credential.clone(), idempotency.key.clone());
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(own.clone());
        is_new.then_some(Turn { all: self, own: Some(own) })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(own);
        }
    }
}

impl Control {
    /// What came of the order before, if it is the repetition of one; and whether there is room to remember another.
    ///
    /// INVARIANT (once): the lane is held, so no other order of this key comes between this look and the change.
    pub(crate) async fn replay(&self, order: &Order, now: UnixTime) -> Result<Option<Done>, CommandError> {
        let Some(idempotency) = &order.idempotency else { return Ok(None) };
        let caller = &order.caller;
        let since = outdated(now);
        if let Some(before) = self.store.remembered(&caller.credential, &idempotency.key, since).await? {
            if before.fingerprint != idempotency.fingerprint {
                return Err(Refused::IdempotencyKeyReused.into());
            }
            return Ok(Some(Done {
                revision: before.revision,
                object: before.object,
                issued: None,
                repetition: Repetition::Replayed,
                imported: Vec::new(),
            }));
        }
        if self.store.count_remembered(&caller.tenant, since).await? >= MAX_REMEMBERED {
            let what = format!(
                "{MAX_REMEMBERED} creations of the tenant are remembered, which is the most: send no `Idempotency-Key`, or \
                 wait until the first of them is a day old"
            );
            return Err(Refused::State { code: "idempotency_quota", what }.into());
        }
        Ok(None)
    }
}

/// What is written down of a creation, for its repetition.
pub(crate) fn remember(order: &Order, object: &str, now: UnixTime) -> Option<Remember> {
    let idempotency = order.idempotency.as_ref()?;
    Some(Remember {
        tenant: order.caller.tenant.clone(),
        credential: order.caller.credential.clone(),
        key: idempotency.key.clone(),
        fingerprint: idempotency.fingerprint,
        object: object.to_owned(),
        outdated: outdated(now),
    })
}

fn outdated(now: UnixTime) -> UnixTime {
    UnixTime::from_secs(now.as_secs().saturating_sub(REMEMBERED_S)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_visible() {
        for good in ["a", "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", &"x".repeat(MAX_IDEMPOTENCY_KEY_BYTES)] {
            assert!(Idempotency::new(good.as_bytes(), &[]).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\u{e9}", "a\tb", &"x".repeat(MAX_IDEMPOTENCY_KEY_BYTES + 1)] {
            assert_eq!(Idempotency::new(bad.as_bytes(), &[]), Err(IdempotencyKeyError), "{bad}");
        }
    }

    #[test]
    fn what_is_asked_for_is_told_apart() {
        let of = |parts: &[&[u8]]| Idempotency::new(b"k", parts).unwrap().fingerprint;
        assert_eq!(of(&[b"POST", b"/a"]), of(&[b"POST", b"/a"]));
        assert_ne!(of(&[b"POST", b"/a"]), of(&[b"POST/", b"a"]));
    }
}
