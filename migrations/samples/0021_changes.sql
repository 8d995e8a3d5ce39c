-- Rows as the release that added 0021 writes them: two versions of a change.
INSERT INTO change_commits (repo, change_id, sha, event_id, pushed_at_ms, pusher) VALUES
  ('app', 'qpvuntsmwlqtpsluzzsnyyzlmlwvmlnu', '1111111111111111111111111111111111111111',
   '01970000-0000-7000-8000-0000000000e1', 1700000000000, 'laptop'),
  ('app', 'qpvuntsmwlqtpsluzzsnyyzlmlwvmlnu', '2222222222222222222222222222222222222222',
   '01970000-0000-7000-8000-0000000000e2', 1700000001000, NULL);
