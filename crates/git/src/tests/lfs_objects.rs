//! Which objects of Git LFS commits refer to.

use std::ops::ControlFlow;

use super::Fixture;
use quire_types::names::ObjectId;

fn pointer(digit: char) -> String {
    let oid = digit.to_string().repeat(64);
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 5\n")
}

#[test]
fn what_is_known_already_is_not_listed() {
    let (a, b, c) = (pointer('a'), pointer('b'), pointer('c'));
    let (fixture, repo, first) = Fixture::with_files(&[("a.bin", &a), ("text", "a file")]);
    let second = fixture.commit(&[("b.bin", &b)], "second");
    let third = fixture.commit(&[("c.bin", &c), ("again.bin", &a)], "third");
    let missing: ObjectId = "1".repeat(40).parse().unwrap();
    let listed = |tips: &[&ObjectId], known: &[&ObjectId]| {
        let own = |ids: &[&ObjectId]| ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
        let mut paths = Vec::new();
        let listed = fixture.git.referred_lfs_objects(
            &repo,
            (&own(tips), &own(known)),
            || true,
            |file| {
                assert_eq!(file.pointer.size, 5);
                paths.push(file.path);
                ControlFlow::Continue(())
            },
        );
        listed.map(|()| {
            paths.sort();
            paths.join(" ")
        })
    };
    // Of equal files one is listed.
    assert_eq!(listed(&[&third], &[]).unwrap(), "a.bin b.bin c.bin");
    assert_eq!(listed(&[&third], &[&second]).unwrap(), "c.bin");
    assert_eq!(
        listed(&[&second, &third], &[&first]).unwrap(),
        "b.bin c.bin"
    );
    assert_eq!(listed(&[&third], &[&third]).unwrap(), "");
    // A commit that was removed since is not known any more.
    assert_eq!(listed(&[&second], &[&missing]).unwrap(), "a.bin b.bin");
    // What cannot be listed to its end is an error, and not an empty list.
    std::fs::remove_dir_all(repo.join("objects")).unwrap();
    assert!(listed(&[&third], &[]).is_err());
}
