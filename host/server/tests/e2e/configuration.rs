//! What cannot be served is told before anything is opened or written, with the fault and the fix.

use std::net::TcpListener;

use crate::server::{Ran, Settings, Site, run};

/// Runs `serve` on a configuration that it must refuse.
#[track_caller]
fn refused(site: &Site) -> Ran {
    let ran = run(&mut site.serve());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.starts_with("error: ") || ran.stderr.contains("\nerror: "), "{ran:?}");
    ran
}

/// Asserts that `serve` and `serve --check` say all of this, and that nothing was made.
#[track_caller]
fn assert_refused(site: &Site, said: &[&str]) {
    let ran = refused(site);
    for part in said {
        assert!(ran.stderr.contains(part), "{part:?} is not in {:?}", ran.stderr);
    }
    assert!(!site.data().exists(), "nothing is made for a configuration that is refused");
    let checked = run(site.serve().arg("--check"));
    assert_eq!((checked.code, checked.stderr), (Some(2), ran.stderr));
}

fn with(settings: Settings<'_>) -> Site {
    Site::without_key(settings)
}

#[test]
fn every_fault_is_named_with_its_place_and_its_fix() {
    for (proxy, said) in [
        ("head_timeuot = \"1s\"", ["line 4 column 1", "unknown field `head_timeuot`", "remove it or correct its name"]),
        ("head_timeout = \"1 fortnight\"", ["line 4", "`1 fortnight` is no time", "\"30s\""]),
        ("head_timeout = 30", ["line 4", "this is a whole number, not a text", "a time with its unit"]),
        ("request_body_limit = \"10\"", ["line 4", "`10` has no unit", "\"64KiB\""]),
        ("max_connections = -1", ["line 4", "-1 is not between 1 and", "whole number"]),
        (
            "upstream_ca = \"nothing.pem\"",
            ["line 4", "nothing.pem`: No such file", "check the path and its permissions"],
        ),
    ] {
        assert_refused(&with(Settings { proxy, ..Settings::default() }), &said);
    }
    let several = with(Settings {
        proxy: "idle_timeout = \"1\"",
        admin: "hosts = \"x\"",
        log: "level = \"loud\"",
        ..Settings::default()
    });
    let told = refused(&several).stderr;
    assert_eq!(told.lines().count(), 3, "all faults at once: {told}");
}

#[test]
fn a_configuration_that_is_missing_or_lacks_the_folder_is_refused() {
    let site = with(Settings::default());
    std::fs::write(site.config(), "[proxy]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    assert_refused(&site, &["`data`: it is left out", "name the folder to keep everything in"]);
    std::fs::remove_file(site.config()).unwrap();
    assert_refused(&site, &["cannot read the configuration", "No such file", "check the path"]);
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused() {
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (one, other) = (made(), made());
    let tls = "tls = { certificate = \"server.pem\", key = \"server.key\" }";
    let site = with(Settings { proxy: tls, ..Settings::default() });
    assert_refused(&site, &["`proxy.tls`", "server.pem`: No such file", "check the path and its permissions"]);
    std::fs::write(site.path("server.pem"), one.cert.pem()).unwrap();
    assert_refused(&site, &["`proxy.tls`", "server.key`: No such file"]);
    std::fs::write(site.path("server.key"), other.signing_key.serialize_pem()).unwrap();
    assert_refused(&site, &["`proxy.tls`", "does not belong to the certificate", "give the key that the certificate"]);
    std::fs::write(site.path("server.key"), "no key").unwrap();
    assert_refused(&site, &["`proxy.tls`", "has no private key"]);
    std::fs::write(site.path("server.pem"), "no certificate").unwrap();
    assert_refused(&site, &["`proxy.tls`", "has no certificate"]);
}

#[test]
fn the_admin_api_is_not_offered_in_plain_text_beyond_this_machine() {
    let site = with(Settings::default());
    let text = "data = \"data\"\n[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"0.0.0.0:0\"\n";
    std::fs::write(site.config(), text).unwrap();
    assert_refused(&site, &["`admin.listen`", "plain text", "allow_plaintext = true"]);
}

#[test]
fn a_port_that_is_taken_is_named_with_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (table, other) in [("proxy", "admin"), ("admin", "proxy")] {
        let site = with(Settings::default());
        let text = format!("data = \"data\"\n[{table}]\nlisten = \"{address}\"\n[{other}]\nlisten = \"127.0.0.1:0\"\n");
        std::fs::write(site.config(), text).unwrap();
        let told = refused(&site).stderr;
        let said = format!("cannot listen on `{address}`, which `{table}.listen` asks for");
        assert!(told.contains(&said) && told.contains("stop the program that has the port"), "{told}");
        assert!(!site.data().exists(), "nothing is made before the ports are there");
        // The file itself is fine.
        assert_eq!(run(site.serve().arg("--check")).code, Some(0));
    }
}

#[test]
fn a_check_of_a_good_configuration_makes_nothing() {
    let site = with(Settings::default());
    let ran = run(site.serve().arg("--check"));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(!site.data().exists());
}
