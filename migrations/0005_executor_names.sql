-- The name of an executor is text, so that a new executor needs no migration. A CHECK constraint cannot be changed, so the
-- two tables that restricted it are rebuilt. Foreign keys are off during migrations, and checked at the end of each.

CREATE TABLE new_runs (
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
  CHECK (state NOT IN ('failed', 'superseded') OR (finished_at_ms IS NOT NULL AND container_id IS NULL)),
  CHECK (superseded_by IS NULL OR state IN ('pending', 'active', 'superseded') OR stop_requested IS NOT NULL)
) STRICT;

INSERT INTO new_runs (
  id, repo, ref_name, sha, previous_sha, event_id, "trigger", source, pusher, only_job, retry_of, superseded_by,
  stop_requested, state, failure_kind, message, pushed_at_ms, queued_at_ms, started_at_ms, finished_at_ms,
  executor, container_id, image_tag, build_started_at_ms, build_finished_at_ms, container_started_at_ms,
  container_stopped_at_ms, workspace_path, group_name, supersede, unexamined, params, only_failed, keep,
  logs_removed_at_ms, artifacts_removed_at_ms
) SELECT
  id, repo, ref_name, sha, previous_sha, event_id, "trigger", source, pusher, only_job, retry_of, superseded_by,
  stop_requested, state, failure_kind, message, pushed_at_ms, queued_at_ms, started_at_ms, finished_at_ms,
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
CREATE INDEX runs_by_repo ON runs (repo, id DESC);
CREATE INDEX runs_by_repo_ref ON runs (repo, ref_name, id DESC);
CREATE INDEX runs_by_event ON runs (event_id);
CREATE INDEX runs_by_retry ON runs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX runs_by_successor ON runs (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX runs_by_state ON runs (state, id DESC);
CREATE INDEX runs_live ON runs (repo, queued_at_ms) WHERE state IN ('pending', 'active');
CREATE INDEX runs_live_by_group ON runs (repo, group_name, queued_at_ms, id) WHERE state IN ('pending', 'active') AND group_name IS NOT NULL;
CREATE INDEX runs_unexamined ON runs (repo, queued_at_ms, id) WHERE state = 'pending' AND unexamined = 1;

CREATE TABLE new_cache_uses (
  executor   TEXT NOT NULL CHECK (length(executor) BETWEEN 1 AND 40),
  repo       TEXT NOT NULL,
  name       TEXT NOT NULL,
  used_at_ms INTEGER NOT NULL,
  PRIMARY KEY (executor, repo, name)
) STRICT, WITHOUT ROWID;

INSERT INTO new_cache_uses (executor, repo, name, used_at_ms) SELECT executor, repo, name, used_at_ms FROM cache_uses;
DROP TABLE cache_uses;
ALTER TABLE new_cache_uses RENAME TO cache_uses;
