-- Rows as the release that added 0022 writes them: a finding that was told, and what was told of it.
INSERT INTO health_findings (part, subject, level, text, began_at_ms, told_at_ms) VALUES
  ('mirrors', 'app nas', 'degraded', 'mirror `nas` of app: not in sync for 12 min', 1700000000000, 1700000009000);
INSERT INTO health_reports (id, part, subject, phase, level, text, began_at_ms, at_ms) VALUES
  ('01970000-0000-7000-8000-0000000000f1', 'mirrors', 'app nas', 'began', 'degraded', 'mirror `nas` of app: not in sync for 12 min', 1700000000000, 1700000009000);
INSERT INTO outbox (report_id) VALUES ('01970000-0000-7000-8000-0000000000f1');
