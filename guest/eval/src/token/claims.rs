//! What a token claims (RFC 7519, RFC 9068), read strictly.

use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Reason;

use super::json::{Json, Members};

/// The claims of a token whose signature holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Claims {
    /// The id of the key that signed it.
    pub(super) kid: String,
    pub(super) issuer: String,
    /// The credential's id.
    pub(super) client: String,
    pub(super) secret_version: u16,
    /// Its id.
    pub(crate) id: String,
    /// Its scopes, separated by single spaces.
    pub(crate) scope: String,
    /// Its audiences, separated by single spaces.
    pub(crate) audience: String,
    issued: UnixTime,
    not_before: Option<UnixTime>,
    expires: UnixTime,
}

impl Claims {
    /// Reads a payload. All that RFC 9068 section 2.2 requires must be there, and `secret_version`; what is not known is
    /// left alone.
    pub(super) fn read(payload: &[u8], kid: String) -> Result<Claims, Reason> {
        Members::read(payload).and_then(|members| claims(&members, kid)).ok_or(Reason::TokenMalformed)
    }

    /// How many bytes it keeps.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.kid, &self.issuer, &self.client, &self.id, &self.scope, &self.audience];
        size_of::<Claims>() + texts.iter().map(|text| text.len()).sum::<usize>()
    }

    /// Whether the token is valid at that time.
    ///
    /// It ends at `exp` to the second (RFC 7519 section 4.1.4 allows leeway and does not ask for it: a token lives as long
    /// as the client was told, and no longer). `iat` and `nbf` may lie ahead by the skew, inclusive: the node that issued
    /// it may be that much ahead of this one.
    pub(super) fn check_time(&self, now: UnixTime, skew_s: u64) -> Result<(), Reason> {
        if now >= self.expires {
            return Err(Reason::TokenExpired);
        }
        let latest = now.as_secs().saturating_add(skew_s);
        if self.issued.as_secs() > latest || self.not_before.is_some_and(|from| from.as_secs() > latest) {
            return Err(Reason::TokenNotYet);
        }
        Ok(())
    }
}

fn claims(members: &Members, kid: String) -> Option<Claims> {
    let time = |name| match members.get(name)? {
        Json::Integer(seconds) => UnixTime::from_secs(*seconds),
        Json::Text(_) | Json::List(_) | Json::Other => None,
    };
    let Json::Integer(version) = members.get("secret_version")? else { return None };
    let not_before = match members.get("nbf") {
        None => None,
        Some(_) => Some(time("nbf")?),
    };
    let scope = match members.get("scope") {
        None => "",
        Some(_) => members.text("scope").filter(|scope| is_scope(scope))?,
    };
    term(members.text("sub")?)?;
    Some(Claims {
        kid,
        issuer: term(members.text("iss")?)?.to_owned(),
        client: term(members.text("client_id")?)?.to_owned(),
        secret_version: u16::try_from(*version).ok()?,
        id: term(members.text("jti")?)?.to_owned(),
        scope: scope.to_owned(),
        audience: audience(members.get("aud")?)?,
        issued: time("iat")?,
        not_before,
        expires: time("exp")?,
    })
}

/// A text of one or a list of at least one, separated by spaces, which none of them has.
fn audience(claim: &Json) -> Option<String> {
    match claim {
        Json::Text(one) => term(one).map(str::to_owned),
        Json::List(list) if !list.is_empty() => {
            let one = |json: &'_ Json| match json {
                Json::Text(text) => term(text).map(str::to_owned),
                Json::Integer(_) | Json::List(_) | Json::Other => None,
            };
            Some(list.iter().map(one).collect::<Option<Vec<_>>>()?.join(" "))
        }
        Json::List(_) | Json::Integer(_) | Json::Other => None,
    }
}

/// A text of visible ASCII. Identifiers are compared as they are, so they have no spelling but one.
fn term(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
}

/// Scopes as RFC 6749 section 3.3 writes them. A text without any is read too: some issuers put it for "none".
pub(crate) fn is_scope(text: &str) -> bool {
    text.is_empty() || text.split(' ').all(is_scope_token)
}

/// One scope.
pub(crate) fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 9] = [
        ("iss", r#""https://a.example""#),
        ("sub", r#""c1""#),
        ("client_id", r#""c1""#),
        ("aud", r#"["shop","depot"]"#),
        ("scope", r#""read write""#),
        ("iat", "1000"),
        ("exp", "2000"),
        ("jti", r#""t1""#),
        ("secret_version", "3"),
    ];

    fn read(change: &[(&str, Option<&str>)]) -> Result<Claims, Reason> {
        let mut members: Vec<(&str, &str)> = GOOD.to_vec();
        for (name, value) in change {
            members.retain(|(known, _)| known != name);
            members.extend(value.map(|value| (*name, value)));
        }
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        Claims::read(format!("{{{}}}", members.join(",")).as_bytes(), "k1".to_owned())
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds).unwrap()
    }

    #[test]
    fn claims_are_read() {
        let claims = read(&[("unknown", Some(r#"{"a":[1.5,null]}"#))]).unwrap();
        assert_eq!((claims.audience.as_str(), claims.scope.as_str()), ("shop depot", "read write"));
        assert_eq!((claims.client.as_str(), claims.secret_version, claims.expires), ("c1", 3, at(2000)));
        assert_eq!(read(&[("aud", Some(r#""shop""#))]).unwrap().audience, "shop");
        assert_eq!(read(&[("scope", None)]).unwrap().scope, "");
        assert_eq!(read(&[("scope", Some(r#""""#))]).unwrap().scope, "");
    }

    #[test]
    fn every_claim_but_scope_and_nbf_must_be_there() {
        for (name, _) in GOOD.into_iter().filter(|(name, _)| *name != "scope") {
            assert_eq!(read(&[(name, None)]), Err(Reason::TokenMalformed), "{name}");
        }
    }

    #[test]
    fn claims_of_another_type_are_refused() {
        let no_number = ["\"1500\"", "1500.0", "15e2", "-1", "null", "true", "[1500]", "18446744073709551616"];
        for name in ["exp", "iat", "nbf", "secret_version"] {
            for value in no_number {
                assert_eq!(read(&[(name, Some(value))]), Err(Reason::TokenMalformed), "{name} {value}");
            }
        }
        let no_text = ["1", "null", "true", "{}", "[\"c1\"]", "\"\"", "\"a b\"", "\"caf\u{e9}\""];
        for name in ["iss", "sub", "client_id", "jti"] {
            for value in no_text {
                assert_eq!(read(&[(name, Some(value))]), Err(Reason::TokenMalformed), "{name} {value}");
            }
        }
        for value in
            ["1", "null", "{}", "[]", "[1]", "[\"a\",null]", "[[\"a\"]]", "\"\"", "[\"\"]", "\"a b\"", "[\"a b\"]"]
        {
            assert_eq!(read(&[("aud", Some(value))]), Err(Reason::TokenMalformed), "aud {value}");
        }
        for value in [
            "1",
            "null",
            "[\"read\"]",
            "\" \"",
            "\"a  b\"",
            "\" a\"",
            "\"a \"",
            "\"a\\\"b\"",
            "\"a\\\\b\"",
            "\"a\\tb\"",
        ] {
            assert_eq!(read(&[("scope", Some(value))]), Err(Reason::TokenMalformed), "scope {value}");
        }
    }

    #[test]
    fn times_and_versions_have_a_last_value() {
        let last = UnixTime::MAX.as_secs();
        for name in ["exp", "iat", "nbf"] {
            assert!(read(&[(name, Some(&last.to_string()))]).is_ok(), "{name}");
            assert_eq!(read(&[(name, Some(&(last + 1).to_string()))]), Err(Reason::TokenMalformed), "{name}");
        }
        assert!(read(&[("secret_version", Some("65535"))]).is_ok());
        assert_eq!(read(&[("secret_version", Some("65536"))]), Err(Reason::TokenMalformed));
    }

    #[test]
    fn a_token_ends_to_the_second() {
        let claims = read(&[]).unwrap();
        assert_eq!(claims.check_time(at(1999), 60), Ok(()));
        assert_eq!(claims.check_time(at(2000), 60), Err(Reason::TokenExpired));
    }

    #[test]
    fn a_token_may_begin_ahead_by_the_skew_and_no_more() {
        let issued = read(&[]).unwrap();
        assert_eq!(issued.check_time(at(940), 60), Ok(()));
        assert_eq!(issued.check_time(at(939), 60), Err(Reason::TokenNotYet));
        let later = read(&[("nbf", Some("1500"))]).unwrap();
        assert_eq!(later.check_time(at(1440), 60), Ok(()));
        assert_eq!(later.check_time(at(1439), 60), Err(Reason::TokenNotYet));
        assert_eq!(later.check_time(at(1499), 0), Err(Reason::TokenNotYet));
    }
}
