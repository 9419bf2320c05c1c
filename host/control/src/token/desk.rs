//! Where tokens are asked for, and the task that writes down what becomes of it.
//!
//! Requests wait in one bounded queue. The task takes what waits and writes it down in one transaction, so that a hundred
//! requests wait for one commit and not for a hundred. It never waits for more to come: while one transaction is being
//! committed, the next one gathers. No token leaves before its row is committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_model::credential::Kind;
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::TokenAlgorithm;
use portcullis_model::time::UnixTime;
use portcullis_store::{Actor, Channel, Entry, Grantee, Origin, Outcome};
use secrecy::SecretString;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::grant::{Asked, Claims, ProvenClient, TokenError, grant};
use crate::Control;

/// The most requests that wait to be written down: a second of them. Each is smaller than a form, of which the server takes
/// 8 KiB.
const MAX_WAITING: usize = 4096;
/// The most requests that one transaction writes down.
const MAX_BATCH: usize = 256;
/// The most failures of one client that are rows of their own each minute, where the client was not proven: whoever knows a
/// client's id can make them. The rest is counted.
const FAILURES_A_MINUTE: u32 = 600;
/// The most clients of which failures are counted each minute.
const MAX_COUNTED: usize = 4096;
/// The length of a minute in seconds.
const MINUTE_S: u64 = 60;

/// What the audit calls it.
const ACTION: &str = "issue";
const OBJECT_KIND: &str = "token";

/// Where tokens are asked for. Clones share one queue.
#[derive(Clone)]
pub struct TokenDesk {
    control: Arc<Control>,
    sender: mpsc::Sender<Waiting>,
}

/// The task that writes down what was asked for.
pub struct TokenWriter {
    control: Arc<Control>,
    receiver: mpsc::Receiver<Waiting>,
    failures: Failures,
}

/// A token. Its text is its secret.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: SecretString,
    /// How long it lives, in seconds.
    pub lifetime_s: u64,
    /// Its scopes, separated by spaces; none where it has none.
    pub scope: Option<String>,
}

/// Why there is neither a token nor an error of the client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unanswered {
    /// What was decided is out of date: something of the client has changed since. To be decided again, at that revision.
    Outdated(Revision),
    /// Too many wait, or what came could not be written down. Nothing was issued.
    Unavailable,
}

/// A request whose client was not proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    /// The client that it says it is of, as it came.
    pub client: Option<String>,
    /// The client, where the gate proved it and denied it nevertheless.
    pub proven: Option<Id>,
    /// Why it was denied.
    pub reason: &'static str,
}

/// A failure that is no row of its own: of a client that is not known, or one of many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The tenant, where the client is known.
    pub tenant: Option<Id>,
    /// The client's id where it is known, else the SHA-256 of what was given for one.
    pub client: String,
    /// From where.
    pub address: IpAddr,
    /// When.
    pub at: UnixTime,
    /// The decision, by which the request is known.
    pub request: String,
}

/// When, from where, and as which request something was asked for.
#[derive(Clone, Debug)]
struct Asking {
    at: UnixTime,
    address: IpAddr,
    request: String,
}

enum Waiting {
    Proven(Box<Request>),
    Claimed(Claimed, Asking),
}

struct Request {
    client: ProvenClient,
    asked: Result<Asked, TokenError>,
    at_service: Vec<String>,
    asking: Asking,
    reply: oneshot::Sender<Answer>,
}

impl TokenDesk {
    /// Makes the queue.
    #[must_use]
    pub fn open(control: &Arc<Control>) -> (TokenDesk, TokenWriter) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let (desk, writer) = (Arc::clone(control), Arc::clone(control));
        (TokenDesk { control: desk, sender }, TokenWriter { control: writer, receiver, failures: Failures::default() })
    }

    /// Issues a token, or says why not; both are written down before this answers. What is wrong with the request itself
    /// comes in as an error and is written down too. `request` is how the decision is known.
    ///
    /// # Errors
    /// Where nothing was written down and nothing issued.
    pub async fn issue(
        &self,
        client: ProvenClient,
        kind: Kind,
        asked: Result<Asked, TokenError>,
        (address, request): (IpAddr, String),
    ) -> Result<Result<Issued, TokenError>, Unanswered> {
        let at = self.control.now();
        // Before the row: once it is written, nothing may stand against the token.
        let signer = self.control.tokens.signer(at).ok_or(Unanswered::Unavailable)?;
        let at_service = match kind {
            Kind::Personal => self.audiences(&client.service).await?,
            Kind::Client | Kind::Workspace | Kind::Tenant | Kind::Management | Kind::Session => Vec::new(),
        };
        let (reply, answer) = oneshot::channel();
        let asking = Asking { at, address, request };
        let waiting = Waiting::Proven(Box::new(Request { client, asked, at_service, asking, reply }));
        self.sender.try_send(waiting).map_err(|_| Unanswered::Unavailable)?;
        let claims = match answer.await.map_err(|_| Unanswered::Unavailable)?? {
            Ok(claims) => claims,
            Err(error) => return Ok(Err(error)),
        };
        let (lifetime_s, scope) = (claims.lifetime_s(), claims.scope().map(str::to_owned));
        let token = match signer.algorithm {
            TokenAlgorithm::EdDsa | TokenAlgorithm::Es256 => signer.sign(&claims),
            // A millisecond and more: too long to hold up what else this thread has to do.
            TokenAlgorithm::Rs256 => {
                let signed = tokio::task::spawn_blocking(move || signer.sign(&claims)).await;
                signed.map_err(|_| Unanswered::Unavailable)?
            }
        };
        let token = token.map_err(|error| {
            tracing::error!(%error, "a token that is written down could not be signed");
            Unanswered::Unavailable
        })?;
        Ok(Ok(Issued { token: SecretString::from(token), lifetime_s, scope }))
    }

    /// Has a failure written down. The caller waits for nothing, so that its answer takes as long whether there is such a
    /// client or not.
    ///
    /// # Errors
    /// Where too many wait.
    pub fn failed(&self, claimed: Claimed, (address, request): (IpAddr, String)) -> Result<(), Unanswered> {
        let asking = Asking { at: self.control.now(), address, request };
        self.sender.try_send(Waiting::Claimed(claimed, asking)).map_err(|_| Unanswered::Unavailable)
    }

    /// The audiences that a service's endpoints ask for.
    async fn audiences(&self, service: &Id) -> Result<Vec<String>, Unanswered> {
        let (store, id) = (self.control.store.clone(), service.clone());
        let asking = async move { store.service(&id).await };
        let stored = self.control.aside(asking).await.map_err(|_| Unanswered::Unavailable)?;
        let endpoints = stored.map(|stored| stored.record.service.endpoints).unwrap_or_default();
        let named = endpoints.into_iter().filter_map(|endpoint| endpoint.audience);
        Ok(std::iter::once(service.to_string()).chain(named).collect::<BTreeSet<_>>().into_iter().collect())
    }
}

impl TokenWriter {
    /// Writes down what is asked for, until nobody can ask any more. `count` takes the failures that are no rows.
    pub async fn work(mut self, count: impl Fn(Counted)) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while self.receiver.recv_many(&mut batch, MAX_BATCH).await > 0 {
            let (proven, claimed) = self.sort(std::mem::take(&mut batch), &count);
            let clients = proven.iter().map(|request| request.client.credential.clone());
            let asking: BTreeSet<Id> = clients.chain(claimed.iter().filter_map(|claim| claim.id.clone())).collect();
            if asking.is_empty() {
                continue;
            }
            let issuer = self.control.tokens.issuer.clone();
            let decide = move |revision, known: &BTreeMap<Id, Grantee>| {
                let written = Written::of(proven, claimed, revision, known, &issuer);
                (written.entries, (written.answers, written.unknown))
            };
            // Where it fails, the replies are dropped with the closure: whoever waits hears that nothing was issued.
            match self.control.store.record_tokens(asking, decide).await {
                Ok((answers, unknown)) => {
                    for (reply, answer) in answers {
                        // Whoever does not wait any more has no token: it was not signed yet.
                        let _ = reply.send(answer);
                    }
                    unknown.into_iter().for_each(&count);
                }
                Err(error) => tracing::error!(%error, "requests for tokens could not be written down"),
            }
        }
    }

    /// Tells apart what may be a row and what is counted at once.
    fn sort(&mut self, batch: Vec<Waiting>, count: &impl Fn(Counted)) -> (Vec<Request>, Vec<Claim>) {
        let (mut proven, mut claimed) = (Vec::new(), Vec::new());
        for waiting in batch {
            match waiting {
                Waiting::Proven(request) => proven.push(*request),
                Waiting::Claimed(Claimed { client, proven: Some(id), reason }, asking) => {
                    let client = client.unwrap_or_default();
                    claimed.push(Claim { id: Some(id), client, reason, asking });
                }
                Waiting::Claimed(Claimed { client, proven: None, reason }, asking) => {
                    let client = client.unwrap_or_default();
                    let id: Option<Id> = client.parse().ok();
                    match id {
                        Some(id) if self.failures.has_room(&id, asking.at) => {
                            claimed.push(Claim { id: Some(id), client, reason, asking });
                        }
                        Some(_) | None => count(unknown(&client, asking)),
                    }
                }
            }
        }
        (proven, claimed)
    }
}

/// A failure that is a row if there is such a client.
struct Claim {
    id: Option<Id>,
    client: String,
    reason: &'static str,
    asking: Asking,
}

/// What a request is answered: claims to be signed, or why there are none.
type Answer = Result<Result<Claims, TokenError>, Unanswered>;
type Answers = Vec<(oneshot::Sender<Answer>, Answer)>;

/// What a transaction writes down, and what is answered once it is committed.
struct Written {
    entries: Vec<Entry>,
    answers: Answers,
    unknown: Vec<Counted>,
}

impl Written {
    fn of(
        proven: Vec<Request>,
        claimed: Vec<Claim>,
        revision: Revision,
        known: &BTreeMap<Id, Grantee>,
        issuer: &str,
    ) -> Written {
        let mut written = Written { entries: Vec::new(), answers: Vec::new(), unknown: Vec::new() };
        for request in proven {
            let Request { client, asked, at_service, asking, reply } = request;
            let grantee = known.get(&client.credential).filter(|grantee| {
                // What was decided before a change of the client, its tenant or its owner is worth nothing after it.
                !grantee.deleted && grantee.changed <= client.decided
            });
            let Some(grantee) = grantee else {
                written.answers.push((reply, Err(Unanswered::Outdated(revision))));
                continue;
            };
            let granted = asked.and_then(|asked| grant(&client, grantee, &asked, &at_service, (issuer, asking.at)));
            let entry = match &granted {
                Ok(claims) => entry(&client.credential, grantee, &asking, Ok((revision, claims))),
                Err(error) => entry(&client.credential, grantee, &asking, Err((error.code.as_str(), error.message))),
            };
            written.entries.push(entry);
            written.answers.push((reply, Ok(granted)));
        }
        for Claim { id, client, reason, asking } in claimed {
            let found = id.as_ref().and_then(|id| Some((id, known.get(id).filter(|grantee| !grantee.deleted)?)));
            match found {
                Some((id, grantee)) => {
                    written.entries.push(entry(id, grantee, &asking, Err(("invalid_client", reason))));
                }
                None => written.unknown.push(unknown(&client, asking)),
            }
        }
        written
    }
}

fn entry(
    client: &Id,
    grantee: &Grantee,
    asking: &Asking,
    outcome: Result<(Revision, &Claims), (&'static str, &'static str)>,
) -> Entry {
    let (outcome, details) = match outcome {
        Ok((revision, claims)) => {
            let details = json!({
                "request": asking.request,
                "token": claims.jti,
                "scope": claims.scope(),
                "audiences": claims.audiences(),
                "lifetime_s": claims.lifetime_s(),
            });
            (Outcome::Done { revision }, details)
        }
        Err((code, message)) => (Outcome::Refused { code }, json!({ "request": asking.request, "message": message })),
    };
    Entry {
        at: asking.at,
        tenant: grantee.tenant.clone(),
        actor: Actor { tenant: grantee.tenant.clone(), credential: Some(client.clone()), user: grantee.owner.clone() },
        origin: Origin { channel: Channel::Api, address: Some(asking.address) },
        action: ACTION,
        object_kind: OBJECT_KIND,
        object: client.to_string(),
        outcome,
        details: details.to_string(),
    }
}

/// What is counted of somebody who is not known: what was given for an id may be a secret in the wrong place.
fn unknown(client: &str, Asking { at, address, request }: Asking) -> Counted {
    let client = match client {
        "" => String::new(),
        client => base16ct::lower::encode_string(&Sha256::digest(client.as_bytes())),
    };
    Counted { tenant: None, client, address, at, request }
}

/// How many failures each client had this minute.
#[derive(Default)]
struct Failures {
    minute: u64,
    counts: HashMap<Id, u32>,
}

impl Failures {
    fn has_room(&mut self, client: &Id, at: UnixTime) -> bool {
        let minute = at.as_secs() / MINUTE_S;
        if minute != self.minute {
            self.minute = minute;
            self.counts.clear();
        }
        if self.counts.len() >= MAX_COUNTED && !self.counts.contains_key(client) {
            return false;
        }
        let count = self.counts.entry(client.clone()).or_default();
        *count = count.saturating_add(1);
        *count <= FAILURES_A_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_client_are_rows_up_to_a_number_each_minute() {
        let mut failures = Failures::default();
        let (one, other): (Id, Id) = ("one".parse().unwrap(), "other".parse().unwrap());
        let at = |seconds: u64| UnixTime::from_secs(1_800_000_000 + seconds).unwrap();
        assert!((0..FAILURES_A_MINUTE).all(|_| failures.has_room(&one, at(0))));
        assert!(!failures.has_room(&one, at(59)));
        assert!(failures.has_room(&other, at(59)));
        assert!(failures.has_room(&one, at(60)));
    }

    #[test]
    fn clients_beyond_the_limit_are_counted() {
        let mut failures = Failures::default();
        let id = |number: usize| format!("c{number}").parse::<Id>().unwrap();
        assert!((0..MAX_COUNTED).all(|number| failures.has_room(&id(number), UnixTime::default())));
        assert!(!failures.has_room(&id(MAX_COUNTED), UnixTime::default()));
        assert!(failures.has_room(&id(0), UnixTime::default()));
    }

    #[test]
    fn an_unknown_id_is_hashed() {
        let asking = Asking { at: UnixTime::default(), address: [192, 0, 2, 1].into(), request: "r".to_owned() };
        let counted = unknown("ptc_secret_in_the_wrong_place", asking.clone());
        assert_eq!(counted.client.len(), 64);
        assert_eq!(unknown("", asking).client, "");
    }
}
