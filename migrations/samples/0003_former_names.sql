-- Rows as the release that brought 0003 writes them: what the migrations after it have to carry over.
INSERT INTO former_names (name, repo, moving, renamed_at_ms) VALUES
  ('shop', 'app', 0, 1700000000000),
  ('work/app', 'work/site', 1, 1700000001000);
INSERT INTO left_links (name) VALUES ('shop');
