-- Rows as the release that added 0015 writes them: a mirror that is new, one in sync, and one that fails, with refs that are in
-- sync, wait and were rejected.
INSERT INTO mirrors (repo, name, url, host_key, in_sync_ms, failures, failure_kind, problem, failing_since_ms, next_attempt_ms) VALUES
  ('app', 'new', 'git@nas:app.git', NULL, NULL, 0, NULL, NULL, NULL, NULL),
  ('app', 'nas', 'ssh://git@nas/app', 'ssh-ed25519 AAAA', 1700000004000, 0, NULL, NULL, NULL, NULL),
  ('app', 'web', 'https://git.example.org/app.git', NULL, 1700000004000, 3, 'rejected', 'a ref was rejected', 1700000005000, 1700000009000);
INSERT INTO mirror_refs (repo, name, ref_name, wanted_sha, remote_sha, waiting_since_ms, failed_since_ms, problem) VALUES
  ('app', 'nas', 'refs/heads/main', '1111111111111111111111111111111111111111', '1111111111111111111111111111111111111111', NULL, NULL, NULL),
  ('app', 'web', 'refs/heads/main', '2222222222222222222222222222222222222222', '1111111111111111111111111111111111111111', 1700000005000, 1700000005000, 'hook declined'),
  ('app', 'web', 'refs/heads/old', NULL, '1111111111111111111111111111111111111111', 1700000005000, NULL, NULL);
