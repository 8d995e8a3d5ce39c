-- Rows as the release that added 0006 writes them: what the migrations after it have to preserve.
INSERT INTO login_links (token_hash, key_name, key_fingerprint, certificate, expires_at_ms) VALUES ('c', 'SHA256:y', 'SHA256:x', 'AAAA', 1700000300000);
INSERT INTO sessions (token_hash, key_name, key_fingerprint, certificate, created_at_ms, expires_at_ms) VALUES
  ('d', 'SHA256:y', 'SHA256:x', 'AAAA', 1700000000000, 1702592000000);
