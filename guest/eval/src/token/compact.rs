//! The compact form of a JWS and its header (RFC 7515), as strict as can be.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use portcullis_model::verdict::Reason;

use super::json::Members;

/// The longest token that is looked at, in bytes. Those of ours have fewer than 1024; what a token says of itself must fit
/// an answer's details.
pub(crate) const MAX_TOKEN_BYTES: usize = 4096;

/// The three segments of a token. Nothing is decoded yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compact<'t> {
    /// What is signed: the first two segments with the dot between them.
    pub(super) signed: &'t str,
    header: &'t str,
    payload: &'t str,
    signature: &'t str,
}

impl<'t> Compact<'t> {
    /// Divides a token at its dots, of which there are two.
    pub(super) fn split(token: &'t [u8]) -> Result<Self, Reason> {
        Self::divided(token).ok_or(Reason::TokenMalformed)
    }

    fn divided(token: &'t [u8]) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let token = std::str::from_utf8(token).ok()?;
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        // A third dot is in the payload then, and no letter of the alphabet; it is found here so that it is not decoded.
        (!payload.contains('.')).then_some(Compact { signed, header, payload, signature })
    }

    pub(super) fn header(&self) -> Result<Header, Reason> {
        Header::read(&decoded(self.header)?)
    }

    pub(super) fn payload(&self) -> Result<Vec<u8>, Reason> {
        decoded(self.payload)
    }

    pub(super) fn signature(&self) -> Result<Vec<u8>, Reason> {
        decoded(self.signature)
    }
}

/// Base64url without padding, with no bit set that belongs to no byte (RFC 7515 section 2, RFC 4648 section 3.5).
fn decoded(segment: &str) -> Result<Vec<u8>, Reason> {
    Base64UrlUnpadded::decode_vec(segment).map_err(|_| Reason::TokenMalformed)
}

/// What is used of a header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The name of the algorithm. It chooses nothing: it must be that of the key.
    pub(super) algorithm: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
}

/// Members that bring a key along or say where to fetch one, and `b64`, which changes what is signed (RFC 7797). A token
/// that has one is refused, whatever its value: keys are those of the policy.
const REFUSED: [&str; 5] = ["jwk", "jku", "x5c", "x5u", "b64"];

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, Reason> {
        let members = Members::read(bytes).ok_or(Reason::TokenMalformed)?;
        // No extension is known, so none that is critical is understood (RFC 7515 section 4.1.11). An empty list is none.
        if members.get("crit").is_some() {
            return Err(Reason::TokenCritical);
        }
        if REFUSED.iter().any(|name| members.get(name).is_some()) {
            return Err(Reason::TokenMalformed);
        }
        let optional = |name| match members.get(name) {
            None => Ok(None),
            Some(_) => members.text(name).map(str::to_owned).map(Some).ok_or(Reason::TokenMalformed),
        };
        let algorithm = optional("alg")?.ok_or(Reason::TokenMalformed)?;
        Ok(Header { algorithm, kid: optional("kid")?, typ: optional("typ")? })
    }

    /// Whether the header says that this is an access token (RFC 9068 section 4; media types are compared without regard
    /// to case).
    pub(super) fn is_access_token(&self) -> bool {
        let typ = self.typ.as_deref().unwrap_or_default();
        ["at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(json: &str) -> Result<Header, Reason> {
        Header::read(json.as_bytes())
    }

    #[test]
    fn a_token_has_exactly_three_segments() {
        let compact = Compact::split(b"YQ.Yg.Yw").unwrap();
        assert_eq!((compact.signed, compact.payload().unwrap()), ("YQ.Yg", b"b".to_vec()));
        for bad in ["", ".", "YQ", "YQ.Yg", "YQ.Yg.Yw.ZA", "YQ.Yg.Yw.", ".YQ.Yg.Yw", "YQ.Yg.Yw.ZA.ZQ"] {
            assert_eq!(Compact::split(bad.as_bytes()).err(), Some(Reason::TokenMalformed), "{bad}");
        }
        assert!(Compact::split(b"YQ.Yg.\xff").is_err());
    }

    #[test]
    fn a_token_has_a_longest_length() {
        let token = |bytes: usize| format!("YQ.Yg.{}", "A".repeat(bytes - 6));
        assert!(Compact::split(token(MAX_TOKEN_BYTES).as_bytes()).is_ok());
        assert_eq!(Compact::split(token(MAX_TOKEN_BYTES + 1).as_bytes()).err(), Some(Reason::TokenMalformed));
    }

    #[test]
    fn segments_are_base64url_without_padding_and_trailing_bits() {
        assert_eq!(decoded("-_8"), Ok(vec![0xfb, 0xff]));
        assert_eq!(decoded(""), Ok(Vec::new()));
        for bad in ["YQ==", "YR", "YWJ", "+_8", "Y Q", "YQ\n", "Y", "YWI=", "Y=", "YWJj\0"] {
            assert_eq!(decoded(bad), Err(Reason::TokenMalformed), "{bad}");
        }
    }

    #[test]
    fn a_header_brings_no_key_and_no_extension() {
        assert!(header(r#"{"alg":"EdDSA","kid":"k","typ":"at+jwt","x5t":"thumb","unknown":[1]}"#).is_ok());
        for name in REFUSED {
            let json = format!(r#"{{"alg":"EdDSA","{name}":null}}"#);
            assert_eq!(header(&json), Err(Reason::TokenMalformed), "{name}");
        }
        for crit in ["[]", "null", r#"["b64"]"#, r#"["exp"]"#, r#""exp""#] {
            assert_eq!(header(&format!(r#"{{"alg":"EdDSA","crit":{crit}}}"#)), Err(Reason::TokenCritical), "{crit}");
        }
    }

    #[test]
    fn members_of_a_header_are_texts() {
        for bad in
            [r#"{}"#, r#"{"alg":1}"#, r#"{"alg":null}"#, r#"{"alg":"a","kid":1}"#, r#"{"alg":"a","typ":["at+jwt"]}"#]
        {
            assert_eq!(header(bad), Err(Reason::TokenMalformed), "{bad}");
        }
    }

    #[test]
    fn the_type_of_an_access_token_is_at_jwt() {
        let is = |typ: &str| header(&format!(r#"{{"alg":"a","typ":"{typ}"}}"#)).unwrap().is_access_token();
        assert!(is("at+jwt") && is("AT+JWT") && is("application/at+jwt") && is("Application/at+JWT"));
        assert!(!is("JWT") && !is("") && !is("at+jwt ") && !is("id+jwt"));
        assert!(!header(r#"{"alg":"a"}"#).unwrap().is_access_token());
    }
}
