//! An answer: the verdict, and everything the host needs to act on it and to record it.

use crate::facts::Facts;
use crate::packed::{Reader, Unreadable, put_text};
use crate::time::UnixTime;
use crate::verdict::{Reason, Verdict};

/// Inbound header fields whose names begin so are dropped from every request before an allow's own are set.
pub const RESERVED_HEADER_PREFIX: &str = "x-portcullis-";

/// The most bytes of packed [`Details`] that a host accepts from the guest: a head's texts and their lengths.
pub const MAX_DETAILS_BYTES: usize = 32 * 1024;

/// The answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer<'a> {
    /// May it pass?
    pub verdict: Verdict,
    /// What is known, to be done and to be recorded.
    pub details: Details<'a>,
}

/// What comes with a verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Details<'a> {
    /// What was established.
    pub facts: Facts<'a>,
    /// The credential's place, which an allow strips from the forwarded request.
    pub strip: Option<Place<'a>>,
    /// What would have been a denial where a check is observed but not enforced.
    pub observed: Vec<Reason>,
    /// What the host must do before an allow counts.
    pub obligations: Vec<Obligation>,
    /// The value of `WWW-Authenticate` for a denial with status 401, and for one with status 403 where an access token lacks
    /// a scope (RFC 6750 section 3.1); else empty.
    pub challenge: &'a str,
}

/// Where a credential stands in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place<'a> {
    /// The header field of that name.
    Header(&'a str),
    /// The query parameter of that name.
    Parameter(&'a str),
    /// The query parameters of a presigned URL: of the vendor key `Antavo` those that begin with `X-Antavo-`.
    Presigned(&'a str),
}

impl Place<'_> {
    /// The target without every query parameter that stands in this place; the others stay byte for byte. Nothing where the
    /// target has none of them.
    #[must_use]
    pub fn cut_from(self, target: &str) -> Option<String> {
        match self {
            Place::Header(_) => None,
            Place::Parameter(name) => without(target, |given| given == name),
            Place::Presigned(vendor) => {
                let prefix = format!("X-{vendor}-");
                without(target, |given| given.starts_with(&prefix))
            }
        }
    }
}

fn without(target: &str, is_credential: impl Fn(&str) -> bool) -> Option<String> {
    let (path, query) = target.split_once('?')?;
    let is_it = |parameter: &&str| parameter.split('=').next().is_some_and(&is_credential);
    if !query.split('&').any(|parameter| is_it(&parameter)) {
        return None;
    }
    let rest: Vec<&str> = query.split('&').filter(|parameter| !is_it(parameter)).collect();
    Some(if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) })
}

/// Something the host must do for an allow to count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obligation {
    /// Insert `key` into the replay cache until `until`, atomically and only if it is absent; else deny.
    Once {
        /// What identifies the use.
        key: [u8; 32],
        /// How long it must be remembered.
        until: UnixTime,
    },
}

impl<'a> Details<'a> {
    /// Details of which only the facts are known.
    #[must_use]
    pub fn of(facts: Facts<'a>) -> Self {
        Details { facts, strip: None, observed: Vec::new(), obligations: Vec::new(), challenge: "" }
    }

    /// The header fields that an allow sets on the forwarded request, after every field that begins with
    /// [`RESERVED_HEADER_PREFIX`] has been dropped: the tenant, the credential's id and kind, the endpoint.
    pub fn headers_to_set(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let facts = self.facts;
        let credential = facts.credential.map(|credential| (credential.id, credential.kind.as_str()));
        let (id, kind) = credential.unwrap_or_default();
        [
            ("x-portcullis-tenant", facts.tenant),
            ("x-portcullis-credential", id),
            ("x-portcullis-kind", kind),
            ("x-portcullis-endpoint", facts.endpoint),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
    }

    /// Packs the details. Layout, little-endian: the facts; the place (u8 0 none, 1 header, 2 parameter, 3 presigned, then its name);
    /// u8 number of observed reasons, each a u16; u8 number of obligations, each key \[32\] and until u64; the challenge.
    /// Texts stand behind u16 lengths.
    pub fn pack(&self, out: &mut Vec<u8>) {
        self.facts.pack(out);
        let (place, name) = match self.strip {
            None => (0, ""),
            Some(Place::Header(name)) => (1, name),
            Some(Place::Parameter(name)) => (2, name),
            Some(Place::Presigned(vendor)) => (3, vendor),
        };
        out.push(place);
        put_text(out, name);
        let observed = self.observed.iter().take(usize::from(u8::MAX));
        out.push(u8::try_from(observed.len()).unwrap_or(u8::MAX));
        for reason in observed {
            out.extend_from_slice(&reason.number().to_le_bytes());
        }
        let obligations = self.obligations.iter().take(usize::from(u8::MAX));
        out.push(u8::try_from(obligations.len()).unwrap_or(u8::MAX));
        for Obligation::Once { key, until } in obligations {
            out.extend_from_slice(key);
            out.extend_from_slice(&until.as_secs().to_le_bytes());
        }
        put_text(out, self.challenge);
    }

    /// Reads packed details.
    ///
    /// # Errors
    /// Where `bytes` are not exactly packed details, or are longer than [`MAX_DETAILS_BYTES`].
    pub fn unpack(bytes: &'a [u8]) -> Result<Self, DetailsMalformed> {
        if bytes.len() > MAX_DETAILS_BYTES {
            return Err(DetailsMalformed);
        }
        Self::read(bytes).map_err(|Unreadable| DetailsMalformed)
    }

    fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let facts = Facts::read(&mut reader)?;
        let (place, name) = (reader.u8()?, reader.text()?);
        let strip = match place {
            0 => None,
            1 => Some(Place::Header(name)),
            2 => Some(Place::Parameter(name)),
            3 => Some(Place::Presigned(name)),
            _ => return Err(Unreadable),
        };
        let observed = (0..reader.u8()?)
            .map(|_| reader.u16().and_then(|number| Reason::from_number(number).ok_or(Unreadable)))
            .collect::<Result<_, _>>()?;
        let obligations = (0..reader.u8()?)
            .map(|_| {
                let key = reader.array()?;
                let until = UnixTime::from_secs(reader.u64()?).ok_or(Unreadable)?;
                Ok(Obligation::Once { key, until })
            })
            .collect::<Result<_, _>>()?;
        let challenge = reader.text()?;
        reader.end()?;
        Ok(Details { facts, strip, observed, obligations, challenge })
    }
}

/// Bytes that are not packed details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not packed details of an answer")]
pub struct DetailsMalformed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Kind;
    use crate::facts::{CredentialFacts, Proof};
    use crate::id::Revision;

    fn details() -> Details<'static> {
        let now = UnixTime::from_secs(1_700_000_000).unwrap();
        let facts = Facts {
            tenant: "acme",
            endpoint: "shop/events",
            credential: Some(CredentialFacts { id: "k1", kind: Kind::Tenant, proof: Proof::Key, secret_version: 1 }),
            ..Facts::unknown(Revision(1), now, "::1".parse().unwrap())
        };
        Details {
            strip: Some(Place::Header("x-api-key")),
            observed: vec![Reason::SignatureRequired],
            obligations: vec![Obligation::Once { key: [7; 32], until: now }],
            challenge: "ApiKey realm=\"shop\"",
            ..Details::of(facts)
        }
    }

    #[test]
    fn details_survive_packing_and_no_cut_does() {
        let details = details();
        let mut bytes = Vec::new();
        details.pack(&mut bytes);
        assert_eq!(Details::unpack(&bytes), Ok(details));
        for end in 0..bytes.len() {
            assert_eq!(Details::unpack(&bytes[..end]), Err(DetailsMalformed));
        }
        bytes.resize(MAX_DETAILS_BYTES + 1, 0);
        assert_eq!(Details::unpack(&bytes), Err(DetailsMalformed));
    }

    #[test]
    fn an_allow_names_who_and_what() {
        let set: Vec<_> = details().headers_to_set().collect();
        assert_eq!(
            set,
            [
                ("x-portcullis-tenant", "acme"),
                ("x-portcullis-credential", "k1"),
                ("x-portcullis-kind", "tenant"),
                ("x-portcullis-endpoint", "shop/events"),
            ]
        );
    }

    #[test]
    fn a_parameter_is_cut_out_and_the_rest_stays() {
        for (target, expected) in [
            ("/a?api_key=k", Some("/a")),
            ("/a?api_key", Some("/a")),
            ("/a?api_key=k&b=%41", Some("/a?b=%41")),
            ("/a?b=+&api_key=k==&c", Some("/a?b=+&c")),
            ("/a?b&&api_key=k&", Some("/a?b&&")),
            ("/a?b=1", None),
            ("/a?xapi_key=1&api_keys=2", None),
            ("/a?", None),
            ("/a", None),
        ] {
            assert_eq!(Place::Parameter("api_key").cut_from(target).as_deref(), expected, "{target}");
        }
        let presigned = "/a?X-Ems-Date=1&b&X-Ems-Signature=2&X-Ems=3";
        assert_eq!(Place::Presigned("Ems").cut_from(presigned).as_deref(), Some("/a?b&X-Ems=3"));
        assert_eq!(Place::Header("api_key").cut_from("/a?api_key=k"), None);
    }
}
