-- Commits that were pushed to `refs/for-green/BRANCH`: the branch moves to each once its run is green.

CREATE TABLE landings (
  -- Those of one branch land in this order.
  id            INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
  repo          TEXT NOT NULL,
  -- The full name of the branch.
  branch        TEXT NOT NULL,
  -- What is done if the commit is no fast-forward when its turn has come.
  method        TEXT NOT NULL CHECK (method IN ('ff', 'rebase', 'merge')),
  pusher        TEXT,
  pushed_sha    TEXT NOT NULL,
  -- The commit that is tested: the one that was pushed, or one that was made of it on the branch.
  tested_sha    TEXT NOT NULL,
  -- The event that records the ref of that commit, and with it its run. It may still have to be recorded.
  event_id      TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('testing', 'moving', 'landed', 'failed', 'canceled')),
  -- What the branch refers to before the move, NULL if it does not exist, and the event that records the move.
  base_sha      TEXT,
  move_event_id TEXT,
  -- What it waits for, or why it did not land.
  message       TEXT,
  created_at_ms INTEGER NOT NULL,
  ended_at_ms   INTEGER,
  CHECK ((ended_at_ms IS NULL) = (state IN ('testing', 'moving'))),
  CHECK (state <> 'moving' OR move_event_id IS NOT NULL),
  CHECK (state NOT IN ('failed', 'canceled') OR message IS NOT NULL)
) STRICT;

CREATE INDEX landings_open ON landings (repo, id) WHERE state IN ('testing', 'moving');
CREATE INDEX landings_by_commit ON landings (repo, branch, tested_sha);

-- Refs of commits that wait to land, and of those that have ended, until they are deleted.
CREATE INDEX seen_refs_of_landings ON seen_refs (repo) WHERE ref_name >= 'refs/for-green/' AND ref_name < 'refs/for-green0';
