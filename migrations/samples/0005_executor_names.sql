-- Rows as the release that added 0005 writes them: what the migrations after it have to preserve.
INSERT INTO runs (id, repo, ref_name, sha, "trigger", state, failure_kind, message, pushed_at_ms, queued_at_ms, started_at_ms, finished_at_ms, executor) VALUES
  ('01970000-0000-7000-8000-000000000005', 'app', 'refs/heads/podman', '1111111111111111111111111111111111111111', 'push', 'failed', 'job',
   'job `test` failed', 1700000002000, 1700000002000, 1700000002010, 1700000002020, 'podman');
INSERT INTO cache_uses (executor, repo, name, used_at_ms) VALUES ('podman', 'app', 'target', 1700000002000);
