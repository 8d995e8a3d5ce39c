-- Deliveries to incoming webhooks of the last day, so that one that is repeated starts no second run.
CREATE TABLE hook_deliveries (
  hook           TEXT NOT NULL,
  -- The id that the sender chose.
  delivery       TEXT NOT NULL,
  -- The run that it started, which may be removed by now.
  run_id         TEXT NOT NULL,
  received_at_ms INTEGER NOT NULL,
  PRIMARY KEY (hook, delivery)
) STRICT, WITHOUT ROWID;

CREATE INDEX hook_deliveries_by_time ON hook_deliveries (received_at_ms);
