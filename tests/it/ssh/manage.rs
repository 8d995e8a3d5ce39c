//! Management commands over SSH.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use quire_run_files::logs::{RunLog, StepLog, Stream};
use quire_runtime::changes::ChangeNotifier;
use quire_store::{CurrentRefs, Journal, NewRun, Store};
use quire_testkit::{SshForge, TestForge, own, stderr, stdout, transcript, wait_for};
use quire_types::clock::Clock;
use quire_types::names::{EventId, ObjectId, RefName, RunId};
use quire_types::push_event::{EventType, PushEvent, RefUpdate};
use quire_types::run::{ExecutorName, Outcome};
use quire_types::secret::Redactor;
use sha2::Digest;

use crate::QUIRE;

#[test]
fn repositories_and_keys() {
    let forge = TestForge::new(QUIRE).sshd();
    let json = |words: &[&str]| -> serde_json::Value {
        let output = forge.ssh(words);
        assert!(
            output.status.success(),
            "{words:?}: {}",
            transcript(&output)
        );
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    assert_eq!(
        json(&["repo", "list", "--json"]),
        serde_json::json!({"repos": []})
    );
    let made = forge.ssh(&["repo", "new", "work/app"]);
    assert_eq!(
        stdout(&made),
        "created repository work/app",
        "{}",
        transcript(&made)
    );
    assert_eq!(
        forge.ssh(&["repo", "new", "work/app"]).status.code(),
        Some(1)
    );
    assert_eq!(forge.ssh(&["repo", "new", "../app"]).status.code(), Some(2));
    assert_eq!(
        json(&["repo", "list", "--json"])["repos"][0]["repo"],
        "work/app"
    );
    let wrong = forge.ssh(&["repo", "rm", "app", "--yes"]);
    assert_eq!(wrong.status.code(), Some(3));
    assert!(
        stderr(&wrong).contains("did you mean `work/app`?"),
        "{}",
        transcript(&wrong)
    );
    assert_eq!(
        forge.ssh(&["repo", "rm", "work/app"]).status.code(),
        Some(2),
        "only with --yes"
    );
    assert!(forge.paths.repos().join("work/app.git").exists());
    assert!(
        forge
            .ssh(&["repo", "rm", "work/app", "--yes"])
            .status
            .success()
    );
    assert!(!forge.paths.repos().join("work").exists());

    let keys = json(&["key", "list", "--json"]);
    assert_eq!(keys["keys"][0]["name"], "laptop, the new one");
    assert_eq!(keys["keys"][1]["type"], "ssh-ed25519");
    assert!(
        keys["keys"][0]["fingerprint"]
            .as_str()
            .unwrap()
            .starts_with("SHA256:")
    );
}

#[test]
fn the_old_name_of_a_repository_leads_to_the_new_one() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    let _served = Served::new(&forge);
    let renamed = forge.ssh(&["repo", "rename", "app", "work/shop"]);
    assert!(
        renamed.status.success() && stdout(&renamed).starts_with("renamed app to work/shop"),
        "{}",
        transcript(&renamed)
    );
    forge.commit(&tree, "second");
    let pushed = forge.git(&tree, &["push", "origin", "main"]);
    assert!(pushed.status.success(), "{}", transcript(&pushed));
    let reply = stderr(&pushed);
    assert!(
        reply.contains("quire: app is now work/shop; git remote set-url origin …/work/shop")
            && !reply.contains("created"),
        "{reply}"
    );
    let events: Vec<String> = forge
        .events()
        .iter()
        .map(|event| event.repo.to_string())
        .collect();
    assert_eq!(events, ["app", "work/shop"]);
    let cloned = forge.git(
        forge.file("").as_path(),
        &["clone", "-q", &forge.url("app"), "clone"],
    );
    assert!(
        cloned.status.success() && stderr(&cloned).contains("is now work/shop"),
        "{}",
        transcript(&cloned)
    );
    assert_eq!(
        forge.git_ok(&forge.file("clone"), &["rev-parse", "HEAD"]),
        forge.git_ok(&tree, &["rev-parse", "HEAD"])
    );
    assert_eq!(
        stdout(&forge.ssh(&["repo", "list", "--json"]))
            .matches("\"repo\"")
            .count(),
        2,
        "the repository, and that of its run"
    );
    assert!(
        stderr(&forge.ssh(&["repo", "rename", "ap", "x"])).contains("there is no repository `ap`")
    );
    let removed = forge.ssh(&["repo", "rm", "app", "--yes"]);
    assert!(
        !removed.status.success() && stderr(&removed).contains("`app` is now `work/shop`"),
        "{}",
        transcript(&removed)
    );
    // By the new name nothing is said.
    forge.git_ok(
        &tree,
        &["remote", "set-url", "origin", &forge.url("work/shop")],
    );
    forge.commit(&tree, "third");
    let pushed = forge.git(&tree, &["push", "origin", "main"]);
    assert!(
        pushed.status.success() && !stderr(&pushed).contains("is now"),
        "{}",
        transcript(&pushed)
    );
}

#[test]
fn a_removed_repository_is_restored() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    Served::new(&forge).complete("all is well");
    let ok = |words: &[&str]| -> String {
        let output = forge.ssh(words);
        assert!(
            output.status.success(),
            "{words:?}: {}",
            transcript(&output)
        );
        stdout(&output)
    };
    let runs = ok(&["run", "list", "--json"]);
    let removed = ok(&["repo", "rm", "app", "--yes"]);
    assert!(
        removed.starts_with("removed repository app; `repo restore app` brings it back until 2"),
        "{removed}"
    );
    let fetched = forge.git(&tree, &["fetch", "-q", "origin"]);
    assert!(
        stderr(&fetched).contains("there is no repository `app`"),
        "{}",
        transcript(&fetched)
    );
    assert_eq!(ok(&["run", "list"]), "no runs");
    let trash: serde_json::Value =
        serde_json::from_str(&ok(&["repo", "list", "--trash", "--json"])).unwrap();
    assert_eq!(trash["trash"][0]["removed_by"], "laptop, the new one");
    // A push makes a new repository, and the old one comes back beside it.
    let pushed = forge.git(&tree, &["push", "origin", "main:new"]);
    assert!(stderr(&pushed).contains("created repository app"));
    let taken = forge.ssh(&["repo", "restore", "app"]);
    assert_eq!(taken.status.code(), Some(1), "{}", transcript(&taken));
    assert_eq!(
        ok(&["repo", "restore", "app", "--as", "old/app"]),
        "restored repository old/app"
    );
    assert_eq!(
        forge.git_ok(&tree, &["ls-remote", &forge.url("old/app"), "refs/heads/*"]),
        format!(
            "{}\trefs/heads/main",
            forge.git_ok(&tree, &["rev-parse", "main"])
        )
    );
    assert_eq!(
        ok(&["run", "list", "--json"]),
        runs.replace("\"app\"", "\"old/app\"")
    );
    let missing = forge.ssh(&["repo", "restore", "app"]);
    assert_eq!(missing.status.code(), Some(3), "{}", transcript(&missing));
    assert!(stderr(&missing).contains("`repo list --trash` shows what can be restored"));
}

#[test]
fn a_command_started_as_root_acts_as_the_owner_of_the_data() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let forge = TestForge::new(QUIRE).sshd();
    let mut command = std::process::Command::new(forge.file("run/quire"));
    command
        .args(["repo", "new", "app"])
        .env("QUIRE_DATA", forge.paths.data())
        .env("QUIRE_RUNTIME", forge.paths.runtime());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", transcript(&output));
    let owner = |path: &std::path::Path| {
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap())
    };
    assert_eq!(
        owner(&forge.paths.repos().join("app.git/HEAD")),
        owner(forge.paths.data())
    );
    // So what it made can be pushed to.
    let tree = forge.tree("work", "app");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    let nowhere = command
        .env("QUIRE_DATA", forge.file("nowhere"))
        .output()
        .unwrap();
    assert!(
        stderr(&nowhere).contains("there is no appliance in"),
        "{}",
        transcript(&nowhere)
    );
}

#[test]
fn without_a_server_commands_say_what_to_do() {
    let forge = TestForge::new(QUIRE).sshd();
    for words in [&["run", "list"][..], &["login"]] {
        let output = forge.ssh(words);
        assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
        assert!(
            stderr(&output).contains("there is no database")
                && stderr(&output).contains("the server creates it when it first starts"),
            "{}",
            transcript(&output)
        );
    }
    // A port where surely nobody is: the answer must not depend on what else runs here.
    std::fs::write(
        forge.paths.server_address(),
        r#"{"listen":"127.0.0.1:1","url":"http://localhost:1"}"#,
    )
    .unwrap();
    let status = forge.ssh(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(
        stderr(&status).contains("does not respond"),
        "{}",
        transcript(&status)
    );
    let help = forge.ssh(&["help"]);
    assert!(
        help.status.success()
            && stdout(&help)
                .contains("List, create, import, rename, remove and restore repositories"),
        "{}",
        transcript(&help)
    );
    assert_eq!(
        forge.ssh(&["run", "list", "--nonsense"]).status.code(),
        Some(2)
    );
}

/// The database as `serve` keeps it, with a run of `app` in it.
struct Served {
    store: Store,
    run: RunId,
    log: StepLog,
}

impl Served {
    fn new(forge: &SshForge) -> Self {
        let clock = Clock::system();
        let store = Store::open(
            &forge.paths.database(),
            &forge.paths.backups(),
            Journal::Wal,
            clock.clone(),
        )
        .unwrap();
        let run = queue(&store, "refs/heads/main");
        let folder = forge.paths.run_dir(&"app".parse().unwrap(), run);
        let log = RunLog::create(
            folder,
            Redactor::default(),
            1 << 20,
            clock,
            ChangeNotifier::default(),
            run,
        )
        .unwrap();
        let log = log.own().unwrap();
        own(forge.paths.data());
        Self { store, run, log }
    }

    /// Claims the run, writes this, and ends it well.
    fn complete(mut self, line: &str) -> Store {
        assert_eq!(
            self.store
                .queue()
                .claim_next(&ExecutorName::HOST)
                .unwrap()
                .map(|run| run.id),
            Some(self.run)
        );
        self.log.line(Stream::Stdout, line);
        self.log.finish();
        self.store
            .runs()
            .finish(self.run, &Outcome::Complete)
            .unwrap();
        self.store
    }
}

/// Records a push to `app` that makes one run.
fn queue(store: &Store, ref_name: &str) -> RunId {
    let (ref_name, sha): (RefName, ObjectId) =
        (ref_name.parse().unwrap(), "1".repeat(40).parse().unwrap());
    let now = Clock::system().now();
    let update = RefUpdate {
        ref_name: ref_name.clone(),
        old_sha: "0".repeat(40).parse().unwrap(),
        new_sha: sha.clone(),
    };
    let event = PushEvent {
        id: EventId::new(),
        event_type: EventType::Push,
        repo: "app".parse().unwrap(),
        pusher: Some("laptop".to_owned()),
        pushed_at: now,
        options: Vec::new(),
        refs: vec![update],
    };
    let run = NewRun {
        pusher: event.pusher.clone(),
        ..NewRun::of_push(event.repo.clone(), ref_name, sha, now)
    };
    store
        .events()
        .record(
            &event,
            &[run],
            &CurrentRefs::new(),
            quire_types::supersede::superseded_runs,
        )
        .unwrap()
        .runs[0]
        .0
}

#[test]
fn runs_are_listed_canceled_and_repeated() {
    let forge = TestForge::new(QUIRE).sshd();
    let served = Served::new(&forge);
    let id = served.run.to_string();
    let runs = |words: &[&str]| -> Vec<serde_json::Value> {
        let output = forge.ssh(words);
        assert!(
            output.status.success(),
            "{words:?}: {}",
            transcript(&output)
        );
        serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap()["runs"]
            .as_array()
            .unwrap()
            .clone()
    };
    let listed = runs(&[
        "run", "list", "--json", "--repo", "app", "--ref", "main", "--state", "pending", "--limit",
        "5",
    ]);
    assert_eq!(listed.len(), 1);
    assert_eq!(&listed[0]["id"], &serde_json::json!(id));
    assert_eq!(
        &listed[0]["ref_name"],
        &serde_json::json!("refs/heads/main")
    );
    assert!(runs(&["run", "list", "--json", "--ref", "other"]).is_empty());
    assert_eq!(
        forge.ssh(&["run", "list", "--state", "done"]).status.code(),
        Some(2)
    );

    let shown = forge.ssh(&["run", "show", &id[..20]]);
    assert!(
        stdout(&shown).contains(&id)
            && stdout(&shown).contains("pusher ")
            && stdout(&shown).contains(" laptop"),
        "{}",
        transcript(&shown)
    );
    assert_eq!(forge.ssh(&["run", "show", "ffff"]).status.code(), Some(3));
    let other = queue(&served.store, "refs/heads/other");
    assert_eq!(
        forge.ssh(&["run", "show", &id[..2]]).status.code(),
        Some(2),
        "{id} and {other} begin alike"
    );

    assert_eq!(
        forge.ssh(&["run", "retry", &id]).status.code(),
        Some(1),
        "it has not ended"
    );
    assert_eq!(
        runs(&["run", "cancel", &id, "--json"])[0]["state"],
        "canceled"
    );
    assert_eq!(
        forge.ssh(&["run", "cancel", &id]).status.code(),
        Some(1),
        "it has ended"
    );
    assert_eq!(forge.ssh(&["run", "wait", &id]).status.code(), Some(1));
    assert_eq!(
        runs(&["run", "retry", &id, "--json"])[0]["retry_of"],
        id.as_str()
    );

    let login = forge.ssh(&["login"]);
    let link = stdout(&login);
    let token = link
        .lines()
        .next()
        .and_then(|link| link.strip_prefix("http://localhost:3000/login/"))
        .unwrap();
    let hash: String = sha2::Sha256::digest(token.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let who = served
        .store
        .sessions()
        .consume_login_link(&hash, Clock::system().now())
        .unwrap()
        .unwrap();
    let keys: serde_json::Value =
        serde_json::from_str(&stdout(&forge.ssh(&["key", "list", "--json"]))).unwrap();
    let of_key = (&keys["keys"][0]["name"], &keys["keys"][0]["fingerprint"]);
    assert_eq!(of_key, (&who.key_name.into(), &who.key_fingerprint.into()));
}

#[test]
fn a_run_is_followed_to_its_outcome() {
    let forge = TestForge::new(QUIRE).sshd();
    let served = Served::new(&forge);
    let id = served.run.to_string();
    let mut following = forge.ssh_as("owner", &[], &["run", "logs", "--follow", &id]);
    let following = following
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut waiting = forge
        .ssh_as("owner", &[], &["run", "wait", &id])
        .spawn()
        .unwrap();
    let store = served.complete("all is well");
    let output = following.wait_with_output().unwrap();
    assert!(
        output.status.success() && stdout(&output) == "all is well",
        "{}",
        transcript(&output)
    );
    assert!(
        stderr(&output).contains("quire: run app#1 complete"),
        "{}",
        transcript(&output)
    );
    assert!(waiting.wait().unwrap().success());
    assert_eq!(stdout(&forge.ssh(&["run", "logs", &id])), "all is well");
    let whole: serde_json::Value =
        serde_json::from_str(&stdout(&forge.ssh(&["run", "logs", &id, "--json"]))).unwrap();
    assert_eq!(whole["log"], "all is well\n");

    // A run that quire's own end cut off, queued again and canceled: the repetition is what counts.
    let cut = queue(&store, "refs/heads/cut");
    store.queue().claim_next(&ExecutorName::HOST).unwrap();
    let again = store
        .runs()
        .orphan(
            cut,
            "quire stopped",
            true,
            quire_types::supersede::superseded_runs,
        )
        .unwrap()
        .unwrap();
    store.runs().request_cancel(again).unwrap();
    let output = forge.ssh(&["run", "wait", &cut.to_string()]);
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    assert!(
        stderr(&output).contains(&format!("it was queued again as run {again}"))
            && stderr(&output).contains("canceled"),
        "{}",
        transcript(&output)
    );
}

#[test]
fn a_follower_whose_client_is_gone_ends() {
    let forge = TestForge::new(QUIRE).sshd();
    let served = Served::new(&forge);
    let mut command = forge.ssh_as(
        "owner",
        &[],
        &["run", "logs", "--follow", &served.run.to_string()],
    );
    let mut client = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It waits for its turn, and says so.
    let mut reply = String::new();
    BufReader::new(client.stderr.take().unwrap())
        .read_line(&mut reply)
        .unwrap();
    assert!(reply.contains("waits"), "{reply}");
    let followers = || processes(&served.run.to_string());
    assert!(followers() > 0);
    client.kill().unwrap();
    client.wait().unwrap();
    wait_for("the follower's end", || (followers() == 0).then_some(()));
}

/// How many quire processes have this run in the command they were asked for.
fn processes(run: &str) -> usize {
    let entries = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok());
    let ours = |path: &std::path::Path| {
        let read = |file| {
            String::from_utf8_lossy(&std::fs::read(path.join(file)).unwrap_or_default())
                .into_owned()
        };
        read("comm").starts_with("quire") && read("environ").contains(run)
    };
    entries.filter(|entry| ours(&entry.path())).count()
}

#[test]
fn a_pusher_who_waits_sees_the_run() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    let served = Served::new(&forge);
    let listener = UnixListener::bind(forge.paths.control_socket()).unwrap();
    own(&forge.paths.control_socket());
    let server = std::thread::spawn(move || {
        let stream = loop {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            // The session says that a push begins before git starts.
            if !line.contains("push-begun") {
                break stream;
            }
            // It does not wait for the answer.
            let _ = writeln!(&stream, r#"{{"answer":"ok"}}"#);
        };
        let run = serde_json::json!({"id": served.run, "ref_name": "refs/heads/main", "url": "http://forge/run"});
        writeln!(
            &stream,
            "{}",
            serde_json::json!({"answer": "runs", "runs": [run]})
        )
        .unwrap();
        // The server has the database open for as long as it runs.
        served.complete("all is well")
    });
    let pushed = forge.git(&tree, &["push", "-o", "ci.wait", "origin", "main"]);
    server.join().unwrap();
    assert!(pushed.status.success(), "{}", transcript(&pushed));
    assert!(
        stderr(&pushed).contains("remote: all is well") && stderr(&pushed).contains("complete"),
        "{}",
        transcript(&pushed)
    );
}

#[test]
fn a_token_is_shown_once_listed_and_revoked() {
    let forge = TestForge::new(QUIRE).sshd();
    let served = Served::new(&forge);
    let created = stdout(&forge.ssh(&["login", "--token", "reader"]));
    let token = created.lines().next().unwrap();
    let hash: String = sha2::Sha256::digest(token.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let found = served.store.access_tokens().find(&hash).unwrap().unwrap();
    assert!(found.owner.key_fingerprint.is_some());
    insta::assert_snapshot!(created.replace(token, "TOKEN"));
    let again = forge.ssh(&["login", "--token", "reader"]);
    assert_eq!(again.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8_lossy(&again.stderr));
    forge.ssh(&["login", "--token", "writer", "--scope", "write", "--json"]);
    let listed: serde_json::Value =
        serde_json::from_str(&stdout(&forge.ssh(&["login", "--list", "--json"]))).unwrap();
    let names = |at: usize| {
        (
            &listed["tokens"][at]["name"],
            &listed["tokens"][at]["scope"],
        )
    };
    assert_eq!(names(0), (&"reader".into(), &"read".into()));
    assert_eq!(names(1), (&"writer".into(), &"write".into()));
    let table = stdout(&forge.ssh(&["login", "--list"]));
    assert!(table.starts_with("NAME    SCOPE  KEY "), "{table}");
    assert!(!table.contains(token) && !listed.to_string().contains(token));
    let revoked = forge.ssh(&["login", "--revoke", "reader"]);
    assert_eq!(stdout(&revoked), "revoked reader");
    assert_eq!(served.store.access_tokens().find(&hash).unwrap(), None);
    let again = forge.ssh(&["login", "--revoke", "reader"]);
    assert_eq!(again.status.code(), Some(3));
    insta::assert_snapshot!(String::from_utf8_lossy(&again.stderr));
}
