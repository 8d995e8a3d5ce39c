//! READ, WRITE and EXPORT, in a workspace that foreign code has prepared.

use std::io::Read as _;

use quire_step::{FailureReason, FileTask, TaskIds, ToHelper};

use crate::client::{Helper, LinkKind, Outcome, Spec};
use crate::over_both;

over_both!(a_worker_that_is_killed_by_a_command_is_told,);

fn file(uid: u32, path: &str) -> FileTask<'_> {
    FileTask {
        ids: TaskIds {
            uid,
            gid: uid,
            groups: Vec::new(),
        },
        folder: b"/work",
        path: path.as_bytes(),
    }
}

fn read(helper: &mut Helper, uid: u32, path: &str) -> Outcome {
    let id = helper.new_id();
    let frame = ToHelper::Read {
        file: file(uid, path),
        limit: 5_000_000,
    };
    helper.send(id, &frame);
    helper.finish(id)
}

fn write(helper: &mut Helper, uid: u32, path: &str, content: &[u8]) -> Outcome {
    let id = helper.new_id();
    helper.send(id, &ToHelper::Write(file(uid, path)));
    helper.send_input(id, content);
    helper.finish(id)
}

fn prepared(link: LinkKind) -> Helper {
    let mut helper = Helper::debian_over(link, &[]);
    let script = "mkdir -p a/b; echo text >a/b/file; ln -s b/file a/inside; ln -s /etc/passwd outside; ln -s .. up; \
        mkfifo pipe; head -c 5000001 /dev/zero >large; chmod 600 a/b/file; \
        ln -s /proc/1/root magic; ln -s gone dangling";
    assert_eq!(helper.run(&Spec::shell(script)).code(), Some(0));
    helper
}

#[test]
fn files_are_read_beneath_the_workspace_only() {
    let mut helper = prepared(LinkKind::Streams);
    assert_eq!(read(&mut helper, 0, "a/inside").data, b"text\n");
    let paths = [
        "a/b/none",
        "outside",
        "up/etc/passwd",
        "../etc/passwd",
        "/etc/passwd",
        "a",
        "",
        "pipe",
        "large",
        "a/b/file/x",
        "magic/etc/passwd",
        "dangling",
    ];
    let mut lines: Vec<String> = paths
        .iter()
        .map(|path| format!("{path}: {:?}", read(&mut helper, 0, path).error.unwrap()))
        .collect();
    // With the ids of the user, not those of the helper.
    lines.push(format!(
        "{:?}",
        read(&mut helper, 1000, "a/b/file").error.unwrap()
    ));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn files_are_written_beneath_the_workspace_only() {
    let mut helper = prepared(LinkKind::Streams);
    let content = vec![b'x'; 3_000_000];
    assert_eq!(
        write(&mut helper, 1000, "new/folder/file", &content),
        Outcome::default()
    );
    assert_eq!(
        write(&mut helper, 0, "a/inside", b"new\n"),
        Outcome::default()
    );
    let script = "stat -c '%a %u %s' new/folder new/folder/file a/b/file; cat a/b/file";
    let outcome = helper.run(&Spec::shell(script));
    assert_eq!(
        outcome.stdout(),
        "755 1000 4096\n644 1000 3000000\n600 0 4\nnew\n"
    );
    let paths = [
        "outside",
        "up/x",
        "../x",
        "a",
        "pipe",
        "a/b/file/x",
        "",
        "dangling/x",
    ];
    let lines: Vec<String> = paths
        .iter()
        .map(|path| {
            format!(
                "{path}: {:?}",
                write(&mut helper, 0, path, b"x").error.unwrap()
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert!(
        helper
            .run(&Spec::new(["head", "-c4", "/etc/passwd"]))
            .stdout()
            == "root"
    );
}

#[test]
fn a_folder_is_exported_as_an_archive() {
    let mut helper = prepared(LinkKind::Streams);
    let long = "n".repeat(150);
    let script = format!(
        "mkdir -p a/{long}/{long}; echo deep >a/{long}/{long}/file; mkfifo a/pipe; ln -s /{long} a/link; head -c 1000000 /dev/urandom >a/random; sha256sum <a/random"
    );
    let sum = helper.run(&Spec::shell(&script)).stdout();
    let id = helper.new_id();
    helper.send(id, &ToHelper::Export(file(0, "a")));
    let outcome = helper.finish(id);
    assert_eq!(outcome.error, None);
    let mut archive = tar::Archive::new(outcome.data.as_slice());
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let kind = entry.header().entry_type();
        let target = entry
            .link_name()
            .unwrap()
            .map(|target| target.display().to_string());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        lines.push(format!("{kind:?} {name} {} {target:?}", content.len()));
        if name == "a/random" {
            let again = write(&mut helper, 0, "copy", &content);
            assert_eq!(again, Outcome::default());
        }
    }
    assert_eq!(helper.run(&Spec::shell("sha256sum <copy")).stdout(), sum);
    insta::assert_snapshot!(lines.join("\n").replace(&long, "LONG"));
}

fn a_worker_that_is_killed_by_a_command_is_told(link: LinkKind) {
    let mut helper = prepared(link);
    let id = helper.new_id();
    helper.send(id, &ToHelper::Write(file(1000, "slow")));
    // The worker has the ids of the user, so a command of the user can kill it, and nothing else.
    let script = "until [ -e slow ]; do :; done; kill -9 -1; exit 0";
    let command = helper.begin(&Spec::shell(script).uid(1000));
    let outcome = helper.finish(id);
    assert_eq!(outcome.error, Some((FailureReason::Killed, String::new())));
    helper.finish(command);
    assert_eq!(read(&mut helper, 0, "a/inside").data, b"text\n");
}
