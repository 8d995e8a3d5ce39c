//! Kinds of repositories that people have, each pushed over SSH to a native appliance.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use quire_testkit::wait_for;

use super::native::Native;

/// A repository of one kind, and what its push prints.
struct Kind {
    name: &'static str,
    /// The body of the job.
    body: &'static str,
    lay_out: fn(&Path),
    /// The state of the run.
    state: &'static str,
    /// In this order.
    printed: &'static [&'static str],
}

fn nothing(_: &Path) {}

/// Symbolic links that lead out of the repository, and nowhere.
fn links(tree: &Path) {
    fs::create_dir(tree.join("modules")).unwrap();
    symlink("../../elsewhere", tree.join("above")).unwrap();
    symlink("../../shared/module", tree.join("modules/one")).unwrap();
}

/// Programs that the system cannot start.
fn programs(tree: &Path) {
    for (name, text) in [
        ("windows.sh", "#!/bin/sh\r\necho hi\r\n"),
        ("absent.sh", "#!/opt/absent/bin/tool\n"),
    ] {
        let path = tree.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn files(tree: &Path) {
    fs::write(tree.join("plain"), "x").unwrap();
    fs::write(tree.join("tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
}

const KINDS: &[Kind] = &[
    Kind {
        name: "links",
        body: r#"(sh "test -L above && test -L modules/one && readlink above")"#,
        lay_out: links,
        state: "complete",
        printed: &["../../elsewhere\n"],
    },
    Kind {
        name: "background",
        body: r#"(sh "(while :; do echo tick; sleep 0.1; done) & echo $! > server") (sh "sleep 1; kill -0 $(cat server) && echo it is alive")"#,
        lay_out: nothing,
        state: "complete",
        printed: &["it is alive\n"],
    },
    Kind {
        name: "order",
        body: r#"(sh "set -x\necho first\necho second")"#,
        lay_out: nothing,
        state: "complete",
        printed: &["+ echo first\n", "first\n", "+ echo second\n", "second\n"],
    },
    Kind {
        name: "lines",
        body: r#"(sh "\n      no-such-command --version\n      echo the second\n    ")"#,
        lay_out: nothing,
        state: "failed",
        printed: &["no-such-command"],
    },
    Kind {
        name: "programs",
        body: r#"(each [_ name (ipairs ["./windows.sh" "./absent.sh"])] (let [result (sh [name])] (log (.. name " exits with " result.exit))))"#,
        lay_out: programs,
        state: "complete",
        printed: &[
            "carriage return",
            "./windows.sh exits with 127\n",
            "/opt/absent/bin/tool",
            "./absent.sh exits with 127\n",
        ],
    },
    Kind {
        name: "modes",
        body: r#"(sh "stat -c '%n %a' plain tool .quire")"#,
        lay_out: files,
        state: "complete",
        printed: &["plain 644\n", "tool 755\n", ".quire 755\n"],
    },
    Kind {
        name: "long",
        body: r#"(sh (.. "true " (string.rep "x" 100000))) (sh "echo after")"#,
        lay_out: nothing,
        state: "complete",
        printed: &["after\n"],
    },
];

#[test]
fn repositories_of_many_kinds_do_what_their_owners_expect() {
    let native = Native::start();
    wait_for("the appliance", || {
        native.ssh(&["status"]).status.success().then_some(())
    });
    for kind in KINDS {
        let tree = native.path(kind.name);
        fs::create_dir_all(tree.join(".quire")).unwrap();
        let pipeline = format!(
            "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{{: sh : log}}] {}))\n",
            kind.body
        );
        fs::write(tree.join(".quire/ci.fnl"), pipeline).unwrap();
        (kind.lay_out)(&tree);
        native.git(&tree, &["init", "-q", "-b", "main"]);
        native.git(&tree, &["add", "-A"]);
        native.git(&tree, &["commit", "-q", "-m", "first"]);
        let url = native.url(kind.name);
        let reply = native.git(&tree, &["push", "-q", "-o", "ci.wait", &url, "main"]);
        // Git fills the lines of the server with spaces.
        let lines = reply.lines().map(|line| {
            let line = line.strip_prefix("remote: ").unwrap_or(line);
            format!("{}\n", line.trim_end())
        });
        let reply: String = lines.collect();
        assert!(reply.contains(kind.state), "{}: {reply}", kind.name);
        // No command after one that fails.
        assert!(!reply.contains("\nthe second"), "{}: {reply}", kind.name);
        let mut rest = reply.as_str();
        for words in kind.printed {
            let Some((_, after)) = rest.split_once(words) else {
                panic!("{}: {words:?} in {reply}", kind.name);
            };
            rest = after;
        }
    }
}
