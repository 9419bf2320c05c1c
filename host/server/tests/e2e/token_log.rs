//! REQUIREMENTS A13, A14: what is written down of tokens and of clients.

use serde_json::{Value, json};

use crate::server::eventually;
use crate::tokens::{CLIENTS, GRANT, OAuthClient, client, part, refused, world};
use crate::world::World;

fn log(world: &World, client: &str) -> Vec<Value> {
    world.admin().all(&format!("{CLIENTS}/{client}/tokens"))
}

#[test]
fn a14_every_issue_and_every_failure_of_a_known_client_is_a_row() {
    let world = world();
    let client = client(&world, json!({}));
    let told = client.ask(&world, &format!("{GRANT}&scope=stock")).expect(200);
    let (decision, told) = (told.field("x-portcullis-decision").unwrap().to_owned(), told.json());
    // It is there before the answer.
    let rows = log(&world, &client.id);
    assert_eq!(rows.len(), 1, "{rows:?}");
    let claims = part(told["access_token"].as_str().unwrap(), 1);
    let expected = json!({
        "id": rows[0]["id"], "client_id": client.id, "action": "issued", "created_at": rows[0]["created_at"],
        "metadata": { "request_id": decision, "address": "127.0.0.1", "token_id": claims["jti"], "scope": "stock" },
    });
    assert_eq!(rows[0], expected);
    refused(client.ask(&world, &format!("{GRANT}&scope=admin")), 400, "invalid_scope");
    refused(client.ask(&world, "grant_type=password"), 400, "unsupported_grant_type");
    let wrong = OAuthClient { secret: world.tenant_key().key, ..client.clone() };
    refused(wrong.ask(&world, GRANT), 401, "invalid_client");
    // The answer to a client that was not proven does not wait for its row.
    let rows = eventually("the failure is written down", || {
        let rows = log(&world, &client.id);
        (rows.len() == 4).then_some(rows)
    });
    let codes: Vec<_> = rows.iter().map(|row| row["error"]["code"].as_str().unwrap_or("issued")).collect();
    assert_eq!(codes, ["invalid_client", "unsupported_grant_type", "invalid_scope", "issued"], "the newest first");
    assert!(rows[..3].iter().all(|row| row["action"] == "error" && row["error"]["message"].is_string()), "{rows:?}");
    let revoke = format!("{CLIENTS}/{}/revoke", client.id);
    world.admin().post(&revoke, json!({ "confirm": true })).expect(200);
    refused(client.ask(&world, GRANT), 401, "invalid_client");
    eventually("a revoked client's failure is a row", || (log(&world, &client.id).len() == 5).then_some(()));
    // They are of the tenant's chain, and of nobody else's.
    let audit = world.admin().all("/v1/tenants/acme/audit?object_kind=token");
    assert_eq!(audit.len(), 5);
    let command = world.admin().get(&format!("/v1/tenants/other/clients/{}/tokens", client.id));
    command.problem(404, "not_found");
    world.admin().assert_audit_is_intact();
}

#[test]
fn a14_failures_of_clients_that_nobody_knows_are_counted_and_their_ids_hashed() {
    let world = world();
    let unknown = OAuthClient { id: "nobody-of-ours".to_owned(), secret: world.tenant_key().key };
    for _ in 0..25 {
        refused(unknown.ask(&world, GRANT), 401, "invalid_client");
    }
    let rows = eventually("ten are rows", || {
        let rows = world.admin().all("/v1/tenants/system/audit?object_kind=token");
        (rows.len() == 10).then_some(rows)
    });
    for row in &rows {
        assert_eq!((&row["action"], &row["code"]), (&"issue".into(), &"invalid_client".into()), "{row}");
        let object = row["object"].as_str().unwrap();
        assert!(object.len() == 64 && !row.to_string().contains(&unknown.id), "{row}");
    }
    assert!(world.admin().all("/v1/tenants/acme/audit?object_kind=token").is_empty());
}

#[test]
fn a13_the_log_of_a_client_says_what_was_done_where_and_by_whom() {
    let world = world();
    let client = client(&world, json!({}));
    let at = format!("{CLIENTS}/{}", client.id);
    world.admin().post(&format!("{at}/revoke"), json!({ "confirm": true })).expect(200);
    let rows = world.admin().all(&format!("{at}/log"));
    let actions: Vec<_> = rows.iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["revoke", "create"]);
    for row in rows {
        assert_eq!(row["client_id"], client.id.as_str(), "{row}");
        assert_eq!(row["source"], json!({ "channel": "api", "address": "127.0.0.1" }));
        assert!(row["created_at"].is_string() && row["created_by"].is_string() && row["id"].is_u64(), "{row}");
    }
}

#[test]
fn tokens_of_many_at_once_are_all_written_down() {
    let world = world();
    let clients = [client(&world, json!({})), client(&world, json!({}))];
    let issued: Vec<Vec<String>> = std::thread::scope(|scope| {
        let asked = (0..8).map(|number| {
            let (world, client) = (&world, &clients[number % 2]);
            scope.spawn(move || (0..25).map(|_| client.token(world)).collect())
        });
        let asked: Vec<_> = asked.collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let mut ids: Vec<String> =
        issued.iter().flatten().map(|token| part(token, 1)["jti"].as_str().unwrap().to_owned()).collect();
    let rows = clients.iter().flat_map(|client| log(&world, &client.id));
    let mut written: Vec<String> = rows.map(|row| row["metadata"]["token_id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    written.sort_unstable();
    assert_eq!((ids.len(), &ids), (200, &written));
    world.admin().assert_audit_is_intact();
}

#[test]
fn no_token_is_without_its_row_after_a_crash() {
    let mut world = world();
    let client = client(&world, json!({}));
    let mut ids = Vec::new();
    for turn in 0..5 {
        let issued: Vec<String> = std::thread::scope(|scope| {
            let (world, client) = (&world, &client);
            let asked: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(move || {
                        let mut issued = Vec::new();
                        while let Ok(answer) = client.call(world, GRANT).try_send(world.server.proxy) {
                            issued.push(answer.json()["access_token"].as_str().unwrap().to_owned());
                        }
                        issued
                    })
                })
                .collect();
            // Once some are written down, in the middle of the next.
            eventually("tokens are issued", || (log(world, &client.id).len() > 20 * (turn + 1)).then_some(()));
            world.server.kill_from_outside();
            asked.into_iter().flat_map(|asked| asked.join().unwrap()).collect()
        });
        ids.extend(issued.iter().map(|token| part(token, 1)["jti"].as_str().unwrap().to_owned()));
        world.server.kill();
        world.restart();
    }
    let rows = log(&world, &client.id);
    let written: std::collections::HashSet<&str> =
        rows.iter().map(|row| row["metadata"]["token_id"].as_str().unwrap()).collect();
    assert!(ids.len() > 50, "{}", ids.len());
    assert!(ids.iter().all(|id| written.contains(id.as_str())));
    world.admin().assert_audit_is_intact();
}
