//! What an allow changes in a head: nothing but what its details name.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use portcullis_model::answer::{Details, Place, RESERVED_HEADER_PREFIX};

/// A value that an allow sets and no field or target can have: the gate's answer breaks the contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the gate's answer cannot be carried out")]
pub struct BadEdit;

/// Takes out every field that only Portcullis may set.
pub fn drop_reserved(headers: &mut HeaderMap) {
    let is_reserved = |name: &HeaderName| name.as_str().starts_with(RESERVED_HEADER_PREFIX);
    if headers.keys().any(is_reserved) {
        let reserved: Vec<HeaderName> = headers.keys().filter(|name| is_reserved(name)).cloned().collect();
        for name in reserved {
            headers.remove(name);
        }
    }
}

/// Makes of a client's fields those that the guarded service gets: without the credential, with who was proven.
///
/// # Errors
/// [`BadEdit`]; the request is then not to go on.
pub fn fields(headers: &mut HeaderMap, details: &Details<'_>) -> Result<(), BadEdit> {
    drop_reserved(headers);
    match details.strip {
        Some(Place::Header(name)) => {
            headers.remove(name);
        }
        Some(Place::Parameter(_) | Place::Presigned(_)) | None => {}
    }
    for (name, value) in details.headers_to_set() {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(|_| BadEdit)?);
    }
    Ok(())
}

/// The target without the credential; nothing where it holds none.
///
/// # Errors
/// As [`fields`].
pub fn target(target: &PathAndQuery, details: &Details<'_>) -> Result<Option<PathAndQuery>, BadEdit> {
    let without = details.strip.and_then(|place| place.cut_from(target.as_str()));
    without.map(PathAndQuery::try_from).transpose().map_err(|_| BadEdit)
}

/// The same of a whole address.
///
/// # Errors
/// As [`fields`].
pub fn uri(uri: &mut Uri, details: &Details<'_>) -> Result<(), BadEdit> {
    let Some(without) = uri.path_and_query().map(|whole| target(whole, details)).transpose()?.flatten() else {
        return Ok(());
    };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(without);
    *uri = Uri::from_parts(parts).map_err(|_| BadEdit)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use portcullis_model::facts::Facts;
    use portcullis_model::id::Revision;
    use portcullis_model::time::UnixTime;

    use super::*;

    fn details(tenant: &str) -> Details<'_> {
        let facts = Facts::unknown(Revision(1), UnixTime::default(), "::1".parse().unwrap());
        Details::of(Facts { tenant, ..facts })
    }

    #[test]
    fn what_only_the_gate_says_is_said_by_it_alone() {
        let mut headers = HeaderMap::new();
        for name in ["x-portcullis-tenant", "x-portcullis-kind", "x-api-key", "x-kept"] {
            headers.append(name, HeaderValue::from_static("1"));
            headers.append(name, HeaderValue::from_static("2"));
        }
        let allowed = Details { strip: Some(Place::Header("X-API-Key")), ..details("acme") };
        assert_eq!(fields(&mut headers, &allowed), Ok(()));
        let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, [("x-kept", "1"), ("x-kept", "2"), ("x-portcullis-tenant", "acme")]);
    }

    #[test]
    fn a_value_that_no_field_can_have_is_no_edit() {
        assert_eq!(fields(&mut HeaderMap::new(), &details("a\nb")), Err(BadEdit));
    }

    #[test]
    fn a_credential_is_cut_out_of_an_address_and_the_rest_stays() {
        for (given, strip, left) in [
            ("/a?k=1&b=%7e", Some(Place::Parameter("k")), "/a?b=%7e"),
            ("http://api.example/a?k=1", Some(Place::Parameter("k")), "http://api.example/a"),
            ("/a?X-Ems-Date=1&b", Some(Place::Presigned("Ems")), "/a?b"),
            ("/a?k=1", Some(Place::Header("k")), "/a?k=1"),
            ("/a?k=1", None, "/a?k=1"),
        ] {
            let mut edited: Uri = given.parse().unwrap();
            assert_eq!(uri(&mut edited, &Details { strip, ..details("") }), Ok(()));
            assert_eq!(edited, left);
        }
    }
}
