//! The steps from what the server has to what a file says, in the order in which they can be taken.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::HeaderValue;
use portcullis_model::credential::Kind;
use portcullis_model::id::Id;
use portcullis_model::source::{CredentialState, TenantState};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::file::{File, Key, Service, Tenant};
use super::server::{Found, KEYS, TENANT_FIELDS, endpoint_path, name};
use crate::client::{Call, path};
use crate::output::Visible;

/// How many digits of its digest name a plan.
const NAME_BYTES: usize = 8;

/// What applying a file comes to.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// What a file cannot bring about, each with the way out.
    pub(super) impossible: Vec<String>,
    /// What the server has and the file has not, and stays.
    left: Vec<String>,
}

/// One call.
pub(super) struct Step {
    act: Act,
    /// The record, such as `group all`.
    pub(super) what: String,
    fields: Vec<Change>,
    call: Call,
    /// The record whose revision the call depends on; an endpoint depends on its service.
    pub(super) of: String,
    revision: Option<u64>,
    /// What is lost by it.
    pub(super) consequence: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Change,
    Delete,
}

struct Change {
    field: String,
    from: Value,
    to: Value,
}

impl Act {
    fn sign(self) -> char {
        match self {
            Act::Create => '+',
            Act::Change => '~',
            Act::Delete => '-',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Act::Create => "create",
            Act::Change => "change",
            Act::Delete => "delete",
        }
    }
}

impl Step {
    /// The call, for the record as it was read; `now` has the revisions that earlier steps led to.
    pub(super) fn call(&self, now: &BTreeMap<String, HeaderValue>) -> Call {
        let planned = self.revision.and_then(|revision| HeaderValue::from_str(&format!("\"{revision}\"")).ok());
        self.call.clone().if_match(now.get(&self.of).cloned().or(planned))
    }

    /// In a line, as it is told.
    pub(super) fn told(&self) -> String {
        format!("{} {}", self.act.sign(), self.what)
    }
}

impl Plan {
    /// What leads from one to the other. With `prune` what the lists of the file do not have is deleted.
    pub(super) fn between(found: &Found, file: &File, prune: bool) -> Plan {
        let mut planner = Planner { found, prune, plan: Plan::default(), last: Vec::new() };
        if let Some(service) = &file.service {
            planner.service(service);
        }
        if let Some(tenant) = &file.tenant {
            planner.tenant(tenant);
        }
        let Planner { mut plan, last, .. } = planner;
        plan.steps.extend(last);
        plan
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.impossible.is_empty()
    }

    /// The plan's name: the same steps from the same revisions have the same.
    pub(super) fn name(&self) -> String {
        let mut sha = Sha256::new();
        for step in &self.steps {
            sha.update(format!("{}\n{} {:?}\n", step.told(), step.of, step.revision));
            for Change { field, from, to } in &step.fields {
                sha.update(format!("{field}\n{from}\n{to}\n"));
            }
        }
        sha.finalize().iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        for step in &self.steps {
            let _ = writeln!(text, "{}", Visible(&step.told()));
            for Change { field, from, to } in &step.fields {
                let before = if from.is_null() { String::new() } else { format!("{from} -> ") };
                let _ = writeln!(text, "    {field}: {}{}", Visible(&before), Visible(&to.to_string()));
            }
        }
        for what in &self.impossible {
            let _ = writeln!(text, "! {}", Visible(what));
        }
        for what in &self.left {
            let _ = writeln!(text, "  {} is not in the file and stays", Visible(what));
        }
        if self.is_empty() {
            text.push_str("nothing to change\n");
            return text;
        }
        let _ = writeln!(text, "{}", self.summary());
        let _ = writeln!(text, "plan {}", self.name());
        text
    }

    pub(super) fn summary(&self) -> String {
        let count = |act| self.steps.iter().filter(|step| step.act == act).count();
        let mut text = format!(
            "{} to create, {} to change, {} to delete",
            count(Act::Create),
            count(Act::Change),
            count(Act::Delete)
        );
        if !self.impossible.is_empty() {
            let _ = write!(text, ", {} impossible", self.impossible.len());
        }
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            let fields = step
                .fields
                .iter()
                .map(|change| (change.field.clone(), json!({ "from": change.from, "to": change.to })));
            json!({
                "act": step.act.word(),
                "record": step.what,
                "fields": fields.collect::<Map<String, Value>>(),
                "consequence": step.consequence,
            })
        });
        json!({
            "plan": self.name(),
            "steps": steps.collect::<Vec<Value>>(),
            "impossible": self.impossible,
            "left": self.left,
        })
    }
}

struct Planner<'p> {
    found: &'p Found,
    prune: bool,
    plan: Plan,
    /// Deletions, which come after everything else: keys before the groups that they have.
    last: Vec<Step>,
}

/// What a record is called and where it is.
struct Place {
    what: String,
    path: String,
    of: String,
}

impl Place {
    fn new(kind: &str, id: impl std::fmt::Display, path: String) -> Place {
        let what = name(kind, id);
        Place { of: what.clone(), what, path }
    }
}

impl Planner<'_> {
    fn service(&mut self, wanted: &Service) {
        let place = Place::new("service", &wanted.id, path(&["services", wanted.id.as_str()]));
        let there = self.found.service.as_ref();
        let mut fields = record(wanted);
        fields.remove("endpoints");
        match there {
            None => self.create(&place, "/v1/services", &fields, &[]),
            Some(there) => {
                let mut now = record(there);
                now.remove("endpoints");
                self.change(&place, &now, &fields, &["prefix", "tenant"], &["preflight", "reserved_prefix"]);
            }
        }
        let Some(endpoints) = &wanted.endpoints else { return };
        let known = there.and_then(|there| there.endpoints.as_deref()).unwrap_or_default();
        for endpoint in endpoints {
            let before = known.iter().find(|before| before.id == endpoint.id);
            let endpoint = &endpoint.clone().formerly_as(before);
            let fields = diff(&before.map(record).unwrap_or_default(), &record(endpoint));
            if before.is_none() || !fields.is_empty() {
                let mut body = record(endpoint);
                body.remove("id");
                self.plan.steps.push(Step {
                    act: if before.is_some() { Act::Change } else { Act::Create },
                    what: name("endpoint", format_args!("{}/{}", wanted.id, endpoint.id)),
                    fields,
                    call: Call::put(endpoint_path(&wanted.id, endpoint), &body),
                    of: place.of.clone(),
                    revision: self.found.revisions.get(&place.of).copied(),
                    consequence: None,
                });
            }
        }
        for gone in known.iter().filter(|known| endpoints.iter().all(|kept| kept.id != known.id)) {
            let what = name("endpoint", format_args!("{}/{}", wanted.id, gone.id));
            let consequence = format!("every request to the {what} is denied from then on");
            let place = Place { what, path: endpoint_path(&wanted.id, gone), of: place.of.clone() };
            self.delete(place, Some(consequence));
        }
    }

    fn tenant(&mut self, wanted: &Tenant) {
        // The issuer may be the installation's own, which no file has to know.
        let issuer = self.found.tenant.as_ref().and_then(|there| there.token_issuer.clone());
        let wanted = &Tenant { token_issuer: wanted.token_issuer.clone().or(issuer), ..wanted.clone() };
        let id = &wanted.id;
        let place = Place::new("tenant", id, path(&["tenants", id.as_str()]));
        let there = self.found.tenant.as_ref();
        let own = |tenant: &Tenant| {
            let mut fields = record(tenant);
            fields.retain(|field, _| field == "id" || TENANT_FIELDS.contains(&field.as_str()));
            fields
        };
        match there {
            None => {
                self.create(&place, "/v1/tenants", &own(wanted), &["state"]);
                if wanted.state != TenantState::Active {
                    let active = Tenant { state: TenantState::Active, ..wanted.clone() };
                    self.change(&place, &own(&active), &own(wanted), &[], &[]);
                }
            }
            Some(there) => self.change(&place, &own(there), &own(wanted), &[], &[]),
        }
        if let Some(step) = self.plan.steps.last_mut()
            && wanted.state == TenantState::Suspended
            && step.fields.iter().any(|change| change.field == "state")
        {
            step.consequence = Some(format!("every key of the tenant {id} is denied"));
        }
        if let Some(step) = self.plan.steps.last_mut()
            && there.is_some_and(|there| there.modules.iter().any(|module| !wanted.modules.contains(module)))
            && step.fields.iter().any(|change| change.field == "modules")
        {
            step.call = step.call.clone().confirmed();
            step.consequence = Some(format!("what the tenant {id} has set by that module has no effect"));
        }
        let of = there.cloned();
        let of = |list: fn(Tenant) -> Option<Vec<Value>>| of.clone().and_then(list).unwrap_or_default();
        let groups = (of(|t| t.groups.map(|l| values(&l))), wanted.groups.as_ref().map(|l| values(l)));
        let applications =
            (of(|t| t.applications.map(|l| values(&l))), wanted.applications.as_ref().map(|l| values(l)));
        let users = (of(|t| t.users.map(|l| values(&l))), wanted.users.as_ref().map(|l| values(l)));
        self.list(id, "group", "groups", groups, &["type"], &[]);
        self.list(id, "application", "applications", applications, &["name"], &[]);
        self.list(id, "user", "users", users, &[], &["state"]);
        self.settings(wanted, there);
        self.keys(wanted, there);
        // Keys first, and who has a group before the group.
        let rank = |step: &Step| {
            ["key", "user", "group", "application", "settings"].iter().position(|kind| step.what.starts_with(kind))
        };
        self.last.sort_by_key(rank);
    }

    /// A list of records with an id, that are posted to the list and changed at their own place.
    fn list(
        &mut self,
        tenant: &Id,
        kind: &str,
        folder: &str,
        (known, wanted): (Vec<Value>, Option<Vec<Value>>),
        fixed: &[&str],
        after_creation: &[&str],
    ) {
        let Some(wanted) = wanted else { return };
        let at = |value: &Value| {
            let id = id_of(value);
            Place::new(kind, &id, path(&["tenants", tenant.as_str(), folder, &id]))
        };
        for record in &wanted {
            let place = at(record);
            let Value::Object(fields) = record else { continue };
            match known.iter().find(|known| id_of(known) == id_of(record)) {
                Some(Value::Object(now)) => self.change(&place, now, fields, fixed, &[]),
                _ => {
                    self.create(&place, &path(&["tenants", tenant.as_str(), folder]), fields, after_creation);
                    let mut usual = fields.clone();
                    for field in
                        after_creation.iter().filter(|field| fields.get(**field).is_some_and(|v| v != "active"))
                    {
                        usual.insert((*field).to_owned(), json!("active"));
                    }
                    self.change(&place, &usual, fields, &[], &[]);
                }
            }
        }
        for gone in known.iter().filter(|known| wanted.iter().all(|kept| id_of(kept) != id_of(known))) {
            let place = at(gone);
            let consequence =
                (kind == "user").then(|| format!("the {} is gone, and the keys that follow it", place.what));
            self.delete(place, consequence);
        }
    }

    fn settings(&mut self, wanted: &Tenant, there: Option<&Tenant>) {
        let Some(settings) = &wanted.settings else { return };
        let known = there.and_then(|there| there.settings.as_deref()).unwrap_or_default();
        let at = |endpoint: &portcullis_model::id::EndpointRef| {
            let (service, id) = (endpoint.service.as_str(), endpoint.endpoint.as_str());
            Place::new("settings", endpoint, path(&["tenants", wanted.id.as_str(), "settings", service, id]))
        };
        for of_endpoint in settings {
            let place = at(&of_endpoint.endpoint);
            let before = known.iter().find(|before| before.endpoint == of_endpoint.endpoint);
            let fields = diff(&before.map(record).unwrap_or_default(), &record(of_endpoint));
            if before.is_some() && fields.is_empty() {
                continue;
            }
            let mut body = record(of_endpoint);
            body.remove("endpoint");
            let is_opened = before.is_some_and(|b| !b.ip_ranges.is_empty()) && of_endpoint.ip_ranges.is_empty();
            self.plan.steps.push(Step {
                act: if before.is_some() { Act::Change } else { Act::Create },
                consequence: is_opened.then(|| format!("{} is open to any address", of_endpoint.endpoint)),
                revision: self.found.revisions.get(&place.of).copied(),
                what: place.what,
                of: place.of,
                fields,
                call: Call::put(place.path, &body),
            });
        }
        for gone in known.iter().filter(|known| settings.iter().all(|kept| kept.endpoint != known.endpoint)) {
            let consequence = format!("{} is open to any address and needs no signature", gone.endpoint);
            self.delete(at(&gone.endpoint), Some(consequence));
        }
    }

    fn keys(&mut self, wanted: &Tenant, there: Option<&Tenant>) {
        let Some(keys) = &wanted.keys else { return };
        let known = there.and_then(|there| there.keys.as_deref()).unwrap_or_default();
        let at = |key: &Key| {
            let folder = KEYS.iter().find(|(kind, _)| *kind == key.kind.as_str()).map_or("", |(_, folder)| folder);
            Place::new("key", &key.id, path(&["tenants", wanted.id.as_str(), folder, key.id.as_str()]))
        };
        for key in keys {
            let place = at(key);
            let Some(before) = known.iter().find(|before| before.id == key.id) else {
                let way = "a file makes no keys, for they need a secret: make it with `portcullis key create`, or leave it out";
                self.plan.impossible.push(format!("{}: it is not there, and {way}", place.what));
                continue;
            };
            let (mut now, mut then) = (record(before), record(key));
            if before.state != key.state {
                if key.state == CredentialState::Active {
                    let what = format!("{}: it is revoked, which is final: make a new one", place.what);
                    self.plan.impossible.push(what);
                    continue;
                }
                self.last.push(revocation(&place, self.found.revisions.get(&place.of).copied()));
            }
            now.remove("state");
            then.remove("state");
            let fixed: &[&str] = match key.kind {
                Kind::Tenant => &["kind", "expires", "endpoints", "applications", "creator", "creator_rule"],
                Kind::Management | Kind::Workspace | Kind::Personal | Kind::Client | Kind::Session => &[
                    "kind",
                    "name",
                    "description",
                    "expires",
                    "group",
                    "ip_allowlist",
                    "endpoints",
                    "applications",
                    "creator",
                    "creator_rule",
                ],
            };
            self.change(&place, &now, &then, fixed, &[]);
        }
        for gone in known.iter().filter(|known| keys.iter().all(|kept| kept.id != known.id)) {
            let place = at(gone);
            if gone.kind == Kind::Management {
                let consequence = format!("the {} is gone at once and for good", place.what);
                self.delete(place, Some(consequence));
            } else if gone.state == CredentialState::Active {
                if self.prune {
                    self.last.push(revocation(&place, self.found.revisions.get(&place.of).copied()));
                } else {
                    self.plan.left.push(place.what);
                }
            }
        }
    }

    fn create(&mut self, place: &Place, list: &str, fields: &Map<String, Value>, later: &[&str]) {
        let mut body = fields.clone();
        body.retain(|field, _| !later.contains(&field.as_str()));
        self.plan.steps.push(Step {
            act: Act::Create,
            what: place.what.clone(),
            fields: diff(&Map::new(), &body),
            call: Call::post(list.to_owned(), &body),
            of: place.of.clone(),
            revision: None,
            consequence: None,
        });
    }

    /// Changes a record where it differs. Fields in `fixed` cannot be changed, those in `removable` can be taken away.
    fn change(
        &mut self,
        place: &Place,
        now: &Map<String, Value>,
        wanted: &Map<String, Value>,
        fixed: &[&str],
        removable: &[&str],
    ) {
        let mut body = Map::new();
        let mut fields = Vec::new();
        for change in diff(now, wanted) {
            let field = change.field.as_str();
            if fixed.contains(&field) {
                let what =
                    format!("{}: its `{field}` cannot be changed from {} to {}", place.what, change.from, change.to);
                self.plan.impossible.push(what);
            } else if change.to.is_null() && field == "name" && place.what.starts_with("user ") {
                // A user without a name in the file keeps the one there is.
            } else {
                // A list or a text that is left out is empty; of the rest some can be taken away.
                let to = match (&change.to, now.get(field)) {
                    (Value::Null, Some(Value::Array(_))) => json!([]),
                    (Value::Null, Some(Value::String(_))) if field == "description" => json!(""),
                    (Value::Null, _) if !removable.contains(&field) => {
                        self.plan.impossible.push(format!("{}: its `{field}` cannot be taken away", place.what));
                        continue;
                    }
                    (to, _) => to.clone(),
                };
                body.insert(field.to_owned(), to);
                fields.push(change);
            }
        }
        if fields.is_empty() {
            return;
        }
        self.plan.steps.push(Step {
            act: Act::Change,
            what: place.what.clone(),
            fields,
            call: Call::patch(place.path.clone(), &body),
            of: place.of.clone(),
            revision: self.found.revisions.get(&place.of).copied(),
            consequence: None,
        });
    }

    fn delete(&mut self, place: Place, consequence: Option<String>) {
        if !self.prune {
            self.plan.left.push(place.what);
            return;
        }
        let call = Call::delete(place.path);
        // Only of these a confirmation is asked.
        let is_confirmed = ["endpoint ", "user ", "key "].iter().any(|kind| place.what.starts_with(kind));
        self.last.push(Step {
            act: Act::Delete,
            revision: self.found.revisions.get(&place.of).copied(),
            what: place.what,
            fields: Vec::new(),
            call: if is_confirmed { call.confirmed() } else { call },
            of: place.of,
            consequence,
        });
    }
}

fn revocation(place: &Place, revision: Option<u64>) -> Step {
    Step {
        act: Act::Delete,
        what: place.what.clone(),
        fields: vec![Change { field: "state".to_owned(), from: json!("active"), to: json!("revoked") }],
        call: Call::post(format!("{}/revoke", place.path), &json!({})).confirmed(),
        of: place.of.clone(),
        revision,
        consequence: Some(format!("the {} is dead at once and for good", place.what)),
    }
}

/// Fields that differ, with what they were and what they are to be.
fn diff(now: &Map<String, Value>, wanted: &Map<String, Value>) -> Vec<Change> {
    let gone = now.keys().filter(|field| !wanted.contains_key(*field));
    let value = |of: &Map<String, Value>, field: &str| of.get(field).cloned().unwrap_or_default();
    let mut changes = Vec::new();
    for field in wanted.keys().chain(gone).filter(|field| *field != "id") {
        let (from, to) = (value(now, field), value(wanted, field));
        if in_order(field, &from) != in_order(field, &to) {
            changes.push(Change { field: field.clone(), from, to });
        }
    }
    changes
}

/// A value as it is compared: sets do not have an order, and a list that is left out is empty.
fn in_order(field: &str, value: &Value) -> Value {
    if value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty) {
        return Value::Null;
    }
    // The first place that a service accepts comes first.
    let Some(items) = value.as_array().filter(|_| field != "accept") else { return value.clone() };
    let mut items = items.clone();
    items.sort_by_cached_key(Value::to_string);
    items.dedup();
    Value::Array(items)
}

fn record(of: &impl Serialize) -> Map<String, Value> {
    // Records of the file always have a JSON form.
    match serde_json::to_value(of) {
        Ok(Value::Object(fields)) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        Ok(_) | Err(_) => Map::new(),
    }
}

fn values(list: &[impl Serialize]) -> Vec<Value> {
    list.iter().map(|item| Value::Object(record(item))).collect()
}

fn id_of(value: &Value) -> String {
    value.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}
