-- When each version of a secret was used last, and how often. It is no record of a change: no revision, no audit. A
-- credential that is deleted may still be named here. `today` and `yesterday` count the day `day`, in days since 1970,
-- and the day before it.
CREATE TABLE credential_use (
    credential TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    address    TEXT,
    count      INTEGER NOT NULL,
    day        INTEGER NOT NULL,
    today      INTEGER NOT NULL,
    yesterday  INTEGER NOT NULL,
    PRIMARY KEY (credential, version)
) STRICT, WITHOUT ROWID;

-- What a tenant has set for its error log; the usual where there is no row.
CREATE TABLE error_log_setting (
    tenant  TEXT    NOT NULL PRIMARY KEY REFERENCES tenant (id) DEFERRABLE INITIALLY DEFERRED,
    body    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Calls that failed, redacted before they come here. `tenant` is empty where a call belongs to nobody but the
-- installation; `proven` says whether a credential named the tenant. `call` is the request and the response as JSON.
CREATE TABLE error_log (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT    NOT NULL,
    proven     INTEGER NOT NULL CHECK (proven IN (0, 1)),
    decision   INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    credential TEXT,
    endpoint   TEXT,
    reason     TEXT    NOT NULL,
    status     INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    call       TEXT    NOT NULL
) STRICT;
CREATE INDEX error_log_by_tenant ON error_log (tenant, seq);
CREATE INDEX error_log_by_share ON error_log (tenant, proven, seq);
CREATE INDEX error_log_by_decision ON error_log (decision);

-- How much each tenant has, what is proven apart from what is not: strangers cannot push out what clients failed at.
CREATE TABLE error_log_total (
    tenant  TEXT    NOT NULL,
    proven  INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    PRIMARY KEY (tenant, proven)
) STRICT, WITHOUT ROWID;
