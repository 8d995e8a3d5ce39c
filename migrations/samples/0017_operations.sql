-- Rows as the release that added 0017 writes them.
INSERT INTO operations (id, begun_at_ms, ended_at_ms, actor, key_fingerprint, channel, repo, operation, state, message, undoes, event_id) VALUES
  (1, 1700000000000, 1700000000100, 'laptop', NULL, 'push', 'app', '{"kind":"push","repo":"app","refs":[{"ref_name":"refs/heads/main","old_sha":null,"new_sha":"1111111111111111111111111111111111111111","overwritten":false}],"more":0}', 'done', NULL, NULL, '01970000-0000-7000-8000-000000000001'),
  (2, 1700000001000, 1700000001000, 'laptop', 'SHA256:x', 'ssh', 'shop', '{"kind":"repo-rename","repo":"shop","former_name":"app"}', 'done', NULL, NULL, NULL),
  (3, 1700000002000, 1700000002000, 'local', NULL, 'local', 'app', '{"kind":"repo-rename","repo":"app","former_name":"shop"}', 'failed', 'the repository `app` exists already', 2, NULL),
  (4, 1700000003000, NULL, 'laptop', 'SHA256:x', 'ssh', NULL, '{"kind":"key-rm","name":"old","fingerprint":"SHA256:y","lines":["ssh-ed25519 AAAA old"]}', 'begun', NULL, NULL, NULL);
