-- Tokens with which programs read pages and git fetches over HTTP. As with sessions, only the SHA-256 of a token is stored, and a token is
-- good only while the key may connect that made it; no key is needed where it was made at the machine itself.
CREATE TABLE access_tokens (
  token_hash      TEXT PRIMARY KEY,
  name            TEXT NOT NULL UNIQUE,
  scope           TEXT NOT NULL CHECK (scope IN ('read', 'write')),
  key_name        TEXT NOT NULL,
  key_fingerprint TEXT,
  certificate     TEXT CHECK (certificate IS NULL OR key_fingerprint IS NOT NULL),
  created_at_ms   INTEGER NOT NULL,
  -- To the minute; NULL if it was never used.
  used_at_ms      INTEGER
) STRICT, WITHOUT ROWID;
