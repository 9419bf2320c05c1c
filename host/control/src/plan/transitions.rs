//! What can be done to a credential of each kind in each state: one table.
//!
//! | kind | edit | rotate | end overlap | revoke | delete |
//! |---|---|---|---|---|---|
//! | workspace | no | a new pair replaces it | no | yes | no, it stays listed |
//! | tenant | yes | yes | yes | yes | no, it stays listed |
//! | management | no | yes | yes | yes | yes |
//! | personal | no | regenerate | no | delete it | yes |
//! | client | no | no | no | yes | no, it stays listed |
//! | session | no | no | no | sign out | yes |
//!
//! A revoked credential is only deleted, where its kind is deleted at all. Expiry forbids nothing here; that an expired key
//! needs a new expiry to be rotated is the rule of that step.

use portcullis_model::credential::Kind;
use portcullis_model::source::CredentialState;
use portcullis_store::CredentialRecord;

use crate::command::key_name;
use crate::error::Refused;

/// What is done to a credential that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Its name, description, group, addresses.
    Edit,
    /// A new secret for the same credential.
    Rotate,
    /// The end of an earlier secret before its time.
    EndOverlap,
    /// Dead at once and for good; it stays listed.
    Revoke,
    /// Gone at once and for good.
    Delete,
}

/// Refuses a step that the table does not have.
pub(super) fn require(record: &CredentialRecord, step: Step) -> Result<(), Refused> {
    let kind = record.credential.kind;
    require_kind(kind, step)?;
    match (record.credential.state, step) {
        (CredentialState::Active, _) | (CredentialState::Revoked, Step::Delete) => Ok(()),
        (CredentialState::Revoked, Step::Edit | Step::Rotate | Step::EndOverlap | Step::Revoke) => {
            let what =
                format!("the {} `{}` is revoked, which is final: make a new one", key_name(kind), record.credential.id);
            Err(Refused::State { code: "key_revoked", what })
        }
    }
}

/// Refuses a step that the kind does not have.
pub(super) fn require_kind(kind: Kind, step: Step) -> Result<(), Refused> {
    let (code, what) = match (kind, step) {
        (Kind::Tenant, Step::Edit | Step::Rotate | Step::EndOverlap | Step::Revoke)
        | (Kind::Management, Step::Rotate | Step::EndOverlap | Step::Revoke | Step::Delete)
        | (Kind::Workspace | Kind::Client, Step::Revoke)
        | (Kind::Personal, Step::Rotate | Step::Delete)
        | (Kind::Session, Step::Delete) => return Ok(()),
        (Kind::Workspace, Step::Rotate | Step::EndOverlap) => {
            ("not_rotatable", "a workspace key is replaced by generating a new pair")
        }
        (Kind::Client, Step::Rotate | Step::EndOverlap) => {
            ("not_rotatable", "a client keeps its secret: make a new client and revoke this one")
        }
        (Kind::Personal, Step::EndOverlap) => ("not_rotatable", "a personal key has one secret at a time"),
        (Kind::Session, Step::Rotate | Step::EndOverlap) => ("not_rotatable", "a session is opened with a new code"),
        (Kind::Workspace, Step::Edit) => ("not_editable", "a workspace key is replaced by generating a new pair"),
        (Kind::Management, Step::Edit) => ("not_editable", "a management key is not edited: make a new one"),
        (Kind::Client, Step::Edit) => ("not_editable", "a client is not edited: make a new one and revoke this one"),
        (Kind::Personal | Kind::Session, Step::Edit) => ("not_editable", "there is nothing to edit"),
        (Kind::Personal, Step::Revoke) => ("not_revocable", "a personal key is deleted by its owner"),
        (Kind::Session, Step::Revoke) => ("not_revocable", "a session ends when its person signs out"),
        (Kind::Workspace | Kind::Tenant | Kind::Client, Step::Delete) => {
            let what = format!("a {} is revoked and stays listed; it is not deleted", key_name(kind));
            return Err(Refused::State { code: "not_deletable", what });
        }
    };
    Err(Refused::State { code, what: what.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_end() {
        for kind in Kind::ALL {
            let ends = [Step::Revoke, Step::Delete].into_iter().filter(|step| require_kind(kind, *step).is_ok());
            assert!(ends.count() > 0, "{kind}");
        }
    }
}
