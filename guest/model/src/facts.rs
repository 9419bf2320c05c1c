//! What authentication established.
//!
//! Facts hold stable ids, never ordinals of one policy, and never a secret or its digest. So they can be logged, and a
//! candidate policy can be judged over them later.

use std::net::{IpAddr, Ipv6Addr};

use crate::credential::Kind;
use crate::id::Revision;
use crate::packed::{Reader, Unreadable, put_text};
use crate::time::UnixTime;

/// The bit of the packed proof that says that the texts of a token follow.
const WITH_TOKEN: u8 = 0x80;

/// What is known of a request once it has been authenticated, or of one that was refused before.
///
/// Fields are empty or `None` where the request was denied before they were known. Texts borrow from the request, from
/// the policy, or from the packed answer they were read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts<'a> {
    /// The revision that decided.
    pub revision: Revision,
    /// The time that was given.
    pub now: UnixTime,
    /// The client's address, after trusted proxies were taken into account.
    pub client: IpAddr,
    /// The method.
    pub method: &'a str,
    /// The host, lower case, without a port.
    pub host: &'a str,
    /// The path as received, without the query.
    pub path: &'a str,
    /// The service that was matched.
    pub service: &'a str,
    /// The endpoint that was matched, as `service/endpoint`.
    pub endpoint: &'a str,
    /// The application named by the path.
    pub application: &'a str,
    /// The tenant of the proven credential.
    pub tenant: &'a str,
    /// The proven credential, or nothing.
    pub credential: Option<CredentialFacts<'a>>,
    /// Whether a signature came with the request, and held.
    pub signature: SignatureState,
    /// What the host's replay cache said.
    pub replay: Option<ReplayAnswer>,
    /// The access token that proved the credential.
    pub token: Option<TokenFacts<'a>>,
}

/// What was used of an access token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenFacts<'a> {
    /// Its id (`jti`).
    pub id: &'a str,
    /// Its scopes, as they stand in the token: separated by spaces.
    pub scope: &'a str,
    /// Its audiences, separated by spaces.
    pub audience: &'a str,
}

/// The credential that was proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CredentialFacts<'a> {
    /// Its internal id, which is safe to log.
    pub id: &'a str,
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

impl<'a> Facts<'a> {
    /// Facts of a request of which nothing is known but when and from where.
    #[must_use]
    pub fn unknown(revision: Revision, now: UnixTime, client: IpAddr) -> Self {
        Facts {
            revision,
            now,
            client,
            method: "",
            host: "",
            path: "",
            service: "",
            endpoint: "",
            application: "",
            tenant: "",
            credential: None,
            signature: SignatureState::Absent,
            replay: None,
            token: None,
        }
    }

    /// Packs the facts. Layout, little-endian: revision u64, now u64, client \[16\], then one byte each for kind (0: no
    /// credential), proof, signature and replay, secret version u16, then the texts behind u16 lengths: method, host,
    /// path, service, endpoint, application, tenant, credential id; and where the highest bit of the proof is set, the
    /// token's id, scope and audience.
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        out.extend_from_slice(&self.now.as_secs().to_le_bytes());
        out.extend_from_slice(&crate::address::as_bits(self.client).to_be_bytes());
        let (kind, proof, version, id) = match self.credential {
            None => (0, 0, 0, ""),
            Some(credential) => {
                let proof = match credential.proof {
                    Proof::Key => 1,
                    Proof::Signature => 2,
                    Proof::Token => 3,
                    Proof::Client => 4,
                };
                (credential.kind.code(), proof, credential.secret_version, credential.id)
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
        out.extend_from_slice(&[kind, proof, signature, replay]);
        out.extend_from_slice(&version.to_le_bytes());
        for text in [self.method, self.host, self.path, self.service, self.endpoint, self.application, self.tenant, id]
        {
            put_text(out, text);
        }
        if let Some(token) = self.token {
            for text in [token.id, token.scope, token.audience] {
                put_text(out, text);
            }
        }
    }

    /// Reads packed facts.
    ///
    /// # Errors
    /// Where `bytes` are not exactly packed facts.
    pub fn unpack(bytes: &'a [u8]) -> Result<Self, FactsMalformed> {
        let mut reader = Reader::new(bytes);
        Self::read(&mut reader).and_then(|facts| reader.end().map(|()| facts)).map_err(|Unreadable| FactsMalformed)
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        let revision = Revision(reader.u64()?);
        let now = UnixTime::from_secs(reader.u64()?).ok_or(Unreadable)?;
        let client = Ipv6Addr::from(reader.array::<16>()?).to_canonical();
        let [kind, proof, signature, replay] = reader.array()?;
        let secret_version = reader.u16()?;
        let method = reader.text()?;
        let host = reader.text()?;
        let path = reader.text()?;
        let service = reader.text()?;
        let endpoint = reader.text()?;
        let application = reader.text()?;
        let tenant = reader.text()?;
        let id = reader.text()?;
        let token = if proof & WITH_TOKEN == 0 {
            None
        } else {
            Some(TokenFacts { id: reader.text()?, scope: reader.text()?, audience: reader.text()? })
        };
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
            Some(CredentialFacts { id, kind: Kind::from_code(kind).ok_or(Unreadable)?, proof, secret_version })
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
        Ok(Facts {
            revision,
            now,
            client,
            method,
            host,
            path,
            service,
            endpoint,
            application,
            tenant,
            credential,
            signature,
            replay,
            token,
        })
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
        facts.pack(&mut bytes);
        assert_eq!(Facts::unpack(&bytes), Ok(facts));
        for end in 0..bytes.len() {
            assert_eq!(Facts::unpack(&bytes[..end]), Err(FactsMalformed));
        }
    }
}
