//! The keys that sign access tokens: another one, or one less. For superusers alone.

use portcullis_model::time::UnixTime;
use portcullis_store::Write;
use serde_json::json;

use super::{Situation, missing, require_confirmed};
use crate::change::Plan;
use crate::command::{Confirmation, Takeover};
use crate::error::{CommandError, Refused};
use crate::token::{NewTokenKey, PUBLISHED_AHEAD_S, TokenKeyRole};

/// The most keys at once: the gate takes sixteen, and one is left for another algorithm in the configuration.
const MAX_KEYS: usize = 15;

pub(super) async fn rotate(s: &Situation<'_>, takeover: Takeover) -> Result<Plan, CommandError> {
    let keys = s.control.token_key_views().await?;
    if let Some(next) = keys.iter().find(|key| key.role == TokenKeyRole::Next)
        && takeover == Takeover::Published
    {
        let record = &next.stored.record;
        let what = format!("the next key `{}` is published and signs from {} on", record.kid, record.signs_from);
        return Err(Refused::State { code: "rotation_under_way", what }.into());
    }
    if keys.len() >= MAX_KEYS {
        let what =
            format!("there are {MAX_KEYS} keys whose tokens may live: retire one, or wait until its tokens are over");
        return Err(Refused::State { code: "too_many_keys", what }.into());
    }
    let signs_from = match takeover {
        Takeover::AtOnce => s.now,
        Takeover::Published => {
            UnixTime::from_secs(s.now.as_secs().saturating_add(PUBLISHED_AHEAD_S)).unwrap_or(UnixTime::MAX)
        }
    };
    let algorithm = s.control.token_algorithm();
    let key = NewTokenKey::make(algorithm, &s.control.sealer, signs_from)?;
    let mut installation = s.control.store.installation().await?.record;
    installation.token_keys.push(key.public);
    let mut writes = Vec::new();
    // A key that was to sign later would take over from the one that is to sign now.
    for next in keys.into_iter().filter(|key| key.role == TokenKeyRole::Next) {
        installation.token_keys.retain(|public| public.kid != next.stored.record.kid);
        writes.push(Write::RemoveTokenKey(next.stored.record.kid));
    }
    let details = json!({ "kid": key.record.kid, "algorithm": algorithm, "signs_from": signs_from.to_string() });
    writes.extend([Write::PutInstallation(installation), Write::PutTokenKey(key.record)]);
    Ok(Plan::new(writes, details))
}

pub(super) async fn retire(s: &Situation<'_>, kid: &str, confirmation: Confirmation) -> Result<Plan, CommandError> {
    let keys = s.control.token_key_views().await?;
    let key = keys.iter().find(|key| key.stored.record.kid == kid).ok_or_else(|| missing("token-key", kid))?;
    if key.role == TokenKeyRole::Signing {
        let what = "it is the key that signs: have another one sign at once, then retire it".to_owned();
        return Err(Refused::State { code: "key_in_use", what }.into());
    }
    require_confirmed(confirmation, "every token that the key has signed is dead at once")?;
    let mut installation = s.control.store.installation().await?.record;
    installation.token_keys.retain(|public| public.kid != kid);
    let writes = vec![Write::PutInstallation(installation), Write::RemoveTokenKey(kid.to_owned())];
    Ok(Plan::new(writes, json!({ "role": key.role.as_str() })))
}
