//! Images of other kinds: from nothing, with a user, with a root that is read-only.

use std::io::Write as _;
use std::process::{Command, Stdio};

use quire_step::{FailureReason, TaskIds, ToHelper};

use crate::client::{DEBIAN, Helper, Outcome, Spec, docker};

/// A static program that prints its ids and writes a file to its home folder.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
    printf("%d:%d %s\n", getuid(), getgid(), getenv("HOME"));
    if (chdir(getenv("HOME")) != 0) return 1;
    FILE *file = fopen("file", "w");
    return file == NULL || fclose(file) != 0;
}
"#;

/// An image that is removed at the end.
struct Image(String);

impl Image {
    /// An image from nothing with that one program.
    fn from_nothing() -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let source = folder.path().join("program.c");
        std::fs::write(&source, PROGRAM).unwrap();
        let program = folder.path().join("program");
        let compiled = Command::new("cc")
            .arg("-static")
            .arg("-o")
            .args([&program, &source])
            .status();
        assert!(compiled.unwrap().success());
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_path_with_name(&program, "program").unwrap();
        let archive = builder.into_inner().unwrap();
        let name = format!("quire-step-test-nothing-{}", std::process::id());
        let mut import = Command::new("docker")
            .args(["import", "--change", "USER 1234", "-", &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(import.wait().unwrap().success());
        Self(name)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["rmi", "--force", &self.0]);
    }
}

fn who(helper: &mut Helper, user: &str) -> Outcome {
    let id = helper.new_id();
    helper.send(
        id,
        &ToHelper::Who {
            user: user.as_bytes(),
        },
    );
    helper.finish(id)
}

fn ids(uid: u32, gid: u32, groups: &[u32]) -> TaskIds {
    TaskIds {
        uid,
        gid,
        groups: groups.to_vec(),
    }
}

#[test]
fn an_image_from_nothing_runs_its_program_as_its_user() {
    let image = Image::from_nothing();
    let mut helper = Helper::start(&image.0, &[]);
    let user = who(&mut helper, "1234").user.unwrap();
    assert_eq!(user, (ids(1234, 0, &[]), "/tmp/home-1234".into()));
    assert_eq!(helper.tree(1234, &[]), Outcome::default());
    let mut spec = Spec::new(["/program"]).uid(1234);
    spec.env = vec![format!("HOME={}", user.1)];
    let outcome = helper.run(&spec);
    assert_eq!(outcome.stdout(), "1234:1234 /tmp/home-1234\n");
    assert_eq!(outcome.code(), Some(0));
    let (reason, _) = helper.run(&Spec::new(["sh"])).error.unwrap();
    assert_eq!(reason, FailureReason::ProgramMissing);
    drop(helper);
}

#[test]
fn a_root_that_is_read_only_has_a_home_and_a_workspace() {
    let options = ["--read-only", "--volume", "/work"];
    let mut helper = Helper::start(DEBIAN, &options);
    let (found, home) = who(&mut helper, "1234:99").user.unwrap();
    assert_eq!(
        (found, home.as_str()),
        (ids(1234, 99, &[]), "/dev/shm/home-1234")
    );
    assert_eq!(helper.tree(1234, &[]), Outcome::default());
    let script = "cd /dev/shm/home-1234 && touch file && touch /work/file && echo well";
    let outcome = helper.run(&Spec::shell(script).uid(1234));
    assert_eq!(outcome.stdout(), "well\n", "{outcome:?}");
}

#[test]
fn users_are_resolved_by_the_files_of_the_image() {
    let mut helper = Helper::debian(&[]);
    let script = "echo dev:x:1500:1500::/home/dev:/bin/sh >>/etc/passwd; \
        printf 'dev:x:1500:\\nextra:x:1600:other,dev\\n' >>/etc/group";
    assert_eq!(helper.run(&Spec::shell(script)).code(), Some(0));
    let mut user = |text: &str| who(&mut helper, text).user.unwrap();
    assert_eq!(user(""), (ids(0, 0, &[]), "/root".into()));
    // The home folder was missing.
    let dev = ids(1500, 1500, &[1600]);
    assert_eq!(user("dev"), (dev.clone(), "/home/dev".into()));
    assert_eq!(user("1500"), (dev, "/home/dev".into()));
    assert_eq!(
        user("dev:extra"),
        (ids(1500, 1600, &[]), "/home/dev".into())
    );
    assert_eq!(user("nobody").1, "/tmp/home-65534");
    let error = who(&mut helper, "nosuch").error;
    assert_eq!(error, Some((FailureReason::UnknownUser, "nosuch".into())));
    let error = who(&mut helper, "dev:nosuch").error;
    assert_eq!(error, Some((FailureReason::UnknownGroup, "nosuch".into())));
    let outcome = helper.run(&Spec::shell("touch /home/dev/file && echo well").uid(1500));
    assert_eq!(outcome.stdout(), "well\n");
}
