//! What must hold of profiles, token keys, and the credentials and presentations that they are for.

use std::fmt::Display;

use super::{Check, Known, MAX_NAME_BYTES, TAKEN_HEADERS};
use crate::credential::Kind;
use crate::policy::proof::key_parts;
use crate::source::{Credential, Installation, Presentation, SignatureProfile};

/// The most signature profiles of an installation.
const MAX_PROFILES: usize = 32;
/// The most public keys of access tokens: the one in use, the next, and those that a rotation left behind.
const MAX_TOKEN_KEYS: usize = 16;
/// The longest key id of a token key, credential scope and issuer in bytes.
const MAX_TERM_BYTES: usize = 256;
/// The most parts of a credential scope: each is one HMAC of the key derivation.
const MAX_SCOPE_PARTS: usize = 8;
/// The longest clock skew of a profile in seconds.
const MAX_SKEW_S: u32 = 3600;
/// The longest life of a presigned URL in seconds: its key is in the sheets for a day and the skew.
const MAX_PRESIGNED_S: u32 = 86_400;

impl Check {
    pub(super) fn installation(&mut self, installation: &Installation) {
        let profiles = &installation.signature_profiles;
        let keys = &installation.token_keys;
        if profiles.len() > MAX_PROFILES {
            self.fault("installation", format!("it has more than {MAX_PROFILES} signature profiles"));
        }
        if keys.len() > MAX_TOKEN_KEYS {
            self.fault("installation", format!("it has more than {MAX_TOKEN_KEYS} token keys"));
        }
        self.unique("signature profile", profiles.iter().map(|profile| &profile.id), ToString::to_string);
        self.unique("token key", keys.iter().map(|key| &key.kid), Clone::clone);
        profiles.iter().for_each(|profile| self.profile(profile));
        for key in keys {
            let at = format!("token key `{}`", key.kid);
            if !is_term(&key.kid) {
                self.fault(&at, format!("its `kid` is not 1 to {MAX_TERM_BYTES} visible ASCII characters"));
            }
            if key_parts(&key.material).is_none() {
                let what = "its members are not base64url of the lengths that its algorithm has: 32 bytes for EdDSA and each \
                            coordinate of ES256, 2048 to 4096 bits for RS256";
                self.fault(&at, what);
            }
        }
    }

    fn profile(&mut self, profile: &SignatureProfile) {
        let at = format!("signature profile `{}`", profile.id);
        let is_word = |text: &str| {
            !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        for (field, text) in [("algorithm_prefix", &profile.algorithm_prefix), ("vendor_key", &profile.vendor_key)] {
            if !is_word(text) {
                self.fault(&at, format!("`{field}` is not 1 to {MAX_NAME_BYTES} letters and digits"));
            }
        }
        let is_field = |text: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(plain)
        };
        let fields = [
            ("auth_header", Some(profile.auth_header.as_str()), "authorization"),
            ("date_header", Some(profile.date_header.as_str()), "date"),
            ("nonce_header", profile.nonce_header.as_deref(), ""),
        ];
        for (field, name, may_be) in fields {
            let Some(name) = name else { continue };
            let lower = name.to_ascii_lowercase();
            if !is_field(name) {
                self.fault(&at, format!("`{field}` is not 1 to {MAX_NAME_BYTES} letters, digits and hyphens"));
            }
            let is_taken = lower.starts_with(crate::answer::RESERVED_HEADER_PREFIX)
                || (lower != may_be && TAKEN_HEADERS.contains(&lower.as_str()));
            if is_taken {
                self.fault(&at, format!("the header `{name}` of `{field}` has another meaning"));
            }
        }
        if profile.auth_header.eq_ignore_ascii_case(&profile.date_header) {
            self.fault(&at, "`auth_header` and `date_header` are the same");
        }
        let parts: Vec<&str> = profile.credential_scope.split('/').collect();
        let is_part = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b' '))
        };
        let is_short = profile.credential_scope.len() <= MAX_TERM_BYTES && parts.len() <= MAX_SCOPE_PARTS;
        if !is_short || !parts.iter().all(is_part) {
            let what = format!(
                "`credential_scope` is not 1 to {MAX_SCOPE_PARTS} parts of letters, digits, spaces, `-`, `_` and `.` between \
                 slashes, such as `eu/api/antavo_request`"
            );
            self.fault(&at, what);
        }
        if profile.clock_skew_s > MAX_SKEW_S {
            self.fault(&at, format!("`clock_skew_s` is more than {MAX_SKEW_S}"));
        }
        if profile.presigned_expires_s > MAX_PRESIGNED_S {
            let what =
                format!("`presigned_expires_s` is more than {MAX_PRESIGNED_S}: keys of a day end after the next");
            self.fault(&at, what);
        }
    }

    pub(super) fn issuer(&mut self, at: &str, issuer: Option<&str>) {
        if issuer.is_some_and(|issuer| !is_term(issuer)) {
            self.fault(at, format!("`token_issuer` is not 1 to {MAX_TERM_BYTES} visible ASCII characters"));
        }
    }

    pub(super) fn signing(&mut self, at: &impl Display, credential: &Credential, known: Option<&Known<'_>>) {
        let slots = credential.secrets.iter().filter(|secret| secret.signing_slot.is_some()).count();
        match &credential.signature_profile {
            None if slots > 0 => self.fault(at, "a secret has a `signing_slot`, and the key no `signature_profile`"),
            None if credential.signed_only => {
                self.fault(at, "`signed_only` needs a `signature_profile`, or the key could not be used at all");
            }
            None => {}
            Some(profile) => {
                self.known(
                    at,
                    "signature profile",
                    profile,
                    known.is_none_or(|known| known.profiles.contains(profile)),
                );
                if slots != credential.secrets.len() {
                    self.fault(at, "each secret of a key with a `signature_profile` needs a `signing_slot`");
                }
            }
        }
    }

    /// What a presentation looks for, in a spelling that no two of them may share.
    pub(super) fn place(&mut self, at: &str, given: &Presentation, known: Option<&Known<'_>>) -> Option<String> {
        let lower = |name: &String| name.to_ascii_lowercase();
        let scheme = |name: &String| format!("{} ", name.to_ascii_lowercase());
        let keys = [Kind::Workspace, Kind::Tenant, Kind::Management, Kind::Session].as_slice();
        let (signers, clients) = ([Kind::Workspace].as_slice(), [Kind::Personal, Kind::Client].as_slice());
        let ways = [
            (given.header.as_ref().map(lower), keys),
            (given.parameter.as_ref().map(|name| format!("?{}", lower(name))), keys),
            (given.scheme.as_ref().map(scheme), keys),
            (given.signature.as_ref().map(|id| format!("={id}")), signers),
            (given.token.as_ref().map(scheme), clients),
            (given.client.as_ref().map(scheme), clients),
        ];
        let mut given_ways = ways.into_iter().filter_map(|(place, kinds)| Some((place?, kinds)));
        let (Some((place, kinds)), None) = (given_ways.next(), given_ways.next()) else {
            let what = "an entry of `accept` needs exactly one of `header`, `parameter`, `scheme`, `signature`, `token` and \
                        `client`";
            self.fault(at, what);
            return None;
        };
        for kind in given.kinds.iter().filter(|kind| !kinds.contains(kind)) {
            self.fault(at, format!("a {kind} credential is not presented as `{}` in `accept`", place.trim()));
        }
        if let Some(profile) = &given.signature {
            self.known(at, "signature profile", profile, known.is_none_or(|known| known.profiles.contains(profile)));
        }
        if given.client.as_ref().is_some_and(|scheme| !scheme.eq_ignore_ascii_case("basic")) {
            self.fault(at, "`client` in `accept` is `Basic`: no other scheme has an id and a secret");
        }
        Some(place)
    }
}

fn is_term(text: &str) -> bool {
    (1..=MAX_TERM_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
