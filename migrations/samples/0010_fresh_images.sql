-- Rows as the release that added 0010 writes them: what the migrations after it have to preserve.
INSERT INTO run_numbers (repo, last) VALUES ('app', 3) ON CONFLICT (repo) DO UPDATE SET last = last + 1;
INSERT INTO runs (id, repo, number, ref_name, sha, subject, "trigger", rebuild, state, pushed_at_ms, queued_at_ms)
SELECT '01970000-0000-7000-8000-00000000000a', 'app', last, 'refs/heads/fresh', '1111111111111111111111111111111111111111', 'Add a test',
       'manual', 1, 'pending', 1700000004000, 1700000004000
FROM run_numbers WHERE repo = 'app';
INSERT INTO image_looks (name, looked_at_ms, image_id, newer) VALUES
  ('quire/app:8899aabbccddeeff', 1700000000000, '', NULL),
  ('node:20', 1700000000000, 'sha256:44', 'node@sha256:5555555555555555555555555555555555555555555555555555555555555555');
