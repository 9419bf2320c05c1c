//! casbin: roles with domains. A key has its group as a role in its tenant; a rule for each permission of a group.
//!
//! A subject comes with its attributes, as casbin has it: whoever asks has found the key's tenant, expiry and allowlist already.
//! Its language has integers of 32 bits. Rules are looked at one after the other until one allows.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use casbin::function_map::{OperatorFunction, dynamic_to_str};
use casbin::prelude::{CoreApi as _, DefaultModel, Enforcer, Model as _, NullAdapter};
use casbin::rhai::Dynamic;
use portcullis_benches::NOW_S;
use portcullis_model::address::Cidr;
use portcullis_model::source::{Credential, Source};
use serde_json::json;

use crate::Gate;
use crate::installation::Asked;

/// What is cheap and selects most comes first.
const MODEL: &str = "
[request_definition]
r = sub, obj, act, client, now

[policy_definition]
p = sub, dom, obj, act, ranges

[role_definition]
g = _, _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = r.sub.tenant == p.dom && r.obj == p.obj && g(r.sub.id, p.sub, p.dom) && oneOf(r.act, p.act) && r.now < r.sub.expires && within(r.client, p.ranges) && within(r.client, r.sub.ranges)
";

pub(crate) struct Casbin {
    enforcer: Enforcer,
    subjects: HashMap<String, Subject>,
}

/// The attributes of a key.
struct Subject {
    tenant: String,
    expires: i32,
    ranges: String,
}

impl Subject {
    fn new(key: &Credential) -> Subject {
        let expires =
            key.expires.map_or(i32::MAX, |expiry| i32::try_from(expiry.instant().as_secs()).unwrap_or(i32::MAX));
        Subject { tenant: key.tenant.as_str().to_owned(), expires, ranges: list(&key.ip_allowlist) }
    }
}

/// A list of ranges as casbin can hold it.
fn list(ranges: &[Cidr]) -> String {
    ranges.iter().map(Cidr::to_string).collect::<Vec<_>>().join(" ")
}

/// Whether an address is in a list of ranges; in one without entries it is.
fn within(client: &str, ranges: &str) -> bool {
    let Ok(client) = client.parse::<IpAddr>() else { return false };
    let one = |range: &str| {
        range.parse::<Cidr>().is_ok_and(|range| {
            let (low, high) = range.bounds();
            low <= client && client <= high
        })
    };
    ranges.is_empty() || ranges.split(' ').any(one)
}

fn one_of(text: &str, among: &str) -> bool {
    among.split(' ').any(|one| one == text)
}

impl Gate for Casbin {
    const NAME: &'static str = "casbin";
    const SLOW_FROM: usize = 100_000;
    type Request = Vec<Dynamic>;

    fn load(source: &Source) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let mut model = runtime.block_on(DefaultModel::from_str(MODEL))?;
        let mut of_endpoints = HashMap::new();
        for tenant in &source.tenants {
            for settings in &tenant.endpoints {
                of_endpoints.insert((&tenant.id, settings.endpoint.to_string()), list(&settings.ip_ranges));
            }
        }
        for group in &source.groups {
            for permission in &group.permissions {
                let endpoint = permission.endpoint.to_string();
                let methods: Vec<_> = permission.methods.iter().map(|method| method.as_str()).collect();
                let ranges = of_endpoints.get(&(&group.tenant, endpoint.clone())).cloned().unwrap_or_default();
                let [sub, dom] = [&group.id, &group.tenant].map(|id| id.as_str().to_owned());
                model.add_policy("p", "p", vec![sub, dom, endpoint, methods.join(" "), ranges]);
            }
        }
        for key in &source.credentials {
            let group = key.group.as_ref().context("a tenant key has a group")?;
            model.add_policy("g", "g", [&key.id, group, &key.tenant].map(|id| id.as_str().to_owned()).into());
        }
        let mut enforcer = runtime.block_on(Enforcer::new_raw(model, NullAdapter))?;
        enforcer.build_role_links()?;
        enforcer.add_function(
            "within",
            OperatorFunction::Arg2(|client, ranges| within(&dynamic_to_str(&client), &dynamic_to_str(&ranges)).into()),
        );
        enforcer.add_function(
            "oneOf",
            OperatorFunction::Arg2(|text, among| one_of(&dynamic_to_str(&text), &dynamic_to_str(&among)).into()),
        );
        let subjects = source.credentials.iter().map(|key| (key.id.as_str().to_owned(), Subject::new(key))).collect();
        Ok(Casbin { enforcer, subjects })
    }

    fn request(&self, asked: &Asked) -> Result<Vec<Dynamic>> {
        let id = asked.key_id();
        // Who has no such key comes with the attributes of another: the role is what is missing then.
        let subject = self.subjects.get(&id).or_else(|| self.subjects.values().next()).context("there are keys")?;
        let subject =
            json!({ "id": id, "tenant": subject.tenant, "expires": subject.expires, "ranges": subject.ranges });
        Ok(vec![
            casbin::rhai::serde::to_dynamic(subject)?,
            asked.endpoint_name().into(),
            asked.method.into(),
            asked.client.to_string().into(),
            Dynamic::from_int(i32::try_from(NOW_S)?),
        ])
    }

    fn allows(&mut self, request: &Vec<Dynamic>) -> Result<bool> {
        Ok(self.enforcer.enforce(request.clone())?)
    }
}
