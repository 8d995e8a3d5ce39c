-- What pushes overwrote and can be brought back: refs that were deleted, or moved to a commit that does not contain the old one.
-- Hidden refs of git (refs/quire/undo) keep the objects. Events may be deleted earlier, so this does not refer to them.
CREATE TABLE overwritten_refs (
  event_id       TEXT NOT NULL,
  ref_name       TEXT NOT NULL,
  repo           TEXT NOT NULL,
  old_sha        TEXT NOT NULL,
  -- NULL if the ref was deleted.
  new_sha        TEXT CHECK (new_sha <> old_sha),
  pushed_at_ms   INTEGER NOT NULL,
  -- When its time begins.
  recorded_at_ms INTEGER NOT NULL,
  pusher         TEXT,
  PRIMARY KEY (event_id, ref_name)
) STRICT, WITHOUT ROWID;

CREATE INDEX overwritten_refs_by_ref ON overwritten_refs (repo, ref_name, recorded_at_ms);
CREATE INDEX overwritten_refs_by_time ON overwritten_refs (recorded_at_ms);
