//! From an authorized command to what it would write. Nothing is written here.

mod clients;
mod error_log;
pub(crate) mod feeds;
mod import;
pub(crate) mod keys;
pub(crate) mod own;
mod pairs;
mod people;
mod profiles;
mod services;
pub(crate) mod tenants;
mod token_keys;
mod transitions;

use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::time::UnixTime;
use portcullis_store::Stored;

use crate::Control;
use crate::change::{Authorized, Lane, Plan};
use crate::command::{Command, Confirmation};
use crate::error::{CommandError, FieldFault, Refused};

/// The shortest and the longest name of a key in characters (REQUIREMENTS E1).
pub const KEY_NAME_CHARS: (usize, usize) = (2, 200);
/// The longest name of anything else in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// The longest description in characters (REQUIREMENTS E1).
pub const MAX_DESCRIPTION_CHARS: usize = 1000;
/// The most entries of one list: address ranges, permissions, endpoints of a key, hosts. A policy bears more; a person who
/// has more than this in one record wants another record.
pub const MAX_LIST: usize = 10_000;

/// What a plan is made from.
pub(crate) struct Situation<'s> {
    pub(crate) control: &'s Control,
    pub(crate) lane: &'s Lane,
    pub(crate) authorized: &'s Authorized<'s>,
    pub(crate) now: UnixTime,
}

/// Plans a command.
pub(crate) async fn plan(
    control: &Control,
    lane: &Lane,
    authorized: &Authorized<'_>,
    now: UnixTime,
) -> Result<Plan, CommandError> {
    let situation = Situation { control, lane, authorized, now };
    let s = &situation;
    match &authorized.order.command {
        Command::EditInstallation(new) => services::edit_installation(s, new).await,
        Command::PutSignatureProfile(profile) => profiles::put(s, profile).await,
        Command::RemoveSignatureProfile(id) => profiles::remove(s, id).await,
        Command::CreateService(new) => services::create(s, new).await,
        Command::EditService(id, edit) => services::edit(s, id, edit).await,
        Command::RemoveService(id, confirmation) => services::remove(s, id, *confirmation).await,
        Command::PutEndpoint(service, endpoint) => services::put_endpoint(s, service, endpoint).await,
        Command::RemoveEndpoint(endpoint, confirmation) => services::remove_endpoint(s, endpoint, *confirmation).await,
        Command::CreateTenant(new) => tenants::create(s, new).await,
        Command::EditTenant(id, edit) => tenants::edit(s, id, edit).await,
        Command::PutSettings(tenant, settings) => tenants::put_settings(s, tenant, settings).await,
        Command::RemoveRange(tenant, endpoint, range) => tenants::remove_range(s, tenant, endpoint, *range).await,
        Command::RemoveSettings(tenant, endpoint) => tenants::remove_settings(s, tenant, endpoint).await,
        Command::CreateGroup(tenant, new) => people::create_group(s, tenant, new).await,
        Command::EditGroup(tenant, id, edit) => people::edit_group(s, tenant, id, edit).await,
        Command::RemoveGroup(tenant, id) => people::remove_group(s, tenant, id).await,
        Command::CreateApplication(tenant, new) => tenants::create_application(s, tenant, new).await,
        Command::RemoveApplication(tenant, id) => tenants::remove_application(s, tenant, id).await,
        Command::CreateFeed(new) => feeds::create(s, new).await,
        Command::EditFeed(id, edit) => feeds::edit(s, id, edit).await,
        Command::DeleteFeed(id, confirmation) => feeds::delete(s, id, *confirmation).await,
        Command::CreateUser(tenant, new) => people::create_user(s, tenant, new).await,
        Command::EditUser(tenant, id, edit) => people::edit_user(s, tenant, id, edit).await,
        Command::RemoveUser(tenant, id, confirmation) => people::remove_user(s, tenant, id, *confirmation).await,
        Command::Enrol(tenant, user) => own::enrol(s, tenant, user).await,
        Command::OpenSession => own::open_session(s).await,
        Command::CloseSession => own::close_session(s),
        Command::CreatePersonalKey => own::create_personal(s).await,
        Command::RegeneratePersonalKey(confirmation) => own::regenerate_personal(s, *confirmation).await,
        Command::DeletePersonalKey(confirmation) => own::delete_personal(s, *confirmation).await,
        Command::CreateClient(tenant, new) => clients::create(s, tenant, new).await,
        Command::CreateWorkspaceKey(tenant, new) => pairs::create(s, tenant, new).await,
        Command::ImportPair(tenant, new) => pairs::import(s, tenant, new).await,
        Command::CreateTenantKey(tenant, new) => keys::create_tenant(s, tenant, new).await,
        Command::ImportKeys(tenant, new) => import::import(s, tenant, new).await,
        Command::EditTenantKey(key, edit) => keys::edit_tenant(s, key, edit).await,
        Command::CreateManagementKey(tenant, new) => keys::create_management(s, tenant, new).await,
        Command::RotateKey(key, rotation) => keys::rotate(s, key, rotation).await,
        Command::EndOverlap(key, confirmation) => keys::end_overlap(s, key, *confirmation).await,
        Command::RevokeKey(key, confirmation) => keys::revoke(s, key, *confirmation).await,
        Command::DeleteKey(key, confirmation) => keys::delete(s, key, *confirmation).await,
        Command::PutErrorLogSettings(tenant, settings) => error_log::put_settings(s, tenant, settings).await,
        Command::RotateTokenKey(takeover) => token_keys::rotate(s, *takeover).await,
        Command::RetireTokenKey(kid, confirmation) => token_keys::retire(s, kid, *confirmation).await,
    }
}

impl Situation<'_> {
    /// What the caller may hand on: the endpoints of its own key, except that whoever administers the installation may hand
    /// on everything to the tenants.
    ///
    /// INVARIANT (no-escalation): nothing is granted, and no secret of anything is handed out, beyond the caller's own power.
    fn require_power(
        &self,
        tenant: &Id,
        endpoints: impl IntoIterator<Item = EndpointRef>,
        applications: &[Id],
        field: &str,
    ) -> Result<(), Refused> {
        if self.authorized.order.caller.is_superuser() && *tenant != crate::system_tenant() {
            return Ok(());
        }
        let own = &self.authorized.by.credential;
        for endpoint in endpoints {
            if !own.endpoints.contains(&endpoint) {
                let what = format!("it gives `{endpoint}`, which your own key does not have");
                return Err(Refused::field(field, what));
            }
        }
        let confined = !own.applications.is_empty();
        let all_own = !applications.is_empty() && applications.iter().all(|id| own.applications.contains(id));
        if confined && !all_own {
            let what = "your own key is confined to applications: name some of these".to_owned();
            return Err(Refused::field("applications", what));
        }
        Ok(())
    }

    /// A record as it is once this change is made.
    fn stored<T>(&self, record: T, created: UnixTime) -> Stored<T> {
        Stored { record, changed: self.lane.next(), created }
    }

    /// Compares the revision that the caller read a record at.
    fn require_unchanged<T>(&self, kind: &'static str, stored: &Stored<T>) -> Result<(), Refused> {
        match self.authorized.order.if_match {
            Some(expected) if expected != stored.changed => Err(Refused::Changed { kind, at: stored.changed }),
            Some(_) | None => Ok(()),
        }
    }
}

/// Collects what is wrong with fields, so that the caller hears of all of it at once.
#[derive(Default)]
struct Faults(Vec<FieldFault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.0.push(FieldFault { field: field.into(), what: what.into() });
    }

    fn text(&mut self, field: &str, text: &str, (shortest, longest): (usize, usize)) {
        let chars = text.chars().count();
        if chars < shortest || chars > longest {
            self.add(field, format!("it has {chars} characters: give it {shortest} to {longest}"));
        } else if text.chars().any(char::is_control) && field != "description" {
            self.add(field, "it has a control character: take it out");
        }
    }

    fn list<T>(&mut self, field: &str, list: &[T]) {
        if list.len() > MAX_LIST {
            self.add(field, format!("it has {} entries, at most {MAX_LIST} are taken", list.len()));
        }
    }

    fn end(self) -> Result<(), Refused> {
        if self.0.is_empty() { Ok(()) } else { Err(Refused::Invalid(self.0)) }
    }
}

fn require_confirmed(confirmation: Confirmation, consequence: impl Into<String>) -> Result<(), Refused> {
    match confirmation {
        Confirmation::Confirmed => Ok(()),
        Confirmation::Missing => Err(Refused::Unconfirmed { consequence: consequence.into() }),
    }
}

fn missing(kind: &'static str, id: impl ToString) -> Refused {
    Refused::NotFound { kind, id: id.to_string() }
}
