-- The ends of runs that have to be told, and how far each target of `:notify` has come.

-- One row for each run that has ended, in the order of the ends. A row is deleted once every target has passed it.
-- Numbers are never used again, since targets remember them.
CREATE TABLE outbox (
  seq    INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
  run_id TEXT NOT NULL UNIQUE REFERENCES runs (id) ON DELETE CASCADE
) STRICT;

-- Every way to an end passes here, in its own transaction. A migration that makes the table `runs` anew drops this
-- trigger with the old table, so it has to create it again.
CREATE TRIGGER runs_to_outbox AFTER UPDATE OF state ON runs
WHEN old.state IN ('pending', 'active') AND new.state NOT IN ('pending', 'active')
BEGIN
  INSERT INTO outbox (run_id) VALUES (new.id);
END;

-- The targets of the configuration in force.
CREATE TABLE notify_targets (
  name            TEXT PRIMARY KEY,
  -- The last row of the outbox that was delivered, is not for this target, or was given up.
  position        INTEGER NOT NULL CHECK (position >= 0),
  -- Failed attempts in a row, why the last one failed, and when the next one may be made.
  failures        INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
  problem         TEXT,
  next_attempt_ms INTEGER,
  -- Messages that were given up since the target was added.
  given_up        INTEGER NOT NULL DEFAULT 0 CHECK (given_up >= 0),
  delivered_ms    INTEGER,
  CHECK ((problem IS NULL) = (failures = 0)),
  CHECK (next_attempt_ms IS NULL OR failures > 0)
) STRICT, WITHOUT ROWID;
