//! REQUIREMENTS V1, V3: people who sign in, and the key that nobody else sees.

use serde_json::{Value, json};

use crate::http::Message;
use crate::world::{Admin, World};

const KEY: &str = "/v1/me/personal-key";

/// A world with a member.
fn world() -> World {
    let world = World::new();
    let admin = world.admin();
    let profile = json!({ "id": "staff", "type": "member", "permissions": [{ "endpoint": "shop/events" }] });
    admin.post("/v1/tenants/acme/groups", profile).expect(201);
    let bob = json!({ "id": "bob", "name": "Bob", "role": "member", "group": "staff" });
    admin.post("/v1/tenants/acme/users", bob).expect(201);
    world
}

fn code(admin: &Admin, user: &str) -> String {
    let path = format!("/v1/tenants/acme/users/{user}/enrolment");
    text(&admin.call("POST", &path).body("").send(admin.address).expect(201), "code")
}

fn text(answer: &Message, field: &str) -> String {
    answer.json()[field].as_str().unwrap_or_else(|| panic!("no {field}: {}", answer.text())).to_owned()
}

/// Calls with a session or a code.
fn as_person(world: &World, session: &str, method: &str, path: &str, body: Option<Value>) -> Message {
    let call = world.call(method, path);
    drop(call);
    let call = crate::http::Call::new(method, path)
        .field("host", "localhost")
        .field("authorization", &format!("Session-v1 {session}"));
    let call = match body {
        Some(body) => call.json(&body),
        None => call,
    };
    call.send(world.server.admin)
}

fn sign_in(world: &World, code: &str) -> Message {
    as_person(world, code, "POST", "/v1/me/session", None)
}

fn session(world: &World, user: &str) -> String {
    text(&sign_in(world, &code(&world.admin(), user)).expect(201), "session")
}

#[test]
fn v1_a_code_works_once_and_opens_a_session_that_is_the_persons_alone() {
    let world = world();
    let admin = world.admin();
    let first = code(&admin, "bob");
    // A new code puts the earlier one out of use.
    let second = code(&admin, "bob");
    sign_in(&world, &first).problem(401, "unauthorized");
    // A code signs in and does nothing else; it is no key.
    as_person(&world, &second, "GET", "/v1/me", None).problem(403, "forbidden");
    world.admin_with(&second).get("/v1/self").problem(401, "unauthorized");
    world.events(&second).problem(401, "unauthorized");
    let opened = sign_in(&world, &second).expect(201);
    assert_eq!(opened.field("cache-control"), Some("no-store"));
    sign_in(&world, &second).problem(401, "unauthorized");

    let session = text(&opened, "session");
    let me = as_person(&world, &session, "GET", "/v1/me", None).expect(200).json();
    assert_eq!((&me["tenant"], &me["user"], &me["role"]), (&"acme".into(), &"bob".into(), &"member".into()), "{me}");
    for path in
        ["/v1/self", "/v1/tenants/acme", "/v1/tenants/acme/users", "/v1/tenants", "/v1/audit", "/v1/installation"]
    {
        as_person(&world, &session, "GET", path, None).problem(403, "forbidden");
    }
    as_person(&world, &session, "POST", "/v1/me/session", None).problem(403, "forbidden");
    // A key is not a person, whatever it may do.
    for path in ["/v1/me", KEY] {
        admin.get(path).problem(403, "forbidden");
    }
    assert_eq!(as_person(&world, &session, "POST", "/v1/me/end-session", None).status(), 204);
    as_person(&world, &session, "GET", "/v1/me", None).problem(401, "unauthorized");
}

#[test]
fn v1_there_is_one_personal_key_and_only_its_owner_sees_it() {
    let world = world();
    let admin = world.admin();
    let bob = session(&world, "bob");
    as_person(&world, &bob, "GET", KEY, None).problem(404, "not_found");
    assert_eq!(admin.get("/v1/tenants/acme/users/bob").expect(200).json()["personal_key"], false);
    let made = as_person(&world, &bob, "POST", KEY, None).expect(201);
    let (id, secret) = (text(&made, "id"), text(&made, "client_secret"));
    as_person(&world, &bob, "POST", KEY, None).problem(409, "personal_key_exists");
    let shown = as_person(&world, &bob, "GET", KEY, None).expect(200);
    assert!(shown.text().contains(&id) && !shown.text().contains(&secret), "{}", shown.text());

    // Admins learn that there is one, and nothing of it.
    assert_eq!(admin.get("/v1/tenants/acme/users/bob").expect(200).json()["personal_key"], true);
    for path in ["tenant-keys", "management-keys", "workspace-keys", "clients"] {
        admin.get(&format!("/v1/tenants/acme/{path}/{id}")).problem(404, "not_found");
        assert!(admin.all(&format!("/v1/tenants/acme/{path}")).is_empty(), "{path}");
    }
    // Another person has another.
    admin.post("/v1/tenants/acme/users", json!({ "id": "eve", "role": "member", "group": "staff" })).expect(201);
    let eve = session(&world, "eve");
    as_person(&world, &eve, "GET", KEY, None).problem(404, "not_found");
    assert_ne!(text(&as_person(&world, &eve, "POST", KEY, None).expect(201), "id"), id);
    admin.assert_audit_is_intact();
}

#[test]
fn v3_a_personal_key_is_regenerated_under_its_id_and_deleted_for_good() {
    let world = world();
    let bob = session(&world, "bob");
    let made = as_person(&world, &bob, "POST", KEY, None).expect(201);
    let (id, secret) = (text(&made, "id"), text(&made, "client_secret"));
    let again = format!("{KEY}/regenerate");
    as_person(&world, &bob, "POST", &again, Some(json!({}))).problem(409, "confirmation_required");
    let next = as_person(&world, &bob, "POST", &again, Some(json!({ "confirm": true }))).expect(201);
    assert_eq!(text(&next, "id"), id);
    assert_ne!(text(&next, "client_secret"), secret);
    assert_eq!(next.json()["secret_version"], 2);
    as_person(&world, &bob, "DELETE", KEY, None).problem(409, "confirmation_required");
    assert_eq!(as_person(&world, &bob, "DELETE", &format!("{KEY}?confirm=true"), None).status(), 204);
    as_person(&world, &bob, "GET", KEY, None).problem(404, "not_found");
    let other = as_person(&world, &bob, "POST", KEY, None).expect(201);
    assert_ne!(text(&other, "id"), id, "the user may create another");
}

#[test]
fn a_session_is_dead_with_its_person() {
    let world = world();
    let admin = world.admin();
    let bob = session(&world, "bob");
    as_person(&world, &bob, "POST", KEY, None).expect(201);
    admin.patch("/v1/tenants/acme/users/bob", json!({ "state": "disabled" })).expect(200);
    as_person(&world, &bob, "GET", "/v1/me", None).problem(401, "unauthorized");
    admin.patch("/v1/tenants/acme/users/bob", json!({ "state": "active" })).expect(200);
    as_person(&world, &bob, "GET", "/v1/me", None).expect(200);
    let waiting = code(&admin, "bob");
    assert_eq!(admin.delete("/v1/tenants/acme/users/bob?confirm=true").status(), 204);
    as_person(&world, &bob, "GET", "/v1/me", None).problem(401, "unauthorized");
    sign_in(&world, &waiting).problem(401, "unauthorized");
    admin.assert_audit_is_intact();
}

#[test]
fn nobody_signs_in_as_somebody_mightier() {
    let world = world();
    let admin = world.admin();
    admin.post("/v1/tenants/acme/users", json!({ "id": "ada", "role": "admin" })).expect(201);
    let key = |endpoints: Value| {
        let body = json!({ "name": "Users", "expires": "2099-12-31", "endpoints": endpoints, "creator": "ada" });
        crate::world::Key::of(&admin.post(crate::world::MANAGEMENT_KEYS, body).expect(201)).key
    };
    // It may make codes, but has not what an admin has, nor what the profile of a member gives.
    let users = world.admin_with(&key(json!(["portcullis/users"])));
    let enrol = |admin: &Admin, user: &str| {
        admin.call("POST", &format!("/v1/tenants/acme/users/{user}/enrolment")).body("").send(admin.address)
    };
    enrol(&users, "ada").problem(403, "forbidden");
    enrol(&users, "bob").problem(422, "invalid");
    enrol(&world.admin_with(&key(json!(["portcullis/users", "shop/events"]))), "bob").expect(201);
    enrol(&admin, "ada").expect(201);
    enrol(&admin, "nobody").problem(404, "not_found");
}

#[test]
fn a_person_has_ten_sessions_at_most() {
    let world = world();
    let sessions: Vec<String> = (0..11).map(|_| session(&world, "bob")).collect();
    as_person(&world, &sessions[0], "GET", "/v1/me", None).problem(401, "unauthorized");
    for session in &sessions[1..] {
        as_person(&world, session, "GET", "/v1/me", None).expect(200);
    }
}
