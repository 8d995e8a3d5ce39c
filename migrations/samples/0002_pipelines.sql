-- Rows of what 0002 added, beside those of 0001 once they are carried over.
UPDATE runs SET unexamined = 0;
UPDATE runs SET group_name = 'deploy', supersede = 0, params = '{"to":"staging"}' WHERE id = '01970000-0000-7000-8000-000000000003';
INSERT INTO schedules (repo, name, schedule, next_at_ms) VALUES ('app', 'nightly', '0 3 * * *', 1700010000000);
INSERT INTO schedule_sources (repo, ref_name, sha, problem) VALUES
  ('app', 'refs/heads/main', '1111111111111111111111111111111111111111', NULL);
INSERT INTO artifacts (run_id, name, job_id, is_folder, files, bytes, created_at_ms) VALUES
  ('01970000-0000-7000-8000-000000000001', 'app.tar.gz', 'build', 0, 1, 1000, 1700000000190);
INSERT INTO maintenance (repo, ended_ms, problem) VALUES ('app', 1700000050000, NULL);
