//! The verdict and the closed list of reasons.

use std::fmt;

use crate::head::HeadTooLarge;
use crate::policy::Unreadable;

/// May this caller use this endpoint now?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No, for exactly one reason: the first that the order of checks came upon.
    Deny(Reason),
    /// Not before the body's digest is known. Given only once everything that can be checked without it has passed.
    NeedBody(NeedBody),
}

/// The digest that a verdict waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeedBody {
    /// The hash to compute over the exact bytes that will be forwarded.
    pub algorithm: DigestAlgorithm,
    /// The longest body in bytes that is worth reading; a longer one is refused with status 413.
    pub cap_bytes: u32,
}

/// A hash over a request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// What a caller may learn of a denial: a coarse, stable code. The reason itself goes to the audit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PublicCode {
    /// The request line or target is refused.
    BadTarget,
    /// The method is refused.
    BadMethod,
    /// A header field is refused.
    BadHeader,
    /// Host is missing, doubled, malformed or unlike the authority.
    BadHost,
    /// More than one credential, or one given twice.
    AmbiguousCredential,
    /// The head exceeds a limit.
    TooLarge,
    /// No usable credential. Unknown, wrong, revoked and expired look the same.
    Unauthorized,
    /// Nothing is guarded here under that name.
    NoSuchEndpoint,
    /// The endpoint has no such method.
    MethodNotAllowed,
    /// The credential may not use this endpoint.
    Forbidden,
    /// The access token lacks a scope (RFC 6750 section 3.1).
    InsufficientScope,
    /// The client's address is not permitted.
    AddressForbidden,
    /// The gate cannot decide at present.
    Unavailable,
}

impl PublicCode {
    /// The code as it is sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PublicCode::BadTarget => "bad_target",
            PublicCode::BadMethod => "bad_method",
            PublicCode::BadHeader => "bad_header",
            PublicCode::BadHost => "bad_host",
            PublicCode::AmbiguousCredential => "ambiguous_credential",
            PublicCode::TooLarge => "too_large",
            PublicCode::Unauthorized => "unauthorized",
            PublicCode::NoSuchEndpoint => "no_such_endpoint",
            PublicCode::MethodNotAllowed => "method_not_allowed",
            PublicCode::Forbidden => "forbidden",
            PublicCode::InsufficientScope => "insufficient_scope",
            PublicCode::AddressForbidden => "address_forbidden",
            PublicCode::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for PublicCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes the closed list from one table: number, variant, name, status, public code, text.
macro_rules! reasons {
    ($($number:literal $variant:ident $name:literal $status:literal $code:ident $text:literal)*) => {
        /// Why a request is denied. The list is closed; a number is never given a second meaning.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reason {
            $(#[doc = $text] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the checks.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),*];

            /// The number that stands for the reason in packed forms.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Reason::$variant => $number,)* }
            }

            /// The reason with that number.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Reason> {
                match number { $($number => Some(Reason::$variant),)* _ => None }
            }

            /// The reason's name, for the audit: lower case with hyphens.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// The HTTP status of the denial.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Reason::$variant => $status,)* }
            }

            /// What the caller learns.
            #[must_use]
            pub fn public_code(self) -> PublicCode {
                match self { $(Reason::$variant => PublicCode::$code,)* }
            }

            /// What an administrator learns, in one sentence.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Reason::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    // The gate itself.
    1  PolicyMissing          "policy-missing"          503 Unavailable "no policy has been loaded"
    2  PolicyStale            "policy-stale"            503 Unavailable "the policy was not confirmed within its maximum staleness, or the clock is wrong"
    3  PolicyUnreadable       "policy-unreadable"       503 Unavailable "a part of the policy cannot be read"

    // The head.
    10 HeadMalformed          "head-malformed"          400 BadTarget "the host handed over something that is not a packed head"
    11 HeadTooLarge           "head-too-large"          431 TooLarge  "the head exceeds the limit of bytes or header fields"
    12 TargetTooLong          "target-too-long"         414 TooLarge  "the target exceeds its limit"
    13 MethodMalformed        "method-malformed"        400 BadMethod "the method is not upper-case letters"
    14 MethodRefused          "method-refused"          400 BadMethod "TRACE and CONNECT are never passed on"

    // The target.
    20 TargetNotOrigin        "target-not-origin"       400 BadTarget "the target does not begin with a slash"
    21 TargetCharacter        "target-character"        400 BadTarget "the target has a control character, a space or a character that a URI cannot have"
    22 TargetNotAscii         "target-not-ascii"        400 BadTarget "the target has a byte beyond ASCII that is not percent-encoded"
    23 TargetFragment         "target-fragment"         400 BadTarget "the target has a `#`"
    24 TargetSemicolon        "target-semicolon"        400 BadTarget "the target has a `;`, which servers split at or not"
    25 TargetBackslash        "target-backslash"        400 BadTarget "the target has a backslash, which some servers take for a slash"
    26 PercentMalformed       "percent-malformed"       400 BadTarget "a `%` is not followed by two hex digits"
    27 EncodedNul             "encoded-nul"             400 BadTarget "the target has a percent-encoded NUL"
    28 PathEncodedControl     "path-encoded-control"    400 BadTarget "the path has a percent-encoded control character"
    29 PathEncodedSlash       "path-encoded-slash"      400 BadTarget "the path has a percent-encoded slash or backslash"
    30 PathEncodedUnreserved  "path-encoded-unreserved" 400 BadTarget "the path has a percent-encoded letter, digit, `-`, `.`, `_` or `~`"
    31 PathEncodedPercent     "path-encoded-percent"    400 BadTarget "the path has `%25`, which a second decoding would turn into something else"
    32 PathNotUtf8            "path-not-utf8"           400 BadTarget "the decoded path is not UTF-8"
    33 PathEmptySegment       "path-empty-segment"      400 BadTarget "the path has an empty segment"
    34 PathDotSegment         "path-dot-segment"        400 BadTarget "the path has a `.` or `..` segment"
    35 PathTooDeep            "path-too-deep"           400 BadTarget "the path has too many segments"
    36 QueryDisguisedKey      "query-disguised-key"     400 BadTarget "a query parameter is the key parameter in disguise: encoded or in another case"

    // Host and header fields.
    40 HostMissing            "host-missing"            400 BadHost   "neither Host nor an authority is given"
    41 HostDoubled            "host-doubled"            400 BadHost   "Host is given more than once"
    42 HostMalformed          "host-malformed"          400 BadHost   "the host is not a name or address with an optional port"
    43 HostMismatch           "host-mismatch"           400 BadHost   "Host differs from the authority"
    44 HeaderMalformed        "header-malformed"        400 BadHeader "a header field has a name that is no token or a control character in its value"
    45 HeaderUnderscore       "header-underscore"       400 BadHeader "a header name with underscores equals a security header"
    46 AuthorizationDoubled   "authorization-doubled"   400 AmbiguousCredential "Authorization is given more than once"
    47 DateDoubled            "date-doubled"            400 BadHeader "Date is given more than once"
    48 ConnectionSecurity     "connection-security"     400 BadHeader "Connection names a security header, which a proxy would then drop"
    49 ForwardedAmbiguous     "forwarded-ambiguous"     400 BadHeader "a trusted proxy sent both Forwarded and X-Forwarded-For"
    50 ForwardedMalformed     "forwarded-malformed"     400 BadHeader "a hop that a trusted proxy added is not an address"
    51 CredentialDoubled      "credential-doubled"      400 AmbiguousCredential "a key header or parameter is given more than once"
    52 CredentialsTwo         "credentials-two"         400 AmbiguousCredential "two credentials are given at once"

    // Route.
    60 ServiceUnknown         "service-unknown"         403 NoSuchEndpoint "no service has that host and path"

    // Authentication.
    70 CredentialMissing      "credential-missing"      401 Unauthorized "no credential is presented in a way that the service accepts"
    71 CredentialMalformed    "credential-malformed"    401 Unauthorized "the credential is empty, too long, has characters no key has, or a checksum that does not hold"
    72 CredentialUnknown      "credential-unknown"      401 Unauthorized "no credential has that digest"
    73 CredentialMisplaced    "credential-misplaced"    401 Unauthorized "the service does not accept this kind of credential in this place"
    74 CredentialForeign      "credential-foreign"      401 Unauthorized "the credential belongs to another tenant than the service"
    75 CredentialRevoked      "credential-revoked"      401 Unauthorized "the credential is revoked"
    76 CredentialExpired      "credential-expired"      401 Unauthorized "the credential or this version of its secret has ended"
    77 TenantUnknown          "tenant-unknown"          401 Unauthorized "the credential's tenant is no longer there"
    78 TenantSuspended        "tenant-suspended"        401 Unauthorized "the tenant is suspended"
    79 CreatorUnknown         "creator-unknown"         401 Unauthorized "the credential's creator is deleted"
    80 CreatorDisabled        "creator-disabled"        401 Unauthorized "the credential's creator is disabled"
    81 SignatureRequired      "signature-required"      401 Unauthorized "the endpoint enforces signatures and the request has none"
    82 SignedOnly             "signed-only"             401 Unauthorized "the key is proven by signatures alone, and was presented plain"

    // Signatures, in the order of their checks.
    110 SignatureFormsTwo     "signature-forms-two"     400 AmbiguousCredential "the request is signed in its header and in its URL at once"
    111 SignatureMalformed    "signature-malformed"     401 Unauthorized "the signature's header field or parameters are not of the form that the profile asks for"
    112 SignatureDateMissing  "signature-date-missing"  401 Unauthorized "the request has no date, or one that cannot be read"
    113 SignatureHostUnsigned "signature-host-unsigned" 401 Unauthorized "the host is not among the signed header fields"
    114 SignatureDateUnsigned "signature-date-unsigned" 401 Unauthorized "the date is not among the signed header fields"
    115 SignatureFieldAbsent  "signature-field-absent"  401 Unauthorized "a header field that is listed as signed is not in the request"
    116 SignatureHash         "signature-hash"          401 Unauthorized "the signature is made with another hash than the profile's"
    117 SignatureDay          "signature-day"           401 Unauthorized "the credential's day is not the UTC day of the request's date"
    118 SignatureTime         "signature-time"          401 Unauthorized "the request's date is not within the accepted time range"
    119 SignatureScope        "signature-scope"         401 Unauthorized "the credential's scope is not the profile's"
    120 SignaturePresigned    "signature-presigned"     401 Unauthorized "the presigned URL is one that the profile does not accept: its method, signed fields or lifetime"
    121 SignatureProfile      "signature-profile"       401 Unauthorized "the key signs by another profile, or does not sign at all"
    122 SignatureMismatch     "signature-mismatch"      401 Unauthorized "the signature is not that of this request"
    123 SignatureReplayed     "signature-replayed"      401 Unauthorized "the same signed request was accepted before"
    124 SignatureKeysMissing  "signature-keys-missing"  503 Unavailable  "the signing keys of that day have not been loaded"

    // Access tokens, in the order of their checks.
    130 TokenMalformed        "token-malformed"         401 Unauthorized "the access token is not a compact JWS with the header and claims of one (RFC 9068)"
    131 TokenAlgorithm        "token-algorithm"         401 Unauthorized "the token names an algorithm other than its key's"
    132 TokenCritical         "token-critical"          401 Unauthorized "the token has a critical extension, of which none is known"
    133 TokenKeyUnknown       "token-key-unknown"       401 Unauthorized "no key of the installation has the token's key id"
    134 TokenSignature        "token-signature"         401 Unauthorized "the token's signature is not that of its key"
    135 TokenExpired          "token-expired"           401 Unauthorized "the token has expired"
    136 TokenNotYet           "token-not-yet"           401 Unauthorized "the token is not valid yet, or was issued in the future"
    137 TokenClientUnknown    "token-client-unknown"    401 Unauthorized "the token's client is no longer there"
    138 TokenIssuer           "token-issuer"            401 Unauthorized "the token names another issuer than its tenant's"
    139 TokenSecretVersion    "token-secret-version"    401 Unauthorized "the token was issued for a version of the client's secret that is dead"
    140 TokenAudience         "token-audience"          401 Unauthorized "the token is for another audience than the endpoint's"

    // A client's own id and secret, at a token endpoint.
    145 ClientMalformed       "client-malformed"        401 Unauthorized "the client's id and secret are not of the form that RFC 6749 section 2.3.1 asks for"
    146 ClientMismatch        "client-mismatch"         401 Unauthorized "the secret is that of another client"

    // Authorization.
    90 EndpointUnknown        "endpoint-unknown"        403 NoSuchEndpoint   "the path is no endpoint of the service"
    91 MethodNotAllowed       "method-not-allowed"      403 MethodNotAllowed "the endpoint does not have this method"
    92 AddressNotInEndpoint   "address-not-in-endpoint" 403 AddressForbidden "the client's address is not in the endpoint's ranges"
    93 AddressNotInKey        "address-not-in-key"      403 AddressForbidden "the client's address is not in the key's allowlist"
    94 GroupUnknown           "group-unknown"           403 Forbidden "the credential's group is no longer there"
    95 GroupLacksEndpoint     "group-lacks-endpoint"    403 Forbidden "the credential's group has no permission for this endpoint and method"
    96 KeyLacksEndpoint       "key-lacks-endpoint"      403 Forbidden "the endpoint is not among those allowed to the key"
    97 CreatorLacksEndpoint   "creator-lacks-endpoint"  403 Forbidden "the key's creator has no permission for this endpoint and method now"
    98 ApplicationNotNamed    "application-not-named"   403 Forbidden "the key is confined to applications and the endpoint names none"
    99 ApplicationNotAllowed  "application-not-allowed" 403 Forbidden "the application is not among those of the key"
    100 TokenLacksScope       "token-lacks-scope"       403 InsufficientScope "the token does not have the scope that the endpoint needs"
    101 PersonLacksEndpoint   "person-lacks-endpoint"   403 Forbidden "the profile of the personal key's owner has no permission for this endpoint and method now"
    102 NotATokenEndpoint     "not-a-token-endpoint"    401 Unauthorized "a client's id and secret are for token endpoints, and token endpoints take nothing else"
}

/// A head that exceeds a limit is refused by whoever notices first: the host that packs it, or the gate that opens it.
impl From<HeadTooLarge> for Reason {
    fn from(too_large: HeadTooLarge) -> Reason {
        match too_large {
            HeadTooLarge::Target => Reason::TargetTooLong,
            HeadTooLarge::Headers | HeadTooLarge::Bytes => Reason::HeadTooLarge,
        }
    }
}

/// A policy that cannot be read denies.
impl From<Unreadable> for Reason {
    fn from(Unreadable: Unreadable) -> Reason {
        Reason::PolicyUnreadable
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_names_are_distinct() {
        let numbers: BTreeSet<u16> = Reason::ALL.iter().map(|reason| reason.number()).collect();
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!((numbers.len(), names.len()), (Reason::ALL.len(), Reason::ALL.len()));
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason.number()), Some(reason));
        }
    }

    #[test]
    fn a_caller_cannot_tell_one_failed_credential_from_another() {
        for reason in Reason::ALL.iter().filter(|reason| reason.status() == 401) {
            assert_eq!(reason.public_code(), PublicCode::Unauthorized, "{reason}");
        }
    }
}
