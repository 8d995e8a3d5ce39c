-- Rows as the release that brought 0011 writes them: of a key, of a certificate, and of none.
INSERT INTO access_tokens (token_hash, name, scope, key_name, key_fingerprint, certificate, created_at_ms, used_at_ms) VALUES
  ('e', 'laptop', 'read', 'laptop', 'SHA256:x', NULL, 1700000000000, NULL),
  ('f', 'deploy', 'write', 'SHA256:y', 'SHA256:x', 'AAAA', 1700000000000, 1700000060000),
  ('g', 'here', 'read', 'local', NULL, NULL, 1700000000000, NULL);
