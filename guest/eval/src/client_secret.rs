//! A client's own id and secret in `Authorization: Basic`, as a token endpoint asks for them (RFC 6749 section 2.3.1).

use base64ct::{Base64, Encoding as _};
use portcullis_model::credential::Kind;
use portcullis_model::facts::Proof;
use portcullis_model::policy::{Accept, Policy, Service};
use portcullis_model::verdict::Reason;

use crate::authenticate::{Verified, digest, proven, unknown};

/// The longest encoded id and secret that are looked at, in bytes. Those that Portcullis makes take fewer than 160; the
/// longest that could be imported, each byte percent-encoded, would still fit.
pub(crate) const MAX_BASIC_BYTES: usize = 2400;

/// Proves a client by its id and secret.
///
/// The record is found by the digest of the secret, so the id is a second lock and never a way to look for clients.
pub(crate) fn client<'p>(
    presented: &[u8],
    accept: Accept<'p>,
    policy: &'p Policy,
    service: &Service<'p>,
) -> Result<Verified<'p>, Reason> {
    let (id, secret) = id_and_secret(presented).ok_or(Reason::ClientMalformed)?;
    let credential = policy.credential(&digest(&secret)?)?.ok_or_else(|| unknown(&secret))?;
    let kind = credential.kind()?;
    if !accept.takes(kind) || !matches!(kind, Kind::Client | Kind::Personal) {
        return Err(Reason::CredentialMisplaced);
    }
    if credential.raw_id()? != id {
        return Err(Reason::ClientMismatch);
    }
    proven(credential, Proof::Client, accept, service)
}

/// The id and the secret: base64 with its padding, split at the first colon, each part form-encoded (RFC 7617 section 2,
/// RFC 6749 section 2.3.1).
fn id_and_secret(presented: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if presented.len() > MAX_BASIC_BYTES {
        return None;
    }
    let pair = Base64::decode_vec(std::str::from_utf8(presented).ok()?).ok()?;
    let (id, secret) = split_at_colon(&pair)?;
    Some((form_decoded(id)?, form_decoded(secret)?)).filter(|(id, secret)| !id.is_empty() && !secret.is_empty())
}

fn split_at_colon(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|b| *b == b':')?;
    Some((pair.get(..at)?, pair.get(at + 1..)?))
}

/// Decodes one form-encoded part; a `%` without two hex digits behind it is refused.
fn form_decoded(part: &[u8]) -> Option<Vec<u8>> {
    let is_sound = |at: usize| crate::normalise::percent(part, at).is_some();
    let sound = part.iter().enumerate().all(|(at, byte)| *byte != b'%' || is_sound(at));
    sound.then(|| crate::normalise::form_decoded(part).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pair: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        id_and_secret(Base64::encode_string(pair).as_bytes())
    }

    #[test]
    fn both_parts_are_form_decoded_and_the_first_colon_divides_them() {
        for (pair, id, secret) in [
            ("shop:s3cret", "shop", "s3cret"),
            ("shop:a:b", "shop", "a:b"),
            ("a%3Ab:s+%2B%25", "a:b", "s +%"),
            ("%c3%a9:x", "é", "x"),
        ] {
            assert_eq!(read(pair.as_bytes()), Some((id.into(), secret.into())), "{pair}");
        }
    }

    #[test]
    fn what_is_not_an_id_and_a_secret_is_refused() {
        for pair in ["", ":", "shop", "shop:", ":secret", "shop:%", "shop:%4", "shop:%4g", "sh%zzop:x"] {
            assert_eq!(read(pair.as_bytes()), None, "{pair}");
        }
    }

    #[test]
    fn base64_is_strict() {
        assert!(id_and_secret(b"YTpi").is_some() && id_and_secret(b"YTpiYw==").is_some());
        // Without padding, with trailing bits, of the other alphabet, with a line break, with a space, padded too much.
        for bad in ["YTpiYw", "YTpiYw=", "YTpiYx==", "YTp_Yw==", "YTpi\nYw==", "YTpi Yw==", "YTpi====", "=", "YTpi="] {
            assert_eq!(id_and_secret(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn an_encoded_pair_has_a_longest_length() {
        let encoded = |bytes: usize| Base64::encode_string(format!("a:{}", "b".repeat(bytes - 2)).as_bytes());
        let longest = encoded(MAX_BASIC_BYTES / 4 * 3);
        assert_eq!(longest.len(), MAX_BASIC_BYTES);
        assert!(id_and_secret(longest.as_bytes()).is_some());
        let one_more = encoded(MAX_BASIC_BYTES / 4 * 3 + 1);
        assert_eq!(id_and_secret(one_more.as_bytes()), None);
    }
}
