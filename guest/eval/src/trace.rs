//! What a decision did, step by step, for people. A decision that nobody watches pays nothing for it.

use portcullis_model::verdict::Reason;

/// A check, in the order in which they are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// A policy is loaded and fresh.
    Policy,
    /// The request is one that may be decided at all.
    Request,
    /// The client's address.
    Client,
    /// Host and path lead to one service.
    Service,
    /// A credential is presented and proven.
    Credential,
    /// It is neither revoked nor expired, and its tenant is active.
    Standing,
    /// Its creator may act.
    Creator,
    /// Path and method lead to one endpoint.
    Endpoint,
    /// The client is in the endpoint's ranges.
    EndpointAddress,
    /// The client is in the key's allowlist.
    KeyAddress,
    /// The request is signed where it must be, and its signature holds.
    Signature,
    /// The access token holds, for this client and audience.
    Token,
    /// The credential may use the endpoint.
    Permission,
    /// The path names an application the key is confined to.
    Application,
}

impl Check {
    /// The check that a reason comes from.
    #[must_use]
    pub fn of(reason: Reason) -> Check {
        use Reason as R;
        match reason {
            R::PolicyMissing | R::PolicyStale | R::PolicyUnreadable => Check::Policy,
            R::HeadMalformed
            | R::HeadTooLarge
            | R::TargetTooLong
            | R::MethodMalformed
            | R::MethodRefused
            | R::TargetNotOrigin
            | R::TargetCharacter
            | R::TargetNotAscii
            | R::TargetFragment
            | R::TargetSemicolon
            | R::TargetBackslash
            | R::PercentMalformed
            | R::EncodedNul
            | R::PathEncodedControl
            | R::PathEncodedSlash
            | R::PathEncodedUnreserved
            | R::PathEncodedPercent
            | R::PathNotUtf8
            | R::PathEmptySegment
            | R::PathDotSegment
            | R::PathTooDeep
            | R::HostMissing
            | R::HostDoubled
            | R::HostMalformed
            | R::HostMismatch
            | R::HeaderMalformed
            | R::HeaderUnderscore
            | R::AuthorizationDoubled
            | R::DateDoubled
            | R::ConnectionSecurity => Check::Request,
            R::ForwardedAmbiguous | R::ForwardedMalformed => Check::Client,
            R::ServiceUnknown => Check::Service,
            R::QueryDisguisedKey
            | R::CredentialDoubled
            | R::CredentialsTwo
            | R::CredentialMissing
            | R::CredentialMalformed
            | R::CredentialUnknown
            | R::CredentialMisplaced
            | R::CredentialForeign
            | R::TenantUnknown
            | R::SignedOnly
            | R::ClientMalformed
            | R::ClientMismatch => Check::Credential,
            R::CredentialRevoked | R::CredentialExpired | R::TenantSuspended => Check::Standing,
            R::CreatorUnknown | R::CreatorDisabled => Check::Creator,
            R::EndpointUnknown | R::MethodNotAllowed => Check::Endpoint,
            R::AddressNotInEndpoint => Check::EndpointAddress,
            R::AddressNotInKey => Check::KeyAddress,
            R::SignatureRequired
            | R::SignatureFormsTwo
            | R::SignatureMalformed
            | R::SignatureDateMissing
            | R::SignatureHostUnsigned
            | R::SignatureDateUnsigned
            | R::SignatureFieldAbsent
            | R::SignatureHash
            | R::SignatureDay
            | R::SignatureTime
            | R::SignatureScope
            | R::SignaturePresigned
            | R::SignatureProfile
            | R::SignatureMismatch
            | R::SignatureReplayed
            | R::SignatureKeysMissing => Check::Signature,
            R::TokenMalformed
            | R::TokenAlgorithm
            | R::TokenCritical
            | R::TokenKeyUnknown
            | R::TokenSignature
            | R::TokenExpired
            | R::TokenNotYet
            | R::TokenClientUnknown
            | R::TokenIssuer
            | R::TokenSecretVersion
            | R::TokenAudience => Check::Token,
            R::GroupUnknown
            | R::GroupLacksEndpoint
            | R::KeyLacksEndpoint
            | R::CreatorLacksEndpoint
            | R::PersonLacksEndpoint
            | R::TokenLacksScope
            | R::NotATokenEndpoint => Check::Permission,
            R::ApplicationNotNamed | R::ApplicationNotAllowed => Check::Application,
        }
    }

    /// The check's name, for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Check::Policy => "policy",
            Check::Request => "request",
            Check::Client => "client",
            Check::Service => "service",
            Check::Credential => "credential",
            Check::Standing => "standing",
            Check::Creator => "creator",
            Check::Endpoint => "endpoint",
            Check::EndpointAddress => "endpoint-address",
            Check::KeyAddress => "key-address",
            Check::Signature => "signature",
            Check::Token => "token",
            Check::Permission => "permission",
            Check::Application => "application",
        }
    }
}

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It fails, and so does the request.
    Fail,
    /// It fails, but is only observed.
    Observed,
    /// It does not concern this request.
    Skip,
}

/// Where a decision reports its steps.
pub trait Trace {
    /// One step. `detail` is only called where somebody reads it; it holds no secret.
    fn step(&mut self, check: Check, outcome: Outcome, detail: impl FnOnce() -> String);
}

/// Nobody watches.
pub struct Silent;

impl Trace for Silent {
    #[inline]
    fn step(&mut self, _: Check, _: Outcome, _: impl FnOnce() -> String) {}
}

/// Keeps every step.
#[derive(Default)]
pub struct Recorder {
    steps: Vec<Step>,
}

/// One step of a decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What was checked.
    pub check: Check,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
}

impl Recorder {
    /// The steps in order.
    #[must_use]
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

impl Trace for Recorder {
    fn step(&mut self, check: Check, outcome: Outcome, detail: impl FnOnce() -> String) {
        // A failure is told once; the first account is the one with the detail.
        if self.steps.last().is_some_and(|last| last.outcome == Outcome::Fail && last.check == check) {
            return;
        }
        self.steps.push(Step { check, outcome, detail: detail() });
    }
}
