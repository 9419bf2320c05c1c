//! Finding the server and the key, and what is said where one of them is not as it should be.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::command::{Files, Ran, run, run_in};
use crate::fake::{ADMIN_KEY, Fake, ok, private, problem, shows_no_admin_key};

#[track_caller]
fn fails(ran: &Ran, code: i32, message: &str) {
    shows_no_admin_key(ran);
    assert_eq!((ran.code, ran.text(), ran.stderr.as_str()), (code, "", format!("error: {message}\n").as_str()));
}

#[test]
fn options_count_more_than_the_environment() {
    let fake = Fake::new((0..3).map(|_| ok(&json!({"tenant": "system"}))));
    let (key, other) = (private(&fake.files, "a.key", ADMIN_KEY), private(&fake.files, "b.key", "ptc_other"));
    let nowhere = "http://127.0.0.1:1";
    for (vars, args) in [
        (
            vec![("PORTCULLIS_SERVER", nowhere), ("PORTCULLIS_KEY_FILE", &other)],
            vec!["--server", &fake.url, "--key-file", &key],
        ),
        (vec![("PORTCULLIS_SERVER", fake.url.as_str()), ("PORTCULLIS_KEY", ADMIN_KEY)], vec![]),
        // An option is taken before the command as well as after it.
        (vec![("PORTCULLIS_KEY", ""), ("PORTCULLIS_KEY_FILE", &key)], vec!["--server", &fake.url]),
    ] {
        run_in(&vars, [&["whoami"][..], &args].concat(), b"").done();
    }
    assert_eq!(fake.lines(), ["GET /v1/self"; 3]);
    let fake = Fake::new([ok(&json!({"items": [], "next": null}))]);
    let args = ["tenant", "--server", &fake.url, "--json", "list"];
    run_in(&[("PORTCULLIS_KEY", ADMIN_KEY)], args, b"").done();
    assert_eq!(fake.lines(), ["GET /v1/tenants"]);
}

#[test]
fn there_must_be_one_key() {
    let files = Files::new();
    let key = private(&files, "a.key", ADMIN_KEY);
    fails(
        &run(["whoami"]),
        2,
        "no key to call the server with: give `--key-file FILE`, or set PORTCULLIS_KEY_FILE or PORTCULLIS_KEY; \
         `portcullis recover` on the server's machine makes a key",
    );
    let both = [("PORTCULLIS_KEY_FILE", key.as_str()), ("PORTCULLIS_KEY", ADMIN_KEY)];
    let message = "PORTCULLIS_KEY_FILE and PORTCULLIS_KEY are both set: unset one of them, or give `--key-file FILE`";
    fails(&run_in(&both, ["whoami"], b""), 2, message);
    let nowhere = files.path("nowhere");
    fails(
        &run(["whoami", "--key-file", &nowhere]),
        2,
        &format!(
            "cannot read the key in `{nowhere}` (of --key-file): No such file or directory (os error 2): check the path and \
             its permissions"
        ),
    );
    for text in ["", "two words", &format!("{ADMIN_KEY}\n{ADMIN_KEY}"), &"k".repeat(1 << 20)] {
        let file = private(&files, "bad.key", text);
        let message = format!(
            "`{file}` (of --key-file) holds no key: it must be the key alone, as it was shown when it was made"
        );
        fails(&run(["whoami", "--key-file", &file]), 2, &message);
    }
    let message =
        "the variable PORTCULLIS_KEY holds no key: it must be the key alone, as it was shown when it was made";
    fails(&run_in(&[("PORTCULLIS_KEY", "two words")], ["whoami"], b""), 2, message);
}

#[test]
fn a_key_file_is_for_its_owner_alone() {
    let files = Files::new();
    let path = files.put("a.key", ADMIN_KEY);
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let message = format!("the key file `{path}` can be read by others (mode {mode:04o}): run `chmod 600 {path}`");
        fails(&run(["whoami", "--key-file", &path]), 2, &message);
        fails(&run_in(&[("PORTCULLIS_KEY_FILE", &path)], ["whoami"], b""), 2, &message);
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let fake = Fake::new([ok(&json!({}))]);
        run(["whoami", "--key-file", &path, "--server", &fake.url]).done();
    }
}

#[test]
fn a_key_is_no_argument() {
    for args in [&["whoami", "--key", ADMIN_KEY][..], &["whoami", ADMIN_KEY], &["tenant", "list", ADMIN_KEY]] {
        let ran = run(args);
        assert_eq!(ran.code, 2);
        shows_no_admin_key(&ran);
    }
}

#[test]
fn the_key_does_not_travel_in_clear() {
    let key = [("PORTCULLIS_KEY", ADMIN_KEY)];
    for server in ["http://192.0.2.1:9180", "http://admin.example", "http://localhost.example/"] {
        let shown = server.trim_end_matches('/');
        let message = format!(
            "the key would travel in clear to `{shown}`: use https, or a tunnel to a port of this machine; \
             `--allow-plaintext` sends it anyway"
        );
        fails(&run_in(&key, ["whoami", "--server", server], b""), 2, &message);
    }
    // Nothing resolves this name, so this goes as far as it can.
    let ran = run_in(&key, ["whoami", "--server", "http://admin.invalid", "--allow-plaintext"], b"");
    assert!(ran.code == 2 && ran.stderr.starts_with("error: cannot connect to `http://admin.invalid`: "), "{ran:?}");
    for server in ["127.0.0.1:9180", "ftp://a.example", "http://user:word@127.0.0.1", "http://127.0.0.1/v1"] {
        let fix =
            "is not the address of a server: write `https://HOST:PORT`, or `http://127.0.0.1:PORT` for this machine";
        fails(&run_in(&key, ["whoami", "--server", server], b""), 2, &format!("`--server` {fix}"));
        let vars = [("PORTCULLIS_KEY", ADMIN_KEY), ("PORTCULLIS_SERVER", server)];
        fails(&run_in(&vars, ["whoami"], b""), 2, &format!("PORTCULLIS_SERVER {fix}"));
    }
}

#[test]
fn nobody_listens() {
    // A port that was free a moment ago.
    let url = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let ran = run_in(&[("PORTCULLIS_KEY", ADMIN_KEY)], ["whoami", "--server", &url], b"");
    let message = format!(
        "nothing listens at `{url}`: start a server with `portcullis serve`, or say where it is with `--server URL`"
    );
    fails(&ran, 2, &message);
}

#[test]
fn a_key_that_is_not_accepted() {
    let denied = || (401, "", r#"{"code":"unauthorized","decision":"01k9x2m4q7c3d"}"#.to_owned());
    let fake = Fake::new([denied(), denied()]);
    let file = private(&fake.files, "a.key", ADMIN_KEY);
    let message = |from: &str| {
        format!(
            "`{}` does not accept the key in {from}: check that it is a management key of this installation, neither \
             revoked nor expired; `portcullis recover` on the server's machine makes another",
            fake.url
        )
    };
    let ran = run(["whoami", "--server", &fake.url, "--key-file", &file]);
    fails(&ran, 1, &message(&format!("`{file}` (of --key-file)")));
    let ran = run_in(&[("PORTCULLIS_KEY", ADMIN_KEY)], ["whoami", "--server", &fake.url], b"");
    fails(&ran, 1, &message("the variable PORTCULLIS_KEY"));
}

#[test]
fn what_the_server_refuses_is_told_in_its_words() {
    let faults = json!({
        "code": "invalid", "status": 422, "detail": "`ip_allowlist[3]`: line 4: no range; `name`: too short",
        "faults": [{"field": "ip_allowlist[3]", "detail": "line 4: no range"}, {"field": "name", "detail": "too short"}],
    });
    for (answer, code, message) in [
        (problem(404, "not_found", "there is no tenant `acme`"), 1, "there is no tenant `acme`"),
        (problem(409, "exists", "there is one\u{1b}[31m"), 1, "there is one\u{fffd}[31m"),
        (problem(421, "unknown_host", "add the name"), 1, "add the name"),
        (
            (422, "", faults.to_string()),
            1,
            "2 fields are wrong, nothing was changed\n  ip_allowlist[3]: line 4: no range\n  name: too short",
        ),
    ] {
        let ran = Fake::new([answer]).run(&["tenant", "show", "acme"]);
        fails(&ran, code, message);
    }
    let fake = Fake::new([problem(507, "disk_full", "the disk is full, nothing has changed")]);
    let message = format!("`{}` failed: the disk is full, nothing has changed", fake.url);
    fails(&fake.run(&["tenant", "show", "acme"]), 2, &message);
}

#[test]
fn something_else_answers() {
    for (answer, status) in [
        ((200, "", "<html>".to_owned()), "200 OK"),
        ((404, "", "not here".to_owned()), "404 Not Found"),
        ((302, "location: http://127.0.0.1:1/\r\n", String::new()), "302 Found"),
        ((500, "", String::new()), "500 Internal Server Error"),
    ] {
        let fake = Fake::new([answer]);
        let message = format!(
            "`{}` answered {status}, but not as the admin API does: check `--server`, and that both are of one version",
            fake.url
        );
        fails(&fake.run(&["tenant", "show", "acme"]), 2, &message);
    }
    let fake = Fake::new([ok(&json!({"id": "acme"}))]);
    let message = "the server's answer has no list in it: check that the server and this program are of one version";
    fails(&fake.run(&["tenant", "list"]), 2, message);
    let fake = Fake::new([(200, "content-length: 100\r\n", "{".to_owned())]);
    let ran = fake.run(&["tenant", "edit", "acme", "--name", "A"]);
    assert!(ran.code == 2 && ran.stderr.contains("`portcullis audit list` tells whether a change was made"), "{ran:?}");
}

#[test]
fn https_is_checked() {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = Files::new();
    let (trusted, foreign) = (files.put("ca.pem", pair.cert.pem()), files.put("other.pem", other.cert.pem()));
    let key = PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(connection, stream);
            let mut buffer = [0; 4096];
            // A client that does not trust the certificate sends no request.
            if std::io::Read::read(&mut tls, &mut buffer).is_ok() {
                let answer =
                    b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\nconnection: close\r\n\r\n{\"tenant\": \"system\"}";
                drop(std::io::Write::write_all(&mut tls, answer));
            }
        }
    });
    let vars = [("PORTCULLIS_SERVER", url.as_str()), ("PORTCULLIS_KEY", ADMIN_KEY)];
    assert_eq!(run_in(&vars, ["whoami", "--ca", &trusted], b"").done(), "tenant     system\n");
    let ran = run_in(&vars, ["whoami", "--ca", &foreign], b"");
    let start = format!("error: the certificate of `{url}` is not trusted: ");
    assert!(ran.code == 2 && ran.stderr.starts_with(&start), "{ran:?}");
    assert!(ran.stderr.ends_with(": give its authority with `--ca FILE`\n"), "{ran:?}");
    let empty = files.put("empty.pem", "");
    let message =
        format!("`{empty}` has no certificate: give a PEM file that begins with `-----BEGIN CERTIFICATE-----`");
    fails(&run_in(&[vars[0], vars[1], ("PORTCULLIS_CA", &empty)], ["whoami"], b""), 2, &message);
}
