-- Repositories that follow one on another machine. What is known of the other side is in `mirrors`, under the name `origin`.

CREATE TABLE pull_mirrors (
  repo       TEXT PRIMARY KEY,
  -- The address, without any secret.
  url        TEXT NOT NULL,
  -- For HTTPS: the user, and the name of the secret that is the token.
  login_user TEXT,
  secret     TEXT,
  -- How often it is fetched.
  every_ms   INTEGER NOT NULL CHECK (every_ms > 0),
  -- Whether what is fetched has runs, as what is pushed has.
  has_runs   INTEGER NOT NULL CHECK (has_runs IN (0, 1)),
  CHECK ((login_user IS NULL) = (secret IS NULL))
) STRICT, WITHOUT ROWID;
