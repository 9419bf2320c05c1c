//! Services, their catalogues, and what holds for the whole installation. For superusers alone.

use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{Endpoint, HostPattern, Installation, Presentation, Service};
use portcullis_store::{CatalogueMark, Delivery, ServiceRecord, Stored, Write};
use serde_json::json;

use super::{Faults, MAX_NAME_CHARS, Situation, missing, require_confirmed};
use crate::catalogue::{ADMIN_HOST, ADMIN_SERVICE};
use crate::change::Plan;
use crate::command::{Confirmation, NewService, ServiceEdit};
use crate::compile::token_endpoint::{self, MAX_OTHER_WAYS};
use crate::error::{CommandError, Refused};
use crate::token::TOKEN_PATH;

/// The longest that a policy may stay in force without being confirmed: a day.
const MAX_STALENESS_S: u32 = 86_400;
/// The most that two clocks may differ: an hour.
const MAX_CLOCK_SKEW_S: u32 = 3_600;
/// The longest that an upstream may take until the head of its response: an hour.
const MAX_RESPONSE_TIMEOUT_S: u32 = 3_600;

pub(super) async fn edit_installation(s: &Situation<'_>, new: &Installation) -> Result<Plan, CommandError> {
    let stored = s.control.store.installation().await?;
    s.require_unchanged("installation", &stored)?;
    let mut faults = Faults::default();
    faults.list("trusted_proxies", &new.trusted_proxies);
    if new.clock_skew_s > MAX_CLOCK_SKEW_S {
        faults.add("clock_skew_s", format!("at most {MAX_CLOCK_SKEW_S} seconds"));
    }
    if new.max_staleness_s == 0 || new.max_staleness_s > MAX_STALENESS_S {
        faults.add("max_staleness_s", format!("1 to {MAX_STALENESS_S} seconds"));
    }
    faults.end()?;
    let details = json!({
        "trusted_proxies": new.trusted_proxies,
        "clock_skew_s": new.clock_skew_s,
        "max_staleness_s": new.max_staleness_s,
    });
    // Profiles and keys have operations of their own.
    let Installation { signature_profiles, token_keys, .. } = stored.record;
    let new = Installation { signature_profiles, token_keys, ..new.clone() };
    Ok(Plan::new(vec![Write::PutInstallation(new)], details))
}

pub(super) async fn create(s: &Situation<'_>, new: &NewService) -> Result<Plan, CommandError> {
    if s.lane.catalogue.service(&new.id).is_some() {
        return Err(Refused::Exists { kind: "service", id: new.id.to_string() }.into());
    }
    if let Some(tenant) = &new.tenant
        && s.control.store.tenant(tenant).await?.is_none()
    {
        return Err(Refused::field("tenant", format!("there is no tenant `{tenant}`")).into());
    }
    check(&new.name, &new.hosts, &new.accept, &new.delivery)?;
    let service = Service {
        id: new.id.clone(),
        hosts: new.hosts.clone(),
        prefix: new.prefix.clone(),
        tenant: new.tenant.clone(),
        accept: new.accept.clone(),
        endpoints: new.preset.map(|preset| preset.endpoints(&new.prefix)).unwrap_or_default(),
    };
    check_token_endpoint(&service, &new.delivery)?;
    let details = json!({
        "name": new.name,
        "hosts": new.hosts,
        "prefix": new.prefix,
        "tenant": new.tenant,
        "upstream": new.delivery.upstream,
        "endpoints": service.endpoints.len(),
    });
    let catalogue = CatalogueMark { version: 1, preset: new.preset.map(|preset| preset.mark().to_owned()) };
    let record = ServiceRecord { service, name: new.name.clone(), delivery: new.delivery.clone(), catalogue };
    Ok(Plan::new(vec![Write::PutService(record)], details))
}

pub(super) async fn edit(s: &Situation<'_>, id: &Id, edit: &ServiceEdit) -> Result<Plan, CommandError> {
    let stored = find(s, id).await?;
    s.require_unchanged("service", &stored)?;
    let mut record = stored.record;
    let mut details = serde_json::Map::new();
    if let Some(name) = &edit.name {
        record.name.clone_from(name);
        details.insert("name".to_owned(), json!(name));
    }
    if let Some(hosts) = &edit.hosts {
        record.service.hosts.clone_from(hosts);
        details.insert("hosts".to_owned(), json!(hosts));
    }
    if let Some(accept) = &edit.accept {
        record.service.accept.clone_from(accept);
        details.insert("accept".to_owned(), json!(accept));
    }
    if let Some(delivery) = &edit.delivery {
        record.delivery.clone_from(delivery);
        details.insert("upstream".to_owned(), json!(delivery.upstream));
    }
    check(&record.name, &record.service.hosts, &record.service.accept, &record.delivery)?;
    if edit.accept.is_some() || edit.delivery.is_some() {
        check_token_endpoint(&record.service, &record.delivery)?;
    }
    Ok(Plan::new(vec![Write::PutService(record)], details.into()))
}

pub(super) async fn remove(s: &Situation<'_>, id: &Id, confirmation: Confirmation) -> Result<Plan, CommandError> {
    let stored = find(s, id).await?;
    s.require_unchanged("service", &stored)?;
    require_confirmed(confirmation, format!("every request to the service `{id}` is denied from then on"))?;
    let mut writes = vec![Write::RemoveService(id.clone())];
    // A service that comes back under the same id is another one: it is in no feed until somebody puts it there.
    writes.extend(super::feeds::without(s, id).await?);
    Ok(Plan::new(writes, json!({})))
}

pub(super) async fn put_endpoint(s: &Situation<'_>, service: &Id, endpoint: &Endpoint) -> Result<Plan, CommandError> {
    let stored = find(s, service).await?;
    s.require_unchanged("service", &stored)?;
    let mut record = stored.record;
    let mut endpoint = endpoint.clone();
    check_aliases(&record.service, &endpoint)?;
    record.catalogue.version = record.catalogue.version.saturating_add(1);
    let endpoints = &mut record.service.endpoints;
    let existing = endpoints.iter_mut().find(|existing| existing.id == endpoint.id);
    if let Some(existing) = &existing
        && existing.name != endpoint.name
        && endpoint.formerly.is_none()
    {
        // A renamed endpoint says what people knew it as.
        endpoint.formerly = Some(existing.name.clone()).filter(|name| !name.is_empty());
    }
    if let Some(prefix) = &record.delivery.reserved_prefix
        && endpoint.paths.iter().any(|path| *path == format!("{prefix}{TOKEN_PATH}"))
    {
        return Err(Refused::field("paths", "the token endpoint of the service is there: take another path").into());
    }
    let details = json!({ "endpoint": endpoint, "catalogue_version": record.catalogue.version });
    match existing {
        Some(existing) => *existing = endpoint,
        None => endpoints.push(endpoint),
    }
    Ok(Plan::new(vec![Write::PutService(record)], details))
}

pub(super) async fn remove_endpoint(
    s: &Situation<'_>,
    endpoint: &EndpointRef,
    confirmation: Confirmation,
) -> Result<Plan, CommandError> {
    let stored = find(s, &endpoint.service).await?;
    s.require_unchanged("service", &stored)?;
    let mut record = stored.record;
    let before = record.service.endpoints.len();
    record.service.endpoints.retain(|existing| existing.id != endpoint.endpoint);
    if record.service.endpoints.len() == before {
        return Err(missing("endpoint", endpoint).into());
    }
    require_confirmed(confirmation, format!("every request to the endpoint `{endpoint}` is denied from then on"))?;
    record.catalogue.version = record.catalogue.version.saturating_add(1);
    let details = json!({ "catalogue_version": record.catalogue.version });
    Ok(Plan::new(vec![Write::PutService(record)], details))
}

/// A service that keeps a prefix for Portcullis has a token endpoint below it, and has to have room for one.
fn check_token_endpoint(service: &Service, delivery: &Delivery) -> Result<(), Refused> {
    match &delivery.reserved_prefix {
        Some(prefix) if !token_endpoint::has_place(service, prefix) => {
            let what = format!(
                "there is no place for a token endpoint: the prefix lies below the service's, no endpoint has the path \
                 `{prefix}{TOKEN_PATH}`, and `accept` has at most {MAX_OTHER_WAYS} entries, none with `Basic`"
            );
            Err(Refused::field("reserved_prefix", what))
        }
        Some(_) | None => Ok(()),
    }
}

/// An alias leads to one endpoint of the service, and no id of another is one.
fn check_aliases(service: &Service, endpoint: &Endpoint) -> Result<(), Refused> {
    let mut faults = Faults::default();
    faults.list("aliases", &endpoint.aliases);
    for (index, alias) in endpoint.aliases.iter().enumerate() {
        let others = service.endpoints.iter().filter(|other| other.id != endpoint.id);
        let taken =
            others.filter(|other| other.id == *alias || other.aliases.contains(alias)).map(|other| &other.id).next();
        if let Some(taken) = taken {
            faults.add(format!("aliases[{index}]"), format!("`{alias}` is the endpoint `{taken}` already"));
        }
    }
    let others = service.endpoints.iter().filter(|other| other.id != endpoint.id);
    if let Some(other) = others.filter(|other| other.aliases.contains(&endpoint.id)).map(|other| &other.id).next() {
        faults.add("id", format!("`{}` is an alias of the endpoint `{other}`: take it from there first", endpoint.id));
    }
    faults.end()
}

/// A stored service. The admin API is none: it comes with the program.
async fn find(s: &Situation<'_>, id: &Id) -> Result<Stored<ServiceRecord>, CommandError> {
    if id.as_str() == ADMIN_SERVICE {
        let what = "the admin API comes with portcullis and cannot be changed".to_owned();
        return Err(Refused::State { code: "built_in", what }.into());
    }
    Ok(s.control.store.service(id).await?.ok_or_else(|| missing("service", id))?)
}

fn check(name: &str, hosts: &[HostPattern], accept: &[Presentation], delivery: &Delivery) -> Result<(), Refused> {
    let mut faults = Faults::default();
    faults.text("name", name, (0, MAX_NAME_CHARS));
    faults.list("hosts", hosts);
    for (index, host) in hosts.iter().enumerate() {
        // A request for the admin API's host that reached the proxy could otherwise be routed past the admin listener.
        let is_reserved = match host.as_str().strip_prefix('*') {
            Some(suffix) => ADMIN_HOST.ends_with(suffix),
            None => host.as_str() == ADMIN_HOST,
        };
        if is_reserved {
            faults.add(format!("hosts[{index}]"), format!("`{}` is reserved for the admin API", host.as_str()));
        }
    }
    for (index, _) in accept.iter().enumerate().filter(|(_, given)| given.client.is_some()) {
        // With a reserved prefix the service has a token endpoint, and this comes with it.
        let what = "`client` is for token endpoints, which services have by their `reserved_prefix`: leave it out";
        faults.add(format!("accept[{index}].client"), what);
    }
    if let Err(what) = crate::delivery::check(delivery) {
        faults.add("upstream", what);
    }
    if let Some(prefix) = &delivery.reserved_prefix
        && !crate::delivery::is_plain_path(prefix)
    {
        let what = "write a path such as `/.portcullis`: letters, digits, `.`, `_`, `-`, no slash at its end";
        faults.add("reserved_prefix", what);
    }
    if delivery.response_timeout_s == 0 || delivery.response_timeout_s > MAX_RESPONSE_TIMEOUT_S {
        faults.add("response_timeout_s", format!("1 to {MAX_RESPONSE_TIMEOUT_S} seconds"));
    }
    if let Some(preflight) = &delivery.preflight {
        if preflight.origins.is_empty() {
            faults.add("preflight.origins", "it is empty, so no preflight would be answered: leave `preflight` out");
        }
        for (index, origin) in preflight.origins.iter().enumerate() {
            if !crate::delivery::is_origin(origin) {
                let what =
                    format!("`{origin}` is not an origin: write `https://host`, with a port where it has one, or `*`");
                faults.add(format!("preflight.origins[{index}]"), what);
            }
        }
        for (index, header) in preflight.headers.iter().enumerate() {
            if header.is_empty() || !header.bytes().all(crate::delivery::is_token) {
                faults.add(format!("preflight.headers[{index}]"), format!("`{header}` is not a header name"));
            }
        }
    }
    faults.end()
}
