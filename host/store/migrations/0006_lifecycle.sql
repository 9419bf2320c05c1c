-- What a tenant's operator has set for it, the terms of an OAuth client, and how often a catalogue has changed, each as JSON.
ALTER TABLE tenant ADD COLUMN rules TEXT NOT NULL DEFAULT '{}';
ALTER TABLE credential ADD COLUMN terms TEXT;
ALTER TABLE service ADD COLUMN catalogue TEXT NOT NULL DEFAULT '{}';

-- Whose a credential is: at most one personal credential for each person.
CREATE INDEX credential_by_creator ON credential (tenant, creator, kind, seq) WHERE deleted = 0 AND creator IS NOT NULL;
CREATE UNIQUE INDEX credential_personal ON credential (tenant, creator) WHERE deleted = 0 AND kind = 'personal';

-- Those that end soon or have ended are few among many.
CREATE INDEX credential_by_expiry ON credential (tenant, kind, expires) WHERE deleted = 0 AND expires IS NOT NULL;
