-- A row as the release that added 0016 writes it.
INSERT INTO hook_deliveries (hook, delivery, run_id, received_at_ms) VALUES
  ('deploy', '72d3162e-cc78-11e3-81ab-4c9367dc0958', '01970000-0000-7000-8000-000000000007', 1700000004000);
