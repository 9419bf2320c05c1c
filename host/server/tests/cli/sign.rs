//! Requests signed from the command line. The signatures are those of the test suite that Escher's libraries share.

use crate::command::{Files, Ran, run_in};

const PROFILE: &str = r#"{
    "id": "ems", "algorithm_prefix": "EMS", "vendor_key": "EMS", "auth_header": "X-Ems-Auth", "date_header": "X-Ems-Date",
    "credential_scope": "us-east-1/iam/aws4_request", "canonical_form": "escher"
}"#;
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const PAIR: [(&str, &str); 2] = [("PORTCULLIS_SIGNING_KEY", "AKIDEXAMPLE"), ("PORTCULLIS_SIGNING_SECRET", SECRET)];

fn sign(vars: &[(&str, &str)], args: &[&str]) -> Ran {
    run_in(vars, ["sign"].iter().chain(args), b"Action=ListUsers&Version=2010-05-08")
}

const ASK: [&str; 9] = [
    "-X",
    "POST",
    "-H",
    "Content-Type: application/x-www-form-urlencoded; charset=utf-8",
    "--body",
    "-",
    "--at",
    "2011-09-09T23:36:00Z",
    "https://iam.amazonaws.com/",
];

const SIGNED: &str = "X-Ems-Date: 20110909T233600Z\nX-Ems-Auth: EMS-HMAC-SHA256 \
    Credential=AKIDEXAMPLE/20110909/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-ems-date, \
    Signature=f36c21c6e16a71a6e8dc56673ad6354aeef49c577a22fd58a190b5fcf8891dbd\n";

#[test]
fn a_request_gets_a_date_and_a_signature() {
    let files = Files::new();
    let profile = files.put("ems.json", PROFILE);
    let args = [&["--profile", profile.as_str()][..], &ASK[..]].concat();
    assert_eq!(sign(&PAIR, &args).done(), SIGNED);
}

#[test]
fn the_pair_may_be_in_files() {
    let files = Files::new();
    let profile = files.put("ems.json", PROFILE);
    let (key, secret) = (files.put("key", "AKIDEXAMPLE\n"), files.put("secret", SECRET));
    let args = [&["--profile", profile.as_str(), "--key", &key, "--secret", &secret][..], &ASK[..]].concat();
    assert_eq!(sign(&[], &args).done(), SIGNED);
}

#[test]
fn what_is_missing_is_told_and_the_secret_never() {
    let url = "https://a.example/";
    for (vars, args, what) in [
        (&PAIR[..0], &["--profile", "antavo", "--region", "eu", url][..], "there is no key id"),
        (&PAIR[..1], &["--profile", "antavo", "--region", "eu", url], "there is no secret"),
        (&PAIR, &["--profile", "antavo", url], "the profile needs a region"),
        (&PAIR, &["--profile", "escher", url], "the profile needs a scope"),
        (&PAIR, &["--profile", "aws", "--region", "eu", url], "the profile needs a service"),
        (&PAIR, &["--profile", "antavo", "--region", "eu", "--presign", "2d", url], "the profile accepts no URL"),
    ] {
        let ran = sign(vars, args);
        assert!(ran.code == 2 && ran.stderr.starts_with(&format!("error: {what}")), "{ran:?}");
        assert!(!ran.stderr.contains(SECRET));
    }
}

#[test]
fn a_url_is_signed_as_a_whole_but_for_its_fragment() {
    let args = ["--profile", "antavo", "--region", "eu", "--at", "2026-03-07T12:34:56Z", "--presign", "1h"];
    let url = sign(&PAIR, &[&args[..], &["https://a.example/x?y=1#part"]].concat()).done();
    let start =
        "https://a.example/x?y=1&X-Antavo-Algorithm=ANTAVO-HMAC-SHA256&X-Antavo-Credentials=AKIDEXAMPLE%2F20260307%2F";
    assert!(url.starts_with(start) && !url.contains('#'), "{url}");
}

#[test]
fn a_fragment_is_not_signed_in_the_header_form_either() {
    let args = ["--profile", "antavo", "--region", "eu", "--at", "2026-03-07T12:34:56Z"];
    let made = |url: &str| sign(&PAIR, &[&args[..], &[url]].concat()).done();
    assert_eq!(made("https://a.example/x?y=1#part"), made("https://a.example/x?y=1"));
}

#[test]
fn a_command_of_curl_sends_what_was_signed() {
    let files = Files::new();
    let (profile, body) = (files.put("ems.json", PROFILE), files.put("it's", "Action=ListUsers&Version=2010-05-08"));
    let ask = ["-X", "POST", "-H", "X-Note: it's", "--body", &body, "--at", "2011-09-09T23:36:00Z", "--curl"];
    let args = [&["--profile", profile.as_str()][..], &ask[..], &["https://iam.amazonaws.com/a[b]"]].concat();
    let made = sign(&PAIR, &args).done();
    let start = "curl --globoff --path-as-is -X 'POST' -H 'X-Note: it'\\''s' -H 'X-Ems-Date: 20110909T233600Z' -H 'X-Ems-Auth: ";
    assert!(made.starts_with(start), "{made}");
    assert!(made.ends_with("it'\\''s' 'https://iam.amazonaws.com/a[b]'\n"), "{made}");
    assert!(!made.contains(SECRET));
}

#[test]
fn what_was_signed_is_explained_on_standard_error_and_in_json() {
    let files = Files::new();
    let profile = files.put("ems.json", PROFILE);
    let args = [&["--profile", profile.as_str()][..], &ASK[..]].concat();
    let ran = sign(&PAIR, &[&args[..], &["--explain"]].concat());
    assert_eq!((ran.code, ran.text()), (0, SIGNED));
    let json = sign(&PAIR, &[&args[..], &["--json"]].concat()).json();
    let (canonical, string) = (json["canonical_request"].as_str().unwrap(), json["string_to_sign"].as_str().unwrap());
    assert!(
        canonical.starts_with("POST\n/\n\ncontent-type:") && string.starts_with("EMS-HMAC-SHA256\n20110909T233600Z\n")
    );
    assert_eq!(ran.stderr, format!("canonical request:\n{canonical}\n\nstring to sign:\n{string}\n"));
    assert_eq!(json["signature"], "f36c21c6e16a71a6e8dc56673ad6354aeef49c577a22fd58a190b5fcf8891dbd");
    assert!(!json.to_string().contains(SECRET) && !ran.stderr.contains(SECRET));
}
