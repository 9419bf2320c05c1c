use super::authz::MAX_LISTENERS;
use super::*;
use portcullis_authz::Dialect;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("p.toml"), Path::new("/etc/portcullis"))
}

fn faults(text: &str) -> Vec<String> {
    parse(text).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

#[test]
fn everything_but_the_folder_has_a_default() {
    let config = parse("data = \"state\"").unwrap();
    assert_eq!(config.data, Path::new("/etc/portcullis/state"));
    assert_eq!(config.proxy.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9180");
    assert!(config.proxy.tls.is_none() && config.proxy.request_body_limit.is_none());
    assert_eq!(config.decisions.keep, 256 << 20);
    assert_eq!((config.master_key_file, config.audit), (None, AuditRetention::default()));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Text, tracing::Level::INFO));
    assert_eq!(
        faults(""),
        [
            "p.toml: `data`: it is left out: name the folder to keep everything in, such as `data = \"/var/lib/portcullis\"`"
        ]
    );
}

#[test]
fn what_is_set_is_taken() {
    let config = parse(
        r#"
        data = "/var/lib/portcullis"
        master_key_file = "keys/master.key"
        [proxy]
        listen = "[::]:8443"
        max_connections = 7
        head_timeout = "500ms"
        idle_timeout = "1m 30s"
        request_body_limit = "64KiB"
        [admin]
        listen = "0.0.0.0:9180"
        allow_plaintext = true
        hosts = ["Portcullis.internal.example"]
        [decisions]
        keep = "1GB"
        queue = 10
        [audit]
        retention_days = 730
        retention_entries = 1000
        [log]
        format = "json"
        level = "debug"
        "#,
    )
    .unwrap();
    assert_eq!(config.data, Path::new("/var/lib/portcullis"));
    assert_eq!(config.proxy.max_connections, 7);
    assert_eq!(config.proxy.head_timeout, Duration::from_millis(500));
    assert_eq!(config.proxy.idle_timeout, Duration::from_secs(90));
    assert_eq!(config.proxy.request_body_limit, Some(65_536));
    assert_eq!(config.admin.hosts, ["portcullis.internal.example"]);
    assert_eq!((config.decisions.keep, config.decisions.queue), (1_000_000_000, 10));
    assert_eq!(config.master_key_file.as_deref(), Some(Path::new("/etc/portcullis/keys/master.key")));
    assert_eq!(config.audit, AuditRetention { days: Some(730), entries: Some(1000) });
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, tracing::Level::DEBUG));
}

#[test]
fn all_faults_are_told_at_once_with_their_places() {
    let text = "data = 7\n[proxy]\nlisten = \"8080\"\nhead_timeout = 30\nidle_timeout = \"30\"\n\
        request_body_limit = \"1024\"\nmax_connections = 0\n[log]\nlevel = \"loud\"\n";
    let told = faults(text);
    let starts = [
        "p.toml line 1 column 8: `data`: this is a whole number, not a text",
        "p.toml line 3 column 10: `proxy.listen`: `8080` is no address to listen on: write an IP address and a port",
        "p.toml line 4 column 16: `proxy.head_timeout`: this is a whole number, not a text: write a time with its unit",
        "p.toml line 5 column 16: `proxy.idle_timeout`: `30` is no time",
        "p.toml line 6 column 22: `proxy.request_body_limit`: `1024` has no unit",
        "p.toml line 7 column 19: `proxy.max_connections`: 0 is not between 1 and",
        "p.toml line 9 column 9: `log.level`: `loud` is not known: write one of `\"error\"`",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (line, start) in told.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
}

#[test]
fn an_unknown_key_is_refused() {
    let told = faults("data = \"d\"\n[proxy]\nlisten_on = \"0.0.0.0:1\"\n");
    assert!(
        told[0].starts_with("p.toml line 3 column 1: unknown field `listen_on`, expected one of `listen`"),
        "{told:?}"
    );
    let told = faults("data = \"d\"\n[porxy]\n");
    assert!(told[0].contains("unknown field `porxy`"), "{told:?}");
    let told = faults("data = \n");
    assert!(told[0].starts_with("p.toml line 1 column "), "{told:?}");
}

#[test]
fn the_admin_api_is_not_offered_to_the_network_in_plain_text() {
    for (listen, fine) in [
        ("127.0.0.1:1", true),
        ("127.9.9.9:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("0.0.0.0:1", false),
        ("[::]:1", false),
        ("192.0.2.1:1", false),
    ] {
        let text = format!("data = \"d\"\n[admin]\nlisten = \"{listen}\"\n");
        assert_eq!(parse(&text).is_ok(), fine, "{listen}");
        assert!(parse(&format!("{text}allow_plaintext = true\n")).is_ok());
    }
}

#[test]
fn feeds_have_a_listener_of_their_own_where_one_is_named() {
    assert!(parse("data = \"d\"").unwrap().feed.is_none());
    let feed = parse("data = \"d\"\n[feed]\nlisten = \"127.0.0.1:9181\"\n").unwrap().feed.unwrap();
    assert!(feed.listen.to_string() == "127.0.0.1:9181" && feed.tls.is_none());
    for (text, what) in [
        ("[feed]\n", "`feed.listen`: it is left out"),
        ("[feed]\nlisten = 9181\n", "`feed.listen`: this is a whole number"),
        (
            "[feed]\nlisten = \"0.0.0.0:9181\"\n",
            "is no loopback address, and keys would cross the network in plain text",
        ),
        ("[feed]\nlisten = \"127.0.0.1:9181\"\nhosts = []\n", "unknown field `hosts`"),
    ] {
        let told = faults(&format!("data = \"d\"\n{text}"));
        assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
    }
    assert!(parse("data = \"d\"\n[feed]\nlisten = \"0.0.0.0:9181\"\nallow_plaintext = true\n").is_ok());
}

#[test]
fn certificates_are_read_before_anything_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write("good.pem", &pair.cert.pem());
    write("good.key", &pair.signing_key.serialize_pem());
    write("other.key", &other.signing_key.serialize_pem());
    write("empty.pem", "");
    let told = |certificate: &str, key: &str| {
        let text = format!("data = \"d\"\n[proxy]\ntls = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n");
        match Config::parse(&text, Path::new("p.toml"), folder.path()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(told("good.pem", "good.key"), "");
    for (certificate, key, part) in [
        ("none.pem", "good.key", "none.pem`: No such file"),
        ("good.pem", "none.key", "none.key`: No such file"),
        ("empty.pem", "good.key", "has no certificate"),
        ("good.key", "good.key", "has no certificate"),
        ("good.pem", "good.pem", "has no private key"),
        ("good.pem", "other.key", "does not belong to"),
    ] {
        let told = told(certificate, key);
        assert!(told.starts_with("p.toml line 3 column 7: `proxy.tls`: ") && told.contains(part), "{told}");
    }
    let told = faults("data = \"d\"\n[proxy]\ntls = { certificate = \"a.pem\" }\n");
    assert!(told[0].contains("left out"), "{told:?}");
}

fn authz_faults(lines: &str) -> Vec<String> {
    let text = format!("data = \"d\"\n[[authz]]\n{lines}\n");
    match Config::parse(&text, Path::new("p.toml"), Path::new("/nowhere")) {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn a_listener_for_proxies_is_taken_as_it_is_set() {
    let text = "data = \"d\"\n[[authz]]\ndialect = \"envoy-http\"\nlisten = \"127.0.0.1:1\"\nservice = \"shop\"\n\
        path_prefix = \"/check\"\nwhole_bodies = true\nsigned_body_limit = \"1MiB\"\n\
        [[authz]]\ndialect = \"forward-auth\"\nlisten = \"[::1]:2\"\n";
    let config = parse(text).unwrap();
    let [first, second] = config.authz.as_slice() else { panic!("{:?}", config.authz) };
    assert_eq!((first.dialect, second.dialect), (Dialect::EnvoyHttp, Dialect::ForwardAuth));
    assert_eq!((first.service.as_deref(), first.path_prefix.as_str()), (Some("shop"), "/check"));
    assert_eq!((first.whole_bodies, first.signed_body_limit), (true, 1 << 20));
    assert_eq!((second.whole_bodies, second.signed_body_limit), (false, 8 << 20));
    assert!(second.tls.is_none() && second.secret.is_none() && second.service.is_none());
}

#[test]
fn off_loopback_a_proxy_has_to_prove_itself() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let secret = format!("secret_file = \"{}\"\n", secret.display());
    let plain = "allow_plaintext = true\n";
    for (listen, lines, told) in [
        ("127.0.0.1:1", String::new(), &[][..]),
        ("[::1]:1", String::new(), &[]),
        ("0.0.0.0:1", plain.to_owned(), &["anybody there could ask"][..]),
        ("192.0.2.1:1", String::new(), &["anybody there could ask", "in plain text"]),
        ("0.0.0.0:1", secret.clone(), &["in plain text"]),
        ("0.0.0.0:1", format!("{secret}{plain}"), &[]),
    ] {
        let found = authz_faults(&format!("dialect = \"nginx\"\nlisten = \"{listen}\"\n{lines}"));
        assert_eq!(found.len(), told.len(), "{listen} {lines} {found:?}");
        for (found, told) in found.iter().zip(told) {
            assert!(found.starts_with("p.toml line 4 column 10: `authz.listen`: ") && found.contains(told), "{found}");
        }
    }
}

#[test]
fn what_a_listener_for_proxies_cannot_be_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (short, long) = (file("short", &"x".repeat(31)), file("long", &"x".repeat(2000)));
    let none = folder.path().join("none").display().to_string();
    let both = "dialect = \"nginx\"\nlisten = \"127.0.0.1:1\"\n";
    for (lines, told) in [
        (String::new(), "`authz.dialect`: it is left out: write `dialect"),
        ("dialect = \"nginx\"\n".to_owned(), "`authz.listen`: it is left out"),
        (
            "dialect = \"ngnix\"\nlisten = \"127.0.0.1:1\"\n".to_owned(),
            "`authz.dialect`: `ngnix` is not known: write one of",
        ),
        (format!("{both}service = \"a shop\"\n"), "`authz.service`: `a shop` is no id"),
        (
            format!("{both}client_ca = \"{none}\"\n"),
            "`authz.client_ca`: certificates of clients are shown over TLS alone",
        ),
        (format!("{both}secret_file = \"{none}\"\n"), "No such file"),
        (format!("{both}secret_file = \"{short}\"\n"), "32 to 256 visible ASCII characters"),
        (format!("{both}secret_file = \"{long}\"\n"), "32 to 256 visible ASCII characters"),
        (format!("{both}whole_bodies = true\n"), "`authz.whole_bodies`: `auth_request` sends no bodies"),
        (format!("{both}path_prefix = \"/check\"\n"), "`authz.path_prefix`: only `envoy-http` has one"),
        (format!("{both}signed_body_limit = \"17MiB\"\n"), "write at most `\"16MiB\"`"),
        (format!("{both}dialects = 1\n"), "unknown field `dialects`"),
        (
            "dialect = \"envoy-http\"\nlisten = \"127.0.0.1:1\"\npath_prefix = \"check\"".to_owned(),
            "`check` is no path",
        ),
    ] {
        let found = authz_faults(&lines);
        assert!(found.iter().any(|found| found.contains(told)), "{told}\n{found:#?}");
        assert!(!found.join("").contains("xxxx"), "nothing of a secret is told");
    }
    let one = format!("[[authz]]\n{both}");
    let many = |count: usize| parse(&format!("data = \"d\"\n{}", one.repeat(count)));
    assert_eq!(many(MAX_LISTENERS).unwrap().authz.len(), MAX_LISTENERS);
    assert!(many(MAX_LISTENERS + 1).unwrap_err().to_string().contains("more than 64 listeners"));
}
