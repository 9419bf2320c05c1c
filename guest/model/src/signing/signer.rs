//! What a client does: it signs a request in its header fields, or a URL for whoever gets it.

use std::borrow::Cow;

use super::canonical::{Canonical, Field, write_encoded, write_names};
use super::{UNSIGNED_PAYLOAD, date, day_key, presigned_name, short_date, signature, write_string_to_sign};
use crate::key_sheet::Day;
use crate::source::{CanonicalForm, SignatureProfile};
use crate::time::UnixTime;

/// Who signs. The secret is borrowed for as long as it is needed.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// How requests are signed.
    pub profile: &'a SignatureProfile,
    /// What names the key.
    pub key_id: &'a str,
    /// What the key is derived from.
    pub secret: &'a [u8],
}

/// A request that is to be signed.
#[derive(Clone, Copy)]
pub struct Unsigned<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, as they will be on the wire.
    pub target: &'a str,
    /// The host, with a port where the Host field will have one. A Host field among `headers` counts instead.
    pub host: &'a str,
    /// The header fields that there are.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
}

/// A signature, and what it was made over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// The canonical request.
    pub canonical_request: Vec<u8>,
    /// The string to sign.
    pub string_to_sign: Vec<u8>,
    /// The signature in lower-case hex.
    pub hex: String,
}

/// A signed request: the fields that have to be added to those there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// Host and date where they were missing, and the authorization.
    pub added: Vec<(String, String)>,
    /// What was signed.
    pub signature: Signature,
}

/// A presigned URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presigned {
    /// Path and query with the signature.
    pub target: String,
    /// What was signed.
    pub signature: Signature,
}

impl Signer<'_> {
    /// Signs a request: host and date, and the fields that are named.
    ///
    /// A date that the request has stays as it is; `at` is what it is to say.
    #[must_use]
    pub fn sign(&self, request: &Unsigned<'_>, also: &[&str], at: UnixTime) -> Signed {
        let profile = self.profile;
        let has = |name: &str| request.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        let mut added = Vec::new();
        if !has("host") {
            added.push(("Host".to_owned(), request.host.to_owned()));
        }
        if !has(&profile.date_header) {
            let date = if profile.date_header.eq_ignore_ascii_case("date") {
                date::http_date(at)
            } else {
                String::from_utf8_lossy(&date::long_date(at)).into_owned()
            };
            added.push((profile.date_header.clone(), date));
        }
        let mut names: Vec<String> = also.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.extend(["host".to_owned(), profile.date_header.to_ascii_lowercase()]);
        names.sort_unstable();
        names.dedup();
        let mut fields = Vec::with_capacity(names.len());
        for name in &names {
            let all = request.headers.iter().chain(&added);
            let values = all.filter(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes());
            let values: Vec<_> = values.collect();
            // A field that is not there cannot be signed; a verifier would refuse it.
            if !values.is_empty() {
                fields.push(Field { name: Cow::Borrowed(name.as_bytes()), values });
            }
        }
        let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
        let method = request.method.to_ascii_uppercase();
        let signature = self.over(
            &Canonical {
                method: method.as_bytes(),
                path: path.as_bytes(),
                query: query.as_bytes(),
                without: None,
                fields: &fields,
                body: profile.hash.digest(request.body),
            },
            at,
        );
        let mut signed_names = Vec::new();
        write_names(&fields, &mut signed_names);
        let authorization = format!(
            "{} Credential={}, SignedHeaders={}, Signature={}",
            self.algorithm(),
            self.credential(at),
            String::from_utf8_lossy(&signed_names),
            signature.hex
        );
        drop(fields);
        added.push((profile.auth_header.clone(), authorization));
        Signed { added, signature }
    }

    /// Signs a URL for GET, valid from `at` on for `expires_s` seconds.
    #[must_use]
    pub fn presign(&self, target: &str, host: &str, at: UnixTime, expires_s: u32) -> Presigned {
        let profile = self.profile;
        let long = date::long_date(at);
        let parameters = [
            ("Algorithm", self.algorithm()),
            ("Credentials", self.credential(at)),
            ("Date", String::from_utf8_lossy(&long).into_owned()),
            ("Expires", expires_s.to_string()),
            ("SignedHeaders", "host".to_owned()),
        ];
        let mut target = target.to_owned();
        let add = |target: &mut String, name: &str, value: &str| {
            target.push(if target.contains('?') { '&' } else { '?' });
            let name = presigned_name(profile.canonical_form, &profile.vendor_key, name);
            target.push_str(&format!("{name}={}", encoded(value)));
        };
        for (name, value) in &parameters {
            add(&mut target, name, value);
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let body = match profile.canonical_form {
            CanonicalForm::Escher | CanonicalForm::Antavo => profile.hash.digest(UNSIGNED_PAYLOAD),
            CanonicalForm::Aws => profile.hash.digest(&[]),
        };
        let fields = [Field { name: Cow::Borrowed(b"host".as_slice()), values: vec![host.as_bytes()] }];
        let canonical = Canonical {
            method: b"GET",
            path: path.as_bytes(),
            query: query.as_bytes(),
            without: None,
            fields: &fields,
            body,
        };
        let signature = self.over(&canonical, at);
        add(&mut target, "Signature", &signature.hex);
        Presigned { target, signature }
    }

    fn over(&self, canonical: &Canonical<'_>, at: UnixTime) -> Signature {
        let profile = self.profile;
        let (mut canonical_request, mut string_to_sign) = (Vec::new(), Vec::new());
        canonical.write(profile.canonical_form, &mut canonical_request);
        let of = (profile.algorithm_prefix.as_str(), profile.hash, profile.credential_scope.as_str());
        write_string_to_sign(&mut string_to_sign, of, at, &canonical_request);
        let key = day_key(profile, self.secret, Day::of(at));
        let hex = signature(profile.hash, &key, &string_to_sign).to_hex();
        Signature { canonical_request, string_to_sign, hex }
    }

    fn algorithm(&self) -> String {
        format!("{}-HMAC-{}", self.profile.algorithm_prefix, self.profile.hash.as_str())
    }

    fn credential(&self, at: UnixTime) -> String {
        let day = short_date(Day::of(at));
        format!("{}/{}/{}", self.key_id, String::from_utf8_lossy(&day), self.profile.credential_scope)
    }
}

/// Text as a query parameter's value (RFC 3986 section 2.3).
fn encoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    text.bytes().for_each(|byte| write_encoded(byte, false, &mut out));
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::presets;

    fn at() -> UnixTime {
        "2015-08-30T12:36:00Z".parse().unwrap()
    }

    /// The worked example of AWS's documentation of Signature Version 4 (IAM, ListUsers).
    #[test]
    fn a_request_is_signed_as_aws_documents_it() {
        let profile = presets::aws("us-east-1", "iam");
        let secret = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let signer = Signer { profile: &profile, key_id: "AKIDEXAMPLE", secret };
        let headers = [
            ("Content-Type".to_owned(), "application/x-www-form-urlencoded; charset=utf-8".to_owned()),
            ("X-Amz-Date".to_owned(), "20150830T123600Z".to_owned()),
        ];
        let request = Unsigned {
            method: "get",
            target: "/?Action=ListUsers&Version=2010-05-08",
            host: "iam.amazonaws.com",
            headers: &headers,
            body: b"",
        };
        let signed = signer.sign(&request, &["content-type"], at());
        assert_eq!(signed.signature.hex, "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
        assert_eq!(
            signed.added[1].1,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn host_and_date_are_added_in_the_spelling_of_their_field() {
        let request = Unsigned { method: "GET", target: "/", host: "a.example", headers: &[], body: b"" };
        for (profile, date) in [
            (presets::antavo("eu"), "Sun, 30 Aug 2015 12:36:00 GMT"),
            (presets::escher("eu/shop/request"), "20150830T123600Z"),
        ] {
            let signed = Signer { profile: &profile, key_id: "k", secret: b"s" }.sign(&request, &["x-absent"], at());
            let names: Vec<_> = signed.added.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["Host", profile.date_header.as_str(), profile.auth_header.as_str()]);
            assert_eq!((signed.added[0].1.as_str(), signed.added[1].1.as_str()), ("a.example", date));
            assert!(!signed.added[2].1.contains("x-absent"));
        }
    }

    #[test]
    fn a_presigned_url_has_its_parameters_behind_its_own() {
        let profile = presets::aws("eu", "shop");
        let presigned =
            Signer { profile: &profile, key_id: "k/1", secret: b"s" }.presign("/a?b=c", "a.example", at(), 60);
        let expected = "/a?b=c&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=k%2F1%2F20150830%2Feu%2Fshop%2Faws4_request\
                        &X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=";
        assert!(presigned.target.starts_with(expected), "{}", presigned.target);
    }
}
