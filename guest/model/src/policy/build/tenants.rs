//! The installation, and of its tenants everything but their credentials.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::names::{Names, endpoint};
use super::{Encoder, bytes};
use crate::policy::format::{NONE, Section};
use crate::policy::records::{
    Symbol, TENANT_IP_FILTER, TENANT_ISSUANCE_ONLY, TENANT_SIGNATURE_CHECK, TENANT_SUSPENDED, USER_DISABLED,
    USER_MEMBER,
};
use crate::source::{Module, ReplayMode, Role, SignatureMode, TenantState, TokenRevocation, UserState};

impl<'s> Encoder<'s> {
    pub(super) fn installation(&mut self) {
        let Some(installation) = self.records.installation else { return };
        let proxies = self.draft.ranges(&installation.trusted_proxies);
        let profiles = self.profiles(&installation.signature_profiles);
        let keys = self.token_keys(&installation.token_keys);
        let words = [installation.clock_skew_s, installation.max_staleness_s, proxies, profiles, keys];
        self.draft.put(Section::Installation, 0, words);
    }

    /// One record for each name: that of the defined ones from `record`, of the others the name alone.
    fn symbols<K, T, const N: usize>(
        &mut self,
        symbol: Symbol,
        names: &Names<'s, K, T>,
        mut record: impl FnMut(&mut Draft, &'s T) -> [u32; N],
    ) {
        for (number, name) in names.sorted.iter().enumerate() {
            let id = self.draft.text(&name.id);
            let mut rest = name.record.map_or([0; N], |value| record(&mut self.draft, value));
            if let Some(flags) = rest.first_mut() {
                *flags |= name.presence.bits();
            }
            self.draft.put(symbol.section(), number, [id].into_iter().chain(rest));
        }
    }

    pub(super) fn tenants(&mut self) {
        let names = self.names;
        self.symbols(Symbol::Tenant, &names.tenants, |draft, tenant| {
            let mut flags = match tenant.state {
                TenantState::Active => 0,
                TenantState::Suspended => TENANT_SUSPENDED,
            };
            flags |= match tenant.token_revocation {
                TokenRevocation::AllTokens => 0,
                TokenRevocation::IssuanceOnly => TENANT_ISSUANCE_ONLY,
            };
            for module in &tenant.modules {
                flags |= match module {
                    Module::IpFilter => TENANT_IP_FILTER,
                    Module::SignatureCheck => TENANT_SIGNATURE_CHECK,
                };
            }
            let mut sorted: Vec<_> = tenant.endpoints.iter().collect();
            sorted.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
            let mut settings = Vec::new();
            for setting in sorted {
                let signature = match setting.signature {
                    SignatureMode::Off => 0,
                    SignatureMode::Observed => 1,
                    SignatureMode::Enforced => 2,
                };
                let replay = match setting.replay {
                    ReplayMode::Auto => 0,
                    ReplayMode::Once => 1,
                    ReplayMode::Any => 2,
                };
                let number = names.endpoints.number(endpoint(&setting.endpoint));
                settings.push([number, draft.ranges(&setting.ip_ranges), signature | (replay << 8)]);
            }
            settings.sort_unstable();
            let settings = draft.list(settings.into_iter().map(bytes::<3, 12>));
            [flags, settings, draft.text(tenant.token_issuer.as_deref().unwrap_or_default())]
        });
    }

    pub(super) fn groups(&mut self) {
        let names = self.names;
        self.symbols(Symbol::Group, &names.groups, |draft, group| {
            let mut permissions: BTreeMap<u32, u32> = BTreeMap::new();
            for permission in &group.permissions {
                let number = names.endpoints.number(endpoint(&permission.endpoint));
                *permissions.entry(number).or_default() |= u32::from(permission.methods.bits());
            }
            let entries: Vec<[u32; 2]> = permissions.into_iter().map(<[u32; 2]>::from).collect();
            [0, draft.list(entries.into_iter().map(bytes::<2, 8>))]
        });
    }

    pub(super) fn users(&mut self) {
        let names = self.names;
        self.symbols(Symbol::User, &names.users, |_, user| {
            let state = match user.state {
                UserState::Active => 0,
                UserState::Disabled => USER_DISABLED,
            };
            let role = match user.role {
                Role::Superuser | Role::Admin => 0,
                Role::Member => USER_MEMBER,
            };
            let group = user.group.as_ref().map_or(NONE, |group| names.groups.number((&user.tenant, group)));
            [state | role, group]
        });
    }
}
