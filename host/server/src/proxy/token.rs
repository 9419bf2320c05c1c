//! What the proxy answers itself below a service's reserved prefix: tokens, the keys that verify them, and metadata.
//!
//! The gate proves the client, as it proves every caller; here the form is read and the token handed out. The form and what
//! is in it go to no log and no record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, PRAGMA, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use portcullis_control::{Asked, Claimed, Control, JWKS_MAX_AGE_S, ProvenClient, TokenDesk, TokenError, Unanswered};
use portcullis_model::answer::Details;
use portcullis_model::credential::Kind;
use portcullis_model::facts::Proof;
use portcullis_model::verdict::Reason;
use secrecy::zeroize::Zeroizing;

use super::body::Outgoing;
use super::respond;
use super::routing::{Own, Service};
use super::{Decided, Peer, Proxy};
use crate::journal::DecisionId;
use crate::oauth::{self, Form, MAX_FORM_BYTES};
use portcullis_tower::answer::DECISION;
use portcullis_tower::enforce::{Cause, Denial, Permit};

/// How long a form may take to come.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is decided anew because something of its client has changed meanwhile.
const ATTEMPTS: u32 = 4;
/// How long to wait until this node decides by a change that is written down.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What tokens are issued by.
pub(crate) struct Issuing {
    /// Where they are asked for.
    pub(crate) desk: TokenDesk,
    /// What knows keys and issuers.
    pub(crate) control: Arc<Control>,
}

impl Proxy {
    /// Answers a request for one of the paths that are Portcullis's own.
    pub(super) async fn own(
        &self,
        issuing: &Issuing,
        (own, service): (Own, Arc<Service>),
        decided: Decided,
        peer: &Peer,
        (parts, body): (Parts, Incoming),
    ) -> Response<Outgoing> {
        if parts.method == Method::OPTIONS
            && let Err(denial) = &decided.outcome
        {
            return self.denied(denial, Some(&service), &parts).0;
        }
        match own {
            Own::Token => self.token(issuing, decided.outcome, peer, (parts, body)).await,
            Own::Keys | Own::Metadata => {
                let recorded = match &decided.outcome {
                    Ok(permit) => self.record(0, permit.packed()),
                    Err(denial) => self.record(denial.cause().number(), denial.packed()),
                };
                if !matches!(parts.method, Method::GET | Method::HEAD) {
                    return not_allowed("GET, HEAD", recorded);
                }
                let document = match own {
                    Own::Keys => Some(oauth::text(&issuing.control.jwks())),
                    Own::Metadata | Own::Token => metadata(issuing, &service, peer, &parts).await,
                };
                let Some(document) = document else {
                    return respond::problem(StatusCode::NOT_FOUND, "no_issuer", recorded);
                };
                public(document, own, recorded)
            }
        }
    }

    async fn token(
        &self,
        issuing: &Issuing,
        outcome: Result<Permit, Denial>,
        peer: &Peer,
        (mut parts, body): (Parts, Incoming),
    ) -> Response<Outgoing> {
        if parts.method != Method::POST {
            let recorded = self.record_outcome(&outcome);
            return not_allowed("POST", recorded);
        }
        let is_missing = |denial: &Denial| denial.cause() == Cause::Gate(Reason::CredentialMissing);
        let by_form = outcome.as_ref().is_err_and(is_missing);
        if let Err(denial) = &outcome
            && !by_form
        {
            let claimed = oauth::basic_id(&parts.headers);
            return self.failed_client(issuing, denial, claimed, peer);
        }
        let form = match read(&parts, body).await {
            Ok(form) => form,
            Err(Unread { status, error }) => {
                // Whoever was proven has its failure written down; of a stranger nothing is known yet.
                let mut response = match outcome {
                    Ok(permit) => self.issue(issuing, permit, Err(error), peer, &parts).await,
                    Err(denial) => {
                        let recorded = self.record(denial.cause().number(), denial.packed());
                        answer(&Err(error), recorded)
                    }
                };
                if response.status() == StatusCode::BAD_REQUEST {
                    *response.status_mut() = status;
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                return response;
            }
        };
        let permit = match outcome {
            Ok(permit) => permit,
            Err(denial) => {
                let basic = form.basic().and_then(|basic| HeaderValue::from_str(&basic).ok());
                let Some(mut basic) = basic else {
                    return self.failed_client(issuing, &denial, form.client_id.clone(), peer);
                };
                basic.set_sensitive(true);
                parts.headers.insert(AUTHORIZATION, basic);
                match self.decide_head(&parts, peer) {
                    Ok(permit) => permit,
                    Err(denial) => return self.failed_client(issuing, &denial, form.client_id.clone(), peer),
                }
            }
        };
        let is_doubled = !by_form
            && (form.client_secret.is_some()
                || form
                    .client_id
                    .as_deref()
                    .is_some_and(|id| permit.details().facts.credential.is_none_or(|known| known.id != id)));
        let asked = if is_doubled {
            Err(oauth::proven_twice())
        } else if parts.uri.query().is_some() {
            Err(oauth::has_query())
        } else {
            form.asked
        };
        self.issue(issuing, permit, asked, peer, &parts).await
    }

    /// Issues what a proven client asks for. Where something of the client has changed since it was proven, it is decided
    /// anew, and that decision is the one that counts.
    async fn issue(
        &self,
        issuing: &Issuing,
        permit: Permit,
        asked: Result<Asked, TokenError>,
        peer: &Peer,
        parts: &Parts,
    ) -> Response<Outgoing> {
        let mut permit = permit;
        for _ in 0..ATTEMPTS {
            let recorded = self.record(0, permit.packed());
            let Some((client, kind)) = proven(&permit) else {
                return answer(&Err(oauth::failed_client()), recorded);
            };
            let from = (permit.details().facts.client, recorded.to_string());
            match issuing.desk.issue(client, kind, asked.clone(), from).await {
                Ok(Ok(issued)) => {
                    let document = oauth::token_document(&issued.token, issued.lifetime_s, issued.scope.as_deref());
                    return answer(&Ok(document), recorded);
                }
                Ok(Err(error)) => return answer(&Err(error), recorded),
                Err(Unanswered::Unavailable) => return unavailable(recorded),
                Err(Unanswered::Outdated(revision)) => {
                    let mut enforced = issuing.control.enforced();
                    let waited = enforced.wait_for(|at| *at >= revision.0);
                    if !matches!(tokio::time::timeout(CHANGE_TIMEOUT, waited).await, Ok(Ok(_))) {
                        return unavailable(recorded);
                    }
                }
            }
            match self.decide_head(parts, peer) {
                Ok(anew) => permit = anew,
                Err(denial) => return self.failed_client(issuing, &denial, oauth::basic_id(&parts.headers), peer),
            }
        }
        let recorded = self.record(0, permit.packed());
        unavailable(recorded)
    }

    /// The answer to a client that the gate denied. All that are denied for what they are look the same, and none of them
    /// waits for the records.
    fn failed_client(
        &self,
        issuing: &Issuing,
        denial: &Denial,
        claimed: Option<String>,
        peer: &Peer,
    ) -> Response<Outgoing> {
        self.metrics.denied(denial.cause());
        let recorded = self.record(denial.cause().number(), denial.packed());
        match denial.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let details = Details::unpack(denial.packed()).ok();
                let facts = details.as_ref().map(|details| &details.facts);
                let proven = facts.and_then(|facts| facts.credential?.id.parse().ok());
                let address = facts.map(|facts| facts.client).filter(|client| !client.is_unspecified());
                let claimed = Claimed { client: claimed, proven, reason: denial.cause().name() };
                match issuing.desk.failed(claimed, (address.unwrap_or(peer.address), recorded.to_string())) {
                    Ok(()) => answer(&Err(oauth::failed_client()), recorded),
                    Err(_) => unavailable(recorded),
                }
            }
            status if status.is_client_error() => answer(&Err(oauth::unreadable()), recorded),
            _ => respond::denied(denial, recorded),
        }
    }

    pub(super) fn record_outcome(&self, outcome: &Result<Permit, Denial>) -> DecisionId {
        match outcome {
            Ok(permit) => self.record(0, permit.packed()),
            Err(denial) => self.record(denial.cause().number(), denial.packed()),
        }
    }
}

/// The client of a permit that proves one.
fn proven(permit: &Permit) -> Option<(ProvenClient, Kind)> {
    let details = permit.details();
    let facts = &details.facts;
    let credential = facts.credential.filter(|credential| credential.proof == Proof::Client)?;
    let client = ProvenClient {
        credential: credential.id.parse().ok()?,
        secret_version: credential.secret_version,
        decided: facts.revision,
        service: facts.service.parse().ok()?,
    };
    Some((client, credential.kind))
}

/// Why a form could not be read.
struct Unread {
    status: StatusCode,
    error: TokenError,
}

async fn read(parts: &Parts, body: Incoming) -> Result<Form, Unread> {
    let unread = |status| Unread { status, error: oauth::unreadable() };
    if !oauth::is_form(&parts.headers) {
        return Err(unread(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let collected = Limited::new(body, MAX_FORM_BYTES).collect();
    let bytes = match tokio::time::timeout(FORM_TIMEOUT, std::pin::pin!(collected)).await {
        Err(_) => return Err(unread(StatusCode::REQUEST_TIMEOUT)),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(unread(StatusCode::PAYLOAD_TOO_LARGE));
        }
        Ok(Err(_)) => return Err(unread(StatusCode::BAD_REQUEST)),
        Ok(Ok(collected)) => Zeroizing::new(collected.to_bytes().to_vec()),
    };
    Form::read(&bytes).map_err(|error| Unread { status: StatusCode::BAD_REQUEST, error })
}

/// What the authorization server of the request says of itself; nothing where the request's is none.
async fn metadata(issuing: &Issuing, service: &Service, peer: &Peer, parts: &Parts) -> Option<Bytes> {
    let reserved = service.reserved.as_deref()?;
    let issuer = match issuing.control.issuer_at(&service.id).await {
        Ok(issuer) => issuer?,
        Err(error) => {
            tracing::error!(%error, "the issuer of a service could not be read");
            return None;
        }
    };
    let (origin, path) = oauth::issuer_parts(&issuer)?;
    let host = parts.uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| parts.headers.get(HOST)?.to_str().ok())?;
    let is_its_own = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
    let asked = parts.uri.path();
    let is_below_reserved = asked.strip_prefix(reserved) == Some(oauth::METADATA_PATH);
    let is_at_issuer = is_its_own && asked.strip_prefix(oauth::METADATA_PATH) == Some(path);
    if !is_below_reserved && !is_at_issuer {
        return None;
    }
    let scheme = if peer.connection.secure { "https" } else { "http" };
    let base = if is_its_own { origin.to_owned() } else { format!("{scheme}://{host}") };
    Some(oauth::metadata(&issuer, &base, reserved))
}

/// An answer of the token endpoint: a token's document, or an error.
fn answer(outcome: &Result<Bytes, TokenError>, recorded: DecisionId) -> Response<Outgoing> {
    let (status, document) = match outcome {
        Ok(document) => (StatusCode::OK, document.clone()),
        Err(error) => oauth::error_of(error),
    };
    private(status, document, recorded)
}

/// Nothing was issued, and it is nobody's fault but ours. The code is that of RFC 6749 section 4.1.2.1.
fn unavailable(recorded: DecisionId) -> Response<Outgoing> {
    let document = oauth::document("temporarily_unavailable", "try again in a moment", None);
    let mut response = private(StatusCode::SERVICE_UNAVAILABLE, document, recorded);
    response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A document that no cache may keep (RFC 6749 section 5.1).
fn private(status: StatusCode, document: Bytes, recorded: DecisionId) -> Response<Outgoing> {
    let mut response = json(status, document, "application/json", recorded);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(oauth::CHALLENGE));
    }
    response
}

/// A document that everybody may read and keep for a while.
fn public(document: Bytes, own: Own, recorded: DecisionId) -> Response<Outgoing> {
    let kind = match own {
        Own::Keys => "application/jwk-set+json",
        Own::Metadata | Own::Token => "application/json",
    };
    let mut response = json(StatusCode::OK, document, kind, recorded);
    if let Ok(age) = HeaderValue::try_from(format!("public, max-age={JWKS_MAX_AGE_S}")) {
        response.headers_mut().insert(CACHE_CONTROL, age);
    }
    response
}

fn json(status: StatusCode, document: Bytes, kind: &'static str, recorded: DecisionId) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::whole(document));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(id) = HeaderValue::from_bytes(&recorded.text()) {
        response.headers_mut().insert(DECISION, id);
    }
    response
}

fn not_allowed(methods: &'static str, recorded: DecisionId) -> Response<Outgoing> {
    let mut response = respond::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", recorded);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
