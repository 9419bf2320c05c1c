//! The profiles that are in use. A profile is data, so these are where to begin.

use crate::id::Id;
use crate::source::{CanonicalForm, SignatureHash, SignatureProfile};

/// Antavo's Loyalty API: `Authorization: ANTAVO-HMAC-SHA256 ..` and `Date`.
#[must_use]
pub fn antavo(region: &str) -> SignatureProfile {
    let scope = format!("{region}/api/antavo_request");
    preset("antavo", ["ANTAVO", "Antavo", "Authorization", "Date"], scope, CanonicalForm::Antavo)
}

/// What Escher's libraries do unless told otherwise: `X-Escher-Auth: ESR-HMAC-SHA256 ..` and `X-Escher-Date`.
#[must_use]
pub fn escher(scope: &str) -> SignatureProfile {
    let names = ["ESR", "Escher", "X-Escher-Auth", "X-Escher-Date"];
    preset("escher", names, scope.to_owned(), CanonicalForm::Escher)
}

/// AWS Signature Version 4 for any service but S3: `Authorization: AWS4-HMAC-SHA256 ..` and `X-Amz-Date`.
#[must_use]
pub fn aws(region: &str, service: &str) -> SignatureProfile {
    let scope = format!("{region}/{service}/aws4_request");
    preset("aws", ["AWS4", "Amz", "Authorization", "X-Amz-Date"], scope, CanonicalForm::Aws)
}

#[expect(clippy::expect_used, reason = "a constant that is an id; a test holds it to that")]
fn preset(
    id: &str,
    [prefix, vendor, auth, date]: [&str; 4],
    credential_scope: String,
    canonical_form: CanonicalForm,
) -> SignatureProfile {
    SignatureProfile {
        id: id.parse::<Id>().expect("a preset's name is an id"),
        algorithm_prefix: prefix.to_owned(),
        vendor_key: vendor.to_owned(),
        hash: SignatureHash::Sha256,
        auth_header: auth.to_owned(),
        date_header: date.to_owned(),
        credential_scope,
        clock_skew_s: 300,
        canonical_form,
        presigned_expires_s: 86_400,
        nonce_header: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Seed;
    use crate::id::Revision;
    use crate::policy::{Policy, build};
    use crate::source::Source;

    #[test]
    fn every_preset_is_a_profile_that_a_policy_takes() {
        let mut source = Source::empty(Revision(1), Seed([0; 16]));
        source.installation.signature_profiles = vec![antavo("eu"), escher("eu/shop/ems_request"), aws("eu-1", "shop")];
        let policy = Policy::open(build(&source).unwrap()).unwrap();
        let found = policy.profile(b"antavo").unwrap().unwrap();
        assert_eq!((found.auth_header, found.credential_scope), ("authorization", "eu/api/antavo_request"));
        assert!(policy.profile(b"escher").unwrap().is_some() && policy.profile(b"aws").unwrap().is_some());
        assert_eq!(policy.profile(b"other"), Ok(None));
    }
}
