//! Bodies on their way, frame by frame. A body that stands still is ended, and so is one that is no longer allowed.
//!
//! Short bodies pay for none of this: clocks start when a body first has to be waited for, and judging again when it has
//! been under way for [`GRACE`].

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_control::{MAX_KEPT_BODY_BYTES, WireBody};
use tokio::time::{Instant, Sleep, sleep_until};

use super::edit;
use super::judge::Watched;
use crate::failures::{Failed, Kept};
use crate::metrics::UpstreamFailure;
use portcullis_tower::body::{Share, Whole};

/// How long a body may be under way before it is watched.
const GRACE: Duration = Duration::from_millis(50);

/// The body of a response.
pub(crate) struct Outgoing(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Streamed(Guarded),
    /// Of a call that failed: what goes by is kept.
    Recorded(Box<Recording>),
}

/// Why a body ended before its end. The connection it was on is ended too, so that nobody takes it for whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// It stood still.
    #[error("the body stood still for too long")]
    Stalled,
    /// The request would no longer be allowed.
    #[error("the request is no longer allowed")]
    Denied,
    /// It is longer than the limit.
    #[error("the body is longer than the limit")]
    TooLarge,
    /// Its source broke off.
    #[error("the body broke off: {0}")]
    Source(#[from] hyper::Error),
}

impl Outgoing {
    /// A body that is known already.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Outgoing(Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// No body.
    pub(super) fn empty() -> Self {
        Outgoing(Kind::Whole(None))
    }

    /// A response's body as it comes from its upstream.
    pub(super) fn streamed(inner: Incoming, idle: Duration, watched: Arc<Watched>) -> Self {
        Outgoing(Kind::Streamed(Guarded::new(inner, idle, watched)))
    }

    /// The same, of a call that failed. It is handed over when the body has ended, however it ends.
    pub(super) fn recorded(
        inner: Incoming,
        idle: Duration,
        watched: Arc<Watched>,
        failed: Failed,
        request: Option<Arc<Progress>>,
    ) -> Self {
        let guarded = Guarded::new(inner, idle, watched);
        let kept = Some((failed, Kept::new(MAX_KEPT_BODY_BYTES)));
        Outgoing(Kind::Recorded(Box::new(Recording { guarded, kept, request, whole: false })))
    }

    /// What an error log keeps of a body that is known already.
    pub(super) fn kept(&self) -> WireBody {
        match &self.0 {
            Kind::Whole(Some(bytes)) => {
                let mut kept = Kept::new(MAX_KEPT_BODY_BYTES);
                kept.add(bytes);
                kept.into_body(true)
            }
            Kind::Whole(None) => WireBody::Empty,
            Kind::Streamed(_) | Kind::Recorded(_) => WireBody::Unread("it was streamed"),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Streamed(guarded) => guarded.poll_response(cx),
            Kind::Recorded(recording) => recording.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Streamed(guarded) => guarded.inner.is_end_stream(),
            Kind::Recorded(recording) => recording.guarded.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().and_then(|bytes| u64::try_from(bytes.len()).ok()).unwrap_or(0))
            }
            Kind::Streamed(guarded) => guarded.inner.size_hint(),
            Kind::Recorded(recording) => recording.guarded.inner.size_hint(),
        }
    }
}

/// The response of a call that failed, on its way.
struct Recording {
    guarded: Guarded,
    kept: Option<(Failed, Kept)>,
    /// The body of the request, where it had one.
    request: Option<Arc<Progress>>,
    whole: bool,
}

impl Recording {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.guarded.poll_response(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some((_, kept)), Some(data)) = (&mut self.kept, frame.data_ref()) {
                    kept.add(data);
                }
                // Whoever sends a body of known length does not ask for its end.
                self.whole = self.guarded.inner.is_end_stream();
            }
            Poll::Ready(None) => self.whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some((failed, kept)) = self.kept.take() {
            let request = self.request.as_ref().map_or(WireBody::Empty, |progress| progress.kept());
            failed.end(request, kept.into_body(self.whole));
        }
    }
}

/// The body of a request on its way to an upstream.
pub(super) struct Upload(Sending);

enum Sending {
    /// There is none.
    Nothing,
    /// It comes from the client.
    Coming(Uploading),
    /// It was read whole for its signature. The share of the memory is held until it is sent.
    Whole(Option<Bytes>, Option<Share>),
}

struct Uploading {
    guarded: Guarded,
    left: u64,
    /// Whether what goes by is kept, should the call fail.
    is_kept: bool,
    progress: Arc<Progress>,
}

/// How far a request's body has come, for whoever waits for the response.
#[derive(Default)]
pub(super) struct Progress {
    bytes: AtomicU64,
    done: AtomicBool,
    fault: AtomicU8,
    kept: Mutex<Kept>,
}

/// Why a request's body did not come through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum UploadFault {
    Stalled = 1,
    Denied = 2,
    TooLarge = 3,
    Source = 4,
}

impl Progress {
    /// Why the body did not come through, if it did not.
    pub(super) fn fault(&self) -> Option<UploadFault> {
        match self.fault.load(Ordering::Acquire) {
            1 => Some(UploadFault::Stalled),
            2 => Some(UploadFault::Denied),
            3 => Some(UploadFault::TooLarge),
            4 => Some(UploadFault::Source),
            _ => None,
        }
    }

    /// The beginning of the body, as far as it was taken from the client. It is given once.
    pub(super) fn kept(&self) -> WireBody {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        kept.into_body(self.done.load(Ordering::Relaxed))
    }

    /// How much was taken from the client, which tells whether anything moves; and whether that is all.
    pub(super) fn so_far(&self) -> (u64, bool) {
        (self.bytes.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed))
    }

    fn fail(&self, broken: &Broken) {
        let fault = match broken {
            Broken::Stalled => UploadFault::Stalled,
            Broken::Denied => UploadFault::Denied,
            Broken::TooLarge => UploadFault::TooLarge,
            Broken::Source(_) => UploadFault::Source,
        };
        self.fault.store(fault as u8, Ordering::Release);
    }
}

impl Upload {
    /// No body.
    pub(super) fn none() -> Self {
        Upload(Sending::Nothing)
    }

    /// A body of at most `limit` bytes, and where its progress can be seen. Its first `room` bytes are kept.
    pub(super) fn new(
        inner: Incoming,
        idle: Duration,
        limit: u64,
        room: usize,
        watched: Arc<Watched>,
    ) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress { kept: Mutex::new(Kept::new(room)), ..Progress::default() });
        let guarded = Guarded::new(inner, idle, watched);
        let uploading = Uploading { guarded, left: limit, is_kept: room > 0, progress: Arc::clone(&progress) };
        (Upload(Sending::Coming(uploading)), progress)
    }

    /// A body that was read whole.
    pub(super) fn whole(whole: Whole, room: usize) -> (Self, Arc<Progress>) {
        let mut kept = Kept::new(room);
        kept.add(&whole.bytes);
        let progress = Progress { kept: Mutex::new(kept), ..Progress::default() };
        progress.done.store(true, Ordering::Relaxed);
        (Upload(Sending::Whole(Some(whole.bytes), Some(whole.share))), Arc::new(progress))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let uploading = match &mut self.0 {
            Sending::Nothing => return Poll::Ready(None),
            Sending::Coming(uploading) => uploading,
            Sending::Whole(bytes, share) => {
                let next = bytes.take();
                if next.is_none() {
                    *share = None;
                }
                return Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))));
            }
        };
        let polled = uploading.guarded.poll(cx);
        let polled = polled.map(|frame| frame.map(|frame| frame.and_then(|frame| uploading.count(frame))));
        match &polled {
            Poll::Ready(Some(Err(broken))) => uploading.progress.fail(broken),
            Poll::Ready(None) => uploading.progress.done.store(true, Ordering::Relaxed),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Sending::Nothing => true,
            Sending::Coming(uploading) => uploading.guarded.inner.is_end_stream(),
            Sending::Whole(bytes, _) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Sending::Nothing => SizeHint::with_exact(0),
            Sending::Coming(uploading) => uploading.guarded.inner.size_hint(),
            Sending::Whole(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().and_then(|bytes| u64::try_from(bytes.len()).ok()).unwrap_or(0))
            }
        }
    }
}

impl Uploading {
    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Broken> {
        let length = frame.data_ref().and_then(|data| u64::try_from(data.len()).ok()).unwrap_or(0);
        self.left = self.left.checked_sub(length).ok_or(Broken::TooLarge)?;
        // One more, so that trailers count as movement too.
        self.progress.bytes.fetch_add(length + 1, Ordering::Relaxed);
        if self.is_kept
            && let Some(data) = frame.data_ref()
        {
            self.progress.kept.lock().unwrap_or_else(PoisonError::into_inner).add(data);
        }
        if self.guarded.inner.is_end_stream() {
            self.progress.done.store(true, Ordering::Relaxed);
        }
        Ok(frame)
    }
}

type Denied = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body under guard.
struct Guarded {
    inner: Incoming,
    watched: Arc<Watched>,
    idle: Duration,
    began: Instant,
    moved: Instant,
    clock: Option<Pin<Box<Sleep>>>,
    denied: Option<Denied>,
}

impl Guarded {
    fn new(inner: Incoming, idle: Duration, watched: Arc<Watched>) -> Self {
        let now = Instant::now();
        Guarded { inner, watched, idle, began: now, moved: now, clock: None, denied: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        // Before the next frame: a stream that is never waited for has to end as well.
        if self.is_denied(cx) {
            return Poll::Ready(Some(Err(Broken::Denied)));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.moved = Instant::now();
                if let Some(trailers) = frame.trailers_mut() {
                    edit::trailers(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.wait(cx),
        }
    }

    /// The same for a response, which is its upstream's.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.poll(cx);
        if let Poll::Ready(Some(Err(Broken::Stalled | Broken::Source(_)))) = &polled {
            self.watched.metrics().upstream_failed(UpstreamFailure::Interrupted);
        }
        polled
    }

    fn is_denied(&mut self, cx: &mut Context<'_>) -> bool {
        if self.denied.is_none() && self.moved.duration_since(self.began) > GRACE {
            self.denied = Some(Box::pin(Arc::clone(&self.watched).until_denied()));
        }
        self.denied.as_mut().is_some_and(|denied| denied.as_mut().poll(cx).is_ready())
    }

    /// Nothing has come: until it does, or has not for too long.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let grace = self.began + GRACE;
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep_until(grace)));
        while clock.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let until = self.moved + self.idle;
            if until <= now {
                return Poll::Ready(Some(Err(Broken::Stalled)));
            }
            clock.as_mut().reset(until);
            let denied = self.denied.get_or_insert_with(|| Box::pin(Arc::clone(&self.watched).until_denied()));
            if denied.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Err(Broken::Denied)));
            }
        }
        Poll::Pending
    }
}
