//! Services with their catalogues, and which hosts lead to them.

use std::collections::{BTreeMap, BTreeSet};

use super::{BuildError, Encoder, bytes, check};
use crate::id::Id;
use crate::method::Methods;
use crate::policy::format::{FragmentKind, NONE, Presence, Section};
use crate::policy::index::{self, Buckets};
use crate::policy::paths::{Match, PathTableBuilder, Pattern};
use crate::policy::records::{ENDPOINT_PER_APPLICATION, ENDPOINT_TOKEN, kind_bit};
use crate::source::{Presentation, Route, Service};

impl Encoder<'_> {
    pub(super) fn services(&mut self) -> Result<(), BuildError> {
        let names = self.names;
        for (number, name) in names.services.sorted.iter().enumerate() {
            let id = self.draft.text(&name.id);
            let rest = name.record.map_or(Ok([0; 4]), |service| self.service(service))?;
            self.draft.put(Section::Services, number, [id, name.presence.bits()].into_iter().chain(rest));
        }
        Ok(())
    }

    fn service(&mut self, service: &Service) -> Result<[u32; 4], BuildError> {
        let pinned = service.tenant.as_ref().map_or(NONE, |tenant| self.names.tenants.number(tenant));
        // The order in which they stand does not matter: two at once are refused.
        let mut sorted: Vec<_> = service.accept.iter().map(accepted_place).collect();
        sorted.sort_unstable();
        let mut accepted = Vec::new();
        for (place, name, kinds) in sorted {
            accepted.push([place, self.draft.text(&name), kinds]);
        }
        let accepted = self.draft.list(accepted.into_iter().map(bytes::<3, 12>));
        let table = self.endpoint_paths(service)?;
        Ok([pinned, accepted, table, self.draft.text(&challenge(service))])
    }

    fn endpoint_paths(&mut self, service: &Service) -> Result<u32, BuildError> {
        let mut patterns = Vec::new();
        for endpoint in &service.endpoints {
            let whole = endpoint.paths.iter().map(|path| (path, Match::Whole));
            let prefixes = endpoint.prefixes.iter().map(|path| (path, Match::Prefix));
            for (path, how) in whole.chain(prefixes) {
                let fault = |what| BuildError::Faults(vec![check::endpoint_fault(service, endpoint, what)]);
                patterns.push((Pattern::parse(path).map_err(fault)?, how, path, endpoint));
            }
        }
        // The table's nodes are numbered as its patterns come.
        patterns.sort_by(|(a, how, _, one), (b, other_how, _, other)| {
            (a, how, one.methods, &one.id).cmp(&(b, other_how, other.methods, &other.id))
        });
        let names = &self.names.endpoints;
        let mut table = PathTableBuilder::new();
        for (pattern, how, path, endpoint) in patterns {
            let number = names.number((&service.id, &endpoint.id));
            table.add(&pattern, how, number, endpoint.methods).map_err(|conflict| {
                let what = format!("the path `{path}` is that of `{}` for the same method", names.id(conflict.record));
                BuildError::Faults(vec![check::endpoint_fault(service, endpoint, what)])
            })?;
        }
        self.write_table(&table, service.id.as_str())
    }

    fn write_table(&mut self, table: &PathTableBuilder, of: &str) -> Result<u32, BuildError> {
        table.write(&mut self.draft).map_err(|_| BuildError::IndexFull { record: of.to_owned() })
    }

    pub(super) fn endpoints(&mut self) {
        let names = self.names;
        for (number, name) in names.endpoints.sorted.iter().enumerate() {
            let mut flags = name.presence.bits();
            let (mut display, mut scope, mut audience) = ("", "", "");
            if let Some(endpoint) = name.record {
                flags |= if endpoint.per_application { ENDPOINT_PER_APPLICATION } else { 0 };
                flags |= if endpoint.token_endpoint { ENDPOINT_TOKEN } else { 0 };
                display = &endpoint.name;
                scope = endpoint.scope.as_deref().unwrap_or_default();
                audience = endpoint.audience.as_deref().unwrap_or_default();
            }
            let texts = [name.id.as_str(), display, scope, audience].map(|text| self.draft.text(text));
            let [id, display, scope, audience] = texts;
            self.draft.put(Section::Endpoints, number, [id, flags, display, scope, audience]);
        }
    }

    pub(super) fn routes(&mut self) -> Result<(), BuildError> {
        let records = self.records;
        let mut all: BTreeMap<&str, Option<&Route>> = BTreeMap::new();
        all.extend(records.removed.routes.iter().map(|host| (host.as_str(), None)));
        all.extend(records.routes.iter().map(|route| (route.host.as_str(), Some(route))));
        for ((host, route), number) in all.into_iter().zip(0_u32..) {
            let mut targets: Vec<_> = route.into_iter().flat_map(|route| &route.services).collect();
            targets.sort_unstable();
            let names = &self.names.services;
            let mut table = PathTableBuilder::new();
            for target in targets {
                let fault = |what: String| BuildError::Faults(vec![check::route_fault(host, what)]);
                let prefix = Pattern::parse(&target.prefix).map_err(fault)?;
                let service = names.number(&target.service);
                table.add(&prefix, Match::Prefix, service, Methods::ALL).map_err(|conflict| {
                    let (service, other) = (&target.service, names.id(conflict.record));
                    fault(format!("the services `{service}` and `{other}` both have the prefix `{}`", target.prefix))
                })?;
            }
            let presence = if route.is_some() { Presence::Defined } else { Presence::Removed };
            let table = self.write_table(&table, host)?;
            let host_text = self.draft.text(host);
            self.draft.put(Section::Routes, number as usize, [host_text, presence.bits(), table]);
            if records.kind == FragmentKind::Base {
                let hash = index::name_hash(self.draft.keys, host.as_bytes(), 0);
                let placed = Buckets(self.draft.buckets(Section::RouteIndex)).place(number, hash);
                placed.map_err(|_| BuildError::IndexFull { record: "a host".to_owned() })?;
            }
        }
        Ok(())
    }
}

/// The number of the place, its name and the bits of the kinds.
fn accepted_place(presentation: &Presentation) -> (u32, String, u32) {
    let Presentation { header, parameter, scheme, signature, token, client, kinds } = presentation;
    let places = [
        (1, header.as_deref().map(str::to_ascii_lowercase)),
        (2, parameter.clone()),
        (3, scheme.clone()),
        (4, signature.as_ref().map(Id::to_string)),
        (5, token.clone()),
        (6, client.clone()),
    ];
    let kinds = kinds.iter().fold(0, |bits, kind| bits | kind_bit(*kind));
    let (place, name) = places.into_iter().find_map(|(place, name)| Some((place, name?))).unwrap_or_default();
    (place, name, kinds)
}

/// The challenges of a service, one for each way it accepts (RFC 9110 section 11.6.1). No scheme is registered for keys in
/// fields and parameters of their own, nor for signatures by a profile; `ApiKey` and `Signature` say so. Client
/// authentication is asked for by the token endpoint alone: a browser that reads `Basic` asks its user for a password.
fn challenge(service: &Service) -> String {
    let mut schemes: BTreeSet<&str> = BTreeSet::new();
    for Presentation { header, parameter, scheme, signature, token, .. } in &service.accept {
        schemes.extend(scheme.as_deref().or(token.as_deref()));
        schemes.extend(header.as_ref().or(parameter.as_ref()).map(|_| "ApiKey"));
        schemes.extend(signature.as_ref().map(|_| "Signature"));
    }
    let challenges: Vec<_> = schemes.iter().map(|scheme| format!("{scheme} realm=\"{}\"", service.id)).collect();
    challenges.join(", ")
}
