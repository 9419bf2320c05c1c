//! Request signatures: who signed, when, and what.
//!
//! The checks are made in one order, and the first that fails is the reason: the form of the authorization, host and date
//! signed, hash, day, time, scope, key, signature. Nothing is taken from the request that is not signed or checked.

use std::borrow::Cow;
use std::cell::Cell;

use portcullis_model::answer::{Obligation, PlaceOf};
use portcullis_model::credential::{MAX_KEY_BYTES, SecretDigest};
use portcullis_model::facts::Proof;
use portcullis_model::key_sheet::{Day, KeySheets};
use portcullis_model::policy::{Accept, Place, Policy, Profile, Service};
use portcullis_model::signing::canonical::{Canonical, Field};
use portcullis_model::signing::date::{self, Weekday};
use portcullis_model::signing::{self, Output, ReadyKey, UNSIGNED_PAYLOAD};
use portcullis_model::source::{CanonicalForm, SignatureHash};
use portcullis_model::sweep;
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{DigestAlgorithm, NeedBody, Reason};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::authenticate::{Verified, proven};
use crate::normalise::{Presented, Request, form_decoded, only_one};
use crate::trace::{Check, Outcome, Silent, Trace};

/// The longest body of a signed request: 16 MiB. A host reads it whole before it knows whether the signature holds.
const MAX_BODY_BYTES: u32 = 16 << 20;
/// The most header fields that a signature covers.
const MAX_SIGNED_FIELDS: usize = 64;
/// The longest authorization that is read, in bytes.
const MAX_AUTHORIZATION_BYTES: usize = 8 * 1024;
/// How much of a canonical request an explanation shows, in bytes.
const SHOWN_BYTES: usize = 8 * 1024;

/// A signature that came with a request and has not failed.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'p> {
    /// The digest that it still waits for. Without one it holds.
    pub(crate) pending: Option<NeedBody>,
    /// Whether a nonce is signed, so that no two honest requests have the same signature.
    pub(crate) has_nonce: bool,
    /// Where it stands.
    pub(crate) place: PlaceOf<&'p [u8]>,
    signature: Output,
    until: UnixTime,
}

impl Signed<'_> {
    /// What a host must do so that the request is accepted once.
    pub(crate) fn once(&self, credential: &[u8], endpoint: &[u8]) -> Obligation {
        // Ids have no line feeds, so no two of these run into each other.
        let key = Sha256::new().chain_update(credential).chain_update("\n").chain_update(endpoint).chain_update("\n");
        let key = key.chain_update(self.signature.as_bytes()).finalize().into();
        Obligation::Once { key, until: self.until }
    }
}

/// The signature of one request.
pub(crate) struct SignatureCheck<'d> {
    pub(crate) keys: &'d KeySheets<ReadyKey>,
    pub(crate) now: UnixTime,
    /// The digest of the body, where the host has read it.
    pub(crate) body_digest: Option<&'d [u8]>,
    /// Whether a signature was presented, so that a failure is one of it.
    presented: Cell<bool>,
}

/// What a signature says of itself, in either form.
struct Claim<'a> {
    key_id: Vec<u8>,
    day: [u8; 8],
    scope: Vec<u8>,
    hash: Option<SignatureHash>,
    fields: Vec<Cow<'a, [u8]>>,
    signature: Vec<u8>,
    /// How long the URL is valid, where it is a presigned one, and the date that stands in it.
    presigned: Option<(u64, Cow<'a, [u8]>)>,
}

/// Takes a signature by a profile: from its header field, or from the URL.
///
/// Profiles may share a place and differ in their scope, as those of many tenants of one service do. The scope that the
/// signature names chooses among them; where it is none of theirs, the first says so.
pub(crate) fn present<'a, 'p>(
    request: &Request<'a>,
    presented: &mut Option<Presented<'a, 'p>>,
    accept: Accept<'p>,
    policy: &'p Policy,
) -> Result<(), Reason> {
    let Some(profile) = policy.profile(accept.raw_name())? else { return Ok(()) };
    let in_header = if profile.auth_header == "authorization" {
        request.authorization().filter(|value| is_for(value, &profile))
    } else {
        match request.fields(profile.auth_header.as_bytes())?.as_slice() {
            [] => None,
            [value] => Some(value.trim_ascii()),
            [..] => return Err(Reason::CredentialDoubled),
        }
    };
    let in_url = match request.query() {
        Some(query) => is_presigned(query, &profile)?,
        None => false,
    };
    let key = match (in_header, in_url) {
        (Some(_), true) => return Err(Reason::SignatureFormsTwo),
        (Some(value), false) => value,
        (None, true) => b"",
        (None, false) => return Ok(()),
    };
    if let Some(first) = presented
        && first.accept.place == Place::Signature
        && first.is_presigned == in_url
        && let Some(other) = policy.profile(first.accept.raw_name())?
        && share_place(&profile, &other, in_url)
    {
        if Claim::read(first, request, &profile).is_ok_and(|claim| claim.is_of(&profile)) {
            first.accept = accept;
        }
        return Ok(());
    }
    only_one(presented, accept, Cow::Borrowed(key))?;
    presented.iter_mut().for_each(|presented| presented.is_presigned = in_url);
    Ok(())
}

/// Whether nothing but scope and hash tells two profiles apart where a signature is looked for.
fn share_place(one: &Profile<'_>, other: &Profile<'_>, in_url: bool) -> bool {
    if in_url {
        one.vendor_key.eq_ignore_ascii_case(other.vendor_key)
    } else {
        one.auth_header == other.auth_header && one.algorithm_prefix.eq_ignore_ascii_case(other.algorithm_prefix)
    }
}

impl<'d> SignatureCheck<'d> {
    pub(crate) fn new(keys: &'d KeySheets<ReadyKey>, now: UnixTime, body_digest: Option<&'d [u8]>) -> Self {
        SignatureCheck { keys, now, body_digest, presented: Cell::new(false) }
    }

    /// Whether a signature was presented.
    pub(crate) fn was_presented(&self) -> bool {
        self.presented.get()
    }

    /// Proves a credential by a signature made with its secret.
    pub(crate) fn credential(
        &self,
        presented: &Presented<'_, 'd>,
        request: &Request<'_>,
        policy: &'d Policy,
        service: &Service<'d>,
        trace: &mut impl Trace,
    ) -> Result<Verified<'d>, Reason> {
        self.presented.set(true);
        let accept = presented.accept;
        let profile = policy.profile(accept.raw_name())?.ok_or(Reason::PolicyUnreadable)?;
        let claim = Claim::read(presented, request, &profile)?;
        let at = claim.date(request, &profile)?;
        claim.check_fields(&profile)?;
        if claim.hash != Some(profile.hash) {
            return Err(Reason::SignatureHash);
        }
        let day = Day::of(at);
        if claim.day != signing::short_date(day) {
            return Err(Reason::SignatureDay);
        }
        let until = self.check_time(&claim, &profile, at, trace)?;
        if *claim.scope != *profile.credential_scope.as_bytes() {
            return Err(Reason::SignatureScope);
        }
        let fields = signed_fields(request, &claim.fields)?;
        let signed = Signed {
            pending: self.pending(&claim, &profile, request),
            has_nonce: claim.fields.iter().any(|name| **name == *profile.nonce_header.as_bytes()),
            place: match claim.presigned {
                Some(_) => PlaceOf::Presigned(profile.vendor_key.as_bytes()),
                None => PlaceOf::Header(profile.auth_header.as_bytes()),
            },
            signature: Output::of(&claim.signature),
            until,
        };
        let (credential, key) = match self.signer(&claim.key_id, accept, &profile, policy, day) {
            Ok(found) => found,
            Err(reason) => {
                if signed.pending.is_none() {
                    // The result is of no use to anybody, but the time that it takes is.
                    // A stranger's request takes as long as a signer's.
                    let at = (at, &ReadyKey::NOBODYS);
                    std::hint::black_box(self.holds(&claim, &profile, request, fields, at, &mut Silent));
                }
                return Err(reason);
            }
        };
        if signed.pending.is_none() && !self.holds(&claim, &profile, request, fields, (at, key), trace) {
            return Err(Reason::SignatureMismatch);
        }
        let verified = proven(credential, Proof::Signature, accept, service)?;
        Ok(Verified { signed: Some(signed), ..verified })
    }

    /// Whose key it is, and that key of the day.
    fn signer(
        &self,
        key_id: &[u8],
        accept: Accept<'d>,
        profile: &Profile<'_>,
        policy: &'d Policy,
        day: Day,
    ) -> Result<(portcullis_model::policy::Credential<'d>, &'d ReadyKey), Reason> {
        if key_id.is_empty() || key_id.len() > MAX_KEY_BYTES {
            return Err(Reason::CredentialUnknown);
        }
        let digest = SecretDigest::new(Sha256::digest(key_id).into());
        let credential = policy.credential(&digest)?.ok_or(Reason::CredentialUnknown)?;
        if !accept.takes(credential.kind()?) {
            return Err(Reason::CredentialMisplaced);
        }
        if credential.is_revoked() {
            // It has no place in the key sheets any more, and this is why.
            return Err(Reason::CredentialRevoked);
        }
        let signer =
            credential.signer()?.filter(|signer| signer.profile == profile.id).ok_or(Reason::SignatureProfile)?;
        let key = self.keys.key(day, signer.slot).ok_or(Reason::SignatureKeysMissing)?;
        Ok((credential, key))
    }

    /// The time window, inclusive at both ends. Leads to the first second after it.
    fn check_time(
        &self,
        claim: &Claim<'_>,
        profile: &Profile<'_>,
        at: UnixTime,
        trace: &mut impl Trace,
    ) -> Result<UnixTime, Reason> {
        let skew = u64::from(profile.clock_skew_s);
        let expires = claim.presigned.as_ref().map_or(0, |(expires, _)| *expires);
        let (now, first) = (self.now.as_secs(), at.as_secs().saturating_sub(skew));
        let last = at.as_secs().saturating_add(expires).saturating_add(skew);
        if now < first || now > last {
            trace.step(Check::Signature, Outcome::Fail, || {
                format!("signed at {at}, which is {}; {skew} s either way are accepted", difference(self.now, at))
            });
            return Err(Reason::SignatureTime);
        }
        Ok(UnixTime::from_secs(last + 1).unwrap_or(UnixTime::MAX))
    }

    /// The digest that has yet to come.
    fn pending(&self, claim: &Claim<'_>, profile: &Profile<'_>, request: &Request<'_>) -> Option<NeedBody> {
        let is_known = self.body_digest.is_some_and(|digest| digest.len() == profile.hash.output_bytes());
        if claim.presigned.is_some() || request.is_bodiless() || is_known {
            return None;
        }
        let algorithm = match profile.hash {
            SignatureHash::Sha256 => DigestAlgorithm::Sha256,
            SignatureHash::Sha512 => DigestAlgorithm::Sha512,
        };
        Some(NeedBody { algorithm, cap_bytes: MAX_BODY_BYTES })
    }

    /// Whether the signature is that of the request, with its host as it came or without the default port.
    fn holds(
        &self,
        claim: &Claim<'_>,
        profile: &Profile<'_>,
        request: &Request<'_>,
        mut fields: Vec<Field<'_>>,
        (at, key): (UnixTime, &ReadyKey),
        trace: &mut impl Trace,
    ) -> bool {
        let hash = profile.hash;
        let body = match (&claim.presigned, profile.canonical_form, self.body_digest) {
            (Some(_), CanonicalForm::Escher | CanonicalForm::Antavo, _) => hash.digest(UNSIGNED_PAYLOAD),
            (None, _, Some(digest)) => Output::of(digest),
            (Some(_), CanonicalForm::Aws, _) | (None, _, None) => hash.digest(&[]),
        };
        let without = claim.presigned.is_some().then(|| parameter(profile, "Signature"));
        let mut canonical = Vec::with_capacity(512);
        let mut string = Vec::with_capacity(192);
        let mut is_right = false;
        for turn in 0..2 {
            if turn == 1 && !without_default_port(&mut fields) {
                break;
            }
            canonical.clear();
            string.clear();
            let written = Canonical {
                method: request.method,
                path: request.path.wire,
                query: request.query().unwrap_or_default(),
                without: without.as_deref(),
                fields: &fields,
                body,
            };
            written.write(profile.canonical_form, &mut canonical);
            let of = (profile.algorithm_prefix, hash, profile.credential_scope);
            signing::write_string_to_sign(&mut string, of, at, &canonical);
            let expected = key.signature(hash, &string);
            is_right = expected.as_bytes().ct_eq(&claim.signature).into();
            if is_right {
                break;
            }
        }
        let outcome = if is_right { Outcome::Pass } else { Outcome::Fail };
        trace.step(Check::Signature, outcome, || {
            let shown = canonical.get(..canonical.len().min(SHOWN_BYTES)).unwrap_or_default();
            let cut = if shown.len() < canonical.len() { "\n.. (cut off)" } else { "" };
            format!(
                "signed {}\ncanonical request:\n{}{cut}\nstring to sign:\n{}",
                difference(self.now, at),
                String::from_utf8_lossy(shown),
                String::from_utf8_lossy(&string)
            )
        });
        is_right
    }
}

/// How far a request's date is from the time, for people.
fn difference(now: UnixTime, at: UnixTime) -> String {
    let (now, at) = (now.as_secs(), at.as_secs());
    if at > now { format!("{} s ahead of this clock", at - now) } else { format!("{} s ago by this clock", now - at) }
}

impl<'a> Claim<'a> {
    fn read(presented: &Presented<'a, '_>, request: &Request<'a>, profile: &Profile<'_>) -> Result<Self, Reason> {
        if presented.is_presigned {
            Claim::of_url(request, profile)
        } else {
            Claim::of_authorization(&presented.key, profile)
        }
    }

    /// Whether it is made in a profile's scope and with its hash.
    fn is_of(&self, profile: &Profile<'_>) -> bool {
        *self.scope == *profile.credential_scope.as_bytes() && self.hash == Some(profile.hash)
    }

    /// Reads `PREFIX-HMAC-HASH Credential=KEYID/YYYYMMDD/SCOPE, SignedHeaders=a;b, Signature=hex`, and nothing else.
    fn of_authorization(value: &[u8], profile: &Profile<'_>) -> Result<Self, Reason> {
        let malformed = Reason::SignatureMalformed;
        if value.len() > MAX_AUTHORIZATION_BYTES {
            return Err(malformed);
        }
        let (algorithm, rest) = split(value, b' ').ok_or(malformed)?;
        let (credential, rest) = split(rest, b',').ok_or(malformed)?;
        let (fields, signature) = split(rest, b',').ok_or(malformed)?;
        let credential = credential.trim_ascii().strip_prefix(b"Credential=").ok_or(malformed)?;
        let fields = fields.trim_ascii().strip_prefix(b"SignedHeaders=").ok_or(malformed)?;
        // A comma in it is no hex digit.
        let signature = signature.trim_ascii().strip_prefix(b"Signature=").ok_or(malformed)?;
        Claim::new(algorithm, credential, fields, signature, profile)
    }

    /// Reads the parameters of a presigned URL.
    fn of_url(request: &Request<'a>, profile: &Profile<'_>) -> Result<Self, Reason> {
        let query = request.query().unwrap_or_default();
        let mut found: [Option<Cow<'a, [u8]>>; PRESIGNED.len()] = Default::default();
        for given in query.split(|byte| *byte == b'&') {
            let (name, value) = split(given, b'=').unwrap_or((given, &[]));
            for (place, known) in found.iter_mut().zip(PRESIGNED) {
                if *name == *parameter(profile, known) && place.replace(form_decoded(value)).is_some() {
                    return Err(Reason::CredentialDoubled);
                }
            }
        }
        let malformed = Reason::SignatureMalformed;
        let [algorithm, credential, date, expires, fields, signature] = found;
        let (algorithm, signature) = (algorithm.ok_or(malformed)?, signature.ok_or(malformed)?);
        let (credential, fields) = (credential.ok_or(malformed)?, fields.ok_or(malformed)?);
        let expires = number(&expires.ok_or(malformed)?).ok_or(malformed)?;
        // Whoever may send the URL could send anything with it, so what is not covered by it is refused.
        let is_fit = request.method == b"GET" && request.is_bodiless() && *fields == *b"host";
        if !is_fit || expires == 0 || expires > u64::from(profile.presigned_expires_s) {
            return Err(Reason::SignaturePresigned);
        }
        let claim = Claim::new(&algorithm, &credential, &fields, &signature, profile)?;
        Ok(Claim { presigned: Some((expires, date.ok_or(malformed)?)), ..claim })
    }

    fn new(
        algorithm: &[u8],
        credential: &[u8],
        fields: &[u8],
        signature: &[u8],
        profile: &Profile<'_>,
    ) -> Result<Self, Reason> {
        let malformed = Reason::SignatureMalformed;
        let hash =
            algorithm.strip_prefix(profile.algorithm_prefix.as_bytes()).and_then(|rest| rest.strip_prefix(b"-HMAC-"));
        let hash =
            hash.filter(|hash| !hash.is_empty() && hash.iter().all(u8::is_ascii_alphanumeric)).ok_or(malformed)?;
        let known = [SignatureHash::Sha256, SignatureHash::Sha512];
        let hash = known.into_iter().find(|known| known.as_str().as_bytes() == hash);
        let (key_id, rest) = split(credential, b'/').ok_or(malformed)?;
        let (day, scope) = split(rest, b'/').ok_or(malformed)?;
        let day: [u8; 8] = day.try_into().map_err(|_| malformed)?;
        if !day.iter().all(u8::is_ascii_digit) {
            return Err(malformed);
        }
        let (key_id, scope) = (key_id.to_vec(), scope.to_vec());
        let fields = signed_names(fields).ok_or(malformed)?;
        let signature = unhex(signature).ok_or(malformed)?;
        // A signature of another length than its hash's is none.
        if hash.is_some_and(|hash| hash.output_bytes() != signature.len()) {
            return Err(malformed);
        }
        Ok(Claim { key_id, day, scope, hash, fields, signature, presigned: None })
    }

    /// The date of the request: its header field's, or that of the URL.
    fn date(&self, request: &Request<'_>, profile: &Profile<'_>) -> Result<UnixTime, Reason> {
        if let Some((_, date)) = &self.presigned {
            return date::read(date, Weekday::Checked).ok_or(Reason::SignatureDateMissing);
        }
        match request.fields(profile.date_header.as_bytes())?.as_slice() {
            [] => Err(Reason::SignatureDateMissing),
            [date] => date::read(date.trim_ascii(), Weekday::Checked).ok_or(Reason::SignatureDateMissing),
            [..] => Err(Reason::DateDoubled),
        }
    }

    fn check_fields(&self, profile: &Profile<'_>) -> Result<(), Reason> {
        let is_signed = |name: &[u8]| self.fields.iter().any(|field| **field == *name);
        if !is_signed(b"host") {
            return Err(Reason::SignatureHostUnsigned);
        }
        if self.presigned.is_none() && !is_signed(profile.date_header.as_bytes()) {
            return Err(Reason::SignatureDateUnsigned);
        }
        Ok(())
    }
}

/// The endings of the names of presigned parameters.
const PRESIGNED: [&str; 6] = ["Algorithm", "Credentials", "Date", "Expires", "SignedHeaders", "Signature"];

/// The name of a presigned parameter of a profile.
fn parameter(profile: &Profile<'_>, ending: &str) -> Vec<u8> {
    signing::presigned_name(profile.canonical_form, profile.vendor_key, ending).into_bytes()
}

/// What a presigned URL's parameters begin with.
fn is_presigned_name(name: &[u8], profile: &Profile<'_>) -> bool {
    PRESIGNED.into_iter().any(|ending| parameter(profile, ending).eq_ignore_ascii_case(name))
}

/// Whether a query has a parameter of a presigned URL.
///
/// # Errors
/// Where it has one in disguise: encoded, or in another case. Some servers would take it for the parameter, others not.
pub(crate) fn is_presigned(query: &[u8], profile: &Profile<'_>) -> Result<bool, Reason> {
    let prefix = ["X-", profile.vendor_key, "-"].concat();
    let mut found = false;
    for given in query.split(|byte| *byte == b'&') {
        let (name, _) = split(given, b'=').unwrap_or((given, &[]));
        let is_near = name.contains(&b'%')
            || name.contains(&b'[')
            || name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
        if !is_near {
            continue;
        }
        let decoded = form_decoded(name);
        let plain = decoded.split(|byte| *byte == b'[').next().unwrap_or_default();
        if is_presigned_name(plain.trim_ascii(), profile) {
            if !PRESIGNED.into_iter().any(|ending| *parameter(profile, ending) == *name) {
                return Err(Reason::QueryDisguisedKey);
            }
            found = true;
        }
    }
    Ok(found)
}

/// Whether an Authorization field is meant for a profile.
pub(crate) fn is_for(value: &[u8], profile: &Profile<'_>) -> bool {
    let prefix = [profile.algorithm_prefix, "-HMAC-"].concat();
    value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// The names of signed fields, in lower case and in order. Nothing where one is empty, no name, or there twice.
fn signed_names<'a>(list: &[u8]) -> Option<Vec<Cow<'a, [u8]>>> {
    let mut names = Vec::new();
    for name in list.split(|byte| *byte == b';') {
        let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        if name.is_empty() || !name.iter().all(is_token) || names.len() >= MAX_SIGNED_FIELDS {
            return None;
        }
        names.push(Cow::Owned(name.to_ascii_lowercase()));
    }
    names.sort_unstable();
    let is_doubled = names.iter().zip(names.iter().skip(1)).any(|(a, b)| a == b);
    (!is_doubled).then_some(names)
}

/// The signed fields with their values. A field that is listed and not there would be signed by anybody's absence.
fn signed_fields<'a>(request: &Request<'a>, names: &[Cow<'_, [u8]>]) -> Result<Vec<Field<'a>>, Reason> {
    let mut fields = Vec::with_capacity(names.len());
    for name in names {
        let mut values = request.fields(name)?;
        if values.is_empty() && **name == *b"host" {
            values.extend(request.authority());
        }
        if values.is_empty() {
            return Err(Reason::SignatureFieldAbsent);
        }
        fields.push(Field { name: Cow::Owned(name.to_vec()), values });
    }
    Ok(fields)
}

/// Takes the default port off the host. Whether there was one.
fn without_default_port(fields: &mut [Field<'_>]) -> bool {
    let Some(host) = fields.iter_mut().find(|field| *field.name == *b"host") else { return false };
    let Some(value) = host.values.first_mut() else { return false };
    let bare = value.strip_suffix(b":443").or_else(|| value.strip_suffix(b":80"));
    let Some(bare) = bare else { return false };
    *value = bare;
    true
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = sweep::find(text, at)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// The bytes of lower-case hex; nothing where it is any other.
fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    base16ct::lower::decode_vec(digits).ok().filter(|bytes| matches!(bytes.len(), 32 | 64))
}
