-- Rows as the release that added 0020 writes them: a ref that was pushed.
INSERT INTO outbox (event_id, ref_position) VALUES ('01970000-0000-7000-8000-0000000000e1', 0);
