//! Bodies that a signature is over: read whole, hashed, and held until the gate has decided.
//!
//! Only a request whose gate asked for it gets this far, after everything that can be checked without the body has passed.
//! What was hashed is what goes upstream, byte for byte. A signature is over the bytes of the body and not over trailers, so
//! a body with trailers is refused: they would be sent on unsigned.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;
use portcullis_control::WireBody;
use portcullis_model::verdict::NeedBody;
use portcullis_tower::body::BodyDigest;

use crate::failures::Kept;
use crate::metrics::Metrics;
use portcullis_tower::enforce::HostFault;

/// The most bytes of such bodies that the process holds at once.
pub(crate) const MAX_HELD_BYTES: u64 = 256 << 20;

/// How much all of them take.
pub(super) struct Held {
    limit: u64,
    bytes: AtomicU64,
    metrics: Metrics,
}

/// A share of it, given back when it is dropped.
pub(super) struct Share {
    held: Arc<Held>,
    bytes: u64,
}

/// A body that was read whole.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    /// For as long as the bytes are there.
    pub(super) share: Share,
}

/// What is there of a request's body.
pub(super) enum RequestBody {
    /// It has yet to come.
    Coming(Incoming),
    /// It was read for its signature.
    Whole(Whole),
    /// It was begun, and nothing of it is left; with why.
    Gone(&'static str),
}

impl RequestBody {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            RequestBody::Coming(body) => body.is_end_stream(),
            RequestBody::Whole(whole) => whole.bytes.is_empty(),
            RequestBody::Gone(_) => false,
        }
    }
}

impl Whole {
    /// What an error log keeps of it.
    pub(super) fn kept(&self, room: usize) -> WireBody {
        let mut kept = Kept::new(room);
        kept.add(&self.bytes);
        kept.into_body(true)
    }
}

impl Held {
    pub(super) fn new(limit: u64, metrics: Metrics) -> Arc<Held> {
        Arc::new(Held { limit, bytes: AtomicU64::new(0), metrics })
    }

    fn share(self: &Arc<Self>) -> Share {
        Share { held: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    /// Takes so many more bytes, or none where there is no room for them.
    fn grow(&mut self, more: u64) -> bool {
        let Held { limit, bytes, metrics } = &*self.held;
        let within = |now: u64| now.checked_add(more).filter(|sum| sum <= limit);
        let taken = bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        if taken.is_ok() {
            self.bytes += more;
            metrics.signed_bodies_hold(bytes.load(Ordering::Relaxed));
        }
        taken.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.held.metrics.signed_bodies_hold(self.held.bytes.load(Ordering::Relaxed));
    }
}

/// Reads a body of at most `cap` bytes, and leads to it and its digest. Where more is announced, nothing is read: a client
/// that waits to be asked for its body is not asked (RFC 9110 section 10.1.1).
pub(super) async fn read(
    mut body: Incoming,
    need: NeedBody,
    cap: u64,
    idle: Duration,
    held: &Arc<Held>,
) -> Result<(Whole, Vec<u8>), HostFault> {
    if body.size_hint().lower() > cap {
        return Err(HostFault::BodyTooLarge);
    }
    let mut hash = BodyDigest::new(need.algorithm);
    let mut share = held.share();
    let mut whole = BytesMut::new();
    loop {
        let next = tokio::time::timeout(idle, poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))).await;
        let frame = match next {
            Err(_) => return Err(HostFault::BodyTimeout),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(HostFault::BodyBroken),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { return Err(HostFault::BodyTrailers) };
        let (length, so_far) = (len(&data), len(&whole));
        if so_far.saturating_add(length) > cap {
            return Err(HostFault::BodyTooLarge);
        }
        if !share.grow(length) {
            return Err(HostFault::BodiesFull);
        }
        hash.update(&data);
        // Copied: a short frame would keep all of the buffer that it came in.
        whole.extend_from_slice(&data);
    }
    Ok((Whole { bytes: whole.freeze(), share }, hash.finish()))
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let held = Held::new(10, Metrics::new());
        let (mut first, mut second) = (held.share(), held.share());
        assert!(first.grow(4) && second.grow(6), "10 of 10");
        assert!(!second.grow(1), "11 of 10");
        drop(first);
        assert!(second.grow(4) && !second.grow(1));
        drop(second);
        assert_eq!(held.bytes.load(Ordering::Relaxed), 0);
    }
}
