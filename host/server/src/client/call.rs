//! One call of the admin API.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde::Serialize;
use serde_json::Value;

/// A call: what is asked of which record.
#[derive(Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    content: Content,
    tag: Option<HeaderValue>,
    idempotency: Option<String>,
    /// How much longer than others it may take.
    longer: Duration,
}

#[derive(Clone)]
enum Content {
    Nothing,
    Json(Value),
    Bytes(Vec<u8>),
}

/// The path of a record under the API's version. The segments are ids and names of ours, which need no encoding.
pub(crate) fn path(segments: &[&str]) -> String {
    segments.iter().fold("/v1".to_owned(), |path, segment| path + "/" + segment)
}

impl Call {
    pub(crate) fn get(path: String) -> Call {
        Call::new(Method::GET, path, Content::Nothing)
    }

    pub(crate) fn post(path: String, body: &impl Serialize) -> Call {
        Call::new(Method::POST, path, Content::json(body))
    }

    pub(crate) fn post_bytes(path: String, body: Vec<u8>) -> Call {
        Call::new(Method::POST, path, Content::Bytes(body))
    }

    pub(crate) fn put(path: String, body: &impl Serialize) -> Call {
        Call::new(Method::PUT, path, Content::json(body))
    }

    pub(crate) fn patch(path: String, body: &impl Serialize) -> Call {
        Call::new(Method::PATCH, path, Content::json(body))
    }

    pub(crate) fn delete(path: String) -> Call {
        Call::new(Method::DELETE, path, Content::Nothing)
    }

    fn new(method: Method, path: String, content: Content) -> Call {
        Call { method, path, query: Vec::new(), content, tag: None, idempotency: None, longer: Duration::ZERO }
    }

    /// With a parameter of the query.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Call {
        self.query.push((name, value.to_string()));
        self
    }

    /// Only if the record is still as it was read.
    pub(crate) fn if_match(mut self, tag: Option<HeaderValue>) -> Call {
        self.tag = tag;
        self
    }

    /// Named, so that it is not done twice where it is sent again.
    pub(crate) fn once(mut self, key: Option<&str>) -> Call {
        self.idempotency = key.map(str::to_owned);
        self
    }

    /// With so much more time than a call usually takes.
    pub(crate) fn longer(mut self, by: Duration) -> Call {
        self.longer = by;
        self
    }

    /// The same, confirmed: in the body, or in the query where there is none.
    pub(crate) fn confirmed(mut self) -> Call {
        if let Content::Json(Value::Object(fields)) = &mut self.content {
            fields.insert("confirm".to_owned(), Value::Bool(true));
            return self;
        }
        self.with("confirm", true)
    }

    pub(super) fn method(&self) -> Method {
        self.method.clone()
    }

    /// The path and the query. Everything in a value but unreserved characters is encoded (RFC 3986 section 2.3).
    pub(super) fn target(&self) -> String {
        let mut target = self.path.clone();
        let mut sign = '?';
        for (name, value) in &self.query {
            target.push(sign);
            target.push_str(name);
            target.push('=');
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    target.push(char::from(byte));
                } else {
                    // Writing to a string cannot fail.
                    let _ = write!(target, "%{byte:02X}");
                }
            }
            sign = '&';
        }
        target
    }

    pub(super) fn media(&self) -> Option<&'static str> {
        match self.content {
            Content::Nothing => None,
            Content::Json(_) => Some("application/json"),
            Content::Bytes(_) => Some("application/octet-stream"),
        }
    }

    pub(super) fn idempotency(&self) -> Option<&str> {
        self.idempotency.as_deref()
    }

    pub(super) fn extra_time(&self) -> Duration {
        self.longer
    }

    pub(super) fn tag(&self) -> Option<&HeaderValue> {
        self.tag.as_ref()
    }

    pub(super) fn content(&self) -> Bytes {
        match &self.content {
            Content::Nothing => Bytes::new(),
            Content::Json(value) => value.to_string().into(),
            Content::Bytes(bytes) => bytes.clone().into(),
        }
    }
}

impl Content {
    fn json(body: &impl Serialize) -> Content {
        // Arguments are texts, numbers and lists of them, which always have a JSON form; null is refused by the server.
        Content::Json(serde_json::to_value(body).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_query_are_encoded() {
        let call = Call::get(path(&["audit"])).with("entry", "2001:db8::/32").with("q", "a+b &\u{e9}~-._");
        assert_eq!(call.target(), "/v1/audit?entry=2001%3Adb8%3A%3A%2F32&q=a%2Bb%20%26%C3%A9~-._");
    }

    #[test]
    fn a_confirmation_goes_where_the_call_has_room() {
        let body = serde_json::json!({"expires": "2027-01-01"});
        let call = Call::post(path(&["x"]), &body).confirmed();
        assert_eq!(call.content(), r#"{"confirm":true,"expires":"2027-01-01"}"#);
        assert_eq!(call.target(), "/v1/x");
        assert_eq!(Call::delete(path(&["x"])).confirmed().target(), "/v1/x?confirm=true");
    }
}
