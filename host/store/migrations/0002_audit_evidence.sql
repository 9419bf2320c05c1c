-- What an audit is checked by besides its own hashes: checkpoints that are signed, and stubs of rows that were removed.

-- Entries of one record.
CREATE INDEX audit_by_object ON audit (object, object_kind, seq);

-- Up to which row a chain was removed, and that row's hash. Rows may be deleted up to there and no further.
CREATE TABLE audit_stub (
    tenant TEXT    NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL,
    hash   BLOB    NOT NULL CHECK (length(hash) = 32),
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER audit_stub_is_of_a_row BEFORE INSERT ON audit_stub
WHEN NOT EXISTS (SELECT 1 FROM audit WHERE tenant = new.tenant AND number = new.number AND hash = new.hash)
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_stub_goes_forward BEFORE UPDATE ON audit_stub
WHEN new.number <= old.number OR new.tenant <> old.tenant
    OR NOT EXISTS (SELECT 1 FROM audit WHERE tenant = new.tenant AND number = new.number AND hash = new.hash)
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_stub_is_not_deleted BEFORE DELETE ON audit_stub
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;

DROP TRIGGER audit_is_not_deleted;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
WHEN old.number > coalesce((SELECT number FROM audit_stub WHERE tenant = old.tenant), 0)
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;

-- The key that signs checkpoints: public, and sealed under the master key.
CREATE TABLE audit_key (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    public   BLOB    NOT NULL CHECK (length(public) = 32),
    sealed   BLOB    NOT NULL
) STRICT;

CREATE TRIGGER audit_key_is_not_replaced BEFORE UPDATE ON audit_key WHEN new.public <> old.public
BEGIN
    SELECT RAISE(ABORT, 'the key of the audit is made once');
END;
CREATE TRIGGER audit_key_is_not_deleted BEFORE DELETE ON audit_key
BEGIN
    SELECT RAISE(ABORT, 'the key of the audit is made once');
END;

-- The newest checkpoint, and the newest row of each chain when it was signed. `audit/checkpoint.rs` has what is signed.
CREATE TABLE audit_checkpoint (
    only_row  INTEGER PRIMARY KEY CHECK (only_row = 1),
    number    INTEGER NOT NULL,
    revision  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    signature BLOB    NOT NULL CHECK (length(signature) = 64)
) STRICT;

CREATE TRIGGER audit_checkpoint_goes_forward BEFORE UPDATE ON audit_checkpoint WHEN new.number <= old.number
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_checkpoint_is_not_deleted BEFORE DELETE ON audit_checkpoint
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;

CREATE TABLE audit_mark (
    tenant TEXT    NOT NULL PRIMARY KEY,
    count  INTEGER NOT NULL,
    hash   BLOB    NOT NULL CHECK (length(hash) = 32),
    -- Where that row is in `audit`: what was added since lies behind it.
    seq    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER audit_mark_goes_forward BEFORE UPDATE ON audit_mark WHEN new.count <= old.count OR new.tenant <> old.tenant
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_mark_is_not_deleted BEFORE DELETE ON audit_mark
BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END;
