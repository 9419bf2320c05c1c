use super::*;
use proptest::prelude::*;

/// Texts of what is usual in a target or a host, of its faults, and long enough for several blocks.
fn text(usual: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        30 => prop::sample::select(usual.as_bytes()),
        1 => prop::sample::select(b"/.?%#;\\:@[]{}|^`\"<> ~_-A\t\x00\x7f\x80\xff".as_slice()),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_plain_target_is_what_a_closer_look_finds(rest in text("/abcdefghijklmnopqrstuvwxyz0123456789")) {
        let target = [b"/".as_slice(), &rest].concat();
        if let Some((path, query)) = plain_target(&target) {
            let (careful, careful_query) = careful_target(&target).map_err(|reason| TestCaseError::fail(reason.name()))?;
            prop_assert_eq!((path.wire, &path.decoded, query), (careful.wire, &careful.decoded, careful_query));
        }
    }

    #[test]
    fn a_plain_host_is_what_a_closer_look_finds(host in text("abcdefghijklmnopqrstuvwxyz0123456789.")) {
        if is_plain_host(&host) {
            prop_assert_eq!(host_name(&host), Some((host.as_slice(), false)));
        }
    }

    #[test]
    fn fields_are_swept_as_byte_by_byte(bytes in text("abcdefghijklmnopqrstuvwxyz-")) {
        let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(b);
        prop_assert_eq!(names_are_tokens(&bytes), bytes.iter().all(is_token));
        let is_control = |b: &u8| matches!(*b, 0..=8 | 10..=31 | 127);
        prop_assert_eq!(has_control(&bytes), bytes.iter().any(is_control));
    }
}

#[test]
fn what_is_usual_needs_no_closer_look() {
    let long = format!("/{}", ["segment"; MAX_SEGMENTS].join("/"));
    for target in ["/", "/a", "/v1/orders/42", "/v1/orders?page=2&sort=-date", "/a?x=[1]&y={}|^`", &long] {
        assert!(plain_target(target.as_bytes()).is_some(), "{target}");
    }
    for host in ["a", "api.example", "xn--caf-dma.example", "10.0.0.1", "a_b.example"] {
        assert!(is_plain_host(host.as_bytes()), "{host}");
    }
}

#[test]
fn what_asks_for_a_closer_look_gets_one() {
    let too_deep = format!("{}/x", ["/segment"; MAX_SEGMENTS].concat());
    let second_block = format!("/{}//", "a".repeat(sweep::BLOCK - 2));
    let between_blocks = format!("/{}/./b", "a".repeat(sweep::BLOCK - 2));
    for target in [
        "",
        "a",
        "//",
        "/a/",
        "/a//b",
        "/./a",
        "/a/..",
        "/%41",
        "/a;b",
        "/a#b",
        "/a b",
        "/a\\b",
        "/[a]",
        "/a?%zz",
        "/a?b;c",
        "/\u{e9}",
        "/a?\u{e9}",
        "/a\u{7f}",
        &too_deep,
        &second_block,
        &between_blocks,
    ] {
        assert!(plain_target(target.as_bytes()).is_none(), "{target}");
    }
    let too_long = "a".repeat(sweep::BLOCK + 1);
    for host in ["", ".", ".a", "a.", "a..b", "A.example", "a:80", "[::1]", "a b", "a%41", "\u{e9}", &too_long] {
        assert!(!is_plain_host(host.as_bytes()), "{host}");
    }
}
