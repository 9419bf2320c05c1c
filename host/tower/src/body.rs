//! Bodies that a signature is over: read whole, hashed, and held until the gate has decided.
//!
//! Only a request whose gate asked for it gets this far, after everything that can be checked without the body has passed.
//! What was hashed is what goes on, byte for byte. A signature is over the bytes of the body and not over trailers, so a body
//! with trailers is refused: they would go on unsigned.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use portcullis_model::verdict::{DigestAlgorithm, NeedBody};
use sha2::{Digest as _, Sha256, Sha512};

use crate::enforce::HostFault;

/// The most bytes of such bodies that a process should hold at once.
pub const MAX_HELD_BYTES: u64 = 256 << 20;

/// How much all of them take.
pub struct Held {
    limit: u64,
    bytes: AtomicU64,
    watch: Box<dyn Fn(u64) + Send + Sync>,
}

/// A share of it, given back when it is dropped.
pub struct Share {
    held: Arc<Held>,
    bytes: u64,
}

/// A body that was read whole.
#[derive(Debug)]
pub struct Whole {
    /// Its bytes.
    pub bytes: Bytes,
    /// For as long as the bytes are there.
    pub share: Share,
}

impl Held {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Held> {
        Held::watched(limit, |_| {})
    }

    /// The same; `watch` is told how many there are whenever that changes.
    #[must_use]
    pub fn watched(limit: u64, watch: impl Fn(u64) + Send + Sync + 'static) -> Arc<Held> {
        Arc::new(Held { limit, bytes: AtomicU64::new(0), watch: Box::new(watch) })
    }

    fn share(self: &Arc<Self>) -> Share {
        Share { held: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    /// Takes so many more bytes, or none where there is no room for them.
    fn grow(&mut self, more: u64) -> bool {
        let Held { limit, bytes, watch } = &*self.held;
        let within = |now: u64| now.checked_add(more).filter(|sum| sum <= limit);
        let taken = bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        if taken.is_ok() {
            self.bytes += more;
            watch(bytes.load(Ordering::Relaxed));
        }
        taken.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        (self.held.watch)(self.held.bytes.load(Ordering::Relaxed));
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("limit", &self.limit).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Reads a body of at most `cap` bytes that never stands still for longer than `idle`, and leads to it and its digest. Where
/// more is announced, nothing is read: a client that waits to be asked for its body is not asked (RFC 9110 section 10.1.1).
///
/// # Errors
/// Why the body is not there whole. What came of it is gone.
pub async fn read<B: Body<Data = Bytes>>(
    body: B,
    need: NeedBody,
    cap: u64,
    idle: Duration,
    held: &Arc<Held>,
) -> Result<(Whole, Vec<u8>), HostFault> {
    if body.size_hint().lower() > cap {
        return Err(HostFault::BodyTooLarge);
    }
    let mut body = pin!(body);
    let mut digest = BodyDigest::new(need.algorithm);
    let mut share = held.share();
    let mut whole = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(idle, body.frame()).await {
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
        digest.update(&data);
        // Copied: a short frame would keep all of the buffer that it came in.
        whole.extend_from_slice(&data);
    }
    Ok((Whole { bytes: whole.freeze(), share }, digest.finish()))
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The digest of a body that comes in pieces.
#[derive(Clone)]
pub enum BodyDigest {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl BodyDigest {
    /// The digest of nothing, so far.
    #[must_use]
    pub fn new(algorithm: DigestAlgorithm) -> BodyDigest {
        match algorithm {
            DigestAlgorithm::Sha256 => BodyDigest::Sha256(Sha256::new()),
            DigestAlgorithm::Sha512 => BodyDigest::Sha512(Sha512::new()),
        }
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            BodyDigest::Sha256(hash) => hash.update(bytes),
            BodyDigest::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self {
            BodyDigest::Sha256(hash) => hash.finalize().to_vec(),
            BodyDigest::Sha512(hash) => hash.finalize().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn need(algorithm: DigestAlgorithm) -> NeedBody {
        NeedBody { algorithm, cap_bytes: 4 }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_cap_and_hashed() {
        let (held, idle) = (Held::new(100), Duration::from_secs(60));
        for (algorithm, length) in [(DigestAlgorithm::Sha256, 32), (DigestAlgorithm::Sha512, 64)] {
            let body = Full::new(Bytes::from_static(b"four"));
            let (whole, digest) = read(body, need(algorithm), 4, idle, &held).await.unwrap();
            assert_eq!((&whole.bytes[..], digest.len()), (&b"four"[..], length));
        }
        let body = Full::new(Bytes::from_static(b"five!"));
        let refused = read(body, need(DigestAlgorithm::Sha256), 4, idle, &held).await;
        assert_eq!(refused.unwrap_err(), HostFault::BodyTooLarge);
    }

    #[tokio::test]
    async fn bodies_are_held_up_to_a_limit_together() {
        let (held, idle) = (Held::new(7), Duration::from_secs(60));
        let of = |text: &'static str| Full::new(Bytes::from_static(text.as_bytes()));
        let sha256 = DigestAlgorithm::Sha256;
        let first = read(of("four"), need(sha256), 4, idle, &held).await.unwrap();
        assert_eq!(read(of("four"), need(sha256), 4, idle, &held).await.unwrap_err(), HostFault::BodiesFull, "8 of 7");
        assert!(read(of("3.."), need(sha256), 4, idle, &held).await.is_ok(), "7 of 7");
        drop(first);
        assert!(read(of("four"), need(sha256), 4, idle, &held).await.is_ok());
    }

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let held = Held::new(10);
        let (mut first, mut second) = (held.share(), held.share());
        assert!(first.grow(4) && second.grow(6), "10 of 10");
        assert!(!second.grow(1), "11 of 10");
        drop(first);
        assert!(second.grow(4) && !second.grow(1));
        drop(second);
        assert_eq!(held.bytes.load(Ordering::Relaxed), 0);
    }
}
