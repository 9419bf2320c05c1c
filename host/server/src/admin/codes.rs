//! Every code that a problem may have. Programs go by them, so none ever changes its meaning.

/// A code, the statuses it comes with, and what it means.
pub(super) struct Code {
    pub(super) name: &'static str,
    pub(super) statuses: &'static [u16],
    pub(super) meaning: &'static str,
}

const fn code(name: &'static str, statuses: &'static [u16], meaning: &'static str) -> Code {
    Code { name, statuses, meaning }
}

/// In alphabetical order. A test looks through the sources for codes that are not here.
pub(super) const CODES: &[Code] = &[
    code("address_forbidden", &[403], "The key may not be used from the client's address."),
    code("ambiguous_credential", &[400], "There is more than one credential: send one."),
    code("application_in_use", &[409], "Keys are confined to the application: revoke them first."),
    code("bad_batch", &[422], "The decisions are not a batch, or not of the feed: nothing of them is kept."),
    code("bad_header", &[400], "A header field is refused."),
    code("bad_host", &[400], "Host is missing, doubled or malformed."),
    code("bad_idempotency_key", &[400], "`Idempotency-Key` is not one value of 1 to 255 visible ASCII characters."),
    code("bad_if_match", &[400], "`If-Match` is not one ETag as it was given."),
    code("bad_method", &[400], "The method is refused."),
    code("bad_query", &[400], "The query is not as the operation takes it."),
    code("bad_request", &[400], "A field of the head that workers send is missing or not as it should be."),
    code("bad_target", &[400], "The path or the query is refused: it can be read in more than one way."),
    code("built_in", &[409], "It comes with Portcullis and cannot be changed so."),
    code("busy", &[503], "Too many changes or calls of workers are waiting, nothing has changed: try again."),
    code("changed", &[412], "The record has changed since it was read: read it again."),
    code("confirmation_required", &[409], "It cannot be undone: confirm it."),
    code("cut_off", &[400], "The body ended before it was whole."),
    code("database_ahead", &[503], "The database was ahead of what is in force, nothing has changed: try again."),
    code("database_locked", &[503], "Another program holds the database, nothing has changed."),
    code("disk_full", &[507], "The disk is full, nothing has changed."),
    code("exists", &[409], "The id is in use, or was."),
    code("failed", &[500], "It failed and nothing has changed: the log of the server says why."),
    code("feed_application", &[409], "The application is for the keys of a feed, and goes with it."),
    code("feed_in_use", &[409], "Keys are for the feed: revoke them first."),
    code("forbidden", &[403], "The key may not do this."),
    code("group_in_use", &[409], "Keys or members have the group."),
    code(
        "idempotency_in_progress",
        &[409],
        "The creation of this `Idempotency-Key` is being done: ask again in a moment.",
    ),
    code("idempotency_key_reused", &[422], "The `Idempotency-Key` was used for another creation."),
    code("idempotency_quota", &[409], "As many creations of the tenant are remembered as may be."),
    code("insufficient_scope", &[403], "The access token does not have the scope that the endpoint needs."),
    code("interrupted", &[500], "The change did not end: whether it was made is in the audit."),
    code("invalid", &[400, 422], "Fields are wrong: `faults` names each."),
    code("key_expired", &[409], "The key has expired: rotate it with a new `expires`."),
    code("key_in_use", &[409], "The key signs access tokens: have another one sign first."),
    code("key_limit_reached", &[409], "The tenant has as many live keys as it may."),
    code("key_revoked", &[409], "The key is revoked, which is final."),
    code("last_range", &[409], "Without its last range the endpoint would be open to any address."),
    code("method_not_allowed", &[403, 405], "The path has no such method."),
    code("module_disabled", &[409], "The operator has not enabled the module for the tenant."),
    code("no_free_id", &[409], "No free id was found: try again."),
    code("no_overlap", &[409], "There is no old secret that still works."),
    code("no_such_endpoint", &[403], "The admin API has nothing at this path."),
    code("not_deletable", &[409], "Keys of this kind are revoked and stay listed."),
    code("not_editable", &[409], "Keys of this kind are not edited: make a new one."),
    code("not_enforced", &[500], "The change is written down, but this node does not enforce it and stops."),
    code("not_found", &[404], "There is no such record, or none that the key may know of."),
    code("not_json", &[400, 415], "The body is not JSON, or does not say so."),
    code("not_revocable", &[409], "Keys of this kind end with their person's doing."),
    code("not_rotatable", &[409], "Keys of this kind are replaced by new ones, or have one secret at a time."),
    code("own_user", &[409], "Whoever answers for the key that is used cannot be taken away with it."),
    code("personal_key_exists", &[409], "The person has a personal key: regenerate or delete it."),
    code("profile_in_use", &[409], "Services accept the profile, or keys sign by it."),
    code("rotation_under_way", &[409], "The next key of access tokens is published already."),
    code("stopping", &[503], "This host is about to end: ask another, or try again."),
    code("storage_failed", &[503], "The disk did not take it, nothing has changed."),
    code("too_large", &[413, 414, 431], "The body or the head is longer than is taken."),
    code(
        "too_many_batches",
        &[429],
        "As many batches of decisions are being taken as may be: send it again in a moment.",
    ),
    code("too_many_feeds", &[409], "There are as many feeds as may be."),
    code("too_many_keys", &[409], "There are as many keys of access tokens as may be."),
    code("too_many_rotations", &[409], "The key has been rotated as often as a key can be."),
    code("too_many_signers", &[409], "As many keys sign requests as an installation may have."),
    code("too_many_workers", &[503], "The feed has as many live workers as are told apart."),
    code("too_slow", &[408], "The body did not come in time."),
    code("unauthorized", &[401], "There is no usable key. Unknown, wrong, revoked and expired look the same."),
    code("unavailable", &[503], "The gate cannot decide at present."),
    code("unknown_host", &[421], "The listener is not known by that Host."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    /// What follows `before` in quotes, each time.
    fn quoted<'t>(text: &'t str, before: &str) -> Vec<&'t str> {
        let is_code = |code: &str| !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let quoted = |rest: &'t str| rest.trim_start().strip_prefix('"')?.split('"').next();
        text.split(before).skip(1).filter_map(quoted).filter(|code| is_code(code)).collect()
    }

    #[test]
    fn every_code_of_the_sources_is_in_the_table() {
        let server = Path::new(env!("CARGO_MANIFEST_DIR"));
        let control = server.join("../control/src");
        let mut found = BTreeSet::new();
        let mut look = |path: PathBuf, before: &[&str]| {
            let text = std::fs::read_to_string(path).unwrap();
            found.extend(before.iter().flat_map(|before| quoted(&text, before)).map(str::to_owned));
        };
        sources(&control).into_iter().for_each(|path| look(path, &["code:"]));
        look(control.join("error.rs"), &["=>"]);
        look(control.join("plan/transitions.rs"), &["("]);
        for status in STATUSES {
            let before = format!("StatusCode::{status},");
            sources(&server.join("src/admin")).into_iter().for_each(|path| look(path, &[&before]));
            look(server.join("src/admin.rs"), &[&before]);
        }
        for reason in portcullis_model::verdict::Reason::ALL {
            let name = reason.public_code().as_str();
            found.insert(name.to_owned());
            let known = CODES.iter().find(|code| code.name == name);
            assert!(
                known.is_some_and(|code| code.statuses.contains(&reason.status())),
                "add {} to `{name}`",
                reason.status()
            );
        }
        let known: BTreeSet<String> = CODES.iter().map(|code| code.name.to_owned()).collect();
        let unknown: Vec<_> = found.difference(&known).collect();
        assert!(unknown.is_empty(), "add to the table of admin/codes.rs: {unknown:?}");
        let unused: Vec<_> = known.difference(&found).collect();
        assert!(unused.is_empty(), "nothing has these codes any more: {unused:?}");
        assert!(CODES.is_sorted_by_key(|code| code.name));
    }

    const STATUSES: [&str; 15] = [
        "BAD_REQUEST",
        "CONFLICT",
        "FORBIDDEN",
        "INSUFFICIENT_STORAGE",
        "INTERNAL_SERVER_ERROR",
        "METHOD_NOT_ALLOWED",
        "MISDIRECTED_REQUEST",
        "NOT_FOUND",
        "PAYLOAD_TOO_LARGE",
        "REQUEST_TIMEOUT",
        "SERVICE_UNAVAILABLE",
        "TOO_MANY_REQUESTS",
        "UNAUTHORIZED",
        "UNPROCESSABLE_ENTITY",
        "UNSUPPORTED_MEDIA_TYPE",
    ];
}
