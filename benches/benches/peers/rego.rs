//! regorus: the records are data by id, and one rule looks them up.
//!
//! Rego is evaluated in two ways: by the interpreter, whose engine is prepared once and kept, and by the machine that regorus
//! compiles rules to. Both are shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use portcullis_benches::NOW_S;
use portcullis_model::address::Cidr;
use portcullis_model::source::Source;
use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::RegoVM;
use regorus::{Engine, Value};

use crate::Gate;
use crate::installation::Asked;

const RULE: &str = "data.gate.allow";

const POLICY: &str = r#"
package gate
import rego.v1

default allow := false

allow if {
    key := data.keys[input.key]
    input.now < key.expires
    tenant := data.tenants[key.tenant]
    tenant.groups[key.group][input.endpoint][input.method]
    within_endpoint(tenant)
    some range in key.ranges
    net.cidr_contains(range, input.client)
}

within_endpoint(tenant) if not tenant.ranges[input.endpoint]

within_endpoint(tenant) if {
    some range in tenant.ranges[input.endpoint]
    net.cidr_contains(range, input.client)
}
"#;

fn object<K: Into<Value>>(fields: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value::from(fields.into_iter().map(|(name, value)| (name.into(), value)).collect::<BTreeMap<Value, Value>>())
}

fn ranges(list: &[Cidr]) -> Value {
    Value::from(list.iter().map(|range| Value::from(range.to_string())).collect::<Vec<_>>())
}

fn data(source: &Source) -> Value {
    let mut groups: BTreeMap<&str, BTreeMap<Value, Value>> = BTreeMap::new();
    for group in &source.groups {
        let permissions = group.permissions.iter().map(|permission| {
            let methods = permission.methods.iter().map(|method| (method.as_str(), Value::from(true)));
            (permission.endpoint.to_string(), object(methods))
        });
        groups.entry(group.tenant.as_str()).or_default().insert(group.id.as_str().into(), object(permissions));
    }
    let tenants = source.tenants.iter().map(|tenant| {
        let settings = tenant.endpoints.iter().filter(|settings| !settings.ip_ranges.is_empty());
        let of_endpoints = settings.map(|settings| (settings.endpoint.to_string(), ranges(&settings.ip_ranges)));
        let groups = Value::from(groups.remove(tenant.id.as_str()).unwrap_or_default());
        (tenant.id.as_str(), object([("groups", groups), ("ranges", object(of_endpoints))]))
    });
    let tenants = object(tenants);
    let keys = source.credentials.iter().map(|key| {
        let group = key.group.as_ref().map(|id| id.as_str()).unwrap_or_default();
        let fields = [
            ("tenant", Value::from(key.tenant.as_str())),
            ("group", Value::from(group)),
            ("expires", Value::from(key.expires.map_or(u64::MAX, |expiry| expiry.instant().as_secs()))),
            ("ranges", ranges(&key.ip_allowlist)),
        ];
        (key.id.as_str(), object(fields))
    });
    object([("keys", object(keys)), ("tenants", tenants)])
}

fn engine(data: Value) -> Result<Engine> {
    let mut engine = Engine::new();
    engine.add_policy("gate.rego".to_owned(), POLICY.to_owned())?;
    engine.add_data(data)?;
    Ok(engine)
}

fn input(asked: &Asked) -> Value {
    object([
        ("key", Value::from(asked.key_id())),
        ("method", Value::from(asked.method)),
        ("endpoint", Value::from(asked.endpoint_name())),
        ("client", Value::from(asked.client.to_string())),
        ("now", Value::from(NOW_S)),
    ])
}

/// The interpreter.
pub(crate) struct Interpreted(Engine);

impl Gate for Interpreted {
    const NAME: &'static str = "regorus, interpreter";
    type Request = Value;

    fn load(source: &Source) -> Result<Self> {
        Ok(Interpreted(engine(data(source))?))
    }

    fn request(&self, asked: &Asked) -> Result<Value> {
        Ok(input(asked))
    }

    fn allows(&mut self, request: &Value) -> Result<bool> {
        self.0.set_input(request.clone());
        Ok(*self.0.eval_rule(RULE.to_owned())?.as_bool()?)
    }
}

/// The machine.
pub(crate) struct Machine(RegoVM);

impl Gate for Machine {
    const NAME: &'static str = "regorus, machine";
    type Request = Value;

    fn load(source: &Source) -> Result<Self> {
        let data = data(source);
        let compiled = engine(Value::new_object())?.compile_with_entrypoint(&Arc::from(RULE))?;
        let program = Compiler::compile_from_policy(&compiled, &[RULE])?;
        let mut machine = RegoVM::new_with_policy(compiled);
        machine.load_program(program);
        machine.set_data(data)?;
        Ok(Machine(machine))
    }

    fn request(&self, asked: &Asked) -> Result<Value> {
        Ok(input(asked))
    }

    fn allows(&mut self, request: &Value) -> Result<bool> {
        self.0.set_input(request.clone());
        let value = self.0.execute_entry_point_by_index(0).context("the machine stopped")?;
        Ok(*value.as_bool()?)
    }
}
