-- Remotes to which repositories are pushed, as the configuration in force has them, and what is known of their refs.

CREATE TABLE mirrors (
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
  failure_kind     TEXT CHECK (failure_kind IN ('settings', 'connection', 'host-key', 'access', 'rejected', 'repository')),
  problem          TEXT,
  failing_since_ms INTEGER,
  next_attempt_ms  INTEGER,
  PRIMARY KEY (repo, name),
  CHECK ((failures = 0) = (failure_kind IS NULL)),
  CHECK ((failures = 0) = (problem IS NULL)),
  CHECK ((failures = 0) = (failing_since_ms IS NULL)),
  CHECK (next_attempt_ms IS NULL OR failures > 0)
) STRICT, WITHOUT ROWID;

-- Refs that the patterns cover, here or there.
CREATE TABLE mirror_refs (
  repo             TEXT NOT NULL,
  name             TEXT NOT NULL,
  ref_name         TEXT NOT NULL,
  -- What it has to be: NULL if it has to be deleted.
  wanted_sha       TEXT,
  -- What it is on the remote as far as is known: NULL if it does not exist, or before the first comparison.
  remote_sha       TEXT,
  waiting_since_ms INTEGER,
  failed_since_ms  INTEGER,
  -- Why the other side did not accept what is wanted now.
  problem          TEXT,
  PRIMARY KEY (repo, name, ref_name),
  FOREIGN KEY (repo, name) REFERENCES mirrors (repo, name) ON UPDATE CASCADE ON DELETE CASCADE,
  CHECK ((waiting_since_ms IS NULL) = (wanted_sha IS remote_sha)),
  CHECK (failed_since_ms IS NULL OR waiting_since_ms IS NOT NULL),
  CHECK (problem IS NULL OR failed_since_ms IS NOT NULL)
) STRICT, WITHOUT ROWID;
