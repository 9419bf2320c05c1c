//! What a caller is told of a request that was not served: a problem document (RFC 9457) that tells a stranger nothing.

/// The media type of such a document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The field that names the decision, for a caller who asks an administrator about it.
pub const DECISION_HEADER: &str = "x-portcullis-decision";

/// The document for a status, its title (the reason phrase), a public code, and the id of the decision. All of them are of a
/// closed list and need no escaping.
///
/// `members` are more members of the object, each behind a comma; usually none.
#[must_use]
pub fn document(status: u16, title: &str, code: &str, decision: &str, members: &str) -> String {
    format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"code\":\"{code}\",\"decision\":\"{decision}\"{members}}}\n"
    )
}
