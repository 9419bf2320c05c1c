use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs};

use portcullis_control::admin_service;
use serde_json::Value;

use super::*;
use crate::admin::describe::Document;
use crate::admin::routes::routes;

fn document() -> Value {
    Document::new(routes()).json
}

/// The operations that are answered before the gate. Each is a way in without a key, to be reviewed.
const WITHOUT_KEY: [(&str, &str); 1] = [("post", "/v1/leaked")];

fn is_without_key(method: &str, path: &str) -> bool {
    WITHOUT_KEY.contains(&(method, path))
}

/// Every operation: method, path, what is said of it.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&'_ String, &'_ Value)| {
        (path.clone(), item.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
    };
    let keys: Vec<_> = paths.iter().map(of).collect();
    keys.into_iter()
        .flat_map(|(path, methods)| methods.into_iter().map(move |method| (method, path.clone())))
        .map(|(method, path)| {
            let operation = &document["paths"][&path][&method];
            (method, path, operation)
        })
        .collect()
}

/// Every object of a document.
fn visit<'d>(value: &'d Value, see: &mut impl FnMut(&'d serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            see(fields);
            fields.values().for_each(|field| visit(field, see));
        }
        Value::Array(items) => items.iter().for_each(|item| visit(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_document_is_as_reviewed() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi.json");
    let found = text(&document());
    if env::var_os("PORTCULLIS_BLESS").is_some() {
        fs::write(&file, &found).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "the description of the admin API differs from {}, first in {differs:?}; `PORTCULLIS_BLESS=1 cargo test -p \
         portcullis` writes it anew, to be reviewed",
        file.display()
    );
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = 0;
    visit(&document, &mut |fields| {
        if let Some(Value::String(reference)) = fields.get("$ref") {
            references += 1;
            let target = reference.strip_prefix('#').and_then(|at| document.pointer(at));
            assert!(target.is_some_and(Value::is_object), "{reference} leads nowhere");
        }
    });
    assert!(references > 100, "{references}");
    let named: BTreeSet<&String> = document["components"]["schemas"].as_object().unwrap().keys().collect();
    let mut used = BTreeSet::new();
    visit(&document, &mut |fields| {
        if let Some(Value::String(reference)) = fields.get("$ref") {
            used.extend(reference.strip_prefix("#/components/schemas/"));
        }
    });
    let unused: Vec<_> = named.into_iter().filter(|name| !used.contains(name.as_str())).collect();
    assert!(unused.is_empty(), "nothing uses {unused:?}");
}

#[test]
fn the_document_has_the_form_of_openapi_3_1() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    for requirement in document["security"].as_array().unwrap() {
        assert!(requirement.as_object().unwrap().keys().all(|name| schemes.contains_key(name)), "{requirement}");
    }
    for name in ["schemas", "responses", "securitySchemes"] {
        for key in document["components"][name].as_object().unwrap().keys() {
            assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{name}: {key}");
        }
    }
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{what}: the id is used twice");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{what}");
        assert!(operation["tags"].as_array().unwrap().iter().all(|tag| tags.contains(tag.as_str().unwrap())), "{what}");
        let none = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&none);
        let mut names = BTreeSet::new();
        for parameter in parameters {
            let (name, place) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
            assert!(["path", "query", "header"].contains(&place) && parameter["schema"].is_object(), "{what}: {name}");
            assert!(names.insert((place, name)), "{what}: {name} is declared twice");
            assert!(
                parameter["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{what}: say what {name} is, in the type that it is a field of, or `path_parameter` of describe/document.rs"
            );
        }
        let in_path: Vec<&str> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let declared = names.iter().filter(|(place, _)| *place == "path").count();
        assert_eq!(declared, in_path.len(), "{what}");
        assert!(in_path.iter().all(|name| names.contains(&("path", name))), "{what}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{what}");
        let is_open = is_without_key(&method, &path);
        assert_eq!(answers.contains_key("401") && answers.contains_key("403"), !is_open, "{what}");
        let none = Vec::new();
        let security = operation.get("security").map(|security| security.as_array().unwrap());
        assert_eq!(security.is_some_and(Vec::is_empty), is_open, "{what}");
        for requirement in security.unwrap_or(&none) {
            assert!(requirement.as_object().unwrap().keys().all(|name| schemes.contains_key(name)), "{what}");
        }
        for answer in answers.values().filter(|answer| answer.get("$ref").is_none()) {
            assert!(answer["description"].is_string(), "{what}: {answer}");
        }
    }
}

/// The catalogue by which the gate lets calls through, and the routes that answer them.
#[test]
fn the_catalogue_and_the_routes_are_the_same() {
    let document = document();
    let mut routed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let gated = || operations(&document).into_iter().filter(|(method, path, _)| !is_without_key(method, path));
    for (method, path, _) in gated() {
        routed.entry(path).or_default().insert(method);
    }
    let service = admin_service().unwrap();
    let known: BTreeSet<String> = service.endpoints.iter().flat_map(|endpoint| endpoint.paths.clone()).collect();
    for path in routed.keys() {
        assert!(
            known.contains(path),
            "the gate denies {path}: add it to ADMIN_ENDPOINTS in host/control/src/catalogue.rs"
        );
    }
    for path in &known {
        assert!(
            routed.contains_key(path),
            "the catalogue has {path} and no operation does: add it in host/server/src/admin/routes.rs, or take it out of \
             ADMIN_ENDPOINTS in host/control/src/catalogue.rs"
        );
    }
    for (method, path, operation) in gated() {
        let needs = operation["description"].as_str().unwrap();
        assert!(needs.contains("Needs the endpoint `portcullis/") && !needs.contains("/`"), "{method} {path}: {needs}");
    }
}

#[test]
fn the_page_shows_every_operation_and_runs_nothing_but_its_script() {
    let document = document();
    let page = page::page(&document);
    for (_, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(page.contains(&format!("id=\"{id}\"")) && page.contains(&path), "{id}");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("id=\"schema-{name}\"")), "{name}");
    }
    for link in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(page.contains(&format!("id=\"{link}\"")), "{link} leads nowhere");
    }
    for code in crate::admin::codes::CODES {
        assert!(page.contains(&format!("<td><code>{}</code></td>", code.name)), "{}", code.name);
    }
    assert_eq!(page.matches("<script").count(), 1);
    assert!(
        !page.contains("style=\"") && !page.contains("<style") && !page.contains("src=\"http"),
        "nothing from elsewhere"
    );
    assert!(!page.contains("href=\"http"), "nor a link to it");
    let scripts = include_str!("filter.js");
    assert!(!scripts.contains("innerHTML") && !scripts.contains("eval"));
}
