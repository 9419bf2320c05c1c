//! Routes, each added with its description.

use std::collections::BTreeSet;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};
use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::{Described, Operation, Schemas};
use crate::admin::Api;

/// The router of the admin API and what is said of it. There is no way to add a route without a description.
pub(in crate::admin) struct Routes {
    pub(super) router: Router<Api>,
    pub(super) operations: Vec<Route>,
    pub(super) schemas: Schemas,
}

/// One operation.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: String,
    /// Its name in programs that are made from the document.
    pub(super) id: String,
    /// What it does in one line; what follows the first line says more.
    pub(super) summary: String,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    pub(super) answers: Map<String, Value>,
    pub(super) problems: BTreeSet<u16>,
    pub(super) gated: Gated,
}

/// Whether the gate decides of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gated {
    /// As of nearly all.
    Yes,
    /// It is answered before the gate, and takes no key.
    No,
}

/// How to add an operation of each method: its path, its id, what it does, and what does it.
macro_rules! methods {
    ($($name:ident $method:ident)*) => { $(
        pub(in crate::admin) fn $name<H, Parts, T>(self, path: &str, id: &str, summary: &str, handler: H) -> Routes
        where
            H: Handler<T, Api> + Described<Parts>,
            T: 'static,
        {
            self.add((Method::$method, MethodFilter::$method), path, (id, summary), handler)
        }
    )* };
}

impl Routes {
    pub(in crate::admin) fn new() -> Routes {
        Routes { router: Router::new(), operations: Vec::new(), schemas: Schemas::new() }
    }

    methods!(get GET post POST put PUT patch PATCH delete DELETE);

    fn add<H, Parts, T>(
        mut self,
        (method, filter): (Method, MethodFilter),
        path: &str,
        (id, summary): (&str, &str),
        handler: H,
    ) -> Routes
    where
        H: Handler<T, Api> + Described<Parts>,
        T: 'static,
    {
        let mut operation = Operation {
            schemas: &mut self.schemas,
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
            problems: BTreeSet::new(),
        };
        H::describe(&mut operation);
        let Operation { parameters, body, answers, problems, .. } = operation;
        let (path, id, summary) = (path.to_owned(), id.to_owned(), summary.to_owned());
        self.router = self.router.route(&path, on(filter, handler));
        let gated = Gated::Yes;
        self.operations.push(Route { method, path, id, summary, parameters, body, answers, problems, gated });
        self
    }

    /// Adds what is said of an operation that the listener answers itself, before the gate: it takes a `T` by POST, and no key,
    /// and answers 202 with nothing.
    pub(in crate::admin) fn without_key<T: JsonSchema>(mut self, path: &str, id: &str, summary: &str) -> Routes {
        let mut operation = Operation {
            schemas: &mut self.schemas,
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
            problems: BTreeSet::new(),
        };
        operation.takes_body::<T>();
        operation.answers_nothing(202, "It is taken, and done soon.");
        let Operation { parameters, body, answers, .. } = operation;
        self.operations.push(Route {
            method: Method::POST,
            path: path.to_owned(),
            id: id.to_owned(),
            summary: summary.to_owned(),
            parameters,
            body,
            answers,
            problems: [400, 408, 413, 421, 503].into(),
            gated: Gated::No,
        });
        self
    }
}
