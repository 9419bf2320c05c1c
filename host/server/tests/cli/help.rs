//! The help texts, as reviewed files. `PORTCULLIS_BLESS=1 cargo test -p portcullis` writes them anew.

use std::path::Path;
use std::{env, fs};

use crate::command::run;

#[test]
fn help_is_as_reviewed() {
    for command in LOCAL {
        let name = if command.is_empty() { "portcullis".to_owned() } else { command.replace(' ', "-") };
        is_golden(&name, &help(command));
    }
    // One file for a command and all that is below it.
    for (group, commands) in ON_SERVER {
        let all = std::iter::once((*group).to_owned()).chain(below(group, commands));
        let text = all.map(|command| format!("$ portcullis {command} --help\n{}", help(&command)));
        is_golden(group, &text.collect::<Vec<String>>().join("\n"));
    }
}

/// Commands that work by themselves.
const LOCAL: [&str; 12] = [
    "",
    "check",
    "sign",
    "policy",
    "policy build",
    "policy inspect",
    "policy diff",
    "envoy",
    "envoy module",
    "envoy config",
    "secrets",
    "secrets rekey",
];
/// Commands that work on a server, and the one that prints scripts.
const ON_SERVER: &[(&str, &str)] = &[
    ("service", "list show create edit delete"),
    ("endpoint", "list show browse put delete"),
    ("tenant", "list show create edit"),
    ("settings", "list show set remove-range delete"),
    ("group", "list show create edit delete"),
    ("application", "list create delete"),
    ("user", "list show create edit enrol delete"),
    ("key", "list show create import import-pair edit rotate end-overlap revoke delete"),
    ("client", "list show create tokens log revoke"),
    ("token-key", "list rotate retire"),
    ("feed", "list show create edit key delete"),
    ("nodes", ""),
    ("me", "sign-in show sign-out personal-key"),
    ("audit", "list verify export checkpoint"),
    ("decision", "list show"),
    ("error-log", "list show settings"),
    ("client-ip", ""),
    ("installation", "show edit"),
    ("signature-profile", "list show set remove"),
    ("whoami", ""),
    ("export", "service tenant"),
    ("plan", ""),
    ("apply", ""),
    ("completion", ""),
];

fn below(group: &str, commands: &str) -> Vec<String> {
    commands.split_whitespace().map(|command| format!("{group} {command}")).collect()
}

fn every_command() -> Vec<String> {
    let local = LOCAL.iter().map(|command| (*command).to_owned());
    let groups = ON_SERVER.iter().map(|(group, _)| (*group).to_owned());
    let rest = ON_SERVER.iter().flat_map(|(group, commands)| below(group, commands));
    local.chain(groups).chain(rest).collect()
}

fn help(command: &str) -> String {
    run(command.split_whitespace().chain(["--help"])).done()
}

#[track_caller]
fn is_golden(name: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if env::var_os("PORTCULLIS_BLESS").is_some() {
        fs::write(&file, found).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "the help differs from {}; it is now:\n{found}", file.display());
}

/// A command that is in no list here would have no reviewed help.
#[test]
fn every_command_is_known_here() {
    let known = every_command();
    for group in known.iter().filter(|command| !command.contains(' ')) {
        let text = help(group);
        let commands = text.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
        for line in commands.unwrap_or_default().lines().filter(|line| !line.starts_with("   ")) {
            let name = line.split_whitespace().next().unwrap();
            let full = format!("{group} {name}").trim().to_owned();
            assert!(name == "help" || OTHERS.contains(&name) || known.contains(&full), "{full}");
        }
    }
}

/// Commands with tests of their own.
const OTHERS: [&str; 2] = ["serve", "recover"];

#[test]
fn help_shows_examples_and_exit_codes() {
    for command in every_command() {
        let help = help(&command);
        assert!(help.contains("Examples:\n  portcullis "), "{command}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{command}: {help}");
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
