-- A run has a number in its repository, and the subject of its commit. A canceled run has a state of its own. A CHECK constraint
-- cannot be changed, so the table is rebuilt. Foreign keys are off during migrations, and checked at the end of each.

CREATE TABLE new_runs (
  id                      TEXT PRIMARY KEY CHECK (length(id) = 36),
  repo                    TEXT NOT NULL,
  -- The number of the run in its repository.
  number                  INTEGER NOT NULL CHECK (number >= 1),
  ref_name                TEXT NOT NULL,
  sha                     TEXT NOT NULL,
  -- The first line of the commit's message, if it was read.
  subject                 TEXT,
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
  state                   TEXT NOT NULL CHECK (state IN ('pending', 'active', 'complete', 'failed', 'canceled', 'superseded')),
  failure_kind            TEXT CHECK (failure_kind IN ('pipeline', 'image', 'job', 'timeout',
                            'container-died', 'docker-unavailable', 'orphaned', 'internal')),
  -- One sentence for a person: why the run waits or how it ended.
  message                 TEXT,
  pushed_at_ms            INTEGER NOT NULL,
  queued_at_ms            INTEGER NOT NULL,
  started_at_ms           INTEGER,
  finished_at_ms          INTEGER,
  executor                TEXT CHECK (length(executor) BETWEEN 1 AND 40),
  container_id            TEXT,
  image_tag               TEXT,
  build_started_at_ms     INTEGER,
  build_finished_at_ms    INTEGER,
  container_started_at_ms INTEGER,
  container_stopped_at_ms INTEGER,
  workspace_path          TEXT,
  group_name              TEXT,
  supersede               INTEGER NOT NULL DEFAULT 1 CHECK (supersede IN (0, 1)),
  unexamined              INTEGER NOT NULL DEFAULT 0 CHECK (unexamined IN (0, 1)),
  params                  TEXT CHECK (params IS NULL OR json_valid(params)),
  only_failed             INTEGER NOT NULL DEFAULT 0 CHECK (only_failed IN (0, 1)),
  keep                    INTEGER NOT NULL DEFAULT 0 CHECK (keep IN (0, 1)),
  logs_removed_at_ms      INTEGER,
  artifacts_removed_at_ms INTEGER,

  CHECK (started_at_ms IS NULL OR started_at_ms >= queued_at_ms),
  CHECK (finished_at_ms IS NULL OR finished_at_ms >= coalesce(started_at_ms, queued_at_ms)),
  CHECK (build_finished_at_ms IS NULL OR build_finished_at_ms >= build_started_at_ms),
  CHECK (container_stopped_at_ms IS NULL OR container_stopped_at_ms >= container_started_at_ms),
  CHECK ((state = 'failed') = (failure_kind IS NOT NULL)),
  CHECK (state <> 'pending' OR (started_at_ms IS NULL AND finished_at_ms IS NULL AND container_id IS NULL)),
  CHECK (state <> 'active' OR (started_at_ms IS NOT NULL AND finished_at_ms IS NULL)),
  CHECK (state <> 'complete' OR (started_at_ms IS NOT NULL AND finished_at_ms IS NOT NULL AND container_id IS NULL)),
  CHECK (state NOT IN ('failed', 'canceled', 'superseded') OR (finished_at_ms IS NOT NULL AND container_id IS NULL)),
  CHECK (superseded_by IS NULL OR state IN ('pending', 'active', 'superseded') OR stop_requested IS NOT NULL)
) STRICT;

INSERT INTO new_runs (
  id, repo, number, ref_name, sha, previous_sha, event_id, "trigger", source, pusher, only_job, retry_of, superseded_by,
  stop_requested, state, failure_kind, message, pushed_at_ms, queued_at_ms, started_at_ms, finished_at_ms,
  executor, container_id, image_tag, build_started_at_ms, build_finished_at_ms, container_started_at_ms,
  container_stopped_at_ms, workspace_path, group_name, supersede, unexamined, params, only_failed, keep,
  logs_removed_at_ms, artifacts_removed_at_ms
) SELECT
  id, repo, row_number() OVER (PARTITION BY repo ORDER BY id), ref_name, sha, previous_sha, event_id, "trigger", source, pusher, only_job, retry_of, superseded_by,
  stop_requested, iif(failure_kind = 'canceled', 'canceled', state), nullif(failure_kind, 'canceled'), message, pushed_at_ms, queued_at_ms, started_at_ms, finished_at_ms,
  executor, container_id, image_tag, build_started_at_ms, build_finished_at_ms, container_started_at_ms,
  container_stopped_at_ms, workspace_path, group_name, supersede, unexamined, params, only_failed, keep,
  logs_removed_at_ms, artifacts_removed_at_ms
FROM runs;

DROP TABLE runs;
ALTER TABLE new_runs RENAME TO runs;

CREATE INDEX runs_pending ON runs (queued_at_ms, id) WHERE state = 'pending';
-- Two active runs of one ref cannot exist.
CREATE UNIQUE INDEX runs_active ON runs (repo, ref_name) WHERE state = 'active';
CREATE INDEX runs_pending_by_ref ON runs (repo, ref_name) WHERE state = 'pending';
CREATE UNIQUE INDEX runs_by_number ON runs (repo, number);
CREATE INDEX runs_by_repo ON runs (repo, id DESC);
CREATE INDEX runs_by_repo_ref ON runs (repo, ref_name, id DESC);
CREATE INDEX runs_by_event ON runs (event_id);
CREATE INDEX runs_by_retry ON runs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX runs_by_successor ON runs (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX runs_by_state ON runs (state, id DESC);
CREATE INDEX runs_live ON runs (repo, queued_at_ms) WHERE state IN ('pending', 'active');
CREATE INDEX runs_live_by_group ON runs (repo, group_name, queued_at_ms, id) WHERE state IN ('pending', 'active') AND group_name IS NOT NULL;
CREATE INDEX runs_unexamined ON runs (repo, queued_at_ms, id) WHERE state = 'pending' AND unexamined = 1;

-- The last number that a run of each repository got. A number is not used again after retention has deleted its run.
CREATE TABLE run_numbers (
  repo TEXT PRIMARY KEY,
  last INTEGER NOT NULL CHECK (last >= 1)
) STRICT, WITHOUT ROWID;

INSERT INTO run_numbers (repo, last) SELECT repo, max(number) FROM runs GROUP BY repo;
