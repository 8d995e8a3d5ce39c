-- Whether this database is an older copy of one that was in use: the same count stands in a file beside the
-- repositories, and a database that is behind the file was put in place of a newer one.

-- How many pushes were recorded and runs claimed.
ALTER TABLE instance ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0 CHECK (sequence >= 0);

-- Set while nothing runs because this is an older copy: `undecided`, or the owner's decision until it is applied.
ALTER TABLE instance ADD COLUMN held TEXT CHECK (held IN ('undecided', 'adopt', 'run'));

-- The newest run of the older copy.
ALTER TABLE instance ADD COLUMN held_run TEXT;
