//! The description of the admin API (OpenAPI 3.1), made of what handlers take and answer.
//!
//! A route is added with its handler, and the types of the handler say what is described: every extractor is [`Taken`], every
//! answer [`Answer`]. A handler with another type does not compile here, so the document cannot leave a route out, nor say of
//! one what it does not do.

mod document;
mod routes;

use std::collections::BTreeSet;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use portcullis_control::Caller;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

pub(super) use self::document::Document;
pub(super) use self::routes::Routes;

use super::client_ip::Peer;
use super::problem::Problem;
use super::{Api, Proven};

/// What one operation takes and answers.
pub(super) struct Operation<'r> {
    schemas: &'r mut Schemas,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Map<String, Value>,
    /// The statuses with which it may be refused.
    problems: BTreeSet<u16>,
}

/// The schemas of all operations. What is sent and what is answered differ in which fields must be there.
struct Schemas {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
}

/// Where schemas of what is sent stand until the document is put together.
const SENT: &str = "#/components/sent/";
/// Where schemas stand.
const ANSWERED: &str = "#/components/schemas/";

impl Schemas {
    fn new() -> Schemas {
        let at = |place: &str| {
            SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = place.to_owned().into())
        };
        Schemas {
            sent: at(SENT).for_deserialize().into_generator(),
            answered: at(ANSWERED).for_serialize().into_generator(),
        }
    }
}

/// What a handler takes out of a request.
#[diagnostic::on_unimplemented(
    message = "the description of the admin API does not know what `{Self}` takes from a request",
    note = "use the extractors of `admin/extract.rs`, or implement `Taken` for a new one there"
)]
pub(super) trait Taken {
    /// Adds what it takes.
    fn describe(operation: &mut Operation<'_>);
}

/// What a handler answers.
#[diagnostic::on_unimplemented(
    message = "the description of the admin API does not know what `{Self}` answers",
    note = "answer `Json<T>`, `Shown<T>`, `Created<T>` or `Removed` of `admin/answer.rs`, with `T: JsonSchema`"
)]
pub(super) trait Answer {
    /// Adds the answer.
    fn describe(operation: &mut Operation<'_>);
}

/// A handler of which everything is known. `Parts` are the types of its arguments.
pub(super) trait Described<Parts> {
    /// Adds all of it.
    fn describe(operation: &mut Operation<'_>);
}

macro_rules! described {
    ($($part:ident)*) => {
        impl<F, Told, $($part),*> Described<($($part,)*)> for F
        where
            F: Fn($($part),*) -> Told,
            Told: Future<Output: Answer>,
            $($part: Taken,)*
        {
            fn describe(operation: &mut Operation<'_>) {
                $($part::describe(operation);)*
                Told::Output::describe(operation);
            }
        }
    };
}
described!(A);
described!(A B);
described!(A B C);
described!(A B C D);
described!(A B C D E);
described!(A B C D E G);

impl Taken for State<Api> {
    fn describe(_: &mut Operation<'_>) {}
}

impl Taken for Extension<Caller> {
    fn describe(_: &mut Operation<'_>) {}
}

impl Taken for Extension<Proven> {
    fn describe(_: &mut Operation<'_>) {}
}

impl Taken for Extension<Peer> {
    fn describe(_: &mut Operation<'_>) {}
}

/// The head as it came, of which nothing has to be there.
impl Taken for HeaderMap {
    fn describe(_: &mut Operation<'_>) {}
}

/// Bytes, which the handler reads by itself.
impl Taken for Request {
    fn describe(operation: &mut Operation<'_>) {
        operation.body = Some(json!({
            "required": true,
            "content": { "application/octet-stream": {} },
        }));
        operation.refuses(&[400, 408, 413]);
    }
}

impl<T: Answer> Answer for Result<T, Problem> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
    }
}

impl<T: JsonSchema> Answer for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.answers::<T>(200, "As asked for.", json!({}));
    }
}

impl Operation<'_> {
    /// May be refused with these.
    pub(super) fn refuses(&mut self, statuses: &[u16]) {
        self.problems.extend(statuses);
    }

    /// Takes a field of the head that may be left out.
    pub(super) fn takes_header(&mut self, name: &str, description: &str, schema: Value) {
        self.parameters.push(json!({ "name": name, "in": "header", "description": description, "schema": schema }));
    }

    /// Whether it takes such a field of the head.
    pub(super) fn has_header(&self, name: &str) -> bool {
        self.parameters.iter().any(|parameter| parameter["in"] == "header" && parameter["name"] == name)
    }

    /// Takes the fields of `T` as parameters of the query.
    pub(super) fn takes_query<T: JsonSchema>(&mut self) {
        let schema = T::json_schema(&mut self.schemas.sent);
        let is_required = |name: &str| {
            schema
                .get("required")
                .and_then(Value::as_array)
                .is_some_and(|all| all.iter().any(|required| required == name))
        };
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut field = field.clone();
            let description = field.as_object_mut().and_then(|field| field.remove("description"));
            self.parameters.push(json!({
                "name": name, "in": "query", "required": is_required(name), "schema": field,
                "description": description.unwrap_or_default(),
            }));
        }
    }

    /// Takes `T` as a body of JSON.
    pub(super) fn takes_body<T: JsonSchema>(&mut self) {
        let schema = self.schemas.sent.subschema_for::<T>();
        self.body = Some(json!({ "required": true, "content": { "application/json": { "schema": schema } } }));
        self.refuses(&[400, 408, 413, 415, 422]);
    }

    /// Answers `T` as JSON.
    pub(super) fn answers<T: JsonSchema>(&mut self, status: u16, description: &str, headers: Value) {
        let schema: Schema = self.schemas.answered.subschema_for::<T>();
        let content = json!({ "application/json": { "schema": schema } });
        let mut answer = json!({ "description": description, "content": content });
        if let (Some(answer), Some(false)) = (answer.as_object_mut(), headers.as_object().map(Map::is_empty)) {
            answer.insert("headers".to_owned(), headers);
        }
        self.answers.insert(status.to_string(), answer);
    }

    /// Answers bytes.
    pub(super) fn answers_bytes(&mut self, status: u16, description: &str) {
        let content = json!({ "application/octet-stream": {} });
        self.answers.insert(status.to_string(), json!({ "description": description, "content": content }));
    }

    /// Answers without a body.
    pub(super) fn answers_nothing(&mut self, status: u16, description: &str) {
        self.answers.insert(status.to_string(), json!({ "description": description }));
    }

    /// Adds headers to every answer there is.
    pub(super) fn answers_with(&mut self, name: &str, header: &Value) {
        for answer in self.answers.values_mut().filter_map(Value::as_object_mut) {
            let headers = answer.entry("headers").or_insert_with(|| json!({}));
            if let Some(headers) = headers.as_object_mut() {
                headers.insert(name.to_owned(), header.clone());
            }
        }
    }
}
