//! What changed between two sources, by id, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use portcullis_model::id::Revision;
use portcullis_model::source::{Endpoint, Service, Source};
use serde::Serialize;
use serde_json::Value;

/// The changes from one source to the next, in order of kind and id.
pub(super) struct Changes {
    from: Revision,
    to: Revision,
    changes: Vec<Change>,
}

struct Change {
    what: What,
    kind: &'static str,
    id: String,
}

enum What {
    Added,
    /// The fields that differ, each with its values where they are short.
    Changed(Vec<String>),
    Removed,
}

/// Compares every record of two sources.
pub(super) fn changes(old: &Source, new: &Source) -> Changes {
    let mut all = Changes { from: old.revision, to: new.revision, changes: Vec::new() };
    all.compare("installation", [&old.installation], [&new.installation], |_| String::new());
    // A service's endpoints are compared by themselves.
    let bare = |source: &Source| -> Vec<Service> {
        source.services.iter().map(|service| Service { endpoints: Vec::new(), ..service.clone() }).collect()
    };
    all.compare("service", &bare(old), &bare(new), |service| service.id.to_string());
    all.compare("endpoint", endpoints(old), endpoints(new), |(id, _)| id.clone());
    all.compare("tenant", &old.tenants, &new.tenants, |tenant| tenant.id.to_string());
    all.compare("application", &old.applications, &new.applications, |app| format!("{}/{}", app.tenant, app.id));
    all.compare("group", &old.groups, &new.groups, |group| format!("{}/{}", group.tenant, group.id));
    all.compare("user", &old.users, &new.users, |user| format!("{}/{}", user.tenant, user.id));
    all.compare("credential", &old.credentials, &new.credentials, |credential| credential.id.to_string());
    all
}

fn endpoints(source: &Source) -> Vec<(String, &Endpoint)> {
    let of = |service: &'_ Service| service.id.clone();
    source
        .services
        .iter()
        .flat_map(|service| {
            let id = of(service);
            service.endpoints.iter().map(move |endpoint| (format!("{id}/{}", endpoint.id), endpoint))
        })
        .collect()
}

impl Changes {
    fn compare<T: Serialize + PartialEq>(
        &mut self,
        kind: &'static str,
        old: impl IntoIterator<Item = T>,
        new: impl IntoIterator<Item = T>,
        id: impl Fn(&T) -> String,
    ) {
        let by_id = |record: T| (id(&record), record);
        let old: BTreeMap<String, T> = old.into_iter().map(by_id).collect();
        let new: BTreeMap<String, T> = new.into_iter().map(by_id).collect();
        let ids: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for id in ids {
            let what = match (old.get(id), new.get(id)) {
                (Some(old), Some(new)) if old == new => continue,
                (Some(old), Some(new)) => What::Changed(fields(old, new)),
                (Some(_), None) => What::Removed,
                (None, _) => What::Added,
            };
            self.changes.push(Change { what, kind, id: id.clone() });
        }
    }
}

/// The fields in which two records differ, as they stand in JSON.
fn fields<T: Serialize>(old: &T, new: &T) -> Vec<String> {
    let object = |record: &T| match serde_json::to_value(record) {
        Ok(Value::Object(fields)) => fields,
        // An endpoint comes with its id before it.
        Ok(Value::Array(pair)) => pair.into_iter().find_map(|part| part.as_object().cloned()).unwrap_or_default(),
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (old, new) = (object(old), object(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differing = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    differing
        .map(|name| match (scalar(old.get(name)), scalar(new.get(name))) {
            (Some(old), Some(new)) => format!("{name} {old} -> {new}"),
            (None, _) | (_, None) => name.clone(),
        })
        .collect()
}

/// A value that fits into a line.
fn scalar(value: Option<&Value>) -> Option<String> {
    match value {
        None => Some("none".to_owned()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) => None,
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "revision {} -> {}", self.from, self.to)?;
        let width = self.changes.iter().map(|change| change.id.len()).max().unwrap_or_default();
        for Change { what, kind, id } in &self.changes {
            let (word, fields) = match what {
                What::Added => ("added", String::new()),
                What::Changed(fields) => ("changed", fields.join(", ")),
                What::Removed => ("removed", String::new()),
            };
            writeln!(f, "{}", format!("  {word:7}  {kind:12}  {id:width$}  {fields}").trim_end())?;
        }
        if self.changes.is_empty() { writeln!(f, "  no record changed") } else { Ok(()) }
    }
}
