//! What is in the image, and what must not be.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use quire_testkit::{run, run_ok, text};
use serde_json::Value;

use crate::docker::{docker, image};

/// What the image may add to its base.
const SIZE_LIMIT: u64 = 150 << 20;

fn inspect() -> Value {
    let found: Value = serde_json::from_str(&docker(&["image", "inspect", &image()])).unwrap();
    found[0].clone()
}

fn size(image: &str) -> u64 {
    docker(&["image", "inspect", "--format", "{{.Size}}", image])
        .parse()
        .unwrap()
}

/// Runs a program of the image alone, without init.
fn inside(program: &str, arguments: &[&str]) -> String {
    let image = image();
    docker(
        &[
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--entrypoint",
                program,
                &image,
            ],
            arguments,
        ]
        .concat(),
    )
}

#[test]
fn it_adds_little_to_its_base() {
    let base = inspect()["Config"]["Labels"]["org.opencontainers.image.base.name"]
        .as_str()
        .unwrap()
        .to_owned();
    let added = size(&image()) - size(&base);
    assert!(added < SIZE_LIMIT, "{} MB over {base}", added / 1_000_000);
    println!("{:.1} MB over {base}", added as f64 / 1e6);
}

#[test]
fn it_says_what_it_is_and_how_it_is_run() {
    let config = inspect()["Config"].clone();
    for name in ["title", "description", "licenses", "revision"] {
        let label = format!("org.opencontainers.image.{name}");
        assert!(
            config["Labels"][&label]
                .as_str()
                .is_some_and(|value| !value.is_empty()),
            "{label}: {}",
            config["Labels"]
        );
    }
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(
        config["Entrypoint"],
        serde_json::json!(["/usr/local/bin/quire"]),
        "nothing stands between Docker and init"
    );
    assert_eq!(config["Cmd"], serde_json::json!(["init"]));
    assert!(config["Volumes"]["/var/quire"].is_object());
    assert!(
        config["ExposedPorts"]["22/tcp"].is_object()
            && config["ExposedPorts"]["3000/tcp"].is_object()
    );
    let check: Vec<&str> = config["Healthcheck"]["Test"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        (check[0], &check[check.len() - 2..]),
        ("CMD", ["quire", "health"].as_slice())
    );
}

#[test]
fn its_version_names_the_commit() {
    let revision = inspect()["Config"]["Labels"]["org.opencontainers.image.revision"]
        .as_str()
        .unwrap()
        .to_owned();
    let version = inside("/usr/local/bin/quire", &["--version"]);
    assert!(
        version.contains(&revision),
        "{version:?} does not name {revision:?}"
    );
}

#[test]
fn no_layer_holds_a_key_or_what_the_build_left() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    docker(&["save", "--output", archive.to_str().unwrap(), &image()]);
    run_ok(
        Command::new("tar")
            .arg("-C")
            .arg(folder.path())
            .arg("-xf")
            .arg(&archive),
    );
    fs::remove_file(&archive).unwrap();
    let (mut layers, mut files) = (0, 0);
    for blob in files_below(folder.path().to_owned()) {
        // Layers are the tar archives among an image's parts, whatever the format of the day calls them.
        let listed = run(Command::new("tar").arg("-tf").arg(&blob));
        if !listed.status.success() {
            continue;
        }
        layers += 1;
        for path in text(&listed.stdout).lines() {
            files += 1;
            let name = path.rsplit('/').next().unwrap_or_default();
            let key = name.starts_with("ssh_host_")
                || name.starts_with("id_") && !path.contains("/terminfo/")
                || name == "authorized_keys";
            let build = path.contains("cargo")
                || path.ends_with(".rs")
                || path.contains("rustlib")
                || path.contains(".git/");
            assert!(!key && !build, "{path} in {}", blob.display());
        }
    }
    assert!(
        layers >= 2 && files > 1000,
        "{layers} layers with {files} files are not an image"
    );
}

fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| {
            if entry.file_type().unwrap().is_dir() {
                files_below(entry.path())
            } else {
                vec![entry.path()]
            }
        })
        .collect()
}

#[test]
fn the_git_user_can_log_in_by_key_only_and_meets_no_shell() {
    let (passwd, shadow) = (
        inside("getent", &["passwd", "git"]),
        inside("getent", &["shadow", "git"]),
    );
    assert_eq!(
        passwd
            .split(':')
            .skip(2)
            .step_by(2)
            .take(2)
            .collect::<Vec<_>>(),
        ["1000", ""],
        "{passwd}"
    );
    assert!(
        passwd.ends_with(":/var/quire:/usr/local/bin/quire-shell"),
        "{passwd}"
    );
    assert!(
        shadow.starts_with("git:*:"),
        "a `!` would lock the account, anything else would be a password"
    );
}

/// The image leaves out parts of the git and OpenSSH packages; this is what must go on to work.
#[test]
fn git_does_all_that_a_server_asks_of_it() {
    let script = r#"set -e
        cd "$(mktemp -d)"; export HOME=$PWD GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
        git init -q work && cd work
        for n in 1 2 3; do head -c 9000 /dev/urandom > $n; git add .; git commit -qm $n; done
        git init -q --bare ../bare.git && git push -q ../bare.git HEAD:refs/heads/main && cd ../bare.git && git symbolic-ref HEAD refs/heads/main
        git clone -q . ../clone && git clone -q --depth 1 "file://$PWD" ../shallow && git clone -q --bare . ../mirror.git
        git repack -adq && git gc -q && git prune && git fsck --strict --full
        git maintenance run --task=gc --task=commit-graph --task=loose-objects --task=incremental-repack --task=pack-refs
        git archive --format=tar.gz main | tar -tz | tail -n 1; git archive --format=zip main | wc -c
        git bundle create -q ../all.bundle --all && git clone -q ../all.bundle ../unbundled
        git log --format=%s main | head -n 1; git blame -s main -- 1 | wc -l; git grep -qa . main; git diff --stat main~1 main | tail -n 1
        case $(git ls-remote https://127.0.0.1:1/x 2>&1) in *onnect*) ;; *) echo "no https"; exit 1;; esac
        ssh -V; ssh-keygen -q -t ed25519 -N '' -f ../key; /usr/sbin/sshd -t -f /dev/null -h ../key; echo done"#;
    let printed = inside("sh", &["-c", script]);
    assert!(
        printed.starts_with("3\n") && printed.ends_with("done"),
        "{printed}"
    );
}

#[test]
fn no_program_changes_the_user_and_the_git_user_cannot_read_quire() {
    let script = "find / -xdev -type f -perm /6000; \
                  setpriv --reuid 1000 --regid 1000 --clear-groups cat /usr/local/bin/quire >/dev/null 2>&1 && echo 'the git user can read quire'; \
                  setpriv --reuid 1000 --regid 1000 --clear-groups quire --version >/dev/null || echo 'the git user cannot execute quire'";
    assert_eq!(inside("sh", &["-c", script]), "");
}

#[test]
fn every_program_finds_its_libraries_and_packages_are_intact() {
    let script = "dpkg --audit; ldd /usr/local/bin/quire /usr/sbin/sshd /usr/lib/openssh/sshd-* /usr/bin/ssh* /usr/bin/git /usr/lib/git-core/git-remote-http 2>&1 | grep 'not found'; true";
    assert_eq!(inside("sh", &["-c", script]), "");
}

#[test]
fn it_has_the_licences_of_what_is_linked() {
    let licences = inside("zcat", &["/usr/share/doc/quire/THIRD-PARTY.gz"]);
    for part in ["tokio ", "rusqlite ", "SQLite: ", "Lua.org", "Fennel"] {
        assert!(licences.contains(part), "{part}");
    }
    // Their texts, and not only their names.
    assert!(licences.matches("Permission is hereby granted").count() > 10);
    assert!(licences.contains("TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"));
}
