//! One request: its head to the gate, and the answer to the proxy.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};

use crate::worker::Worker;

/// A request on its way.
pub struct Filter {
    worker: Option<Rc<Worker>>,
}

impl Filter {
    /// A request of which nothing is known yet.
    #[must_use]
    pub fn new(worker: Option<Rc<Worker>>) -> Filter {
        Filter { worker }
    }
}

impl Context for Filter {}
impl HttpContext for Filter {}
