//! Rows and log files as the runner would have written them. Plain SQL against the schema in
//! `migrations/`, whose CHECK constraints refuse what cannot be.

use std::io::Write as _;
use std::path::Path;

use quire::clock::Millis;
use quire::names::{JobName, RepoName, RunId};
use quire::paths::Paths;
use quire::token::hash_token;
use rusqlite::{Connection, params};

/// What writes fake data into an appliance's volume.
pub(crate) struct Seed {
    paths: Paths,
}

impl Seed {
    pub(crate) fn new(paths: &Paths) -> Self {
        Self { paths: paths.clone() }
    }

    fn sql(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) {
        let connection = Connection::open(self.paths.database()).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection.execute(sql, parameters).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    pub(crate) fn repo(&self, name: &str) -> RepoName {
        let repo: RepoName = name.parse().unwrap();
        std::fs::create_dir_all(self.paths.repo(&repo)).unwrap();
        repo
    }

    /// A pending run.
    pub(crate) fn run(&self, repo: &str, branch: &str, at: Millis) -> RunId {
        let (repo, id) = (self.repo(repo), RunId::new());
        let sha = quire::token::hex(&[id.to_string().as_bytes()[35], 0x5e, 0x1f, 0x09, 0xab, 0x33].repeat(4)[..20]);
        self.sql(
            "INSERT INTO runs (id, repo, ref_name, sha, \"trigger\", pusher, state, pushed_at_ms, queued_at_ms, message)
             VALUES (?1, ?2, ?3, ?4, 'push', 'laptop', 'pending', ?5, ?5, NULL)",
            &[&id.to_string(), &repo.as_str(), &format!("refs/heads/{branch}"), &sha, &at.0],
        );
        id
    }

    pub(crate) fn start(&self, run: RunId, at: Millis) {
        self.sql(
            "UPDATE runs SET state = 'active', started_at_ms = ?2, executor = 'docker', image_tag = 'rust:1.95' WHERE id = ?1",
            params![run.to_string(), at.0],
        );
    }

    /// `outcome` is a state, or a failure kind.
    pub(crate) fn end(&self, run: RunId, outcome: &str, message: Option<&str>, at: Millis) {
        let (state, kind) = match outcome {
            "complete" | "superseded" => (outcome, None),
            kind => ("failed", Some(kind)),
        };
        self.sql(
            "UPDATE runs SET state = ?2, failure_kind = ?3, message = ?4, finished_at_ms = ?5 WHERE id = ?1",
            params![run.to_string(), state, kind, message, at.0],
        );
    }

    pub(crate) fn job(&self, run: RunId, name: &str, position: u32, inputs: &[&str]) {
        self.sql(
            "INSERT INTO jobs (run_id, job_id, position, inputs, state) VALUES (?1, ?2, ?3, ?4, 'pending')",
            params![run.to_string(), name, position, serde_json::to_string(inputs).unwrap()],
        );
    }

    /// Moves a job to a state; `at` is its start or its end.
    pub(crate) fn job_state(&self, run: RunId, name: &str, state: &str, at: Millis) {
        let column = if state == "active" { "started_at_ms" } else { "finished_at_ms" };
        self.sql(
            &format!("UPDATE jobs SET state = ?3, {column} = ?4 WHERE run_id = ?1 AND job_id = ?2"),
            params![run.to_string(), name, state, at.0],
        );
    }

    pub(crate) fn step(&self, run: RunId, seq: u32, job: &str, command: &str, at: Millis) {
        self.sql(
            "INSERT INTO steps (run_id, seq, job_id, command, started_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![run.to_string(), seq, job, command, at.0],
        );
    }

    pub(crate) fn step_end(&self, run: RunId, seq: u32, exit: i32, at: Millis) {
        self.sql(
            "UPDATE steps SET exit_code = ?3, finished_at_ms = ?4 WHERE run_id = ?1 AND seq = ?2",
            params![run.to_string(), seq, exit, at.0],
        );
    }

    /// Appends lines to a step's log, or to the run's own where `step` is none. A line that begins with `!` is
    /// standard error, one that ends with `\` goes on in the next.
    pub(crate) fn log(&self, repo: &str, run: RunId, step: Option<(&str, u32)>, lines: &[&str], at: Millis) {
        let folder = self.paths.run(&repo.parse().unwrap(), run);
        let path = match step {
            Some((job, seq)) => Paths::step_log(&folder, &job.parse::<JobName>().unwrap(), seq),
            None => Paths::run_log(&folder),
        };
        append(&path, lines, at);
    }

    /// A sign-in link's token.
    pub(crate) fn login_link(&self, key: &str, expires: Millis) -> String {
        let (token, hash) = quire::token::new_token().unwrap();
        assert_eq!(hash, hash_token(&token));
        self.sql("INSERT INTO login_links VALUES (?1, ?2, ?3)", params![hash, key, expires.0]);
        token
    }

    pub(crate) fn count(&self, table: &str) -> u32 {
        let connection = Connection::open(self.paths.database()).unwrap();
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

fn append(path: &Path, lines: &[&str], at: Millis) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut text = String::new();
    for line in lines {
        let (stream, line) = line.strip_prefix('!').map_or(("stdout", *line), |l| ("stderr", l));
        let (flag, line) = line.strip_suffix('\\').map_or(("F", line), |l| ("P", l));
        text.push_str(&format!("{at} {stream} {flag} {line}\n"));
    }
    std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}
