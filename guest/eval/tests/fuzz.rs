//! The bodies of the fuzz targets over inputs made at random, so that every run of the tests has them.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "these are tests")]

#[expect(unreachable_pub, reason = "there it is a crate")]
#[path = "../../../tests/fuzz/src/lib.rs"]
mod bodies;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn policy(first: u8, words in words()) {
        bodies::policy(&[&[first], words.as_slice()].concat());
    }

    #[test]
    fn delta(first: u8, words in words()) {
        bodies::delta(&[&[first], words.as_slice()].concat());
    }

    #[test]
    fn head(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bodies::head(&bytes);
    }

    #[test]
    fn a_likely_head(lines in prop::collection::vec(line(), 3..15)) {
        bodies::head(lines.join("\n").as_bytes());
    }

    #[test]
    fn signature(authorization in part(), query in part(), at: prop::sample::Index, byte: u8) {
        let mut bytes = format!("{authorization}\n{query}").into_bytes();
        bodies::signature(&bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bodies::signature(&bytes);
    }

    #[test]
    fn an_access_token(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bodies::token(&bytes);
    }

    #[test]
    fn a_likely_access_token(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, token()), 0..3),
    ) {
        let mut lines = TOKEN.to_vec();
        for (at, gone, put) in edits {
            let at = at.index(lines.len());
            let end = (at + gone).min(lines.len());
            lines.splice(at..end, put.bytes());
        }
        bodies::token(&lines);
    }

    #[test]
    fn source(edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, token()), 0..4)) {
        let mut json = bodies::SMALL.to_vec();
        for (at, gone, put) in edits {
            let at = at.index(json.len());
            let end = (at + gone).min(json.len());
            json.splice(at..end, put.bytes());
        }
        bodies::source(&json);
    }
}

/// Parts of an authorization or of a presigned query, more or less in their order.
fn part() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "ANTAVO-HMAC-SHA256 ",
        "ESR-HMAC-SHA256 ",
        "LNG-HMAC-SHA512 ",
        "AWS4-HMAC-SHA256 ",
        "Credential=",
        "AK-acme-antavo-01/20260528/eu/api/antavo_request",
        "AK-globex-escher-01/20260528/eu/shop/ems_request",
        ", ",
        ",",
        "SignedHeaders=",
        "date;host",
        "host;x-escher-date",
        "host",
        "Signature=",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "X-Escher-Algorithm=ESR-HMAC-SHA256",
        "&X-Escher-Credentials=AK-globex-escher-01%2F20260528%2Feu%2Fshop%2Fems_request",
        "&X-Escher-Date=20260528T202640Z",
        "&X-Escher-Expires=60",
        "&X-Escher-SignedHeaders=host",
        "&X-Escher-Signature=0000000000000000000000000000000000000000000000000000000000000000",
        "&x-escher-signature=",
        "&X-Escher-Signature[]=1",
        "%",
        "=",
        ";",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}
/// A header and claims that the gate takes.
const TOKEN: &[u8] = br#"{"typ":"at+jwt","alg":"EdDSA","kid":"EdDSA-1"}
{"iss":"https://acme.shop.example","sub":"cl-acme-01","client_id":"cl-acme-01","aud":["shop"],"scope":"events.read","iat":1779999990,"exp":1780000900,"jti":"t-1","secret_version":2}"#;

/// Places of a fragment and words for them: small numbers, offsets, the ends.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![0u32..16, 0u32..2300, Just(u32::MAX), any::<u32>()];
    let entry = (0u16..2300, word).prop_map(|(at, word)| {
        let mut entry = (at / 4 * 4).to_le_bytes().to_vec();
        entry.extend(word.to_le_bytes());
        entry
    });
    prop::collection::vec(entry, 0..20).prop_map(|entries| entries.concat())
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "GET",
            "POST",
            "get",
            "TRACE",
            "/v1/events",
            "/v1/events/%41",
            "/v1/apps/web?x=1&y",
            "/v1/private?api_key=key-three",
            "/v1/./a",
            "/v1//a",
            "/v1/caf%C3%A9",
            "api.example",
            "API.example:443",
            "host",
            "Host",
            "x-api-key",
            "X_API_Key",
            "key-one",
            "authorization",
            "ManagementKey-v1 key-two",
            "connection",
            "close, x-api-key",
            "x-forwarded-for",
            "date",
            "",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,20}",
        "/v1/[a-z/.%0-9?&=;]{0,20}",
    ]
}

fn token() -> impl Strategy<Value = String> {
    let tokens = [
        "", "\"", ",", "[]", "{}", "0", "9", "null", "/", "{x}", "*.", "true", "-", "%", "GET", "\\u0000", "shop",
        "acme",
    ];
    prop::sample::select(tokens.to_vec()).prop_map(str::to_owned)
}
