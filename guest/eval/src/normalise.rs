//! The one normaliser: it accepts a request or refuses it, and never rewrites.
//!
//! Wherever two servers might read the same bytes differently, the request is refused, so that what is decided here is what
//! the upstream sees. Matching uses the path's segments decoded once; everything else uses the bytes as they came.

use std::borrow::Cow;

use portcullis_model::answer::RESERVED_HEADER_PREFIX;
use portcullis_model::head::{Packed, length_bit};
use portcullis_model::method::Method;
use portcullis_model::policy::{Accept, MAX_SEGMENTS, Place, Policy, Segments, Service};
use portcullis_model::sweep::{self, Lanes};
use portcullis_model::verdict::Reason;

use crate::signature;

/// The longest method in bytes: it is one of the facts, which must fit an answer. The longest that is registered has 17.
const MAX_METHOD_BYTES: usize = 32;
/// The longest host name in bytes (RFC 1035 section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// A request that has been accepted as unambiguous.
pub(crate) struct Request<'a> {
    head: Packed<'a>,
    /// The method, which may be one that no endpoint can have.
    pub(crate) method: &'a [u8],
    /// Lower case, without a port.
    pub(crate) host: Cow<'a, [u8]>,
    pub(crate) path: Path<'a>,
    query: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    connection: bool,
    pub(crate) hops: Hops,
}

/// An accepted path.
pub(crate) struct Path<'a> {
    /// As received, without the query.
    pub(crate) wire: &'a [u8],
    /// Decoded once, without the first slash, in UTF-8. An encoded slash is refused, so its slashes are the path's.
    decoded: Cow<'a, [u8]>,
}

/// Which header fields tell of proxies before this one.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hops {
    pub(crate) forwarded: bool,
    pub(crate) x_forwarded_for: bool,
}

/// A credential as it was presented. Nothing is proven yet.
pub(crate) struct Presented<'a, 'p> {
    pub(crate) accept: Accept<'p>,
    /// Whether it is a signature in the URL.
    pub(crate) is_presigned: bool,
    pub(crate) key: Cow<'a, [u8]>,
}

impl<'a> Request<'a> {
    /// Accepts or refuses a head, by everything that does not depend on the service.
    #[inline(never)]
    pub(crate) fn accept(head: Packed<'a>) -> Result<Self, Reason> {
        let method = method(head.method)?;
        let (path, query) = target(head.target)?;
        if !names_are_tokens(head.names) || has_control(head.values) {
            return Err(Reason::HeaderMalformed);
        }
        let fields = Fields::find(&head)?;
        let host = host(fields.host, head.authority)?;
        let Fields { authorization, connection, hops, .. } = fields;
        Ok(Request { head, method, host, path, query, authorization, connection, hops })
    }

    /// The connection's other end.
    pub(crate) fn peer(&self) -> std::net::IpAddr {
        self.head.peer
    }

    /// The method, where an endpoint can have it.
    pub(crate) fn known_method(&self) -> Option<Method> {
        Method::from_name(self.method)
    }

    /// Whether no body follows.
    pub(crate) fn is_bodiless(&self) -> bool {
        self.head.bodiless
    }

    /// The value of Authorization, trimmed.
    pub(crate) fn authorization(&self) -> Option<&'a [u8]> {
        self.authorization
    }

    /// The query as it came, without its question mark.
    pub(crate) fn query(&self) -> Option<&'a [u8]> {
        self.query
    }

    /// The authority beside the Host field, where there is one.
    pub(crate) fn authority(&self) -> Option<&'a [u8]> {
        self.head.authority
    }

    /// The values of a signed header field, in order of arrival. The name is in lower case.
    ///
    /// # Errors
    /// Where a field has that name but for underscores, which many servers turn into hyphens.
    pub(crate) fn fields(&self, name: &[u8]) -> Result<Vec<&'a [u8]>, Reason> {
        let mut values = Vec::with_capacity(1);
        for (field, value) in self.head.headers_of(length_bit(name)) {
            if named(field, name)? {
                values.push(value);
            }
        }
        Ok(values)
    }

    /// The values of a header field, in order of arrival. The name is given in lower case.
    pub(crate) fn values(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let same_length = self.head.headers_of(length_bit(name.as_bytes()));
        let found: Vec<_> = same_length.filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).collect();
        found.into_iter().map(|(_, value)| value)
    }

    /// The one credential that the service accepts from this request, if there is one.
    #[inline(never)]
    pub(crate) fn presented<'p>(
        &self,
        service: &Service<'p>,
        policy: &'p Policy,
    ) -> Result<Option<Presented<'a, 'p>>, Reason> {
        let mut presented = None;
        for accept in service.accepts()? {
            let accept = accept?;
            let name = accept.raw_name();
            match accept.place {
                Place::Header => {
                    for (field, value) in self.head.headers_of(length_bit(name)) {
                        if named(field, name)? {
                            only_one(&mut presented, accept, Cow::Borrowed(trim(value)))?;
                        }
                    }
                }
                Place::Parameter => {
                    if let Some(key) = self.parameter_key(name)? {
                        only_one(&mut presented, accept, key)?;
                    }
                }
                Place::Scheme | Place::Token | Place::Client => {
                    if let Some(key) = self.authorization.and_then(|value| after_scheme(value, name)) {
                        only_one(&mut presented, accept, Cow::Borrowed(key))?;
                    }
                }
                Place::Signature => signature::present(self, &mut presented, accept, policy)?,
            }
        }
        if self.connection {
            self.connection_spares(service, policy)?;
        }
        Ok(presented)
    }

    /// Refuses a Connection field that names a header field in which the service accepts a credential.
    fn connection_spares(&self, service: &Service<'_>, policy: &Policy) -> Result<(), Reason> {
        for value in self.values("connection") {
            for accept in service.accepts()? {
                let accept = accept?;
                let names = match accept.place {
                    Place::Header => [accept.raw_name(), b"", b""],
                    Place::Signature => match policy.profile(accept.raw_name())? {
                        Some(profile) => {
                            [profile.auth_header, profile.date_header, profile.nonce_header].map(str::as_bytes)
                        }
                        None => continue,
                    },
                    Place::Parameter | Place::Scheme | Place::Token | Place::Client => continue,
                };
                if names.into_iter().any(|name| !name.is_empty() && lists(value, name)) {
                    return Err(Reason::ConnectionSecurity);
                }
            }
        }
        Ok(())
    }

    fn parameter_key(&self, name: &[u8]) -> Result<Option<Cow<'a, [u8]>>, Reason> {
        let Some(query) = self.query else { return Ok(None) };
        let mut key = None;
        for parameter in query.split(|b| *b == b'&') {
            // The name, or a disguise of it, which is never shorter than what it hides.
            if parameter.len() < name.len() {
                continue;
            }
            let end = parameter.iter().position(|b| *b == b'=').unwrap_or(parameter.len());
            let given = parameter.get(..end).unwrap_or_default();
            if given == name {
                if key.is_some() {
                    return Err(Reason::CredentialDoubled);
                }
                key = Some(form_decoded(parameter.get(end + 1..).unwrap_or_default()));
            } else if given.len() >= name.len() && is_disguised(given, name) {
                return Err(Reason::QueryDisguisedKey);
            }
        }
        Ok(key)
    }
}

impl<'a> Path<'a> {
    /// Accepts or refuses a path without a query.
    pub(crate) fn accept(wire: &'a [u8]) -> Result<Self, Reason> {
        let rest = wire.strip_prefix(b"/").ok_or(Reason::TargetNotOrigin)?;
        let (mut encoded, mut depth, mut start) = (false, 0, 1);
        for (at, &byte) in wire.iter().enumerate().skip(1) {
            match class(byte) {
                Class::Plain => {}
                Class::Slash => {
                    segment(wire.get(start..at).unwrap_or_default())?;
                    depth += 1;
                    start = at + 1;
                }
                Class::Percent => {
                    encoded = true;
                    encoded_in_path(percent(wire, at).ok_or(Reason::PercentMalformed)?)?;
                }
                Class::QueryOnly | Class::Refused => return Err(refused_character(byte)),
            }
        }
        if !rest.is_empty() {
            segment(wire.get(start..).unwrap_or_default())?;
            if depth >= MAX_SEGMENTS {
                return Err(Reason::PathTooDeep);
            }
        }
        let decoded = if encoded {
            let decoded = String::from_utf8(percent_decoded(rest)).map_err(|_| Reason::PathNotUtf8)?;
            Cow::Owned(decoded.into_bytes())
        } else {
            Cow::Borrowed(rest)
        };
        Ok(Path { wire, decoded })
    }

    /// Its decoded segments.
    #[inline(always)]
    pub(crate) fn segments(&self) -> Segments<'_> {
        Segments::of(&self.decoded)
    }

    /// The decoded segment of that number.
    pub(crate) fn segment(&self, number: u8) -> Option<&[u8]> {
        self.decoded.split(|b| *b == b'/').nth(usize::from(number))
    }
}

#[inline(always)]
fn method(bytes: &[u8]) -> Result<&[u8], Reason> {
    match bytes {
        _ if Method::from_name(bytes).is_some() => Ok(bytes),
        b"TRACE" | b"CONNECT" => Err(Reason::MethodRefused),
        [] => Err(Reason::MethodMalformed),
        _ if bytes.len() > MAX_METHOD_BYTES => Err(Reason::MethodMalformed),
        _ if !bytes.iter().all(|b| b.is_ascii_uppercase() || *b == b'-') => Err(Reason::MethodMalformed),
        _ => Ok(bytes),
    }
}

/// The path and the query of a target.
#[inline(never)]
fn target(bytes: &[u8]) -> Result<(Path<'_>, Option<&[u8]>), Reason> {
    if let Some(plain) = plain_target(bytes) { Ok(plain) } else { careful_target(bytes) }
}

/// The path and the query of a target in which nothing asks for a closer look: no character that is refused or encoded, no
/// segment that is empty or begins with a dot. Most are.
#[inline(always)]
fn plain_target(bytes: &[u8]) -> Option<(Path<'_>, Option<&[u8]>)> {
    let (mut end, mut behind_slash, mut depth) = (bytes.len(), 0, 0);
    for (number, block) in bytes.chunks(sweep::BLOCK).enumerate() {
        let [slash, dot, question, other] = sweep::masks(block, |lanes| {
            let [slash, dot, question] = [b'/', b'.', b'?'].map(|byte| sweep::equal(lanes, byte));
            [slash, dot, question, refused_in_query(lanes) | refused_in_path(lanes)]
        });
        let path = (question & question.wrapping_neg()).wrapping_sub(1);
        let behind = (slash << 1) | behind_slash;
        if (other | (behind & (slash | dot))) & path != 0 {
            return None;
        }
        depth += (slash & path).count_ones() as usize;
        behind_slash = slash >> (sweep::BLOCK - 1);
        if question != 0 {
            end = number * sweep::BLOCK + question.trailing_zeros() as usize;
            break;
        }
    }
    let (path, query) = (bytes.get(..end)?, bytes.get(end + 1..));
    let rest = path.strip_prefix(b"/")?;
    if rest.ends_with(b"/") || depth > MAX_SEGMENTS || query.is_some_and(|query| sweep::any(query, refused_in_query)) {
        return None;
    }
    Some((Path { wire: path, decoded: Cow::Borrowed(rest) }, query))
}

/// What no target has, and percent signs.
#[inline(always)]
fn refused_in_query(lanes: Lanes) -> Lanes {
    let outside = sweep::up_to(lanes, 0x20) | !sweep::up_to(lanes, 0x7e);
    b"\"#%;<>\\".iter().fold(outside, |found, byte| found | sweep::equal(lanes, *byte))
}

/// What a query has and no path, besides the question mark that is between them.
#[inline(always)]
fn refused_in_path(lanes: Lanes) -> Lanes {
    sweep::within(lanes, b'[', b'^') | sweep::equal(lanes, b'`') | sweep::within(lanes, b'{', b'}')
}

fn careful_target(bytes: &[u8]) -> Result<(Path<'_>, Option<&[u8]>), Reason> {
    // Bytes that are not UTF-8 are not ASCII either.
    std::str::from_utf8(bytes).map_err(|_| Reason::TargetNotAscii)?;
    let (path, query) = match bytes.iter().position(|b| *b == b'?') {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..)),
        None => (bytes, None),
    };
    let path = Path::accept(path)?;
    for (at, &byte) in bytes.iter().enumerate().skip(path.wire.len()) {
        match class(byte) {
            Class::Plain | Class::Slash | Class::QueryOnly => {}
            Class::Percent => match percent(bytes, at) {
                None => return Err(Reason::PercentMalformed),
                Some(0) => return Err(Reason::EncodedNul),
                Some(_) => {}
            },
            Class::Refused => return Err(refused_character(byte)),
        }
    }
    Ok((path, query))
}

/// What a byte is in a target.
#[derive(Clone, Copy)]
enum Class {
    Plain,
    Slash,
    Percent,
    QueryOnly,
    Refused,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0;
    while byte < 256 {
        // RFC 3986 pchar. Browsers leave the second group as it is in a query (WHATWG URL, query percent-encode set).
        #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a constant over every byte")]
        {
            classes[byte] = match byte as u8 {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => Class::Plain,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => Class::Plain,
                b'?' | b'{' | b'}' | b'|' | b'^' | b'`' | b'[' | b']' => Class::QueryOnly,
                b'/' => Class::Slash,
                b'%' => Class::Percent,
                _ => Class::Refused,
            };
        }
        byte += 1;
    }
    classes
};

#[inline]
#[expect(clippy::indexing_slicing, reason = "the table has an entry for every byte")]
fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

fn segment(segment: &[u8]) -> Result<(), Reason> {
    match segment {
        [] => Err(Reason::PathEmptySegment),
        [b'.'] | [b'.', b'.'] => Err(Reason::PathDotSegment),
        _ => Ok(()),
    }
}

fn encoded_in_path(value: u8) -> Result<(), Reason> {
    match value {
        0 => Err(Reason::EncodedNul),
        1..0x20 | 0x7f => Err(Reason::PathEncodedControl),
        b'/' | b'\\' => Err(Reason::PathEncodedSlash),
        b'%' => Err(Reason::PathEncodedPercent),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Err(Reason::PathEncodedUnreserved),
        _ => Ok(()),
    }
}

fn refused_character(byte: u8) -> Reason {
    match byte {
        0x80.. => Reason::TargetNotAscii,
        b'#' => Reason::TargetFragment,
        b';' => Reason::TargetSemicolon,
        b'\\' => Reason::TargetBackslash,
        _ => Reason::TargetCharacter,
    }
}

/// The byte that the `%` at this place stands for.
pub(crate) fn percent(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(at + 1)? << 4) | digit(at + 2)?)
}

/// Decodes text whose percent-encoding has been accepted.
fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match percent(bytes, at).filter(|_| byte == b'%') {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Decodes a form-encoded value, where `+` is a space.
pub(crate) fn form_decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.iter().any(|b| *b == b'%' || *b == b'+') {
        return Cow::Borrowed(value);
    }
    let spaced: Vec<u8> = value.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    Cow::Owned(percent_decoded(&spaced))
}

/// Whether a parameter is not the named one, but some server would take it for that: encoded, in another case, or as a
/// member of a list (`name[]`).
fn is_disguised(given: &[u8], name: &[u8]) -> bool {
    let decoded = form_decoded(given);
    let plain = decoded.split(|b| *b == b'[').next().unwrap_or_default();
    plain.trim_ascii().eq_ignore_ascii_case(name)
}

/// The header fields that have a meaning whatever the service.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    connection: bool,
    hops: Hops,
}

/// The lengths of names that [`Fields::find`] looks at: its own, none at all, and what may begin with the reserved prefix.
const LENGTHS_WITH_MEANING: u64 =
    (1 << 0) | (1 << 4) | (1 << 9) | (1 << 10) | (u64::MAX << RESERVED_HEADER_PREFIX.len());

/// The header fields that `Connection` must not name, besides the service's own.
const SECURITY_FIELDS: [&str; 5] = ["host", "date", "authorization", "forwarded", "x-forwarded-for"];

impl<'a> Fields<'a> {
    #[inline(never)]
    fn find(head: &Packed<'a>) -> Result<Self, Reason> {
        let mut fields = Fields::default();
        let mut date = None;
        for (name, value) in head.headers_of(LENGTHS_WITH_MEANING) {
            // Most fields end here, by their length and their first letter.
            let Some(first) = name.first() else {
                // RFC 9110 section 5.1: a name has at least one character.
                return Err(Reason::HeaderMalformed);
            };
            match (name.len(), first.to_ascii_lowercase()) {
                (4, b'h') if named(name, b"host")? => once(&mut fields.host, value, Reason::HostDoubled)?,
                (4, b'd') if named(name, b"date")? => once(&mut date, value, Reason::DateDoubled)?,
                (9, b'f') if named(name, b"forwarded")? => fields.hops.forwarded = true,
                (10, b'c') if name.eq_ignore_ascii_case(b"connection") => {
                    fields.connection = true;
                    let reserved = || list(value).any(|option| starts_reserved(option) != Likeness::Other);
                    if SECURITY_FIELDS.iter().any(|field| lists(value, field.as_bytes())) || reserved() {
                        return Err(Reason::ConnectionSecurity);
                    }
                }
                (13, b'a') if named(name, b"authorization")? => {
                    once(&mut fields.authorization, value, Reason::AuthorizationDoubled)?;
                }
                (15, b'x') if named(name, b"x-forwarded-for")? => fields.hops.x_forwarded_for = true,
                (13.., b'x') if starts_reserved(name) == Likeness::Underscored => return Err(Reason::HeaderUnderscore),
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// Takes a field that may be given once.
#[inline(always)]
fn once<'a>(field: &mut Option<&'a [u8]>, value: &'a [u8], doubled: Reason) -> Result<(), Reason> {
    if field.replace(trim(value)).is_some() { Err(doubled) } else { Ok(()) }
}

/// Keeps the first key that is presented, and refuses a second.
#[inline(always)]
pub(crate) fn only_one<'a, 'p>(
    presented: &mut Option<Presented<'a, 'p>>,
    accept: Accept<'p>,
    key: Cow<'a, [u8]>,
) -> Result<(), Reason> {
    match presented {
        Some(first) if first.accept == accept => Err(Reason::CredentialDoubled),
        Some(_) => Err(Reason::CredentialsTwo),
        None => {
            *presented = Some(Presented { accept, is_presigned: false, key });
            Ok(())
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Likeness {
    Other,
    Same,
    /// The same but for underscores, which many servers turn into hyphens.
    Underscored,
}

/// Compares a field's name with one in lower case.
#[inline(always)]
fn is(name: &[u8], lower: &[u8]) -> Likeness {
    if name.len() != lower.len() {
        return Likeness::Other;
    }
    if sweep::same(name, lower) {
        return Likeness::Same;
    }
    let mut likeness = Likeness::Same;
    for (given, expected) in name.iter().zip(lower) {
        if given.to_ascii_lowercase() != *expected {
            if *given != b'_' || *expected != b'-' {
                return Likeness::Other;
            }
            likeness = Likeness::Underscored;
        }
    }
    likeness
}

#[inline(always)]
fn named(name: &[u8], lower: &[u8]) -> Result<bool, Reason> {
    match is(name, lower) {
        Likeness::Other => Ok(false),
        Likeness::Same => Ok(true),
        Likeness::Underscored => Err(Reason::HeaderUnderscore),
    }
}

#[inline(always)]
fn starts_reserved(name: &[u8]) -> Likeness {
    name.get(..RESERVED_HEADER_PREFIX.len())
        .map_or(Likeness::Other, |start| is(start, RESERVED_HEADER_PREFIX.as_bytes()))
}

/// The members of a comma-separated list.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(trim)
}

fn lists(value: &[u8], name: &[u8]) -> bool {
    list(value).any(|option| is(option, name) != Likeness::Other)
}

/// Without optional white space at either end (RFC 9110 section 5.6.3).
#[inline(always)]
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |b: &u8| *b == b' ' || *b == b'\t';
    let start = value.iter().position(|b| !is_space(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !is_space(b)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// What follows the scheme in an Authorization field, where it is that scheme.
fn after_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (given, rest) = value.split_at_checked(scheme.len())?;
    let is_scheme = given.eq_ignore_ascii_case(scheme);
    match rest.first() {
        None | Some(b' ' | b'\t') if is_scheme => Some(trim(rest)),
        _ => None,
    }
}

/// The host that both Host and the authority give, in lower case and without a port.
#[inline(always)]
fn host<'a>(field: Option<&'a [u8]>, authority: Option<&'a [u8]>) -> Result<Cow<'a, [u8]>, Reason> {
    let given = match (field, authority) {
        (None, None) => return Err(Reason::HostMissing),
        (Some(field), Some(authority)) if !field.eq_ignore_ascii_case(authority) => return Err(Reason::HostMismatch),
        (Some(given), _) | (None, Some(given)) => given,
    };
    if is_plain_host(given) {
        return Ok(Cow::Borrowed(given));
    }
    let (name, upper) =
        if given.first() == Some(&b'[') { address(given) } else { host_name(given) }.ok_or(Reason::HostMalformed)?;
    Ok(if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

/// Whether it is a host name in lower case, without a port and not very long. Most are.
#[inline(always)]
fn is_plain_host(given: &[u8]) -> bool {
    let [name, dot] = sweep::masks(given, |lanes| {
        let letters = sweep::within(lanes, b'a', b'z') | sweep::within(lanes, b'0', b'9');
        let signs = sweep::equal(lanes, b'-') | sweep::equal(lanes, b'_');
        [letters | signs, sweep::equal(lanes, b'.')]
    });
    // A dot stands behind a name, and the last name has no dot behind it.
    let behind_name = name << 1;
    let is_name = (name | dot).count_ones() as usize == given.len() && dot & !behind_name == 0;
    is_name && !given.is_empty() && !given.ends_with(b".")
}

/// A host name without its port, and whether it has upper-case letters.
fn host_name(given: &[u8]) -> Option<(&[u8], bool)> {
    let mut upper = false;
    let mut before = b'.';
    let mut end = given.len();
    for (at, &byte) in given.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'A'..=b'Z' => upper = true,
            // An empty label: at the beginning, or behind another dot.
            b'.' if before != b'.' => {}
            b':' => {
                end = at;
                break;
            }
            _ => return None,
        }
        before = byte;
    }
    let (name, port) = given.split_at_checked(end)?;
    if before == b'.' || name.len() > MAX_HOST_BYTES || !is_port(port) {
        return None;
    }
    Some((name, upper))
}

/// An IPv6 address in its brackets without the port behind them, and whether it has upper-case letters.
fn address(given: &[u8]) -> Option<(&[u8], bool)> {
    let text = std::str::from_utf8(given).ok()?;
    let end = text.find(']')? + 1;
    let (name, port) = text.split_at_checked(end)?;
    let address = name.strip_prefix('[')?.strip_suffix(']')?;
    let ok = address.parse::<std::net::Ipv6Addr>().is_ok() && is_port(port.as_bytes());
    ok.then(|| (name.as_bytes(), name.bytes().any(|b| b.is_ascii_uppercase())))
}

/// Nothing, or a colon and the digits of a port.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => {
            let plain = matches!(digits.len(), 1..=5) && digits.iter().all(u8::is_ascii_digit);
            plain && std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

/// Whether every byte may stand in a field's name (RFC 9110 section 5.1, token).
#[inline(always)]
fn names_are_tokens(names: &[u8]) -> bool {
    // What names are made of almost always.
    let is_plain = |lanes: Lanes| {
        let letters = sweep::within(lanes | Lanes::splat(0x20), b'a', b'z');
        let digits = sweep::within(lanes, b'0', b'9');
        letters | digits | sweep::equal(lanes, b'-') | sweep::equal(lanes, b'_')
    };
    !sweep::any(names, |lanes| !is_plain(lanes))
        || names.iter().all(|b| b.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(b))
}

/// Whether a field's value has a control character other than a tab (RFC 9110 section 5.5).
#[inline(always)]
fn has_control(values: &[u8]) -> bool {
    let is_control_or_tab = |lanes| sweep::up_to(lanes, 0x1f) | sweep::equal(lanes, 0x7f);
    sweep::any(values, is_control_or_tab) && values.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f)
}

#[cfg(test)]
mod tests;
