//! `POST /v1/leaked`: whoever holds a whole key can end it (REQUIREMENTS P1).
//!
//! The answer comes at once and is the same whether there is such a key or not; the keys are looked up later, out of a queue.
//! It is on the admin listener, and on the proxy below the reserved prefix of a service that has one. No credential is asked
//! for: holding the key is all that it takes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use portcullis_control::Control;
use portcullis_control::store::{Channel, Origin};
use portcullis_model::credential::MAX_KEY_BYTES;
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::mpsc;

/// The path, on the admin listener and below a service's reserved prefix.
pub(crate) const PATH: &str = "/v1/leaked";
/// The most keys of one report.
const MAX_KEYS: usize = 100;
/// The longest report in bytes: so many of the longest keys, and what JSON adds.
const MAX_BYTES: usize = 64 * 1024;
/// How long a report may take to come.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most reports that wait. Beyond it the answer is 503, whatever they hold.
const MAX_WAITING: usize = 256;
/// How long ending keys rests where the store fails, and how often a key is tried.
const REST: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 10;

/// Makes the queue.
pub(crate) fn channel() -> (Reports, Inbox) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Reports { sender }, Inbox { receiver })
}

/// Where reports go. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Reports {
    sender: mpsc::Sender<Report>,
}

/// Where reports come out.
pub(crate) struct Inbox {
    receiver: mpsc::Receiver<Report>,
}

struct Report {
    keys: Vec<SecretString>,
    from: IpAddr,
}

/// `{"keys": ["ptc_.."]}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LeakedBody")]
pub(crate) struct Body {
    /// Whole keys, at most 100.
    #[schemars(with = "Vec<String>", length(min = 1, max = 100))]
    keys: Vec<SecretString>,
}

impl Reports {
    /// Takes a report. Leads to the status of the answer and its code; nothing in them depends on a key.
    pub(crate) async fn take<B>(&self, from: IpAddr, body: B) -> (StatusCode, &'static str)
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let collected = Limited::new(body, MAX_BYTES).collect();
        let bytes = match tokio::time::timeout(TIMEOUT, std::pin::pin!(collected)).await {
            Err(_) => return (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return (StatusCode::PAYLOAD_TOO_LARGE, "too_large");
            }
            Ok(Err(_)) => return (StatusCode::BAD_REQUEST, "cut_off"),
            Ok(Ok(collected)) => collected.to_bytes(),
        };
        let Ok(Body { keys }) = serde_json::from_slice(&bytes) else { return (StatusCode::BAD_REQUEST, "not_json") };
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return (StatusCode::BAD_REQUEST, "invalid");
        }
        match self.sender.try_send(Report { keys, from }) {
            Ok(()) => (StatusCode::ACCEPTED, "accepted"),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        }
    }
}

impl Inbox {
    /// Ends the keys of reports, until nobody can send one any more.
    pub(crate) async fn work(mut self, control: Arc<Control>) {
        while let Some(Report { keys, from }) = self.receiver.recv().await {
            let origin = Origin { channel: Channel::Api, address: Some(from) };
            for key in keys.iter().filter(|key| key.expose_secret().len() <= MAX_KEY_BYTES) {
                for attempt in 1..=ATTEMPTS {
                    let Err(error) = control.end_leaked(key.expose_secret(), origin).await else { break };
                    tracing::error!(%error, attempt, "a leaked key could not be ended");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}
