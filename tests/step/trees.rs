//! Trees: as in a checkout, whatever the names and links are.

use quire_step::{FailureReason, ToHelper};

use crate::client::{Event, Helper, LinkKind, Outcome, Spec};
use crate::over_both;

over_both!(
    a_tree_of_git_itself_is_unpacked,
    a_large_tree_does_not_make_the_helper_grow,
);

/// An archive of files, folders (a name that ends with a slash) and symbolic links.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn file(mut self, name: &[u8], mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        self.0
            .append_data(&mut header, path(name), content)
            .unwrap();
        self
    }

    fn folder(mut self, name: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o775);
        header.set_size(0);
        self.0
            .append_data(&mut header, path(name), &[][..])
            .unwrap();
        self
    }

    fn link(mut self, name: &[u8], target: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        self.0
            .append_link(&mut header, path(name), path(target))
            .unwrap();
        self
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn path(name: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt as _;
    std::path::Path::new(std::ffi::OsStr::from_bytes(name))
}

fn listed(helper: &mut Helper, folder: &str) -> String {
    let script =
        format!("cd {folder} && find . -mindepth 1 -printf '%y %m %U:%G %P %l\\n' | LC_ALL=C sort");
    helper.run(&Spec::shell(&script)).stdout()
}

#[test]
fn a_tree_is_unpacked_as_in_a_checkout() {
    let mut helper = Helper::start(crate::client::DEBIAN, &[]);
    let long = [&b"long/"[..], &[b'n'; 200], b"/", &[b'm'; 250]].concat();
    let archive = Archive::new()
        .file(b"plain", 0o664, b"content\n")
        .file(b"tool", 0o775, b"#!/bin/sh\n")
        .folder(b"folder")
        .folder(b"folder/empty")
        .file(b"folder/secret", 0o600, b"")
        .file(b"implied/by/file", 0o4777, b"")
        .file(b"-rf", 0o644, b"")
        .file(b"new\nline", 0o644, b"")
        .file(b"not-utf8-\xff\xfe", 0o644, b"")
        .file(b" * $(x) \\", 0o644, b"")
        .file(&long, 0o644, b"long")
        .link(b"dangling", b"no/such")
        .link(b"absolute", b"/etc/passwd")
        .link(b"outward", b"../../..")
        .link(b"loop", b"loop")
        .link(b"folder/self", b".")
        .link(b"long-link", &[b't'; 300])
        .end();
    assert_eq!(helper.tree(1000, &archive), Outcome::default());
    let list = listed(&mut helper, "/work");
    insta::assert_snapshot!(list);
    // It is the time of the unpacking: `make` compares with what was built before.
    let outcome = helper.run(&Spec::shell("find . -mmin +5; cat plain").uid(1000));
    assert_eq!(outcome.stdout(), "content\n");
}

fn a_tree_of_git_itself_is_unpacked(link: LinkKind) {
    let mut helper = Helper::over(link, crate::client::DEBIAN, &[]);
    let folder = tempfile::TempDir::new().unwrap();
    let script = "git init -q . && git config user.email a@b && git config user.name a && \
        mkdir -p a/b && echo x >a/b/c && ln -s /nowhere a/link && chmod +x a/b/c && \
        i=0; while [ $i -lt 20 ]; do d=$d/directory-$i; i=$((i+1)); done; mkdir -p .$d && echo deep >.$d/file && \
        git add -A && git commit -qm x && git archive HEAD";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(helper.tree(0, &output.stdout), Outcome::default());
    let outcome = helper.run(&Spec::shell(
        "./a/b/c; find . -name file -exec cat {} +; readlink a/link; stat -c %a a/b/c",
    ));
    assert_eq!(outcome.stdout(), "deep\n/nowhere\n755\n");
}

#[test]
fn no_symbolic_link_is_followed_and_no_name_leads_out() {
    let mut helper = Helper::start(crate::client::DEBIAN, &[]);
    let below = Archive::new()
        .link(b"out", b"/etc")
        .file(b"out/evil", 0o644, b"x")
        .end();
    let outcome = helper.tree(0, &below);
    let (reason, name) = outcome.error.unwrap();
    assert_eq!((reason, name.as_str()), (FailureReason::System, "out/evil"));
    for name in ["../evil", "a/../../evil", "/etc/evil"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        // The library refuses such names, so the bytes are set.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        let outcome = helper.tree(0, header.as_bytes());
        assert_eq!(outcome.error, Some((FailureReason::Archive, name.into())));
    }
    // A link in the way is replaced, not written through.
    let replaced = Archive::new()
        .link(b"passwd", b"/etc/passwd")
        .file(b"passwd", 0o644, b"mine\n")
        .end();
    assert_eq!(helper.tree(0, &replaced), Outcome::default());
    let outcome = helper.run(&Spec::shell(
        "cat passwd; ls /etc/evil /evil 2>/dev/null; head -c4 /etc/passwd",
    ));
    assert_eq!(outcome.stdout(), "mine\nroot");
}

#[test]
fn archives_that_are_damaged_or_cut_are_errors() {
    let mut helper = Helper::start(crate::client::DEBIAN, &[]);
    let whole = Archive::new().file(b"file", 0o644, &[b'x'; 5000]).end();
    let mut wrong_sum = whole.clone();
    wrong_sum[0] ^= 1;
    for archive in [
        &whole[..1000],
        &whole[..100],
        &wrong_sum,
        b"no archive at all",
    ] {
        let (reason, _) = helper.tree(0, archive).error.unwrap();
        assert_eq!(reason, FailureReason::Archive);
    }
    assert_eq!(helper.tree(0, &whole), Outcome::default());
}

#[test]
fn a_folder_in_the_way_and_a_mounted_cache_are_told_by_name() {
    let volume = format!("quire-step-test-cache-{}", std::process::id());
    let mount = format!("{volume}:/work/target");
    let mut helper = Helper::start(crate::client::DEBIAN, &["--volume", &mount]);
    let file = Archive::new().file(b"target", 0o644, b"").end();
    let link = Archive::new().link(b"target", b"x").end();
    for archive in [file, link] {
        let (_, name) = helper.tree(0, &archive).error.unwrap();
        assert_eq!(name, "target");
    }
    // A folder may be there, and a cache of root's becomes that of the user.
    let outcome = helper.run(&Spec::shell(
        "mkdir target/old; echo x >target/old/file; ln -s /etc target/link",
    ));
    assert_eq!(outcome.code(), Some(0));
    let folder = Archive::new().file(b"target/file", 0o644, b"").end();
    let id = helper.new_id();
    let frame = ToHelper::Tree {
        uid: 1000,
        gid: 1000,
        folder: b"/work",
        caches: vec![b"/work/target"],
    };
    helper.send(id, &frame);
    assert_eq!(helper.send_input(id, &folder), Vec::<Event>::new());
    assert_eq!(helper.finish(id), Outcome::default());
    let list = listed(&mut helper, "/work");
    let owner = helper
        .run(&Spec::new(["stat", "-c", "%U", "/etc"]))
        .stdout();
    drop(helper);
    crate::client::docker(&["volume", "rm", "--force", &volume]);
    assert_eq!(
        list,
        "d 755 1000:1000 target \nd 755 1000:1000 target/old \nf 644 1000:1000 target/file \n\
         f 644 1000:1000 target/old/file \nl 777 1000:1000 target/link /etc\n"
    );
    assert_eq!(owner, "root\n");
}

#[test]
fn a_full_disk_is_told_while_the_tree_comes() {
    let mut helper = Helper::start(crate::client::DEBIAN, &["--tmpfs", "/work:size=1m"]);
    let archive = Archive::new()
        .file(b"small", 0o644, b"x")
        .file(b"big", 0o644, &vec![b'x'; 8 << 20])
        .end();
    let id = helper.new_id();
    let frame = ToHelper::Tree {
        uid: 0,
        gid: 0,
        folder: b"/work",
        caches: Vec::new(),
    };
    helper.send(id, &frame);
    let events = helper.send_input(id, &archive);
    let error = Event::Error(FailureReason::System, 28, "big".into());
    assert_eq!(events, [error, Event::Done]);
    assert_eq!(helper.run(&Spec::new(["rm", "big"])).code(), Some(0));
}

fn a_large_tree_does_not_make_the_helper_grow(link: LinkKind) {
    let mut helper = Helper::over(link, crate::client::DEBIAN, &[]);
    let archive = Archive::new()
        .file(b"big", 0o644, &vec![b'x'; 64 << 20])
        .end();
    assert_eq!(helper.tree(0, &archive), Outcome::default());
    let outcome = helper.run(&Spec::shell("grep VmHWM /proc/1/status; stat -c %s big"));
    let stdout = outcome.stdout();
    let words: Vec<&str> = stdout.split_whitespace().collect();
    let kilobytes: u32 = words[1].parse().unwrap();
    assert!(kilobytes < 16 << 10, "{stdout}");
    assert_eq!(words.last(), Some(&"67108864"));
}
