//! Request methods and sets of them.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A request method that an endpoint can be given (RFC 9110 section 9, RFC 5789).
///
/// TRACE and CONNECT are refused before any endpoint is looked for; other methods are unknown to Portcullis and match no
/// endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// Every method, in the order of their bits in [`Methods`].
    pub const ALL: [Method; 7] =
        [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Options];

    /// The method as it stands in a request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }

    /// The method of that exact, case-sensitive name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Method> {
        match name {
            b"GET" => Some(Method::Get),
            b"HEAD" => Some(Method::Head),
            b"POST" => Some(Method::Post),
            b"PUT" => Some(Method::Put),
            b"PATCH" => Some(Method::Patch),
            b"DELETE" => Some(Method::Delete),
            b"OPTIONS" => Some(Method::Options),
            _ => None,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of methods. In JSON a list of names; every method where the field is left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Methods(u8);

impl Methods {
    /// Every method of [`Method::ALL`].
    pub const ALL: Methods = Methods(0x7f);
    /// No method.
    pub const NONE: Methods = Methods(0);

    /// Whether the set has `method`.
    #[must_use]
    pub fn contains(self, method: Method) -> bool {
        self.0 & Methods::bit(method) != 0
    }

    /// Whether every method of `other` is in this set.
    #[must_use]
    pub fn covers(self, other: Methods) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the two sets share a method.
    #[must_use]
    pub fn overlaps(self, other: Methods) -> bool {
        self.0 & other.0 != 0
    }

    /// The set with `method` added.
    #[must_use]
    pub fn with(self, method: Method) -> Methods {
        Methods(self.0 | Methods::bit(method))
    }

    /// The methods of the set, in the order of [`Method::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.into_iter().filter(move |method| self.contains(*method))
    }

    /// The set as one bit a method.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// A set from its bits; unknown bits are dropped.
    #[must_use]
    pub fn from_bits(bits: u8) -> Methods {
        Methods(bits & Methods::ALL.0)
    }

    fn bit(method: Method) -> u8 {
        match method {
            Method::Get => 1,
            Method::Head => 2,
            Method::Post => 4,
            Method::Put => 8,
            Method::Patch => 16,
            Method::Delete => 32,
            Method::Options => 64,
        }
    }
}

impl Default for Methods {
    fn default() -> Self {
        Methods::ALL
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, method) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(method.as_str())?;
        }
        Ok(())
    }
}

impl Serialize for Methods {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Method::as_str))
    }
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().try_fold(Methods::NONE, |set, name| {
            Method::from_name(name.as_bytes()).map(|method| set.with(method)).ok_or_else(|| {
                D::Error::custom(format_args!(
                    "`{name}` is not a method an endpoint can have: use {}, in upper case",
                    Methods::ALL.to_string().replace(' ', ", ")
                ))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_and_written_as_names() {
        let set: Methods = serde_json::from_str(r#"["POST","GET"]"#).unwrap();
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["GET","POST"]"#);
        assert!(set.contains(Method::Get) && !set.contains(Method::Put));
        assert!(Methods::ALL.covers(set) && !set.covers(Methods::ALL));
    }

    #[test]
    fn names_are_exact() {
        for bad in [r#"["get"]"#, r#"["TRACE"]"#, r#"["CONNECT"]"#, r#"[""]"#] {
            assert!(serde_json::from_str::<Methods>(bad).is_err(), "{bad}");
        }
    }
}
