//! Upgraded connections: two ends spliced together until one of them, a shutdown or a revocation ends it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::judge::Watched;
use crate::listen::Connection;

/// How long nothing may pass in either direction. WebSocket servers ping far more often; what is silent for longer has lost
/// its other end without being told.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// Splices the two ends once both have switched. The client's connection keeps its place among those that are counted.
pub(super) fn open(connection: Connection, client: OnUpgrade, upstream: OnUpgrade, watched: Arc<Watched>) {
    let shutdown = connection.shutdown().clone();
    let ended = shutdown.clone();
    shutdown.track(async move {
        let (_place, _counted) = (connection, watched.metrics().tunnel());
        let denied = Arc::clone(&watched).until_denied();
        tokio::select! {
            biased;
            () = denied => {}
            () = ended.ended() => {}
            () = splice(client, upstream) => {}
        }
    });
}

async fn splice(client: OnUpgrade, upstream: OnUpgrade) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(ends) => ends,
        Err(error) => {
            tracing::debug!(%error, "a connection did not switch");
            return;
        }
    };
    let passed = Arc::new(AtomicU64::new(0));
    let mut client = Counted { inner: TokioIo::new(client), passed: Arc::clone(&passed) };
    let mut upstream = Counted { inner: TokioIo::new(upstream), passed: Arc::clone(&passed) };
    tokio::select! {
        ended = copy_bidirectional(&mut client, &mut upstream) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an upgraded connection broke");
            }
        }
        () = silence(&passed) => {}
    }
}

async fn silence(passed: &AtomicU64) {
    let mut before = None;
    loop {
        let now = passed.load(Ordering::Relaxed);
        if before.replace(now) == Some(now) {
            return;
        }
        tokio::time::sleep(SILENCE).await;
    }
}

/// One end, which counts what is read from it.
struct Counted {
    inner: TokioIo<Upgraded>,
    passed: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.passed.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
