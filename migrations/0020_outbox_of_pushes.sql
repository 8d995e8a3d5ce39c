-- The outbox has refs that were pushed as well as runs that have ended, in one order.

-- The trigger names the table that is made anew.
DROP TRIGGER runs_to_outbox;

-- One row for each run that has ended, and for each ref of a push that targets may be told of.
CREATE TABLE new_outbox (
  seq          INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
  run_id       TEXT UNIQUE REFERENCES runs (id) ON DELETE CASCADE,
  event_id     TEXT,
  ref_position INTEGER,
  UNIQUE (event_id, ref_position),
  FOREIGN KEY (event_id, ref_position) REFERENCES event_refs (event_id, position) ON DELETE CASCADE,
  CHECK ((run_id IS NULL) <> (event_id IS NULL)),
  CHECK ((event_id IS NULL) = (ref_position IS NULL))
) STRICT;

INSERT INTO new_outbox (seq, run_id) SELECT seq, run_id FROM outbox;
-- Numbers are never used again, since targets remember them.
DELETE FROM sqlite_sequence WHERE name = 'new_outbox';
INSERT INTO sqlite_sequence (name, seq) SELECT 'new_outbox', seq FROM sqlite_sequence WHERE name = 'outbox';
DROP TABLE outbox;
ALTER TABLE new_outbox RENAME TO outbox;

CREATE TRIGGER runs_to_outbox AFTER UPDATE OF state ON runs
WHEN old.state IN ('pending', 'active') AND new.state NOT IN ('pending', 'active')
BEGIN
  INSERT INTO outbox (run_id) VALUES (new.id);
END;
