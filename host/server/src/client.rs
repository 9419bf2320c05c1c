//! Calling the admin API of a running server.
//!
//! A command makes a few calls, one after the other, so each waits on a runtime of this thread and opens a connection of
//! its own: between two of them a person may take a minute to answer a question.
//!
//! | module | holds |
//! |---|---|
//! | [`access`] | where the server is and with which key it is called: options and environment |
//! | [`address`] | the server's URL, and whether a key may travel to it |
//! | [`key`] | the key, and where it was found |
//! | [`call`] | one call |
//! | [`problem`] | what the server says where it does not do what was asked |
//! | [`error`] | everything that can go wrong on the way |

mod access;
mod address;
mod call;
mod error;
mod key;
mod problem;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::runtime::Runtime;

pub(crate) use self::access::Access;
pub(crate) use self::call::{Call, path};
pub(crate) use self::error::ClientError;

use self::address::Address;
pub(crate) use self::key::Scheme;

use self::key::Key;
use self::problem::Problem;
use crate::tls;

/// How the User-Agent of this client begins; the audit tells its changes from others by it.
pub(crate) const USER_AGENT_PREFIX: &str = "portcullis-cli/";

/// How long a call may take as a whole. A change is answered in milliseconds; verifying a large audit takes seconds.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer in bytes. A page of 200 keys, each with ten thousand address ranges, is less.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A server to call, with the key to do so.
pub(crate) struct Client {
    address: Address,
    key: Key,
    scheme: Scheme,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Runtime,
}

/// What a server answered to a call that it did.
pub(crate) struct Answer {
    /// The JSON of the answer; null where it has none.
    pub(crate) body: Value,
    /// The ETag of the record, as it is given back in `If-Match`.
    pub(crate) tag: Option<HeaderValue>,
}

impl Client {
    /// Finds the server and the key. Nothing is sent yet.
    ///
    /// # Errors
    /// Where one of them is missing or wrong, or the key would travel in clear.
    pub(crate) fn open(server: Option<&str>, access: &Access, scheme: Scheme) -> Result<Client, ClientError> {
        let address = access.address(server)?;
        let key = access.key()?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClientError::Runtime)?;
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector(&address, access.authorities()?)?);
        Ok(Client { address, key, scheme, http, runtime })
    }

    /// Makes a call.
    ///
    /// # Errors
    /// Where there is no answer, it is none of the admin API, or says that the call was not done.
    pub(crate) fn send(&self, call: &Call) -> Result<Answer, ClientError> {
        let request = self.request(call)?;
        let time = TIMEOUT + call.extra_time();
        let exchanged = self.runtime.block_on(async { tokio::time::timeout(time, self.exchange(request)).await });
        let (status, tag, body) = exchanged
            .map_err(|_| ClientError::Timeout { address: self.address.clone(), seconds: time.as_secs() })??;
        if status.is_success() {
            let body = if body.is_empty() { Value::Null } else { self.json(status, &body)? };
            return Ok(Answer { body, tag });
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(ClientError::Unauthorized { address: self.address.clone(), key: self.key.source().clone() });
        }
        let problem = Problem::read(status, &body).ok_or_else(|| self.foreign(status))?;
        Err(match status.is_client_error() {
            true => ClientError::Refused(problem),
            false => ClientError::Failed { address: self.address.clone(), problem },
        })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, ClientError> {
        let uri = format!("{}{}", self.address, call.target());
        let mut request = Request::builder()
            .method(call.method())
            .uri(uri)
            .header(USER_AGENT, format!("{USER_AGENT_PREFIX}{}", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, self.key.header(self.scheme)?);
        if let Some(media) = call.media() {
            request = request.header(CONTENT_TYPE, media);
        }
        if let Some(tag) = call.tag() {
            request = request.header(IF_MATCH, tag);
        }
        if let Some(key) = call.idempotency() {
            request = request.header("idempotency-key", key);
        }
        // Ids and encoded values make the target, so only the server's name can be at fault.
        request.body(Full::new(call.content())).map_err(|_| ClientError::NoAddress { from: "the server's address" })
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Option<HeaderValue>, Bytes), ClientError> {
        let response: Response<Incoming> = self.http.request(request).await.map_err(|error| self.unreached(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
            let (address, what) = (self.address.clone(), error.to_string());
            match error.is::<LengthLimitError>() {
                true => ClientError::TooLong { address, limit: MAX_ANSWER_BYTES },
                false => ClientError::Broken { address, what },
            }
        })?;
        Ok((head.status, head.headers.get(ETAG).cloned(), body.to_bytes()))
    }

    fn json(&self, status: StatusCode, body: &[u8]) -> Result<Value, ClientError> {
        serde_json::from_slice(body).map_err(|_| self.foreign(status))
    }

    fn foreign(&self, status: StatusCode) -> ClientError {
        ClientError::NotTheApi { address: self.address.clone(), status }
    }

    /// Why nothing came back, as the innermost error says it.
    fn unreached(&self, error: &legacy::Error) -> ClientError {
        let mut innermost: &(dyn std::error::Error + 'static) = error;
        while let Some(inner) = within(innermost) {
            innermost = inner;
        }
        let (address, what) = (self.address.clone(), innermost.to_string());
        let kind = innermost.downcast_ref::<io::Error>().map(io::Error::kind);
        match (kind, innermost.downcast_ref::<rustls::Error>()) {
            (Some(io::ErrorKind::ConnectionRefused), _) => ClientError::NobodyListens { address },
            (_, Some(rustls::Error::InvalidCertificate(_))) => ClientError::Untrusted { address, what },
            _ if error.is_connect() => ClientError::Unreachable { address, what },
            _ => ClientError::Broken { address, what },
        }
    }
}

/// The error within an error. An error of the system that wraps another one does not give it as its source.
fn within<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// Connections to the server, checked with the given authorities, or with the system's where none are given.
fn connector(
    address: &Address,
    authorities: Option<RootCertStore>,
) -> Result<HttpsConnector<HttpConnector>, ClientError> {
    let roots = match authorities {
        Some(roots) => roots,
        None if address.is_secure() => {
            let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(tls::provider());
            return Ok(builder.map_err(ClientError::NoAuthorities)?.https_only().enable_http1().build());
        }
        None => RootCertStore::empty(),
    };
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build())
}
