//! Credentials, a record for each version of a secret, and the index by which they are found.

use std::collections::BTreeSet;

use super::names::endpoint;
use super::{BuildError, Encoder, bytes};
use crate::credential::Kind;
use crate::id::Id;
use crate::policy::format::{FragmentKind, NONE, Presence, Section};
use crate::policy::index::{self, Buckets};
use crate::policy::records::{CREDENTIAL_INDEPENDENT, CREDENTIAL_REVOKED, CREDENTIAL_SIGNED_ONLY, NEVER};
use crate::source::{CreatorRule, Credential, CredentialState, SecretVersion};

impl Encoder<'_> {
    pub(super) fn credentials(&mut self) -> Result<(), BuildError> {
        let records = self.records;
        let is_base = records.kind == FragmentKind::Base;
        let keys = self.draft.keys;
        // Clients are found by their ids too; where there are two versions, by the first.
        let mut clients = Vec::new();
        let mut versions: Vec<&SecretVersion> = Vec::new();
        let mut number = 0_u32;
        for credential in records.credentials.iter() {
            if credential.secrets.is_empty() {
                continue;
            }
            let id = self.draft.push_text(credential.id.as_str());
            if credential.kind.is_client() {
                clients.push((number, credential));
            }
            versions.clear();
            versions.extend(&credential.secrets);
            versions.sort_unstable_by_key(|secret| secret.version);
            for secret in &versions {
                let record = self.credential(id, credential, secret);
                self.draft.put_credential(number, &secret.sha256, record);
                if is_base {
                    self.index(number, index::digest_hash(keys, secret.sha256.as_bytes()), credential)?;
                }
                number += 1;
            }
        }
        if is_base {
            for (number, client) in clients {
                self.index(number, index::text_hash(keys, client.id.as_str().as_bytes()), client)?;
            }
        }
        let mut removed = records.removed.digests.clone();
        removed.sort_unstable();
        for (digest, number) in removed.iter().zip(number..) {
            self.draft.put_credential(number, digest, [0, NONE, Presence::Removed.bits(), NONE, 0, 0, 0, 0]);
        }
        Ok(())
    }

    fn index(&mut self, number: u32, hash: u64, credential: &Credential) -> Result<(), BuildError> {
        let placed = Buckets(self.draft.buckets(Section::CredentialIndex)).place(number, hash);
        placed.map_err(|_| BuildError::IndexFull { record: credential.id.to_string() })
    }

    /// The record behind its digest.
    fn credential(&mut self, id: u32, credential: &Credential, secret: &SecretVersion) -> [u32; 8] {
        let ends = [credential.expires, secret.until].into_iter().flatten().min();
        let ends = ends.map_or(NEVER, |end| end.instant().as_secs());
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (low, high) = (ends as u32, (ends >> 32) as u32);
        let [a, b, c] = self.grant(credential, secret);
        let flags = (u32::from(secret.version) << 16)
            | (u32::from(credential.kind.code()) << 8)
            | match credential.state {
                CredentialState::Active => 0,
                CredentialState::Revoked => CREDENTIAL_REVOKED,
            }
            | match credential.creator_rule {
                CreatorRule::FollowCreator => 0,
                CreatorRule::Independent => CREDENTIAL_INDEPENDENT,
            }
            | if credential.signed_only { CREDENTIAL_SIGNED_ONLY } else { 0 };
        [id, self.names.tenants.number(&credential.tenant), flags, a, low, high, b, c]
    }

    fn grant(&mut self, credential: &Credential, secret: &SecretVersion) -> [u32; 3] {
        let (names, tenant) = (self.names, &credential.tenant);
        let creator = || credential.creator.as_ref().map_or(NONE, |user| names.users.number((tenant, user)));
        match credential.kind {
            Kind::Tenant => {
                let group = credential.group.as_ref().map_or(NONE, |group| names.groups.number((tenant, group)));
                [group, self.draft.ranges(&credential.ip_allowlist), 0]
            }
            Kind::Management | Kind::Session => {
                let endpoints = credential.endpoints.iter().map(|name| names.endpoints.number(endpoint(name)));
                let endpoints: BTreeSet<[u32; 1]> = endpoints.map(|number| [number]).collect();
                let endpoints = self.draft.list(endpoints.into_iter().map(bytes::<1, 4>));
                let applications: BTreeSet<&Id> = credential.applications.iter().collect();
                let applications: Vec<_> = applications.into_iter().map(|id| [self.draft.text(id.as_str())]).collect();
                let applications = self.draft.list(applications.into_iter().map(bytes::<1, 4>));
                [creator(), endpoints, applications]
            }
            Kind::Workspace => {
                let profile = credential.signature_profile.as_ref().map_or("", Id::as_str);
                [secret.signing_slot.unwrap_or(NONE), self.draft.text(profile), 0]
            }
            Kind::Personal => [creator(), 0, 0],
            Kind::Client => [NONE, 0, 0],
        }
    }
}
