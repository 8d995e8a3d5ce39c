-- What the whole pipeline language and its runs need.

-- Groups: runs of one group of a repository do not go on side by side.
ALTER TABLE runs ADD COLUMN group_name TEXT;
-- Whether a newer run of its ref, or of its group, takes its place.
ALTER TABLE runs ADD COLUMN supersede INTEGER NOT NULL DEFAULT 1 CHECK (supersede IN (0, 1));
-- Its pipeline may name a group, and has to be evaluated before the run is claimed or superseded.
ALTER TABLE runs ADD COLUMN unexamined INTEGER NOT NULL DEFAULT 0 CHECK (unexamined IN (0, 1));
-- Release 0.1 knew no groups: what it left waiting, or what is repeated of it, is looked at first.
UPDATE runs SET unexamined = 1 WHERE state <> 'complete';
-- What the person who started it by hand gave along: an object of texts.
ALTER TABLE runs ADD COLUMN params TEXT CHECK (params IS NULL OR json_valid(params));
-- Whether it repeats only what failed of the run in retry_of, and what depends on that.
ALTER TABLE runs ADD COLUMN only_failed INTEGER NOT NULL DEFAULT 0 CHECK (only_failed IN (0, 1));
-- Whether its container is kept for a while when it fails (push option ci.keep).
ALTER TABLE runs ADD COLUMN keep INTEGER NOT NULL DEFAULT 0 CHECK (keep IN (0, 1));
-- When retention removed its logs and its artifacts.
ALTER TABLE runs ADD COLUMN logs_removed_at_ms INTEGER;
ALTER TABLE runs ADD COLUMN artifacts_removed_at_ms INTEGER;

CREATE INDEX runs_live ON runs (repo, queued_at_ms) WHERE state IN ('pending', 'active');
CREATE INDEX runs_live_by_group ON runs (repo, group_name, queued_at_ms, id) WHERE state IN ('pending', 'active') AND group_name IS NOT NULL;
CREATE INDEX runs_unexamined ON runs (repo, queued_at_ms, id) WHERE state = 'pending' AND unexamined = 1;

-- The run whose recorded result this job has, instead of having been run again.
ALTER TABLE jobs ADD COLUMN reused_from TEXT;

-- Containers of failed runs that were asked to be kept, and until when.
CREATE TABLE kept_containers (
  run_id       TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
  container_id TEXT NOT NULL,
  until_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The schedules of each repository's default branch, and when each comes due next.
CREATE TABLE schedules (
  repo       TEXT NOT NULL,
  name       TEXT NOT NULL,
  schedule   TEXT NOT NULL,
  next_at_ms INTEGER NOT NULL,
  PRIMARY KEY (repo, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX schedules_due ON schedules (next_at_ms);

-- Which commit of which branch a repository's schedules were read from.
CREATE TABLE schedule_sources (
  repo     TEXT PRIMARY KEY,
  ref_name TEXT NOT NULL,
  sha      TEXT NOT NULL,
  -- Why its pipeline could not be read; the schedules of the last good one stay.
  problem  TEXT
) STRICT, WITHOUT ROWID;

-- What jobs kept: each is a file or a folder below the run's artifacts.
CREATE TABLE artifacts (
  run_id        TEXT NOT NULL,
  name          TEXT NOT NULL,
  job_id        TEXT NOT NULL,
  is_folder     INTEGER NOT NULL CHECK (is_folder IN (0, 1)),
  files         INTEGER NOT NULL CHECK (files >= 0),
  bytes         INTEGER NOT NULL CHECK (bytes >= 0),
  created_at_ms INTEGER NOT NULL,
  PRIMARY KEY (run_id, name),
  FOREIGN KEY (run_id, job_id) REFERENCES jobs (run_id, job_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- When git's own maintenance of each repository ended last, and how.
CREATE TABLE maintenance (
  repo     TEXT PRIMARY KEY,
  ended_ms INTEGER NOT NULL,
  problem  TEXT
) STRICT, WITHOUT ROWID;
