-- Rows as the release that brought 0009 writes them: built, being built, replaced and pulled.
INSERT INTO images (engine, name, image_id, repo, used_at_ms) VALUES
  ('ENGINE', 'quire/app:8899aabbccddeeff', 'sha256:22', 'app', 1700000000000),
  ('ENGINE', 'quire/app:0123456789abcdef', '', 'app', 1700000000000),
  ('ENGINE', 'sha256:33', 'sha256:33', 'app', 1700000000000),
  ('ENGINE', 'node:20', 'sha256:44', NULL, 1700000000000);
