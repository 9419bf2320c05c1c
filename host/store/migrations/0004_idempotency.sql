-- Creations that may be repeated: which credential asked under which key, what for, and what came of it. Written with the
-- change itself. `tenant` is the credential's.
CREATE TABLE idempotency (
    credential  TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    object      TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (credential, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_tenant ON idempotency (tenant, at);
CREATE INDEX idempotency_by_age ON idempotency (at);
