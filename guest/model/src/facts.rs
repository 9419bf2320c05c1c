//! What authentication established.
//!
//! Facts hold stable ids, never ordinals of one policy, and never a secret or its digest. So they can be logged, and a
//! candidate policy can be judged over them later.

use std::net::IpAddr;

use crate::credential::Kind;
use crate::id::Revision;
use crate::packed::{Reader, Texts, Unreadable, Writer};
use crate::time::UnixTime;

/// The bit of the packed proof that says that there is a token.
const WITH_TOKEN: u8 = 0x80;
/// How many texts facts have.
pub(crate) const TEXTS: usize = 11;
/// Packed facts without their texts, but with the lengths of these.
pub(crate) const FIXED_BYTES: usize = 38 + 2 * TEXTS;

/// What is known of a request once it has been authenticated, or of one that was refused before.
///
/// Fields are empty or `None` where the request was denied before they were known. Texts borrow from the request, from
/// the policy, or from the packed answer they were read from. Inside the gate they are bytes, which are found to be UTF-8 when
/// they are packed, all at once; elsewhere [`Facts`] has them as text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FactsOf<T> {
    /// The revision that decided.
    pub revision: Revision,
    /// The time that was given.
    pub now: UnixTime,
    /// The client's address, after trusted proxies were taken into account.
    pub client: IpAddr,
    /// The method.
    pub method: T,
    /// The host, lower case, without a port.
    pub host: T,
    /// The path as received, without the query.
    pub path: T,
    /// The service that was matched.
    pub service: T,
    /// The endpoint that was matched, as `service/endpoint`.
    pub endpoint: T,
    /// The application named by the path.
    pub application: T,
    /// The tenant of the proven credential.
    pub tenant: T,
    /// The proven credential, or nothing.
    pub credential: Option<CredentialFactsOf<T>>,
    /// Whether a signature came with the request, and held.
    pub signature: SignatureState,
    /// What the host's replay cache said.
    pub replay: Option<ReplayAnswer>,
    /// The access token that proved the credential.
    pub token: Option<TokenFactsOf<T>>,
}

/// What is known of a request, as text.
pub type Facts<'a> = FactsOf<&'a str>;
/// What was used of an access token, as text.
pub type TokenFacts<'a> = TokenFactsOf<&'a str>;
/// The credential that was proven, as text.
pub type CredentialFacts<'a> = CredentialFactsOf<&'a str>;

/// What was used of an access token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenFactsOf<T> {
    /// Its id (`jti`).
    pub id: T,
    /// Its scopes, as they stand in the token: separated by spaces.
    pub scope: T,
    /// Its audiences, separated by spaces.
    pub audience: T,
}

/// The credential that was proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CredentialFactsOf<T> {
    /// Its internal id, which is safe to log.
    pub id: T,
    /// Its kind.
    pub kind: Kind,
    /// How it was proven.
    pub proof: Proof,
    /// Which version of its secret was used.
    pub secret_version: u16,
}

/// A method of proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// The key itself was presented.
    Key,
    /// A signature made with the secret.
    Signature,
    /// An access token issued to the client.
    Token,
    /// The client's id and secret, at the token endpoint.
    Client,
}

/// Whether a request was signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureState {
    /// No signature came with the request.
    Absent,
    /// One came and held.
    Valid,
    /// One came and failed.
    Invalid,
    /// One came, and the request was denied before the body was read that it covers. Nobody is proven by it.
    Unverified,
}

/// What the host's replay cache said of the request's one-time key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayAnswer {
    /// Not seen before within the window.
    Fresh,
    /// Seen before.
    Seen,
}

impl Proof {
    /// The proof's name, as in the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Proof::Key => "key",
            Proof::Signature => "signature",
            Proof::Token => "token",
            Proof::Client => "client",
        }
    }
}

impl SignatureState {
    /// The state's name, as in the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SignatureState::Absent => "absent",
            SignatureState::Valid => "valid",
            SignatureState::Invalid => "invalid",
            SignatureState::Unverified => "unverified",
        }
    }
}

impl<T: Copy + Default> FactsOf<T> {
    /// Facts of a request of which nothing is known but when and from where.
    #[must_use]
    pub fn unknown(revision: Revision, now: UnixTime, client: IpAddr) -> Self {
        FactsOf {
            revision,
            now,
            client,
            method: T::default(),
            host: T::default(),
            path: T::default(),
            service: T::default(),
            endpoint: T::default(),
            application: T::default(),
            tenant: T::default(),
            credential: None,
            signature: SignatureState::Absent,
            replay: None,
            token: None,
        }
    }

    /// The same facts with each text turned into something else.
    #[must_use]
    pub fn map<U: Copy + Default>(self, turn: impl Fn(T) -> U) -> FactsOf<U> {
        FactsOf {
            revision: self.revision,
            now: self.now,
            client: self.client,
            method: turn(self.method),
            host: turn(self.host),
            path: turn(self.path),
            service: turn(self.service),
            endpoint: turn(self.endpoint),
            application: turn(self.application),
            tenant: turn(self.tenant),
            credential: self.credential.map(|CredentialFactsOf { id, kind, proof, secret_version }| {
                CredentialFactsOf { id: turn(id), kind, proof, secret_version }
            }),
            signature: self.signature,
            replay: self.replay,
            token: self.token.map(|token| token.map(&turn)),
        }
    }
}

impl<T: Copy> TokenFactsOf<T> {
    /// The same with each text turned into something else.
    #[must_use]
    pub fn map<U>(self, turn: impl Fn(T) -> U) -> TokenFactsOf<U> {
        TokenFactsOf { id: turn(self.id), scope: turn(self.scope), audience: turn(self.audience) }
    }
}

impl<T: AsRef<[u8]> + Copy + Default> FactsOf<T> {
    /// Packs the facts in place of what `out` holds. Layout, little-endian: revision u64, now u64, client \[16\], then one byte
    /// each for kind (0: no credential), proof (the highest bit: there is a token), signature and replay, secret version u16,
    /// then the lengths as u16 of the texts: method, host, path, service, endpoint, application, tenant, credential id, the
    /// token's id, scope and audience; then the texts.
    ///
    /// # Errors
    /// Where a text is not UTF-8. `out` is then of no use.
    pub fn pack(&self, out: &mut Vec<u8>) -> Result<(), FactsMalformed> {
        let texts = self.texts();
        let mut writer = Writer::new(out, FIXED_BYTES + length(&texts));
        self.fixed(&texts, &mut writer);
        writer.texts(&texts).map_err(|Unreadable| FactsMalformed)
    }

    /// The texts in their order.
    #[inline(always)]
    pub(crate) fn texts(&self) -> [&[u8]; TEXTS] {
        let id = self.credential.as_ref().map_or(&[][..], |credential| credential.id.as_ref());
        let [token, scope, audience] = match &self.token {
            Some(token) => [token.id.as_ref(), token.scope.as_ref(), token.audience.as_ref()],
            None => [&[][..]; 3],
        };
        let [method, host, path] = [&self.method, &self.host, &self.path].map(T::as_ref);
        let [service, endpoint, application] = [&self.service, &self.endpoint, &self.application].map(T::as_ref);
        [method, host, path, service, endpoint, application, self.tenant.as_ref(), id, token, scope, audience]
    }

    /// What has a place of its own, and the lengths of the texts.
    #[inline(always)]
    pub(crate) fn fixed(&self, texts: &[&[u8]; TEXTS], writer: &mut Writer<'_>) {
        let (kind, proof, version) = match self.credential {
            None => (0, 0, 0),
            Some(credential) => {
                let proof = match credential.proof {
                    Proof::Key => 1,
                    Proof::Signature => 2,
                    Proof::Token => 3,
                    Proof::Client => 4,
                };
                (credential.kind.code(), proof, credential.secret_version)
            }
        };
        let signature = match self.signature {
            SignatureState::Absent => 0,
            SignatureState::Valid => 1,
            SignatureState::Invalid => 2,
            SignatureState::Unverified => 3,
        };
        let replay = match self.replay {
            None => 0,
            Some(ReplayAnswer::Fresh) => 1,
            Some(ReplayAnswer::Seen) => 2,
        };
        let proof = if self.token.is_some() { proof | WITH_TOKEN } else { proof };
        writer.put(&self.revision.0.to_le_bytes());
        writer.put(&self.now.as_secs().to_le_bytes());
        writer.put(&crate::address::as_bits(self.client).to_be_bytes());
        writer.put(&[kind, proof, signature, replay]);
        writer.put(&version.to_le_bytes());
        writer.lengths(texts);
    }
}

/// The length of texts together.
#[inline(always)]
pub(crate) fn length(texts: &[&[u8]]) -> usize {
    texts.iter().map(|text| text.len()).sum()
}

impl<'a> Facts<'a> {
    /// Reads packed facts.
    ///
    /// # Errors
    /// Where `bytes` are not exactly packed facts.
    pub fn unpack(bytes: &'a [u8]) -> Result<Self, FactsMalformed> {
        let read = || {
            let mut reader = Reader::new(bytes);
            let (facts, lengths) = Self::read(&mut reader)?;
            let mut texts = Texts::read(reader)?;
            let facts = facts.with(lengths, &mut texts)?;
            texts.end().map(|()| facts)
        };
        read().map_err(|Unreadable| FactsMalformed)
    }

    /// What has a place of its own, and the lengths of the texts.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<(Self, [u16; TEXTS]), Unreadable> {
        let revision = Revision(reader.u64()?);
        let now = UnixTime::from_secs(reader.u64()?).ok_or(Unreadable)?;
        let client = crate::address::from_bits(u128::from_be_bytes(reader.array()?));
        let [kind, proof, signature, replay] = reader.array()?;
        let secret_version = reader.u16()?;
        let credential = if kind == 0 {
            None
        } else {
            let proof = match proof & !WITH_TOKEN {
                1 => Proof::Key,
                2 => Proof::Signature,
                3 => Proof::Token,
                4 => Proof::Client,
                _ => return Err(Unreadable),
            };
            let kind = Kind::from_code(kind).ok_or(Unreadable)?;
            Some(CredentialFacts { id: "", kind, proof, secret_version })
        };
        let signature = match signature {
            0 => SignatureState::Absent,
            1 => SignatureState::Valid,
            2 => SignatureState::Invalid,
            3 => SignatureState::Unverified,
            _ => return Err(Unreadable),
        };
        let replay = match replay {
            0 => None,
            1 => Some(ReplayAnswer::Fresh),
            2 => Some(ReplayAnswer::Seen),
            _ => return Err(Unreadable),
        };
        let token = (proof & WITH_TOKEN != 0).then_some(TokenFacts { id: "", scope: "", audience: "" });
        let mut lengths = [0; TEXTS];
        for length in &mut lengths {
            *length = reader.u16()?;
        }
        let facts = Facts { credential, signature, replay, token, ..Facts::unknown(revision, now, client) };
        Ok((facts, lengths))
    }

    /// The facts with their texts.
    pub(crate) fn with(self, lengths: [u16; TEXTS], texts: &mut Texts<'a>) -> Result<Self, Unreadable> {
        let mut all = [""; TEXTS];
        for (text, length) in all.iter_mut().zip(lengths) {
            *text = texts.next(length)?;
        }
        let [method, host, path, service, endpoint, application, tenant, id, token, scope, audience] = all;
        // A text of what is not there.
        if (self.credential.is_none() && !id.is_empty())
            || (self.token.is_none() && !(token.is_empty() && scope.is_empty() && audience.is_empty()))
        {
            return Err(Unreadable);
        }
        let credential = self.credential.map(|credential| CredentialFacts { id, ..credential });
        let token = self.token.map(|_| TokenFacts { id: token, scope, audience });
        Ok(Facts { method, host, path, service, endpoint, application, tenant, credential, token, ..self })
    }
}

/// Bytes that are not packed facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not packed facts")]
pub struct FactsMalformed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_packing_and_no_cut_does() {
        let facts = Facts {
            method: "GET",
            host: "api.example",
            path: "/v1/events",
            endpoint: "shop/events",
            tenant: "acme",
            credential: Some(CredentialFacts { id: "k1", kind: Kind::Tenant, proof: Proof::Key, secret_version: 3 }),
            signature: SignatureState::Invalid,
            replay: Some(ReplayAnswer::Seen),
            token: Some(TokenFacts { id: "t1", scope: "read write", audience: "shop" }),
            ..Facts::unknown(Revision(7), UnixTime::from_secs(1_700_000_000).unwrap(), "192.0.2.1".parse().unwrap())
        };
        let mut bytes = Vec::new();
        facts.pack(&mut bytes).unwrap();
        assert_eq!(Facts::unpack(&bytes), Ok(facts));
        for end in 0..bytes.len() {
            assert_eq!(Facts::unpack(&bytes[..end]), Err(FactsMalformed));
        }
    }
}
