//! A future beside another one, which costs nothing while nothing happens to it.
//!
//! A connection waits for its socket and, aside, for its clock and for a shutdown. Its task is polled for every request, and
//! polling a shutdown takes locks that all connections share. So what stands aside is polled only when it was woken itself.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled when it was woken, however often the task around it is.
pub(super) struct Aside<F> {
    inner: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    rang: AtomicBool,
    /// Who waits. Only the task of one connection takes it, and whoever rings.
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F> Aside<F> {
    pub(super) fn new(future: F) -> Self {
        // The first poll is due without a ring.
        let bell = Arc::new(Bell { rang: AtomicBool::new(true), task: Mutex::new(None) });
        Aside { inner: Box::pin(future), waker: Waker::from(Arc::clone(&bell)), bell }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // The task is noted before the bell is looked at: a ring in between finds it.
        let mut task = self.bell.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        drop(task);
        if !self.bell.rang.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let Aside { inner, waker, .. } = &mut *self;
        inner.as_mut().poll(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn it_is_polled_only_when_it_was_woken() {
        let polls = Arc::new(AtomicUsize::new(0));
        let (sender, mut receiver) = oneshot::channel::<u8>();
        let counted = Arc::clone(&polls);
        let mut aside = Aside::new(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut receiver).poll(cx)
        }));
        for _ in 0..3 {
            let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut aside).poll(cx).is_pending())).await;
            assert!(pending);
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        let waiting = tokio::spawn(aside);
        tokio::task::yield_now().await;
        sender.send(7).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(7));
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }
}
