-- Names that repositories had before.

-- A former name leads to its repository until somebody takes it. While `moving` is 1 the repository is being
-- renamed: the rows still bear `name`, the folders bear either; `repo` is nobody else's.
CREATE TABLE former_names (
  name          TEXT PRIMARY KEY,
  repo          TEXT NOT NULL,
  moving        INTEGER NOT NULL DEFAULT 1 CHECK (moving IN (0, 1)),
  renamed_at_ms INTEGER NOT NULL,
  CHECK (name <> repo)
) STRICT, WITHOUT ROWID;

CREATE INDEX former_names_by_repo ON former_names (repo);
CREATE UNIQUE INDEX former_names_moving ON former_names (repo) WHERE moving = 1;

-- Names below which links to the folders of moved runs may lie: runs that go on under the name they began with.
CREATE TABLE left_links (
  name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
