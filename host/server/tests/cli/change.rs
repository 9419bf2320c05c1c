//! Each command asks the server for what it is about: method, path, query and body.

use serde_json::json;

use crate::fake::{Fake, no_content, ok, problem};

/// A command and the calls that come of it. The answers do not matter here.
#[track_caller]
fn calls(args: &str, expected: &[&str]) {
    let answers = expected.iter().map(|_| ok(&json!({"items": [], "next": null, "id": "x"})));
    let fake = Fake::new(answers);
    let args: Vec<String> = words(args);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = fake.run(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}: {ran:?}");
    assert_eq!(fake.lines(), expected, "{args:?}");
}

/// Words as a shell splits them, with single quotes.
fn words(text: &str) -> Vec<String> {
    let parts = text.split('\'').enumerate();
    parts
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn services() {
    calls("service list", &["GET /v1/services"]);
    calls("service show shop", &["GET /v1/services/shop"]);
    calls(
        "service create shop --host api.shop.example --upstream http://127.0.0.1:8080",
        &[r#"POST /v1/services {"hosts":["api.shop.example"],"id":"shop","upstream":"http://127.0.0.1:8080"}"#],
    );
    calls(
        "service create shop --host a.example,*.b.example --host c.example --upstream https://u.example --prefix /v1 \
         --tenant acme --preset antavo --name 'The shop' --replace-host --response-timeout 1m \
         --accept header:X-Key=tenant,workspace --accept scheme:Key=management --preflight-origin https://a.example \
         --preflight-header X-API-Key,X-Other --preflight-max-age 10m",
        &[concat!(
            r#"POST /v1/services {"accept":[{"header":"X-Key","kinds":["tenant","workspace"]},"#,
            r#"{"kinds":["management"],"scheme":"Key"}],"hosts":["a.example","*.b.example","c.example"],"id":"shop","#,
            r#""name":"The shop","prefix":"/v1","preflight":{"headers":["X-API-Key","X-Other"],"max_age_s":600,"#,
            r#""origins":["https://a.example"]},"preserve_host":false,"preset":"antavo","response_timeout_s":60,"#,
            r#""tenant":"acme","upstream":"https://u.example"}"#
        )],
    );
    calls("service edit shop --name S", &[r#"PATCH /v1/services/shop {"name":"S"}"#]);
    calls(
        "service edit shop --keep-host --no-preflight",
        &[r#"PATCH /v1/services/shop {"preflight":null,"preserve_host":true}"#],
    );
    calls("service edit shop --replace-host", &[r#"PATCH /v1/services/shop {"preserve_host":false}"#]);
    calls("service delete shop --yes", &["DELETE /v1/services/shop?confirm=true"]);
}

#[test]
fn endpoints() {
    calls("endpoint list shop", &["GET /v1/services/shop/endpoints"]);
    calls("endpoint show shop/events", &["GET /v1/services/shop/endpoints/events"]);
    calls(
        "endpoint put shop/events --path /v1/events --path '/v1/events/{id}' --prefix /v1/e --method get,POST --name Events \
         --per-application --scope s --audience a --legacy --formerly Old",
        &[concat!(
            r#"PUT /v1/services/shop/endpoints/events {"audience":"a","formerly":"Old","legacy":true,"methods":["GET","POST"],"#,
            r#""name":"Events","paths":["/v1/events","/v1/events/{id}"],"per_application":true,"prefixes":["/v1/e"],"#,
            r#""scope":"s"}"#
        )],
    );
    calls("endpoint put shop/events --prefix /v1", &[r#"PUT /v1/services/shop/endpoints/events {"prefixes":["/v1"]}"#]);
    calls("endpoint delete shop/events --yes", &["DELETE /v1/services/shop/endpoints/events?confirm=true"]);
}

#[test]
fn tenants() {
    calls("tenant list", &["GET /v1/tenants"]);
    calls("tenant list --limit 2 --after 17", &["GET /v1/tenants?limit=2&after=17"]);
    calls("tenant show acme", &["GET /v1/tenants/acme"]);
    calls("tenant create acme", &[r#"POST /v1/tenants {"id":"acme"}"#]);
    calls(
        "tenant create acme --name 'Acme Ltd' --module ip_filter,signature_check --key-limit 10",
        &[
            r#"POST /v1/tenants {"id":"acme","key_limit":10,"modules":["ip_filter","signature_check"],"name":"Acme Ltd"}"#,
        ],
    );
    calls("tenant edit acme --state suspended", &[r#"PATCH /v1/tenants/acme {"state":"suspended"}"#]);
    calls("tenant edit acme --no-modules", &[r#"PATCH /v1/tenants/acme {"modules":[]}"#]);
}

#[test]
fn groups_applications_and_users() {
    calls("group list acme", &["GET /v1/tenants/acme/groups"]);
    calls("group show acme g", &["GET /v1/tenants/acme/groups/g"]);
    calls(
        "group create acme g --type member --permit shop/events:GET,POST --name G",
        &[concat!(
            r#"POST /v1/tenants/acme/groups {"id":"g","name":"G","#,
            r#""permissions":[{"endpoint":"shop/events","methods":["GET","POST"]}],"type":"member"}"#
        )],
    );
    calls("group create acme g --type tenant_key", &[r#"POST /v1/tenants/acme/groups {"id":"g","type":"tenant_key"}"#]);
    calls("group edit acme g --permit-nothing", &[r#"PATCH /v1/tenants/acme/groups/g {"permissions":[]}"#]);
    calls("group edit acme g --name H", &[r#"PATCH /v1/tenants/acme/groups/g {"name":"H"}"#]);
    calls("group delete acme g", &["DELETE /v1/tenants/acme/groups/g"]);

    calls("application list acme --limit 5", &["GET /v1/tenants/acme/applications?limit=5"]);
    calls("application create acme web --name W", &[r#"POST /v1/tenants/acme/applications {"id":"web","name":"W"}"#]);
    calls("application delete acme web", &["DELETE /v1/tenants/acme/applications/web"]);

    calls("user list acme", &["GET /v1/tenants/acme/users"]);
    calls("user show acme ada", &["GET /v1/tenants/acme/users/ada"]);
    calls(
        "user create acme ada --role member --group g --name Ada",
        &[r#"POST /v1/tenants/acme/users {"group":"g","id":"ada","name":"Ada","role":"member"}"#],
    );
    calls("user edit acme ada --state disabled", &[r#"PATCH /v1/tenants/acme/users/ada {"state":"disabled"}"#]);
    calls("user edit acme ada --role superuser", &[r#"PATCH /v1/tenants/acme/users/ada {"role":"superuser"}"#]);
    calls("user delete acme ada --yes", &["DELETE /v1/tenants/acme/users/ada?confirm=true"]);
}

#[test]
fn keys() {
    let kinds = ["tenant-keys", "management-keys", "workspace-keys"].map(|kind| format!("GET /v1/tenants/acme/{kind}"));
    calls("key list acme", &[&kinds[0], &kinds[1], &kinds[2]]);
    calls(
        "key list acme --kind tenant --state active --limit 9 --after 4",
        &["GET /v1/tenants/acme/tenant-keys?state=active&limit=9&after=4"],
    );
    calls("key show acme k1", &["GET /v1/tenants/acme/tenant-keys/k1"]);
    calls("key show acme k1 --kind workspace", &["GET /v1/tenants/acme/workspace-keys/k1"]);
    calls(
        "key create acme tenant --name Shop --group g --expires 2027-01-01 --description 'for the shop' \
         --ip-allow 192.0.2.9/24,2001:db8::1",
        &[concat!(
            r#"POST /v1/tenants/acme/tenant-keys {"description":"for the shop","expires":"2027-01-02T00:00:00Z","group":"g","#,
            r#""ip_allowlist":["192.0.2.0/24","2001:db8::1"],"name":"Shop"}"#
        )],
    );
    calls(
        "key create acme management --name CI --expires 2027-01-01T00:00:00Z --endpoint shop/a,shop/b --application web \
         --creator ada --independent",
        &[concat!(
            r#"POST /v1/tenants/acme/management-keys {"applications":["web"],"creator":"ada","creator_rule":"independent","#,
            r#""endpoints":["shop/a","shop/b"],"expires":"2027-01-01T00:00:00Z","name":"CI"}"#
        )],
    );
    calls("key create acme workspace", &["POST /v1/tenants/acme/workspace-keys {}"]);
    calls(
        "key create acme workspace --name W --yes",
        &[r#"POST /v1/tenants/acme/workspace-keys {"confirm":true,"name":"W"}"#],
    );
    // A tenant may be called as a kind is.
    calls(
        "key create tenant tenant --name Shop --group g",
        &[r#"POST /v1/tenants/tenant/tenant-keys {"group":"g","name":"Shop"}"#],
    );
    calls(
        "key edit acme k1 --name N --description D --group h --any-address",
        &[r#"PATCH /v1/tenants/acme/tenant-keys/k1 {"description":"D","group":"h","ip_allowlist":[],"name":"N"}"#],
    );
    calls(
        "key rotate acme k1 --kind management --expires 2028-01-01 --yes",
        &[r#"POST /v1/tenants/acme/management-keys/k1/rotate {"confirm":true,"expires":"2028-01-02T00:00:00Z"}"#],
    );
    calls(
        "key revoke acme k1 --kind workspace --yes",
        &[
            "GET /v1/tenants/acme/workspace-keys/k1",
            r#"POST /v1/tenants/acme/workspace-keys/k1/revoke {"confirm":true}"#,
        ],
    );
    calls("key delete acme k1 --yes", &["DELETE /v1/tenants/acme/management-keys/k1?confirm=true"]);
}

#[test]
fn what_was_done_and_decided() {
    calls("audit list", &["GET /v1/audit"]);
    calls("audit list acme --limit 3", &["GET /v1/tenants/acme/audit?limit=3"]);
    calls(
        "audit list --object-kind client --object c1 --action revoke --outcome done --from 2026-11-01 --until 2026-11-30",
        &["GET /v1/audit?object_kind=client&object=c1&action=revoke&outcome=done&from=2026-11-01&until=2026-11-30"],
    );
    calls("decision list", &["GET /v1/decisions"]);
    calls(
        "decision list --denied --reason credential-revoked --limit 7 --after 01k9x2m4q7c3d",
        &["GET /v1/decisions?denied=true&reason=credential-revoked&limit=7&after=01k9x2m4q7c3d"],
    );
    calls("decision show 01k9x2m4q7c3d", &["GET /v1/decisions/01k9x2m4q7c3d"]);
    calls("installation show", &["GET /v1/installation"]);
    calls(
        "installation edit --trusted-proxy 10.0.0.1/8,2001:db8::/32 --clock-skew 5m --max-staleness 1h",
        &[concat!(
            r#"PATCH /v1/installation {"clock_skew_s":300,"max_staleness_s":3600,"#,
            r#""trusted_proxies":["10.0.0.0/8","2001:db8::/32"]}"#
        )],
    );
    calls("installation edit --no-trusted-proxies", &[r#"PATCH /v1/installation {"trusted_proxies":[]}"#]);
    calls("whoami", &["GET /v1/self"]);
}

#[test]
fn a_range_of_a_query_is_encoded() {
    calls(
        "settings remove-range acme shop/events 2001:db8::/32",
        &["DELETE /v1/tenants/acme/settings/shop/events/ip-ranges?entry=2001%3Adb8%3A%3A%2F32"],
    );
}

#[test]
fn settings_keep_what_is_not_given() {
    const PATH: &str = "/v1/tenants/acme/settings/shop/events";
    let settings = || {
        let body =
            json!({"endpoint": "shop/events", "ip_ranges": ["192.0.2.0/24"], "signature": "observed", "changed": 7});
        (200, "etag: \"7\"\r\n", body.to_string())
    };
    for (args, sent) in [
        (&["--signature", "enforced"][..], r#"{"ip_ranges":["192.0.2.0/24"],"signature":"enforced"}"#),
        (&["--ip-range", "10.1.2.3/8"], r#"{"ip_ranges":["10.0.0.0/8"],"signature":"observed"}"#),
        (&["--any-address"], r#"{"ip_ranges":[],"signature":"observed"}"#),
    ] {
        let fake = Fake::new([settings(), settings()]);
        let ran = fake.run(&[&["settings", "set", "acme", "shop/events"], args].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(fake.lines(), [format!("GET {PATH}"), format!("PUT {PATH} {sent}")]);
        // Nobody else may have changed it in between.
        assert_eq!(fake.requests()[1].header("if-match"), Some("\"7\""));
    }
    // The first settings of an endpoint.
    let fake = Fake::new([problem(404, "not_found", "there are none"), settings()]);
    let ran = fake.run(&["settings", "set", "acme", "shop/events", "--signature", "observed"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fake.lines()[1], format!(r#"PUT {PATH} {{"signature":"observed"}}"#));
    assert_eq!(fake.requests()[1].header("if-match"), None);
    // What they are is not known: nothing is set.
    let fake = Fake::new([problem(500, "failed", "it failed"), settings()]);
    let ran = fake.run(&["settings", "set", "acme", "shop/events", "--signature", "observed"]);
    assert_eq!((ran.code, fake.lines().len()), (2, 1), "{ran:?}");

    calls("settings list acme", &["GET /v1/tenants/acme/settings"]);
    calls("settings show acme shop/events", &[&format!("GET {PATH}")]);
    calls("settings delete acme shop/events", &[&format!("DELETE {PATH}")]);
}

#[test]
fn a_file_of_ranges_goes_as_it_is() {
    let fake = Fake::new([ok(&json!({})), ok(&json!({})), ok(&json!({}))]);
    let file = fake.files.put("offices.txt", "192.0.2.0/24\n\nnowhere\n");
    let create = ["key", "create", "acme", "tenant", "--name", "Shop", "--group", "g", "--ip-allow-file", &file];
    assert_eq!(fake.run(&create).code, 0);
    assert_eq!(fake.run_with_stdin(&["key", "edit", "acme", "k1", "--ip-allow-file", "-"], b"10.0.0.1\n").code, 0);
    let expected = [
        r#"POST /v1/tenants/acme/tenant-keys {"group":"g","ip_allowlist":"192.0.2.0/24\n\nnowhere\n","name":"Shop"}"#,
        r#"PATCH /v1/tenants/acme/tenant-keys/k1 {"ip_allowlist":"10.0.0.1\n"}"#,
    ];
    assert_eq!(fake.lines(), expected);
    let file = fake.files.put("odd", b"\xff\xfe");
    fake.run(&["key", "edit", "acme", "k1", "--ip-allow-file", &file])
        .fails_with(&format!("`{file}` is no text: give a file with one entry a line, in UTF-8"));
}

#[test]
fn a_key_is_found_by_its_id() {
    let missing = || problem(404, "not_found", "there is no such key");
    let found = || ok(&json!({"id": "k1", "kind": "workspace"}));
    let fake = Fake::new([missing(), missing(), found(), found()]);
    assert_eq!(fake.run(&["key", "revoke", "acme", "k1", "--yes"]).code, 0);
    let kinds = ["tenant-keys", "management-keys", "workspace-keys"];
    let mut expected: Vec<String> = kinds.iter().map(|kind| format!("GET /v1/tenants/acme/{kind}/k1")).collect();
    expected.push(r#"POST /v1/tenants/acme/workspace-keys/k1/revoke {"confirm":true}"#.to_owned());
    assert_eq!(fake.lines(), expected);

    let fake = Fake::new([missing(), missing(), missing()]);
    let ran = fake.run(&["key", "rotate", "acme", "k1", "--yes"]);
    let message = "error: tenant `acme` has no key `k1`: `portcullis key list acme` lists those it has\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (1, message));

    // A kind that may not be looked at is passed over, and told of where the key is nowhere else.
    let forbidden = || (403, "", r#"{"code":"forbidden","decision":"01k9x2m4q7c3d"}"#.to_owned());
    let fake = Fake::new([forbidden(), found()]);
    assert_eq!(fake.run(&["key", "show", "acme", "k1"]).code, 0);
    let fake = Fake::new([forbidden(), missing(), missing()]);
    let ran = fake.run(&["key", "show", "acme", "k1"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("403") && ran.stderr.contains("decision show 01k9x2m4q7c3d"), "{ran:?}");

    let fake = Fake::new([missing(), missing(), found()]);
    fake.run(&["key", "rotate", "acme", "k1", "--yes"])
        .fails_with("a workspace pair is not rotated: make a new pair with `portcullis key create TENANT workspace`");
}

#[test]
fn arguments_are_checked_before_anything_is_sent() {
    let fake = Fake::new([no_content()]);
    for (args, part) in [
        ("service show a/b", "is not an id"),
        ("service create s --host A.example --upstream http://u", "is not a host"),
        ("service create s --host a.example --upstream http://u --response-timeout 30", "with the unit"),
        ("service create s --host a.example --upstream http://u --accept X-Key", "write a place, a name and kinds"),
        ("service edit s --preflight-header X", "--preflight-origin"),
        ("endpoint show shop", "write `service/endpoint`"),
        ("endpoint put shop/e --path / --method FETCH", "GET, HEAD"),
        ("group create acme g --permit shop/e:", "use GET"),
        ("settings set acme shop/e", "--ip-range"),
        ("settings set acme shop/e --ip-range 10.0.0.0/33", "is not an address range"),
        ("settings set acme shop/e --ip-range 10.0.0.0/8 --any-address", "cannot be used with"),
        ("key create acme tenant --group g", "--name"),
        ("key create acme tenant --name N", "--group"),
        ("key create acme management --name N --expires 2027-01-01", "--endpoint"),
        ("key create acme management --name N --endpoint shop/e", "--expires"),
        ("key create acme tenant --name N --group g --expires soon", "is not a time"),
        ("key create acme tenant --name N --group g --endpoint a/b", "`--endpoint` is for management keys"),
        ("key create acme workspace --group g", "`--group` is for tenant keys, and this is a workspace key"),
        ("key list acme --after 3", "give `--kind` with it"),
        ("tenant list --all --limit 3", "cannot be used with"),
        ("user create acme ada --role king", "possible values: admin, member, superuser"),
        ("installation edit", "--clock-skew"),
        ("decision show ../x", "is not an id"),
    ] {
        let args = words(args);
        let ran = fake.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((ran.code, ran.text()), (2, ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(part), "{args:?}: {}", ran.stderr);
    }
    assert!(fake.lines().is_empty());
}

#[test]
fn a_creation_is_named_so_that_it_is_not_done_twice() {
    let again = || {
        let key = json!({"id": "k1", "kind": "tenant", "key": null, "secret_already_shown": true});
        (201, "idempotency-replayed: true\r\n", key.to_string())
    };
    let fake = Fake::new([again(), again()]);
    let create = ["key", "create", "acme", "tenant", "--name", "Shop", "--group", "all", "--idempotency-key", "7f3c"];
    let ran = fake.run(&create);
    assert!(ran.code == 0 && ran.text().contains("done before under the same idempotency key"), "{ran:?}");
    fake.run(&["key", "rotate", "acme", "k1", "--kind", "tenant", "--yes", "--idempotency-key", "7f3d"]);
    let named: Vec<_> =
        fake.requests().iter().map(|asked| asked.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(named, [Some("7f3c".to_owned()), Some("7f3d".to_owned())]);
    let fake = Fake::new([]);
    let mut wrong = create.to_vec();
    wrong.pop();
    wrong.push("two words");
    let ran = fake.run(&wrong);
    assert!(ran.code == 2 && ran.stderr.contains("visible ASCII"), "{ran:?}");
}
