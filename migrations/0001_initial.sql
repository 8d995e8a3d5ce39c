-- The whole of quire's state that is not git's own. Times are Unix milliseconds.
-- The CHECK constraints hold the state machines of src/run/: a bug can be refused
-- here, it cannot be stored.

-- One row: which appliance this is. Containers and networks carry the id as a label.
CREATE TABLE instance (
  one           INTEGER PRIMARY KEY CHECK (one = 1),
  id            TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL
) STRICT;

-- A push that git accepted, as the hook wrote it. The id makes "taken twice" once.
CREATE TABLE events (
  id             TEXT PRIMARY KEY,
  type           TEXT NOT NULL CHECK (type IN ('push', 'reconcile', 'manual')),
  repo           TEXT NOT NULL,
  pusher         TEXT,
  pushed_at_ms   INTEGER NOT NULL,
  received_at_ms INTEGER NOT NULL,
  options        TEXT NOT NULL CHECK (json_valid(options))
) STRICT, WITHOUT ROWID;

CREATE TABLE event_refs (
  event_id TEXT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  ref_name TEXT NOT NULL,
  old_sha  TEXT,
  new_sha  TEXT,
  PRIMARY KEY (event_id, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX events_by_repo ON events (repo, pushed_at_ms DESC);

-- Where each ref stood when quire last looked; compared with git at every start.
CREATE TABLE seen_refs (
  repo     TEXT NOT NULL,
  ref_name TEXT NOT NULL,
  sha      TEXT NOT NULL,
  -- Found by comparing, before the push that put it there was heard: that push makes no second run.
  compared INTEGER NOT NULL DEFAULT 0 CHECK (compared IN (0, 1)),
  PRIMARY KEY (repo, ref_name)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
  id                      TEXT PRIMARY KEY CHECK (length(id) = 36),
  repo                    TEXT NOT NULL,
  ref_name                TEXT NOT NULL,
  sha                     TEXT NOT NULL,
  previous_sha            TEXT,
  event_id                TEXT REFERENCES events (id),
  "trigger"               TEXT NOT NULL CHECK ("trigger" IN ('push', 'manual', 'cron', 'retry', 'orphan')),
  source                  TEXT NOT NULL DEFAULT 'quire/push',
  pusher                  TEXT,
  only_job                TEXT,
  retry_of                TEXT REFERENCES runs (id) ON DELETE SET NULL,
  superseded_by           TEXT REFERENCES runs (id) ON DELETE SET NULL,
  -- Why the runner has been asked to stop this run; the state follows when it has.
  stop_requested          TEXT CHECK (stop_requested IN ('canceled', 'superseded')),
  state                   TEXT NOT NULL CHECK (state IN ('pending', 'active', 'complete', 'failed', 'superseded')),
  failure_kind            TEXT CHECK (failure_kind IN ('pipeline', 'image', 'job', 'timeout', 'canceled',
                            'container-died', 'docker-unavailable', 'orphaned', 'internal')),
  -- One sentence for a person: why it waits, why it failed.
  message                 TEXT,
  pushed_at_ms            INTEGER NOT NULL,
  queued_at_ms            INTEGER NOT NULL,
  started_at_ms           INTEGER,
  finished_at_ms          INTEGER,
  executor                TEXT CHECK (executor IN ('docker', 'host')),
  container_id            TEXT,
  image_tag               TEXT,
  build_started_at_ms     INTEGER,
  build_finished_at_ms    INTEGER,
  container_started_at_ms INTEGER,
  container_stopped_at_ms INTEGER,
  workspace_path          TEXT,

  CHECK (started_at_ms IS NULL OR started_at_ms >= queued_at_ms),
  CHECK (finished_at_ms IS NULL OR finished_at_ms >= coalesce(started_at_ms, queued_at_ms)),
  CHECK (build_finished_at_ms IS NULL OR build_finished_at_ms >= build_started_at_ms),
  CHECK (container_stopped_at_ms IS NULL OR container_stopped_at_ms >= container_started_at_ms),
  CHECK ((state = 'failed') = (failure_kind IS NOT NULL)),
  CHECK (state <> 'pending' OR (started_at_ms IS NULL AND finished_at_ms IS NULL AND container_id IS NULL)),
  CHECK (state <> 'active' OR (started_at_ms IS NOT NULL AND finished_at_ms IS NULL)),
  CHECK (state <> 'complete' OR (started_at_ms IS NOT NULL AND finished_at_ms IS NOT NULL AND container_id IS NULL)),
  CHECK (state NOT IN ('failed', 'superseded') OR (finished_at_ms IS NOT NULL AND container_id IS NULL)),
  CHECK (superseded_by IS NULL OR state IN ('pending', 'active', 'superseded') OR stop_requested IS NOT NULL)
) STRICT;

CREATE INDEX runs_pending ON runs (queued_at_ms, id) WHERE state = 'pending';
-- Two active runs of one ref cannot exist.
CREATE UNIQUE INDEX runs_active ON runs (repo, ref_name) WHERE state = 'active';
CREATE INDEX runs_pending_by_ref ON runs (repo, ref_name) WHERE state = 'pending';
CREATE INDEX runs_by_repo ON runs (repo, id DESC);
CREATE INDEX runs_by_repo_ref ON runs (repo, ref_name, id DESC);
CREATE INDEX runs_by_event ON runs (event_id);
CREATE INDEX runs_by_retry ON runs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX runs_by_successor ON runs (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX runs_by_state ON runs (state, id DESC);

CREATE TABLE jobs (
  run_id         TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  job_id         TEXT NOT NULL,
  position       INTEGER NOT NULL,
  inputs         TEXT NOT NULL CHECK (json_valid(inputs)),
  state          TEXT NOT NULL CHECK (state IN ('pending', 'active', 'complete', 'failed', 'skipped', 'aborted')),
  exit_code      INTEGER,
  message        TEXT,
  output         TEXT CHECK (output IS NULL OR json_valid(output)),
  started_at_ms  INTEGER,
  finished_at_ms INTEGER,
  PRIMARY KEY (run_id, job_id),
  CHECK (finished_at_ms IS NULL OR finished_at_ms >= coalesce(started_at_ms, 0)),
  CHECK (state <> 'pending' OR (started_at_ms IS NULL AND finished_at_ms IS NULL)),
  CHECK (state <> 'active' OR (started_at_ms IS NOT NULL AND finished_at_ms IS NULL)),
  CHECK (state NOT IN ('complete', 'failed') OR (started_at_ms IS NOT NULL AND finished_at_ms IS NOT NULL)),
  CHECK (state NOT IN ('skipped', 'aborted') OR finished_at_ms IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- One row per `sh`. `seq` counts through the whole run, in the order of starting.
CREATE TABLE steps (
  run_id         TEXT NOT NULL,
  seq            INTEGER NOT NULL CHECK (seq > 0),
  job_id         TEXT NOT NULL,
  command        TEXT NOT NULL,
  exit_code      INTEGER,
  started_at_ms  INTEGER NOT NULL,
  finished_at_ms INTEGER CHECK (finished_at_ms IS NULL OR finished_at_ms >= started_at_ms),
  PRIMARY KEY (run_id, seq),
  FOREIGN KEY (run_id, job_id) REFERENCES jobs (run_id, job_id) ON DELETE CASCADE,
  CHECK (exit_code IS NULL OR finished_at_ms IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX steps_by_job ON steps (run_id, job_id);

-- One-time links that sign a browser in, and the sessions they open. Only SHA-256 of a token is kept.
-- Both are good only while the key may connect; none is needed where the link was made at the machine itself.
CREATE TABLE login_links (
  token_hash      TEXT PRIMARY KEY,
  key_name        TEXT NOT NULL,
  key_fingerprint TEXT,
  expires_at_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
  token_hash      TEXT PRIMARY KEY,
  key_name        TEXT NOT NULL,
  key_fingerprint TEXT,
  created_at_ms   INTEGER NOT NULL,
  expires_at_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
