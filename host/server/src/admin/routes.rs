//! Every operation of the admin API: where it is, what it is called, what it does.
//!
//! A new one needs its path in the catalogue of the admin service too (`host/control/src/catalogue.rs`), a request in the tests
//! that walk the matrix of roles, and the golden files anew; tests tell of each that is missing.

use axum::Extension;
use axum::extract::State;
use portcullis_control::{Caller, KeyRef, key_name};
use portcullis_model::credential::Kind;
use portcullis_model::id::Id;

use super::describe::Routes;
use super::extract::{Asked, At, Body, Creation, IfMatch};
use super::{
    Api, audit, browse, client_ip, error_log, feeds, import, keys, nodes, own, people, profiles, records, served,
    services, tenants, tokens,
};
use crate::leaked;

/// All of them.
pub(super) fn routes() -> Routes {
    let routes = installation(Routes::new());
    let routes = of_profiles(routes);
    let routes = of_feeds(routes);
    let routes = of_tenants(routes);
    let routes = of_persons(routes);
    let routes = records(routes);
    let routes = failures(routes);
    [Kind::Workspace, Kind::Tenant, Kind::Management, Kind::Client].into_iter().fold(routes, of_keys)
}

fn installation(routes: Routes) -> Routes {
    let (services, service) = ("/v1/services", "/v1/services/{service}");
    let (endpoints, endpoint) = ("/v1/services/{service}/endpoints", "/v1/services/{service}/endpoints/{endpoint}");
    routes
        .get("/v1/self", "showSelf", "Show the key that the call is made with", records::own)
        .get(
            "/v1/installation",
            "showInstallation",
            "Show what holds for the whole installation",
            services::installation,
        )
        .patch(
            "/v1/installation",
            "editInstallation",
            "Change what holds for the whole installation\nFields that are left out stay.",
            services::edit_installation,
        )
        .get("/v1/token-keys", "listTokenKeys", "List the keys that sign access tokens", tokens::keys)
        .post(
            "/v1/token-keys/rotate",
            "rotateTokenKey",
            "Have another key sign access tokens\nThe present one stays until its last token is over.",
            tokens::rotate,
        )
        .post(
            "/v1/token-keys/{kid}/retire",
            "retireTokenKey",
            "Take a key of access tokens out of use before its time\nIts tokens are dead at once.",
            tokens::retire,
        )
        .get(services, "listServices", "List the services", services::list)
        .post(services, "createService", "Make a service", services::create)
        .get(service, "showService", "Show a service", services::get)
        .patch(service, "editService", "Change a service\nFields that are left out stay.", services::edit)
        .delete(
            service,
            "deleteService",
            "Remove a service, for good\nWhat tenants have set for its endpoints stays.",
            services::remove,
        )
        .get(endpoints, "listEndpoints", "List the endpoints of a service", services::endpoints)
        .get(endpoint, "showEndpoint", "Show an endpoint", services::endpoint)
        .put(endpoint, "putEndpoint", "Put an endpoint, new or in place of the one there", services::put_endpoint)
        .delete(endpoint, "deleteEndpoint", "Take an endpoint out of its service", services::remove_endpoint)
}

fn of_profiles(routes: Routes) -> Routes {
    let (profiles, profile) = ("/v1/signature-profiles", "/v1/signature-profiles/{profile}");
    routes
        .get(profiles, "listSignatureProfiles", "List the ways in which requests are signed", profiles::list)
        .get(profile, "showSignatureProfile", "Show a signature profile", profiles::get)
        .put(
            profile,
            "putSignatureProfile",
            "Put a signature profile, new or in place of the one there\nWhat keys are derived from stays as long as keys \
             sign by it.",
            profiles::put,
        )
        .delete(
            profile,
            "deleteSignatureProfile",
            "Remove a signature profile that no service accepts and no key signs by",
            profiles::remove,
        )
}

/// What workers in proxies get of the policy.
fn of_feeds(routes: Routes) -> Routes {
    let (feeds, feed) = ("/v1/feeds", "/v1/feeds/{feed}");
    routes
        .get(
            "/v1/nodes",
            "listNodes",
            "List the workers of proxies that are attached, and this host\nEach says by which revision it decides, and how far \
             it is behind.",
            nodes::list,
        )
        .get(feeds, "listFeeds", "List the feeds", feeds::list)
        .post(
            feeds,
            "createFeed",
            "Make a feed\nAn application of the tenant `system` is made with it, under the same id: its keys are confined to it.",
            feeds::create,
        )
        .get(
            "/v1/feeds/{application}/base",
            "showFeedBase",
            "Show the base by which a worker begins\nIts parts are kept for ten minutes after they were asked for last.",
            served::base,
        )
        .get(
            "/v1/feeds/{application}/base/{base}/{part}",
            "showFeedPart",
            "Give a part of a base\nParts are counted from 0. Where the base is not kept any more, begin anew.",
            served::part,
        )
        .get(
            "/v1/feeds/{application}/changes",
            "listFeedChanges",
            "Give what changed since a cursor, as soon as there is something\nA confirmation comes last where that is all there \
             is.",
            served::changes,
        )
        .post(
            "/v1/feeds/{application}/decisions",
            "giveDecisions",
            "Give back decisions of a worker\nThe body is a batch as workers send it. A batch that is sent again is kept once.",
            feeds::decisions,
        )
        .get(feed, "showFeed", "Show a feed", feeds::get)
        .patch(feed, "editFeed", "Change the services of a feed\nFields that are left out stay.", feeds::edit)
        .delete(
            feed,
            "deleteFeed",
            "Remove a feed that no active key is for, with its application\nIts workers deny every request from then on.",
            feeds::remove,
        )
}

fn of_tenants(routes: Routes) -> Routes {
    let (tenants, tenant) = ("/v1/tenants", "/v1/tenants/{tenant}");
    let settings = "/v1/tenants/{tenant}/settings/{service}/{endpoint}";
    let (groups, group) = ("/v1/tenants/{tenant}/groups", "/v1/tenants/{tenant}/groups/{group}");
    let (applications, application) = ("/v1/tenants/{tenant}/applications", "/v1/tenants/{tenant}/applications/{name}");
    let (users, user) = ("/v1/tenants/{tenant}/users", "/v1/tenants/{tenant}/users/{user}");
    routes
        .get(tenants, "listTenants", "List the tenants", tenants::list)
        .post(tenants, "createTenant", "Make a tenant", tenants::create)
        .get(tenant, "showTenant", "Show a tenant", tenants::get)
        .patch(tenant, "editTenant", "Change a tenant\nFields that are left out stay.", tenants::edit)
        .get("/v1/tenants/{tenant}/settings", "listSettings", "List what a tenant has set", tenants::settings)
        .get(settings, "showSettings", "Show what a tenant has set for an endpoint", tenants::get_settings)
        .put(settings, "putSettings", "Set what a tenant has for an endpoint, as a whole", tenants::put_settings)
        .delete(
            settings,
            "deleteSettings",
            "Remove what a tenant has set for an endpoint\nIt is then open to any address and needs no signature.",
            tenants::remove_settings,
        )
        .delete(
            "/v1/tenants/{tenant}/settings/{service}/{endpoint}/ip-ranges",
            "deleteRange",
            "Take one range of addresses out of the settings for an endpoint",
            tenants::remove_range,
        )
        .get(groups, "listGroups", "List the groups of a tenant", people::groups)
        .post(groups, "createGroup", "Make a group", people::create_group)
        .get(group, "showGroup", "Show a group", people::group)
        .patch(group, "editGroup", "Change a group\nFields that are left out stay.", people::edit_group)
        .delete(group, "deleteGroup", "Remove a group that nothing uses", people::remove_group)
        .get(applications, "listApplications", "List the applications of a tenant", tenants::applications)
        .post(applications, "createApplication", "Make an application", tenants::create_application)
        .get(application, "showApplication", "Show an application", tenants::application)
        .delete(
            application,
            "deleteApplication",
            "Remove an application that no active key is confined to",
            tenants::remove_application,
        )
        .get(users, "listUsers", "List the users of a tenant", people::users)
        .post(users, "createUser", "Make a user", people::create_user)
        .get(user, "showUser", "Show a user", people::user)
        .patch(user, "editUser", "Change a user\nFields that are left out stay.", people::edit_user)
        .delete(user, "deleteUser", "Delete a user, for good\nKeys that follow the user are dead.", people::remove_user)
}

/// What people do, and what is done for them.
fn of_persons(routes: Routes) -> Routes {
    let key = "/v1/me/personal-key";
    routes
        .post(
            "/v1/tenants/{tenant}/users/{user}/enrolment",
            "enrolUser",
            "Give a user a code to sign in with\nIt works once, within a day, and is in this answer alone. An earlier code is \
             dead.",
            own::enrol,
        )
        .post("/v1/me/session", "openSession", "Open a session with a code\nThe code is dead then.", own::open_session)
        .post("/v1/me/end-session", "endSession", "End the session that the call is made with", own::close_session)
        .get("/v1/me", "showMe", "Show who has signed in", own::me)
        .get(key, "showPersonalKey", "Show one's personal key, without its secret", own::personal_key)
        .post(
            key,
            "createPersonalKey",
            "Make one's personal key\nIts secret is in this answer alone.",
            own::create_personal_key,
        )
        .delete(key, "deletePersonalKey", "Delete one's personal key, at once and for good", own::delete_personal_key)
        .post(
            "/v1/me/personal-key/regenerate",
            "regeneratePersonalKey",
            "Give one's personal key a new secret\nThe old one is dead at once. The new one is in this answer alone.",
            own::regenerate_personal_key,
        )
}

fn records(routes: Routes) -> Routes {
    routes
        .get("/v1/tenants/{tenant}/audit", "listTenantAudit", "List what was done in a tenant", audit::of_tenant)
        .get("/v1/audit", "listAudit", "List what was done in the installation", audit::list)
        .get("/v1/audit/verification", "verifyAudit", "Recompute every chain of the audit", audit::verify)
        .get(
            "/v1/audit/checkpoint",
            "showCheckpoint",
            "Show the newest signed checkpoint of the audit\nIt is made anew where entries have come since.",
            audit::checkpoint,
        )
        .get(
            "/v1/audit/export",
            "exportAudit",
            "List entries of the audit as they are hashed\nThe oldest first, a page at a time.",
            audit::export,
        )
        .get("/v1/decisions", "listDecisions", "List what was decided", records::decisions)
        .get(
            "/v1/decisions/{decision}",
            "showDecision",
            "Show a decision, and what would be decided now",
            records::decision,
        )
        .get(
            "/v1/tenants/{tenant}/decisions",
            "listTenantDecisions",
            "List what was decided of a tenant's calls",
            records::tenant_decisions,
        )
        .get(
            "/v1/tenants/{tenant}/decisions/{decision}",
            "showTenantDecision",
            "Show a decision of a tenant's call, and what would be decided now",
            records::tenant_decision,
        )
        .post(
            "/v1/check",
            "check",
            "Explain what would be decided of a request\nThe body is a packed request head, as `portcullis check` sends it.",
            records::check,
        )
}

/// What failed and why, for whoever has to find out.
fn failures(routes: Routes) -> Routes {
    let settings = "/v1/tenants/{tenant}/error-log/settings";
    routes
        .get("/v1/error-log", "listErrors", "List the failed calls of no tenant", error_log::list)
        .get("/v1/error-log/{entry}", "showError", "Show a failed call of no tenant", error_log::entry)
        .get("/v1/tenants/{tenant}/error-log", "listTenantErrors", "List a tenant's failed calls", error_log::tenant_list)
        .get(
            "/v1/tenants/{tenant}/error-log/{entry}",
            "showTenantError",
            "Show a failed call of a tenant",
            error_log::tenant_entry,
        )
        .get(settings, "showErrorLogSettings", "Show what a tenant has set for its error log", error_log::settings)
        .put(settings, "putErrorLogSettings", "Set a tenant's error log, as a whole", error_log::put_settings)
        .get(
            "/v1/tenants/{tenant}/endpoints",
            "browseEndpoints",
            "List what a tenant's keys can call, and what is set for it",
            browse::endpoints,
        )
        .get("/v1/client-ip", "testClientIp", "Show what the node sees of its clients", client_ip::installation)
        .get(
            "/v1/tenants/{tenant}/client-ip",
            "testTenantClientIp",
            "Show what the node sees of a tenant's clients, and whom the address lists let in",
            client_ip::tenant,
        )
        .without_key::<leaked::Body>(
            leaked::PATH,
            "reportLeaked",
            "End keys that got out\nHolding a key is all that it takes to end it. The answer is the same whether there is such \
             a key or not.",
        )
}

/// The operations of one kind of key.
fn of_keys(routes: Routes, kind: Kind) -> Routes {
    let name = portcullis_control::key_name(kind);
    let words = name.replace('-', " ");
    let ids = match kind {
        Kind::Workspace => "WorkspaceKey",
        Kind::Tenant => "TenantKey",
        Kind::Management => "ManagementKey",
        Kind::Client => "Client",
        Kind::Personal | Kind::Session => return routes,
    };
    let all = format!("/v1/tenants/{{tenant}}/{}s", key_name(kind));
    let one = format!("{all}/{{key}}");
    let list = move |State(api): State<Api>,
                     Extension(caller): Extension<Caller>,
                     At(tenant): At<Id>,
                     Asked(query): Asked<keys::KeyQuery>| keys::list(api, caller, kind, tenant, query);
    let show = move |State(api): State<Api>, Extension(caller): Extension<Caller>, At((tenant, id)): At<(Id, Id)>| {
        keys::get(api, caller, KeyRef { tenant, kind, id })
    };
    let revoke = move |State(api): State<Api>,
                       Extension(caller): Extension<Caller>,
                       At((tenant, id)): At<(Id, Id)>,
                       if_match: IfMatch,
                       Asked(wait): Asked<nodes::WaitQuery>,
                       body: Body<keys::RevokeBody>| {
        keys::revoke(api, caller, KeyRef { tenant, kind, id }, if_match, wait, body)
    };
    let rotate = move |State(api): State<Api>,
                       Extension(caller): Extension<Caller>,
                       At((tenant, id)): At<(Id, Id)>,
                       if_match: IfMatch,
                       body: Creation<keys::RotateBody>| {
        keys::rotate(api, caller, KeyRef { tenant, kind, id }, if_match, body)
    };
    let end_overlap = move |State(api): State<Api>,
                            Extension(caller): Extension<Caller>,
                            At((tenant, id)): At<(Id, Id)>,
                            if_match: IfMatch,
                            body: Body<keys::RevokeBody>| {
        keys::end_overlap(api, caller, KeyRef { tenant, kind, id }, if_match, body)
    };
    let routes = routes
        .get(&all, &format!("list{ids}s"), &format!("List the {words}s of a tenant"), list)
        .get(&one, &format!("show{ids}"), &format!("Show a {words}, without its secret"), show)
        .post(
            &format!("{one}/revoke"),
            &format!("revoke{ids}"),
            &format!(
                "Revoke a {words}, at once and for good\nIt stays listed. With `wait=all` it is answered once every live worker \
                 of a proxy decides by it; of one that is revoked already it waits as well."
            ),
            revoke,
        );
    let at = format!("{one}/rotate");
    let id = format!("rotate{ids}");
    let summary = format!(
        "Give a {words} a new secret\nThe old one is dead at once, or works for `overlap_s` more. The new one is in this \
             answer alone."
    );
    let routes = match kind {
        Kind::Tenant | Kind::Management => routes.post(&at, &id, &summary, rotate).post(
            &format!("{one}/end-overlap"),
            &format!("endOverlap{ids}"),
            &format!("End the time in which the old secret of a {words} works as well"),
            end_overlap,
        ),
        Kind::Workspace | Kind::Client | Kind::Personal | Kind::Session => routes,
    };
    match kind {
        Kind::Workspace => routes
            .post(
                &all,
                "createWorkspaceKey",
                "Make a pair of a key and a signing secret\nThe pair that the tenant has is dead at once. Both are in this \
                 answer; the secret in no other.",
                keys::create_workspace,
            )
            .post(
                &format!("{all}/import"),
                "importWorkspaceKey",
                "Take over a pair of another system, by its key id and secret\nThe pair that the tenant has is dead at once. \
                 Both are sealed, and the secret is in no answer.",
                import::import_pair,
            ),
        Kind::Tenant => routes
            .post(&all, "createTenantKey", "Make a tenant key\nIt is in this answer alone.", keys::create_tenant)
            .post(
                &format!("{all}/import"),
                "importTenantKeys",
                "Take over keys of another system, by their SHA-256\nAll of them or none.",
                import::import,
            )
            .patch(&one, "editTenantKey", "Change a tenant key\nFields that are left out stay.", keys::edit_tenant),
        Kind::Management => routes
            .post(
                &all,
                "createManagementKey",
                "Make a management key\nIt is in this answer alone.",
                keys::create_management,
            )
            .delete(
                &one,
                "deleteManagementKey",
                "Delete a management key, at once and for good\nWith `wait=all` it is answered once every live worker of a proxy \
                 decides by it.",
                keys::delete,
            ),
        Kind::Client => routes
            .get(
                &format!("{one}/tokens"),
                "listClientTokens",
                "List what became of a client's requests for tokens\nThe newest first.",
                tokens::tokens,
            )
            .get(
                &format!("{one}/log"),
                "listClientLog",
                "List what was done with a client\nThe newest first.",
                tokens::log,
            )
            .post(
                &all,
                "createClient",
                "Make an OAuth client\nIts secret is in this answer alone.",
                keys::create_client,
            ),
        Kind::Personal | Kind::Session => routes,
    }
}
