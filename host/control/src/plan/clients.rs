//! OAuth clients of a tenant: made, listed, revoked; never edited.

use std::collections::BTreeSet;

use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_store::ClientTerms;
use serde_json::json;

use super::keys::{credential, free_id, future, issue, record};
use super::{Faults, KEY_NAME_CHARS, MAX_DESCRIPTION_CHARS, Situation};
use crate::change::Plan;
use crate::command::NewClient;
use crate::error::{CommandError, Refused};
use crate::secret;

/// The most scopes, and the most audiences, of one client.
const MAX_TERMS: usize = 100;
/// The longest scope or audience in bytes.
const MAX_TERM_BYTES: usize = 200;

pub(super) async fn create(s: &Situation<'_>, tenant: &Id, new: &NewClient) -> Result<Plan, CommandError> {
    let mut faults = Faults::default();
    faults.text("name", &new.name, KEY_NAME_CHARS);
    faults.text("purpose", &new.purpose, (0, MAX_DESCRIPTION_CHARS));
    future(s, &mut faults, new.expires);
    let endpoints = check_terms(s, tenant, &new.terms, &mut faults);
    faults.end()?;
    if *tenant == crate::system_tenant() {
        let what = "the system tenant is administered with management keys and has no clients".to_owned();
        return Err(Refused::State { code: "built_in", what }.into());
    }
    s.require_power(tenant, endpoints, &[], "scopes")?;
    let id = free_id(s).await?;
    let key = secret::new_key(&id);
    let mut credential = credential(tenant, id, Kind::Client, &key);
    credential.expires = new.expires;
    let mut record = record(s, credential, &new.name, &new.purpose);
    record.terms = Some(ClientTerms { scopes: unique(&new.terms.scopes), audiences: unique(&new.terms.audiences) });
    let details = json!({
        "name": new.name,
        "purpose": new.purpose,
        "expires": new.expires,
        "scopes": new.terms.scopes,
        "audiences": new.terms.audiences,
    });
    Ok(issue(s.stored(record, s.now), key, details))
}

/// Checks scopes and audiences. Leads to the endpoints that the scopes open, for whoever gives them must have them.
fn check_terms(s: &Situation<'_>, tenant: &Id, terms: &ClientTerms, faults: &mut Faults) -> Vec<EndpointRef> {
    let services = s.lane.catalogue.services().filter(|service| service.tenant.as_ref().is_none_or(|of| of == tenant));
    let scoped: Vec<(&str, EndpointRef)> = services
        .flat_map(|service| {
            service.endpoints.iter().filter_map(|endpoint| {
                let name = EndpointRef { service: service.id.clone(), endpoint: endpoint.id.clone() };
                Some((endpoint.scope.as_deref()?, name))
            })
        })
        .collect();
    for (field, list) in [("scopes", &terms.scopes), ("audiences", &terms.audiences)] {
        if list.is_empty() || list.len() > MAX_TERMS {
            faults.add(field, format!("it has {} entries: give it 1 to {MAX_TERMS}", list.len()));
        }
    }
    for (index, scope) in terms.scopes.iter().enumerate() {
        if !scoped.iter().any(|(known, _)| known == scope) {
            let known: BTreeSet<&str> = scoped.iter().map(|(known, _)| *known).collect();
            let known: Vec<&str> = known.into_iter().collect();
            let what = match known.as_slice() {
                [] => "no endpoint of the tenant asks for a scope: give one to an endpoint first".to_owned(),
                known => format!("no endpoint of the tenant asks for it: known are {}", known.join(", ")),
            };
            faults.add(format!("scopes[{index}]"), what);
        }
    }
    for (index, audience) in terms.audiences.iter().enumerate() {
        let is_plain = audience.len() <= MAX_TERM_BYTES && audience.bytes().all(|b| b.is_ascii_graphic());
        if audience.is_empty() || !is_plain {
            let what = format!("write 1 to {MAX_TERM_BYTES} visible ASCII characters, such as a URL");
            faults.add(format!("audiences[{index}]"), what);
        }
    }
    scoped.into_iter().filter(|(scope, _)| terms.scopes.iter().any(|s| s == scope)).map(|(_, name)| name).collect()
}

fn unique(list: &[String]) -> Vec<String> {
    list.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}
