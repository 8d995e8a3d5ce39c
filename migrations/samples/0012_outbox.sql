-- Rows as the release that added 0012 writes them: a run that has ended, and targets that have told of nothing, of
-- something, and that fail.
INSERT INTO outbox (run_id) VALUES ('01970000-0000-7000-8000-000000000007');
INSERT INTO notify_targets (name, position, failures, problem, next_attempt_ms, given_up, delivered_ms) VALUES
  ('new', 0, 0, NULL, NULL, 0, NULL),
  ('hook', 1, 0, NULL, NULL, 2, 1700000004000),
  ('mail', 0, 3, 'the connection was refused', 1700000009000, 0, NULL);
