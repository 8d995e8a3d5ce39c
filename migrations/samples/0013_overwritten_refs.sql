-- Rows as the release that added 0013 writes them: a branch that was moved by force, and a tag that was deleted.
INSERT INTO overwritten_refs (event_id, ref_name, repo, old_sha, new_sha, pushed_at_ms, recorded_at_ms, pusher) VALUES
  ('01970000-0000-7000-8000-0000000000e1', 'refs/heads/main', 'app', '1111111111111111111111111111111111111111',
   '2222222222222222222222222222222222222222', 1700000000000, 1700000000100, 'laptop'),
  ('01970000-0000-7000-8000-0000000000e2', 'refs/tags/v1', 'app', '1111111111111111111111111111111111111111', NULL,
   1700000001000, 1700000001100, NULL);
