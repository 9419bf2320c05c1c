//! A loaded policy and the questions it answers.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use portcullis_model::answer::{DetailsOf, PlaceOf};
use portcullis_model::facts::{
    CredentialFacts, CredentialFactsOf, Facts, FactsOf, Proof, ReplayAnswer, SignatureState,
};
use portcullis_model::head::{HeadFault, Packed};
use portcullis_model::id::Revision;
use portcullis_model::key_sheet::{Day, KeySheets, SheetError};
use portcullis_model::method::Method;
use portcullis_model::policy::{
    Accept, Counts, LoadError, Place, Policy, PreparedDelta, ReplayMode, Segments, Service, Unreadable,
};
use portcullis_model::signing::ReadyKey;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};

use crate::authenticate::{Verified, authenticate};
use crate::authorize::{Found, Question, authorize};
use crate::client;
use crate::normalise::{Path, Request};
use crate::signature::SignatureCheck;
use crate::token::{self, TokenCheck, Tokens};
use crate::trace::{Check, Outcome, Trace};

/// What decides: at most one policy, when it was last confirmed, and at most one delta that waits to be applied.
#[derive(Default)]
pub struct Gate {
    policy: Option<Policy>,
    confirmed: Option<UnixTime>,
    prepared: Option<(Revision, PreparedDelta)>,
    keys: KeySheets<ReadyKey>,
    tokens: Tokens,
}

/// One request to decide.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The packed head.
    pub head: &'a [u8],
    /// The time.
    pub now: UnixTime,
    /// The digest of the body, where an earlier answer asked for it.
    pub body_digest: Option<&'a [u8]>,
    /// What the host's replay cache said, where an earlier answer asked for it.
    pub replay: Option<ReplayAnswer>,
}

/// What a gate holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// The revision in force.
    pub revision: Option<Revision>,
    /// When it was last confirmed.
    pub confirmed: Option<UnixTime>,
    /// How much it holds.
    pub counts: Counts,
    /// The days whose key sheets are loaded.
    pub key_days: Vec<Day>,
    /// The newest checkpoint of the audit that came with the policy; empty where none did.
    pub checkpoint: String,
}

impl Gate {
    /// Decides a request. The details are packed into `out`, whose contents are replaced.
    ///
    /// # Invariants
    /// The verdict depends on the policy, its confirmation, and `input` alone.
    pub fn decide(&self, input: Input<'_>, trace: &mut impl Trace, out: &mut Vec<u8>) -> Verdict {
        let nowhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let facts = FactsOf { replay: input.replay, ..FactsOf::unknown(self.revision(), input.now, nowhere) };
        let mut decision = Decision::new(facts);
        let head = Packed::open(input.head);
        if let Ok(head) = &head {
            decision.details.facts.client = head.peer;
        }
        let policy = match self.fresh_policy(input.now, trace) {
            Ok(policy) => policy,
            Err(reason) => return decision.denied(reason, trace, out),
        };
        let head = match head {
            Ok(head) => head,
            Err(HeadFault::TooLarge(too_large)) => return decision.denied(too_large.into(), trace, out),
            Err(HeadFault::Malformed) => return decision.denied(Reason::HeadMalformed, trace, out),
        };
        let request = match Request::accept(head) {
            Ok(request) => request,
            Err(reason) => return decision.denied(reason, trace, out),
        };
        let method = request.known_method();
        decision.details.facts.method = request.method;
        decision.details.facts.host = &request.host;
        decision.details.facts.path = request.path.wire;
        trace.step(Check::Request, Outcome::Pass, || {
            let [method, host, path] = [request.method, &request.host, request.path.wire].map(String::from_utf8_lossy);
            format!("{method} {host}{path}")
        });
        let client = match client::address(&request, policy) {
            Ok(client) => client,
            Err(reason) => return decision.denied(reason, trace, out),
        };
        decision.details.facts.client = client;
        trace.step(Check::Client, Outcome::Pass, || client_detail(client, request.peer()));
        let segments = request.path.segments();
        let service = match route(policy, &request.host, &segments, trace) {
            Ok(service) => service,
            Err(reason) => return decision.denied(reason, trace, out),
        };
        if let Err(reason) = decision.of_service(&service) {
            return decision.denied(reason, trace, out);
        }
        let token = TokenCheck::new(&self.tokens, input.now);
        let signature = SignatureCheck::new(&self.keys, input.now, input.body_digest);
        let verified = authenticate(&request, policy, &service, &token, &signature, trace);
        decision.presented_token = token.presented();
        let verified = match verified {
            Ok(verified) => verified,
            Err(reason) => {
                if signature.was_presented() {
                    decision.details.facts.signature = SignatureState::Invalid;
                }
                return decision.denied(reason, trace, out);
            }
        };
        if verified.signed.is_some() {
            // Where it still waits for the body, everything else is checked as if it held.
            decision.details.facts.signature = SignatureState::Valid;
        }
        decision.authorized(&service, &verified, (&request.path, &segments), method, trace, out)
    }

    /// Authorizes recorded facts as of `now`: what would this policy have said? The details are packed into `out`.
    ///
    /// Normalisation and proof are taken from the facts; everything after them is judged anew.
    pub fn judge(&self, facts: &Facts<'_>, now: UnixTime, trace: &mut impl Trace, out: &mut Vec<u8>) -> Verdict {
        // What the policy says about the request is found again.
        let mut decision = Decision::new(FactsOf {
            method: facts.method.as_bytes(),
            host: facts.host.as_bytes(),
            path: facts.path.as_bytes(),
            signature: facts.signature,
            replay: facts.replay,
            ..FactsOf::unknown(self.revision(), now, facts.client)
        });
        let Some(policy) = &self.policy else { return decision.denied(Reason::PolicyMissing, trace, out) };
        let path = match Path::accept(facts.path.as_bytes()) {
            Ok(path) => path,
            Err(reason) => return decision.denied(reason, trace, out),
        };
        let segments = path.segments();
        let service = match route(policy, facts.host.as_bytes(), &segments, trace) {
            Ok(service) => service,
            Err(reason) => return decision.denied(reason, trace, out),
        };
        if let Err(reason) = decision.of_service(&service) {
            return decision.denied(reason, trace, out);
        }
        let verified = match recorded(policy, &service, facts) {
            Ok(verified) => verified,
            Err(reason) => return decision.denied(reason, trace, out),
        };
        let method = Method::from_name(facts.method.as_bytes());
        decision.authorized(&service, &verified, (&path, &segments), method, trace, out)
    }

    /// Takes a base, which replaces whatever was loaded. It must be confirmed before it decides.
    ///
    /// # Errors
    /// Any [`LoadError`]; the policy that was loaded stays.
    pub fn load(&mut self, bytes: impl Into<Bytes>) -> Result<Revision, LoadError> {
        let policy = Policy::open(bytes)?;
        let revision = policy.revision();
        self.policy = Some(policy);
        self.confirmed = None;
        self.prepared = None;
        Ok(revision)
    }

    /// Checks a delta and keeps it ready, in place of any that was. Nothing changes for decisions.
    ///
    /// # Errors
    /// Any [`LoadError`].
    pub fn check_delta(&mut self, bytes: Vec<u8>) -> Result<Revision, LoadError> {
        self.prepared = None;
        let policy = self.policy.as_mut().ok_or(LoadError::NoBase)?;
        let prepared = policy.prepare(bytes)?;
        let revision = prepared.revision();
        self.prepared = Some((revision, prepared));
        Ok(revision)
    }

    /// Puts the delta in force that was checked last, if it leads to `revision`.
    ///
    /// # Errors
    /// [`LoadError::NotPrepared`] where none that leads there is ready.
    pub fn apply_delta(&mut self, revision: Revision) -> Result<(), LoadError> {
        let policy = self.policy.as_mut().ok_or(LoadError::NoBase)?;
        match self.prepared.take() {
            Some((leads_to, prepared)) if leads_to == revision => policy.apply(prepared),
            other => {
                self.prepared = other;
                Err(LoadError::NotPrepared { revision })
            }
        }
    }

    /// Takes a part of a day's key sheet.
    ///
    /// # Errors
    /// Any [`SheetError`]; nothing has changed then.
    pub fn load_keys(&mut self, part: &[u8]) -> Result<Day, SheetError> {
        self.keys.load(part)
    }

    /// Takes note that the policy was known to be current at `at`. An earlier time than the last is ignored.
    pub fn confirm(&mut self, at: UnixTime) {
        self.confirmed = self.confirmed.max(Some(at));
    }

    /// Takes note that the policy is current at `at` and no longer known to have been at any other time: of a policy that is kept
    /// by whoever asks, so that there is nobody to confirm it, and a clock that was wrong once does not matter any more.
    pub fn confirm_anew(&mut self, at: UnixTime) {
        self.confirmed = Some(at);
    }

    /// What is loaded.
    #[must_use]
    pub fn describe(&self) -> Description {
        Description {
            revision: self.policy.as_ref().map(Policy::revision),
            confirmed: self.confirmed,
            counts: self.policy.as_ref().map(Policy::counts).unwrap_or_default(),
            key_days: self.keys.days().collect(),
            checkpoint: self.policy.as_ref().and_then(|policy| policy.checkpoint().ok()).unwrap_or_default().to_owned(),
        }
    }

    fn revision(&self) -> Revision {
        self.policy.as_ref().map_or(Revision(0), Policy::revision)
    }

    fn fresh_policy(&self, now: UnixTime, trace: &mut impl Trace) -> Result<&Policy, Reason> {
        let policy = self.policy.as_ref().ok_or(Reason::PolicyMissing)?;
        let (skew, staleness) = policy.limits()?;
        // Both bounds are inclusive; times end long before the sums overflow.
        let confirmed = self.confirmed.ok_or(Reason::PolicyStale)?.as_secs();
        let now = now.as_secs();
        if now > confirmed + staleness || confirmed > now + skew {
            return Err(Reason::PolicyStale);
        }
        trace.step(Check::Policy, Outcome::Pass, || format!("revision {}", policy.revision()));
        Ok(policy)
    }
}

/// A decision on its way. What is known so far is filled in where it stays: moving it costs more than a check.
struct Decision<'d> {
    details: DetailsOf<&'d [u8]>,
    service: Option<Service<'d>>,
    /// How an access token was presented, where one was.
    presented_token: Option<Accept<'d>>,
    /// The scope that the endpoint asks for, where one was found.
    needed_scope: Option<&'d str>,
}

impl<'d> Decision<'d> {
    #[inline(always)]
    fn new(facts: FactsOf<&'d [u8]>) -> Self {
        Decision { details: DetailsOf::of(facts), service: None, presented_token: None, needed_scope: None }
    }

    fn of_service(&mut self, service: &Service<'d>) -> Result<(), Reason> {
        self.details.facts.service = service.raw_id()?;
        self.service = Some(*service);
        Ok(())
    }

    fn of_credential(&mut self, verified: &Verified<'d>) -> Result<(), Reason> {
        let credential = verified.credential;
        self.details.facts.tenant = verified.tenant.raw_id()?;
        self.details.facts.credential = Some(CredentialFactsOf {
            id: credential.raw_id()?,
            kind: verified.kind,
            proof: verified.proof,
            secret_version: verified.secret_version,
        });
        self.details.facts.token = verified.token.map(|token| token.map(str::as_bytes));
        self.details.strip = match (&verified.signed, verified.accept) {
            (Some(signed), _) => Some(signed.place),
            (None, Some(accept)) => Some(strip(accept)),
            (None, None) => None,
        };
        Ok(())
    }

    #[inline(always)]
    fn authorized(
        &mut self,
        service: &Service<'d>,
        verified: &Verified<'d>,
        (path, segments): (&'d Path<'_>, &Segments<'_>),
        method: Option<Method>,
        trace: &mut impl Trace,
        out: &mut Vec<u8>,
    ) -> Verdict {
        if let Err(reason) = self.of_credential(verified) {
            return self.denied(reason, trace, out);
        }
        let FactsOf { client, now, signature, .. } = self.details.facts;
        let question = Question { service, verified, path, segments, method, client, signature, now };
        let mut found = Found::default();
        let result = authorize(&question, &mut found, trace);
        self.details.facts.application = found.application;
        self.details.observed = found.observed;
        let endpoint = found.endpoint.map_or(Ok(&[][..]), |endpoint| endpoint.raw_id());
        self.needed_scope = found.endpoint.and_then(|endpoint| endpoint.scope().ok());
        let pending = verified.signed.and_then(|signed| signed.pending);
        if pending.is_some() {
            // INVARIANT (facts-are-proven): nobody is, before the signature has been compared.
            self.details.facts.signature = SignatureState::Unverified;
            self.details.facts.credential = None;
            self.details.facts.tenant = &[];
            self.details.strip = None;
        }
        let result = result.and_then(|()| {
            let endpoint = endpoint?;
            if pending.is_none() {
                self.accept_once(verified, found.replay, endpoint)?;
            }
            Ok(endpoint)
        });
        match result {
            Ok(endpoint) => {
                self.details.facts.endpoint = endpoint;
                match self.details.pack(out) {
                    Ok(()) => pending.map_or(Verdict::Allow, Verdict::NeedBody),
                    Err(_) => self.denied(Unreadable.into(), trace, out),
                }
            }
            Err(reason) => {
                self.details.facts.endpoint = endpoint.unwrap_or_default();
                self.denied(reason, trace, out)
            }
        }
    }

    /// Sees to it that a signed request is accepted once, where that is asked for.
    fn accept_once(&mut self, verified: &Verified<'d>, mode: ReplayMode, endpoint: &[u8]) -> Result<(), Reason> {
        let facts = &self.details.facts;
        let has_nonce = match verified.signed {
            Some(signed) => signed.has_nonce,
            // Recorded facts: the cache was asked, or not.
            None => facts.replay.is_some(),
        };
        let is_once = match mode {
            ReplayMode::Auto => has_nonce,
            ReplayMode::Once => true,
            ReplayMode::Any => false,
        };
        if verified.proof != Proof::Signature || !is_once {
            // What nobody had to ask is no fact.
            self.details.facts.replay = None;
            return Ok(());
        }
        match (facts.replay, verified.signed) {
            (Some(ReplayAnswer::Seen), _) => Err(Reason::SignatureReplayed),
            (None, Some(signed)) => {
                self.details.obligations.push(signed.once(verified.credential.raw_id()?, endpoint));
                Ok(())
            }
            (Some(ReplayAnswer::Fresh), _) | (None, None) => Ok(()),
        }
    }

    #[cold]
    fn denied(&mut self, reason: Reason, trace: &mut impl Trace, out: &mut Vec<u8>) -> Verdict {
        trace.step(Check::of(reason), Outcome::Fail, || reason.text().to_owned());
        self.details.strip = None;
        // A policy that cannot be read has denied the request already, or does now.
        let challenge = self.service.map(|service| self.challenge(&service, reason).unwrap_or_default());
        let challenge = challenge.unwrap_or_default();
        let details = DetailsOf { challenge: challenge.as_bytes(), ..self.details.clone() };
        if details.pack(out).is_ok() {
            return Verdict::Deny(reason);
        }
        // What is not text came out of a damaged policy. Nothing of it is told.
        let FactsOf { revision, now, client, method, path, .. } = self.details.facts;
        let facts = FactsOf { method, path, ..FactsOf::unknown(revision, now, client) };
        let reason = Reason::from(Unreadable);
        // INVARIANT (ascii-head): an accepted request's method and path are ASCII, so this succeeds.
        let _ = DetailsOf::of(facts).pack(out);
        Verdict::Deny(reason)
    }

    /// What a denial asks of the caller. Where a token was presented, RFC 6750 section 3 has the words; they are the same
    /// for every token that is refused.
    fn challenge(&self, service: &Service<'d>, reason: Reason) -> Result<Cow<'d, str>, Unreadable> {
        let bearer = |accept: Accept<'d>, error: &str| {
            Ok(Cow::Owned(format!("{} realm=\"{}\", error=\"{error}\"", accept.name()?, service.id()?)))
        };
        match self.presented_token {
            Some(accept) if reason.status() == 401 => bearer(accept, "invalid_token"),
            Some(accept) if reason == Reason::TokenLacksScope => {
                let scope = self.needed_scope.filter(|scope| token::is_scope_token(scope));
                let needed = scope.map(|scope| format!(", scope=\"{scope}\"")).unwrap_or_default();
                Ok(Cow::Owned(bearer(accept, "insufficient_scope")?.into_owned() + &needed))
            }
            Some(_) | None if reason.status() == 401 => service.challenge().map(Cow::Borrowed),
            Some(_) | None => Ok(Cow::Borrowed("")),
        }
    }
}

/// What an allow strips from the request so that the credential goes no further.
fn strip(accept: Accept<'_>) -> PlaceOf<&[u8]> {
    match accept.place {
        Place::Header => PlaceOf::Header(accept.raw_name()),
        Place::Parameter => PlaceOf::Parameter(accept.raw_name()),
        // A signature tells itself where it stands.
        Place::Scheme | Place::Token | Place::Client | Place::Signature => PlaceOf::Header(b"authorization"),
    }
}

fn route<'p>(
    policy: &'p Policy,
    host: &[u8],
    path: &Segments<'_>,
    trace: &mut impl Trace,
) -> Result<Service<'p>, Reason> {
    let service = policy.service(host, path)?.ok_or(Reason::ServiceUnknown)?;
    trace.step(Check::Service, Outcome::Pass, || {
        let pinned = match service.pinned() {
            Ok(Some(tenant)) => format!(", pinned to tenant `{tenant}`"),
            Ok(None) => String::new(),
            Err(unreadable) => format!(", {unreadable}"),
        };
        format!("`{}`{pinned}", service.id().unwrap_or("?"))
    });
    Ok(service)
}

/// The credential that recorded facts name, as it stands now. Of a token, its id, scopes and audiences are taken from them;
/// that it was signed, and in time, is proof that is not judged again.
fn recorded<'p>(policy: &'p Policy, service: &Service<'p>, facts: &Facts<'p>) -> Result<Verified<'p>, Reason> {
    let CredentialFacts { id, proof, secret_version, .. } = facts.credential.ok_or(Reason::CredentialMissing)?;
    let (credential, tenant) = match proof {
        Proof::Token => token::client(policy, id, secret_version)?,
        Proof::Key | Proof::Signature | Proof::Client => {
            let credential = policy.credential_by_id(id, secret_version)?.ok_or(Reason::CredentialUnknown)?;
            (credential, credential.tenant()?.ok_or(Reason::TenantUnknown)?)
        }
    };
    if !service.serves(&tenant)? {
        return Err(Reason::CredentialForeign);
    }
    let token = facts.token.filter(|_| proof == Proof::Token);
    Ok(Verified {
        credential,
        tenant,
        kind: credential.kind()?,
        proof,
        secret_version,
        token,
        signed: None,
        accept: None,
    })
}

fn client_detail(client: IpAddr, peer: IpAddr) -> String {
    if client == peer { format!("{client}") } else { format!("{client}, as the trusted proxy {peer} says") }
}
