//! What there is of a request's body once it may have been read for its signature.

use http_body::Body as _;
use hyper::body::Incoming;
use portcullis_control::WireBody;
use portcullis_tower::body::Whole;

use crate::failures::Kept;

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

/// What an error log keeps of a body that was read whole.
pub(super) fn kept(whole: &Whole, room: usize) -> WireBody {
    let mut kept = Kept::new(room);
    kept.add(&whole.bytes);
    kept.into_body(true)
}
