//! The records of a policy, read in place.

use super::Unreadable;
use super::format::{NONE, Section, long, word};
use super::layers::{Layer, Policy};
use super::paths::{PathTable, Segments, Target};
use super::ranges::Ranges;
use crate::credential::{Kind, SecretDigest};
use crate::method::{Method, Methods};

pub use crate::source::{ReplayMode, SignatureMode, TokenRevocation};

/// A kind of record that others refer to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Symbol {
    Tenant,
    Service,
    Endpoint,
    Group,
    User,
}

impl Symbol {
    pub(crate) const COUNT: usize = 5;
    pub(crate) const ALL: [Symbol; Symbol::COUNT] =
        [Symbol::Tenant, Symbol::Service, Symbol::Endpoint, Symbol::Group, Symbol::User];

    pub(crate) fn section(self) -> Section {
        match self {
            Symbol::Tenant => Section::Tenants,
            Symbol::Service => Section::Services,
            Symbol::Endpoint => Section::Endpoints,
            Symbol::Group => Section::Groups,
            Symbol::User => Section::Users,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Symbol::Tenant => "tenant",
            Symbol::Service => "service",
            Symbol::Endpoint => "endpoint",
            Symbol::Group => "group",
            Symbol::User => "user",
        }
    }
}

/// The layer that a record is in: its references are numbers there.
#[derive(Clone, Copy)]
pub(crate) struct Here<'p> {
    pub(crate) policy: &'p Policy,
    pub(crate) layer: &'p Layer,
}

impl<'p> Here<'p> {
    /// An id, which is never empty: a damaged one must not pass for nobody's.
    fn id(self, record: &[u8], at: usize) -> Result<&'p str, Unreadable> {
        str::from_utf8(self.raw_id(record, at)?).map_err(|_| Unreadable)
    }

    #[inline]
    fn raw_id(self, record: &[u8], at: usize) -> Result<&'p [u8], Unreadable> {
        self.raw_text(record, at).and_then(|id| if id.is_empty() { Err(Unreadable) } else { Ok(id) })
    }

    #[inline]
    fn raw_text(self, record: &[u8], at: usize) -> Result<&'p [u8], Unreadable> {
        self.layer.fragment.raw_text(word(record, at)?)
    }

    fn text(self, record: &[u8], at: usize) -> Result<&'p str, Unreadable> {
        self.layer.fragment.text(word(record, at)?)
    }

    fn list<const N: usize>(self, record: &[u8], at: usize) -> Result<&'p [[u8; N]], Unreadable> {
        self.layer.fragment.list(word(record, at)?)
    }
}

/// The most ways in which one service accepts credentials: each is looked for in every request.
pub const MAX_ACCEPTED: usize = 8;

/// The most versions of a secret that stand at once: the one in use, and the one before while a rotation overlaps.
pub(crate) const MAX_SECRETS: usize = 2;

/// Bits of a tenant's flags.
pub(crate) const TENANT_SUSPENDED: u32 = 1 << 8;
pub(crate) const TENANT_IP_FILTER: u32 = 1 << 9;
pub(crate) const TENANT_SIGNATURE_CHECK: u32 = 1 << 10;
pub(crate) const TENANT_ISSUANCE_ONLY: u32 = 1 << 11;
/// Bits of an endpoint's flags.
pub(crate) const ENDPOINT_PER_APPLICATION: u32 = 1 << 8;
pub(crate) const ENDPOINT_TOKEN: u32 = 1 << 9;
/// Bits of a user's flags.
pub(crate) const USER_DISABLED: u32 = 1 << 8;
pub(crate) const USER_MEMBER: u32 = 1 << 9;
/// Bits of a credential's flags: the kind's code in the second byte, the version in the upper half.
pub(crate) const CREDENTIAL_REVOKED: u32 = 1 << 15;
pub(crate) const CREDENTIAL_INDEPENDENT: u32 = 1 << 14;
pub(crate) const CREDENTIAL_SIGNED_ONLY: u32 = 1 << 13;
/// The expiry of what never ends.
pub(crate) const NEVER: u64 = u64::MAX;

/// A service.
#[derive(Clone, Copy)]
pub struct Service<'p> {
    pub(crate) here: Here<'p>,
    pub(crate) record: &'p [u8; 24],
}

/// One way in which a service accepts a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accept<'p> {
    /// Where the credential stands.
    pub place: Place,
    name: &'p [u8],
    kinds: u32,
}

/// What holds a credential in a request, by a name of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The value of a header field; its name is in lower case.
    Header,
    /// The value of a query parameter.
    Parameter,
    /// The Authorization header, behind a scheme that is compared without regard to case.
    Scheme,
    /// A signature by the profile of that id.
    Signature,
    /// An access token in the Authorization header, behind a scheme.
    Token,
    /// A client's id and secret in the Authorization header, behind a scheme.
    Client,
}

impl<'p> Accept<'p> {
    /// The name of the field, the parameter, the scheme or the profile, as its bytes.
    #[must_use]
    pub fn raw_name(&self) -> &'p [u8] {
        self.name
    }

    /// The name of the field, the parameter, the scheme or the profile.
    pub fn name(&self) -> Result<&'p str, Unreadable> {
        std::str::from_utf8(self.name).map_err(|_| Unreadable)
    }

    /// Whether a credential of that kind may be presented so.
    #[must_use]
    pub fn takes(&self, kind: Kind) -> bool {
        self.kinds & kind_bit(kind) != 0
    }
}

pub(crate) fn kind_bit(kind: Kind) -> u32 {
    1 << kind.code()
}

impl<'p> Service<'p> {
    /// Its id.
    pub fn id(&self) -> Result<&'p str, Unreadable> {
        self.here.id(self.record, 0)
    }

    /// The same as its bytes, not yet known to be text.
    #[inline]
    pub fn raw_id(&self) -> Result<&'p [u8], Unreadable> {
        self.here.raw_id(self.record, 0)
    }

    /// Whether a proven credential of `tenant` may be used here at all: the service is shared, or pinned to that tenant.
    pub fn serves(&self, tenant: &Tenant<'_>) -> Result<bool, Unreadable> {
        let pinned = word(self.record, 8)?;
        Ok(pinned == NONE || self.here.layer.slot(Symbol::Tenant, pinned)? == tenant.slot()?)
    }

    /// The id of the tenant that the service is pinned to.
    pub fn pinned(&self) -> Result<Option<&'p str>, Unreadable> {
        let pinned = word(self.record, 8)?;
        if pinned == NONE {
            return Ok(None);
        }
        self.here.tenant(pinned)?.map(|tenant| tenant.id()).transpose()
    }

    /// The ways in which a credential may be presented; at most [`MAX_ACCEPTED`].
    pub fn accepts(&self) -> Result<impl Iterator<Item = Result<Accept<'p>, Unreadable>> + use<'p>, Unreadable> {
        let here = self.here;
        let entries = here.list::<12>(self.record, 12)?;
        if entries.len() > MAX_ACCEPTED {
            return Err(Unreadable);
        }
        Ok(entries.iter().map(move |entry| {
            let place = match word(entry, 0)? {
                1 => Place::Header,
                2 => Place::Parameter,
                3 => Place::Scheme,
                4 => Place::Signature,
                5 => Place::Token,
                6 => Place::Client,
                _ => return Err(Unreadable),
            };
            Ok(Accept { place, name: here.layer.fragment.raw_text(word(entry, 4)?)?, kinds: word(entry, 8)? })
        }))
    }

    /// The most specific endpoint for a path that has this method, or what kept it from being found.
    pub fn endpoint(
        &self,
        path: &Segments<'_>,
        method: Option<Method>,
    ) -> Result<Result<Matched<'p>, NoMatch>, Unreadable> {
        let table = PathTable::open(&self.here.layer.fragment, word(self.record, 16)?)?;
        let mut path_known = false;
        let target = table.find(path, |target| {
            path_known = true;
            method.is_some_and(|method| target.methods.contains(method))
        })?;
        let Some(target) = target else {
            return Ok(Err(if path_known { NoMatch::Method } else { NoMatch::Path }));
        };
        Ok(Ok(Matched { endpoint: self.here.endpoint(target.record)?, target }))
    }

    /// The value of `WWW-Authenticate` where a credential is wanting.
    pub fn challenge(&self) -> Result<&'p str, Unreadable> {
        self.here.text(self.record, 20)
    }
}

/// An endpoint and the pattern by which it was found.
#[derive(Clone, Copy)]
pub struct Matched<'p> {
    /// The endpoint.
    pub endpoint: Endpoint<'p>,
    /// The pattern.
    pub target: Target,
}

/// Why no endpoint was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoMatch {
    /// None has the path.
    Path,
    /// Those with the path lack the method.
    Method,
}

/// An endpoint of a service.
#[derive(Clone, Copy)]
pub struct Endpoint<'p> {
    pub(crate) here: Here<'p>,
    pub(crate) number: u32,
    pub(crate) record: &'p [u8; 20],
}

impl<'p> Endpoint<'p> {
    /// Its name as `service/endpoint`.
    pub fn id(&self) -> Result<&'p str, Unreadable> {
        self.here.id(self.record, 0)
    }

    /// The same as its bytes, not yet known to be text.
    #[inline]
    pub fn raw_id(&self) -> Result<&'p [u8], Unreadable> {
        self.here.raw_id(self.record, 0)
    }

    /// Its display name.
    pub fn name(&self) -> Result<&'p str, Unreadable> {
        self.here.text(self.record, 8)
    }

    /// Whether it works with individual applications.
    pub fn is_per_application(&self) -> Result<bool, Unreadable> {
        Ok(word(self.record, 4)? & ENDPOINT_PER_APPLICATION != 0)
    }

    /// Whether it takes a client's id and secret, and nothing else.
    pub fn is_token_endpoint(&self) -> Result<bool, Unreadable> {
        Ok(word(self.record, 4)? & ENDPOINT_TOKEN != 0)
    }

    /// The scope that an access token needs; empty where it needs none.
    pub fn scope(&self) -> Result<&'p str, Unreadable> {
        self.here.text(self.record, 12)
    }

    /// The audience that an access token needs: its own, or the id of its service.
    pub fn audience(&self) -> Result<&'p str, Unreadable> {
        let own = self.here.text(self.record, 16)?;
        if !own.is_empty() {
            return Ok(own);
        }
        self.id()?.split_once('/').map(|(service, _)| service).ok_or(Unreadable)
    }

    fn slot(&self) -> Result<u32, Unreadable> {
        self.here.layer.slot(Symbol::Endpoint, self.number)
    }

    /// Its number in a layer, where that layer names it.
    fn number_in(&self, layer: &Layer) -> Result<Option<u32>, Unreadable> {
        Ok(layer.number(Symbol::Endpoint, self.slot()?))
    }

    /// The entry for this endpoint in a list that is sorted by endpoint.
    fn find_in<const N: usize>(&self, layer: &Layer, list: &'p [[u8; N]]) -> Result<Option<&'p [u8; N]>, Unreadable> {
        let Some(number) = self.number_in(layer)? else { return Ok(None) };
        let found = list.binary_search_by_key(&number, |entry| word(entry, 0).unwrap_or(NONE));
        Ok(found.ok().and_then(|at| list.get(at)))
    }
}

/// A tenant.
#[derive(Clone, Copy)]
pub struct Tenant<'p> {
    pub(crate) here: Here<'p>,
    pub(crate) number: u32,
    pub(crate) record: &'p [u8; 16],
}

/// What a tenant has set for an endpoint, as far as its modules are enabled.
#[derive(Clone, Copy)]
pub struct Settings<'p> {
    /// The addresses that may use the endpoint; any where nothing is set.
    pub ranges: Option<Ranges<'p>>,
    /// Whether requests must be signed.
    pub signature: SignatureMode,
    /// Whether a signed request is accepted once only.
    pub replay: ReplayMode,
}

impl<'p> Tenant<'p> {
    /// Its id.
    pub fn id(&self) -> Result<&'p str, Unreadable> {
        self.here.id(self.record, 0)
    }

    /// The same as its bytes, not yet known to be text.
    #[inline]
    pub fn raw_id(&self) -> Result<&'p [u8], Unreadable> {
        self.here.raw_id(self.record, 0)
    }

    /// Whether its credentials work at present.
    pub fn is_active(&self) -> Result<bool, Unreadable> {
        Ok(word(self.record, 4)? & TENANT_SUSPENDED == 0)
    }

    /// Its settings for an endpoint. Those of a module that is not enabled are left out.
    pub fn settings(&self, endpoint: &Endpoint<'p>) -> Result<Settings<'p>, Unreadable> {
        let mut settings = Settings { ranges: None, signature: SignatureMode::Off, replay: ReplayMode::Auto };
        let flags = word(self.record, 4)?;
        let layer = self.here.layer;
        let list = self.here.list::<12>(self.record, 8)?;
        let Some(entry) = endpoint.find_in(layer, list)? else {
            return Ok(settings);
        };
        if flags & TENANT_IP_FILTER != 0 {
            settings.ranges = Ranges::open(&layer.fragment, word(entry, 4)?)?;
        }
        if flags & TENANT_SIGNATURE_CHECK != 0 {
            let [signature, replay, ..] = word(entry, 8)?.to_le_bytes();
            settings.signature = match signature {
                0 => SignatureMode::Off,
                1 => SignatureMode::Observed,
                2 => SignatureMode::Enforced,
                _ => return Err(Unreadable),
            };
            settings.replay = match replay {
                0 => ReplayMode::Auto,
                1 => ReplayMode::Once,
                2 => ReplayMode::Any,
                _ => return Err(Unreadable),
            };
        }
        Ok(settings)
    }

    /// The issuer that access tokens of its clients must name; empty where it has no tokens.
    pub fn token_issuer(&self) -> Result<&'p str, Unreadable> {
        self.here.text(self.record, 12)
    }

    /// What the end of a client does to the tokens that it has.
    pub fn token_revocation(&self) -> Result<TokenRevocation, Unreadable> {
        let is_issuance_only = word(self.record, 4)? & TENANT_ISSUANCE_ONLY != 0;
        Ok(if is_issuance_only { TokenRevocation::IssuanceOnly } else { TokenRevocation::AllTokens })
    }

    fn slot(&self) -> Result<u32, Unreadable> {
        self.here.layer.slot(Symbol::Tenant, self.number)
    }
}

/// A group.
#[derive(Clone, Copy)]
pub struct Group<'p> {
    pub(crate) here: Here<'p>,
    pub(crate) record: &'p [u8; 12],
}

impl<'p> Group<'p> {
    /// Its name as `tenant/group`.
    pub fn id(&self) -> Result<&'p str, Unreadable> {
        self.here.id(self.record, 0)
    }

    /// Whether it permits the method on the endpoint.
    pub fn permits(&self, endpoint: &Endpoint<'p>, method: Method) -> Result<bool, Unreadable> {
        let entry = endpoint.find_in(self.here.layer, self.here.list::<8>(self.record, 8)?)?;
        let Some(entry) = entry else { return Ok(false) };
        let methods = u8::try_from(word(entry, 4)?).map_err(|_| Unreadable)?;
        Ok(Methods::from_bits(methods).contains(method))
    }
}

/// A user on whom keys depend.
#[derive(Clone, Copy)]
pub struct User<'p> {
    pub(crate) here: Here<'p>,
    pub(crate) record: &'p [u8; 12],
}

impl<'p> User<'p> {
    /// The user's name as `tenant/user`.
    pub fn id(&self) -> Result<&'p str, Unreadable> {
        self.here.id(self.record, 0)
    }

    /// Whether the user may act at present.
    pub fn is_active(&self) -> Result<bool, Unreadable> {
        Ok(word(self.record, 4)? & USER_DISABLED == 0)
    }

    /// Whether the user may use the endpoint with the method now: an admin may, a member where the group permits it.
    pub fn may_use(&self, endpoint: &Endpoint<'p>, method: Method) -> Result<bool, Unreadable> {
        if word(self.record, 4)? & USER_MEMBER == 0 {
            return Ok(true);
        }
        let group = word(self.record, 8)?;
        if group == NONE {
            return Ok(false);
        }
        match self.here.group(group)? {
            Some(group) => group.permits(endpoint, method),
            None => Ok(false),
        }
    }
}

/// One version of a credential's secret, with the rules of the credential.
#[derive(Clone, Copy)]
pub struct Credential<'p> {
    pub(crate) here: Here<'p>,
    pub(crate) record: &'p [u8; 64],
}

/// What a credential's kind adds.
#[derive(Clone, Copy)]
pub enum Grant<'p> {
    /// The whole tenant.
    Workspace,
    /// What a group permits, from an allowlist of addresses.
    Tenant {
        /// The group; nothing where it is gone.
        group: Option<Group<'p>>,
        /// The addresses; any where nothing is set.
        allowlist: Option<Ranges<'p>>,
    },
    /// Chosen endpoints and applications.
    Management {
        /// Who made it; nothing where it stands by itself.
        creator: Option<Creator<'p>>,
        /// The endpoints.
        endpoints: EndpointSet<'p>,
        /// The applications; all where nothing is chosen.
        applications: Option<ApplicationSet<'p>>,
    },
    /// What the token's scopes and audiences open in the tenant.
    Client,
    /// What the person's profile permits now.
    Personal {
        /// The person.
        user: Creator<'p>,
    },
    /// A person's own matters.
    Session {
        /// The person.
        user: Creator<'p>,
        /// The endpoints.
        endpoints: EndpointSet<'p>,
    },
}

/// The maker of a key that follows its creator.
#[derive(Clone, Copy)]
pub enum Creator<'p> {
    /// Still there.
    Present(User<'p>),
    /// Deleted.
    Gone,
}

/// What a credential signs with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signer<'p> {
    /// The id of the profile.
    pub profile: &'p str,
    /// Where its day keys are in the key sheets.
    pub slot: u32,
}

/// A set of endpoints.
#[derive(Clone, Copy)]
pub struct EndpointSet<'p> {
    here: Here<'p>,
    list: &'p [[u8; 4]],
}

impl<'p> EndpointSet<'p> {
    /// Whether the endpoint is in the set.
    pub fn contains(&self, endpoint: &Endpoint<'p>) -> Result<bool, Unreadable> {
        Ok(endpoint.find_in(self.here.layer, self.list)?.is_some())
    }
}

/// A set of application ids.
#[derive(Clone, Copy)]
pub struct ApplicationSet<'p> {
    here: Here<'p>,
    list: &'p [[u8; 4]],
}

impl ApplicationSet<'_> {
    /// Whether the application is in the set.
    pub fn contains(&self, application: &[u8]) -> Result<bool, Unreadable> {
        let mut unreadable = None;
        let found = self.list.binary_search_by(|entry| {
            let text = self.here.raw_text(entry, 0).unwrap_or_else(|error| {
                unreadable = Some(error);
                &[]
            });
            text.cmp(application)
        });
        unreadable.map_or(Ok(found.is_ok()), Err)
    }
}

impl<'p> Credential<'p> {
    /// Its internal id.
    pub fn id(&self) -> Result<&'p str, Unreadable> {
        self.here.id(self.record, 32)
    }

    /// The same as its bytes, not yet known to be text.
    #[inline]
    pub fn raw_id(&self) -> Result<&'p [u8], Unreadable> {
        self.here.raw_id(self.record, 32)
    }

    /// Which version of its secret this is.
    #[must_use]
    pub fn version(&self) -> u16 {
        let [.., low, high] = self.flags().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Its kind.
    pub fn kind(&self) -> Result<Kind, Unreadable> {
        let [_, kind, ..] = self.flags().to_le_bytes();
        Kind::from_code(kind & 0x1f).ok_or(Unreadable)
    }

    /// The tenant it belongs to; nothing where that is gone.
    pub fn tenant(&self) -> Result<Option<Tenant<'p>>, Unreadable> {
        self.here.tenant(word(self.record, 36)?)
    }

    /// Whether it has been revoked.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.flags() & CREDENTIAL_REVOKED != 0
    }

    /// The first second at which it no longer works.
    pub fn expires(&self) -> Result<Option<u64>, Unreadable> {
        let expires = long(self.record, 48)?;
        Ok((expires != NEVER).then_some(expires))
    }

    /// Whether it is proven by signatures alone.
    #[must_use]
    pub fn is_signed_only(&self) -> bool {
        self.flags() & CREDENTIAL_SIGNED_ONLY != 0
    }

    /// What signs with it: the profile's id and the place of its day keys. Nothing where it does not sign.
    pub fn signer(&self) -> Result<Option<Signer<'p>>, Unreadable> {
        if self.kind()? != Kind::Workspace {
            return Ok(None);
        }
        let (slot, profile) = (word(self.record, 44)?, self.here.text(self.record, 56)?);
        Ok((slot != NONE && !profile.is_empty()).then_some(Signer { profile, slot }))
    }

    /// What its kind adds.
    pub fn grant(&self) -> Result<Grant<'p>, Unreadable> {
        let (a, b, c) = (word(self.record, 44)?, word(self.record, 56)?, word(self.record, 60)?);
        match self.kind()? {
            Kind::Workspace => Ok(Grant::Workspace),
            Kind::Tenant => {
                Ok(Grant::Tenant { group: self.here.group(a)?, allowlist: Ranges::open(&self.here.layer.fragment, b)? })
            }
            Kind::Management => {
                let creator = if self.flags() & CREDENTIAL_INDEPENDENT == 0 {
                    Some(self.here.user(a)?.map_or(Creator::Gone, Creator::Present))
                } else {
                    None
                };
                let fragment = &self.here.layer.fragment;
                let endpoints = EndpointSet { here: self.here, list: fragment.list(b)? };
                let applications =
                    if c == 0 { None } else { Some(ApplicationSet { here: self.here, list: fragment.list(c)? }) };
                Ok(Grant::Management { creator, endpoints, applications })
            }
            Kind::Session => Ok(Grant::Session {
                user: self.here.user(a)?.map_or(Creator::Gone, Creator::Present),
                endpoints: EndpointSet { here: self.here, list: self.here.layer.fragment.list(b)? },
            }),
            Kind::Personal => Ok(Grant::Personal { user: self.here.user(a)?.map_or(Creator::Gone, Creator::Present) }),
            Kind::Client => Ok(Grant::Client),
        }
    }

    pub(crate) fn digest(&self) -> SecretDigest {
        SecretDigest::new(self.record.first_chunk().copied().unwrap_or_default())
    }

    fn flags(&self) -> u32 {
        // The place lies within the record's 64 bytes.
        word(self.record, 40).unwrap_or(CREDENTIAL_REVOKED)
    }
}
