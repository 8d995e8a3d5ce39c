-- Objects of Git LFS of mirrors: an attempt can fail because of them, and what is known of them is recorded.

CREATE TABLE new_mirrors (
  repo             TEXT NOT NULL,
  name             TEXT NOT NULL,
  -- The address, without any secret. Another address is another mirror.
  url              TEXT NOT NULL,
  -- The type and the key, in base64, that the other side showed first.
  host_key         TEXT,
  -- When the remote was last found or made equal.
  in_sync_ms       INTEGER,
  -- Failed attempts in a row, why the last one failed, since when, and when the next one may be made.
  failures         INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
  failure_kind     TEXT CHECK (failure_kind IN ('settings', 'connection', 'host-key', 'access', 'rejected', 'lfs', 'repository')),
  problem          TEXT,
  failing_since_ms INTEGER,
  next_attempt_ms  INTEGER,
  -- Why objects of Git LFS are not mirrored although no attempt failed.
  lfs_problem      TEXT,
  PRIMARY KEY (repo, name),
  CHECK ((failures = 0) = (failure_kind IS NULL)),
  CHECK ((failures = 0) = (problem IS NULL)),
  CHECK ((failures = 0) = (failing_since_ms IS NULL)),
  CHECK (next_attempt_ms IS NULL OR failures > 0)
) STRICT, WITHOUT ROWID;

INSERT INTO new_mirrors (repo, name, url, host_key, in_sync_ms, failures, failure_kind, problem, failing_since_ms, next_attempt_ms)
SELECT repo, name, url, host_key, in_sync_ms, failures, failure_kind, problem, failing_since_ms, next_attempt_ms FROM mirrors;
DROP TABLE mirrors;
ALTER TABLE new_mirrors RENAME TO mirrors;

-- The commit whose objects of Git LFS, and those of all commits before it, are on both sides.
ALTER TABLE mirror_refs ADD COLUMN lfs_sha TEXT;
