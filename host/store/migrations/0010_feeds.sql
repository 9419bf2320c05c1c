-- Feeds: what workers in proxies get of the policy, each the part of some services. Beside each there is an application of the
-- system tenant of the same id, to which the keys that read it are confined.
CREATE TABLE feed (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL UNIQUE,
    -- The services' ids as a JSON list.
    services TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    changed  INTEGER NOT NULL
) STRICT;
