//! A service or a tenant as the server has it, with the revision of each record.

use std::collections::BTreeMap;

use portcullis_model::id::Id;
use portcullis_model::source::EndpointSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::super::{MAX_LISTED, Pages, Session};
use super::file::{Application, Endpoint, File, Group, Key, Service, Tenant, User};
use crate::client::{Call, ClientError, path};
use crate::error::Error;

/// What the server has. The revision of each record is under what the plan calls it.
#[derive(Default)]
pub(super) struct Found {
    pub(super) service: Option<Service>,
    pub(super) tenant: Option<Tenant>,
    pub(super) revisions: BTreeMap<String, u64>,
}

/// What a record is called, in plans and here.
pub(super) fn name(kind: &str, id: impl std::fmt::Display) -> String {
    format!("{kind} {id}")
}

/// The kinds of keys, with the folders they are in.
pub(super) const KEYS: [(&str, &str); 3] =
    [("tenant", "tenant-keys"), ("management", "management-keys"), ("workspace", "workspace-keys")];

/// What a tenant itself has, beside its id.
pub(super) const TENANT_FIELDS: &[&str] = &[
    "name",
    "state",
    "modules",
    "key_limit",
    "expiring_soon_days",
    "token_issuer",
    "token_validity_s",
    "token_revocation",
];

pub(super) fn missing(what: &str) -> Error {
    Error::NothingToExport { what: what.to_owned() }
}

/// A service with its endpoints; nothing where there is none.
pub(super) fn service(session: &Session, id: &Id) -> Result<Found, Error> {
    let mut found = Found::default();
    let Some(view) = get(session, path(&["services", id.as_str()]))? else { return Ok(found) };
    let fields = [
        "id",
        "name",
        "hosts",
        "prefix",
        "tenant",
        "upstream",
        "preserve_host",
        "response_timeout_s",
        "accept",
        "reserved_prefix",
        "preflight",
        "endpoints",
    ];
    found.note(name("service", id), &view);
    found.service = Some(read(&view, &fields)?);
    Ok(found)
}

/// A tenant with all that is of it; nothing where there is none.
pub(super) fn tenant(session: &Session, id: &Id, with_keys: bool) -> Result<Found, Error> {
    let mut found = Found::default();
    let Some(view) = get(session, path(&["tenants", id.as_str()]))? else { return Ok(found) };
    found.note(name("tenant", id), &view);
    let mut tenant: Tenant = read(&view, &[&["id"][..], TENANT_FIELDS].concat())?;
    let list = |folder: &str| -> Result<Vec<Value>, Error> {
        let pages = Pages { limit: None, after: None, all: true };
        let call = Call::get(path(&["tenants", id.as_str(), folder]));
        // Settings come as a whole and take no `limit`.
        let listed = if folder == "settings" { session.part(&call)? } else { session.gather(&call, &pages)? };
        if listed.items.len() > MAX_LISTED {
            return Err(Error::TooMany { limit: MAX_LISTED });
        }
        Ok(listed.items)
    };
    let (groups, applications, users, settings) =
        (list("groups")?, list("applications")?, list("users")?, list("settings")?);
    let mut keys = Vec::new();
    if with_keys {
        for (_, folder) in KEYS {
            keys.extend(list(folder)?);
        }
    }
    tenant.groups = Some(found.all::<Group>("group", "id", &groups, &["id", "name", "type", "permissions"])?);
    tenant.applications = Some(found.all::<Application>("application", "id", &applications, &["id", "name"])?);
    tenant.users = Some(found.all::<User>("user", "id", &users, &["id", "name", "role", "state", "group"])?);
    let fields = ["endpoint", "ip_ranges", "signature", "replay"];
    tenant.settings = Some(found.all::<EndpointSettings>("settings", "endpoint", &settings, &fields)?);
    let fields = [
        "id",
        "kind",
        "name",
        "description",
        "state",
        "expires",
        "group",
        "ip_allowlist",
        "endpoints",
        "applications",
        "creator",
        "creator_rule",
    ];
    let keys = found.all::<Key>("key", "id", &keys, &fields)?;
    tenant.keys = with_keys.then_some(keys);
    found.tenant = Some(tenant);
    Ok(found)
}

impl Found {
    /// Takes the names of users out, unless they are wanted.
    pub(super) fn forget(&mut self, names: bool) {
        for user in self.tenant.iter_mut().flat_map(|tenant| tenant.users.iter_mut().flatten()) {
            user.name = user.name.take().filter(|name| names && !name.is_empty());
        }
    }

    pub(super) fn into_file(self) -> Option<File> {
        let is_there = self.service.is_some() || self.tenant.is_some();
        is_there.then(|| File::of(self.service, self.tenant))
    }

    fn note(&mut self, name: String, view: &Value) {
        if let Some(revision) = view.get("changed").and_then(Value::as_u64) {
            self.revisions.insert(name, revision);
        }
    }

    fn all<T: DeserializeOwned>(
        &mut self,
        kind: &str,
        id: &str,
        views: &[Value],
        fields: &[&str],
    ) -> Result<Vec<T>, Error> {
        let records = views.iter().map(|view| {
            self.note(name(kind, view.get(id).and_then(Value::as_str).unwrap_or_default()), view);
            read(view, fields)
        });
        records.collect()
    }
}

fn get(session: &Session, path: String) -> Result<Option<Value>, Error> {
    match session.client.send(&Call::get(path)) {
        Ok(answer) => Ok(Some(answer.body)),
        Err(ClientError::Refused(problem)) if problem.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A record out of what the server says of it. A newer server may say more.
fn read<T: DeserializeOwned>(view: &Value, fields: &[&str]) -> Result<T, Error> {
    let known = fields.iter().filter_map(|field| {
        let value = view.get(*field).filter(|value| !value.is_null())?;
        Some(((*field).to_owned(), value.clone()))
    });
    let known: Map<String, Value> = known.collect();
    serde_json::from_value(Value::Object(known)).map_err(|error| Error::NoRecord { what: error.to_string() })
}

/// An endpoint's own place.
pub(super) fn endpoint_path(service: &Id, endpoint: &Endpoint) -> String {
    path(&["services", service.as_str(), "endpoints", endpoint.id.as_str()])
}
