-- Rows as the release that added 0019 writes them: a mirror of a public repository, and one with a token and runs.
INSERT INTO pull_mirrors (repo, url, login_user, secret, every_ms, has_runs) VALUES
  ('upstream', 'https://git.example.org/upstream.git', NULL, NULL, 3600000, 0),
  ('work/shop', 'https://git.example.org/shop.git', 'git', 'forge-token', 60000, 1);
