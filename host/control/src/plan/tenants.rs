//! Tenants, what they set for endpoints, and their applications.

use std::ops::RangeInclusive;

use portcullis_model::address::Cidr;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{Application, CredentialState, EndpointSettings, Module, ReplayMode, SignatureMode};
use portcullis_store::{
    ApplicationRecord, CredentialFilter, MAX_PAGE, Paging, Stored, TenantRecord, TenantRules, Write,
};
use serde_json::json;

use super::{Faults, MAX_NAME_CHARS, Situation, missing, require_confirmed};
use crate::catalogue::SYSTEM_TENANT;
use crate::change::Plan;
use crate::command::{Confirmation, NewApplication, NewTenant, RulesEdit, SettingsOf, TenantEdit};
use crate::error::{CommandError, Refused};

/// The most tenant keys that a limit may permit.
const MAX_KEY_LIMIT: u32 = 10_000_000;
/// How many days before its end a credential may be called expiring soon.
const EXPIRING_SOON_DAYS: RangeInclusive<u16> = 1..=90;
/// How many seconds an access token may live.
pub(crate) const TOKEN_VALIDITY_S: RangeInclusive<u32> = 60..=86_400;

pub(super) async fn create(s: &Situation<'_>, new: &NewTenant) -> Result<Plan, CommandError> {
    if s.control.store.tenant(&new.id).await?.is_some() {
        return Err(Refused::Exists { kind: "tenant", id: new.id.to_string() }.into());
    }
    let record = TenantRecord {
        id: new.id.clone(),
        name: new.name.clone(),
        state: portcullis_model::source::TenantState::Active,
        modules: new.modules.clone(),
        key_limit: new.key_limit,
        rules: rules(&TenantRules::default(), &new.rules),
    };
    check(&record)?;
    let details = json!({ "name": new.name, "modules": new.modules, "key_limit": new.key_limit });
    Ok(Plan::new(vec![Write::PutTenant(record)], details))
}

pub(super) async fn edit(s: &Situation<'_>, id: &Id, edit: &TenantEdit) -> Result<Plan, CommandError> {
    if id.as_str() == SYSTEM_TENANT {
        let what = "the system tenant administers the installation and cannot be changed".to_owned();
        return Err(Refused::State { code: "built_in", what }.into());
    }
    let stored = s.control.store.tenant(id).await?.ok_or_else(|| missing("tenant", id))?;
    s.require_unchanged("tenant", &stored)?;
    let mut record = stored.record;
    let before = record.modules.clone();
    let mut details = serde_json::Map::new();
    if let Some(name) = &edit.name {
        record.name.clone_from(name);
        details.insert("name".to_owned(), json!(name));
    }
    if let Some(state) = edit.state {
        record.state = state;
        details.insert("state".to_owned(), json!(state));
    }
    if let Some(modules) = &edit.modules {
        record.modules.clone_from(modules);
        details.insert("modules".to_owned(), json!(modules));
    }
    if let Some(key_limit) = edit.key_limit {
        record.key_limit = key_limit;
        details.insert("key_limit".to_owned(), json!(key_limit));
    }
    let rules = rules(&record.rules, &edit.rules);
    if rules != record.rules {
        details.insert("rules".to_owned(), json!(rules));
        record.rules = rules;
    }
    check(&record)?;
    if let Some(modules) = &edit.modules {
        for module in before.iter().filter(|module| !modules.contains(module)) {
            require_unused(s, id, *module, edit.confirmation).await?;
        }
    }
    Ok(Plan::new(vec![Write::PutTenant(record)], details.into()))
}

/// A module that is disabled takes its settings out of force. They are kept for its return.
async fn require_unused(
    s: &Situation<'_>,
    tenant: &Id,
    module: Module,
    confirmation: Confirmation,
) -> Result<(), CommandError> {
    let is_used = |settings: &EndpointSettings| match module {
        Module::IpFilter => !settings.ip_ranges.is_empty(),
        Module::SignatureCheck => settings.signature != SignatureMode::Off,
    };
    let live = s.control.store.settings(tenant).await?.into_iter().filter(|stored| is_used(&stored.record)).count();
    if live == 0 {
        return Ok(());
    }
    let what = match module {
        Module::IpFilter => "are open to any address",
        Module::SignatureCheck => "no longer look at signatures",
    };
    Ok(require_confirmed(
        confirmation,
        format!("{live} endpoints of `{tenant}` {what} from then on; the settings are kept"),
    )?)
}

fn rules(before: &TenantRules, edit: &RulesEdit) -> TenantRules {
    TenantRules {
        expiring_soon_days: edit.expiring_soon_days.unwrap_or(before.expiring_soon_days),
        token_issuer: edit.token_issuer.clone().or_else(|| before.token_issuer.clone()),
        token_validity_s: edit.token_validity_s.unwrap_or(before.token_validity_s),
        token_revocation: edit.token_revocation.unwrap_or(before.token_revocation),
    }
}

pub(super) async fn put_settings(s: &Situation<'_>, tenant: &Id, wanted: &SettingsOf) -> Result<Plan, CommandError> {
    let record = s.control.store.tenant(tenant).await?.ok_or_else(|| missing("tenant", tenant))?.record;
    let endpoint = s.lane.catalogue.stable(&wanted.endpoint);
    if s.lane.catalogue.endpoint(&endpoint).is_none() {
        return Err(missing("endpoint", &wanted.endpoint).into());
    }
    if let Some(stored) = settings(s, tenant, &endpoint).await? {
        s.require_unchanged("settings", &stored)?;
    }
    let needed = [
        (!wanted.ip_ranges.is_empty(), Module::IpFilter, "ip_filter"),
        (
            wanted.signature != SignatureMode::Off || wanted.replay != ReplayMode::Auto,
            Module::SignatureCheck,
            "signature_check",
        ),
    ];
    for (is_used, module, name) in needed {
        if is_used && !record.modules.contains(&module) {
            let what =
                format!("the module `{name}` is not enabled for the tenant `{tenant}`: have the operator enable it");
            return Err(Refused::State { code: "module_disabled", what }.into());
        }
    }
    let mut faults = Faults::default();
    faults.list("ip_ranges", &wanted.ip_ranges);
    faults.end()?;
    let mut ip_ranges = wanted.ip_ranges.clone();
    ip_ranges.sort_unstable();
    ip_ranges.dedup();
    let details = json!({ "ip_ranges": ip_ranges, "signature": wanted.signature, "replay": wanted.replay });
    let settings = EndpointSettings { endpoint, ip_ranges, signature: wanted.signature, replay: wanted.replay };
    Ok(Plan::new(vec![Write::PutSettings { tenant: tenant.clone(), settings }], details))
}

pub(super) async fn remove_range(
    s: &Situation<'_>,
    tenant: &Id,
    endpoint: &EndpointRef,
    range: Cidr,
) -> Result<Plan, CommandError> {
    let endpoint = &s.lane.catalogue.stable(endpoint);
    let stored = settings(s, tenant, endpoint).await?.ok_or_else(|| missing("settings for endpoint", endpoint))?;
    s.require_unchanged("settings", &stored)?;
    let mut settings = stored.record;
    let before = settings.ip_ranges.len();
    settings.ip_ranges.retain(|existing| *existing != range);
    if settings.ip_ranges.len() == before {
        return Err(missing("address range", range).into());
    }
    // An endpoint without entries is open, so the last one is not taken away by the way.
    if settings.ip_ranges.is_empty() {
        let what = format!(
            "`{range}` is the last range, and without one the endpoint is open to any address: \
             delete the settings of `{endpoint}` if that is meant"
        );
        return Err(Refused::State { code: "last_range", what }.into());
    }
    let details = json!({ "removed": range, "ip_ranges": settings.ip_ranges });
    Ok(Plan::new(vec![Write::PutSettings { tenant: tenant.clone(), settings }], details))
}

pub(super) async fn remove_settings(
    s: &Situation<'_>,
    tenant: &Id,
    endpoint: &EndpointRef,
) -> Result<Plan, CommandError> {
    let endpoint = &s.lane.catalogue.stable(endpoint);
    let stored = settings(s, tenant, endpoint).await?.ok_or_else(|| missing("settings for endpoint", endpoint))?;
    s.require_unchanged("settings", &stored)?;
    let write = Write::RemoveSettings { tenant: tenant.clone(), endpoint: endpoint.clone() };
    Ok(Plan::new(vec![write], json!({})))
}

pub(super) async fn create_application(
    s: &Situation<'_>,
    tenant: &Id,
    new: &NewApplication,
) -> Result<Plan, CommandError> {
    if s.control.store.application(tenant, &new.id).await?.is_some() {
        return Err(Refused::Exists { kind: "application", id: new.id.to_string() }.into());
    }
    let mut faults = Faults::default();
    faults.text("name", &new.name, (0, MAX_NAME_CHARS));
    faults.end()?;
    let application = Application { id: new.id.clone(), tenant: tenant.clone() };
    let record = ApplicationRecord { application, name: new.name.clone() };
    Ok(Plan::new(vec![Write::PutApplication(record)], json!({ "name": new.name })))
}

pub(super) async fn remove_application(s: &Situation<'_>, tenant: &Id, id: &Id) -> Result<Plan, CommandError> {
    let stored = s.control.store.application(tenant, id).await?.ok_or_else(|| missing("application", id))?;
    s.require_unchanged("application", &stored)?;
    if *tenant == crate::system_tenant() && s.control.store.feed(id).await?.is_some() {
        let what = format!("the application `{id}` is for the keys of the feed `{id}`: it goes with the feed");
        return Err(Refused::State { code: "feed_application", what }.into());
    }
    if let Some(key) = key_confined_to(s, tenant, id).await? {
        let what = format!("the management key `{key}` is confined to the application `{id}`: revoke it first");
        return Err(Refused::State { code: "application_in_use", what }.into());
    }
    let write = Write::RemoveApplication { tenant: tenant.clone(), application: id.clone() };
    Ok(Plan::new(vec![write], json!({})))
}

/// An active key that is confined to an application.
pub(super) async fn key_confined_to(
    s: &Situation<'_>,
    tenant: &Id,
    application: &Id,
) -> Result<Option<Id>, CommandError> {
    let filter = CredentialFilter {
        state: Some(CredentialState::Active),
        ..CredentialFilter::all(tenant.clone(), Kind::Management)
    };
    let mut after = None;
    loop {
        let page = s.control.store.credentials(&filter, Paging { after, limit: MAX_PAGE }).await?;
        let mut keys = page.items.into_iter().map(|stored| stored.record.credential);
        if let Some(key) = keys.find(|key| key.applications.contains(application)) {
            return Ok(Some(key.id));
        }
        after = page.next;
        if after.is_none() {
            return Ok(None);
        }
    }
}

async fn settings(
    s: &Situation<'_>,
    tenant: &Id,
    endpoint: &EndpointRef,
) -> Result<Option<Stored<EndpointSettings>>, CommandError> {
    let all = s.control.store.settings(tenant).await?;
    Ok(all.into_iter().find(|stored| stored.record.endpoint == *endpoint))
}

fn check(record: &TenantRecord) -> Result<(), Refused> {
    let mut faults = Faults::default();
    faults.text("name", &record.name, (0, MAX_NAME_CHARS));
    if record.key_limit > MAX_KEY_LIMIT {
        faults.add("key_limit", format!("at most {MAX_KEY_LIMIT}"));
    }
    let rules = &record.rules;
    if !EXPIRING_SOON_DAYS.contains(&rules.expiring_soon_days) {
        let (least, most) = EXPIRING_SOON_DAYS.into_inner();
        faults.add("expiring_soon_days", format!("{least} to {most} days"));
    }
    if !TOKEN_VALIDITY_S.contains(&rules.token_validity_s) {
        let (least, most) = TOKEN_VALIDITY_S.into_inner();
        faults.add("token_validity_s", format!("{least} to {most} seconds"));
    }
    if rules.token_issuer.as_deref().is_some_and(|issuer| !crate::token::is_issuer(issuer)) {
        let what = "write 1 to 256 visible ASCII characters, such as `https://login.example.com`";
        faults.add("token_issuer", what);
    }
    faults.end()
}
