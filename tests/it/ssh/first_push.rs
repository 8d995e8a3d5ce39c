//! First pushes: the client's format is the repository's, and nothing is created for a client that pushes nothing.

use std::fs;

use quire_testkit::{TestForge, stderr, transcript, wait_for};

use crate::QUIRE;

#[test]
fn the_first_push_decides_the_format_of_the_repository() {
    let forge = TestForge::new(QUIRE).sshd();
    let cloned = |repo: &str, folder: &str| {
        let parent = forge.file("");
        forge.git_ok(&parent, &["clone", "-q", &forge.url(repo), folder]);
        forge.git_ok(&forge.file(folder), &["rev-parse", "HEAD"])
    };
    for (format, length) in [("sha256", 64), ("sha1", 40)] {
        let tree = forge.tree(format, &format!("group/{format}"));
        fs::remove_dir_all(tree.join(".git")).unwrap();
        let init = format!("--object-format={format}");
        forge.git_ok(&tree, &["init", "-q", "-b", "main", &init]);
        let url = forge.url(&format!("group/{format}"));
        forge.git_ok(&tree, &["remote", "add", "origin", &url]);
        // More than a pipe holds.
        let large: Vec<u8> = (0..3_000_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        fs::write(tree.join("large"), large).unwrap();
        let id = forge.commit(&tree, "first");
        assert_eq!(id.len(), length);
        forge.git_ok(&tree, &["tag", "v1"]);
        let push = ["push", "--atomic", "-o", "ci.skip", "origin", "main", "v1"];
        let pushed = forge.git(&tree, &push);
        let created = format!("quire: created repository group/{format}");
        assert!(
            pushed.status.success() && stderr(&pushed).contains(&created),
            "{}\n{}",
            transcript(&pushed),
            forge.log()
        );
        assert_eq!(
            cloned(&format!("group/{format}"), &format!("clone-{format}")),
            id
        );
        let second = forge.commit(&tree, "second");
        forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
        assert_eq!(
            cloned(&format!("group/{format}"), &format!("again-{format}")),
            second
        );
    }
    // The events of both are there.
    let events = forge.events();
    assert_eq!(events.len(), 4, "{events:?}");

    // A shallow clone begins with what it lacks.
    let parent = forge.file("");
    for format in ["sha1", "sha256"] {
        let (url, shallow) = (
            forge.url(&format!("group/{format}")),
            format!("shallow-{format}"),
        );
        forge.git_ok(&parent, &["clone", "-q", "--depth=1", &url, &shallow]);
        let folder = forge.file(&shallow);
        let refused = forge.git(&folder, &["push", &forge.url(&shallow), "main"]);
        assert!(
            !refused.status.success() && stderr(&refused).contains("shallow update not allowed"),
            "{}",
            transcript(&refused)
        );
    }
    // A repository that was created by hand has the format that it was given.
    for (own, other, ids) in [
        ("sha256", "sha1", ("SHA-1", "SHA-256")),
        ("sha1", "sha256", ("SHA-256", "SHA-1")),
    ] {
        let (repo, (there, here)) = (format!("group/{other}"), ids);
        let refused = forge.git(
            &forge.file(own),
            &["push", &forge.url(&repo), "main:another"],
        );
        let said = stderr(&refused);
        let explained = format!(
            "quire: if git says that a hash algorithm is not supported: {repo} has {there} ids and your repository has {here} ids; \
             push to a name that does not exist yet, which creates a repository with {here} ids"
        );
        assert!(
            said.contains("does not support this repository's hash algorithm")
                && said.contains(&explained),
            "{said}"
        );
    }
    wait_for("the sessions to end", || {
        let copies = fs::read_dir("/proc").unwrap().filter(|entry| {
            let folder = entry.as_ref().unwrap().path();
            let environment = fs::read(folder.join("environ")).unwrap_or_default();
            let name = fs::read(folder.join("comm")).unwrap_or_default();
            let data = forge.paths.data().as_os_str().as_encoded_bytes();
            name == b"cat\n" && environment.windows(data.len()).any(|part| part == data)
        });
        (copies.count() == 0).then_some(())
    });
}

#[test]
fn a_first_push_that_pushes_nothing_creates_nothing() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    let is_there = || forge.paths.repo(&"app".parse().unwrap()).exists();
    forge.git_ok(&tree, &["push", "--dry-run", "origin", "main"]);
    assert!(!is_there());
    // A client that disconnects, and ones that speak something else.
    for sent in ["", "0000", "GET / HTTP/1.1\r\n\r\n", "0003", "00"] {
        let input = forge.file("sent");
        fs::write(&input, sent).unwrap();
        let mut command = forge.ssh_as("owner", &[], &["git-receive-pack", "'app'"]);
        let output = command.stdin(fs::File::open(&input).unwrap()).output();
        let output = output.unwrap();
        let is_nothing = matches!(sent, "" | "0000" | "00");
        assert_eq!(
            output.status.success(),
            is_nothing,
            "{}",
            transcript(&output)
        );
        assert!(
            is_nothing
                || stderr(&output)
                    .contains("the push could not be read, so no repository was created"),
            "{}",
            transcript(&output)
        );
        assert!(!is_there(), "{sent:?}");
    }
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    assert!(is_there());
}
