-- Rows as the release that added 0007 writes them: what the migrations after it have to preserve.
INSERT INTO run_numbers (repo, last) VALUES ('app', 3) ON CONFLICT (repo) DO UPDATE SET last = last + 1;
INSERT INTO runs (id, repo, number, ref_name, sha, subject, "trigger", stop_requested, state, message, pushed_at_ms, queued_at_ms, finished_at_ms)
SELECT '01970000-0000-7000-8000-000000000007', 'app', last, 'refs/heads/canceled', '1111111111111111111111111111111111111111', 'Add a test',
       'push', 'canceled', 'canceled', 'canceled before it started', 1700000003000, 1700000003000, 1700000003010
FROM run_numbers WHERE repo = 'app';
