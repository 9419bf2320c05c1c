//! What the normaliser refuses, one test for each refusal that the design names and for each mistake others have made.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::answer::{Details, Place};
use portcullis_model::credential::Kind;
use portcullis_model::head::RequestHead;
use portcullis_model::policy::build;
use portcullis_model::source::{Presentation, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};
use proptest::prelude::*;

const SMALL: &[u8] = include_bytes!("../../model/tests/policy/small.json");
const HOST: (&str, &str) = ("host", "api.example");
const KEY: (&str, &str) = ("X-API-Key", "key-one");

fn gate_of(change: impl FnOnce(&mut Source)) -> Gate {
    let mut source = Source::from_json(SMALL).unwrap();
    change(&mut source);
    let mut gate = Gate::default();
    gate.load(build(&source).unwrap()).unwrap();
    gate.confirm(now());
    gate
}

fn gate() -> Gate {
    gate_of(|_| {})
}

fn now() -> UnixTime {
    UnixTime::from_secs(1_780_000_000).unwrap()
}

struct Ask<'a> {
    method: &'a str,
    authority: Option<&'a str>,
    target: &'a [u8],
    headers: &'a [(&'a str, &'a str)],
}

const ASK: Ask<'static> = Ask { method: "GET", authority: None, target: b"/v1/events", headers: &[HOST, KEY] };

fn decide_with<T>(gate: &Gate, ask: &Ask<'_>, read: impl FnOnce(Verdict, Details<'_>) -> T) -> T {
    let headers: Vec<_> = ask.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let head = RequestHead {
        secure: true,
        peer: "192.0.2.1".parse().unwrap(),
        method: ask.method.as_bytes(),
        authority: ask.authority.map(str::as_bytes),
        target: ask.target,
        headers: &headers,
        bodiless: false,
    };
    let head = head.pack().unwrap();
    let mut out = Vec::new();
    let input = Input { head: &head, now: now(), body_digest: None, replay: None };
    let verdict = gate.decide(input, &mut Silent, &mut out);
    read(verdict, Details::unpack(&out).unwrap())
}

fn decide(gate: &Gate, ask: &Ask<'_>) -> Result<(), Reason> {
    match decide_with(gate, ask, |verdict, _| verdict) {
        Verdict::Allow => Ok(()),
        Verdict::Deny(reason) => Err(reason),
        Verdict::NeedBody(_) => panic!("no body is needed"),
    }
}

#[track_caller]
fn check_target(target: impl AsRef<[u8]>, expected: Result<(), Reason>) {
    let target = target.as_ref();
    let found = decide(&gate(), &Ask { target, ..ASK });
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(target));
}

#[track_caller]
fn check_headers(headers: &[(&str, &str)], expected: Result<(), Reason>) {
    assert_eq!(decide(&gate(), &Ask { headers, ..ASK }), expected, "{headers:?}");
}

#[test]
fn a_plain_request_is_allowed() {
    check_target("/v1/events", Ok(()));
    check_target("/v1/events/caf%C3%A9%20x?a=1&b=%2F%25%7B{}|", Ok(()));
    check_target("/v1/events/a!$&'()*+,=:@-._~", Ok(()));
    check_target("/v1/events?", Ok(()));
}

#[test]
fn empty_segments_are_refused() {
    for target in ["//v1/events", "/v1//events", "/v1/events/", "/v1/events//", "//"] {
        check_target(target, Err(Reason::PathEmptySegment));
    }
}

#[test]
fn dot_segments_are_refused() {
    for target in ["/v1/./events", "/v1/../v1/events", "/v1/events/.", "/v1/events/..", "/..", "/.?x"] {
        check_target(target, Err(Reason::PathDotSegment));
    }
    for target in ["/v1/events/%2e", "/v1/%2e%2E/events", "/v1/events/.%2e"] {
        check_target(target, Err(Reason::PathEncodedUnreserved));
    }
    // Three dots are a name.
    check_target("/v1/events/...", Ok(()));
}

#[test]
fn encoded_slashes_and_backslashes_are_refused_in_paths() {
    for target in ["/v1%2fevents", "/v1/events%2F", "/v1/events%5c..", "/v1/events%5C"] {
        check_target(target, Err(Reason::PathEncodedSlash));
    }
    check_target("/v1/events?next=%2Fa%5Cb", Ok(()));
}

#[test]
fn backslashes_are_refused() {
    for target in ["/v1\\events", "/v1/events?a=\\", "/v1/..\\..\\events"] {
        check_target(target, Err(Reason::TargetBackslash));
    }
}

#[test]
fn nul_is_refused() {
    for target in ["/v1/events%00", "/v1/events?a=%00"] {
        check_target(target, Err(Reason::EncodedNul));
    }
    for target in ["/v1/events\0", "/v1/events?\0"] {
        check_target(target, Err(Reason::TargetCharacter));
    }
    check_headers(&[HOST, KEY, ("x-note", "a\0b")], Err(Reason::HeaderMalformed));
}

#[test]
fn encoded_unreserved_characters_are_refused_in_paths() {
    for target in
        ["/v1/%65vents", "/v1/event%73", "/v1/events/%30", "/v1/events/%2d", "/v1/events/%5f", "/v1/events/%7E"]
    {
        check_target(target, Err(Reason::PathEncodedUnreserved));
    }
}

#[test]
fn encoded_percent_is_refused_in_paths() {
    for target in ["/v1/events/%25", "/v1/%252e%252e/events"] {
        check_target(target, Err(Reason::PathEncodedPercent));
    }
}

#[test]
fn malformed_percent_is_refused() {
    for target in
        ["/v1/events/%", "/v1/events/%4", "/v1/events/%zz", "/v1/events/%+1", "/v1/events?a=%", "/v1/events?a=%f"]
    {
        check_target(target, Err(Reason::PercentMalformed));
    }
}

#[test]
fn semicolons_and_fragments_are_refused() {
    for target in ["/v1/events;v=1", "/v1/events?a=1;b=2"] {
        check_target(target, Err(Reason::TargetSemicolon));
    }
    for target in ["/v1/events#a", "/v1/events?a#b"] {
        check_target(target, Err(Reason::TargetFragment));
    }
}

#[test]
fn what_is_not_ascii_or_no_character_of_a_target_is_refused() {
    check_target("/v1/caf\u{e9}", Err(Reason::TargetNotAscii));
    check_target("/v1/events?caf\u{e9}", Err(Reason::TargetNotAscii));
    check_target(b"/v1/\xff", Err(Reason::TargetNotAscii));
    check_target("/v1/events/%ff", Err(Reason::PathNotUtf8));
    check_target("/v1/events/%0a", Err(Reason::PathEncodedControl));
    for target in ["/v1/events x", "/v1/events\t", "/v1/{events}", "/v1/events?\"", "/v1/events?<a>"] {
        check_target(target, Err(Reason::TargetCharacter));
    }
    for target in ["", "*", "v1/events", "http://api.example/v1/events", "?/v1"] {
        check_target(target, Err(Reason::TargetNotOrigin));
    }
}

#[test]
fn a_path_of_more_segments_than_64_is_refused() {
    let path = |segments: usize| format!("/v1{}", "/a".repeat(segments - 1));
    check_target(path(64), Err(Reason::GroupLacksEndpoint));
    check_target(path(65), Err(Reason::PathTooDeep));
}

#[test]
fn methods_are_exact() {
    for (method, expected) in [
        ("get", Reason::MethodMalformed),
        ("Get", Reason::MethodMalformed),
        ("", Reason::MethodMalformed),
        ("GET ", Reason::MethodMalformed),
        ("GE\0T", Reason::MethodMalformed),
        ("TRACE", Reason::MethodRefused),
        ("CONNECT", Reason::MethodRefused),
        ("PROPFIND", Reason::MethodNotAllowed),
        ("PUT", Reason::MethodNotAllowed),
    ] {
        // Only the prefix of `rest` takes PUT here, so ask where nothing else is.
        let found = decide(&gate_of(|source| drop(source.services[0].endpoints.pop())), &Ask { method, ..ASK });
        assert_eq!(found, Err(expected), "{method:?}");
    }
}

#[test]
fn a_host_unlike_the_authority_is_refused() {
    let check = |authority, headers: &[(&str, &str)], expected| {
        assert_eq!(decide(&gate(), &Ask { authority, headers, ..ASK }), expected, "{authority:?} {headers:?}");
    };
    check(Some("api.example"), &[HOST, KEY], Ok(()));
    check(Some("API.example"), &[HOST, KEY], Ok(()));
    check(Some("api.example"), &[KEY], Ok(()));
    check(Some("other.example"), &[HOST, KEY], Err(Reason::HostMismatch));
    check(Some("api.example:443"), &[HOST, KEY], Err(Reason::HostMismatch));
    check(None, &[KEY], Err(Reason::HostMissing));
}

#[test]
fn a_host_that_is_no_host_is_refused() {
    for host in [
        "",
        "api.example.",
        ".api.example",
        "api..example",
        "api.example:",
        "api.example:x",
        "api.example:123456",
        "user@api.example",
        "api.example/v1",
        "api.example,api.example",
        "*.example",
        "[::1",
        "::1",
        "[api.example]",
        "api.ex\u{e1}mple",
        "api example",
    ] {
        check_headers(&[("host", host), KEY], Err(Reason::HostMalformed));
    }
    for host in ["api.example:8443", "API.EXAMPLE", " api.example "] {
        check_headers(&[("host", host), KEY], Ok(()));
    }
    check_headers(&[("host", &"a".repeat(254)), KEY], Err(Reason::HostMalformed));
    check_headers(&[("host", &"a".repeat(253)), KEY], Err(Reason::ServiceUnknown));
}

#[test]
fn doubled_fields_are_refused_even_where_they_agree() {
    check_headers(&[HOST, KEY, HOST], Err(Reason::HostDoubled));
    let date = ("Date", "Sat, 07 Mar 2026 12:34:56 GMT");
    check_headers(&[HOST, KEY, date], Ok(()));
    check_headers(&[HOST, date, KEY, ("date", date.1)], Err(Reason::DateDoubled));
    let authorization = ("authorization", "ManagementKey-v1 key-two");
    check_headers(&[HOST, authorization, ("AUTHORIZATION", authorization.1)], Err(Reason::AuthorizationDoubled));
    check_headers(&[HOST, KEY, KEY], Err(Reason::CredentialDoubled));
    check_headers(&[HOST, KEY, ("x-api-key", "other")], Err(Reason::CredentialDoubled));
    check_headers(&[HOST, ("x-api-key", "key-one, key-one")], Err(Reason::CredentialMalformed));
}

#[test]
fn a_doubled_or_disguised_key_parameter_is_refused() {
    let check = |query: &str, expected| {
        let target = format!("/v1/events?{query}");
        let found = decide(&gate(), &Ask { target: target.as_bytes(), headers: &[HOST], ..ASK });
        assert_eq!(found, expected, "{query}");
    };
    check("api_key=key-three", Ok(()));
    check("a=b&api_key=key%2Dthree&c", Ok(()));
    check("api_key=key-three&api_key=key-three", Err(Reason::CredentialDoubled));
    check("api_key=&api_key", Err(Reason::CredentialDoubled));
    for disguise in
        ["API_KEY=x", "api%5Fkey=x", "api_key[]=x", "api_key%5B0%5D=x", "+api_key=x", "api_key%20=x", "%61pi_key"]
    {
        check(disguise, Err(Reason::QueryDisguisedKey));
        check(&format!("api_key=key-three&{disguise}"), Err(Reason::QueryDisguisedKey));
    }
    check("xapi_key=key-three&api_keys=key-three&api=key-three", Err(Reason::CredentialMissing));
}

#[test]
fn two_credentials_at_once_are_refused() {
    let management = ("authorization", "ManagementKey-v1 key-two");
    check_headers(&[HOST, KEY, management], Err(Reason::CredentialsTwo));
    let with_parameter = Ask { target: b"/v1/events?api_key=key-three", ..ASK };
    assert_eq!(decide(&gate(), &with_parameter), Err(Reason::CredentialsTwo));
    // What the service does not accept is no credential.
    check_headers(&[HOST, KEY, ("authorization", "Basic a2V5OnR3bw==")], Ok(()));
}

#[test]
fn connection_must_not_name_a_security_field() {
    for option in [
        "host",
        "Date",
        "authorization",
        "x-api-key",
        "X_API_Key",
        "Forwarded",
        "x-forwarded-for",
        "x-portcullis-tenant",
    ] {
        for value in
            [option.to_owned(), format!("close, {option}"), format!("{option} ,keep-alive"), format!(",\t{option}")]
        {
            check_headers(&[HOST, KEY, ("Connection", &value)], Err(Reason::ConnectionSecurity));
            check_headers(&[("connection", &value), HOST, KEY], Err(Reason::ConnectionSecurity));
        }
    }
    check_headers(&[HOST, KEY, ("Connection", "close, x-other, upgrade")], Ok(()));
    check_headers(&[HOST, KEY, ("Connection", "close"), ("Connection", "x-api-key")], Err(Reason::ConnectionSecurity));
}

#[test]
fn connection_must_not_name_a_key_field_as_long_as_itself() {
    let gate = gate_of(|source| {
        source.services[0].accept[0].header = Some("X-Acme-Key".to_owned());
        assert_eq!("X-Acme-Key".len(), "Connection".len());
    });
    let headers = [HOST, ("x-acme-key", "key-one"), ("connection", "close, x-acme-key")];
    assert_eq!(decide(&gate, &Ask { headers: &headers, ..ASK }), Err(Reason::ConnectionSecurity));
    assert_eq!(decide(&gate, &Ask { headers: &headers[..2], ..ASK }), Ok(()));
}

#[test]
fn underscores_for_hyphens_in_a_security_field_are_refused() {
    for name in
        ["X_API_Key", "x-api_key", "X_Forwarded_For", "x-forwarded_for", "x_portcullis_tenant", "X-Portcullis_Kind"]
    {
        check_headers(&[HOST, KEY, (name, "a")], Err(Reason::HeaderUnderscore));
        check_headers(&[HOST, (name, "a")], Err(Reason::HeaderUnderscore));
    }
    check_headers(&[HOST, KEY, ("x_note", "a"), ("x_api", "b")], Ok(()));
}

#[test]
fn inbound_portcullis_fields_name_nobody() {
    let headers = [HOST, KEY, ("X-Portcullis-Tenant", "bolt"), ("x-portcullis-credential", "k4")];
    decide_with(&gate(), &Ask { headers: &headers, ..ASK }, |verdict, details| {
        assert_eq!(verdict, Verdict::Allow);
        let set: Vec<_> = details.headers_to_set().collect();
        assert_eq!(set[..2], [("x-portcullis-tenant", "acme"), ("x-portcullis-credential", "k1")]);
        assert_eq!(details.strip, Some(Place::Header("x-api-key")));
    });
    check_headers(&headers[2..].iter().chain([&HOST]).copied().collect::<Vec<_>>(), Err(Reason::CredentialMissing));
}

#[test]
fn fields_that_are_no_fields_are_refused() {
    for name in ["x note", "x:note", "x(note)", "x\u{e9}", "x\n", "x\0"] {
        check_headers(&[HOST, KEY, (name, "a")], Err(Reason::HeaderMalformed));
    }
    for value in ["a\nb", "a\rb", "\x7f", "a\x1b"] {
        check_headers(&[HOST, KEY, ("x-note", value)], Err(Reason::HeaderMalformed));
    }
    // Every character of a token may stand in a name, digits too; tabs and what lies beyond ASCII in a value.
    check_headers(&[HOST, KEY, ("x-1!#$%&'*+.^`|~2", "a\tb \u{e9}")], Ok(()));
}

// Mistakes that other implementations made.

#[test]
fn text_after_a_second_equals_sign_is_part_of_the_value() {
    let check = |target: &str, expected| {
        let found = decide(&gate(), &Ask { target: target.as_bytes(), headers: &[HOST], ..ASK });
        assert_eq!(found, expected, "{target}");
    };
    check("/v1/events?api_key=key-three", Ok(()));
    check("/v1/events?api_key=key-three=", Err(Reason::CredentialUnknown));
    check("/v1/events?api_key=key-three=x", Err(Reason::CredentialUnknown));
    check("/v1/events?a=api_key=key-three", Err(Reason::CredentialMissing));
}

#[test]
fn a_query_of_0_is_no_empty_query_and_an_empty_one_hides_nothing() {
    decide_with(&gate(), &Ask { target: b"/v1/events?0", ..ASK }, |verdict, details| {
        assert_eq!((verdict, details.facts.path), (Verdict::Allow, "/v1/events"));
    });
    check_target("/v1/events?0=api_key", Ok(()));
    check_target("/v1/events??api_key=key-three", Ok(()));
}

#[test]
fn dots_are_deleted_nowhere() {
    // `/foo./bar` is not `/foobar`.
    check_target("/v1/events./7", Err(Reason::GroupLacksEndpoint));
    check_target("/v1/eve./nts", Err(Reason::GroupLacksEndpoint));
    check_target("/v1/.events", Err(Reason::GroupLacksEndpoint));
}

#[test]
fn two_paths_to_one_endpoint_do_not_differ_in_their_address_rules() {
    // With dot segments removed these would be the private service, whose endpoint has ranges of its own.
    for target in ["/v1/x/../private", "/v1/./private", "/v1//private", "/v1/%70rivate"] {
        let found = decide(&gate(), &Ask { target: target.as_bytes(), ..ASK });
        assert!(found.is_err_and(|reason| reason.status() == 400), "{target}: {found:?}");
    }
    check_target("/v1/private", Err(Reason::AddressNotInEndpoint));
}

#[test]
fn junk_around_the_key_is_not_tolerated() {
    let check = |value: &str, expected| {
        let headers = [HOST, ("authorization", value)];
        let found = decide(&gate(), &Ask { target: b"/v1/apps/web", headers: &headers, ..ASK });
        assert_eq!(found, expected, "{value:?}");
    };
    check("ManagementKey-v1 key-two", Ok(()));
    check("managementkey-V1 \t key-two ", Ok(()));
    check("ManagementKey-v1 key-two x", Err(Reason::CredentialMalformed));
    check("ManagementKey-v1 key-two,", Err(Reason::CredentialUnknown));
    check("ManagementKey-v1 key-two, ManagementKey-v1 key-two", Err(Reason::CredentialMalformed));
    check("ManagementKey-v1 \"key-two\"", Err(Reason::CredentialUnknown));
    check("ManagementKey-v1", Err(Reason::CredentialMalformed));
    check("ManagementKey-v1 ", Err(Reason::CredentialMalformed));
    check("ManagementKey-v1key-two", Err(Reason::CredentialMissing));
    check("x ManagementKey-v1 key-two", Err(Reason::CredentialMissing));
    check("", Err(Reason::CredentialMissing));
}

#[test]
fn an_empty_long_or_odd_key_is_malformed() {
    check_headers(&[HOST, ("x-api-key", "")], Err(Reason::CredentialMalformed));
    check_headers(&[HOST, ("x-api-key", "key one")], Err(Reason::CredentialMalformed));
    check_headers(&[HOST, ("x-api-key", "key-on\u{e9}")], Err(Reason::CredentialMalformed));
    check_headers(&[HOST, ("x-api-key", &"k".repeat(512))], Err(Reason::CredentialUnknown));
    check_headers(&[HOST, ("x-api-key", &"k".repeat(513))], Err(Reason::CredentialMalformed));
}

#[test]
fn an_unknown_key_gets_the_answer_of_a_wrong_one() {
    let answers = ["key-four", "nobody's", "key-one\t\t", "kee y"].map(|key| {
        let headers = [HOST, ("x-api-key", key)];
        decide_with(&gate(), &Ask { headers: &headers, ..ASK }, |verdict, details| match verdict {
            Verdict::Deny(reason) => Some((reason.status(), reason.public_code(), details.challenge.to_owned())),
            Verdict::Allow | Verdict::NeedBody(_) => None,
        })
    });
    assert!(answers[0].is_some() && answers[2].is_none());
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[3]);
}

fn presentation() -> impl Strategy<Value = Presentation> {
    let kinds = vec![Kind::Tenant, Kind::Workspace, Kind::Management];
    (0u8..3, "[A-Za-z][A-Za-z0-9-]{0,14}").prop_map(move |(place, name)| {
        let mut presentation = Presentation { kinds: kinds.clone(), ..Presentation::default() };
        match place {
            0 => presentation.header = Some(name),
            1 => presentation.parameter = Some(name),
            _ => presentation.scheme = Some(name),
        }
        presentation
    })
}

proptest! {
    #[test]
    fn no_head_makes_a_decision_panic(
        method in "[A-Za-z -]{0,8}",
        authority in prop::option::of("[a-zA-Z0-9.:\\[\\]-]{0,20}"),
        target in prop::collection::vec(any::<u8>(), 0..60),
        headers in prop::collection::vec(("[!-~]{0,16}", "[ -~\t]{0,30}"), 0..12),
    ) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let ask = Ask { method: &method, authority: authority.as_deref(), target: &target, headers: &headers };
        prop_assert!(decide(&gate(), &ask).is_err());
    }

    /// Whatever the names, a key in its place is found, alone it is enough, and twice it is refused.
    #[test]
    fn a_key_is_found_in_its_place_whatever_the_service_calls_it(accept in presentation(), noise in "[a-z]{1,9}") {
        let mut source = Source::from_json(SMALL).unwrap();
        source.services[0].accept = vec![accept.clone()];
        prop_assume!(build(&source).is_ok());
        let gate = gate_of(|changed| *changed = source);
        let (name, value, target);
        let (field, query) = match (&accept.header, &accept.parameter, &accept.scheme) {
            (Some(header), _, _) => {
                name = header.to_ascii_uppercase();
                (Some((name.as_str(), "key-one")), "")
            }
            (_, Some(parameter), _) => {
                target = format!("{parameter}=key-one");
                (None, target.as_str())
            }
            (_, _, scheme) => {
                value = format!("{} key-one", scheme.as_deref().unwrap_or_default());
                (Some(("authorization", value.as_str())), "")
            }
        };
        let other = format!("x-noise-{noise}");
        let headers: Vec<_> = [HOST, (other.as_str(), "1")].into_iter().chain(field).collect();
        let ask = |query: &str, headers: &[(&str, &str)]| {
            decide(&gate, &Ask { target: format!("/v1/events?0=1&{query}").as_bytes(), headers, ..ASK })
        };
        prop_assert_eq!(ask(query, &headers), Ok(()));
        let twice: Vec<_> = headers.iter().copied().chain(field).collect();
        let query_twice = if query.is_empty() { String::new() } else { format!("{query}&{query}") };
        let refused = ask(&query_twice, &twice);
        prop_assert!(matches!(refused, Err(Reason::CredentialDoubled | Reason::AuthorizationDoubled)), "{:?}", refused);
        if let (Some(header), Some(_)) = (&accept.header, field) {
            let named: Vec<_> = headers.iter().copied().chain([("Connection", header.as_str())]).collect();
            prop_assert_eq!(ask(query, &named), Err(Reason::ConnectionSecurity));
        }
    }
}
