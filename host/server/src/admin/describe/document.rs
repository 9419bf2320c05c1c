//! The document as a whole.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use axum::Router;
use axum::http::{Method, StatusCode};
use portcullis_control::{ADMIN_SERVICE, admin_service};
use portcullis_model::source::Service;
use serde_json::{Map, Value, json};

use super::routes::{Gated, Route};
use super::{ANSWERED, Routes, SENT};
use crate::admin::Api;
use crate::admin::codes::CODES;
use crate::admin::problem::Problem;

/// Statuses that every operation may be refused with: by the gate, by the listener, by a store that does not answer.
const EVERYWHERE: [u16; 8] = [400, 401, 403, 414, 421, 431, 500, 503];
/// Statuses of what changes something.
const OF_CHANGES: [u16; 3] = [409, 422, 507];

/// Below this path lies what people do who have signed in.
const OF_PERSONS: &str = "/v1/me";
/// The tag of what is answered before the gate.
const WITHOUT_KEY: &str = "without-key";

const INTRODUCTION: &str = "\
The one way to change an installation of Portcullis while it runs.

Every call carries a management key: `Authorization: ManagementKey-v1 KEY`. What a key may do is the list of its endpoints; \
each operation says which one it needs. Keys of the system tenant may reach every tenant; to any other key the other tenants \
are not there, and what belongs to them answers as what is missing.

**People.** Below `/v1/me` is what people do who have signed in: `Authorization: Session-v1 SESSION`. An admin gives a user a \
code; sent in the place of the session, it opens one. A session reaches nothing else, and a key reaches none of it.

**Changes.** A record has an `ETag`; given back in `If-Match`, a change is refused with 412 where the record has changed \
since. What cannot be undone is refused with 409 `confirmation_required`, which tells what would happen, until it is \
confirmed: with `\"confirm\": true` in the body, or `?confirm=true` where there is none. A change is answered once it is in \
force.

**Repetition.** A creation may carry an `Idempotency-Key`, which is remembered for 24 hours for the management key that sent \
it. Whoever has not heard the answer sends the same again: it is not done twice, and the answer has `Idempotency-Replayed: \
true`. A secret is in the first answer alone; a repetition has null in its place and `secret_already_shown`.

**Lists.** `limit` is at most 200. `next` of a page is the `after` of the one that follows; it is null at the end.

**Problems.** Whatever is not done is told as `application/problem+json` (RFC 9457) with a `code` that stays the same from \
version to version; more may come. Fields that are wrong stand in `faults`, all of them at once.
";

/// The document, and the router that it describes.
pub(in crate::admin) struct Document {
    pub(in crate::admin) router: Router<Api>,
    pub(in crate::admin) json: Value,
}

impl Document {
    /// Puts together what was collected.
    pub(in crate::admin) fn new(routes: Routes) -> Document {
        let Routes { router, operations, mut schemas } = routes;
        let service = admin_service();
        let mut paths = Map::new();
        for route in &operations {
            let item = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
            if let Some(item) = item.as_object_mut() {
                item.insert(route.method.as_str().to_lowercase(), operation(route, service.as_ref()));
            }
        }
        let problem = schemas.answered.subschema_for::<Problem>();
        let mut definitions = schemas.answered.take_definitions(true);
        let apart = add_sent(&mut definitions, schemas.sent.take_definitions(true));
        let mut json = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Portcullis admin API",
                "version": env!("CARGO_PKG_VERSION"),
                "description": format!("{INTRODUCTION}\n{}", table_of_codes()),
                "license": { "name": "Apache License 2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/" }],
            "security": [{ "managementKey": [] }],
            "tags": tags(service.as_ref()),
            "paths": paths,
            "components": {
                "schemas": definitions,
                "responses": problems(&json!(problem)),
                "securitySchemes": {
                    "managementKey": {
                        "type": "http",
                        "scheme": "ManagementKey-v1",
                        "description": "A management key: `Authorization: ManagementKey-v1 KEY`.",
                    },
                    "session": {
                        "type": "http",
                        "scheme": "Session-v1",
                        "description": "A session, or the code that opens one: `Authorization: Session-v1 SESSION`.",
                    },
                },
            },
        });
        settle(&mut json, &apart);
        Document { router, json }
    }
}

fn operation(route: &Route, service: Option<&Service>) -> Value {
    let mut parameters: Vec<Value> = names(&route.path).map(path_parameter).collect();
    let mut statuses = route.problems.clone();
    if route.gated == Gated::Yes {
        statuses.extend(EVERYWHERE);
        if !parameters.is_empty() {
            statuses.insert(404);
        }
        if route.method != Method::GET {
            statuses.extend(OF_CHANGES);
        }
    }
    parameters.extend(route.parameters.iter().cloned());
    let mut answers = route.answers.clone();
    for status in statuses {
        answers.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/Problem{status}") }));
    }
    let endpoint = endpoint(service, &route.method, &route.path);
    let (summary, more) = route.summary.split_once('\n').unwrap_or((&route.summary, ""));
    let is_of_persons = route.path.starts_with(OF_PERSONS);
    let needs = match route.gated {
        Gated::No => "Needs no key.".to_owned(),
        Gated::Yes if is_of_persons => {
            format!("Needs the endpoint `{ADMIN_SERVICE}/{endpoint}`, which whoever signs in has, and no key.")
        }
        Gated::Yes => format!("Needs the endpoint `{ADMIN_SERVICE}/{endpoint}`."),
    };
    let description = format!("{more} {needs}");
    let tag = match route.gated {
        Gated::Yes => endpoint.trim_end_matches(".read"),
        Gated::No => WITHOUT_KEY,
    };
    let mut operation = json!({
        "operationId": route.id,
        "summary": summary,
        "description": description.trim(),
        "tags": [tag],
        "responses": answers,
    });
    if let Some(operation) = operation.as_object_mut() {
        let security = match route.gated {
            Gated::No => Some(json!([])),
            Gated::Yes if is_of_persons => Some(json!([{ "session": [] }])),
            Gated::Yes => None,
        };
        if let Some(security) = security {
            operation.insert("security".to_owned(), security);
        }
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(body) = &route.body {
            operation.insert("requestBody".to_owned(), body.clone());
        }
    }
    operation
}

/// The endpoint of the admin service that lets a call through: what a key must have. A test does not let a route pass that
/// has none.
fn endpoint(service: Option<&Service>, method: &Method, path: &str) -> String {
    let method = portcullis_model::method::Method::from_name(method.as_str().as_bytes());
    let mut endpoints = service.into_iter().flat_map(|service| &service.endpoints);
    let found = endpoints.find(|endpoint| {
        let has_method = method.is_some_and(|method| endpoint.methods.contains(method));
        has_method && endpoint.paths.iter().any(|known| known == path)
    });
    found.map(|endpoint| endpoint.id.to_string()).unwrap_or_default()
}

fn tags(service: Option<&Service>) -> Vec<Value> {
    let endpoints = service.into_iter().flat_map(|service| &service.endpoints);
    let changing = endpoints.filter(|endpoint| !endpoint.id.as_str().ends_with(".read"));
    let tags = changing.map(|endpoint| json!({ "name": endpoint.id, "description": endpoint.name }));
    let without_key = json!({ "name": WITHOUT_KEY, "description": "What needs no key" });
    tags.chain([without_key]).collect()
}

/// The names in a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// A name in a path. One that is not known here has no description, which a test does not let pass.
fn path_parameter(name: &str) -> Value {
    let description = match name {
        "tenant" => "The id of the tenant.",
        "service" => "The id of the service.",
        "endpoint" => "The id of the endpoint within its service.",
        "group" => "The id of the group.",
        "name" => "The id of the application.",
        "feed" => "The id of the feed.",
        "application" => "The id of the feed, which is that of its application.",
        "user" => "The id of the user.",
        "key" => "The id of the key, never the key itself.",
        "profile" => "The id of the signature profile.",
        "kid" => "The id of the key of access tokens, as in `kid` of a token's header.",
        "decision" => "The id of the decision, as in `X-Portcullis-Decision`.",
        "entry" => "The number of the entry.",
        _ => "",
    };
    let schema = match name {
        "entry" => json!({ "type": "integer", "minimum": 0 }),
        "kid" => json!({ "type": "string", "minLength": 43, "maxLength": 43, "pattern": "^[A-Za-z0-9_-]*$" }),
        _ => json!({ "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$" }),
    };
    json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema })
}

/// One answer for each status that there is a code of.
fn problems(schema: &Value) -> Map<String, Value> {
    let statuses: BTreeSet<u16> = CODES.iter().flat_map(|code| code.statuses).copied().collect();
    let of = |status: u16| {
        let codes = CODES.iter().filter(|code| code.statuses.contains(&status));
        let codes: Vec<String> = codes.map(|code| format!("`{}`", code.name)).collect();
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
        json!({
            "description": format!("{title}: {}.", codes.join(", ")),
            "content": { "application/problem+json": { "schema": schema } },
        })
    };
    statuses.into_iter().map(|status| (format!("Problem{status}"), of(status))).collect()
}

fn table_of_codes() -> String {
    let mut table = "| code | status | what it means |\n|---|---|---|\n".to_owned();
    for code in CODES {
        let statuses: Vec<String> = code.statuses.iter().map(u16::to_string).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| `{}` | {} | {} |", code.name, statuses.join(", "), code.meaning);
    }
    table
}

/// Adds the schemas of what is sent. Leads to the names of those that are not as what is answered and stand apart.
fn add_sent(definitions: &mut Map<String, Value>, sent: Map<String, Value>) -> BTreeSet<String> {
    let mut apart = BTreeSet::new();
    loop {
        let is_apart = |name: &String, schema: &Value| {
            let Some(answered) = definitions.get(name) else { return false };
            let mut settled = schema.clone();
            settle(&mut settled, &apart);
            settled != *answered
        };
        let more: Vec<String> = sent
            .iter()
            .filter(|(name, schema)| !apart.contains(*name) && is_apart(name, schema))
            .map(|(name, _)| name.clone())
            .collect();
        // What refers to a schema that stands apart may have to stand apart too.
        if more.is_empty() {
            break;
        }
        apart.extend(more);
    }
    for (name, schema) in sent {
        let name = if apart.contains(&name) { format!("Sent.{name}") } else { name };
        definitions.insert(name, schema);
    }
    apart
}

/// Leads references to what is sent to where it stands.
fn settle(value: &mut Value, apart: &BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(SENT)
            {
                *reference =
                    if apart.contains(name) { format!("{ANSWERED}Sent.{name}") } else { format!("{ANSWERED}{name}") };
            }
            fields.values_mut().for_each(|field| settle(field, apart));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| settle(item, apart)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
