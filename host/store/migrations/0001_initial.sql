-- Conventions: `seq` is the order of creation and the cursor of pages; `created` is a time in seconds since 1970, `changed`
-- the revision that changed the row last. Lists that no query looks into are JSON, in the form of the source document.
-- References are checked at the end of a transaction, so the order of writes within a change is free.

CREATE TABLE meta (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    revision INTEGER NOT NULL,
    seed     BLOB    NOT NULL CHECK (length(seed) = 16),
    created  INTEGER NOT NULL
) STRICT;

CREATE TRIGGER meta_goes_forward BEFORE UPDATE ON meta WHEN new.revision <= old.revision
BEGIN
    SELECT RAISE(ABORT, 'a revision only goes forward');
END;

CREATE TABLE installation (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    body     TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    changed  INTEGER NOT NULL
) STRICT;

CREATE TABLE tenant (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT    NOT NULL UNIQUE,
    name      TEXT    NOT NULL,
    state     TEXT    NOT NULL,
    modules   TEXT    NOT NULL,
    key_limit INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    changed   INTEGER NOT NULL
) STRICT;

CREATE TABLE service (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL UNIQUE,
    tenant   TEXT    REFERENCES tenant (id) DEFERRABLE INITIALLY DEFERRED,
    name     TEXT    NOT NULL,
    body     TEXT    NOT NULL,
    delivery TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    changed  INTEGER NOT NULL
) STRICT;

-- Services that are gone may still be named here: no reference to them.
CREATE TABLE setting (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant    TEXT    NOT NULL REFERENCES tenant (id) DEFERRABLE INITIALLY DEFERRED,
    service   TEXT    NOT NULL,
    endpoint  TEXT    NOT NULL,
    ip_ranges TEXT    NOT NULL,
    signature TEXT    NOT NULL,
    created   INTEGER NOT NULL,
    changed   INTEGER NOT NULL,
    UNIQUE (tenant, service, endpoint)
) STRICT;
CREATE INDEX setting_by_tenant ON setting (tenant, seq);
CREATE INDEX setting_by_service ON setting (service, tenant);

CREATE TABLE application (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant  TEXT    NOT NULL REFERENCES tenant (id) DEFERRABLE INITIALLY DEFERRED,
    id      TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
CREATE INDEX application_by_tenant ON application (tenant, seq);

CREATE TABLE permission_group (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant      TEXT    NOT NULL REFERENCES tenant (id) DEFERRABLE INITIALLY DEFERRED,
    id          TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    permissions TEXT    NOT NULL,
    created     INTEGER NOT NULL,
    changed     INTEGER NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
CREATE INDEX permission_group_by_tenant ON permission_group (tenant, seq);

-- Which services the permissions of a group name.
CREATE TABLE group_service (
    group_seq INTEGER NOT NULL REFERENCES permission_group (seq) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    service   TEXT    NOT NULL,
    PRIMARY KEY (group_seq, service)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_service_by_service ON group_service (service, group_seq);

-- A deleted person stays: keys and the audit name them, and the id is not used again.
CREATE TABLE person (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant           TEXT    NOT NULL REFERENCES tenant (id) DEFERRABLE INITIALLY DEFERRED,
    id               TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    role             TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    permission_group TEXT,
    deleted          INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    created          INTEGER NOT NULL,
    changed          INTEGER NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
CREATE INDEX person_by_tenant ON person (tenant, seq) WHERE deleted = 0;
CREATE INDEX person_by_group ON person (tenant, permission_group) WHERE deleted = 0;

-- A deleted credential stays without its secrets; the id is not used again.
CREATE TABLE credential (
    seq                   INTEGER PRIMARY KEY AUTOINCREMENT,
    id                    TEXT    NOT NULL UNIQUE,
    tenant                TEXT    NOT NULL REFERENCES tenant (id) DEFERRABLE INITIALLY DEFERRED,
    kind                  TEXT    NOT NULL,
    state                 TEXT    NOT NULL,
    deleted               INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    expires               INTEGER,
    permission_group      TEXT,
    ip_allowlist          TEXT    NOT NULL,
    endpoints             TEXT    NOT NULL,
    applications          TEXT    NOT NULL,
    creator               TEXT,
    creator_rule          TEXT    NOT NULL,
    name                  TEXT    NOT NULL,
    description           TEXT    NOT NULL,
    created_by_tenant     TEXT    NOT NULL,
    created_by_credential TEXT,
    created_by_user       TEXT,
    sealed_key            BLOB,
    sealed_secret         BLOB,
    created               INTEGER NOT NULL,
    changed               INTEGER NOT NULL
) STRICT;
CREATE INDEX credential_by_kind ON credential (tenant, kind, seq) WHERE deleted = 0;
CREATE INDEX credential_by_state ON credential (tenant, kind, state, seq) WHERE deleted = 0;
CREATE INDEX credential_live ON credential (tenant, kind, expires) WHERE deleted = 0 AND state = 'active';
CREATE INDEX credential_by_group ON credential (tenant, permission_group)
    WHERE deleted = 0 AND state = 'active' AND permission_group IS NOT NULL;

CREATE TABLE credential_secret (
    credential_seq INTEGER NOT NULL REFERENCES credential (seq) DEFERRABLE INITIALLY DEFERRED,
    version        INTEGER NOT NULL,
    sha256         BLOB    NOT NULL CHECK (length(sha256) = 32),
    until          INTEGER,
    PRIMARY KEY (credential_seq, version)
) STRICT, WITHOUT ROWID;
-- The digest alone names a credential, so no two in the installation have the same.
CREATE UNIQUE INDEX credential_secret_by_digest ON credential_secret (sha256);

-- Which services the endpoints of a management key are of.
CREATE TABLE credential_service (
    credential_seq INTEGER NOT NULL REFERENCES credential (seq) DEFERRABLE INITIALLY DEFERRED,
    service        TEXT    NOT NULL,
    PRIMARY KEY (credential_seq, service)
) STRICT, WITHOUT ROWID;
CREATE INDEX credential_service_by_service ON credential_service (service, credential_seq);

-- A credential with the versions of its secret as JSON: [[version, digest in hex, end or null], ..].
CREATE VIEW credential_whole AS
SELECT credential.*,
       (SELECT json_group_array(json_array(version, lower(hex(sha256)), until) ORDER BY version)
        FROM credential_secret
        WHERE credential_seq = credential.seq) AS secrets
FROM credential;

-- One chain of hashes for each tenant; `audit.rs` has the layout of what is hashed.
CREATE TABLE audit (
    seq              INTEGER PRIMARY KEY,
    tenant           TEXT    NOT NULL,
    number           INTEGER NOT NULL,
    at               INTEGER NOT NULL,
    actor_tenant     TEXT    NOT NULL,
    actor_credential TEXT,
    actor_user       TEXT,
    channel          TEXT    NOT NULL,
    address          TEXT,
    action           TEXT    NOT NULL,
    object_kind      TEXT    NOT NULL,
    object           TEXT    NOT NULL,
    revision         INTEGER,
    code             TEXT,
    details          TEXT    NOT NULL,
    hash             BLOB    NOT NULL CHECK (length(hash) = 32),
    CHECK ((revision IS NULL) <> (code IS NULL))
) STRICT;
CREATE INDEX audit_by_tenant ON audit (tenant, seq);

CREATE TRIGGER audit_is_not_edited BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;

CREATE TABLE audit_head (
    tenant TEXT    NOT NULL PRIMARY KEY,
    count  INTEGER NOT NULL,
    hash   BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER audit_head_goes_forward BEFORE UPDATE ON audit_head WHEN new.count <= old.count OR new.tenant <> old.tenant
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_head_is_not_deleted BEFORE DELETE ON audit_head
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;

-- Blocks of decisions, and gaps, which have no records and count as denied. `bytes` is what the row counts toward the
-- limit. The records come last, so that looking for a block does not read them.
CREATE TABLE decision_block (
    seq     INTEGER PRIMARY KEY,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    denied  INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    records BLOB
) STRICT;
CREATE INDEX decision_block_by_last ON decision_block (last, seq, first);
CREATE INDEX decision_block_denied ON decision_block (last, seq, first) WHERE denied > 0;

CREATE TABLE decision_total (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    bytes    INTEGER NOT NULL
) STRICT;
INSERT INTO decision_total (only_row, bytes) VALUES (1, 0);
