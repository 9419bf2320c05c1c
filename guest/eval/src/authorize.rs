//! May the proven caller do this? Everything here is a function of the policy, the facts and the time.

use std::net::IpAddr;

use portcullis_model::facts::{Proof, SignatureState, TokenFacts};
use portcullis_model::method::Method;
use portcullis_model::policy::{
    Creator, Endpoint, Grant, Matched, NoMatch, Ranges, ReplayMode, Segments, Service, SignatureMode, TokenRevocation,
};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Reason;

use crate::authenticate::Verified;
use crate::normalise::Path;
use crate::trace::{Check, Outcome, Trace};

/// What is asked of a verified caller.
pub(crate) struct Question<'q, 'p> {
    pub(crate) service: &'q Service<'p>,
    pub(crate) verified: &'q Verified<'p>,
    pub(crate) path: &'p Path<'p>,
    pub(crate) segments: &'q Segments<'q>,
    pub(crate) method: Option<Method>,
    pub(crate) client: IpAddr,
    pub(crate) signature: SignatureState,
    pub(crate) now: UnixTime,
}

/// What authorization found on its way; filled as far as it came.
#[derive(Default)]
pub(crate) struct Found<'p> {
    pub(crate) endpoint: Option<Endpoint<'p>>,
    pub(crate) application: &'p [u8],
    pub(crate) observed: Vec<Reason>,
    pub(crate) replay: ReplayMode,
}

/// Goes through the checks in their order; the first that fails is the reason.
#[inline(never)]
pub(crate) fn authorize<'p>(
    question: &Question<'_, 'p>,
    found: &mut Found<'p>,
    trace: &mut impl Trace,
) -> Result<(), Reason> {
    standing(question, trace)?;
    let grant = question.verified.credential.grant()?;
    creator(&grant, trace)?;
    let matched = endpoint(question, trace)?;
    let application = matched.target.application_segment.and_then(|number| question.path.segment(number));
    found.endpoint = Some(matched.endpoint);
    found.application = application.unwrap_or_default();
    audience(question, &matched.endpoint, trace)?;

    let settings = question.verified.tenant.settings(&matched.endpoint)?;
    address(settings.ranges, question.client, Check::EndpointAddress, Reason::AddressNotInEndpoint, trace)?;
    if let Grant::Tenant { allowlist, .. } = grant {
        address(allowlist, question.client, Check::KeyAddress, Reason::AddressNotInKey, trace)?;
    }
    found.replay = settings.replay;
    signature(settings.signature, question.signature, &mut found.observed, trace)?;
    permission(question, &grant, &matched, trace)?;
    confinement(&grant, &matched, application, trace)
}

fn standing(question: &Question<'_, '_>, trace: &mut impl Trace) -> Result<(), Reason> {
    let Verified { credential, tenant, proof, secret_version, .. } = question.verified;
    // The tenant may have chosen that tokens outlive what they were issued for; they end by themselves.
    let is_judged = *proof != Proof::Token || tenant.token_revocation()? == TokenRevocation::AllTokens;
    if is_judged && credential.is_revoked() {
        return Err(Reason::CredentialRevoked);
    }
    let expires = credential.expires()?.filter(|_| is_judged);
    if expires.is_some_and(|expires| question.now.as_secs() >= expires) {
        return Err(Reason::CredentialExpired);
    }
    if !tenant.is_active()? {
        return Err(Reason::TenantSuspended);
    }
    trace.step(Check::Standing, Outcome::Pass, || {
        let until =
            expires.and_then(UnixTime::from_secs).map_or("without expiry".to_owned(), |at| format!("until {at}"));
        format!("active, {until}, secret version {secret_version}")
    });
    Ok(())
}

fn creator(grant: &Grant<'_>, trace: &mut impl Trace) -> Result<(), Reason> {
    let creator = match grant {
        Grant::Workspace | Grant::Tenant { .. } | Grant::Client => return Ok(()),
        Grant::Management { creator, .. } => *creator,
        Grant::Session { user, .. } | Grant::Personal { user } => Some(*user),
    };
    match creator {
        None => trace.step(Check::Creator, Outcome::Skip, || "the key stands by itself".to_owned()),
        Some(Creator::Gone) => return Err(Reason::CreatorUnknown),
        Some(Creator::Present(user)) => {
            if !user.is_active()? {
                return Err(Reason::CreatorDisabled);
            }
            trace.step(Check::Creator, Outcome::Pass, || format!("`{}` is active", user.id().unwrap_or("?")));
        }
    }
    Ok(())
}

fn endpoint<'p>(question: &Question<'_, 'p>, trace: &mut impl Trace) -> Result<Matched<'p>, Reason> {
    let matched = question.service.endpoint(question.segments, question.method)?.map_err(|none| match none {
        NoMatch::Path => Reason::EndpointUnknown,
        NoMatch::Method => Reason::MethodNotAllowed,
    })?;
    trace.step(Check::Endpoint, Outcome::Pass, || {
        let (id, name) = (matched.endpoint.id().unwrap_or("?"), matched.endpoint.name().unwrap_or("?"));
        if name.is_empty() { format!("`{id}`") } else { format!("`{id}` ({name})") }
    });
    Ok(matched)
}

/// Whether the token is for this endpoint.
fn audience(question: &Question<'_, '_>, endpoint: &Endpoint<'_>, trace: &mut impl Trace) -> Result<(), Reason> {
    let Some(token) = question.verified.token else { return Ok(()) };
    let needed = endpoint.audience()?;
    if !token.audience.split(' ').any(|audience| audience == needed) {
        trace.step(Check::Token, Outcome::Fail, || format!("it is for `{}`, not for `{needed}`", token.audience));
        return Err(Reason::TokenAudience);
    }
    trace.step(Check::Token, Outcome::Pass, || format!("for `{needed}`"));
    Ok(())
}

/// Whether the token has the scope that the endpoint asks for.
fn scope(token: TokenFacts<'_>, endpoint: &Endpoint<'_>, trace: &mut impl Trace) -> Result<(), Reason> {
    let needed = endpoint.scope()?;
    if !needed.is_empty() && !token.scope.split(' ').any(|scope| scope == needed) {
        trace.step(Check::Permission, Outcome::Fail, || format!("`{}` does not have `{needed}`", token.scope));
        return Err(Reason::TokenLacksScope);
    }
    let detail = || if needed.is_empty() { "no scope is needed".to_owned() } else { format!("it has `{needed}`") };
    trace.step(Check::Permission, Outcome::Pass, detail);
    Ok(())
}

fn address(
    ranges: Option<Ranges<'_>>,
    client: IpAddr,
    check: Check,
    reason: Reason,
    trace: &mut impl Trace,
) -> Result<(), Reason> {
    let Some(ranges) = ranges else {
        trace.step(check, Outcome::Skip, || "open to any address".to_owned());
        return Ok(());
    };
    if !ranges.contains(client) {
        trace.step(check, Outcome::Fail, || format!("{client} is not in {}", shown(&ranges)));
        return Err(reason);
    }
    trace.step(check, Outcome::Pass, || format!("{client} is in {}", shown(&ranges)));
    Ok(())
}

fn signature(
    mode: SignatureMode,
    state: SignatureState,
    observed: &mut Vec<Reason>,
    trace: &mut impl Trace,
) -> Result<(), Reason> {
    match (mode, state) {
        (_, SignatureState::Valid) => trace.step(Check::Signature, Outcome::Pass, || "valid".to_owned()),
        (SignatureMode::Off, _) => trace.step(Check::Signature, Outcome::Skip, || "not required".to_owned()),
        (SignatureMode::Observed, _) => {
            observed.push(Reason::SignatureRequired);
            trace.step(Check::Signature, Outcome::Observed, || "absent; enforcing would deny".to_owned());
        }
        (SignatureMode::Enforced, _) => return Err(Reason::SignatureRequired),
    }
    Ok(())
}

fn permission<'p>(
    question: &Question<'_, 'p>,
    grant: &Grant<'p>,
    matched: &Matched<'p>,
    trace: &mut impl Trace,
) -> Result<(), Reason> {
    // An endpoint was matched, so the method is one that endpoints have.
    let method = question.method.ok_or(Reason::MethodNotAllowed)?;
    let endpoint = &matched.endpoint;
    let is_client = question.verified.proof == Proof::Client;
    if is_client != endpoint.is_token_endpoint()? {
        return Err(Reason::NotATokenEndpoint);
    }
    if is_client {
        trace.step(Check::Permission, Outcome::Pass, || "a client may ask for tokens".to_owned());
        return Ok(());
    }
    match grant {
        Grant::Workspace => trace.step(Check::Permission, Outcome::Pass, || "the whole tenant".to_owned()),
        Grant::Tenant { group, .. } => {
            let group = group.ok_or(Reason::GroupUnknown)?;
            if !group.permits(endpoint, method)? {
                trace.step(Check::Permission, Outcome::Fail, || {
                    format!("group `{}` does not permit {method} here", group.id().unwrap_or("?"))
                });
                return Err(Reason::GroupLacksEndpoint);
            }
            trace.step(Check::Permission, Outcome::Pass, || {
                format!("group `{}` permits {method}", group.id().unwrap_or("?"))
            });
        }
        Grant::Management { creator, endpoints, .. } => {
            if !endpoints.contains(endpoint)? {
                return Err(Reason::KeyLacksEndpoint);
            }
            if let Some(Creator::Present(user)) = creator
                && !user.may_use(endpoint, method)?
            {
                return Err(Reason::CreatorLacksEndpoint);
            }
            trace.step(Check::Permission, Outcome::Pass, || "the key allows the endpoint".to_owned());
        }
        Grant::Client => scope(question.verified.token.ok_or(Reason::TokenMalformed)?, endpoint, trace)?,
        Grant::Personal { user } => {
            let Creator::Present(user) = user else { return Err(Reason::CreatorUnknown) };
            if question.verified.token.is_none() {
                return Err(Reason::TokenMalformed);
            }
            if !user.may_use(endpoint, method)? {
                return Err(Reason::PersonLacksEndpoint);
            }
            trace.step(Check::Permission, Outcome::Pass, || "the owner's profile permits it".to_owned());
        }
        Grant::Session { endpoints, .. } => {
            if !endpoints.contains(endpoint)? {
                return Err(Reason::KeyLacksEndpoint);
            }
            trace.step(Check::Permission, Outcome::Pass, || "the session is for the endpoint".to_owned());
        }
    }
    Ok(())
}

fn confinement(
    grant: &Grant<'_>,
    matched: &Matched<'_>,
    application: Option<&[u8]>,
    trace: &mut impl Trace,
) -> Result<(), Reason> {
    let Grant::Management { applications: Some(applications), .. } = grant else {
        trace.step(Check::Application, Outcome::Skip, || "not confined to applications".to_owned());
        return Ok(());
    };
    let Some(application) = application.filter(|_| matched.endpoint.is_per_application().unwrap_or(false)) else {
        return Err(Reason::ApplicationNotNamed);
    };
    if !applications.contains(application)? {
        trace.step(Check::Application, Outcome::Fail, || {
            format!("the key is not for `{}`", String::from_utf8_lossy(application))
        });
        return Err(Reason::ApplicationNotAllowed);
    }
    trace.step(Check::Application, Outcome::Pass, || {
        format!("the key is for `{}`", String::from_utf8_lossy(application))
    });
    Ok(())
}

/// The first few ranges, for people.
fn shown(ranges: &Ranges<'_>) -> String {
    const SHOWN: usize = 4;
    let mut text: Vec<String> = ranges
        .iter()
        .take(SHOWN)
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    let more = ranges.iter().count().saturating_sub(SHOWN);
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}
