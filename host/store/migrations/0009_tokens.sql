-- Keys that sign access tokens. Their public halves are in the installation's record too, where the policy has them from.
CREATE TABLE token_key (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    kid        TEXT    NOT NULL UNIQUE,
    algorithm  TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    -- From when on it signs, until a later one does.
    signs_from INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    changed    INTEGER NOT NULL
) STRICT;

-- The issuer that every tenant had is now the installation's own, unless one says otherwise.
UPDATE tenant SET rules = json_remove(rules, '$.token_issuer') WHERE json_extract(rules, '$.token_issuer') = 'portcullis';
