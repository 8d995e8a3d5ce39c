//! Rows and log files as intake and the runner would have written them: events through the store,
//! the rest as plain SQL with times of its own, against a schema whose CHECK constraints refuse
//! what cannot be.

use std::io::Write as _;
use std::path::Path;

use quire_store::{AccessToken, CurrentRefs, NewRun, SessionOwner, Store};
use quire_types::clock::Millis;
use quire_types::names::{EventId, JobName, ObjectId, RefName, RepoName, RunId};
use quire_types::paths::Paths;
use quire_types::push_event::{EventType, PushEvent, RefUpdate};
use quire_types::ssh_keys;
use quire_types::token::hash_token;
use rusqlite::{Connection, params};

/// What writes fake data into an appliance's volume.
pub(crate) struct Seed {
    paths: Paths,
    store: Store,
}

impl Seed {
    pub(crate) fn new(paths: &Paths, store: &Store) -> Self {
        Self {
            paths: paths.clone(),
            store: store.clone(),
        }
    }

    fn sql(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) {
        let connection = Connection::open(self.paths.database()).unwrap();
        connection
            .busy_timeout(std::time::Duration::from_secs(10))
            .unwrap();
        connection
            .execute(sql, parameters)
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    pub(crate) fn repo(&self, name: &str) -> RepoName {
        let repo: RepoName = name.parse().unwrap();
        std::fs::create_dir_all(self.paths.repo(&repo)).unwrap();
        repo
    }

    /// A push, and its pending run.
    pub(crate) fn run(&self, repo: &str, branch: &str, at: Millis) -> RunId {
        let (repo, event) = (self.repo(repo), EventId::new());
        let ref_name: RefName = format!("refs/heads/{branch}").parse().unwrap();
        let sha: ObjectId = hash_token(&event.to_string())[..40].parse().unwrap();
        let event = PushEvent {
            id: event,
            event_type: EventType::Push,
            repo: repo.clone(),
            pusher: Some("laptop".to_owned()),
            pushed_at: at,
            options: Vec::new(),
            refs: vec![RefUpdate {
                ref_name: ref_name.clone(),
                old_sha: "0".repeat(40).parse().unwrap(),
                new_sha: sha.clone(),
            }],
        };
        let run = NewRun {
            pusher: Some("laptop".to_owned()),
            ..NewRun::of_push(repo, ref_name, sha, at)
        };
        let recorded = self
            .store
            .events()
            .record(&event, &[run], &CurrentRefs::new(), |_| Vec::new())
            .unwrap();
        assert_eq!(recorded.runs.len(), 1);
        let id = recorded.runs[0].0;
        self.sql(
            "UPDATE runs SET queued_at_ms = ?2 WHERE id = ?1",
            params![id.to_string(), at.0],
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
            "complete" | "canceled" | "superseded" => (outcome, None),
            kind => ("failed", Some(kind)),
        };
        self.sql(
            "UPDATE runs SET state = ?2, failure_kind = ?3, message = ?4, finished_at_ms = ?5 WHERE id = ?1",
            params![run.to_string(), state, kind, message, at.0],
        );
    }

    /// A pending run that a newer one takes the place of.
    pub(crate) fn superseded(&self, run: RunId, by: RunId, at: Millis) {
        self.sql(
            "UPDATE runs SET state = 'superseded', superseded_by = ?2, finished_at_ms = ?3 WHERE id = ?1",
            params![run.to_string(), by.to_string(), at.0],
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
        let column = if state == "active" {
            "started_at_ms"
        } else {
            "finished_at_ms"
        };
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
    pub(crate) fn log(
        &self,
        repo: &str,
        run: RunId,
        step: Option<(&str, u32)>,
        lines: &[&str],
        at: Millis,
    ) {
        let folder = self.paths.run_dir(&repo.parse().unwrap(), run);
        let path = match step {
            Some((job, seq)) => Paths::step_log(&folder, &job.parse::<JobName>().unwrap(), seq),
            None => Paths::run_log(&folder),
        };
        append(&path, lines, at);
    }

    /// Ended steps from number `from` on.
    pub(crate) fn many_steps(&self, run: RunId, from: u32, count: u32, job: &str, at: Millis) {
        self.sql(
            "WITH RECURSIVE number (n) AS (SELECT ?2 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?2 + ?3)
             INSERT INTO steps (run_id, seq, job_id, command, exit_code, started_at_ms, finished_at_ms) SELECT ?1, n, ?4, 'true', 0, ?5, ?5 FROM number",
            params![run.to_string(), from, count, job, at.0],
        );
    }

    /// The keys that may connect.
    pub(crate) fn keys(&self, lines: &str) {
        std::fs::write(self.paths.authorized_keys(), lines).unwrap();
    }

    /// A sign-in link's token: of the key of that name, or of none where there is no such key.
    pub(crate) fn login_link(&self, key: &str, expires: Millis) -> String {
        let (token, hash) = quire_types::token::new_token().unwrap();
        assert_eq!(hash, hash_token(&token));
        self.store
            .sessions()
            .create_login_link(&hash, &self.owner(key), expires)
            .unwrap();
        token
    }

    /// An access token of the key of that name, or without a key if there is no such key.
    pub(crate) fn access_token(&self, name: &str, key: &str, scope: &str, at: Millis) -> String {
        let (token, hash) = quire_types::token::new_token().unwrap();
        let record = AccessToken {
            name: name.parse().unwrap(),
            scope: scope.parse().unwrap(),
            owner: self.owner(key),
            created_at: at,
            used_at: None,
        };
        let tokens = self.store.access_tokens();
        assert!(tokens.create(&hash, &record).unwrap());
        token
    }

    fn owner(&self, key: &str) -> SessionOwner {
        let keys = ssh_keys::parse_all(&ssh_keys::read(&self.paths).unwrap());
        SessionOwner {
            key_name: key.to_owned(),
            key_fingerprint: keys
                .into_iter()
                .find(|known| known.name == key)
                .map(|key| key.fingerprint),
            certificate: None,
        }
    }

    /// From now on the row that health writes cannot be written.
    pub(crate) fn refuse_writes(&self) {
        self.store.instance().id().unwrap();
        self.sql("CREATE TRIGGER refuse BEFORE UPDATE ON instance BEGIN SELECT RAISE(ABORT, 'disk full'); END", &[]);
    }

    pub(crate) fn count(&self, table: &str) -> u32 {
        let connection = Connection::open(self.paths.database()).unwrap();
        connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            })
            .unwrap()
    }
}

fn append(path: &Path, lines: &[&str], at: Millis) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut text = String::new();
    for line in lines {
        let (stream, line) = line
            .strip_prefix('!')
            .map_or(("stdout", *line), |l| ("stderr", l));
        let (flag, line) = line.strip_suffix('\\').map_or(("F", line), |l| ("P", l));
        text.push_str(&format!("{at} {stream} {flag} {line}\n"));
    }
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}
