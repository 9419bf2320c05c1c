//! What a client does: it signs a request in a header field, or a URL that others may then use.

use std::borrow::Cow;

use super::canonical::{Canonical, Field, write_names};
use super::date::{self, Weekday};
use super::{UNSIGNED_PAYLOAD, day_key, short_date, signature, write_string_to_sign};
use crate::key_sheet::Day;
use crate::source::{CanonicalForm, SignatureProfile};
use crate::time::UnixTime;

/// Who signs, and by which profile.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The profile.
    pub profile: &'a SignatureProfile,
    /// The key id.
    pub key_id: &'a str,
    /// The secret.
    pub secret: &'a [u8],
}

/// A request that is about to be sent.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The path, and the query behind a `?`, as they go over the wire.
    pub target: &'a str,
    /// The header fields, Host among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// What signing led to.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    /// Header fields to send besides those that were given: the date where none was, and the signature.
    pub headers: Vec<(String, String)>,
    /// What was signed, before it was hashed.
    pub canonical_request: Vec<u8>,
    /// What was signed.
    pub string_to_sign: Vec<u8>,
}

/// Why a request was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// Every signature covers the host.
    #[error("there is no `Host` to sign")]
    HostMissing,
    /// A header field is to be signed and is not there.
    #[error("there is no header field `{name}` to sign")]
    FieldAbsent {
        /// Its name.
        name: String,
    },
    /// The date cannot be read.
    #[error("the date in `{name}` is neither like 20260307T123456Z nor like Sat, 07 Mar 2026 12:34:56 GMT")]
    Date {
        /// The header field's name.
        name: String,
    },
    /// No verifier could tell where the key id ends.
    #[error("a key id is of visible characters other than `/` and `,`")]
    KeyId,
    /// Anybody could sign with it.
    #[error("the secret is empty")]
    NoSecret,
    /// The URL would not be accepted.
    #[error("a presigned URL is valid for 1 to {limit_s} seconds by this profile")]
    Expires {
        /// The longest time in seconds.
        limit_s: u32,
    },
}

impl Signer<'_> {
    /// Signs a request in a header field. Host and date are signed whatever `names` says.
    ///
    /// Where the request has a date it is used as it is, else that of `now` is added.
    ///
    /// # Errors
    /// Any [`SignError`] but that of expiry.
    pub fn sign(&self, request: &Outgoing<'_>, names: &[&str], now: UnixTime) -> Result<Signed, SignError> {
        let profile = self.profile;
        self.check_pair()?;
        let date_name = profile.date_header.to_ascii_lowercase();
        let mut added = Vec::new();
        let at = match request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(&date_name)) {
            Some((name, value)) => date::read(value.trim().as_bytes(), Weekday::Ignored)
                .ok_or_else(|| SignError::Date { name: (*name).to_owned() })?,
            None => {
                added.push((profile.date_header.clone(), self.written_date(now)));
                now
            }
        };
        let mut names: Vec<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.extend(["host".to_owned(), date_name]);
        names.sort_unstable();
        names.dedup();
        let given = request.headers.iter().copied();
        let sent: Vec<_> = given.chain(added.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect();
        let fields = names.iter().map(|name| field(&sent, name)).collect::<Result<Vec<_>, _>>()?;
        let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
        let canonical = Canonical {
            method: request.method.as_bytes(),
            path: path.as_bytes(),
            query: query.as_bytes(),
            without: None,
            fields: &fields,
            body: profile.hash.digest(request.body),
        };
        let (canonical_request, string_to_sign, signature) = self.signature(&canonical, at);
        let mut names = Vec::new();
        write_names(&fields, &mut names);
        let authorization = format!(
            "{} Credential={}, SignedHeaders={}, Signature={signature}",
            self.algorithm(),
            self.credential(at),
            String::from_utf8_lossy(&names)
        );
        added.push((profile.auth_header.clone(), authorization));
        Ok(Signed { headers: added, canonical_request, string_to_sign })
    }

    /// Signs the URL of a GET request, so that whoever has it may use it for `expires_s` seconds from `at` on. Leads to the
    /// target to send: the given one with the parameters behind it.
    ///
    /// # Errors
    /// [`SignError::Expires`], [`SignError::KeyId`], [`SignError::NoSecret`].
    pub fn presign(&self, host: &str, target: &str, expires_s: u32, at: UnixTime) -> Result<String, SignError> {
        let profile = self.profile;
        self.check_pair()?;
        if expires_s == 0 || expires_s > profile.presigned_expires_s {
            return Err(SignError::Expires { limit_s: profile.presigned_expires_s });
        }
        let mut target = target.to_owned();
        let date = date::long_date(at);
        for (ending, value) in [
            ("Algorithm", self.algorithm()),
            ("Credentials", self.credential(at)),
            ("Date", String::from_utf8_lossy(&date).into_owned()),
            ("Expires", expires_s.to_string()),
            ("SignedHeaders", "host".to_owned()),
        ] {
            self.push_parameter(&mut target, ending, &value);
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let canonical = Canonical {
            method: b"GET",
            path: path.as_bytes(),
            query: query.as_bytes(),
            without: None,
            fields: &[Field { name: Cow::Borrowed(b"host"), values: vec![host.as_bytes()] }],
            body: profile.hash.digest(match profile.canonical_form {
                CanonicalForm::Escher | CanonicalForm::Antavo => UNSIGNED_PAYLOAD,
                CanonicalForm::Aws => b"",
            }),
        };
        let (_, _, signature) = self.signature(&canonical, at);
        self.push_parameter(&mut target, "Signature", &signature);
        Ok(target)
    }

    fn push_parameter(&self, target: &mut String, ending: &str, value: &str) {
        let name = super::presigned_name(self.profile.canonical_form, &self.profile.vendor_key, ending);
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(&name);
        target.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => target.push(char::from(byte)),
                _ => target.push_str(&format!("%{byte:02X}")),
            }
        }
    }

    fn signature(&self, canonical: &Canonical<'_>, at: UnixTime) -> (Vec<u8>, Vec<u8>, String) {
        let profile = self.profile;
        let (mut request, mut string) = (Vec::new(), Vec::new());
        canonical.write(profile.canonical_form, &mut request);
        let of = (profile.algorithm_prefix.as_str(), profile.hash, profile.credential_scope.as_str());
        write_string_to_sign(&mut string, of, at, &request);
        let signed = signature(profile.hash, &day_key(profile, self.secret, Day::of(at)), &string).to_hex();
        (request, string, signed)
    }

    fn algorithm(&self) -> String {
        format!("{}-HMAC-{}", self.profile.algorithm_prefix, self.profile.hash.as_str())
    }

    fn credential(&self, at: UnixTime) -> String {
        let day = short_date(Day::of(at));
        format!("{}/{}/{}", self.key_id, String::from_utf8_lossy(&day), self.profile.credential_scope)
    }

    /// The field `Date` has one spelling (RFC 9110 section 6.6.1); the protocols' own have the other.
    fn written_date(&self, at: UnixTime) -> String {
        if self.profile.date_header.eq_ignore_ascii_case("date") {
            date::http_date(at)
        } else {
            String::from_utf8_lossy(&date::long_date(at)).into_owned()
        }
    }

    fn check_pair(&self) -> Result<(), SignError> {
        if self.secret.is_empty() {
            return Err(SignError::NoSecret);
        }
        let is_fit = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b',');
        if self.key_id.is_empty() || !self.key_id.bytes().all(is_fit) { Err(SignError::KeyId) } else { Ok(()) }
    }
}

fn field<'f>(sent: &[(&'f str, &'f str)], name: &str) -> Result<Field<'f>, SignError> {
    let values: Vec<_> =
        sent.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_bytes()).collect();
    match (values.is_empty(), name) {
        (true, "host") => Err(SignError::HostMissing),
        (true, _) => Err(SignError::FieldAbsent { name: name.to_owned() }),
        (false, _) => Ok(Field { name: Cow::Owned(name.as_bytes().to_vec()), values }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::presets;

    const HEADERS: [(&str, &str); 1] = [("Host", "api.shop.example")];

    fn at() -> UnixTime {
        "2026-03-07T12:34:56Z".parse().unwrap()
    }

    #[test]
    fn a_request_without_a_date_gets_one_in_its_headers_spelling() {
        let request = Outgoing { method: "GET", target: "/", headers: &HEADERS, body: b"" };
        for (profile, date) in [
            (presets::antavo("eu"), "Sat, 07 Mar 2026 12:34:56 GMT"),
            (presets::escher("eu/shop/escher_request"), "20260307T123456Z"),
            (presets::aws("eu-1", "shop"), "20260307T123456Z"),
        ] {
            let signer = Signer { profile: &profile, key_id: "k", secret: b"s" };
            let signed = signer.sign(&request, &[], at()).unwrap();
            assert_eq!(signed.headers[0], (profile.date_header.clone(), date.to_owned()));
            assert_eq!(signed.headers[1].0, profile.auth_header);
        }
    }

    #[test]
    fn what_no_verifier_would_take_is_not_signed() {
        let profile = presets::antavo("eu");
        let signer = Signer { profile: &profile, key_id: "k", secret: b"s" };
        let request = |headers| Outgoing { method: "GET", target: "/", headers, body: b"" };
        let fails = |headers, names: &[&str]| signer.sign(&request(headers), names, at()).err().unwrap();
        assert_eq!(fails(&[], &[]), SignError::HostMissing);
        assert_eq!(fails(&HEADERS, &["X-Trace"]), SignError::FieldAbsent { name: "x-trace".to_owned() });
        let dated = [("Host", "a"), ("date", "yesterday")];
        assert_eq!(fails(&dated, &[]), SignError::Date { name: "date".to_owned() });
        let no_secret = Signer { secret: b"", ..signer };
        assert_eq!(no_secret.sign(&request(&HEADERS), &[], at()).err(), Some(SignError::NoSecret));
        for key_id in ["", "a/b", "a,b", "a b"] {
            let signer = Signer { key_id, ..signer };
            assert_eq!(signer.sign(&request(&HEADERS), &[], at()).err(), Some(SignError::KeyId), "{key_id}");
            assert_eq!(signer.presign("a", "/", 1, at()), Err(SignError::KeyId), "{key_id}");
        }
    }

    #[test]
    fn a_url_is_valid_no_longer_than_its_profile_says() {
        let profile = presets::antavo("eu");
        let signer = Signer { profile: &profile, key_id: "k", secret: b"s" };
        for expires in [0, 86_401] {
            assert_eq!(signer.presign("a", "/", expires, at()), Err(SignError::Expires { limit_s: 86_400 }));
        }
        let target = signer.presign("a", "/x?y=1", 86_400, at()).unwrap();
        let start = "/x?y=1&X-Antavo-Algorithm=ANTAVO-HMAC-SHA256&X-Antavo-Credentials=k%2F20260307%2Feu%2Fapi%2F";
        assert!(target.starts_with(start), "{target}");
        let aws = presets::aws("eu-1", "shop");
        let target = Signer { profile: &aws, ..signer }.presign("a", "/", 1, at()).unwrap();
        assert!(target.contains("&X-Amz-Credential=k%2F"), "{target}");
    }
}
