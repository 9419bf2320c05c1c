//! What a client is granted of what it asks for. The gate has proven who asks; here is decided what the token says.

use std::collections::BTreeSet;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use portcullis_model::credential::Kind;
use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use portcullis_store::Grantee;
use rand::Rng as _;
use serde::Serialize;

use crate::token::is_issuer;

/// The most bytes of a token's claims: with the header and the longest signature the gate takes the token, which is 4096.
const MAX_CLAIMS_BYTES: usize = 2_600;

/// A client or personal key that the gate has proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProvenClient {
    /// Its id.
    pub credential: Id,
    /// The version of the secret that it came with.
    pub secret_version: u16,
    /// The revision that it was decided by.
    pub decided: Revision,
    /// The service whose token endpoint was asked.
    pub service: Id,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// The scopes, separated by spaces; all that the client has where nothing is said.
    pub scope: Option<String>,
    /// The audiences; all that the client has where none is named.
    pub audiences: Vec<String>,
}

/// Why no token is issued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenError {
    /// The code.
    pub code: TokenErrorCode,
    /// What is wrong, for whoever wrote the client. It repeats nothing of what came.
    pub message: &'static str,
}

/// The codes of RFC 6749 section 5.2 and RFC 8707 section 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "they are the codes of the standards")]
pub enum TokenErrorCode {
    InvalidRequest,
    InvalidClient,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    InvalidTarget,
}

impl TokenErrorCode {
    /// The code as the standards write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenErrorCode::InvalidRequest => "invalid_request",
            TokenErrorCode::InvalidClient => "invalid_client",
            TokenErrorCode::UnauthorizedClient => "unauthorized_client",
            TokenErrorCode::UnsupportedGrantType => "unsupported_grant_type",
            TokenErrorCode::InvalidScope => "invalid_scope",
            TokenErrorCode::InvalidTarget => "invalid_target",
        }
    }
}

/// What a token says (RFC 9068 section 2.2).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    client_id: String,
    aud: Audience,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    iat: u64,
    exp: u64,
    pub(super) jti: String,
    secret_version: u16,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Claims {
    /// The scopes, where it has any.
    pub(super) fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// How long it lives, in seconds.
    pub(super) fn lifetime_s(&self) -> u64 {
        self.exp - self.iat
    }

    pub(super) fn audiences(&self) -> &[String] {
        match &self.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Several(several) => several,
        }
    }
}

/// What a client gets. `at_service` are the audiences of the service that was asked: those of a personal key, which has none
/// of its own.
pub(super) fn grant(
    client: &ProvenClient,
    grantee: &Grantee,
    asked: &Asked,
    at_service: &[String],
    (issuer, now): (&str, UnixTime),
) -> Result<Claims, TokenError> {
    let error = |code, message| TokenError { code, message };
    let issuer = grantee.rules.token_issuer.as_deref().unwrap_or(issuer);
    if grantee.tenant == crate::system_tenant() || !is_issuer(issuer) {
        return Err(error(TokenErrorCode::UnauthorizedClient, "there are no tokens for keys of this tenant"));
    }
    let none = [];
    let (scopes, audiences): (&[String], &[String]) = match &grantee.terms {
        Some(terms) => (&terms.scopes, &terms.audiences),
        None => (&none, at_service),
    };
    let scopes = scopes_of(scopes, asked.scope.as_deref())?;
    let audiences = audiences_of(audiences, &asked.audiences)?;
    let lifetime = lifetime(client, grantee, now)
        .ok_or_else(|| error(TokenErrorCode::InvalidClient, "the client is not known, or its secret is another"))?;
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    let subject = match (grantee.kind, &grantee.owner) {
        (Kind::Personal, Some(owner)) => owner.to_string(),
        (Kind::Personal | Kind::Client | Kind::Workspace | Kind::Tenant | Kind::Management | Kind::Session, _) => {
            client.credential.to_string()
        }
    };
    let claims = Claims {
        iss: issuer.to_owned(),
        sub: subject,
        client_id: client.credential.to_string(),
        aud: match audiences.as_slice() {
            [one] => Audience::One(one.clone()),
            _ => Audience::Several(audiences),
        },
        scope: Some(scopes.join(" ")).filter(|scope| !scope.is_empty()),
        iat: now.as_secs(),
        exp: now.as_secs().saturating_add(lifetime),
        jti: Base64UrlUnpadded::encode_string(&id),
        secret_version: client.secret_version,
    };
    if serde_json::to_string(&claims).map_or(usize::MAX, |text| text.len()) > MAX_CLAIMS_BYTES {
        return Err(error(
            TokenErrorCode::InvalidTarget,
            "the token would be too long: name fewer audiences or scopes",
        ));
    }
    Ok(claims)
}

/// A subset of the scopes that there are; all of them where none is asked for.
fn scopes_of(there: &[String], asked: Option<&str>) -> Result<Vec<String>, TokenError> {
    let error = |message| TokenError { code: TokenErrorCode::InvalidScope, message };
    let Some(asked) = asked else { return Ok(there.to_vec()) };
    // scope-token *( SP scope-token ), RFC 6749 section 3.3.
    let wanted: BTreeSet<&str> = asked.split(' ').collect();
    if wanted.contains("") {
        return Err(error("`scope` is one or more scopes with one space between them"));
    }
    if !wanted.iter().all(|scope| there.iter().any(|known| known == scope)) {
        return Err(error("the client does not have every scope of `scope`"));
    }
    Ok(there.iter().filter(|scope| wanted.contains(scope.as_str())).cloned().collect())
}

/// A subset of the audiences that there are; all of them where none is named.
fn audiences_of(there: &[String], asked: &[String]) -> Result<Vec<String>, TokenError> {
    let error = |message| TokenError { code: TokenErrorCode::InvalidTarget, message };
    if there.is_empty() {
        return Err(error("the client has no audience"));
    }
    if !asked.iter().all(|audience| there.contains(audience)) {
        return Err(error("the client does not have every audience that `resource` or `audience` names"));
    }
    Ok(there.iter().filter(|audience| asked.is_empty() || asked.contains(audience)).cloned().collect())
}

/// How long the token may live: no longer than the client, or the version of its secret. Nothing where one of them is over.
fn lifetime(client: &ProvenClient, grantee: &Grantee, now: UnixTime) -> Option<u64> {
    let (_, until) = grantee.versions.iter().find(|(version, _)| *version == client.secret_version)?;
    let ends = grantee.expires.map(|expires| expires.instant().as_secs()).into_iter().chain(*until);
    let left = ends.map(|end| end.saturating_sub(now.as_secs())).min().unwrap_or(u64::MAX);
    Some(u64::from(grantee.rules.token_validity_s).min(left)).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use portcullis_model::time::Expiry;
    use portcullis_store::{ClientTerms, TenantRules};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(NOW + seconds).unwrap()
    }

    fn client() -> (ProvenClient, Grantee) {
        let client = ProvenClient {
            credential: "c1".parse().unwrap(),
            secret_version: 1,
            decided: Revision(5),
            service: "shop".parse().unwrap(),
        };
        let grantee = Grantee {
            tenant: "acme".parse().unwrap(),
            kind: Kind::Client,
            expires: None,
            terms: Some(ClientTerms { scopes: list("read write"), audiences: list("shop https://api.example") }),
            owner: None,
            versions: vec![(1, None)],
            rules: TenantRules::default(),
            changed: Revision(5),
            deleted: false,
        };
        (client, grantee)
    }

    fn ask(scope: Option<&str>, audiences: &str) -> Result<Claims, TokenErrorCode> {
        let (client, grantee) = client();
        let asked = Asked { scope: scope.map(str::to_owned), audiences: list(audiences) };
        grant(&client, &grantee, &asked, &[], ("https://issuer.example", at(0))).map_err(|error| error.code)
    }

    #[test]
    fn what_is_left_out_is_all_of_it() {
        let claims = ask(None, "").unwrap();
        assert_eq!(claims.scope(), Some("read write"));
        assert_eq!(claims.audiences(), list("shop https://api.example"));
        assert_eq!((claims.lifetime_s(), claims.exp), (3600, NOW + 3600));
        let json = serde_json::to_value(&claims).unwrap();
        assert_eq!((&json["iss"], &json["sub"]), (&"https://issuer.example".into(), &"c1".into()));
        assert_eq!((&json["client_id"], &json["secret_version"]), (&"c1".into(), &1.into()));
    }

    #[test]
    fn a_part_is_granted_and_nothing_beyond() {
        assert_eq!(ask(Some("write"), "shop").unwrap().scope(), Some("write"));
        let one = serde_json::to_value(ask(Some("write read"), "shop").unwrap()).unwrap();
        assert_eq!((&one["aud"], &one["scope"]), (&"shop".into(), &"read write".into()));
        for bad in ["", " ", "read  write", "read ", "admin", "read admin", "READ", "read\twrite"] {
            assert_eq!(ask(Some(bad), "").unwrap_err(), TokenErrorCode::InvalidScope, "{bad:?}");
        }
        for bad in ["other", "shop other", "SHOP"] {
            assert_eq!(ask(None, bad).unwrap_err(), TokenErrorCode::InvalidTarget, "{bad}");
        }
    }

    #[test]
    fn a_token_ends_with_its_client_and_its_secret() {
        let lifetime = |expires: Option<u64>, until: Option<u64>| {
            let (client, mut grantee) = client();
            grantee.expires = expires.map(|seconds| Expiry::at(at(seconds)));
            grantee.versions = vec![(1, until.map(|seconds| NOW + seconds))];
            grant(&client, &grantee, &Asked::default(), &[], ("iss", at(0))).map(|claims| claims.lifetime_s())
        };
        assert_eq!(lifetime(Some(100), None), Ok(100));
        assert_eq!(lifetime(Some(100), Some(50)), Ok(50));
        assert_eq!(lifetime(Some(9000), Some(7000)), Ok(3600));
        assert_eq!(lifetime(Some(1), None), Ok(1));
        for (expires, until) in [(Some(0), None), (None, Some(0))] {
            assert_eq!(lifetime(expires, until).unwrap_err().code, TokenErrorCode::InvalidClient);
        }
        let (client, mut grantee) = client();
        grantee.versions = vec![(2, None)];
        let dead = grant(&client, &grantee, &Asked::default(), &[], ("iss", at(0)));
        assert_eq!(dead.unwrap_err().code, TokenErrorCode::InvalidClient, "a version that is gone");
    }

    #[test]
    fn a_personal_key_is_its_owner_at_the_service_that_was_asked() {
        let (client, mut grantee) = client();
        (grantee.kind, grantee.owner, grantee.terms) = (Kind::Personal, Some("ann".parse().unwrap()), None);
        let ask = |asked: &Asked| grant(&client, &grantee, asked, &list("shop shop-api"), ("iss", at(0)));
        let claims = ask(&Asked::default()).unwrap();
        let json = serde_json::to_value(&claims).unwrap();
        assert_eq!((&json["sub"], &json["client_id"], json.get("scope")), (&"ann".into(), &"c1".into(), None));
        assert_eq!(claims.audiences(), list("shop shop-api"));
        let scoped = Asked { scope: Some("read".to_owned()), ..Asked::default() };
        assert_eq!(ask(&scoped).unwrap_err().code, TokenErrorCode::InvalidScope);
    }

    #[test]
    fn the_system_tenant_has_no_tokens() {
        let (client, mut grantee) = client();
        grantee.tenant = crate::system_tenant();
        let refused = grant(&client, &grantee, &Asked::default(), &[], ("iss", at(0)));
        assert_eq!(refused.unwrap_err().code, TokenErrorCode::UnauthorizedClient);
    }

    #[test]
    fn a_token_has_a_longest_length() {
        let (client, mut grantee) = client();
        let mut ask = |bytes: usize| {
            grantee.terms = Some(ClientTerms { scopes: vec!["s".repeat(bytes)], audiences: list("shop") });
            grant(&client, &grantee, &Asked::default(), &[], ("iss", at(0)))
        };
        let rest = serde_json::to_string(&ask(1).unwrap()).unwrap().len() - 1;
        assert!(ask(MAX_CLAIMS_BYTES - rest).is_ok());
        assert_eq!(ask(MAX_CLAIMS_BYTES - rest + 1).unwrap_err().code, TokenErrorCode::InvalidTarget);
    }
}
