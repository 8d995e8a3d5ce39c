//! Archives as workspaces hand them out, and as somebody makes them who wants to do harm.

use futures_util::stream;
use tempfile::TempDir;

use std::io;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::*;

struct Made(tar::Builder<Vec<u8>>);

impl Made {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o644);
        header
    }

    /// With any name: the library refuses to make some.
    fn raw(mut self, kind: tar::EntryType, name: &str, to: &str, content: &[u8]) -> Self {
        let mut header = Self::header(kind, content.len());
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(tar::EntryType::Regular, name, "", content)
    }

    fn folder(self, name: &str) -> Self {
        self.raw(tar::EntryType::Directory, name, "", b"")
    }

    fn link(self, name: &str, to: &str) -> Self {
        self.raw(tar::EntryType::Symlink, name, to, b"")
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn keeper(folder: &TempDir) -> ArtifactStore {
    ArtifactStore::new(folder.path().join("run"), 1 << 20)
}

async fn keep(
    keeper: &ArtifactStore,
    name: &str,
    archive: Vec<u8>,
) -> Result<StoredArtifact, ArtifactError> {
    let chunks: Vec<_> = archive
        .chunks(700)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    keeper
        .add(
            name.parse().unwrap(),
            stream::iter(chunks).boxed(),
            &CancellationToken::new(),
        )
        .await
}

fn left(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path().join("run"))
        .into_iter()
        .flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = keeper(&folder);
    let kept = keep(
        &keeper,
        "target/app",
        Made::new().file("app", b"\0binary").done(),
    )
    .await
    .unwrap();
    assert_eq!((kept.is_folder, kept.files, kept.bytes), (false, 1, 7));
    let archive = Made::new()
        .folder("dist")
        .file("dist/a", b"one")
        .folder("dist/sub")
        .file("dist/sub/b", b"two")
        .link("dist/sub/up", "../a")
        .raw(tar::EntryType::Link, "dist/again", "dist/a", b"");
    let kept = keep(&keeper, "dist", archive.done()).await.unwrap();
    assert_eq!((kept.is_folder, kept.files, kept.bytes), (true, 4, 6));
    // Beside a folder of that name, and not in it.
    keep(&keeper, "dist/a", Made::new().file("a", b"x").done())
        .await
        .unwrap();
    assert_eq!(left(&folder), ["dist", "dist%2Fa", "target%2Fapp"]);

    let run = folder.path().join("run");
    let Some(Artifact::File(mut file, size)) = open(&run, &"target/app".parse().unwrap()).unwrap()
    else {
        panic!("no file")
    };
    let mut content = Vec::new();
    io::Read::read_to_end(&mut file, &mut content).unwrap();
    assert_eq!((content.as_slice(), size), (&b"\0binary"[..], 7));
    let Some(Artifact::Folder(dist)) = open(&run, &"dist".parse().unwrap()).unwrap() else {
        panic!("no folder")
    };
    let mut packed = Vec::new();
    dist.write_tar(&mut packed).unwrap();
    let mut archive = tar::Archive::new(packed.as_slice());
    let names = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "dist/",
            "dist/a",
            "dist/again",
            "dist/sub",
            "dist/sub/b",
            "dist/sub/up"
        ]
    );
    assert!(open(&run, &"nothing".parse().unwrap()).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_archives_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("secret"), "secret").unwrap();
    let keeper = keeper(&folder);
    let outside = victim.display().to_string();
    let d = || Made::new().folder("d");
    use tar::EntryType as Kind;
    for (what, archive, words) in [
        (
            "climbs",
            d().file("d/../../victim/x", b"bad"),
            "`d/../../victim/x` in it is a path outside of it",
        ),
        (
            "absolute",
            d().file(&format!("{outside}/x"), b"bad"),
            "outside of it",
        ),
        (
            "link out",
            d().link("d/out", "../victim"),
            "`out` in it is a link that points outside of it",
        ),
        (
            "absolute link",
            d().link("d/out", &outside),
            "`out` in it is a link that points outside of it",
        ),
        (
            "link to root",
            d().link("d/out", "/"),
            "`out` in it is a link that points outside of it",
        ),
        (
            "link back down and up",
            d().folder("d/a").link("d/a/out", "../b/../../victim"),
            "outside of it",
        ),
        (
            "through a link",
            d().link("d/way", ".").file("d/way/x", b"bad"),
            "`way` in it is a folder and something else as well",
        ),
        (
            "the whole is a link",
            Made::new().link("d", "x"),
            "`d` in it is a link that points outside of it",
        ),
        (
            "the whole is a link, then a folder",
            Made::new().link("d", "../victim").file("d/x", b"bad"),
            "outside of it",
        ),
        (
            "hard link out",
            d().raw(Kind::Link, "d/x", "../victim/secret", b""),
            "outside of it",
        ),
        (
            "hard link to nothing",
            d().raw(Kind::Link, "d/x", "d/none", b""),
            "`x` in it is a hard link to a file that is not in it",
        ),
        (
            "hard link to a link",
            d().link("d/l", "x").raw(Kind::Link, "d/y", "d/l", b""),
            "not in it",
        ),
        (
            "pipe",
            d().raw(Kind::Fifo, "d/p", "", b""),
            "`p` in it is not a file, folder or link",
        ),
        (
            "device",
            d().raw(Kind::Char, "d/null", "", b""),
            "`null` in it is not a file, folder or link",
        ),
        ("nothing", Made::new(), "it is empty"),
    ] {
        let error = keep(&keeper, "d", archive.done()).await.expect_err(what);
        assert!(error.to_string().contains(words), "{what}: {error}");
        assert_eq!(left(&folder), Vec::<String>::new(), "{what}");
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1, "{what}");
    }
    // A name twice: the first would be followed or replaced.
    keep(
        &keeper,
        "d",
        d().link("d/x", "y").file("d/x", b"bad").done(),
    )
    .await
    .expect_err("a name twice");
    // Cut in the middle, and no archive at all.
    let whole = d().file("d/x", &[b'x'; 5000]).done();
    keep(&keeper, "d", whole[..3000].to_vec())
        .await
        .expect_err("cut");
    keep(&keeper, "d", b"not an archive".repeat(100))
        .await
        .expect_err("no archive");
    assert_eq!(left(&folder), Vec::<String>::new());
    // None of it counts: all of the cap is there.
    keep(&keeper, "d", d().file("d/x", &vec![b'x'; 1 << 20]).done())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_once_and_sizes_within_the_cap() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = keeper(&folder);
    let half = || Made::new().file("half", &vec![b'x'; 1 << 19]).done();
    let first = keep(&keeper, "one", half()).await.unwrap();
    let error = keep(&keeper, "./one", half()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "an artifact named `one` exists already; give this one another :name"
    );
    keep(&keeper, "two", half()).await.unwrap();
    let error = keep(&keeper, "three", Made::new().file("x", b"x").done())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the artifacts of this run exceed the limit of 1.0 MiB together"
    );
    keep(&keeper, "empty", Made::new().file("x", b"").done())
        .await
        .unwrap();
    // A job that is tried again keeps them again.
    keeper.discard(&first).unwrap();
    keep(&keeper, "one", half()).await.unwrap();
    assert_eq!(left(&folder), ["empty", "one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (keeper, cancel) = (keeper(&folder), CancellationToken::new());
    let start = Made::new().file("x", &[b'x'; 5000]).done()[..3000].to_vec();
    let archive = stream::iter([Ok(Bytes::from(start))])
        .chain(stream::pending())
        .boxed();
    let keeping = keeper.add("x".parse().unwrap(), archive, &cancel);
    let (kept, ()) = tokio::join!(keeping, async { cancel.cancel() });
    assert!(matches!(kept, Err(ArtifactError::Stopped)));
    assert_eq!(left(&folder), Vec::<String>::new());
}

#[tokio::test]
async fn what_one_run_kept_is_brought_to_another_and_outlives_it() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let first = keeper(&folder);
    let archive = Made::new()
        .folder("d")
        .folder("d/sub")
        .file("d/sub/x", b"content")
        .link("d/sub/l", "x")
        .folder("d/empty")
        .done();
    let kept = [
        keep(&first, "out/d", archive).await.unwrap(),
        keep(&first, "app", Made::new().file("app", b"binary").done())
            .await
            .unwrap(),
    ];
    let run = folder.path().join("run");
    std::fs::set_permissions(run.join("app"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let second = ArtifactStore::new(folder.path().join("second"), 20);
    for kept in &kept {
        second.link_from(&run, kept).unwrap();
    }
    let there = folder.path().join("second");
    assert_eq!(
        std::fs::metadata(there.join("app")).unwrap().nlink(),
        2,
        "no second copy"
    );
    // Its name is taken, and it counts.
    assert!(matches!(
        second.link_from(&run, &kept[0]),
        Err(ArtifactError::NameTaken(_))
    ));
    assert!(matches!(
        keep(&second, "app", Made::new().file("app", b"x").done()).await,
        Err(ArtifactError::NameTaken(_))
    ));
    assert!(matches!(
        keep(
            &second,
            "more",
            Made::new().file("more", b"12345678").done()
        )
        .await,
        Err(ArtifactError::TooLarge(20))
    ));
    let missing = StoredArtifact {
        name: "none".parse().unwrap(),
        is_folder: false,
        files: 1,
        bytes: 1,
    };
    assert!(second.link_from(&run, &missing).is_err());
    std::fs::remove_dir_all(&run).unwrap();
    assert_eq!(std::fs::read(there.join("app")).unwrap(), b"binary");
    assert_eq!(
        std::fs::metadata(there.join("app")).unwrap().mode() & 0o777,
        0o755
    );
    assert_eq!(
        std::fs::read(there.join("out%2Fd/sub/l")).unwrap(),
        b"content"
    );
    assert!(there.join("out%2Fd/empty").is_dir());
    assert_eq!(
        std::fs::read_dir(&there).unwrap().count(),
        2,
        "nothing half-made is left"
    );
}
