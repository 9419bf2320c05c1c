//! What comes with a verdict: everything the host needs to act on it and to record it.

use crate::facts::{FIXED_BYTES, Facts, FactsOf, length};
use crate::packed::{Reader, Texts, Unreadable, Writer};
use crate::time::UnixTime;
use crate::verdict::Reason;

/// Inbound header fields whose names begin so are dropped from every request before an allow's own are set.
pub const RESERVED_HEADER_PREFIX: &str = "x-portcullis-";

/// The most bytes of packed [`Details`] that a host accepts from the guest: a head's texts and their lengths.
pub const MAX_DETAILS_BYTES: usize = 32 * 1024;

/// The most observed reasons, and the most obligations, that are packed.
const MAX_LISTED: usize = u8::MAX as usize;

/// What comes with a verdict. As [`FactsOf`] it has bytes inside the gate, and elsewhere, as [`Details`], text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetailsOf<T> {
    /// What was established.
    pub facts: FactsOf<T>,
    /// The credential's place, which an allow strips from the forwarded request.
    pub strip: Option<PlaceOf<T>>,
    /// What would have been a denial where a check is observed but not enforced.
    pub observed: Vec<Reason>,
    /// What the host must do before an allow counts.
    pub obligations: Vec<Obligation>,
    /// The value of `WWW-Authenticate` for a denial with status 401, and for one with status 403 where an access token lacks
    /// a scope (RFC 6750 section 3.1); else empty.
    pub challenge: T,
}

/// What comes with a verdict, as text.
pub type Details<'a> = DetailsOf<&'a str>;

/// Where a credential stands in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlaceOf<T> {
    /// The header field of that name.
    Header(T),
    /// The query parameter of that name.
    Parameter(T),
    /// The query parameters of a presigned URL: of the vendor key `Antavo` those that begin with `X-Antavo-`.
    Presigned(T),
}

/// Where a credential stands in a request, as text.
pub type Place<'a> = PlaceOf<&'a str>;

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

impl<T: Copy + Default> DetailsOf<T> {
    /// Details of which only the facts are known.
    #[must_use]
    pub fn of(facts: FactsOf<T>) -> Self {
        DetailsOf { facts, strip: None, observed: Vec::new(), obligations: Vec::new(), challenge: T::default() }
    }
}

impl<T: AsRef<[u8]> + Copy + Default> DetailsOf<T> {
    /// Packs the details in place of what `out` holds. Layout, little-endian: the facts but for their texts; the place (u8 0 none, 1
    /// header, 2 parameter, 3 presigned); u8 number of observed reasons; u8 number of obligations; the lengths as u16 of the
    /// place's name and of the challenge; each observed reason, a u16; each obligation, key \[32\] and until u64; then the
    /// texts: those of the facts, the place's name, the challenge.
    ///
    /// # Errors
    /// Where a text is not UTF-8. `out` is then of no use.
    #[inline(never)]
    pub fn pack(&self, out: &mut Vec<u8>) -> Result<(), DetailsMalformed> {
        let (place, name) = match &self.strip {
            None => (0, &[][..]),
            Some(PlaceOf::Header(name)) => (1, name.as_ref()),
            Some(PlaceOf::Parameter(name)) => (2, name.as_ref()),
            Some(PlaceOf::Presigned(vendor)) => (3, vendor.as_ref()),
        };
        let challenge = self.challenge.as_ref();
        let observed = self.observed.get(..MAX_LISTED).unwrap_or(&self.observed);
        let obligations = self.obligations.get(..MAX_LISTED).unwrap_or(&self.obligations);
        let of_facts = self.facts.texts();
        let lists = observed.len() * 2 + obligations.len() * 40;
        let texts = length(&of_facts) + name.len() + challenge.len();
        let mut writer = Writer::new(out, FIXED_BYTES + 7 + lists + texts);
        self.facts.fixed(&of_facts, &mut writer);
        let counts = [observed.len(), obligations.len()].map(|count| u8::try_from(count).unwrap_or(u8::MAX));
        let [observed_count, obligation_count] = counts;
        writer.put(&[place, observed_count, obligation_count]);
        writer.lengths(&[name, challenge]);
        for reason in observed {
            writer.put(&reason.number().to_le_bytes());
        }
        for Obligation::Once { key, until } in obligations {
            writer.put(key);
            writer.put(&until.as_secs().to_le_bytes());
        }
        let [method, host, path, service, endpoint, application, tenant, id, token, scope, audience] = of_facts;
        let texts =
            [method, host, path, service, endpoint, application, tenant, id, token, scope, audience, name, challenge];
        writer.texts(&texts).map_err(|Unreadable| DetailsMalformed)
    }
}

impl<'a> Details<'a> {
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
        let (facts, lengths) = Facts::read(&mut reader)?;
        let [place, observed, obligations] = reader.array()?;
        let (name, challenge) = (reader.u16()?, reader.u16()?);
        let observed = (0..observed)
            .map(|_| reader.u16().and_then(|number| Reason::from_number(number).ok_or(Unreadable)))
            .collect::<Result<_, _>>()?;
        let obligations = (0..obligations)
            .map(|_| {
                let key = reader.array()?;
                let until = UnixTime::from_secs(reader.u64()?).ok_or(Unreadable)?;
                Ok(Obligation::Once { key, until })
            })
            .collect::<Result<_, _>>()?;
        let mut texts = Texts::read(reader)?;
        let facts = facts.with(lengths, &mut texts)?;
        let (name, challenge) = (texts.next(name)?, texts.next(challenge)?);
        texts.end()?;
        let strip = match place {
            0 if name.is_empty() => None,
            1 => Some(Place::Header(name)),
            2 => Some(Place::Parameter(name)),
            3 => Some(Place::Presigned(name)),
            _ => return Err(Unreadable),
        };
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
        details.pack(&mut bytes).unwrap();
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
