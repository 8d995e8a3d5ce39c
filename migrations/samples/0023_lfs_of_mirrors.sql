-- Rows as the release that added 0023 writes them: a mirror whose objects of Git LFS are there, one whose remote has no Git LFS, and
-- one that fails because of them.
INSERT INTO mirrors (repo, name, url, host_key, in_sync_ms, failures, failure_kind, problem, failing_since_ms, next_attempt_ms, lfs_problem) VALUES
  ('art', 'nas', 'ssh://git@nas/art', 'ssh-ed25519 AAAA', 1700000004000, 0, NULL, NULL, NULL, NULL, NULL),
  ('art', 'old', 'https://old.example.org/art.git', NULL, 1700000004000, 0, NULL, NULL, NULL, NULL, 'the other side has no Git LFS'),
  ('art', 'web', 'https://git.example.org/art.git', NULL, 1700000004000, 2, 'lfs', 'an object was not accepted', 1700000005000, 1700000009000, NULL);
INSERT INTO mirror_refs (repo, name, ref_name, wanted_sha, remote_sha, waiting_since_ms, failed_since_ms, problem, lfs_sha) VALUES
  ('art', 'nas', 'refs/heads/main', '1111111111111111111111111111111111111111', '1111111111111111111111111111111111111111', NULL, NULL, NULL, '1111111111111111111111111111111111111111'),
  ('art', 'old', 'refs/heads/main', '1111111111111111111111111111111111111111', '1111111111111111111111111111111111111111', NULL, NULL, NULL, NULL),
  ('art', 'web', 'refs/heads/main', '2222222222222222222222222222222222222222', '2222222222222222222222222222222222222222', NULL, NULL, NULL, '1111111111111111111111111111111111111111');
