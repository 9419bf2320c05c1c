//! The help texts, as reviewed files. `PORTCULLIS_BLESS=1 cargo test -p portcullis` writes them anew.

use std::path::Path;
use std::{env, fs};

use crate::command::run;

#[test]
fn help_is_as_reviewed() {
    for command in ["", "check", "policy", "policy build", "policy inspect", "policy diff"] {
        let found = run(command.split_whitespace().chain(["--help"])).done();
        let name = if command.is_empty() { "portcullis".to_owned() } else { command.replace(' ', "-") };
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
        if env::var_os("PORTCULLIS_BLESS").is_some() {
            fs::write(&file, &found).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert!(found == expected, "`{command} --help` differs from {}; it is now:\n{found}", file.display());
    }
}

#[test]
fn help_shows_examples_and_exit_codes() {
    for command in ["", "check", "policy", "policy build", "policy inspect", "policy diff"] {
        let help = run(command.split_whitespace().chain(["--help"])).done();
        assert!(help.contains("Examples:\n  portcullis "), "{command}");
        assert!(help.lines().all(|line| line.len() <= 100), "{command}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(run(["--version"]).done(), concat!("portcullis ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_usage_error_is_an_error() {
    for args in
        [&["check"][..], &["chek"], &[], &["policy"], &["check", "--policy", "p", "--raw", "r", "https://a.example/"]]
    {
        let ran = run(args);
        assert_eq!((ran.code, ran.text()), (2, ""), "{args:?}");
        assert!(ran.stderr.contains("Usage: portcullis"), "{args:?}: {}", ran.stderr);
    }
}
