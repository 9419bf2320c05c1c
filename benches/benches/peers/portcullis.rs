//! Portcullis in its sandbox, and without it.

use anyhow::{Result, ensure};
use portcullis_benches::{call, key, now};
use portcullis_engine::{Config, Engine};
use portcullis_eval::{Input, Silent};
use portcullis_model::policy::build;
use portcullis_model::source::Source;
use portcullis_model::verdict::Verdict;

use crate::Gate;
use crate::installation::Asked;

/// The head of a request, and what is to come of it.
pub(crate) struct Request {
    head: Vec<u8>,
    expected: Verdict,
}

impl Request {
    fn new(asked: &Asked) -> Result<Request> {
        let head = call(&key(asked.key), asked.method, asked.endpoint, asked.client)?;
        Ok(Request { head, expected: asked.denied.map_or(Verdict::Allow, Verdict::Deny) })
    }

    /// The reason has to be the right one too.
    fn allows(&self, verdict: Verdict) -> Result<bool> {
        ensure!(verdict == self.expected, "{verdict:?} instead of {:?}", self.expected);
        Ok(verdict == Verdict::Allow)
    }
}

/// The component, at the engine's call boundary.
pub(crate) struct Component(Engine);

impl Gate for Component {
    const NAME: &'static str = "portcullis, component";
    type Request = Request;

    fn load(source: &Source) -> Result<Self> {
        let engine = Engine::new(&Config { workers: std::num::NonZeroUsize::MIN, ..Config::default() })?;
        engine.load(build(source)?.into())?;
        engine.confirm(now()?);
        Ok(Component(engine))
    }

    fn request(&self, asked: &Asked) -> Result<Request> {
        Request::new(asked)
    }

    fn allows(&mut self, request: &Request) -> Result<bool> {
        let decision = self.0.decide(portcullis_engine::Request::new(&request.head, now()?))?;
        request.allows(decision.verdict())
    }
}

/// The same code without the sandbox.
pub(crate) struct Native {
    gate: portcullis_eval::Gate,
    details: Vec<u8>,
}

impl Gate for Native {
    const NAME: &'static str = "portcullis, native";
    type Request = Request;

    fn load(source: &Source) -> Result<Self> {
        let mut gate = portcullis_eval::Gate::default();
        gate.load(build(source)?)?;
        gate.confirm(now()?);
        Ok(Native { gate, details: Vec::new() })
    }

    fn request(&self, asked: &Asked) -> Result<Request> {
        Request::new(asked)
    }

    fn allows(&mut self, request: &Request) -> Result<bool> {
        let input = Input { head: &request.head, now: now()?, body_digest: None, replay: None };
        let verdict = self.gate.decide(input, &mut Silent, &mut self.details);
        request.allows(verdict)
    }
}
