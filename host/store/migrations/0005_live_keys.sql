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
