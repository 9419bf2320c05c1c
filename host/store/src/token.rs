//! What issuing access tokens needs: the keys that sign them, and what is known of who asks.

use portcullis_model::credential::Kind;
use portcullis_model::id::{Id, Revision};
use portcullis_model::source::TokenAlgorithm;
use portcullis_model::time::{Expiry, UnixTime};

use crate::record::{ClientTerms, TenantRules};

/// A key that signs access tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKeyRecord {
    /// Its id, the thumbprint of its public half (RFC 7638).
    pub kid: String,
    /// The algorithm that it signs by.
    pub algorithm: TokenAlgorithm,
    /// Its private half, sealed.
    pub sealed: Vec<u8>,
    /// From when on it signs, until a later one does.
    pub signs_from: UnixTime,
}

impl std::fmt::Debug for TokenKeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeyRecord")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A client or personal key as it is when its token is written down.
#[derive(Clone, PartialEq, Debug)]
pub struct Grantee {
    /// Its tenant.
    pub tenant: Id,
    /// Its kind.
    pub kind: Kind,
    /// When it ends.
    pub expires: Option<Expiry>,
    /// What a client may ask for; a personal key has no terms.
    pub terms: Option<ClientTerms>,
    /// Whose a personal key is.
    pub owner: Option<Id>,
    /// The versions of its secret, and when each ends.
    pub versions: Vec<(u16, Option<u64>)>,
    /// What holds for its tenant.
    pub rules: TenantRules,
    /// The revision that last changed it, its tenant or its owner. A decision that is older says nothing of it any more.
    pub changed: Revision,
    /// Whether it is deleted.
    pub deleted: bool,
}
