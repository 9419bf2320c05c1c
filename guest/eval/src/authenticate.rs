//! Who calls? Not presented, verified, or rejected; tried and failed never falls through to another method.

use portcullis_model::credential::{KeyShape, Kind, MAX_KEY_BYTES, SecretDigest, key_shape};
use portcullis_model::facts::{Proof, TokenFacts};
use portcullis_model::policy::{Accept, Credential, Place, Policy, Service, Tenant};
use portcullis_model::sweep;
use portcullis_model::verdict::Reason;
use sha2::{Digest as _, Sha256};

use crate::client_secret;
use crate::normalise::Request;
use crate::signature::{SignatureCheck, Signed};
use crate::token::TokenCheck;
use crate::trace::{Check, Outcome, Trace};

/// A credential that has been proven to be the caller's, and may be used with this service at all.
#[derive(Clone, Copy)]
pub(crate) struct Verified<'p> {
    pub(crate) credential: Credential<'p>,
    pub(crate) tenant: Tenant<'p>,
    pub(crate) kind: Kind,
    pub(crate) proof: Proof,
    /// The version of its secret that the proof is of. A token's may be gone.
    pub(crate) secret_version: u16,
    /// What an access token said, where one is the proof.
    pub(crate) token: Option<TokenFacts<'p>>,
    /// The signature that is the proof, where one is. It may still wait for the body.
    pub(crate) signed: Option<Signed<'p>>,
    /// How it was presented; nothing where recorded facts are judged.
    pub(crate) accept: Option<Accept<'p>>,
}

/// Proves the request's credential.
#[inline(always)]
pub(crate) fn authenticate<'p>(
    request: &Request<'_>,
    policy: &'p Policy,
    service: &Service<'p>,
    token: &'p TokenCheck<'p>,
    signature: &SignatureCheck<'p>,
    trace: &mut impl Trace,
) -> Result<Verified<'p>, Reason> {
    let Some(presented) = request.presented(service, policy)? else { return Err(Reason::CredentialMissing) };
    let (key, accept) = (&presented.key, presented.accept);
    let verified = match accept.place {
        Place::Header | Place::Parameter | Place::Scheme => plain_key(key, accept, policy, service),
        Place::Signature => signature.credential(&presented, request, policy, service, trace),
        Place::Token => token.credential(key, accept, policy, service),
        Place::Client => client_secret::client(key, accept, policy, service),
    }?;
    trace.step(Check::Credential, Outcome::Pass, || {
        let Verified { credential, tenant, kind, .. } = &verified;
        let (id, tenant) = (credential.id().unwrap_or("?"), tenant.id().unwrap_or("?"));
        let what = if verified.token.is_some() { "token of the " } else { "" };
        format!("{what}{kind} key `{id}` of tenant `{tenant}`, from {}", place(accept))
    });
    Ok(verified)
}

#[inline(never)]
fn plain_key<'p>(
    key: &[u8],
    accept: Accept<'p>,
    policy: &'p Policy,
    service: &Service<'p>,
) -> Result<Verified<'p>, Reason> {
    let credential = policy.credential(&digest(key)?)?.ok_or_else(|| unknown(key))?;
    if !accept.takes(credential.kind()?) {
        return Err(Reason::CredentialMisplaced);
    }
    if credential.is_signed_only() {
        return Err(Reason::SignedOnly);
    }
    proven(credential, Proof::Key, accept, service)
}

/// The digest of a key, where it has the form of one.
#[inline(always)]
pub(crate) fn digest(key: &[u8]) -> Result<SecretDigest, Reason> {
    // Every key that was ever made is of visible ASCII. Two keys that a client joined with a comma and a space are not.
    if key.is_empty() || key.len() > MAX_KEY_BYTES || sweep::any(key, |lanes| !sweep::within(lanes, b'!', b'~')) {
        return Err(Reason::CredentialMalformed);
    }
    Ok(SecretDigest::new(Sha256::digest(key).into()))
}

/// Why a key is not known. A typing error in a key of ours shows in the key itself, so the answer tells nothing of any key.
#[cold]
pub(crate) fn unknown(key: &[u8]) -> Reason {
    if key_shape(key) == KeyShape::Mistyped { Reason::CredentialMalformed } else { Reason::CredentialUnknown }
}

/// A credential that has been proven, where its tenant may use the service at all.
#[inline(always)]
pub(crate) fn proven<'p>(
    credential: Credential<'p>,
    proof: Proof,
    accept: Accept<'p>,
    service: &Service<'p>,
) -> Result<Verified<'p>, Reason> {
    let tenant = credential.tenant()?.ok_or(Reason::TenantUnknown)?;
    if !service.serves(&tenant)? {
        return Err(Reason::CredentialForeign);
    }
    let (kind, secret_version) = (credential.kind()?, credential.version());
    Ok(Verified { credential, tenant, kind, proof, secret_version, token: None, signed: None, accept: Some(accept) })
}

fn place(accept: Accept<'_>) -> String {
    let name = accept.name().unwrap_or("?");
    match accept.place {
        Place::Header => format!("the header `{name}`"),
        Place::Parameter => format!("the query parameter `{name}`"),
        Place::Scheme | Place::Token | Place::Client => format!("`Authorization: {name}`"),
        Place::Signature => format!("a signature by the profile `{name}`"),
    }
}
