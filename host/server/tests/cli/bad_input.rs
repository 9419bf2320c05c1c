//! Every kind of bad input: the message that names the fault and the fix, the exit code, and nothing done.

use std::fs;

use crate::command::{EVENTS, Files, TENANT_KEY, check, run, run_with_stdin, sample};

/// Every command that reads a source.
fn each_reader(source: &str, message: &str) {
    let other = sample("policy.json");
    let other = other.to_str().unwrap();
    run(["check", "--policy", source, EVENTS]).fails_with(message);
    run(["policy", "build", source]).fails_with(message);
    run(["policy", "inspect", source]).fails_with(message);
    run(["policy", "diff", source, other]).fails_with(message);
    run(["policy", "diff", other, source]).fails_with(message);
}

#[test]
fn a_file_that_is_not_there() {
    let files = Files::new();
    let path = files.path("nowhere.json");
    let message =
        format!("cannot read `{path}`: No such file or directory (os error 2): check the path and its permissions");
    each_reader(&path, &message);
    check(&["--raw", &path]).fails_with(&message);
    check(&["--delta", &path, EVENTS]).fails_with(&message);
    check(&["-H", &format!("@{path}"), EVENTS]).fails_with(&message);
    let folder = files.path("");
    let message = format!("cannot read `{folder}`: Is a directory (os error 21): check the path and its permissions");
    run(["policy", "inspect", &folder]).fails_with(&message);
}

#[test]
fn a_file_that_is_something_else() {
    let files = Files::new();
    for bytes in [&b""[..], b"[1]", b"#!/bin/sh", b"\x7fELF"] {
        let path = files.put("odd", bytes);
        let message = format!(
            "`{path}` is neither a JSON document nor a compiled policy: give what `portcullis policy --help` describes"
        );
        each_reader(&path, &message);
    }
    assert_eq!(files.names(), ["odd"]);
}

#[test]
fn a_source_that_is_no_json() {
    let files = Files::new();
    let path = files.put("s.json", "{\n  \"format\": 1,\n}");
    each_reader(&path, &format!("`{path}` line 3 column 1: trailing comma: correct it there"));
    let path = files.put("s.json", "{\"format\": 1");
    each_reader(&path, &format!("`{path}` line 1 column 12: EOF while parsing an object: correct it there"));
}

#[test]
fn an_unknown_key_has_its_line_and_column() {
    let files = Files::new();
    let path = files.edited("s.json", "\"ip_allowlist\"", "\"ip_alowlist\"");
    let source = fs::read_to_string(&path).unwrap();
    let line = 1 + source.lines().position(|line| line.contains("ip_alowlist")).unwrap();
    let message = format!(
        "`{path}` line {line} column 19: unknown field `ip_alowlist`, expected one of `id`, `tenant`, `kind`, `state`, \
         `expires`, `secrets`, `group`, `ip_allowlist`, `endpoints`, `applications`, `creator`, `creator_rule`, \
         `signature_profile`, `signed_only`: \
         correct it there"
    );
    each_reader(&path, &message);
}

#[test]
fn a_bad_range_has_its_line() {
    let files = Files::new();
    let path = files.edited("s.json", "\"2001:db8::/32\"", "\n\"192.0.2.0/33\"");
    let source = fs::read_to_string(&path).unwrap();
    let line = 1 + source.lines().position(|line| line.contains("192.0.2.0/33")).unwrap();
    let message = format!(
        "`{path}` line {line} column 15: `192.0.2.0/33` is not an address range: the prefix is longer than 32 bits for \
         IPv4 or 128 bits for IPv6: correct it there"
    );
    each_reader(&path, &message);
}

#[test]
fn a_source_of_another_format() {
    let files = Files::new();
    let path = files.edited("s.json", "\"format\": 1,", "\"format\": 2, \"new_section\": {},");
    each_reader(&path, &format!("`{path}` has source format 2, this build reads 1: use a newer portcullis"));
    let path = files.edited("s.json", "\"format\": 1,", "\"format\": 0,");
    each_reader(
        &path,
        &format!("`{path}` has source format 0, this build reads 1: write the document anew in that format"),
    );
    let path = files.put("d.json", "{\"format\": 2, \"from\": 1, \"revision\": 2, \"seed\": \"\"}");
    let message = format!("`{path}` has source format 2, this build reads 1: use a newer portcullis");
    check(&["--delta", &path, EVENTS]).fails_with(&message);
}

#[test]
fn every_dangling_reference_is_told() {
    let files = Files::new();
    let path = files.edited("s.json", "\"group\": \"integration\"", "\"group\": \"nobody\"");
    let message =
        "has a fault: correct it, nothing was built\n  credential `acme-tenant-1`: there is no group `nobody`";
    each_reader(&path, &format!("`{path}` {message}"));
    let text = fs::read_to_string(&path).unwrap().replace("\"creator\": \"ada\"", "\"creator\": \"bob\"");
    let path = files.put("s.json", text);
    let message = "has 2 faults: correct them, nothing was built\n  \
        credential `acme-tenant-1`: there is no group `nobody`\n  \
        credential `acme-management-1`: there is no user `bob`";
    each_reader(&path, &format!("`{path}` {message}"));
    assert_eq!(files.names(), ["s.json"]);
}

#[test]
fn a_digest_that_stands_twice() {
    let files = Files::new();
    let workspace = "68ec0321d4cb5f1e058c4b48144e7b596b0e644396f380918b8b15d1c68fb0d6";
    let tenant = "875f111fac1736be20c011d1b2c3cae98de52bba2dc2a366d785f732e4511a1a";
    let path = files.edited("s.json", workspace, tenant);
    let message = "has a fault: correct it, nothing was built\n  \
        credential `acme-workspace-1`: the digest of version 1 is already that of another secret";
    each_reader(&path, &format!("`{path}` {message}"));
}

#[test]
fn a_key_in_the_place_of_its_digest_is_not_repeated() {
    let files = Files::new();
    let tenant = "875f111fac1736be20c011d1b2c3cae98de52bba2dc2a366d785f732e4511a1a";
    let path = files.edited("s.json", tenant, TENANT_KEY);
    let ran = run(["policy", "build", &path]);
    let expected =
        "a digest is 64 hex digits, this text has 52 characters: write the SHA-256 of the key, never the key";
    assert!(ran.stderr.contains(expected) && !ran.stderr.contains(TENANT_KEY), "{}", ran.stderr);
}

#[test]
fn a_compiled_policy_that_is_damaged_or_newer() {
    let files = Files::new();
    let whole = fs::read(files.compiled("whole")).unwrap();
    let delta = fs::read(files.delta("delta")).unwrap();
    let again = "copy it again, or build it again from its source";
    let refused = |bytes: &[u8], message: &str| {
        let path = files.put("p", bytes);
        let message = format!("`{path}`: {message}");
        run(["check", "--policy", &path, EVENTS]).fails_with(&message);
        check(&["--delta", &path, EVENTS]).fails_with(&message);
        run(["policy", "inspect", &path]).fails_with(&message);
    };
    for sound in [&whole, &delta] {
        let length = sound.len();
        let mut cut = sound.clone();
        cut.pop();
        let message = format!(
            "the policy has {} bytes and should have {length}: it was cut off or added to: {again}",
            length - 1
        );
        refused(&cut, &message);
        let message = format!(
            "the policy has {} bytes and should have {length}: it was cut off or added to: {again}",
            length + 1
        );
        refused(&[sound.as_slice(), b"\n"].concat(), &message);

        let mut flipped = sound.clone();
        flipped[length / 2] ^= 0x10;
        refused(&flipped, &format!("the policy's checksum does not match: it was damaged: {again}"));

        let mut newer = sound.clone();
        newer[16] = 9;
        refused(&newer, "the policy has format 9, this build reads up to 3: use a newer portcullis or build it again");
        refused(&sound[..40], "these bytes are not a compiled policy; make one with `portcullis policy build`");
    }
}

#[test]
fn a_delta_and_a_policy_that_are_mistaken_for_each_other() {
    let files = Files::new();
    let (policy, delta) = (files.compiled("policy"), files.delta("delta"));
    let (old, new) = (sample("policy.json"), sample("revoked.json"));
    let document = run(["policy", "diff", old.to_str().unwrap(), new.to_str().unwrap(), "--json"]).done();
    let document = files.put("delta.json", document);
    for delta in [&delta, &document] {
        let message = format!(
            "`{delta}` is a delta, but a whole policy is needed here: give the policy, and this with `check --delta`"
        );
        run(["check", "--policy", delta, EVENTS]).fails_with(&message);
    }
    for whole in [policy.as_str(), old.to_str().unwrap()] {
        let message = format!(
            "`{whole}` is a whole policy, but a delta is needed here: make one with `portcullis policy diff -o`"
        );
        check(&["--delta", whole, EVENTS]).fails_with(&message);
    }
    let message =
        format!("`{policy}` is compiled, but a JSON source is needed here: give the document that it was built from");
    run(["policy", "diff", &policy, new.to_str().unwrap()]).fails_with(&message);
    run(["policy", "build", &policy]).fails_with(&message);
}

#[test]
fn a_delta_for_another_revision() {
    let files = Files::new();
    let (policy, delta) = (sample("revoked.json"), files.delta("delta"));
    let message = format!(
        "`{delta}` applies to revision 1, the policy is at revision 2: make it again with `portcullis policy diff` from \
         revision 2"
    );
    run(["check", "--policy", policy.to_str().unwrap(), "--delta", &delta, EVENTS]).fails_with(&message);
    check(&["--delta", &delta, "--delta", &delta, EVENTS]).fails_with(&message);
    let later = files.edited("later.json", "\"revision\": 1,", "\"revision\": 3,");
    let second = files.path("second");
    run(["policy", "diff", policy.to_str().unwrap(), &later, "-o", &second]).done();
    let message = format!(
        "`{second}` applies to revision 2, the policy is at revision 1: give the deltas that lead to revision 2 before it"
    );
    check(&["--delta", &second, EVENTS]).fails_with(&message);
}

#[test]
fn a_delta_that_refers_to_nothing() {
    let files = Files::new();
    let (old, new) = (sample("policy.json"), sample("revoked.json"));
    let mut delta = run(["policy", "diff", old.to_str().unwrap(), new.to_str().unwrap(), "--json"]).json();
    delta["credentials"][0]["group"] = "nobody".into();
    let path = files.put("delta.json", delta.to_string());
    let message = format!(
        "`{path}` was not accepted: the delta refers to the group `acme/nobody`, which the policy does not have: build it \
         again from its source"
    );
    check(&["--delta", &path, EVENTS]).fails_with(&message);
    delta["credentials"][0]["group"] = serde_json::Value::Null;
    let path = files.put("delta.json", delta.to_string());
    let message = format!(
        "`{path}` has a fault: correct it, nothing was built\n  credential `acme-tenant-1`: a tenant key needs a `group`"
    );
    check(&["--delta", &path, EVENTS]).fails_with(&message);
}

#[test]
fn sources_that_do_not_follow_each_other() {
    let files = Files::new();
    let (old, new) = (sample("policy.json"), sample("revoked.json"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let message = format!("`{old}` has revision 1, which is not after 2 of `{new}`: give it a higher `revision`");
    run(["policy", "diff", new, old]).fails_with(&message);
    let text = fs::read_to_string(new).unwrap();
    let seed = text.split("\"seed\": \"").nth(1).unwrap().split('"').next().unwrap();
    let other = files.put("other.json", text.replace(seed, &"0".repeat(32)));
    let message = format!(
        "`{old}` and `{other}` have different seeds, so they are of different installations: a delta keeps the seed"
    );
    run(["policy", "diff", old, &other]).fails_with(&message);
}

#[test]
fn a_request_that_is_none() {
    let fix = "write it as `https://HOST/PATH`";
    for url in ["/v1/events", "api.shop.example/v1/events", "ftp://a.example/", "https:/a.example/"] {
        let quotes = "in quotes where it has a `?` or `&`";
        check(&[url]).fails_with(&format!("the URL does not begin with `https://` or `http://`: {fix}, {quotes}"));
    }
    check(&["https:///v1"]).fails_with(&format!("the URL has no host: {fix}"));
    let message = "the URL has a user before its host: clients do not send that part; give the credential with `-H`";
    check(&["https://me@a.example/"]).fails_with(message);
    let colon = "has no colon: write it as `Name: value`, in quotes on the command line";
    check(&["-H", "a: b", "-H", "c", EVENTS]).fails_with(&format!("header 2 of the command line {colon}"));
    let files = Files::new();
    let path = files.put("h", "a: b\n\nc\n");
    check(&["-H", &format!("@{path}"), EVENTS]).fails_with(&format!("`{path}` line 3 {colon}"));
    let long = files.put("h", vec![b'\n'; 131_073]);
    let message = format!("`{long}` is longer than 131072 bytes: give the file that was meant");
    check(&["-H", &format!("@{long}"), EVENTS]).fails_with(&message);
    files.put("h", vec![b'\n'; 131_072]);
    assert_eq!(check(&["-H", &format!("@{long}"), EVENTS]).code, 1);
}

#[test]
fn a_capture_that_is_no_request() {
    let files = Files::new();
    let refused = |bytes: &str, message: &str| {
        let path = files.put("request", bytes);
        check(&["--raw", &path]).fails_with(&format!("`{path}` {message}"));
    };
    let incomplete = "ends within the request's head: it must go on to the empty line after the last header field";
    for cut in ["", "GET", "GET /v1/events HTTP/1.1", "GET /v1/events HTTP/1.1\r\nHost: api.shop.example\r\n"] {
        refused(cut, incomplete);
    }
    refused("GET / HTTP/2.0\r\n\r\n", "line 1: not HTTP/1.0 or HTTP/1.1: capture the request as HTTP/1.1 text");
    let line = "not a request line: write `METHOD TARGET HTTP/1.1`, with one space between each";
    refused("GET  / HTTP/1.1\r\n\r\n", &format!("line 1: {line}"));
    let field = "not a header field: write `Name: value`, without spaces in or after the name and without folded lines";
    refused("GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", &format!("line 3: {field}"));
    refused("GET / HTTP/1.1\r\nHost: a\x01\r\n\r\n", "line 2: a header value has a control character: remove it");
}

#[test]
fn standard_input_is_read_once() {
    let message = "`-` is given twice, but standard input can be read only once: put one of the two into a file";
    run_with_stdin(["check", "--policy", "-", "--raw", "-"], b"GET / HTTP/1.1\r\n\r\n").fails_with(message);
    let source = fs::read(sample("policy.json")).unwrap();
    run_with_stdin(["policy", "diff", "-", "-"], &source).fails_with(message);
}

#[test]
fn times_and_addresses_that_are_none() {
    for (option, value, expected) in [
        ("--at", "2026-12-31", "`2026-12-31` is not a time: write RFC 3339 with an offset"),
        ("--confirmed", "now", "`now` is not a time"),
        ("--client", "192.0.2.1:80", "write one IPv4 or IPv6 address, without a port or brackets"),
    ] {
        let ran = check(&[option, value, EVENTS]);
        assert!(ran.code == 2 && ran.stderr.contains(expected), "{ran:?}");
    }
}
