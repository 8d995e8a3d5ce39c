//! Files in Git LFS in the workspace of a container.

use quire_types::run::RunState;

use super::attach::contained;

/// `printf hello | sha256sum`
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn files_in_git_lfs_have_their_content_in_a_container() {
    let forge = contained();
    let tree = forge.tree("app", "app");
    let pipeline = "(local ci (require :quire.ci))
        (ci.image \"debian:trixie-slim\")
        (ci.checkout {:lfs true})
        (ci.job :test [:quire/push] (fn [{: sh}] (sh \"cat 'a file.bin'; wc -c < 'a large file.bin'\")))\n";
    tree.write(".quire/ci.fnl", pipeline);
    // `head -c 20971520 /dev/zero | sha256sum`
    let large = "cd52d81e25f372e6fa4db2c0dfceb59862c1969cab17096da352b34950c973cc";
    for (name, oid, size) in [
        ("a file.bin", HELLO, 5),
        ("a large file.bin", large, 20 << 20),
    ] {
        let pointer =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
        tree.write(name, &pointer);
    }
    tree.commit("with files in Git LFS");
    forge.ssh_ok("repo new app");
    let store = quire_git::lfs::LfsStore::of(&forge.paths.repo(&"app".parse().unwrap()));
    for (oid, content) in [(HELLO, b"hello".to_vec()), (large, vec![0; 20 << 20])] {
        let mut upload = store
            .upload(&oid.parse().unwrap(), content.len() as u64)
            .unwrap();
        upload.write(&content).unwrap();
        upload.finish().unwrap();
    }
    tree.push(&["main"]);
    let run = forge.end_of(forge.newest("app").id);
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert_eq!(run.state, RunState::Complete, "{log}");
    assert!(log.contains("hello20971520\n"), "{log}");
}
