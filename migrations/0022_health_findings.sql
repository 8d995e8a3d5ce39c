-- The outbox has findings about the health of the appliance as well as runs that have ended and refs that were pushed, in one order.

-- What is wrong with the appliance and was told, until its end is told.
CREATE TABLE health_findings (
  part        TEXT NOT NULL,
  -- What of the part, such as a mirror; empty for the part itself.
  subject     TEXT NOT NULL,
  level       TEXT NOT NULL CHECK (level IN ('degraded', 'down')),
  -- As it was told last.
  text        TEXT NOT NULL,
  began_at_ms INTEGER NOT NULL,
  told_at_ms  INTEGER NOT NULL,
  PRIMARY KEY (part, subject)
) STRICT, WITHOUT ROWID;

-- What is told of a finding, as it was at that moment. A row is deleted with that of the outbox.
CREATE TABLE health_reports (
  id          TEXT PRIMARY KEY,
  part        TEXT NOT NULL,
  subject     TEXT NOT NULL,
  phase       TEXT NOT NULL CHECK (phase IN ('began', 'worse', 'lasts', 'over')),
  -- How bad it is, or was.
  level       TEXT NOT NULL CHECK (level IN ('degraded', 'down')),
  text        TEXT NOT NULL,
  began_at_ms INTEGER NOT NULL,
  at_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The trigger names the table that is made anew.
DROP TRIGGER runs_to_outbox;

-- One row for each run that has ended, for each ref of a push that targets may be told of, and for each report of a finding.
CREATE TABLE new_outbox (
  seq          INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
  run_id       TEXT UNIQUE REFERENCES runs (id) ON DELETE CASCADE,
  event_id     TEXT,
  ref_position INTEGER,
  report_id    TEXT UNIQUE REFERENCES health_reports (id) ON DELETE CASCADE,
  UNIQUE (event_id, ref_position),
  FOREIGN KEY (event_id, ref_position) REFERENCES event_refs (event_id, position) ON DELETE CASCADE,
  CHECK ((run_id IS NOT NULL) + (event_id IS NOT NULL) + (report_id IS NOT NULL) = 1),
  CHECK ((event_id IS NULL) = (ref_position IS NULL))
) STRICT;

INSERT INTO new_outbox (seq, run_id, event_id, ref_position) SELECT seq, run_id, event_id, ref_position FROM outbox;
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

CREATE TRIGGER reports_out_of_outbox AFTER DELETE ON outbox
WHEN old.report_id IS NOT NULL
BEGIN
  DELETE FROM health_reports WHERE id = old.report_id;
END;
