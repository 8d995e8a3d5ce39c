-- Images that are looked up in their registries, although the engine has them.

-- Whether the images of the run are pulled and built afresh.
ALTER TABLE runs ADD COLUMN rebuild INTEGER NOT NULL DEFAULT 0 CHECK (rebuild IN (0, 1));

-- When a newer version of an image was last looked for, so that it is looked for once a day also after restarts.
CREATE TABLE image_looks (
  -- The name of the image, or the tag of an image that was built and whose base images were looked for.
  name         TEXT PRIMARY KEY,
  looked_at_ms INTEGER NOT NULL,
  -- What the name referred to on the engine. Empty for an image that was built.
  image_id     TEXT NOT NULL,
  -- The name by digest of the newer version; NULL if there was none.
  newer        TEXT
) STRICT, WITHOUT ROWID;
