-- What runs leave outside of the volume, so that it can go when nobody has used it for long.

-- Images by name that quire brought onto an engine, or has built there. One that is not in here, or whose name
-- stands for something else by now, is somebody else's.
CREATE TABLE images (
  -- The engine's own id: another engine at the same address has other images.
  engine     TEXT NOT NULL,
  name       TEXT NOT NULL,
  image_id   TEXT NOT NULL,
  used_at_ms INTEGER NOT NULL,
  PRIMARY KEY (engine, name)
) STRICT, WITHOUT ROWID;

-- Images without a name that builds of quire's made on the way: stages, and what a build that failed got to.
CREATE TABLE layers (
  engine     TEXT NOT NULL,
  -- As the engine said it: the beginning of its id.
  image_id   TEXT NOT NULL,
  -- The engine's time when the build began. What is older was not made by it.
  since_ms   INTEGER NOT NULL,
  -- The image that was to become of it.
  built_for  TEXT NOT NULL,
  used_at_ms INTEGER NOT NULL,
  PRIMARY KEY (engine, image_id)
) STRICT, WITHOUT ROWID;

-- When a run last had a cache. Which caches there are, the executors know.
CREATE TABLE cache_uses (
  executor   TEXT NOT NULL CHECK (executor IN ('docker', 'host')),
  repo       TEXT NOT NULL,
  name       TEXT NOT NULL,
  used_at_ms INTEGER NOT NULL,
  PRIMARY KEY (executor, repo, name)
) STRICT, WITHOUT ROWID;
