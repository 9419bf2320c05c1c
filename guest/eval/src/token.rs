//! Access tokens: JWTs after RFC 9068, issued by this installation.
//!
//! Each token is asked, in this order, whether it has the form of one, whether one of the policy's keys signed it, whether
//! it is its time, and then what the policy says now of the client that it names. Only the last part makes a verdict, and
//! it is never remembered. Audience and scope depend on the endpoint and are asked where that is known.
//!
//! A header chooses nothing. It names a key, and that key has one algorithm; a header that names another is refused. There
//! is no algorithm with a shared key: whoever could verify with it could mint.

mod cache;
mod claims;
mod compact;
mod json;
mod key;
#[cfg(test)]
mod vectors;

use std::cell::{Cell, OnceCell};
use std::sync::{Arc, Mutex};

use portcullis_model::facts::{Proof, TokenFacts};
use portcullis_model::policy::{Accept, Credential, Policy, Service, Tenant, TokenKey, TokenRevocation};
use portcullis_model::source::TokenAlgorithm;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Reason;

use self::cache::Cache;
use self::claims::Claims;
pub(crate) use self::claims::is_scope_token;
use self::compact::{Compact, MAX_TOKEN_BYTES};
use self::key::{Key, algorithm};
use crate::authenticate::{Verified, proven};

/// The most public keys that are kept as they were read; a policy has as many at most.
const MAX_KEYS: usize = 16;

/// What is remembered of tokens between decisions. It makes them faster and changes none.
///
/// The lock is never contended: an instance has one thread. With it a gate can be shared as it could before.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    seen: Cache,
    keys: Vec<Arc<Key>>,
}

/// The token of one request.
pub(crate) struct TokenCheck<'d> {
    tokens: &'d Tokens,
    now: UnixTime,
    claims: OnceCell<Arc<Claims>>,
    presented: Cell<Option<Accept<'d>>>,
}

impl<'d> TokenCheck<'d> {
    pub(crate) fn new(tokens: &'d Tokens, now: UnixTime) -> Self {
        TokenCheck { tokens, now, claims: OnceCell::new(), presented: Cell::new(None) }
    }

    /// How the token was presented, where one was.
    pub(crate) fn presented(&self) -> Option<Accept<'d>> {
        self.presented.get()
    }

    /// Proves a credential by its token.
    pub(crate) fn credential(
        &'d self,
        token: &[u8],
        accept: Accept<'d>,
        policy: &'d Policy,
        service: &Service<'d>,
    ) -> Result<Verified<'d>, Reason> {
        self.presented.set(Some(accept));
        let (skew, _) = policy.limits()?;
        let claims = self.tokens.verified(token, policy, self.now, skew)?;
        let claims = &**self.claims.get_or_init(|| claims);
        let (credential, tenant) = client(policy, &claims.client, claims.secret_version)?;
        if tenant.token_issuer()? != claims.issuer {
            return Err(Reason::TokenIssuer);
        }
        if !accept.takes(credential.kind()?) {
            return Err(Reason::CredentialMisplaced);
        }
        let token = TokenFacts { id: &claims.id, scope: &claims.scope, audience: &claims.audience };
        let verified = proven(credential, Proof::Token, accept, service)?;
        Ok(Verified { token: Some(token), secret_version: claims.secret_version, ..verified })
    }
}

/// The client that a token names, by the version of the secret that it was issued for, as it stands now.
///
/// With `issuance_only` a version that is gone makes no difference, so that the client may rotate its secret: any other
/// version says the same of the client.
pub(crate) fn client<'p>(
    policy: &'p Policy,
    id: &str,
    secret_version: u16,
) -> Result<(Credential<'p>, Tenant<'p>), Reason> {
    let versions = policy.client(id)?;
    let any = versions.iter().flatten().next().ok_or(Reason::TokenClientUnknown)?;
    let tenant = any.tenant()?.ok_or(Reason::TenantUnknown)?;
    if tenant.token_issuer()?.is_empty() {
        return Err(Reason::TokenIssuer);
    }
    match (versions.iter().flatten().find(|version| version.version() == secret_version), tenant.token_revocation()?) {
        (Some(credential), _) => Ok((*credential, tenant)),
        (None, TokenRevocation::IssuanceOnly) => Ok((*any, tenant)),
        (None, TokenRevocation::AllTokens) => Err(Reason::TokenSecretVersion),
    }
}

impl Tokens {
    /// The claims of a token that a key of the policy signed, at its time.
    fn verified(&self, token: &[u8], policy: &Policy, now: UnixTime, skew_s: u64) -> Result<Arc<Claims>, Reason> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::TokenMalformed);
        }
        if let Some(claims) = self.seen(token, policy)? {
            claims.check_time(now, skew_s)?;
            return Ok(claims);
        }
        let compact = Compact::split(token)?;
        let header = compact.header()?;
        if !header.is_access_token() {
            return Err(Reason::TokenMalformed);
        }
        let known = [TokenAlgorithm::EdDsa, TokenAlgorithm::Es256, TokenAlgorithm::Rs256];
        if !known.iter().any(|known| known.as_str() == header.algorithm) {
            return Err(Reason::TokenAlgorithm);
        }
        let kid = header.kid.ok_or(Reason::TokenMalformed)?;
        let known = policy.token_key(&kid)?.ok_or(Reason::TokenKeyUnknown)?;
        if header.algorithm != algorithm(&known.bytes).as_str() {
            return Err(Reason::TokenAlgorithm);
        }
        let signature = compact.signature()?;
        // A key that is none has no signatures.
        let key = self.key(&known).ok_or(Reason::TokenSignature)?;
        if !key.verifies(compact.signed.as_bytes(), &signature) {
            return Err(Reason::TokenSignature);
        }
        let claims = Arc::new(Claims::read(&compact.payload()?, kid)?);
        claims.check_time(now, skew_s)?;
        self.remember(|remembered| remembered.seen.keep(token, key, Arc::clone(&claims)));
        Ok(claims)
    }

    /// The claims of a token that was verified before, where its key is still the policy's.
    fn seen(&self, token: &[u8], policy: &Policy) -> Result<Option<Arc<Claims>>, Reason> {
        let Some((key, claims)) = self.remember(|remembered| remembered.seen.find(token)).flatten() else {
            return Ok(None);
        };
        let is_current = policy.token_key(&claims.kid)?.is_some_and(|known| key.is_of(&known.bytes));
        Ok(is_current.then_some(claims))
    }

    /// The key as it was read before, or read now: that costs a tenth of a check and more.
    fn key(&self, known: &TokenKey<'_>) -> Option<Arc<Key>> {
        let find = |remembered: &mut Remembered| remembered.keys.iter().find(|key| key.is_of(&known.bytes)).cloned();
        if let Some(key) = self.remember(find).flatten() {
            return Some(key);
        }
        let key = Arc::new(Key::read(&known.bytes)?);
        self.remember(|remembered| {
            if remembered.keys.len() >= MAX_KEYS {
                remembered.keys.remove(0);
            }
            remembered.keys.push(Arc::clone(&key));
        });
        Some(key)
    }

    /// Nothing where an earlier use ended in a panic: then nothing is remembered, and every token is verified.
    fn remember<T>(&self, what: impl FnOnce(&mut Remembered) -> T) -> Option<T> {
        self.0.lock().ok().map(|mut remembered| what(&mut remembered))
    }
}
