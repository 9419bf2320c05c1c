//! Stable names of the things a policy speaks of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The longest [`Id`] in bytes, so that ids fit log fields, headers and file names.
pub const MAX_ID_BYTES: usize = 64;

/// A stable id of a service, endpoint, tenant, group, user, application or credential.
///
/// It never changes while the thing lives, whatever its display name does. It is safe to log and to put into a header.
///
/// # Limits
/// 1 to [`MAX_ID_BYTES`] characters of `A-Z a-z 0-9 . _ -`, the first one a letter or a digit. There is no `/`, so that
/// `parent/child` is unambiguous wherever two ids are joined.
///
/// ```
/// use portcullis_model::id::Id;
/// assert!("events-api".parse::<Id>().is_ok());
/// assert!("shop/events".parse::<Id>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(SmolStr);

impl Id {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_id(text) { Ok(Id(SmolStr::new(text))) } else { Err(IdError { text: text.to_owned() }) }
    }
}

impl TryFrom<String> for Id {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= MAX_ID_BYTES
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0.into()
    }
}

/// A text that is not an [`Id`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an id: use 1 to {MAX_ID_BYTES} letters, digits, `.`, `_` or `-`, beginning with a letter or digit"
)]
pub struct IdError {
    text: String,
}

/// An endpoint's full name: its service and its own id, written `service/endpoint`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointRef {
    /// The service that has the endpoint.
    pub service: Id,
    /// The endpoint's id within its service.
    pub endpoint: Id,
}

impl fmt::Display for EndpointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.endpoint)
    }
}

impl From<EndpointRef> for String {
    fn from(name: EndpointRef) -> String {
        name.to_string()
    }
}

impl TryFrom<String> for EndpointRef {
    type Error = EndpointRefError;

    fn try_from(text: String) -> Result<Self, EndpointRefError> {
        let parts = text.split_once('/').and_then(|(service, endpoint)| {
            Some(EndpointRef { service: service.parse().ok()?, endpoint: endpoint.parse().ok()? })
        });
        parts.ok_or(EndpointRefError { text })
    }
}

/// A text that does not name an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not name an endpoint: write `service/endpoint`")]
pub struct EndpointRefError {
    text: String,
}

/// The number of a policy. Every change of the policy gets the next one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_length_limit() {
        assert!("a".repeat(MAX_ID_BYTES).parse::<Id>().is_ok());
        assert!("a".repeat(MAX_ID_BYTES + 1).parse::<Id>().is_err());
        assert!("".parse::<Id>().is_err());
    }

    #[test]
    fn an_id_has_no_separator_space_or_leading_dot() {
        for bad in ["a/b", "a b", ".a", "-a", "é", "a\n"] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_endpoint_is_named_by_two_ids() {
        let name = EndpointRef::try_from("shop/events".to_owned()).unwrap();
        assert_eq!(name.to_string(), "shop/events");
        for bad in ["shop", "shop/", "/events", "a/b/c"] {
            assert!(EndpointRef::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
