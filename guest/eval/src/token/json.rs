//! JSON as a token may have it: objects whose members are distinct, at every depth.
//!
//! A parser that takes the first of two members and one that takes the last read two different tokens out of the same
//! bytes, so a repeated name is refused, also one that nobody asks for, also deep inside (RFC 7515 section 4, RFC 7519
//! section 4 leave it to the reader).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The most members that one object has. Tokens of ours have ten.
pub(super) const MAX_MEMBERS: usize = 64;
/// How deep values nest: the object itself is at depth 1.
pub(super) const MAX_DEPTH: u8 = 8;

/// A value, as far as tokens use it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Json {
    Integer(u64),
    Text(String),
    List(Vec<Json>),
    /// An object, null, a truth value, or a number that is negative or not whole. Nothing in a token is read from one.
    Other,
}

/// The members of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Members(Vec<(String, Json)>);

impl Members {
    /// Reads one object and nothing behind it.
    pub(super) fn read(bytes: &[u8]) -> Option<Members> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let members = reader.deserialize_map(Object { depth: 1 }).ok()?;
        reader.end().ok()?;
        Some(members)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The text of that name; nothing where it is missing or no text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Json::Text(text) => Some(text),
            Json::Integer(_) | Json::List(_) | Json::Other => None,
        }
    }
}

struct Object {
    depth: u8,
}

impl<'de> Visitor<'de> for Object {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members(Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            if members.get(&name).is_some() || members.0.len() == MAX_MEMBERS {
                return Err(A::Error::custom("members that are not distinct, or too many"));
            }
            let value = map.next_value_seed(Value { depth: self.depth })?;
            members.0.push((name, value));
        }
        Ok(members)
    }
}

struct Value {
    /// The depth of what holds it.
    depth: u8,
}

impl Value {
    fn inside<E: Error>(&self) -> Result<u8, E> {
        if self.depth >= MAX_DEPTH { Err(E::custom("too deep")) } else { Ok(self.depth + 1) }
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let depth = self.inside()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Value { depth })? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Json, A::Error> {
        let depth = self.inside()?;
        Object { depth }.visit_map(map).map(|_| Json::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(text: &str) -> bool {
        Members::read(text.as_bytes()).is_some()
    }

    #[test]
    fn an_object_is_read_with_its_types() {
        let members =
            Members::read(br#" {"a": 7, "b": "\u0078", "c": ["x", 1], "d": {"e": null}, "f": 7.0, "g": -1} "#);
        let members = members.unwrap();
        assert_eq!(members.get("a"), Some(&Json::Integer(7)));
        assert_eq!(members.text("b"), Some("x"));
        assert_eq!(members.get("c"), Some(&Json::List(vec![Json::Text("x".to_owned()), Json::Integer(1)])));
        for other in ["d", "f", "g"] {
            assert_eq!(members.get(other), Some(&Json::Other), "{other}");
        }
        assert_eq!((members.get("h"), members.text("a")), (None, None));
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_wherever_it_is() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"unknown":1,"x":2,"unknown":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
        ] {
            assert!(!reads(bad), "{bad}");
        }
        assert!(reads(r#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#));
    }

    #[test]
    fn what_is_no_single_object_is_refused() {
        for bad in [
            "",
            "[]",
            "1",
            "null",
            "\"a\"",
            "{",
            "{}{}",
            "{} x",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":\"\\ud800\"}",
            "\u{feff}{}",
        ] {
            assert!(!reads(bad), "{bad}");
        }
        assert!(Members::read(b"{\"a\":\"\xff\"}").is_none());
        assert!(reads("{}"));
    }

    #[test]
    fn an_object_has_a_most_number_of_members() {
        let object = |count: usize| {
            let members: Vec<_> = (0..count).map(|number| format!("\"m{number}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(reads(&object(MAX_MEMBERS)));
        assert!(!reads(&object(MAX_MEMBERS + 1)));
    }

    #[test]
    fn values_have_a_greatest_depth() {
        let nested = |depth: u8| {
            let lists = usize::from(depth) - 1;
            format!("{{\"a\":{}{}}}", "[".repeat(lists), "]".repeat(lists))
        };
        assert!(reads(&nested(MAX_DEPTH)));
        assert!(!reads(&nested(MAX_DEPTH + 1)));
    }
}
