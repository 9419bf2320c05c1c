//! cedar-policy: one policy; keys, groups, tenants and endpoints are entities.
//!
//! What belongs to a pair, as a tenant's ranges for an endpoint or a group's methods of one, is a tag by the endpoint's name.
//! Cedar has no loops, so a list of ranges is a record with as many fields as the longest list has entries. A policy for each
//! group and endpoint would be the other way; all policies are looked at for each request, so its cost would grow with them.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression as Value,
};
use portcullis_benches::NOW_S;
use portcullis_model::address::Cidr;
use portcullis_model::source::Source;

use crate::Gate;
use crate::installation::Asked;

/// The names of the fields of a list of ranges.
const FIELDS: [&str; 3] = ["a", "b", "c"];

pub(crate) struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    kinds: Kinds,
}

/// The types of entities.
struct Kinds {
    key: EntityTypeName,
    group: EntityTypeName,
    tenant: EntityTypeName,
    endpoint: EntityTypeName,
    action: EntityTypeName,
}

impl Kinds {
    fn new() -> Result<Kinds> {
        Ok(Kinds {
            key: "Key".parse()?,
            group: "Group".parse()?,
            tenant: "Tenant".parse()?,
            endpoint: "Endpoint".parse()?,
            action: "Action".parse()?,
        })
    }
}

fn uid(kind: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// A list of ranges as a record.
fn ranges(list: &[Cidr]) -> Result<Value> {
    anyhow::ensure!(list.len() <= FIELDS.len(), "no list is longer here");
    let fields = FIELDS.iter().zip(list).map(|(name, range)| ((*name).to_owned(), Value::new_ip(range.to_string())));
    Ok(Value::new_record(fields)?)
}

/// That the client is in one of those ranges.
fn within(list: &str) -> String {
    let one = |name| format!("({list} has {name} && context.client.isInRange({list}.{name}))");
    FIELDS.map(one).join(" || ")
}

fn policy() -> Result<PolicySet> {
    let of_key = within("principal.ranges");
    let of_endpoint = within("principal.tenant.getTag(resource.name)");
    let text = format!(
        "permit(principal, action, resource) when {{
            context.now < principal.expires &&
            principal.group.hasTag(resource.name) && principal.group.getTag(resource.name).contains(action) &&
            (!principal.tenant.hasTag(resource.name) || {of_endpoint}) &&
            ({of_key})
        }};"
    );
    Ok(text.parse()?)
}

fn entities(source: &Source, kinds: &Kinds) -> Result<Entities> {
    let mut all = Vec::with_capacity(source.credentials.len() + source.tenants.len() * 3);
    for service in &source.services {
        for endpoint in &service.endpoints {
            let name = format!("{}/{}", service.id.as_str(), endpoint.id.as_str());
            let attributes = [("name".to_owned(), Value::new_string(name.clone()))].into();
            all.push(Entity::new(uid(&kinds.endpoint, name), attributes, HashSet::new())?);
        }
    }
    for tenant in &source.tenants {
        let settings = tenant.endpoints.iter().filter(|settings| !settings.ip_ranges.is_empty());
        let tags = settings
            .map(|settings| Ok((settings.endpoint.to_string(), ranges(&settings.ip_ranges)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        all.push(Entity::new_with_tags(uid(&kinds.tenant, tenant.id.as_str()), [], [], tags)?);
    }
    for group in &source.groups {
        let tags = group.permissions.iter().map(|permission| {
            let methods = permission.methods.iter();
            let actions = methods.map(|method| Value::new_entity_uid(uid(&kinds.action, method.as_str())));
            (permission.endpoint.to_string(), Value::new_set(actions))
        });
        let id = format!("{}/{}", group.tenant.as_str(), group.id.as_str());
        all.push(Entity::new_with_tags(uid(&kinds.group, id), [], [], tags)?);
    }
    for key in &source.credentials {
        let group = format!("{}/{}", key.tenant.as_str(), key.group.as_ref().map(|id| id.as_str()).unwrap_or_default());
        let expires =
            key.expires.map_or(i64::MAX, |expiry| i64::try_from(expiry.instant().as_secs()).unwrap_or(i64::MAX));
        let attributes = [
            ("expires".to_owned(), Value::new_long(expires)),
            ("group".to_owned(), Value::new_entity_uid(uid(&kinds.group, group))),
            ("tenant".to_owned(), Value::new_entity_uid(uid(&kinds.tenant, key.tenant.as_str()))),
            ("ranges".to_owned(), ranges(&key.ip_allowlist)?),
        ];
        all.push(Entity::new(uid(&kinds.key, key.id.as_str()), attributes.into(), HashSet::new())?);
    }
    Ok(Entities::from_entities(all, None)?)
}

impl Gate for Cedar {
    const NAME: &'static str = "cedar-policy";
    type Request = Request;

    fn load(source: &Source) -> Result<Self> {
        let kinds = Kinds::new()?;
        let entities = entities(source, &kinds)?;
        Ok(Cedar { authorizer: Authorizer::new(), policies: policy()?, entities, kinds })
    }

    fn request(&self, asked: &Asked) -> Result<Request> {
        let context = Context::from_pairs([
            ("now".to_owned(), Value::new_long(i64::try_from(NOW_S)?)),
            ("client".to_owned(), Value::new_ip(asked.client.to_string())),
        ])?;
        let principal = uid(&self.kinds.key, asked.key_id());
        let action = uid(&self.kinds.action, asked.method);
        let resource = uid(&self.kinds.endpoint, asked.endpoint_name());
        Ok(Request::new(principal, action, resource, context, None)?)
    }

    fn allows(&mut self, request: &Request) -> Result<bool> {
        Ok(self.authorizer.is_authorized(request, &self.policies, &self.entities).decision() == Decision::Allow)
    }
}
