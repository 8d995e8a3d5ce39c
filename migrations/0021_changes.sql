-- Which commits a change had: one row for each commit with a change id that a push brought. So earlier versions of a change are
-- known after the branch has moved. Events may be deleted earlier, so this does not refer to them.
CREATE TABLE change_commits (
  repo         TEXT NOT NULL,
  change_id    TEXT NOT NULL CHECK (length(change_id) BETWEEN 1 AND 64),
  sha          TEXT NOT NULL,
  -- The first push that brought the commit.
  event_id     TEXT NOT NULL,
  pushed_at_ms INTEGER NOT NULL,
  pusher       TEXT,
  PRIMARY KEY (repo, change_id, sha)
) STRICT, WITHOUT ROWID;

CREATE INDEX change_commits_by_sha ON change_commits (repo, sha);
