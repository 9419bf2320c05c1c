//! What control promises: orders come into force before they are answered, refusals change nothing, and nobody grants or
//! gets more than they have. A real engine decides, a real file remembers.

use portcullis_control::store::{AuditFilter, GroupKind, Paging, RecordedOutcome};
use portcullis_control::{
    Caller, CheckpointLine, Command, CommandError, Confirmation, Done, GroupEdit, KeyRef, NewApplication, NewGroup,
    NewManagementKey, NewService, NewTenantKey, NewUser, NewWorkspaceKey, Order, OtherKeys, Preset, Refused, Rotation,
    SettingsOf, TenantEdit, TenantKeyEdit, UserEdit, admin_endpoints, has_signed,
};
use portcullis_engine::Request;
use portcullis_model::credential::Kind;
use portcullis_model::head::RequestHead;
use portcullis_model::id::{EndpointRef, Revision};
use portcullis_model::method::Methods;
use portcullis_model::source::{
    CreatorRule, CredentialState, Endpoint, HostPattern, Module, Permission, ReplayMode, Role, SignatureMode,
    TenantState, UserState,
};
use portcullis_model::time::{Expiry, UnixTime};
use portcullis_model::verdict::{Reason, Verdict};
use secrecy::ExposeSecret as _;

use crate::house::{House, START, caller, id, later, now, service, tenant};

fn endpoint(text: &str) -> EndpointRef {
    EndpointRef::try_from(text.to_owned()).unwrap()
}

fn pair(confirmation: Confirmation) -> NewWorkspaceKey {
    NewWorkspaceKey { name: String::new(), profile: None, signed_only: false, confirmation }
}

/// The service `shop`, the tenants `acme` and `globex`, and a group each.
async fn furnished() -> House {
    let house = House::bare().await;
    for name in ["acme", "globex"] {
        house.done(tenant(name, &[Module::IpFilter])).await;
    }
    house.done(Command::CreateService(service("shop"))).await;
    for (name, path, per_application) in
        [("events", "/events", false), ("orders", "/orders", false), ("app", "/apps/{application}/settings", true)]
    {
        house.done(Command::PutEndpoint(id("shop"), Box::new(plain(name, path, per_application)))).await;
    }
    for tenant in ["acme", "globex"] {
        house.done(Command::CreateGroup(id(tenant), group("events", &["shop/events"]))).await;
    }
    house
}

impl House {
    /// Orders and expects a refusal of that code, which changes nothing.
    async fn refused(&self, by: &Caller, command: Command, code: &str) {
        let before = *self.control.enforced().borrow();
        match self.by(by, command).await {
            Err(CommandError::Refused(refused)) => assert_eq!(refused.code(), code, "{refused}"),
            other => panic!("expected `{code}`, got {other:?}"),
        }
        assert_eq!(*self.control.enforced().borrow(), before);
    }

    async fn key(&self, tenant: &str) -> (KeyRef, String) {
        made(self.done(Command::CreateTenantKey(id(tenant), tenant_key("events"))).await, tenant, Kind::Tenant)
    }

    /// What the gate says of a GET with a header field.
    fn verdict(&self, target: &str, field: &str, value: &str) -> Verdict {
        let headers: [(&[u8], &[u8]); 2] = [(b"host", b"shop.example"), (field.as_bytes(), value.as_bytes())];
        let head = RequestHead {
            secure: true,
            peer: "192.0.2.1".parse().unwrap(),
            method: b"GET",
            authority: None,
            target: target.as_bytes(),
            headers: &headers,
            bodiless: false,
        };
        self.engine.decide(Request::new(&head.pack().unwrap(), now())).unwrap().verdict()
    }

    fn with_key(&self, key: &str) -> Verdict {
        self.verdict("/events", "x-api-key", key)
    }

    async fn newest_audit(&self, tenant: &str) -> (String, String, RecordedOutcome) {
        let view = self.control.tenant_view(&self.root, &id(tenant)).await.unwrap();
        let row = view.audit(AuditFilter::default(), Paging { after: None, limit: 1 }).await.unwrap().items.remove(0);
        (row.action, row.object_kind, row.outcome)
    }
}

fn made(done: Done, tenant: &str, kind: Kind) -> (KeyRef, String) {
    let key = done.issued.unwrap().key.expose_secret().to_owned();
    (KeyRef { tenant: id(tenant), kind, id: id(&done.object) }, key)
}

fn plain(name: &str, path: &str, per_application: bool) -> Endpoint {
    Endpoint {
        id: id(name),
        name: String::new(),
        methods: Methods::default(),
        paths: vec![path.to_owned()],
        prefixes: Vec::new(),
        per_application,
        scope: None,
        audience: None,
        legacy: false,
        formerly: None,
        aliases: Vec::new(),
        token_endpoint: false,
    }
}

fn group(name: &str, endpoints: &[&str]) -> NewGroup {
    let permissions =
        endpoints.iter().map(|name| Permission { endpoint: endpoint(name), methods: Methods::default() }).collect();
    NewGroup { id: id(name), name: String::new(), kind: GroupKind::TenantKey, permissions }
}

fn tenant_key(group: &str) -> NewTenantKey {
    NewTenantKey {
        name: "Webshop".to_owned(),
        description: String::new(),
        group: id(group),
        expires: None,
        ip_allowlist: Vec::new(),
    }
}

fn management_key(endpoints: &[&str]) -> NewManagementKey {
    NewManagementKey {
        name: "Automation".to_owned(),
        description: String::new(),
        expires: Expiry::at(UnixTime::from_secs(START + 86_400).unwrap()),
        endpoints: endpoints.iter().map(|name| endpoint(name)).collect(),
        applications: Vec::new(),
        creator: Some(id("ada")),
        creator_rule: CreatorRule::FollowCreator,
    }
}

fn admin(name: &str) -> NewUser {
    NewUser { id: id(name), name: String::new(), role: Role::Admin, group: None }
}

fn rotation() -> Rotation {
    Rotation { expires: None, overlap_s: 0, confirmation: Confirmation::Confirmed }
}

const DENIED_REVOKED: Verdict = Verdict::Deny(Reason::CredentialRevoked);
const DENIED_UNKNOWN: Verdict = Verdict::Deny(Reason::CredentialUnknown);

#[tokio::test]
async fn a_key_lives_from_its_creation_to_its_revocation() {
    let house = furnished().await;
    let (key, first) = house.key("acme").await;
    assert_eq!(house.with_key(&first), Verdict::Allow);

    let second = made(house.done(Command::RotateKey(key.clone(), rotation())).await, "acme", Kind::Tenant).1;
    assert_eq!(house.with_key(&first), DENIED_UNKNOWN, "E4: the old secret dies at once");
    assert_eq!(house.with_key(&second), Verdict::Allow);

    house.refused(&house.root, Command::RevokeKey(key.clone(), Confirmation::Missing), "confirmation_required").await;
    assert_eq!(house.with_key(&second), Verdict::Allow);
    house.done(Command::RevokeKey(key.clone(), Confirmation::Confirmed)).await;
    assert_eq!(house.with_key(&second), DENIED_REVOKED, "E5: immediate");

    for command in [
        Command::RotateKey(key.clone(), rotation()),
        Command::RevokeKey(key.clone(), Confirmation::Confirmed),
        Command::EditTenantKey(key.clone(), TenantKeyEdit::default()),
    ] {
        house.refused(&house.root, command, "key_revoked").await;
    }
    let view = house.control.tenant_view(&house.root, &id("acme")).await.unwrap();
    let listed = view.key(Kind::Tenant, &key.id).await.unwrap().record.credential;
    assert_eq!(listed.state, CredentialState::Revoked, "E5: it stays listed");
}

#[tokio::test]
async fn what_was_done_is_in_force_after_a_restart() {
    let house = furnished().await;
    let (kept, kept_key) = house.key("acme").await;
    let (revoked, revoked_key) = house.key("acme").await;
    house.done(Command::RevokeKey(revoked, Confirmation::Confirmed)).await;
    let revision = *house.control.enforced().borrow();
    let house = house.again().await;
    assert_eq!(*house.control.enforced().borrow(), revision);
    assert_eq!(house.with_key(&kept_key), Verdict::Allow);
    assert_eq!(house.with_key(&revoked_key), DENIED_REVOKED);
    house.done(Command::RevokeKey(kept, Confirmation::Confirmed)).await;
    assert_eq!(house.with_key(&kept_key), DENIED_REVOKED);
}

#[tokio::test]
async fn a_new_workspace_pair_kills_the_old_one() {
    let house = furnished().await;
    let new = |confirmation| Command::CreateWorkspaceKey(id("acme"), pair(confirmation));
    let first = house.done(new(Confirmation::Missing)).await;
    let key = first.issued.unwrap();
    assert!(key.signing_secret.is_some(), "A1: a key id and a secret");
    let first_key = key.key.expose_secret().to_owned();
    assert_eq!(house.verdict("/events?x=1", "x-workspace-key", &first_key), Verdict::Allow);

    house.refused(&house.root, new(Confirmation::Missing), "confirmation_required").await;
    assert_eq!(house.verdict("/events", "x-workspace-key", &first_key), Verdict::Allow);
    let second = house.done(new(Confirmation::Confirmed)).await;
    let second_id = id(&second.object);
    let second_key = second.issued.unwrap().key.expose_secret().to_owned();
    assert_eq!(house.verdict("/events", "x-workspace-key", &first_key), DENIED_REVOKED, "A2");
    assert_eq!(house.verdict("/events", "x-workspace-key", &second_key), Verdict::Allow);

    let view = house.control.tenant_view(&house.root, &id("acme")).await.unwrap();
    let stored = view.key(Kind::Workspace, &second_id).await.unwrap().record;
    let shown = view.workspace_key(&house.root, &stored).await.unwrap().unwrap();
    assert_eq!(shown.expose_secret(), second_key, "A3: its owner may see the key id again");
    house.done(Command::CreateUser(id("acme"), admin("ada"))).await;
    let read = Command::CreateManagementKey(id("acme"), management_key(&["portcullis/workspace-keys.read"]));
    let reader = caller("acme", &house.done(read).await.object);
    assert!(view.workspace_key(&reader, &stored).await.unwrap().is_none(), "a key that only reads gets no key");
    let old = view.key(Kind::Workspace, &id(&first.object)).await.unwrap().record;
    assert!(old.sealed_key.is_none() && old.sealed_secret.is_none(), "a dead pair keeps no secret");
}

#[tokio::test]
async fn an_expired_key_rotates_only_with_a_new_expiry_and_where_there_is_room() {
    let house = furnished().await;
    let expires = Some(Expiry::at(UnixTime::from_secs(START + 60).unwrap()));
    let new = NewTenantKey { expires, ..tenant_key("events") };
    let (key, secret) = made(house.done(Command::CreateTenantKey(id("acme"), new)).await, "acme", Kind::Tenant);
    later(60);
    assert_eq!(house.with_key(&secret), Verdict::Deny(Reason::CredentialExpired), "expired at now >= expiry");
    for _ in 0..3 {
        house.key("acme").await;
    }
    house.refused(&house.root, Command::CreateTenantKey(id("acme"), tenant_key("events")), "key_limit_reached").await;
    house.refused(&house.root, Command::RotateKey(key.clone(), rotation()), "key_expired").await;
    let expires = Some(Expiry::at(UnixTime::from_secs(START + 600).unwrap()));
    let anew = Rotation { expires, ..rotation() };
    house.refused(&house.root, Command::RotateKey(key.clone(), anew), "key_limit_reached").await;
    let edit = TenantEdit { key_limit: Some(4), ..TenantEdit::default() };
    house.done(Command::EditTenant(id("acme"), edit)).await;
    let rotated = made(house.done(Command::RotateKey(key, anew)).await, "acme", Kind::Tenant).1;
    assert_eq!(house.with_key(&rotated), Verdict::Allow);
}

#[tokio::test]
async fn address_ranges_need_their_module_and_come_off_one_by_one() {
    let house = furnished().await;
    let (_, key) = house.key("acme").await;
    let settings = |ranges: &[&str]| SettingsOf {
        endpoint: endpoint("shop/events"),
        ip_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        signature: SignatureMode::Off,
        replay: ReplayMode::Auto,
    };
    house.done(Command::PutSettings(id("acme"), settings(&["198.51.100.9/24", "192.0.2.1"]))).await;
    assert_eq!(house.with_key(&key), Verdict::Allow);
    let command = Command::RemoveRange(id("acme"), endpoint("shop/events"), "192.0.2.1".parse().unwrap());
    house.done(command).await;
    assert_eq!(house.with_key(&key), Verdict::Deny(Reason::AddressNotInEndpoint));
    let last = "198.51.100.0/24".parse().unwrap();
    house.refused(&house.root, Command::RemoveRange(id("acme"), endpoint("shop/events"), last), "last_range").await;
    let signed = SettingsOf { signature: SignatureMode::Enforced, ..settings(&[]) };
    house.refused(&house.root, Command::PutSettings(id("acme"), signed), "module_disabled").await;

    // Without the module the settings rest; with it they are back.
    let modules =
        |modules| TenantEdit { modules: Some(modules), confirmation: Confirmation::Confirmed, ..TenantEdit::default() };
    let unconfirmed = TenantEdit { modules: Some(Vec::new()), ..TenantEdit::default() };
    house.refused(&house.root, Command::EditTenant(id("acme"), unconfirmed), "confirmation_required").await;
    house.done(Command::EditTenant(id("acme"), modules(Vec::new()))).await;
    assert_eq!(house.with_key(&key), Verdict::Allow);
    house.done(Command::EditTenant(id("acme"), modules(vec![Module::IpFilter]))).await;
    assert_eq!(house.with_key(&key), Verdict::Deny(Reason::AddressNotInEndpoint));
    house.done(Command::RemoveSettings(id("acme"), endpoint("shop/events"))).await;
    assert_eq!(house.with_key(&key), Verdict::Allow);
}

#[tokio::test]
async fn settings_and_permissions_survive_their_endpoint() {
    let house = furnished().await;
    let (_, key) = house.key("acme").await;
    let ranges = vec!["198.51.100.0/24".parse().unwrap()];
    let settings = SettingsOf {
        endpoint: endpoint("shop/events"),
        ip_ranges: ranges,
        signature: SignatureMode::Off,
        replay: ReplayMode::Auto,
    };
    house.done(Command::PutSettings(id("acme"), settings)).await;
    house.done(Command::RemoveEndpoint(endpoint("shop/events"), Confirmation::Confirmed)).await;
    assert_eq!(house.with_key(&key), Verdict::Deny(Reason::EndpointUnknown));
    // Whatever else changes meanwhile, what names the endpoint stays stored.
    house
        .done(Command::EditTenant(id("acme"), TenantEdit { name: Some("A".to_owned()), ..TenantEdit::default() }))
        .await;
    house.done(Command::PutEndpoint(id("shop"), Box::new(plain("events", "/events", false)))).await;
    assert_eq!(house.with_key(&key), Verdict::Deny(Reason::AddressNotInEndpoint));
    house.done(Command::RemoveSettings(id("acme"), endpoint("shop/events"))).await;
    assert_eq!(house.with_key(&key), Verdict::Allow);
}

#[tokio::test]
async fn a_management_key_dies_with_its_creator() {
    let house = furnished().await;
    house.done(Command::CreateUser(id("acme"), admin("ada"))).await;
    let new = Command::CreateManagementKey(id("acme"), management_key(&["shop/events"]));
    let (_, key) = made(house.done(new).await, "acme", Kind::Management);
    let verdict = || house.verdict("/events", "authorization", &format!("ManagementKey-v1 {key}"));
    assert_eq!(verdict(), Verdict::Allow, "T5: usable at once");
    let state = |state| UserEdit { state: Some(state), ..UserEdit::default() };
    house.done(Command::EditUser(id("acme"), id("ada"), state(UserState::Disabled))).await;
    assert_eq!(verdict(), Verdict::Deny(Reason::CreatorDisabled));
    house.done(Command::EditUser(id("acme"), id("ada"), state(UserState::Active))).await;
    assert_eq!(verdict(), Verdict::Allow);
    house.done(Command::RemoveUser(id("acme"), id("ada"), Confirmation::Confirmed)).await;
    assert_eq!(verdict(), Verdict::Deny(Reason::CreatorUnknown), "T4: for good");
    house.refused(&house.root, Command::CreateUser(id("acme"), admin("ada")), "exists").await;
    let house = house.again().await;
    let verdict = house.verdict("/events", "authorization", &format!("ManagementKey-v1 {key}"));
    assert_eq!(verdict, DENIED_REVOKED, "still dead once the policy is compiled anew");
}

#[tokio::test]
async fn a_key_is_confined_to_applications_only_where_endpoints_name_them() {
    let house = furnished().await;
    house.done(Command::CreateUser(id("acme"), admin("ada"))).await;
    for app in ["web", "mobile"] {
        let new = NewApplication { id: id(app), name: String::new() };
        house.done(Command::CreateApplication(id("acme"), new)).await;
    }
    let confined = |endpoints: &[&str]| NewManagementKey { applications: vec![id("web")], ..management_key(endpoints) };
    let command = Command::CreateManagementKey(id("acme"), confined(&["shop/events"]));
    house.refused(&house.root, command, "invalid").await;
    let command = Command::CreateManagementKey(id("acme"), confined(&["shop/app"]));
    let (key, secret) = made(house.done(command).await, "acme", Kind::Management);
    let verdict = |target| house.verdict(target, "authorization", &format!("ManagementKey-v1 {secret}"));
    assert_eq!(verdict("/apps/web/settings"), Verdict::Allow);
    assert_eq!(verdict("/apps/mobile/settings"), Verdict::Deny(Reason::ApplicationNotAllowed));
    house.refused(&house.root, Command::RemoveApplication(id("acme"), id("web")), "application_in_use").await;
    house.done(Command::DeleteKey(key.clone(), Confirmation::Confirmed)).await;
    assert_eq!(verdict("/apps/web/settings"), DENIED_UNKNOWN, "T5: final and immediate");
    house.refused(&house.root, Command::RevokeKey(key, Confirmation::Confirmed), "not_found").await;
    house.done(Command::RemoveApplication(id("acme"), id("web"))).await;
}

#[tokio::test]
async fn nobody_reaches_into_another_tenant() {
    let house = furnished().await;
    house.done(Command::CreateUser(id("acme"), admin("ada"))).await;
    let all: Vec<String> = admin_endpoints().iter().map(ToString::to_string).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).chain(["shop/events"]).collect();
    let command = Command::CreateManagementKey(id("acme"), management_key(&all));
    let acme = caller("acme", &house.done(command).await.object);
    let (foreign, _) = house.key("globex").await;

    // In its own tenant it may; another tenant is not there.
    made(
        house.by(&acme, Command::CreateTenantKey(id("acme"), tenant_key("events"))).await.unwrap(),
        "acme",
        Kind::Tenant,
    );
    let disguised = KeyRef { tenant: id("acme"), ..foreign.clone() };
    for command in [
        Command::CreateTenantKey(id("globex"), tenant_key("events")),
        Command::RevokeKey(foreign.clone(), Confirmation::Confirmed),
        Command::RotateKey(foreign.clone(), rotation()),
        Command::EditTenantKey(foreign.clone(), TenantKeyEdit::default()),
        Command::RevokeKey(disguised.clone(), Confirmation::Confirmed),
        Command::RotateKey(disguised, rotation()),
        Command::EditGroup(id("globex"), id("events"), GroupEdit::default()),
        Command::CreateUser(id("globex"), admin("eve")),
        Command::CreateWorkspaceKey(id("nobody"), pair(Confirmation::Missing)),
    ] {
        house.refused(&acme, command, "not_found").await;
    }
    for command in [
        Command::EditTenant(id("acme"), TenantEdit { key_limit: Some(100), ..TenantEdit::default() }),
        Command::CreateService(service("mine")),
        Command::RemoveService(id("shop"), Confirmation::Confirmed),
        Command::CreateUser(id("acme"), admin("eve")),
    ] {
        house.refused(&acme, command, "forbidden").await;
    }
    assert!(house.control.tenant_view(&acme, &id("globex")).await.is_err());
    assert!(matches!(house.control.system_view(&acme).err(), Some(Refused::Forbidden(_))));
    // What it was refused stands in its own chain, not in the other's.
    let (action, _, outcome) = house.newest_audit("acme").await;
    assert_eq!((action.as_str(), outcome), ("create", RecordedOutcome::Refused { code: "forbidden".to_owned() }));
    let (action, kind, _) = house.newest_audit("globex").await;
    assert_eq!((action.as_str(), kind.as_str()), ("create", "tenant-key"));
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let house = furnished().await;
    house.done(Command::CreateUser(id("acme"), admin("ada"))).await;
    house.done(Command::CreateGroup(id("acme"), group("orders", &["shop/orders"]))).await;
    let own = ["portcullis/tenant-keys", "portcullis/management-keys", "portcullis/groups", "shop/events"];
    let weak = house.done(Command::CreateManagementKey(id("acme"), management_key(&own))).await;
    let weak = caller("acme", &weak.object);
    house.by(&weak, Command::CreateTenantKey(id("acme"), tenant_key("events"))).await.unwrap();
    house.refused(&weak, Command::CreateTenantKey(id("acme"), tenant_key("orders")), "invalid").await;
    house.refused(&weak, Command::CreateGroup(id("acme"), group("more", &["shop/orders"])), "invalid").await;
    let more = management_key(&["shop/orders"]);
    house.refused(&weak, Command::CreateManagementKey(id("acme"), more), "invalid").await;
    // Rotating gives the secret away, so a mightier key may not be rotated either.
    let strong = house.done(Command::CreateManagementKey(id("acme"), management_key(&["shop/orders"]))).await;
    let strong = KeyRef { tenant: id("acme"), kind: Kind::Management, id: id(&strong.object) };
    house.refused(&weak, Command::RotateKey(strong.clone(), rotation()), "invalid").await;
    house.by(&weak, Command::RevokeKey(strong, Confirmation::Confirmed)).await.unwrap();
}

#[tokio::test]
async fn a_record_that_was_changed_meanwhile_is_not_overwritten() {
    let house = furnished().await;
    let (key, _) = house.key("acme").await;
    let view = house.control.tenant_view(&house.root, &id("acme")).await.unwrap();
    let read_at = view.key(Kind::Tenant, &key.id).await.unwrap().changed;
    let edit = |name: &str| {
        Command::EditTenantKey(key.clone(), TenantKeyEdit { name: Some(name.to_owned()), ..TenantKeyEdit::default() })
    };
    let order = |command, if_match: Option<Revision>| {
        house.control.execute(Order { caller: house.root.clone(), if_match, idempotency: None, command })
    };
    order(edit("First"), Some(read_at)).await.unwrap();
    let error = order(edit("Second"), Some(read_at)).await.unwrap_err();
    assert!(matches!(error, CommandError::Refused(Refused::Changed { .. })), "{error:?}");
    // Another record's change does not count.
    let other = view.key(Kind::Tenant, &key.id).await.unwrap().changed;
    house.key("globex").await;
    order(edit("Third"), Some(other)).await.unwrap();
}

#[tokio::test]
async fn bad_input_is_refused_with_every_field_named() {
    let house = furnished().await;
    let bad = NewTenantKey {
        name: "x".to_owned(),
        description: "x".repeat(1001),
        expires: Some(Expiry::at(now())),
        ..tenant_key("events")
    };
    let error = house.order(Command::CreateTenantKey(id("acme"), bad)).await.unwrap_err();
    let CommandError::Refused(Refused::Invalid(faults)) = error else { panic!("{error:?}") };
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["name", "description", "expires"]);
    house.refused(&house.root, Command::CreateTenantKey(id("acme"), tenant_key("nothing")), "invalid").await;
    house.refused(&house.root, Command::RemoveGroup(id("acme"), id("nothing")), "not_found").await;
    house.key("acme").await;
    house.refused(&house.root, Command::RemoveGroup(id("acme"), id("events")), "group_in_use").await;
    house.refused(&house.root, Command::RemoveService(id("portcullis"), Confirmation::Confirmed), "built_in").await;
    for host in ["admin.portcullis.invalid", "*.portcullis.invalid", "*.invalid"] {
        let hosts = vec![HostPattern::try_from(host.to_owned()).unwrap()];
        house.refused(&house.root, Command::CreateService(NewService { hosts, ..service("evil") }), "invalid").await;
    }
    let overlapping = plain("again", "/events", false);
    house.refused(&house.root, Command::PutEndpoint(id("shop"), Box::new(overlapping)), "invalid").await;
    let preset = NewService { preset: Some(Preset::Antavo), ..service("antavo") };
    house.done(Command::CreateService(preset)).await;
}

#[tokio::test]
async fn a_suspended_tenants_keys_rest() {
    let house = furnished().await;
    let (_, key) = house.key("acme").await;
    let state = |state| TenantEdit { state: Some(state), ..TenantEdit::default() };
    house.done(Command::EditTenant(id("acme"), state(TenantState::Suspended))).await;
    assert_eq!(house.with_key(&key), Verdict::Deny(Reason::TenantSuspended));
    house.done(Command::EditTenant(id("acme"), state(TenantState::Active))).await;
    assert_eq!(house.with_key(&key), Verdict::Allow);
}

#[tokio::test]
async fn every_change_and_refusal_is_in_a_chain_that_holds() {
    let house = furnished().await;
    let (key, _) = house.key("acme").await;
    house
        .refused(
            &house.root,
            Command::RotateKey(key.clone(), Rotation { confirmation: Confirmation::Missing, ..rotation() }),
            "confirmation_required",
        )
        .await;
    let (action, kind, outcome) = house.newest_audit("acme").await;
    assert_eq!((action.as_str(), kind.as_str()), ("rotate", "tenant-key"));
    assert_eq!(outcome, RecordedOutcome::Refused { code: "confirmation_required".to_owned() });
    let view = house.control.system_view(&house.root).unwrap();
    let report = view.verify_audit().await.unwrap();
    assert!(report.is_intact(), "{report:?}");
    let rows: u64 = report.report.chains.iter().map(|chain| chain.rows).sum();
    // system tenant, token key, root user, root key, 2 tenants, service, 3 endpoints, 2 groups, key, refusal
    assert_eq!(rows, 14);
}

#[tokio::test]
async fn p7_every_revision_carries_the_newest_checkpoint() {
    let house = furnished().await;
    house.key("acme").await;
    let signed = house.control.sign_checkpoint().await.unwrap();
    house.key("acme").await;
    let carried = || house.engine.describe().unwrap().checkpoint;
    let line: CheckpointLine = serde_json::from_str(&carried()).unwrap();
    let (checkpoint, key) = line.read().unwrap();
    assert_eq!((&checkpoint, key), (&signed, house.control.audit_public_key()));
    assert!(has_signed(&key, &checkpoint));
    // A revision without a newer one leaves it, and a base has it too.
    let before = carried();
    house.key("acme").await;
    assert_eq!(carried(), before);
    let house = house.again().await;
    let newest = house.control.sign_checkpoint().await.unwrap();
    let line: CheckpointLine = serde_json::from_str(&house.engine.describe().unwrap().checkpoint).unwrap();
    assert!(line.read().unwrap().0.number > signed.number && newest.number > signed.number);
}

#[tokio::test]
async fn recovery_makes_a_way_in_and_can_close_the_others() {
    let house = furnished().await;
    let expires = Expiry::at(UnixTime::from_secs(START + 86_400).unwrap());
    let made = house.control.recover("second", expires, OtherKeys::Revoke).await.unwrap();
    let key = made.issued.unwrap().key.expose_secret().to_owned();
    let headers: Vec<(&[u8], Vec<u8>)> = vec![
        (b"host", b"admin.portcullis.invalid".to_vec()),
        (b"authorization", format!("ManagementKey-v1 {key}").into_bytes()),
    ];
    let headers: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
    let peer = "127.0.0.1".parse().unwrap();
    for endpoint in ["/v1/services", "/v1/tenants/acme/tenant-keys", "/v1/audit"] {
        let target = endpoint.as_bytes();
        let head = RequestHead {
            secure: false,
            peer,
            method: b"GET",
            authority: None,
            target,
            headers: &headers,
            bodiless: false,
        };
        let decision = house.engine.decide(Request::new(&head.pack().unwrap(), now())).unwrap();
        assert_eq!(decision.verdict(), Verdict::Allow, "{endpoint}");
    }
    // The first key is revoked, and what it would order is not done.
    let own = house.control.own_key(&house.root).await.unwrap().record;
    assert_eq!(own.credential.state, CredentialState::Revoked);
}
