//! Secrets that are set by a command: runs get them as those of the configuration, and their values are nowhere.

use std::fs;
use std::process::{Command, Output};

use quire_testkit::{TestForge, files_below, stderr, stdout, transcript, wait_for};
use serde_json::Value;

use super::gate;
use crate::QUIRE;

#[track_caller]
fn set(forge: &TestForge, arguments: &str, value: &str) -> String {
    let output = forge.ssh_with(&format!("secret set {arguments}"), value.as_bytes());
    assert!(output.status.success(), "{}", transcript(&output));
    stdout(&output)
}

/// A pipeline that prints the length of a secret, and the secret itself.
fn prints(name: &str) -> String {
    format!(
        "(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{{: sh : secret}}]
  (sh \"printf '%s' \\\"$S\\\" | wc -c | sed s/^/length=/; echo \\\"is $S.\\\"\" {{:env {{:S (secret :{name})}}}})))\n"
    )
}

/// Pushes the pipeline to a new repository, and returns the log of its run.
#[track_caller]
fn run(forge: &TestForge, repo: &str, pipeline: &str) -> String {
    let tree = forge.tree_with(repo, pipeline);
    tree.push(&["main"]);
    let run = forge.newest(repo);
    forge.end_of(run.id);
    let output = forge.ssh(&format!("run logs {}", run.id));
    format!("{}{}", stdout(&output), stderr(&output))
}

fn list(forge: &TestForge) -> Value {
    serde_json::from_str(&forge.ssh_ok("secret list --json")).unwrap()
}

#[test]
fn a_run_gets_the_value_that_was_set_last() {
    let forge = TestForge::start(QUIRE);
    let said = set(&forge, "token", "hunter22hunter22\n");
    assert_eq!(said, "set token, for runs of all repositories at all refs");
    let log = run(&forge, "one", &prints("token"));
    assert!(
        log.contains("length=16") && log.contains("is {{ token }}."),
        "{log}"
    );
    set(&forge, "token", "another-value-of-it");
    let log = run(&forge, "two", &prints("token"));
    assert!(
        log.contains("length=19") && log.contains("is {{ token }}."),
        "{log}"
    );
    set(&forge, "--keep-newline token", "hunter22hunter22\n");
    let log = run(&forge, "three", &prints("token"));
    assert!(log.contains("length=17"), "{log}");
    let uses = forge.ssh_ok("secret show-uses token --json");
    let uses: Value = serde_json::from_str(&uses).unwrap();
    let repos: Vec<_> = uses["uses"].as_array().unwrap().iter().collect();
    assert_eq!(repos.len(), 3, "{uses}");
    assert_eq!(uses["uses"][0]["repo"], "three");
    let secrets = list(&forge);
    assert_eq!(secrets["secrets"][0]["version"], 3, "{secrets}");
    assert_eq!(secrets["secrets"][0]["updated_by"], "laptop");
    assert!(secrets["secrets"][0]["used_at_ms"].as_i64() > Some(0));
    // With another key of the file they are the same.
    let key = fs::read_to_string(forge.paths.secrets_key()).unwrap();
    let rotated = forge.ssh_ok("secret rotate-key");
    assert_eq!(rotated, "1 secret is encrypted with a new key\n");
    let other = fs::read_to_string(forge.paths.secrets_key()).unwrap();
    assert!(key != other && key.lines().count() == other.lines().count());
    let log = run(&forge, "four", &prints("token"));
    assert!(log.contains("length=17"), "{log}");
    forge.ssh_ok("secret rm token");
    let log = run(&forge, "five", &prints("token"));
    assert!(log.contains("there is no secret `token`"), "{log}");
    let gone = forge.ssh("secret rm token");
    assert_eq!(gone.status.code(), Some(3), "{}", transcript(&gone));
}

#[test]
fn a_secret_is_for_the_runs_that_it_was_set_for() {
    let forge = TestForge::start(QUIRE);
    let said = set(
        &forge,
        "token --repo 'work/*' --repo app --ref refs/heads/main",
        "hunter22hunter22",
    );
    assert_eq!(
        said,
        "set token, for runs of work/*, app at refs/heads/main"
    );
    let log = run(&forge, "app", &prints("token"));
    assert!(log.contains("is {{ token }}."), "{log}");
    let log = run(&forge, "other", &prints("token"));
    let why = "the secret `token` is not available to runs of other at refs/heads/main";
    assert!(log.contains(why), "{log}");
    // A new value has the scope of the old one.
    set(&forge, "token", "another-value-of-it");
    let secrets = list(&forge);
    assert_eq!(
        secrets["secrets"][0]["repos"],
        serde_json::json!(["work/*", "app"])
    );
    let short = forge.ssh("secret set token --ref main");
    assert_eq!(short.status.code(), Some(2), "{}", transcript(&short));
    assert!(stderr(&short).contains("a whole ref such as refs/heads/main is expected"));
}

#[test]
fn the_configuration_comes_first() {
    let mut forge = TestForge::start(QUIRE);
    set(&forge, "token", "the-stored-value");
    let file = forge.file("token");
    fs::write(&file, "the-configured-value-is-longer").unwrap();
    let configuration = format!("{{:secrets {{:token {{:file {file:?}}}}}}}");
    fs::write(forge.paths.config_fennel(), configuration).unwrap();
    forge.stop();
    forge.serve();
    let log = run(&forge, "app", &prints("token"));
    assert!(log.contains("length=30"), "{log}");
    let refused = forge.ssh_with("secret set token", b"hunter22hunter22");
    assert_eq!(
        stderr(&refused),
        "quire: the configuration defines the secret `token`, so it cannot be set here\nquire: remove it from :secrets in the configuration first, or choose another name\n",
        "{}",
        transcript(&refused)
    );
    let listed = forge.ssh_ok("secret list");
    assert!(
        listed.contains("not used: the configuration has it")
            && listed.contains("in the configuration"),
        "{listed}"
    );
}

#[test]
fn what_is_no_value_changes_nothing() {
    let forge = TestForge::start(QUIRE);
    set(&forge, "token", "hunter22hunter22");
    let before = list(&forge);
    let huge = vec![b'x'; 10 << 20];
    for (command, input, code, why) in [
        ("secret set token", &b""[..], 2, "the value is empty"),
        ("secret set token", b"\n", 2, "the value is empty"),
        (
            "secret set token",
            b"\xff",
            2,
            "the value is not UTF-8 text",
        ),
        (
            "secret set token",
            &huge,
            2,
            "the value is larger than 1 MiB",
        ),
        ("secret set a/b", b"x", 2, "the name of a secret has"),
        (
            "secret set token hunter2",
            b"",
            2,
            "the value of a secret is not an argument",
        ),
    ] {
        let output = forge.ssh_with(command, input);
        assert_eq!(output.status.code(), Some(code), "{}", transcript(&output));
        assert!(stderr(&output).contains(why), "{}", transcript(&output));
        assert_eq!(list(&forge), before);
    }
    // The largest one is stored and used.
    let large = "y".repeat(1 << 20);
    set(&forge, "large", &large);
    let pipeline = "(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: secret : log}] (log (.. \"it has \" (length (secret :large))))))\n";
    let log = run(&forge, "app", pipeline);
    assert!(log.contains("it has 1048576"), "{log}");
}

#[test]
fn without_its_key_a_secret_is_not_lost_silently() {
    let forge = TestForge::start(QUIRE);
    set(&forge, "token", "hunter22hunter22");
    let kept = forge.file("kept.key");
    fs::rename(forge.paths.secrets_key(), &kept).unwrap();
    let refused = forge.ssh_with("secret set other", b"hunter22hunter22");
    assert_eq!(refused.status.code(), Some(1), "{}", transcript(&refused));
    assert!(
        stderr(&refused).contains("secrets.key, is missing"),
        "{}",
        transcript(&refused)
    );
    assert!(!forge.paths.secrets_key().exists());
    let log = run(&forge, "app", &prints("token"));
    assert!(log.contains("secrets.key, is missing"), "{log}");
    // Another key is not the key.
    fs::write(forge.paths.secrets_key(), "A".repeat(43) + "=\n").unwrap();
    assert!(
        forge
            .ssh_ok("secret list")
            .contains("with a key that is not in")
    );
    fs::rename(&kept, forge.paths.secrets_key()).unwrap();
    assert!(forge.ssh_ok("secret list").contains("ok"));
    // A row that was changed is not decrypted, here by another scope.
    let database = rusqlite_of(&forge);
    assert!(database.status.success(), "{}", transcript(&database));
    assert!(
        forge
            .ssh_ok("secret list")
            .contains("was damaged or changed")
    );
}

/// Widens the scope of the secret behind quire's back.
fn rusqlite_of(forge: &TestForge) -> Output {
    let script = "import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute(\"UPDATE secrets SET repos = '[\\\"*\\\"]'\")
database.commit()";
    Command::new("python3")
        .args(["-c", script])
        .arg(forge.paths.database())
        .output()
        .unwrap()
}

#[test]
fn the_operator_can_keep_the_key() {
    let mut forge = TestForge::new(QUIRE);
    let key = forge.file("operator.key");
    forge.set("QUIRE_SECRETS_KEY_FILE", &key.display().to_string());
    forge.serve();
    // Sessions do not have the variable.
    let refused = forge.ssh_with("secret set token", b"hunter22hunter22");
    assert!(
        stderr(&refused).contains("operator.key, is missing"),
        "{}",
        transcript(&refused)
    );
    fs::write(&key, "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=\n").unwrap();
    set(&forge, "token", "hunter22hunter22");
    assert!(!forge.paths.secrets_key().exists());
    let log = run(&forge, "app", &prints("token"));
    assert!(log.contains("is {{ token }}."), "{log}");
    // A new first line, and the old one below it.
    fs::write(
        &key,
        "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo5ODc2NTQ=\nQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=\n",
    )
    .unwrap();
    forge.ssh_ok("secret rotate-key");
    fs::write(&key, "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo5ODc2NTQ=\n").unwrap();
    assert!(forge.ssh_ok("secret list").contains("ok"));
}

#[test]
fn the_value_of_a_secret_is_nowhere() {
    const VALUE: &str = "Zq4x-unmistakable-W7yK";
    let forge = TestForge::start(QUIRE);
    set(&forge, "token", VALUE);
    let encoded = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(VALUE)
    };
    let nowhere = || {
        for folder in [forge.paths.data(), forge.paths.runtime()] {
            for file in files_below(folder) {
                let bytes = fs::read(&file).unwrap_or_default();
                for trace in [VALUE, &encoded[..encoded.len() - 4]] {
                    let found = memchr::memmem::find(&bytes, trace.as_bytes());
                    assert!(found.is_none(), "{} has {trace}", file.display());
                }
            }
        }
        assert!(!forge.log().contains(VALUE));
        // Of all processes only the command that asked for it, and its children, have it, and in their environment alone.
        let has = |bytes: &[u8], text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
            let (command, environment) = (read("cmdline"), read("environ"));
            let shown = String::from_utf8_lossy(&command);
            assert!(!has(&command, VALUE), "{shown:?}");
            let is_asked = has(&environment, "ASKED_FOR_IT=yes");
            assert!(is_asked || !has(&environment, VALUE), "{shown:?}");
        }
    };
    nowhere();
    let folder = forge.file("gate");
    let command = format!("echo $S; echo $S | base64; {}", gate(&folder));
    let pipeline = format!(
        "(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{{: sh : secret}}] (sh {command:?} {{:env {{:S (secret :token) :ASKED_FOR_IT \"yes\"}}}})))\n"
    );
    let tree = forge.tree_with("app", &pipeline);
    tree.push(&["main"]);
    let run = forge.newest("app");
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    nowhere();
    fs::write(folder.join("go"), "").unwrap();
    forge.end_of(run.id);
    set(&forge, "token", "another-value-of-it");
    forge.ssh_ok("secret rotate-key");
    nowhere();
    // A backup has the encrypted bytes, and no key.
    let backup = forge.ssh("backup");
    assert!(backup.status.success(), "{}", stderr(&backup));
    let archive = forge.file("backup.tar.zst");
    fs::write(&archive, &backup.stdout).unwrap();
    let restored = forge.file("restored");
    let mut restore = forge.quire(&["restore", archive.to_str().unwrap()]);
    let output = restore.env("QUIRE_DATA", &restored).output().unwrap();
    assert!(output.status.success(), "{}", transcript(&output));
    assert!(!restored.join("secrets.key").exists());
    let mut listed = forge.quire(&["secret", "list"]);
    let listed = listed.env("QUIRE_DATA", &restored).output().unwrap();
    assert!(
        stdout(&listed).contains("secrets.key, is missing"),
        "{}",
        transcript(&listed)
    );
    fs::copy(forge.paths.secrets_key(), restored.join("secrets.key")).unwrap();
    let mut listed = forge.quire(&["secret", "list"]);
    let listed = listed.env("QUIRE_DATA", &restored).output().unwrap();
    assert!(stdout(&listed).contains("ok"), "{}", transcript(&listed));
}
