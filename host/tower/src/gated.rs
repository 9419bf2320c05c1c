//! The body of a request on its way to a guarded service, and of the answer on its way back.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::body::{Share, Whole};
use crate::edit::drop_reserved;

pin_project! {
    /// A body that the gate leaves as it comes, or has whole.
    pub struct GatedBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Whole { bytes: Option<Bytes>, share: Option<Share> },
        Passing { #[pin] body: B },
    }
}

impl<B> GatedBody<B> {
    /// One that goes by.
    pub(crate) fn passing(body: B) -> Self {
        GatedBody { kind: Kind::Passing { body } }
    }

    /// One that was read for its signature.
    pub(crate) fn whole(whole: Whole) -> Self {
        GatedBody { kind: Kind::Whole { bytes: some(whole.bytes), share: Some(whole.share) } }
    }

    /// One that the gate says itself.
    pub(crate) fn said(bytes: Bytes) -> Self {
        GatedBody { kind: Kind::Whole { bytes: some(bytes), share: None } }
    }
}

fn some(bytes: Bytes) -> Option<Bytes> {
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

impl<B: Body<Data = Bytes>> Body for GatedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Whole { bytes, share } => {
                // Whoever has the bytes now may keep them for as long as it likes.
                drop(share.take());
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            KindProjection::Passing { body } => body.poll_frame(cx).map_ok(without_reserved),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole { bytes, .. } => bytes.is_none(),
            Kind::Passing { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole { bytes, .. } => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Kind::Passing { body } => body.size_hint(),
        }
    }
}

/// Trailers are fields like those of the head: what only Portcullis may say is not said by a client there either.
fn without_reserved(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            drop_reserved(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{BodyExt as _, Empty, Full};
    use portcullis_model::verdict::{DigestAlgorithm, NeedBody};

    use super::*;
    use crate::body::{Held, read};

    #[tokio::test]
    async fn a_body_that_was_read_goes_on_whole_and_gives_its_room_back() {
        let (held, need) = (Held::new(4), NeedBody { algorithm: DigestAlgorithm::Sha256, cap_bytes: 4 });
        for _ in 0..2 {
            let body = Full::new(Bytes::from_static(b"four"));
            let (whole, _) = read(body, need, 4, Duration::from_secs(60), &held).await.unwrap();
            let mut body = GatedBody::<Empty<Bytes>>::whole(whole);
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(4), false));
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "four");
            assert!(body.is_end_stream() && body.frame().await.is_none());
        }
        assert!(GatedBody::<Empty<Bytes>>::said(Bytes::new()).is_end_stream());
    }
}
