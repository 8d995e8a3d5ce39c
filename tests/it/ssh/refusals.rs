//! Pushes that are refused leave the repository as it was, and say why in a sentence.

use std::fs;
use std::path::Path;

use quire_testkit::{SshForge, TestForge, own, stderr, transcript};

use crate::QUIRE;

/// Every file below a folder, with its content.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// What is pushed in vain, and then what is pushed again; nothing of it is to be found meanwhile.
struct Tried<'a> {
    forge: &'a SshForge,
    tree: &'a Path,
}

impl Tried<'_> {
    #[track_caller]
    fn refused(&self, refspec: &str, words: &str) {
        for target in ["origin".to_owned(), self.forge.url("never-seen")] {
            let before = files(&self.forge.paths.repos());
            let pushed = self.forge.git(self.tree, &["push", &target, refspec]);
            assert!(
                !pushed.status.success() && stderr(&pushed).contains(words),
                "{words}: {}",
                transcript(&pushed)
            );
            if target == "origin" {
                assert!(
                    before == files(&self.forge.paths.repos()),
                    "{words}: files have changed"
                );
            }
            assert_eq!(self.forge.events(), []);
        }
        let never_seen = self.forge.paths.repos().join("never-seen.git");
        if never_seen.exists() {
            assert_eq!(
                self.forge.git_ok(
                    self.tree,
                    &["--git-dir", never_seen.to_str().unwrap(), "for-each-ref"]
                ),
                ""
            );
        }
    }
}

#[test]
fn a_refused_push_says_why_and_changes_nothing() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    forge.take_events();
    let head = forge.git_ok(&tree, &["rev-parse", "HEAD"]);
    let tried = Tried {
        forge: &forge,
        tree: &tree,
    };

    // The disk is nearly full, as serve tells the push path: refused before git begins; fetches go on.
    fs::write(forge.paths.min_free(), u64::MAX.to_string()).unwrap();
    forge.commit(&tree, "more");
    tried.refused("main", "quire: the disk is nearly full: ");
    assert!(
        !forge.paths.repos().join("never-seen.git").exists(),
        "not even the repository is made"
    );
    assert!(
        forge
            .git_ok(&tree, &["ls-remote", "origin", "main"])
            .starts_with(&head)
    );
    fs::remove_file(forge.paths.min_free()).unwrap();

    // Larger than `git.max-push`.
    fs::write(forge.paths.git_limits(), "100000").unwrap();
    own(&forge.paths.git_limits());
    // Nothing that can be made smaller.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(40_000)
    .flatten()
    .collect();
    fs::write(tree.join("large"), noise).unwrap();
    forge.commit(&tree, "large");
    tried.refused("main", "pack exceeds maximum allowed size");
    fs::remove_file(forge.paths.git_limits()).unwrap();

    // What no git writes: a commit without a committer, a tree that would overwrite `.git`, one out of order.
    let top = forge.git_ok(&tree, &["rev-parse", "HEAD^{tree}"]);
    let blob = forge.git_ok(&tree, &["rev-parse", "HEAD:file"]);
    let raw: Vec<u8> = (0..20)
        .map(|at| u8::from_str_radix(&blob[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    for (kind, content, words) in [
        (
            "commit",
            format!("tree {top}\nauthor A <a@b> 1 +0000\n\nx\n").into_bytes(),
            "missingCommitter",
        ),
        ("tree", [&b"100644 .git\0"[..], &raw].concat(), "hasDotgit"),
        (
            "tree",
            [&b"100644 b\0"[..], &raw, b"100644 a\0", &raw].concat(),
            "treeNotSorted",
        ),
    ] {
        fs::write(tree.join(".git/raw"), content).unwrap();
        let object = forge.git_ok(
            &tree,
            &["hash-object", "--literally", "-t", kind, "-w", ".git/raw"],
        );
        tried.refused(&format!("{object}:refs/tags/odd"), words);
    }

    // Nothing of it stands in the way of the next one, and the repository is sound.
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    let bare = forge.paths.repos().join("app.git");
    let sound = forge.git(
        &tree,
        &[
            "--git-dir",
            bare.to_str().unwrap(),
            "fsck",
            "--strict",
            "--no-dangling",
        ],
    );
    assert!(sound.status.success(), "{}", transcript(&sound));
    assert_eq!(forge.events().len(), 1);
}
