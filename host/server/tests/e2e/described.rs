//! What the admin API says of itself, and whether it holds.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::http::{Call, Message};
use crate::world::World;

/// The description that a server gives of its admin API.
pub(crate) struct Described {
    document: Value,
    /// By path, and of each path in the order of methods.
    pub(crate) operations: Vec<Operation>,
    codes: Vec<String>,
}

pub(crate) struct Operation {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) id: String,
    /// The endpoint that a key needs for it; empty where it needs none.
    pub(crate) needs: String,
}

impl Described {
    pub(crate) fn by(admin: SocketAddr) -> Described {
        let document = Call::new("GET", "/v1/openapi.json").field("host", "localhost").send(admin).expect(200).json();
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in ["get", "post", "put", "patch", "delete"] {
                let Some(operation) = item.get(method) else { continue };
                let text = |name: &str| operation[name].as_str().unwrap().to_owned();
                let description = text("description");
                let needs = description.split("Needs the endpoint `").nth(1).unwrap_or_default().to_owned();
                assert_eq!(needs.is_empty(), description.ends_with("Needs no key."), "{path}: {description}");
                operations.push(Operation {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    id: text("operationId"),
                    needs: needs.split('`').next().unwrap().to_owned(),
                });
            }
        }
        let table = document["info"]["description"].as_str().unwrap();
        let code = |line: &str| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned());
        let codes = table.lines().filter_map(code).collect();
        Described { document, operations, codes }
    }

    /// Asserts that an answer is one that the operation is described to give.
    #[track_caller]
    pub(crate) fn check(&self, operation: &Operation, answer: &Message) {
        let what = format!("{} {}: {} {}", operation.method, operation.path, answer.start, answer.text());
        let described = &self.document["paths"][&operation.path][operation.method.to_lowercase()];
        let status = answer.status().to_string();
        let mut of_status = &described["responses"][&status];
        assert!(of_status.is_object(), "this status is not described: {what}");
        if let Some(reference) = of_status["$ref"].as_str() {
            of_status = self.document.pointer(reference.trim_start_matches('#')).unwrap();
        }
        for (name, header) in of_status["headers"].as_object().into_iter().flatten() {
            let is_there = answer.field(&name.to_lowercase()).is_some();
            assert!(
                is_there || header["description"].as_str().is_some_and(|text| text.contains("where")),
                "{name}: {what}"
            );
        }
        if answer.status() >= 400 {
            self.check_problem(answer);
        }
        let Some((media, content)) = of_status["content"].as_object().and_then(|content| content.iter().next()) else {
            assert!(answer.body.is_empty(), "no body is described: {what}");
            return;
        };
        assert_eq!(answer.field("content-type"), Some(media.as_str()), "{what}");
        if media == "application/octet-stream" {
            return;
        }
        if let Err(fault) = self.fits(&content["schema"], &answer.json()) {
            panic!("{fault}: {what}");
        }
    }

    /// Asserts that a problem is as RFC 9457 and the table of codes have it.
    #[track_caller]
    pub(crate) fn check_problem(&self, answer: &Message) {
        assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{answer:?}");
        let told = answer.json();
        assert_eq!((&told["status"], &told["type"]), (&json!(answer.status()), &json!("about:blank")), "{told}");
        assert!(told["title"].as_str().is_some_and(|title| !title.is_empty()), "{told}");
        assert!(told["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{told}");
        let code = told["code"].as_str().unwrap();
        assert!(self.codes.iter().any(|known| known == code), "`{code}` is not in the table of codes");
        for fault in told["faults"].as_array().into_iter().flatten() {
            assert!(fault["field"].is_string() && fault["detail"].is_string(), "{told}");
        }
    }

    /// Whether a value is as a schema says, no field too few and none too many.
    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let Some(schema) = schema.as_object() else { return Ok(()) };
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.fits(self.document.pointer(reference.trim_start_matches('#')).unwrap(), value);
        }
        for several in ["anyOf", "oneOf"] {
            let Some(schemas) = schema.get(several).and_then(Value::as_array) else { continue };
            let faults: Vec<String> = schemas.iter().filter_map(|schema| self.fits(schema, value).err()).collect();
            if faults.len() == schemas.len() {
                return Err(faults.join("; "));
            }
        }
        if let Some(only) = schema.get("const").filter(|only| *only != value) {
            return Err(format!("{value} is not {only}"));
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array)
            && !words.contains(value)
        {
            return Err(format!("{value} is none of {words:?}"));
        }
        if let Some(types) = schema.get("type") {
            let is = |name: &Value| match name.as_str().unwrap() {
                "null" => value.is_null(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_u64() || value.is_i64(),
                "number" => value.is_number(),
                "string" => value.is_string(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                other => panic!("{other} is no type"),
            };
            let fits = types.as_array().map_or_else(|| is(types), |types| types.iter().any(is));
            if !fits {
                return Err(format!("{value} is no {types}"));
            }
        }
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            values.iter().try_for_each(|value| self.fits(items, value))?;
        }
        if let (Some(fields), Some(value)) = (schema.get("properties").and_then(Value::as_object), value.as_object()) {
            self.fit(schema, fields, value)?;
        }
        Ok(())
    }

    fn fit(
        &self,
        schema: &Map<String, Value>,
        fields: &Map<String, Value>,
        value: &Map<String, Value>,
    ) -> Result<(), String> {
        for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !value.contains_key(required.as_str().unwrap()) {
                return Err(format!("{required} is missing"));
            }
        }
        for (name, value) in value {
            let field = fields.get(name).ok_or_else(|| format!("`{name}` is not described"))?;
            self.fits(field, value).map_err(|fault| format!("{name}: {fault}"))?;
        }
        Ok(())
    }
}

#[test]
fn the_description_is_served_without_a_key_and_as_reviewed() {
    let world = World::new();
    let get = |path: &str| Call::new("GET", path).field("host", "localhost").send(world.server.admin);
    let document = get("/v1/openapi.json").expect(200);
    assert_eq!(document.field("content-type"), Some("application/json"));
    let reviewed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi.json");
    assert!(
        document.text() == fs::read_to_string(&reviewed).unwrap(),
        "what is served differs from {}",
        reviewed.display()
    );
    let page = get("/docs").expect(200);
    let policy = page.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.text().contains("/v1/tenants/{tenant}/tenant-keys"));
    // What the page asks for is there, and it asks for nothing else.
    for part in page.text().split(['"']).filter(|part| part.starts_with("/docs/")) {
        get(part).expect(200);
    }
    let described = Described::by(world.server.admin);
    let post = Call::new("POST", "/docs").field("host", "localhost").send(world.server.admin).expect(405);
    described.check_problem(&post);
    // Not for a name that the listener does not know, and not on the side of the traffic.
    let other = Call::new("GET", "/docs").field("host", "rebound.example").send(world.server.admin).expect(421);
    described.check_problem(&other);
    world.call("GET", "/docs").send(world.server.proxy).problem(401, "unauthorized");
}

#[test]
fn every_operation_is_answered_and_what_is_not_described_is_not() {
    let world = World::new();
    let described = Described::by(world.server.admin);
    let admin = world.admin();
    let sample = |path: &str| {
        path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/")
    };
    for operation in &described.operations {
        let answer = admin.call(&operation.method, &sample(&operation.path)).send(admin.address);
        let told = answer.text();
        assert!(answer.status() != 405 && !told.contains("nothing at this path"), "{} {told}", operation.id);
        described.check(operation, &answer);
    }
    for path in described.document["paths"].as_object().unwrap().keys() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
            let is_described = described.operations.iter().any(|known| known.path == *path && known.method == method);
            if !is_described && method != "HEAD" {
                let answer = admin.call(method, &sample(path)).send(admin.address);
                assert!([403, 405].contains(&answer.status()), "{method} {path}: {answer:?}");
                described.check_problem(&answer);
            }
        }
    }
}

#[test]
fn whatever_is_refused_is_told_as_a_problem() {
    let world = World::new();
    let (admin, described) = (world.admin(), Described::by(world.server.admin));
    let groups = "/v1/tenants/acme/groups";
    let post = |body: &str, media: &str| admin.call("POST", groups).field("content-type", media).body(body);
    let cases = [
        (admin.call("GET", "/v1/nothing"), 403, "no_such_endpoint"),
        (admin.call("GET", "/v1//self"), 400, "bad_target"),
        (admin.call("GET", "/v1/tenants?limit=0"), 422, "invalid"),
        (admin.call("GET", "/v1/tenants?limit=201"), 422, "invalid"),
        (admin.call("GET", "/v1/tenants?colour=red"), 400, "bad_query"),
        (admin.call("GET", "/v1/tenants/nobody"), 404, "not_found"),
        (admin.call("DELETE", "/v1/self"), 405, "method_not_allowed"),
        (admin.call("PATCH", "/v1/tenants/acme").field("if-match", "7").json(&json!({})), 400, "bad_if_match"),
        (admin.call("PATCH", "/v1/tenants/acme").field("if-match", "\"1\"").json(&json!({})), 412, "changed"),
        (post("{}", "text/plain"), 415, "not_json"),
        (post("{} {}", "application/json"), 422, "invalid"),
        (post("{\"id\": \"new\"} x", "application/json"), 400, "not_json"),
        (post("[]", "application/json"), 422, "invalid"),
        (post("{\"id\": 7}", "application/json"), 422, "invalid"),
        (post("{\"id\": \"all\"}", "application/json"), 409, "exists"),
        (post(&" ".repeat((1 << 20) + 1), "application/json"), 413, "too_large"),
        (Call::new("GET", "/v1/self").field("host", "localhost"), 401, "unauthorized"),
        (Call::new("GET", "/v1/self").field("host", "rebound.example"), 421, "unknown_host"),
    ];
    for (call, status, code) in cases {
        let answer = call.send(admin.address);
        let told = answer.clone().problem(status, code);
        described.check_problem(&answer);
        assert_eq!(told["faults"].is_array(), code == "invalid", "{told}");
    }
}
