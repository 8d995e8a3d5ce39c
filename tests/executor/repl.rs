//! `run repl`: the tools of a job in the container of a run, typed by a person.

use std::fs;
use std::io::Write;

use nix::pty::openpty;
use quire_testkit::{TestForge, skipped, transcript, wait_for};
use quire_types::run::Run;

use super::attach::{contained, on_terminal, ssh_with};

/// A forge with a failed run whose container is kept. The pipeline has a helper file and a variable.
fn kept(forge: &TestForge) -> Run {
    let tree = forge.tree("app", "app");
    tree.write(
        ".quire/ci.fnl",
        r#"(local ci (require :quire.ci))
(ci.env {:GREETING "hello"})
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo evidence > left; exit 3")))
"#,
    );
    tree.write(".quire/lib.fnl", "{:double (fn [n] (* 2 n))}\n");
    tree.commit("first");
    tree.push(&["-o", "ci.keep", "main"]);
    forge.end_of(forge.newest("app").id)
}

#[test]
fn entries_are_evaluated_in_the_container_of_a_run() {
    if skipped("docker") {
        return;
    }
    let mut forge = contained();
    fs::write(forge.file("token"), "hunter2-hunter2").unwrap();
    let secrets = format!(
        "{{:secrets {{:token {{:file {:?}}}}}}}",
        forge.file("token").display().to_string()
    );
    fs::write(forge.paths.config_fennel(), secrets).unwrap();
    forge.kill();
    forge.serve();
    let run = kept(&forge);
    let entries = r#"(sh "cat left; echo $GREETING")
(local {: stdout} (sh "echo 21"))
(local the-name? :found)
the-name?
(fn double [text] (* 2 (tonumber text)))
(double stdout)
{:read (read-file "left") :list [1 "a\"b"]}
((. (require :lib) :double) 4)
(write-file "new/file" "text")
(sh "cat new/file;
  exit 4")
(log (env :QUIRE_REPO))
(error "on purpose")
(no-such-name)
(sh ["no-such-program"])
(artifact "left")
(sh (.. "echo " (secret :token)))
(sh "echo unclosed
"#;
    let output = ssh_with(&forge, &format!("run repl {}", run.id), entries);
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    insta::assert_snapshot!("what_is_shown", String::from_utf8_lossy(&output.stdout));
    insta::assert_snapshot!("what_failed", String::from_utf8_lossy(&output.stderr));

    // It outlives the server, whose connection to the container is another one then.
    forge.kill();
    forge.serve();
    let output = ssh_with(
        &forge,
        &format!("run repl {}", run.id),
        "(read-file :left)\n",
    );
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        shown.starts_with("\"evidence\\n\"\n"),
        "{}",
        transcript(&output)
    );

    forge.ssh_ok(&format!("run cancel {}", run.id));
    let refused = wait_for("the removal of the container", || {
        let output = ssh_with(&forge, &format!("run repl {}", run.id), "1\n");
        (output.status.code() == Some(1)).then_some(output)
    });
    let refused = transcript(&refused);
    assert!(refused.contains("its container was removed"), "{refused}");
}

#[test]
fn a_person_on_a_terminal_edits_and_interrupts_entries() {
    if skipped("docker") {
        return;
    }
    let forge = contained();
    let run = kept(&forge);
    let pty = openpty(None, None).unwrap();
    let id = run.id.to_string();
    let (mut child, mut keys, shown) = on_terminal(&forge, &["run", "repl", &id], pty);
    let shows = |text: &str| {
        wait_for(text, || shown.lock().unwrap().contains(text).then_some(()));
    };
    // What is typed before the editor reads is lost.
    let prompts = |count: usize| {
        wait_for("the prompt", || {
            let prompts = shown.lock().unwrap().matches("\u{1b}[K> ").count();
            (prompts >= count).then_some(())
        });
    };
    prompts(1);
    keys.write_all(b"(+ 40\r").unwrap();
    shows(".. ");
    keys.write_all(b"2)\r").unwrap();
    shows("42\r\n");
    prompts(2);
    // What is typed and not finished is discarded.
    keys.write_all(b"(sh \"echo wr\x03").unwrap();
    prompts(3);
    keys.write_all(b"(sh \"echo begun; sleep 300\")\r").unwrap();
    shows("begun\r\n");
    keys.write_all(b"\x03").unwrap();
    shows("quire: interrupted");
    prompts(4);
    keys.write_all(b"(log :loops) (while true nil)\r").unwrap();
    shows("loops\r\n");
    keys.write_all(b"\x03").unwrap();
    prompts(5);
    assert_eq!(
        shown.lock().unwrap().matches("quire: interrupted").count(),
        2
    );
    keys.write_all(b"(.. :still \"-\" :here)\r").unwrap();
    shows("\"still-here\"");
    prompts(6);
    keys.write_all(b"\x04").unwrap();
    assert!(child.wait().unwrap().success());
    shows("(ci.job :from-repl [:quire/push]");
}
