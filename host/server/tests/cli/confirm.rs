//! What cannot be undone is confirmed: by `--yes`, or by a person. Here nobody is at a terminal.

use serde_json::json;

use crate::fake::{Fake, no_content, ok, unconfirmed};

/// Every command that may need a confirmation, and the call that it makes without one.
const IRREVERSIBLE: [(&str, &str); 7] = [
    ("service delete shop", "DELETE /v1/services/shop"),
    ("endpoint delete shop/events", "DELETE /v1/services/shop/endpoints/events"),
    ("user delete acme ada", "DELETE /v1/tenants/acme/users/ada"),
    ("key delete acme k1", "DELETE /v1/tenants/acme/management-keys/k1"),
    ("key create acme workspace", "POST /v1/tenants/acme/workspace-keys {}"),
    ("key rotate acme k1 --kind tenant", "POST /v1/tenants/acme/tenant-keys/k1/rotate {}"),
    ("group delete acme g", "DELETE /v1/tenants/acme/groups/g"),
];

#[test]
fn without_a_terminal_it_takes_yes() {
    for (command, call) in IRREVERSIBLE {
        let fake = Fake::new([unconfirmed(), no_content()]);
        let args: Vec<&str> = command.split_whitespace().collect();
        // What stands in standard input is not taken for an answer.
        fake.run_with_stdin(&args, b"y\nk1\nshop\n")
            .fails_with("`k1` is dead at once and for good: give `--yes` to confirm it, nothing was changed");
        assert_eq!(fake.lines(), [call], "{command}");
    }
}

#[test]
fn yes_confirms_at_once() {
    for (command, call) in IRREVERSIBLE {
        let fake = Fake::new([ok(&json!({"id": "k1"}))]);
        let args: Vec<&str> = command.split_whitespace().chain(["--yes"]).collect();
        let ran = fake.run(&args);
        assert_eq!(ran.code, 0, "{ran:?}");
        let confirmed = match call.strip_suffix(" {}") {
            Some(call) => format!(r#"{call} {{"confirm":true}}"#),
            None => format!("{call}?confirm=true"),
        };
        assert_eq!(fake.lines(), [confirmed], "{command}");
    }
}

#[test]
fn what_needs_no_confirmation_is_done_without() {
    let fake = Fake::new([no_content(), ok(&json!({"id": "w1", "key": "ptc_w1", "signing_secret": "s"}))]);
    assert_eq!(fake.run(&["group", "delete", "acme", "g"]).done(), "deleted group `g` of tenant `acme`\n");
    // The first pair of a tenant replaces none.
    assert_eq!(fake.run(&["key", "create", "acme", "workspace"]).code, 0);
    assert_eq!(fake.lines(), ["DELETE /v1/tenants/acme/groups/g", "POST /v1/tenants/acme/workspace-keys {}"]);
}
