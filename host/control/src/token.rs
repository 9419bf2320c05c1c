//! Access tokens: who issues them, by which key, and for how long.
//!
//! | module | holds |
//! |---|---|
//! | [`key`] | keys that sign: made, named, sealed, published |
//! | [`grant`] | what a client is granted of what it asks for |
//! | [`desk`] | the queue of requests, and the task that writes them down |

mod desk;
mod grant;
mod key;

use std::sync::{Arc, PoisonError, RwLock};

use portcullis_model::source::{Installation, TokenAlgorithm, TokenKeyMaterial};
use portcullis_model::time::UnixTime;
use portcullis_store::{Store, StoreError, Stored, TenantRecord, TokenKeyRecord, Write};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use desk::{Claimed, Counted, Issued as IssuedToken, TokenDesk, TokenWriter, Unanswered};
pub use grant::{Asked, ProvenClient, TokenError, TokenErrorCode};
pub use key::TokenKeyError;
pub(crate) use key::{NewTokenKey, Signer};

use crate::seal::Sealer;
use crate::{Control, Failed};

/// Where tokens are issued, below a service's reserved prefix.
pub const TOKEN_PATH: &str = "/v1/auth/token";
/// Where the public keys are, below a service's reserved prefix.
pub const JWKS_PATH: &str = "/v1/auth/jwks.json";

/// The longest issuer in bytes, as the policy has it.
const MAX_ISSUER_BYTES: usize = 256;

/// How long whoever keeps the public keys may do so without asking again, in seconds.
pub const JWKS_MAX_AGE_S: u64 = 300;
/// How long a new key is published before it signs, in seconds: twice as long as it may be missing from a copy.
pub const PUBLISHED_AHEAD_S: u64 = 2 * JWKS_MAX_AGE_S;

/// How the installation issues tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TokenSettings {
    /// The issuer of tenants that have none of their own; a name of the installation where nothing is said.
    pub issuer: Option<String>,
    /// The algorithm of the key that signs; that of the newest key where nothing is said.
    pub algorithm: Option<TokenAlgorithm>,
}

/// What tokens are issued by.
pub(crate) struct Tokens {
    pub(crate) issuer: String,
    algorithm: Option<TokenAlgorithm>,
    signers: RwLock<Arc<Vec<Arc<Signer>>>>,
}

/// A key of access tokens, as an operator sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct TokenKeyView {
    /// The key, without its private half.
    pub stored: Stored<TokenKeyRecord>,
    /// What it is for now.
    pub role: TokenKeyRole,
    /// When it will be removed; not known of the one that signs and of the next.
    pub until: Option<UnixTime>,
}

/// What a key of access tokens is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKeyRole {
    /// It is published and will sign.
    Next,
    /// It signs.
    Signing,
    /// It signs no more; tokens of it are still good.
    Old,
}

impl TokenKeyRole {
    /// Its name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenKeyRole::Next => "next",
            TokenKeyRole::Signing => "signing",
            TokenKeyRole::Old => "old",
        }
    }
}

impl Tokens {
    pub(crate) fn new(settings: TokenSettings, store: &Store) -> Tokens {
        let issuer = settings.issuer.unwrap_or_else(|| name_of(store));
        Tokens { issuer, algorithm: settings.algorithm, signers: RwLock::default() }
    }

    /// Takes the keys as they are stored.
    pub(crate) async fn read(&self, store: &Store, sealer: &Sealer) -> Result<(), Failed> {
        let stored = store.token_keys().await?.into_iter().map(|stored| stored.record);
        let signers = stored.map(|record| Signer::open(sealer, &record).map(Arc::new));
        self.put(signers.collect::<Result<_, _>>()?);
        Ok(())
    }

    /// Takes over what a change has written of keys. Called once their public halves are in force, so that no token is
    /// signed by a key that the gate does not know.
    pub(crate) fn take(&self, writes: &[Write], sealer: &Sealer) {
        let mut signers = self.all().to_vec();
        for write in writes {
            if let Write::PutTokenKey(record) = write {
                match Signer::open(sealer, record) {
                    Ok(signer) => {
                        signers.retain(|known| known.kid != record.kid);
                        signers.push(Arc::new(signer));
                    }
                    // It was sealed a moment ago by the same sealer.
                    Err(error) => tracing::error!(%error, kid = record.kid, "a new key of access tokens does not open"),
                }
            }
            if let Write::RemoveTokenKey(kid) = write {
                signers.retain(|known| known.kid != *kid);
            }
        }
        self.put(signers);
    }

    fn put(&self, mut signers: Vec<Arc<Signer>>) {
        signers.sort_by_key(|signer| signer.signs_from);
        *self.signers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signers);
    }

    /// The keys, in the order in which they sign.
    fn all(&self) -> Arc<Vec<Arc<Signer>>> {
        Arc::clone(&self.signers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key that signs now.
    pub(crate) fn signer(&self, now: UnixTime) -> Option<Arc<Signer>> {
        self.all().iter().rfind(|signer| signer.signs_from <= now).cloned()
    }
}

/// What the installation is called where nobody has said: a name that stays, whatever its address, and that no other has.
fn name_of(store: &Store) -> String {
    let digest = Sha256::new_with_prefix(b"portcullis issuer\n").chain_update(store.seed().0).finalize();
    let short = digest.get(..12).unwrap_or_default();
    format!("urn:portcullis:{}", base16ct::lower::encode_string(short))
}

/// Whether a text can be an issuer.
pub(crate) fn is_issuer(text: &str) -> bool {
    (1..=MAX_ISSUER_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether a text can be an issuer that has metadata (RFC 8414 section 2): a URL of the web, without query and fragment.
#[must_use]
pub fn is_issuer_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_plain =
        |rest: &str| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', '@', '"', '\\']);
    is_issuer(text) && rest.is_some_and(is_plain)
}

/// The issuer of a tenant's tokens; none where it has no tokens.
///
/// INVARIANT (no-token-administers): the system tenant has none, so nothing of a superuser is ever proven by a token.
pub(crate) fn issuer_of<'a>(tenant: &'a TenantRecord, usual: &'a str) -> Option<&'a str> {
    if tenant.id == crate::system_tenant() {
        return None;
    }
    // One that was stored before there were tokens may be no text that a token can hold.
    Some(tenant.rules.token_issuer.as_deref().unwrap_or(usual)).filter(|issuer| is_issuer(issuer))
}

/// From when on nothing is left of a key that another has taken over from at `taken_over`.
fn over(taken_over: UnixTime, installation: &Installation) -> UnixTime {
    let longest = u64::from(*crate::plan::tenants::TOKEN_VALIDITY_S.end()) + u64::from(installation.clock_skew_s);
    UnixTime::from_secs(taken_over.as_secs().saturating_add(longest)).unwrap_or(UnixTime::MAX)
}

/// When the key that comes after each began to sign, or will.
fn taken_over(keys: &[(String, UnixTime)], kid: &str) -> Option<UnixTime> {
    let at = keys.iter().position(|(known, _)| known == kid)?;
    keys.get(at + 1).map(|(_, from)| *from)
}

impl Control {
    /// The issuer of tenants that have none of their own.
    #[must_use]
    pub fn token_issuer(&self) -> &str {
        &self.tokens.issuer
    }

    /// The issuer that a service's metadata names: its tenant's where it is pinned to one, else the installation's.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn issuer_at(&self, service: &portcullis_model::id::Id) -> Result<Option<String>, StoreError> {
        let (store, issuer, service) = (self.store.clone(), self.tokens.issuer.clone(), service.clone());
        let asking = async move {
            let Some(stored) = store.service(&service).await? else { return Ok(None) };
            let Some(tenant) = stored.record.service.tenant else { return Ok(Some(issuer)) };
            let tenant = store.tenant(&tenant).await?;
            Ok(tenant.and_then(|tenant| issuer_of(&tenant.record, &issuer).map(str::to_owned)))
        };
        self.aside(asking).await
    }

    /// The public keys of access tokens as a JWK set (RFC 7517 section 5).
    #[must_use]
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.tokens.all().iter().map(|signer| jwk(&signer.kid, &signer.public)).collect();
        json!({ "keys": keys })
    }

    /// Makes the first key, or where the configuration has another algorithm now, the next one; and removes what is over.
    pub(crate) async fn found_token_keys(&self, lane: &mut crate::change::Lane) -> Result<(), Failed> {
        self.tokens.read(&self.store, &self.sealer).await?;
        let newest = self.tokens.all().last().map(|signer| signer.algorithm);
        let wanted = self.token_algorithm();
        if newest != Some(wanted) {
            let key = NewTokenKey::make(wanted, &self.sealer, (self.clock)())?;
            let details = json!({ "kid": key.record.kid, "algorithm": wanted });
            let title = (if newest.is_none() { "create" } else { "rotate" }, "token-key");
            let mut installation = self.store.installation().await?.record;
            installation.token_keys.push(key.public);
            let writes = vec![Write::PutInstallation(installation), Write::PutTokenKey(key.record)];
            self.by_portcullis(lane, title, details, portcullis_store::Channel::System, writes).await?;
        }
        self.remove_old_token_keys(lane).await
    }

    /// Removes keys of access tokens whose last token is over. To be called now and then.
    ///
    /// # Errors
    /// Where the change fails; nothing is removed then.
    pub async fn keep_token_keys(&self) -> Result<(), Failed> {
        let mut lane = self.lane.lock().await;
        self.remove_old_token_keys(&mut lane).await
    }

    async fn remove_old_token_keys(&self, lane: &mut crate::change::Lane) -> Result<(), Failed> {
        let all: Vec<_> = self.tokens.all().iter().map(|signer| (signer.kid.clone(), signer.signs_from)).collect();
        if all.len() < 2 {
            return Ok(());
        }
        let mut installation = self.store.installation().await?.record;
        let now = (self.clock)();
        let is_over = |kid: &str| taken_over(&all, kid).is_some_and(|from| over(from, &installation) <= now);
        let gone: Vec<String> = all.iter().filter(|(kid, _)| is_over(kid)).map(|(kid, _)| kid.clone()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        installation.token_keys.retain(|key| !gone.contains(&key.kid));
        let details = json!({ "kids": gone });
        let removed = gone.into_iter().map(Write::RemoveTokenKey);
        let writes = std::iter::once(Write::PutInstallation(installation)).chain(removed).collect();
        self.by_portcullis(lane, ("expire", "token-key"), details, portcullis_store::Channel::System, writes).await?;
        Ok(())
    }

    /// The algorithm of the next key.
    pub(crate) fn token_algorithm(&self) -> TokenAlgorithm {
        let newest = || self.tokens.all().last().map(|signer| signer.algorithm);
        self.tokens.algorithm.or_else(newest).unwrap_or_default()
    }

    /// The keys of access tokens, in the order in which they sign.
    pub(crate) async fn token_key_views(&self) -> Result<Vec<TokenKeyView>, Failed> {
        let installation = self.store.installation().await?.record;
        let mut stored = self.store.token_keys().await?;
        stored.sort_by_key(|stored| stored.record.signs_from);
        let all: Vec<_> = stored.iter().map(|key| (key.record.kid.clone(), key.record.signs_from)).collect();
        let now = (self.clock)();
        let signing = all.iter().rfind(|(_, from)| *from <= now).map(|(kid, _)| kid.clone());
        let views = stored.into_iter().map(|stored| {
            let role = if Some(&stored.record.kid) == signing.as_ref() {
                TokenKeyRole::Signing
            } else if stored.record.signs_from > now {
                TokenKeyRole::Next
            } else {
                TokenKeyRole::Old
            };
            let until = taken_over(&all, &stored.record.kid).map(|from| over(from, &installation));
            TokenKeyView { stored, role, until }
        });
        Ok(views.collect())
    }
}

fn jwk(kid: &str, public: &TokenKeyMaterial) -> Value {
    let alg = public.algorithm().as_str();
    match public {
        TokenKeyMaterial::EdDsa { x } => {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": alg })
        }
        TokenKeyMaterial::Es256 { x, y } => {
            json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": alg })
        }
        TokenKeyMaterial::Rs256 { n, e } => {
            json!({ "kty": "RSA", "n": n, "e": e, "kid": kid, "use": "sig", "alg": alg })
        }
    }
}
