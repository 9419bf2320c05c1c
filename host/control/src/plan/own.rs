//! A person's own matters: signing in with a one-time code, and the personal key that nobody else sees.
//!
//! Both the code and the session are credentials of the kind session, each confined to the endpoints that it is for. So the
//! gate alone decides whether one stands, they die with their person, and a code is spent by the change that opens a session.

use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{Role, SecretVersion};
use portcullis_model::time::{Expiry, UnixTime};
use portcullis_store::{CredentialFilter, CredentialRecord, GroupKind, MAX_PAGE, Paging, Stored, Write};
use serde_json::json;

use super::keys::{credential, free_id, issue, next_version, record};
use super::people::require_mightier;
use super::transitions::{self, Step};
use super::{Situation, missing, require_confirmed};
use crate::catalogue::{ADMIN_SERVICE, ENROLMENT, OWN};
use crate::change::Plan;
use crate::command::Confirmation;
use crate::error::{CommandError, Failed, Refused};
use crate::secret;

/// How long a code can be used, in seconds: a day.
pub const CODE_S: u64 = 24 * 3600;
/// How long a session lasts, in seconds: 12 hours.
pub const SESSION_S: u64 = 12 * 3600;
/// The most sessions of one person; the oldest makes room.
const MAX_SESSIONS: usize = 10;

/// Makes a code for a user.
pub(super) async fn enrol(s: &Situation<'_>, tenant: &Id, user: &Id) -> Result<Plan, CommandError> {
    let stored = s.control.store.user(tenant, user).await?.ok_or_else(|| missing("user", user))?;
    // Whoever signs in as somebody has that person's power.
    require_mightier(s, &stored.record.user)?;
    if let Some(group) = stored.record.user.group.as_ref().filter(|_| stored.record.user.role == Role::Member)
        && let Some(profile) = s.control.store.group(tenant, group).await?
        && profile.record.kind == GroupKind::Member
    {
        let endpoints = profile.record.group.permissions.into_iter().map(|permission| permission.endpoint);
        s.require_power(tenant, endpoints, &[], "user")?;
    }
    let codes = sessions(s, tenant, user).await?.into_iter().filter(|session| is_for(&session.record, ENROLMENT));
    let spent: Vec<Write> = codes.map(|code| Write::RemoveCredential(code.record.credential.id)).collect();
    let plan = open(s, tenant, user, (ENROLMENT, CODE_S)).await?;
    Ok(Plan { writes: spent.into_iter().chain(plan.writes).collect(), object: Some(user.clone()), ..plan })
}

/// Turns the code that the caller has presented into a session.
pub(super) async fn open_session(s: &Situation<'_>) -> Result<Plan, CommandError> {
    let code = &s.authorized.by;
    if !is_for(code, ENROLMENT) {
        return Err(Refused::Forbidden("a session is opened with a code, which is used once".to_owned()).into());
    }
    let (tenant, user) = (code.credential.tenant.clone(), person(s)?);
    let mut writes = vec![Write::RemoveCredential(code.credential.id.clone())];
    let open_ones = sessions(s, &tenant, &user).await?.into_iter().filter(|session| is_for(&session.record, OWN));
    let (ended, live): (Vec<_>, Vec<_>) = open_ones.partition(|session| has_ended(&session.record, s.now));
    let too_many = live.len().saturating_sub(MAX_SESSIONS - 1);
    let gone = ended.into_iter().chain(live.into_iter().take(too_many));
    writes.extend(gone.map(|session| Write::RemoveCredential(session.record.credential.id)));
    let plan = open(s, &tenant, &user, (OWN, SESSION_S)).await?;
    writes.extend(plan.writes);
    Ok(Plan { writes, ..plan })
}

/// Ends the caller's session.
pub(super) fn close_session(s: &Situation<'_>) -> Result<Plan, CommandError> {
    let session = &s.authorized.by;
    transitions::require(session, Step::Delete)?;
    let id = session.credential.id.clone();
    let plan = Plan::new(vec![Write::RemoveCredential(id.clone())], json!({}));
    Ok(Plan { object: Some(id), ..plan })
}

pub(super) async fn create_personal(s: &Situation<'_>) -> Result<Plan, CommandError> {
    let user = person(s)?;
    let tenant = &s.authorized.actor.tenant;
    if let Some(stored) = personal(s, tenant, &user).await? {
        let what = format!(
            "you have the personal key `{}`: regenerate it, or delete it to make another",
            stored.record.credential.id
        );
        return Err(Refused::State { code: "personal_key_exists", what }.into());
    }
    let id = free_id(s).await?;
    let key = secret::new_key(&id);
    let mut credential = credential(tenant, id, Kind::Personal, &key);
    credential.creator = Some(user);
    Ok(issue(s.stored(record(s, credential, "", ""), s.now), key, json!({})))
}

pub(super) async fn regenerate_personal(s: &Situation<'_>, confirmation: Confirmation) -> Result<Plan, CommandError> {
    let Stored { record: mut personal, created, .. } = require_personal(s).await?;
    transitions::require(&personal, Step::Rotate)?;
    require_confirmed(confirmation, "the present secret of your personal key is dead at once, its tokens too")?;
    let version = next_version(&personal)?;
    let key = secret::new_key(&personal.credential.id);
    personal.credential.secrets = vec![SecretVersion { version, sha256: key.digest, until: None, signing_slot: None }];
    Ok(issue(s.stored(personal, created), key, json!({ "version": version })))
}

pub(super) async fn delete_personal(s: &Situation<'_>, confirmation: Confirmation) -> Result<Plan, CommandError> {
    let personal = require_personal(s).await?.record;
    transitions::require(&personal, Step::Delete)?;
    require_confirmed(confirmation, "your personal key is gone at once and for good, its tokens too")?;
    let id = personal.credential.id;
    let plan = Plan::new(vec![Write::RemoveCredential(id.clone())], json!({}));
    Ok(Plan { object: Some(id), ..plan })
}

/// What goes with a person who is deleted.
pub(super) async fn belongings(s: &Situation<'_>, tenant: &Id, user: &Id) -> Result<Vec<Write>, CommandError> {
    let sessions = sessions(s, tenant, user).await?;
    let all = sessions.into_iter().chain(personal(s, tenant, user).await?);
    Ok(all.map(|stored| Write::RemoveCredential(stored.record.credential.id)).collect())
}

async fn open(
    s: &Situation<'_>,
    tenant: &Id,
    user: &Id,
    (endpoint, seconds): (&str, u64),
) -> Result<Plan, CommandError> {
    let id = free_id(s).await?;
    let key = secret::new_key(&id);
    let mut credential = credential(tenant, id, Kind::Session, &key);
    let expires = UnixTime::from_secs(s.now.as_secs().saturating_add(seconds)).unwrap_or(UnixTime::MAX);
    credential.expires = Some(Expiry::at(expires));
    credential.creator = Some(user.clone());
    let of_it = [endpoint.to_owned(), format!("{endpoint}.read")];
    credential.endpoints = of_it.iter().filter_map(|id| endpoint_of_admin(id)).collect();
    Ok(issue(
        s.stored(record(s, credential, "", ""), s.now),
        key,
        json!({ "user": user, "expires": Expiry::at(expires) }),
    ))
}

fn endpoint_of_admin(id: &str) -> Option<EndpointRef> {
    Some(EndpointRef { service: ADMIN_SERVICE.parse().ok()?, endpoint: id.parse().ok()? })
}

fn is_for(session: &CredentialRecord, endpoint: &str) -> bool {
    session.credential.endpoints.iter().any(|name| name.endpoint.as_str() == endpoint)
}

fn has_ended(session: &CredentialRecord, now: UnixTime) -> bool {
    session.credential.expires.is_some_and(|expires| now >= expires.instant())
}

/// The codes and sessions of a person, in order of creation. They are few: each new one clears away.
async fn sessions(s: &Situation<'_>, tenant: &Id, user: &Id) -> Result<Vec<Stored<CredentialRecord>>, CommandError> {
    let filter =
        CredentialFilter { creator: Some(user.clone()), ..CredentialFilter::all(tenant.clone(), Kind::Session) };
    Ok(s.control.store.credentials(&filter, Paging { after: None, limit: MAX_PAGE }).await?.items)
}

async fn personal(s: &Situation<'_>, tenant: &Id, user: &Id) -> Result<Option<Stored<CredentialRecord>>, CommandError> {
    Ok(s.control.personal_of(tenant, user).await?)
}

async fn require_personal(s: &Situation<'_>) -> Result<Stored<CredentialRecord>, CommandError> {
    let user = person(s)?;
    let found = personal(s, &s.authorized.actor.tenant, &user).await?;
    Ok(found.ok_or_else(|| Refused::NotFound { kind: "personal-key", id: user.to_string() })?)
}

fn person(s: &Situation<'_>) -> Result<Id, CommandError> {
    // A session without a person is never made.
    s.authorized.actor.user.clone().ok_or_else(|| Failed::Interrupted.into())
}
