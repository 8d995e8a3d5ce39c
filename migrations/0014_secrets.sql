-- Secrets that were set by a command. The values are encrypted with a key that is not in the database.
CREATE TABLE secrets (
  name          TEXT PRIMARY KEY NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  -- Patterns of repositories and of refs, as JSON lists; NULL for all.
  repos         TEXT,
  refs          TEXT,
  -- Counts the values; it is encrypted along with each.
  version       INTEGER NOT NULL CHECK (version > 0),
  -- Which key the value is encrypted with.
  key_id        TEXT NOT NULL,
  nonce         BLOB NOT NULL CHECK (length(nonce) = 12),
  ciphertext    BLOB NOT NULL CHECK (length(ciphertext) > 16),
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  updated_by    TEXT NOT NULL,
  used_at_ms    INTEGER
) STRICT, WITHOUT ROWID;

-- Which runs used a secret, for a while also if the run is deleted.
CREATE TABLE secret_uses (
  secret     TEXT NOT NULL REFERENCES secrets (name) ON DELETE CASCADE,
  run_id     TEXT NOT NULL,
  used_at_ms INTEGER NOT NULL,
  PRIMARY KEY (secret, run_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX secret_uses_by_time ON secret_uses (secret, used_at_ms);
