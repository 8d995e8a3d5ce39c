-- Rows as release 0.1 wrote them: what the migrations after it have to carry over.
INSERT INTO instance (one, id, created_at_ms) VALUES (1, '01970000-0000-7000-8000-000000000000', 1700000000000);
INSERT INTO events (id, type, repo, pusher, pushed_at_ms, received_at_ms, options) VALUES
  ('01970000-0000-7000-8000-0000000000e1', 'push', 'app', 'laptop', 1700000000000, 1700000000010, '["ci.job=test"]'),
  ('01970000-0000-7000-8000-0000000000e2', 'reconcile', 'work/app', NULL, 1700000001000, 1700000001000, '[]');
INSERT INTO event_refs (event_id, position, ref_name, old_sha, new_sha) VALUES
  ('01970000-0000-7000-8000-0000000000e1', 0, 'refs/heads/main', NULL, '1111111111111111111111111111111111111111'),
  ('01970000-0000-7000-8000-0000000000e2', 0, 'refs/heads/main', NULL, '2222222222222222222222222222222222222222');
INSERT INTO seen_refs (repo, ref_name, sha, compared) VALUES
  ('app', 'refs/heads/main', '1111111111111111111111111111111111111111', 0),
  ('work/app', 'refs/heads/main', '2222222222222222222222222222222222222222', 1);
INSERT INTO runs (id, repo, ref_name, sha, event_id, "trigger", pusher, only_job, retry_of, superseded_by, stop_requested, state, failure_kind,
                  message, pushed_at_ms, queued_at_ms, started_at_ms, finished_at_ms, executor, container_id, image_tag) VALUES
  ('01970000-0000-7000-8000-000000000001', 'app', 'refs/heads/main', '1111111111111111111111111111111111111111',
   '01970000-0000-7000-8000-0000000000e1', 'push', 'laptop', 'test', NULL, NULL, NULL, 'failed', 'job',
   'job `test` failed', 1700000000000, 1700000000010, 1700000000020, 1700000000900, 'docker', NULL, 'debian:trixie-slim'),
  ('01970000-0000-7000-8000-000000000002', 'app', 'refs/heads/main', '1111111111111111111111111111111111111111',
   NULL, 'retry', 'laptop', 'test', '01970000-0000-7000-8000-000000000001', NULL, NULL, 'active', NULL,
   NULL, 1700000000000, 1700000001000, 1700000001010, NULL, 'docker', 'c0ffee', 'debian:trixie-slim'),
  ('01970000-0000-7000-8000-000000000003', 'work/app', 'refs/heads/main', '2222222222222222222222222222222222222222',
   '01970000-0000-7000-8000-0000000000e2', 'push', NULL, NULL, NULL, NULL, NULL, 'pending', NULL,
   'waits: the Docker engine cannot be reached', 1700000001000, 1700000001000, NULL, NULL, NULL, NULL, NULL),
  ('01970000-0000-7000-8000-000000000004', 'work/app', 'refs/heads/old', '2222222222222222222222222222222222222222',
   NULL, 'push', NULL, NULL, NULL, '01970000-0000-7000-8000-000000000003', NULL, 'superseded', NULL,
   NULL, 1700000000500, 1700000000500, NULL, 1700000000900, NULL, NULL, NULL);
INSERT INTO jobs (run_id, job_id, position, inputs, state, exit_code, message, output, started_at_ms, finished_at_ms) VALUES
  ('01970000-0000-7000-8000-000000000001', 'build', 0, '["quire/push"]', 'complete', NULL, NULL, '{"version":"1.2"}', 1700000000030, 1700000000200),
  ('01970000-0000-7000-8000-000000000001', 'test', 1, '["build"]', 'failed', 2, 'it failed', NULL, 1700000000200, 1700000000890),
  ('01970000-0000-7000-8000-000000000002', 'build', 0, '["quire/push"]', 'active', NULL, NULL, NULL, 1700000001030, NULL);
INSERT INTO steps (run_id, seq, job_id, command, exit_code, started_at_ms, finished_at_ms) VALUES
  ('01970000-0000-7000-8000-000000000001', 1, 'test', 'make test', 2, 1700000000210, 1700000000880);
INSERT INTO login_links (token_hash, key_name, key_fingerprint, expires_at_ms) VALUES ('a', 'laptop', 'SHA256:x', 1700000300000);
INSERT INTO sessions (token_hash, key_name, key_fingerprint, created_at_ms, expires_at_ms) VALUES ('b', 'laptop', 'SHA256:x', 1700000000000, 1702592000000);
