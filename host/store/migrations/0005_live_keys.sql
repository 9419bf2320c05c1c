-- How many credentials are active, by tenant, kind and the UTC day of their expiry (the last day there is where they have
-- none). A tenant's limit is checked at every creation, and must not cost as much as the tenant has keys.
CREATE TABLE live_credential (
    tenant TEXT    NOT NULL,
    kind   TEXT    NOT NULL,
    day    INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, day)
) STRICT, WITHOUT ROWID;

INSERT INTO live_credential (tenant, kind, day, count)
SELECT tenant, kind, coalesce(expires / 86400, 9223372036854775807), count(*)
FROM credential
WHERE deleted = 0 AND state = 'active'
GROUP BY 1, 2, 3;

CREATE TRIGGER credential_lives AFTER INSERT ON credential WHEN new.deleted = 0 AND new.state = 'active'
BEGIN
    INSERT INTO live_credential (tenant, kind, day, count)
    VALUES (new.tenant, new.kind, coalesce(new.expires / 86400, 9223372036854775807), 1)
    ON CONFLICT (tenant, kind, day) DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER credential_changes AFTER UPDATE OF state, deleted, expires ON credential
BEGIN
    UPDATE live_credential SET count = count - 1
    WHERE old.deleted = 0 AND old.state = 'active'
      AND tenant = old.tenant AND kind = old.kind AND day = coalesce(old.expires / 86400, 9223372036854775807);
    INSERT INTO live_credential (tenant, kind, day, count)
    SELECT new.tenant, new.kind, coalesce(new.expires / 86400, 9223372036854775807), 1
    WHERE new.deleted = 0 AND new.state = 'active'
    ON CONFLICT (tenant, kind, day) DO UPDATE SET count = count + 1;
END;

-- Digests of secrets that were rotated away, or went with their credential. An import must not bring them back: whoever
-- rotated a key may have done so because its secret was in the wrong hands, and the file of the import still has it. An edit
-- writes a credential's secrets anew, so that some that still stand are here too; they are taken either way.
CREATE TABLE retired_digest (
    sha256         BLOB    NOT NULL PRIMARY KEY CHECK (length(sha256) = 32),
    credential_seq INTEGER NOT NULL REFERENCES credential (seq) DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;

CREATE TRIGGER secret_is_retired AFTER DELETE ON credential_secret
BEGIN
    INSERT INTO retired_digest (sha256, credential_seq) VALUES (old.sha256, old.credential_seq)
    ON CONFLICT (sha256) DO UPDATE SET credential_seq = excluded.credential_seq;
END;
