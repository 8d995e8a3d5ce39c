-- What users did, for the log of operations. Rows name repositories as they were called then, and refer to nothing: what they
-- name may be removed.
CREATE TABLE operations (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  begun_at_ms     INTEGER NOT NULL,
  -- NULL as long as it is not known how it ended.
  ended_at_ms     INTEGER,
  -- The name of the key; NULL if it is not known.
  actor           TEXT,
  key_fingerprint TEXT,
  channel         TEXT NOT NULL CHECK (channel IN ('ssh', 'local', 'web', 'push', 'server')),
  repo            TEXT,
  -- What was done, as JSON.
  operation       TEXT NOT NULL CHECK (json_valid(operation) AND operation ->> 'kind' IS NOT NULL),
  -- A row that is `begun` belongs to an operation that is under way, or whose process was killed.
  state           TEXT NOT NULL CHECK (state IN ('begun', 'done', 'failed')),
  -- Why it failed.
  message         TEXT,
  -- The operation that it takes back.
  undoes          INTEGER,
  -- The push event by which it is recorded.
  event_id        TEXT UNIQUE,
  CHECK ((state = 'begun') = (ended_at_ms IS NULL)),
  CHECK ((state = 'failed') = (message IS NOT NULL)),
  CHECK (undoes < id)
) STRICT;

CREATE INDEX operations_by_repo ON operations (repo, id);
CREATE INDEX operations_by_time ON operations (begun_at_ms);
CREATE INDEX operations_by_undone ON operations (undoes) WHERE undoes IS NOT NULL;
