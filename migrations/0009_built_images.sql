-- Which images quire built, and from which repository. A label on an image does not prove that: every image that a
-- person builds on one of quire's inherits it.

-- NULL if quire pulled the image.
ALTER TABLE images ADD COLUMN repo TEXT;

-- Earlier versions recorded every image with their label, also those of a person. Only what a run built is known to
-- be quire's own.
UPDATE images SET repo = (SELECT runs.repo FROM runs WHERE runs.image_tag = images.name ORDER BY runs.id DESC LIMIT 1)
WHERE name LIKE 'quire/%:%';
