//! `/v1/signature-profiles`: the ways in which requests are signed.
//!
//! Profiles are a part of the installation's record, so their `ETag` is that of the installation.

use axum::extract::State;
use axum::{Extension, Json};
use portcullis_control::{Caller, Command, Refused};
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::{CanonicalForm, SignatureHash, SignatureProfile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{List, Shown, TakenOut, shown};
use super::extract::{At, Body, IfMatch};
use super::problem::Problem;
use super::{Api, schema};

/// A signature profile.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct ProfileView(SignatureProfile);

schema::described_as!(ProfileView: schema::SignatureProfile);

/// A profile without its id, which stands in the path.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SignatureProfileBody")]
pub(super) struct ProfileBody {
    /// What the algorithm's name begins with: `ANTAVO` of `ANTAVO-HMAC-SHA256`.
    algorithm_prefix: String,
    /// The middle of the names of presigned parameters: `Antavo` of `X-Antavo-Signature`.
    vendor_key: String,
    #[serde(default)]
    #[schemars(with = "schema::SignatureHash")]
    hash: SignatureHash,
    /// The header field of the signature.
    auth_header: String,
    /// The header field of the date.
    date_header: String,
    /// What the credential is confined to, such as `eu/api/antavo_request`.
    credential_scope: String,
    /// How far the date may be from the time, in seconds.
    #[serde(default = "three_hundred")]
    clock_skew_s: u32,
    #[schemars(with = "schema::CanonicalForm")]
    canonical_form: CanonicalForm,
    /// The longest time that a presigned URL may be valid, in seconds; none is accepted where it is 0.
    #[serde(default = "a_day")]
    presigned_expires_s: u32,
    /// The header field of a nonce. A request that signs one is accepted once.
    nonce_header: Option<String>,
}

fn three_hundred() -> u32 {
    300
}

fn a_day() -> u32 {
    86_400
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<List<ProfileView>>, Problem> {
    let profiles = api.control.system_view(&caller)?.installation().await?.record.signature_profiles;
    Ok(Json(List { items: profiles.into_iter().map(ProfileView).collect(), next: None }))
}

pub(super) async fn get(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
) -> Result<Shown<ProfileView>, Problem> {
    let (changed, profile) = find(&api, &caller, &id).await?;
    Ok(shown(changed, ProfileView(profile)))
}

pub(super) async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
    IfMatch(if_match): IfMatch,
    Body(body): Body<ProfileBody>,
) -> Result<Shown<ProfileView>, Problem> {
    let profile = SignatureProfile {
        id: id.clone(),
        algorithm_prefix: body.algorithm_prefix,
        vendor_key: body.vendor_key,
        hash: body.hash,
        auth_header: body.auth_header,
        date_header: body.date_header,
        credential_scope: body.credential_scope,
        clock_skew_s: body.clock_skew_s,
        canonical_form: body.canonical_form,
        presigned_expires_s: body.presigned_expires_s,
        nonce_header: body.nonce_header,
    };
    api.order(&caller, if_match, Command::PutSignatureProfile(Box::new(profile))).await?;
    let (changed, profile) = find(&api, &caller, &id).await?;
    Ok(shown(changed, ProfileView(profile)))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    At(id): At<Id>,
    IfMatch(if_match): IfMatch,
) -> Result<TakenOut, Problem> {
    let done = api.order(&caller, if_match, Command::RemoveSignatureProfile(id)).await?;
    // The installation is another one without it.
    Ok(TakenOut(done.revision))
}

async fn find(api: &Api, caller: &Caller, id: &Id) -> Result<(Revision, SignatureProfile), Problem> {
    let stored = api.control.system_view(caller)?.installation().await?;
    let found = stored.record.signature_profiles.into_iter().find(|profile| profile.id == *id);
    let missing = || Refused::NotFound { kind: "signature-profile", id: id.to_string() };
    Ok((stored.changed, found.ok_or_else(missing)?))
}
