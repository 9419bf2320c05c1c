//! `portcullis policy build`, `inspect` and `diff`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::json;

use crate::command::{Files, run, run_with_stdin, sample};

#[test]
fn build_writes_the_policy_beside_its_source() {
    let files = Files::new();
    let source = files.put("shop.json", fs::read(sample("policy.json")).unwrap());
    let said = run(["policy", "build", &source]).done();
    let (first, second) = said.split_once('\n').unwrap();
    let policy = files.path("shop.ptcpol");
    let bytes = fs::read(&policy).unwrap();
    let expected = format!("written to `{policy}`: revision 1, {} bytes, built in ", bytes.len());
    assert!(first.starts_with(&expected), "{first}");
    assert_eq!(second, "services 1, endpoints 4, hosts 1, tenants 2, groups 2, users 1, secrets 5\n");
    assert!(bytes.starts_with(b"PTCLPOL\n"));
    assert_eq!(files.names(), ["shop.json", "shop.ptcpol"]);
}

#[test]
fn build_gives_the_same_bytes_wherever_they_go() {
    let files = Files::new();
    let first = fs::read(files.compiled("one")).unwrap();
    let ran = run(["policy", "build", sample("policy.json").to_str().unwrap(), "-o", "-"]);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.stdout, first);
    assert!(ran.stderr.starts_with("written to standard output: revision 1, "), "{}", ran.stderr);
    let two = files.path("two");
    run_with_stdin(["policy", "build", "-", "-o", &two], &fs::read(sample("policy.json")).unwrap()).done();
    assert_eq!(fs::read(two).unwrap(), first);
}

#[test]
fn build_replaces_a_file_only_with_a_whole_one() {
    let files = Files::new();
    let (target, link) = (files.put("target", "old"), files.path("link"));
    symlink(&target, &link).unwrap();
    let broken = files.edited("broken.json", "\"group\": \"integration\"", "\"group\": \"nobody\"");
    assert_eq!(run(["policy", "build", &broken, "-o", &link]).code, 2);
    assert_eq!(fs::read(&target).unwrap(), b"old");

    run(["policy", "build", sample("policy.json").to_str().unwrap(), "-o", &link]).done();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read(&target).unwrap().starts_with(b"PTCLPOL\n"));
    // As any new file: readable by others unless the umask says no.
    assert_ne!(fs::metadata(&target).unwrap().permissions().mode() & 0o400, 0);
    assert_eq!(files.names(), ["broken.json", "link", "target"]);
}

#[test]
fn build_never_writes_over_its_source() {
    let files = Files::new();
    let source = files.put("shop.ptcpol", fs::read(sample("policy.json")).unwrap());
    let message = format!("the output would replace the source `{source}`: give `-o` another file");
    run(["policy", "build", &source]).fails_with(&message);
    let nameless =
        "a source from standard input gives the output no name: give `-o FILE`, or `-o -` for standard output";
    run(["policy", "build", "-"]).fails_with(nameless);
    let folder = files.path("");
    let message = format!(
        "cannot write `{folder}`: Is a directory (os error 21): check the folder, its permissions and its free space"
    );
    run(["policy", "build", &source, "-o", &folder]).fails_with(&message);
}

#[test]
fn inspect_shows_a_policy_and_a_delta_in_either_form() {
    let files = Files::new();
    let (policy, delta) = (files.compiled("policy"), files.delta("delta"));
    let bytes = fs::metadata(&policy).unwrap().len();
    let said = run(["policy", "inspect", &policy]).done();
    let expected = format!(
        "`{policy}`: compiled policy, format 3, checksum and bounds are right\n  revision    1\n  bytes       {bytes}\n  \
         services    1\n  endpoints   4\n  hosts       1\n  tenants     2\n  groups      2\n  users       1\n  secrets     5\n"
    );
    assert_eq!(said, expected);
    let said = run(["policy", "inspect", sample("policy.json").to_str().unwrap()]).done();
    assert!(said.contains(": JSON of a policy, source format 1, without faults\n  revision    1\n"), "{said}");
    assert!(said.contains(&format!("bytes       {bytes} when compiled\n")), "{said}");

    let counts = json!({
        "services": 1, "endpoints": 4, "hosts": 1, "tenants": 2, "groups": 2, "users": 1, "secrets": 5
    });
    let expected = json!({
        "form": "compiled", "kind": "policy", "format": 3, "revision": 1, "applies_to": null, "bytes": bytes,
        "counts": counts, "removed": null,
    });
    assert_eq!(run(["policy", "inspect", &policy, "--json"]).json(), expected);

    let said = run(["policy", "inspect", &delta]).done();
    assert!(said.contains("compiled delta, format 3"), "{said}");
    assert!(said.contains("  applies to  revision 1\n  revision    2\n"), "{said}");
    assert!(said.ends_with("  secrets     1 put, 0 removed\n"), "{said}");
    let (old, new) = (sample("policy.json"), sample("revoked.json"));
    let document = run(["policy", "diff", old.to_str().unwrap(), new.to_str().unwrap(), "--json"]).done();
    let found = run_with_stdin(["policy", "inspect", "-", "--json"], document.as_bytes()).json();
    let expected = json!(["json", "delta", 2, 1, 1, 0]);
    let fields = [&found["form"], &found["kind"], &found["revision"], &found["applies_to"]];
    let secrets = [&found["counts"]["secrets"], &found["removed"]["secrets"]];
    assert_eq!(json!([fields[0], fields[1], fields[2], fields[3], secrets[0], secrets[1]]), expected);
}

#[test]
fn diff_names_what_changed() {
    let files = Files::new();
    let old = sample("policy.json");
    let mut new: serde_json::Value = serde_json::from_slice(&fs::read(&old).unwrap()).unwrap();
    new["revision"] = json!(9);
    new["installation"]["clock_skew_s"] = json!(60);
    new["services"][0]["endpoints"][0]["legacy"] = json!(true);
    new["services"][0]["endpoints"][2]["methods"] = json!(["GET"]);
    new["groups"].as_array_mut().unwrap().push(json!({"id": "support", "tenant": "acme"}));
    new["applications"].as_array_mut().unwrap().remove(0);
    new["credentials"].as_array_mut().unwrap().remove(4);
    new["credentials"][0]["state"] = json!("revoked");
    let new = files.put("new.json", new.to_string());
    let delta = files.path("delta");
    let said = run(["policy", "diff", old.to_str().unwrap(), &new, "-o", &delta]).done();
    let bytes = fs::metadata(&delta).unwrap().len();
    let expected = format!(
        "\
revision 1 -> 9
  changed  installation                   clock_skew_s 300 -> 60
  changed  endpoint      shop/coupons     methods
  changed  endpoint      shop/events      legacy none -> true
  removed  application   acme/mobile
  added    group         acme/support
  changed  credential    acme-tenant-1    state active -> revoked
  removed  credential    globex-tenant-0
written to `{delta}`: {bytes} bytes
"
    );
    assert_eq!(said, expected);
    let said = run(["policy", "diff", old.to_str().unwrap(), &new]).done();
    assert!(said.ends_with(&format!("\n{bytes} bytes as a compiled delta\n")), "{said}");
}

#[test]
fn diff_prints_the_delta_as_a_document() {
    let (old, new) = (sample("policy.json"), sample("revoked.json"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let delta = run(["policy", "diff", old, new, "--json"]).json();
    assert_eq!((&delta["from"], &delta["revision"]), (&json!(1), &json!(2)));
    assert_eq!(delta["credentials"][0]["id"], "acme-tenant-1");
    let files = Files::new();
    let ran = run(["policy", "diff", old, new, "-o", "-"]);
    assert_eq!((ran.code, ran.stdout), (0, fs::read(files.delta("delta")).unwrap()));
    assert!(ran.stderr.ends_with("written to standard output: 295 bytes\n"), "{}", ran.stderr);
    let message = "`--json` and `-o -` both go to standard output: give `-o` a file";
    run(["policy", "diff", old, new, "--json", "-o", "-"]).fails_with(message);
}

#[test]
fn diff_of_the_same_source_says_so() {
    let old = sample("policy.json");
    let old = old.to_str().unwrap();
    assert_eq!(run(["policy", "diff", old, old]).done(), "no change\n");
    let message = format!("`{old}` has revision 1, which is not after 1 of `{old}`: give it a higher `revision`");
    run(["policy", "diff", old, old, "--json"]).fails_with(&message);
    let files = Files::new();
    let later = files.edited("later.json", "\"revision\": 1,", "\"revision\": 2,");
    let said = run(["policy", "diff", old, &later]).done();
    assert!(said.starts_with("revision 1 -> 2\n  no record changed\n"), "{said}");
}
