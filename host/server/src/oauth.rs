//! The wire form of the token endpoint (RFC 6749, RFC 8414, RFC 8707): what comes in a form, what goes out as JSON.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use portcullis_control::{Asked, TokenError, TokenErrorCode};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

/// The longest form in bytes. A request with a hundred scopes of the usual length has half of it.
pub(crate) const MAX_FORM_BYTES: usize = 8 * 1024;
/// The most parameters of a form.
const MAX_PARAMETERS: usize = 256;
/// The challenge to a client that failed.
pub(crate) const CHALLENGE: &str = "Basic realm=\"OAuth2 Token Endpoint\"";
/// Where metadata is (RFC 8414 section 3).
pub(crate) const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";

const FORM: &str = "application/x-www-form-urlencoded";
const GRANT: &str = "client_credentials";

/// A form that was read.
pub(crate) struct Form {
    /// What is asked for, or what is wrong with it.
    pub(crate) asked: Result<Asked, TokenError>,
    /// The client's id, where it is in the form.
    pub(crate) client_id: Option<String>,
    /// The client's secret, where it is in the form.
    pub(crate) client_secret: Option<SecretString>,
}

/// Whether a body is said to be a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let essence = only.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(FORM) && !headers.contains_key(CONTENT_ENCODING)
}

fn invalid(message: &'static str) -> TokenError {
    TokenError { code: TokenErrorCode::InvalidRequest, message }
}

impl Form {
    /// Reads a form. Parameters without a value count as left out (RFC 6749 section 3.2), and none but the audiences may
    /// come twice.
    ///
    /// # Errors
    /// Where it is no form.
    pub(crate) fn read(body: &[u8]) -> Result<Form, TokenError> {
        let not_a_form = || invalid("the body is no form of UTF-8 text");
        let text = std::str::from_utf8(body).map_err(|_| not_a_form())?;
        let mut form = Form { asked: Ok(Asked::default()), client_id: None, client_secret: None };
        let (mut grant_type, mut scope, mut audiences, mut seen) = (None, None, Vec::new(), Vec::new());
        let pairs: Vec<&str> = text.split('&').filter(|pair| !pair.is_empty()).collect();
        if pairs.len() > MAX_PARAMETERS {
            return Err(invalid("the form has too many parameters"));
        }
        let mut is_doubled = false;
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name).ok_or_else(not_a_form)?, decoded(value).ok_or_else(not_a_form)?);
            let is_audience = matches!(name.as_str(), "resource" | "audience");
            is_doubled |= !is_audience && seen.contains(&*name);
            match name.as_str() {
                _ if value.is_empty() => {}
                "grant_type" => grant_type = Some(value.to_string()),
                "scope" => scope = Some(value.to_string()),
                "resource" | "audience" => audiences.push(value.to_string()),
                "client_id" => form.client_id = Some(value.to_string()),
                "client_secret" => form.client_secret = Some(SecretString::from(value.as_str())),
                _ => {}
            }
            seen.push(name.to_string());
        }
        form.asked = if is_doubled {
            Err(invalid("a parameter comes twice"))
        } else {
            match grant_type.as_deref() {
                Some(GRANT) => Ok(Asked { scope, audiences }),
                Some(_) => Err(TokenError {
                    code: TokenErrorCode::UnsupportedGrantType,
                    message: "the grant type is `client_credentials`",
                }),
                None => Err(invalid("`grant_type` is missing")),
            }
        };
        Ok(form)
    }

    /// The value of `Authorization` for the client that the form names, in full.
    pub(crate) fn basic(&self) -> Option<Zeroizing<String>> {
        use base64ct::{Base64, Encoding as _};
        let (id, secret) = (self.client_id.as_ref()?, self.client_secret.as_ref()?);
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let secret = Zeroizing::new(encode(secret.expose_secret()));
        let pair = Zeroizing::new(format!("{}:{}", encode(id), *secret));
        let text = Zeroizing::new(Base64::encode_string(pair.as_bytes()));
        Some(Zeroizing::new(format!("Basic {}", *text)))
    }
}

/// The client's id in `Authorization: Basic`, for the records alone: the gate reads it by itself.
pub(crate) fn basic_id(headers: &HeaderMap) -> Option<String> {
    use base64ct::{Base64, Encoding as _};
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || text.len() > MAX_FORM_BYTES {
        return None;
    }
    let pair = Zeroizing::new(Base64::decode_vec(text.trim()).ok()?);
    let id = pair.split(|byte| *byte == b':').next()?;
    decoded(std::str::from_utf8(id).ok()?).map(|id| id.to_string())
}

/// A form-encoded text; nothing where it is not one. `%` stands before two hex digits, and what comes of it is UTF-8.
fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let bytes = text.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let is_sound = |(at, byte): (usize, &u8)| match byte {
        b'%' => is_hex(at + 1) && is_hex(at + 2),
        byte => byte.is_ascii_graphic(),
    };
    if !bytes.iter().enumerate().all(is_sound) {
        return None;
    }
    let spaced = Zeroizing::new(text.replace('+', " "));
    let text = percent_decode_str(&spaced).decode_utf8().ok()?.into_owned();
    Some(Zeroizing::new(text))
}

/// What an error is answered with: its status, and its document (RFC 6749 section 5.2, with what Antavo's clients read).
pub(crate) fn error_of(error: &TokenError) -> (StatusCode, Bytes) {
    let status = match error.code {
        TokenErrorCode::InvalidClient => StatusCode::UNAUTHORIZED,
        TokenErrorCode::InvalidRequest
        | TokenErrorCode::UnauthorizedClient
        | TokenErrorCode::UnsupportedGrantType
        | TokenErrorCode::InvalidScope
        | TokenErrorCode::InvalidTarget => StatusCode::BAD_REQUEST,
    };
    let number = match error.code {
        TokenErrorCode::InvalidClient => Some(220_010),
        TokenErrorCode::InvalidRequest => Some(220_011),
        TokenErrorCode::UnauthorizedClient => Some(220_013),
        TokenErrorCode::UnsupportedGrantType => Some(220_014),
        TokenErrorCode::InvalidScope => Some(220_015),
        // Antavo has no audiences by RFC 8707.
        TokenErrorCode::InvalidTarget => None,
    };
    (status, document(error.code.as_str(), error.message, number))
}

/// The document of an error.
pub(crate) fn document(code: &str, message: &str, number: Option<u32>) -> Bytes {
    let mut document = json!({ "error": code, "error_description": message });
    if let (Some(number), Some(members)) = (number, document.as_object_mut()) {
        let details = json!({ "type": code, "code": number, "message": message });
        members.insert("details".to_owned(), details);
    }
    text(&document)
}

/// The one answer to a client that failed, whatever the reason.
pub(crate) fn failed_client() -> TokenError {
    TokenError { code: TokenErrorCode::InvalidClient, message: "the client is not known, or its secret is another" }
}

/// What was wrong with a request that nobody could read.
pub(crate) fn unreadable() -> TokenError {
    invalid("the request cannot be read")
}

/// A query belongs to no request for a token: what is in a URL gets into logs.
pub(crate) fn has_query() -> TokenError {
    invalid("the parameters belong into the body, not into the URL")
}

/// Two ways to prove a client at once (RFC 6749 section 2.3).
pub(crate) fn proven_twice() -> TokenError {
    invalid("a client proves itself in one way: by the header, or by the form")
}

/// The answer with a token.
pub(crate) fn token_document(token: &SecretString, lifetime_s: u64, scope: Option<&str>) -> Bytes {
    let mut document =
        json!({ "access_token": token.expose_secret(), "token_type": "Bearer", "expires_in": lifetime_s });
    if let (Some(scope), Some(members)) = (scope, document.as_object_mut()) {
        members.insert("scope".to_owned(), scope.into());
    }
    text(&document)
}

/// What an authorization server says of itself (RFC 8414 section 2).
pub(crate) fn metadata(issuer: &str, base: &str, reserved: &str) -> Bytes {
    text(&json!({
        "issuer": issuer,
        "token_endpoint": format!("{base}{reserved}{}", portcullis_control::TOKEN_PATH),
        "jwks_uri": format!("{base}{reserved}{}", portcullis_control::JWKS_PATH),
        "grant_types_supported": [GRANT],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }))
}

/// The parts of an issuer that is a URL: its origin and its path, without a slash at the end.
pub(crate) fn issuer_parts(issuer: &str) -> Option<(&str, &str)> {
    if !portcullis_control::is_issuer_url(issuer) {
        return None;
    }
    let begin = issuer.find("://")? + 3;
    let end = issuer.get(begin..)?.find('/').map_or(issuer.len(), |at| begin + at);
    Some((issuer.get(..end)?, issuer.get(end..)?.trim_end_matches('/')))
}

pub(crate) fn text(document: &Value) -> Bytes {
    Bytes::from(format!("{document}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Asked, TokenErrorCode> {
        Form::read(body.as_bytes()).and_then(|form| form.asked).map_err(|error| error.code)
    }

    #[test]
    fn a_form_says_what_is_asked_for() {
        let asked =
            read("grant_type=client_credentials&scope=a+b%3Ac&resource=https%3A%2F%2Fx&audience=y&other=1").unwrap();
        assert_eq!(asked.scope.as_deref(), Some("a b:c"));
        assert_eq!(asked.audiences, ["https://x", "y"]);
        let empty = read("grant_type=client_credentials&scope=&resource=").unwrap();
        assert_eq!(empty, Asked::default(), "without a value is left out");
    }

    #[test]
    fn what_is_no_request_for_a_token_is_told_apart() {
        for (body, code) in [
            ("", TokenErrorCode::InvalidRequest),
            ("scope=a", TokenErrorCode::InvalidRequest),
            ("grant_type=", TokenErrorCode::InvalidRequest),
            ("grant_type=client_credentials&grant_type=client_credentials", TokenErrorCode::InvalidRequest),
            ("grant_type=client_credentials&scope=a&scope=a", TokenErrorCode::InvalidRequest),
            ("grant_type=client_credentials&scope=a&scope=", TokenErrorCode::InvalidRequest),
            ("grant_type=client_credentials&other=1&other=2", TokenErrorCode::InvalidRequest),
            ("grant_type=client_credentials&%67rant_type=x", TokenErrorCode::InvalidRequest),
            ("grant_type=password", TokenErrorCode::UnsupportedGrantType),
            ("grant_type=Client_credentials", TokenErrorCode::UnsupportedGrantType),
            ("grant_type=client_credentials&scope=%", TokenErrorCode::InvalidRequest),
            ("grant_type=client_credentials&scope=%zz", TokenErrorCode::InvalidRequest),
            ("grant_type=client_credentials&scope=%ff", TokenErrorCode::InvalidRequest),
            ("grant_type=client_credentials&scope=a b", TokenErrorCode::InvalidRequest),
            ("{\"grant_type\":\"client_credentials\"}", TokenErrorCode::InvalidRequest),
        ] {
            assert_eq!(read(body).unwrap_err(), code, "{body}");
        }
        assert!(Form::read(b"grant_type=\xff").is_err());
    }

    #[test]
    fn a_form_has_a_number_of_parameters() {
        let form = |count: usize| {
            let others: Vec<String> = (1..count).map(|number| format!("p{number}=1")).collect();
            read(&format!("grant_type=client_credentials&{}", others.join("&")))
        };
        assert!(form(MAX_PARAMETERS).is_ok());
        assert_eq!(form(MAX_PARAMETERS + 1).unwrap_err(), TokenErrorCode::InvalidRequest);
    }

    #[test]
    fn a_client_of_the_form_becomes_one_of_the_header() {
        let form = Form::read(b"client_id=c%3A1&client_secret=p%25+x").unwrap();
        let basic = form.basic().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::AUTHORIZATION, basic.parse().unwrap());
        assert_eq!(basic_id(&headers).as_deref(), Some("c:1"));
        assert!(Form::read(b"client_id=c1").unwrap().basic().is_none());
        assert!(Form::read(b"client_secret=c1").unwrap().basic().is_none());
    }

    #[test]
    fn only_a_form_is_one() {
        let is = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            is_form(&headers)
        };
        assert!(is(FORM) && is("Application/X-WWW-Form-Urlencoded; charset=UTF-8"));
        assert!(!is("application/json") && !is("application/x-www-form-urlencodedx") && !is_form(&HeaderMap::new()));
        let mut packed = HeaderMap::new();
        packed.insert(CONTENT_TYPE, FORM.parse().unwrap());
        packed.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(!is_form(&packed));
    }

    #[test]
    fn an_error_is_that_of_the_standard_and_of_antavo() {
        let (status, document) = error_of(&failed_client());
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["error"], "invalid_client");
        assert_eq!(document["details"]["code"], 220_010);
        let target = TokenError { code: TokenErrorCode::InvalidTarget, message: "m" };
        let document: Value = serde_json::from_slice(&error_of(&target).1).unwrap();
        assert!(document.get("details").is_none());
    }

    #[test]
    fn an_issuer_has_an_origin_and_a_path() {
        assert_eq!(issuer_parts("https://a.example"), Some(("https://a.example", "")));
        assert_eq!(issuer_parts("https://a.example/"), Some(("https://a.example", "")));
        assert_eq!(issuer_parts("http://a.example:8080/x/y/"), Some(("http://a.example:8080", "/x/y")));
        for none in ["urn:portcullis:1", "portcullis", "https://", "https:///x", "https://a?x", "https://u@a"] {
            assert_eq!(issuer_parts(none), None, "{none}");
        }
    }
}
