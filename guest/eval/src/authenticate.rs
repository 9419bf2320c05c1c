//! Who calls? Not presented, verified, or rejected; tried and failed never falls through to another method.

use portcullis_model::credential::{KeyShape, Kind, MAX_KEY_BYTES, SecretDigest, key_shape};
use portcullis_model::facts::Proof;
use portcullis_model::policy::{Accept, Credential, Place, Policy, Service, Tenant};
use portcullis_model::verdict::Reason;
use sha2::{Digest as _, Sha256};

use crate::normalise::Request;
use crate::trace::{Check, Outcome, Trace};

/// A credential that has been proven to be the caller's, and may be used with this service at all.
#[derive(Clone, Copy)]
pub(crate) struct Verified<'p> {
    pub(crate) credential: Credential<'p>,
    pub(crate) tenant: Tenant<'p>,
    pub(crate) kind: Kind,
    pub(crate) proof: Proof,
    /// How it was presented; nothing where recorded facts are judged.
    pub(crate) accept: Option<Accept<'p>>,
}

/// Proves the request's credential.
#[inline(always)]
pub(crate) fn authenticate<'p>(
    request: &Request<'_>,
    policy: &'p Policy,
    service: &Service<'p>,
    trace: &mut impl Trace,
) -> Result<Verified<'p>, Reason> {
    let Some(presented) = request.presented(service)? else { return Err(Reason::CredentialMissing) };
    match presented.accept.place {
        Place::Header | Place::Parameter | Place::Scheme => {}
        Place::Signature => return Err(Reason::SignatureMalformed),
        Place::Token => return Err(Reason::TokenMalformed),
        Place::Client => return Err(Reason::ClientMalformed),
    }
    let key = &presented.key;
    // Every key that was ever made is of visible ASCII. Two keys that a client joined with a comma and a space are not.
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.iter().fold(true, |all, b| all & b.is_ascii_graphic()) {
        return Err(Reason::CredentialMalformed);
    }
    // A typing error in a key of ours. It is found without a look-up, so the answer tells nothing of any key.
    if key_shape(key) == KeyShape::Mistyped {
        return Err(Reason::CredentialMalformed);
    }
    let digest = SecretDigest::new(Sha256::digest(key).into());
    let credential = policy.credential(&digest)?.ok_or(Reason::CredentialUnknown)?;
    let kind = credential.kind()?;
    if !presented.accept.takes(kind) {
        return Err(Reason::CredentialMisplaced);
    }
    if credential.is_signed_only() {
        return Err(Reason::SignedOnly);
    }
    let tenant = credential.tenant()?.ok_or(Reason::TenantUnknown)?;
    if !service.serves(&tenant)? {
        return Err(Reason::CredentialForeign);
    }
    trace.step(Check::Credential, Outcome::Pass, || {
        let (id, tenant) = (credential.id().unwrap_or("?"), tenant.id().unwrap_or("?"));
        format!("{kind} key `{id}` of tenant `{tenant}`, from {}", place(presented.accept))
    });
    Ok(Verified { credential, tenant, kind, proof: Proof::Key, accept: Some(presented.accept) })
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
