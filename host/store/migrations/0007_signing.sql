-- By which profile a workspace key signs, and whether it is proven by signatures alone.
ALTER TABLE credential ADD COLUMN signature_profile TEXT;
ALTER TABLE credential ADD COLUMN signed_only INTEGER NOT NULL DEFAULT 0 CHECK (signed_only IN (0, 1));

-- Where the day keys of a version are in the key sheets. No two that stand at once share one.
ALTER TABLE credential_secret ADD COLUMN signing_slot INTEGER;
CREATE UNIQUE INDEX credential_secret_by_slot ON credential_secret (signing_slot) WHERE signing_slot IS NOT NULL;

-- Whether a signed request is accepted once only.
ALTER TABLE setting ADD COLUMN replay TEXT NOT NULL DEFAULT 'auto';

-- A credential with the versions of its secret as JSON: [[version, digest in hex, end or null, slot or null], ..].
DROP VIEW credential_whole;
CREATE VIEW credential_whole AS
SELECT credential.*,
       (SELECT json_group_array(json_array(version, lower(hex(sha256)), until, signing_slot) ORDER BY version)
        FROM credential_secret
        WHERE credential_seq = credential.seq) AS secrets
FROM credential;
