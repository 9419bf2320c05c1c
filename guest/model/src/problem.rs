//! What a caller is told of a request that was not served: a problem document (RFC 9457) that tells a stranger nothing.

/// The media type of such a document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The field that names the decision, for a caller who asks an administrator about it.
pub const DECISION_HEADER: &str = "x-portcullis-decision";

/// The reason phrase of every status that a denial has.
#[must_use]
pub fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        408 => "Request Timeout",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

/// Whether a denial with that status ends the connection: a head that could be read in two ways may have ended elsewhere for
/// somebody else (RFC 9112 section 6.3).
#[must_use]
pub fn ends_connection(status: u16) -> bool {
    matches!(status, 400 | 414 | 431)
}

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
