//! Catalogues of endpoints that come with Portcullis: its own admin API, and presets for others.

use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::method::{Method, Methods};
use portcullis_model::source::{Endpoint, HostPattern, Presentation, Service};

/// The tenant whose keys administer the installation. Its users are superusers; no other tenant has one.
pub const SYSTEM_TENANT: &str = "system";
/// The service that is the admin API. It is made from this file at every start and stored nowhere.
pub const ADMIN_SERVICE: &str = "portcullis";
/// The host by which the admin listener asks the gate about its own requests. RFC 2606 reserves `.invalid`, so that no name
/// on the network leads to it; the proxy has no upstream for its service.
pub const ADMIN_HOST: &str = "admin.portcullis.invalid";

/// An endpoint of the admin API: id, display name, paths. Each stands for two endpoints of the policy: the one of that id
/// has the methods that change something, `id.read` has GET. So a key can be made that only reads.
struct AdminEndpoint {
    id: &'static str,
    name: &'static str,
    paths: &'static [&'static str],
}

/// The endpoint by which workers in proxies get their part of the policy. Its paths name the feed as an application, so that
/// the gate itself keeps a key that is confined to one feed from the others.
const FEED: AdminEndpoint = AdminEndpoint {
    id: "feed",
    name: "Reading of a feed",
    paths: &[
        "/v1/feeds/{application}/base",
        "/v1/feeds/{application}/base/{base}/{part}",
        "/v1/feeds/{application}/changes",
        "/v1/feeds/{application}/decisions",
    ],
};

/// The endpoint of the admin API that turns a code into a session, and the one for a person's own matters.
pub(crate) const ENROLMENT: &str = "enrolment";
pub(crate) const OWN: &str = "me";

const ADMIN_ENDPOINTS: [AdminEndpoint; 23] = [
    AdminEndpoint { id: "self", name: "The caller", paths: &["/v1/self"] },
    AdminEndpoint { id: ENROLMENT, name: "Signing in", paths: &["/v1/me/session"] },
    AdminEndpoint {
        id: OWN,
        name: "A person's own matters",
        paths: &["/v1/me", "/v1/me/end-session", "/v1/me/personal-key", "/v1/me/personal-key/regenerate"],
    },
    AdminEndpoint { id: "installation", name: "Installation", paths: &["/v1/installation"] },
    AdminEndpoint {
        id: "signature-profiles",
        name: "Signature profiles",
        paths: &["/v1/signature-profiles", "/v1/signature-profiles/{profile}"],
    },
    AdminEndpoint {
        id: "token-keys",
        name: "Keys of access tokens",
        paths: &["/v1/token-keys", "/v1/token-keys/rotate", "/v1/token-keys/{kid}/retire"],
    },
    AdminEndpoint {
        id: "services",
        name: "Services and endpoints",
        paths: &[
            "/v1/services",
            "/v1/services/{service}",
            "/v1/services/{service}/endpoints",
            "/v1/services/{service}/endpoints/{endpoint}",
        ],
    },
    AdminEndpoint { id: "feeds", name: "Feeds", paths: &["/v1/feeds", "/v1/feeds/{feed}"] },
    AdminEndpoint { id: "nodes", name: "Nodes", paths: &["/v1/nodes"] },
    AdminEndpoint { id: "tenants", name: "Tenants", paths: &["/v1/tenants", "/v1/tenants/{tenant}"] },
    AdminEndpoint {
        id: "settings",
        name: "Settings per endpoint",
        paths: &[
            "/v1/tenants/{tenant}/settings",
            "/v1/tenants/{tenant}/settings/{service}/{endpoint}",
            "/v1/tenants/{tenant}/settings/{service}/{endpoint}/ip-ranges",
        ],
    },
    AdminEndpoint {
        id: "groups",
        name: "Groups",
        paths: &["/v1/tenants/{tenant}/groups", "/v1/tenants/{tenant}/groups/{group}"],
    },
    AdminEndpoint {
        id: "applications",
        name: "Applications",
        paths: &["/v1/tenants/{tenant}/applications", "/v1/tenants/{tenant}/applications/{name}"],
    },
    AdminEndpoint {
        id: "users",
        name: "Users",
        paths: &[
            "/v1/tenants/{tenant}/users",
            "/v1/tenants/{tenant}/users/{user}",
            "/v1/tenants/{tenant}/users/{user}/enrolment",
        ],
    },
    AdminEndpoint {
        id: "clients",
        name: "OAuth clients",
        paths: &[
            "/v1/tenants/{tenant}/clients",
            "/v1/tenants/{tenant}/clients/{key}",
            "/v1/tenants/{tenant}/clients/{key}/revoke",
            "/v1/tenants/{tenant}/clients/{key}/tokens",
            "/v1/tenants/{tenant}/clients/{key}/log",
        ],
    },
    AdminEndpoint {
        id: "workspace-keys",
        name: "Workspace keys",
        paths: &[
            "/v1/tenants/{tenant}/workspace-keys",
            "/v1/tenants/{tenant}/workspace-keys/import",
            "/v1/tenants/{tenant}/workspace-keys/{key}",
            "/v1/tenants/{tenant}/workspace-keys/{key}/revoke",
        ],
    },
    AdminEndpoint {
        id: "tenant-keys",
        name: "Tenant keys",
        paths: &[
            "/v1/tenants/{tenant}/tenant-keys",
            "/v1/tenants/{tenant}/tenant-keys/import",
            "/v1/tenants/{tenant}/tenant-keys/{key}",
            "/v1/tenants/{tenant}/tenant-keys/{key}/rotate",
            "/v1/tenants/{tenant}/tenant-keys/{key}/end-overlap",
            "/v1/tenants/{tenant}/tenant-keys/{key}/revoke",
        ],
    },
    AdminEndpoint {
        id: "management-keys",
        name: "Management keys",
        paths: &[
            "/v1/tenants/{tenant}/management-keys",
            "/v1/tenants/{tenant}/management-keys/{key}",
            "/v1/tenants/{tenant}/management-keys/{key}/rotate",
            "/v1/tenants/{tenant}/management-keys/{key}/end-overlap",
            "/v1/tenants/{tenant}/management-keys/{key}/revoke",
        ],
    },
    AdminEndpoint {
        id: "audit",
        name: "Audit",
        paths: &[
            "/v1/audit",
            "/v1/audit/verification",
            "/v1/audit/checkpoint",
            "/v1/audit/export",
            "/v1/tenants/{tenant}/audit",
        ],
    },
    AdminEndpoint {
        id: "decisions",
        name: "Decisions",
        paths: &[
            "/v1/decisions",
            "/v1/decisions/{decision}",
            "/v1/tenants/{tenant}/decisions",
            "/v1/tenants/{tenant}/decisions/{decision}",
            "/v1/check",
        ],
    },
    AdminEndpoint {
        id: "error-log",
        name: "Error log",
        paths: &[
            "/v1/error-log",
            "/v1/error-log/{entry}",
            "/v1/tenants/{tenant}/error-log",
            "/v1/tenants/{tenant}/error-log/settings",
            "/v1/tenants/{tenant}/error-log/{entry}",
        ],
    },
    AdminEndpoint { id: "endpoints", name: "API browser", paths: &["/v1/tenants/{tenant}/endpoints"] },
    AdminEndpoint {
        id: "client-ip",
        name: "Client address self-test",
        paths: &["/v1/client-ip", "/v1/tenants/{tenant}/client-ip"],
    },
];

/// The admin API as a service, for every tenant that has management keys for it.
#[must_use]
pub fn admin_service() -> Option<Service> {
    let changing = [Method::Post, Method::Put, Method::Patch, Method::Delete];
    let methods = changing.into_iter().fold(Methods::NONE, Methods::with);
    let mut endpoints = Vec::with_capacity(2 * ADMIN_ENDPOINTS.len() + 2);
    for (AdminEndpoint { id, name, paths }, per_application) in
        ADMIN_ENDPOINTS.iter().map(|of| (of, false)).chain([(&FEED, true)])
    {
        let read = Methods::NONE.with(Method::Get);
        let both = [
            endpoint(id, name, methods, paths)?,
            endpoint(&format!("{id}.read"), &format!("{name} (read)"), read, paths)?,
        ];
        endpoints.extend(both.map(|endpoint| Endpoint { per_application, ..endpoint }));
    }
    Some(Service {
        id: ADMIN_SERVICE.parse().ok()?,
        hosts: vec![HostPattern::try_from(ADMIN_HOST.to_owned()).ok()?],
        prefix: "/v1".to_owned(),
        tenant: None,
        accept: [("ManagementKey-v1", Kind::Management), ("Session-v1", Kind::Session)]
            .into_iter()
            .map(|(scheme, kind)| Presentation {
                header: None,
                parameter: None,
                scheme: Some(scheme.to_owned()),
                kinds: vec![kind],
                ..Presentation::default()
            })
            .collect(),
        endpoints,
    })
}

/// Every endpoint of the admin API that keys can be allowed, as keys name them.
#[must_use]
pub fn admin_endpoints() -> Vec<EndpointRef> {
    let Some(service) = admin_service() else { return Vec::new() };
    // What only a person who has signed in can use is of no use to a key.
    let of_persons = |id: &Id| [ENROLMENT, OWN].contains(&id.as_str().trim_end_matches(".read"));
    let refs = service.endpoints.into_iter().filter(|endpoint| !of_persons(&endpoint.id));
    refs.map(|endpoint| EndpointRef { service: service.id.clone(), endpoint: endpoint.id }).collect()
}

fn endpoint(id: &str, name: &str, methods: Methods, paths: &[&str]) -> Option<Endpoint> {
    Some(Endpoint {
        id: id.parse().ok()?,
        name: name.to_owned(),
        methods,
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
        prefixes: Vec::new(),
        per_application: false,
        scope: None,
        audience: None,
        legacy: false,
        formerly: None,
        aliases: Vec::new(),
        token_endpoint: false,
    })
}

/// A catalogue for a product that many know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// The endpoints of the Antavo API, as its settings name them.
    Antavo,
}

/// An endpoint of a preset: id, display name, path prefix below the service's, legacy, earlier name, scope.
struct PresetEndpoint(&'static str, &'static str, &'static str, bool, Option<&'static str>, Option<&'static str>);

const ANTAVO: [PresetEndpoint; 15] = [
    PresetEndpoint("challenges", "Challenges API", "/challenges", true, None, None),
    PresetEndpoint("clubs", "Clubs API", "/clubs", false, None, None),
    PresetEndpoint("coupons", "Coupons API", "/coupons", false, None, None),
    PresetEndpoint("customer", "Customer API", "/customers", false, None, None),
    PresetEndpoint("display", "Display API", "/display", false, None, None),
    PresetEndpoint("entities", "Entities API", "/entities", false, None, None),
    PresetEndpoint("events", "Events API", "/events", false, None, None),
    PresetEndpoint("faq", "FAQ API", "/faq", false, None, None),
    PresetEndpoint("leaderboard", "Leaderboard API", "/leaderboard", false, None, None),
    PresetEndpoint("levels", "Levels API", "/levels", false, None, None),
    PresetEndpoint("offers", "Offers API", "/offers", false, None, None),
    PresetEndpoint("rewards", "Rewards API", "/rewards", false, None, None),
    PresetEndpoint("wallet", "Wallet API", "/wallet", false, None, None),
    PresetEndpoint(
        "points-preview",
        "Points Preview API",
        "/points-preview",
        false,
        Some("Workflow Campaigns API"),
        None,
    ),
    PresetEndpoint("async-events", "Async Events API", "/async-events", false, None, Some("async-events")),
];

/// An id that an earlier display name reads as: lower case, hyphens for spaces, without the word API.
fn alias(formerly: &str) -> Option<Id> {
    formerly.trim_end_matches(" API").to_ascii_lowercase().replace(' ', "-").parse().ok()
}

impl Preset {
    /// Its name and the version of its list, as services remember it.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Preset::Antavo => "antavo@1",
        }
    }

    /// The preset of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Preset> {
        (name == "antavo").then_some(Preset::Antavo)
    }

    /// Its endpoints for a service under `prefix`.
    #[must_use]
    pub fn endpoints(self, prefix: &str) -> Vec<Endpoint> {
        let Preset::Antavo = self;
        let endpoints = ANTAVO.iter().filter_map(|PresetEndpoint(id, name, path, legacy, formerly, scope)| {
            let id: Id = id.parse().ok()?;
            Some(Endpoint {
                id,
                name: (*name).to_owned(),
                methods: Methods::default(),
                paths: Vec::new(),
                prefixes: vec![format!("{}{path}", prefix.trim_end_matches('/'))],
                per_application: false,
                scope: scope.map(str::to_owned),
                audience: None,
                legacy: *legacy,
                formerly: formerly.map(str::to_owned),
                aliases: formerly.and_then(alias).into_iter().collect(),
                token_endpoint: false,
            })
        });
        endpoints.collect()
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::credential::Seed;
    use portcullis_model::id::Revision;
    use portcullis_model::policy;
    use portcullis_model::source::Source;

    use super::*;

    #[test]
    fn the_catalogues_build() {
        let mut source = Source::empty(Revision(1), Seed([0; 16]));
        source.services.push(admin_service().unwrap());
        for prefix in ["/", "/api"] {
            let id = if prefix == "/" { "root" } else { "api" };
            source.services.push(Service {
                id: id.parse().unwrap(),
                hosts: vec![HostPattern::try_from("api.example".to_owned()).unwrap()],
                prefix: prefix.to_owned(),
                tenant: None,
                accept: Presentation::usual(),
                endpoints: Preset::Antavo.endpoints(prefix),
            });
        }
        policy::build(&source).unwrap();
        assert_eq!(admin_endpoints().len(), 44);
        assert_eq!(source.services[1].endpoints.len(), 15, "REQUIREMENTS A8 lists fifteen");
    }
}
