-- Rows as the release that brought 0004 writes them: what the migrations after it have to carry over.
INSERT INTO images (engine, name, image_id, used_at_ms) VALUES ('ENGINE', 'debian:trixie-slim', 'sha256:11', 1700000000000);
INSERT INTO layers (engine, image_id, since_ms, built_for, used_at_ms) VALUES
  ('ENGINE', '0123456789ab', 1700000000000, 'quire/app:0011223344556677', 1700000000500);
INSERT INTO cache_uses (executor, repo, name, used_at_ms) VALUES ('docker', 'app', 'target', 1700000000000), ('host', 'work/app', 'deps', 1700000000000);
