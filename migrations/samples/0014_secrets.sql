-- Rows as the release that added 0014 writes them: a secret for one repository, which a run used, and one for all.
INSERT INTO secrets (name, repos, refs, version, key_id, nonce, ciphertext, created_at_ms, updated_at_ms, updated_by, used_at_ms) VALUES
  ('npm-token', '["app"]', '["refs/heads/main"]', 2, '0011223344556677', x'000102030405060708090a0b',
   x'000102030405060708090a0b0c0d0e0f1011', 1700000000000, 1700000001000, 'laptop', 1700000002000),
  ('other', NULL, NULL, 1, '0011223344556677', x'010102030405060708090a0b', x'000102030405060708090a0b0c0d0e0f1011',
   1700000000000, 1700000000000, 'local', NULL);
INSERT INTO secret_uses (secret, run_id, used_at_ms) VALUES
  ('npm-token', '01970000-0000-7000-8000-000000000001', 1700000002000);
