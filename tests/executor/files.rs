//! Files of a workspace through the executor, the same under both.

use futures_util::StreamExt;
use quire_executor::{CommandSpec, ExecutorError, ImageSource, MAX_READ, StartSpec, Workspace};

use crate::support::{Files, Fixture, IMAGE, argv, finish, run_exit, shell, small_tree};
use crate::under_all;

under_all!(
    files_are_read_and_written,
    paths_that_leave_are_refused,
    what_is_no_file_is_refused,
    folders_are_exported,
    links_are_swapped_while_files_are_read
);

async fn refused(workspace: &dyn Workspace, path: &str) -> String {
    let read = workspace
        .read_file(path)
        .await
        .map(|content| String::from_utf8_lossy(&content).into_owned());
    match read {
        Err(ExecutorError::File(error)) => error.to_string(),
        other => panic!("{path}: {other:?}"),
    }
}

async fn files_are_read_and_written(fixture: Fixture) {
    let workspace = fixture.start().await;
    let read = async |path: &str| {
        String::from_utf8_lossy(&workspace.read_file(path).await.unwrap()).into_owned()
    };
    assert_eq!(read("plain.txt").await, "plain\n");
    assert_eq!(read("./a/../a/deep/er/file").await, "deep");
    // Links lead on within the workspace, also absolute ones to folders on the way.
    assert_eq!(read("link").await, "plain\n");
    run_exit(
        &*workspace,
        shell("ln -s a/deep way; ln -s ../a/deep/er/file a/over; : >empty; chmod 751 bin/tool"),
        0,
    )
    .await;
    assert_eq!(read("way/er/file").await, "deep");
    assert_eq!(read("a/over").await, "deep");
    assert_eq!(read("empty").await, "");
    // Any bytes, and the most that can be read.
    let bytes: Vec<u8> = (0..=255)
        .cycle()
        .take(usize::try_from(MAX_READ).unwrap())
        .collect();
    workspace
        .write_file("new/folder/bytes", bytes.clone())
        .await
        .unwrap();
    assert!(workspace.read_file("new/folder/bytes").await.unwrap() == bytes);
    assert_eq!(
        run_exit(&*workspace, shell("wc -c <new/folder/bytes"), 0)
            .await
            .text()
            .trim(),
        MAX_READ.to_string()
    );
    run_exit(&*workspace, shell("echo >>new/folder/bytes"), 0).await;
    assert_eq!(
        refused(&*workspace, "new/folder/bytes").await,
        "`new/folder/bytes` is larger than 4 MiB, the limit for reading a file at once"
    );
    // One that is there keeps its permissions; a link is followed.
    workspace
        .write_file("bin/tool", b"#!/bin/sh\necho other\n".to_vec())
        .await
        .unwrap();
    assert_eq!(
        run_exit(&*workspace, shell("bin/tool; stat -c %a bin/tool"), 0)
            .await
            .text(),
        "other\n751\n"
    );
    workspace
        .write_file("link", b"changed".to_vec())
        .await
        .unwrap();
    workspace
        .write_file("way/er/more/file", b"through".to_vec())
        .await
        .unwrap();
    workspace.write_file("empty", Vec::new()).await.unwrap();
    assert_eq!(
        run_exit(
            &*workspace,
            shell("cat plain.txt a/deep/er/more/file empty; test -L link"),
            0
        )
        .await
        .text(),
        "changedthrough"
    );
    finish(&*workspace).await;
    assert!(matches!(
        workspace.read_file("plain.txt").await,
        Err(ExecutorError::Cancelled)
    ));
}

async fn paths_that_leave_are_refused(fixture: Fixture) {
    let workspace = fixture.start().await;
    run_exit(&*workspace, shell("ln -s / root; ln -s /etc/passwd passwd; ln -s ../../.. up; ln -s a/../../x odd; ln -s loop loop"), 0)
        .await;
    for (path, words) in [
        ("../x", "`../x` lies outside of the workspace"),
        ("a/../../x", "`a/../../x` lies outside of the workspace"),
        (
            "/etc/passwd",
            "`/etc/passwd` is absolute; write it relative to the workspace",
        ),
        (
            "passwd",
            "`passwd` leads out of the workspace through a symbolic link",
        ),
        (
            "root/etc/passwd",
            "`root/etc/passwd` leads out of the workspace through a symbolic link",
        ),
        (
            "up/etc/passwd",
            "`up/etc/passwd` leads out of the workspace through a symbolic link",
        ),
        (
            "odd",
            "`odd` leads out of the workspace through a symbolic link",
        ),
        ("x\0y", "`x\u{fffd}y` contains a NUL byte"),
    ] {
        assert_eq!(refused(&*workspace, path).await, words);
        let written = workspace.write_file(path, b"bad".to_vec()).await;
        assert!(
            matches!(&written, Err(ExecutorError::File(error)) if error.to_string() == words),
            "{path}: {written:?}"
        );
        let exported = workspace.export_archive(path).await.map(drop);
        assert!(
            matches!(&exported, Err(ExecutorError::File(error)) if error.to_string() == words),
            "{path}: {exported:?}"
        );
    }
    assert!(workspace.read_file("loop").await.is_err());
    finish(&*workspace).await;
}

async fn what_is_no_file_is_refused(fixture: Fixture) {
    let workspace = fixture.start().await;
    run_exit(&*workspace, shell("mkfifo pipe; ln -s nowhere dangling"), 0).await;
    for (path, words) in [
        ("nothing", "the workspace has no `nothing`"),
        ("no/such/way", "the workspace has no `no/such/way`"),
        ("dangling", "the workspace has no `dangling`"),
        ("a", "`a` is a folder"),
        (".", "`.` is a folder"),
        ("pipe", "`pipe` is neither a file nor a folder"),
        (
            "plain.txt/x",
            "a part of the path `plain.txt/x` is not a folder",
        ),
    ] {
        assert_eq!(refused(&*workspace, path).await, words);
    }
    for (path, words) in [
        ("a", "`a` is a folder"),
        ("pipe", "`pipe` is neither a file nor a folder"),
        (
            "plain.txt/x",
            "a part of the path `plain.txt/x` is not a folder",
        ),
        (
            "plain.txt/x/y",
            "a part of the path `plain.txt/x/y` is not a folder",
        ),
    ] {
        let written = workspace.write_file(path, b"bad".to_vec()).await;
        assert!(
            matches!(&written, Err(ExecutorError::File(error)) if error.to_string() == words),
            "{path}: {written:?}"
        );
    }
    run_exit(
        &*workspace,
        shell("test -p pipe && test -d a && grep -q plain plain.txt"),
        0,
    )
    .await;
    finish(&*workspace).await;
}

/// The names in an archive, folders with a slash, links with what they lead to.
async fn exported(workspace: &dyn Workspace, path: &str) -> Vec<String> {
    let mut stream = workspace.export_archive(path).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    let mut names = Vec::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let kind = entry.header().entry_type();
        names.push(match entry.link_name().unwrap() {
            Some(to) => format!("{name} -> {}", to.display()),
            None if kind.is_dir() => format!("{}/", name.trim_end_matches('/')),
            None if kind.is_fifo() => format!("{name}|"),
            None => name,
        });
    }
    names.sort();
    names
}

async fn folders_are_exported(fixture: Fixture) {
    let workspace = fixture.start().await;
    run_exit(
        &*workspace,
        shell("ln -s /etc a/out; mkfifo a/pipe; ln -s a/deep way"),
        0,
    )
    .await;
    assert_eq!(
        exported(&*workspace, "a").await,
        [
            "a/",
            "a/deep/",
            "a/deep/er/",
            "a/deep/er/file",
            "a/out -> /etc",
            "a/pipe|"
        ]
    );
    assert_eq!(exported(&*workspace, "way/er/file").await, ["file"]);
    assert_eq!(exported(&*workspace, "link").await.len(), 1);
    let whole = exported(&*workspace, ".").await;
    assert!(whole.contains(&"work/plain.txt".to_owned()), "{whole:?}");
    finish(&*workspace).await;
}

/// Reading while a command turns a folder on the way into a link out of the workspace and back:
/// never what lies outside.
async fn links_are_swapped_while_files_are_read(fixture: Fixture) {
    let workspace = fixture.start().await;
    let swap = "mkdir -p ../outside real && echo outside >../outside/file && echo inside >real/file && ln -s real way && \
                while [ ! -e stop ]; do ln -sfn ../outside other && mv -T other way; ln -sfn real other && mv -T other way; done";
    let swapping = run_exit(&*workspace, shell(swap), 0);
    let reading = async {
        let (mut inside, mut left) = (0, 0);
        while inside + left < 200 {
            match workspace.read_file("way/file").await {
                Ok(content) => {
                    assert_eq!(String::from_utf8_lossy(&content), "inside\n");
                    inside += 1;
                }
                Err(ExecutorError::File(_)) => left += 1,
                Err(error) => panic!("{error}"),
            }
        }
        workspace.write_file("stop", Vec::new()).await.unwrap();
    };
    let (_, ()) = tokio::join!(swapping, reading);
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn written_files_belong_to_the_images_user() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let recipe = format!("FROM {IMAGE}\nRUN useradd -m person\nUSER person\n");
    let tree: Files = small_tree().with(".quire/Dockerfile", recipe);
    let workspace = fixture
        .start_with(StartSpec {
            image: ImageSource::Dockerfile,
            ..fixture.spec(tree)
        })
        .await
        .unwrap();
    workspace
        .write_file("made/by/quire", b"x".to_vec())
        .await
        .unwrap();
    workspace
        .write_file("plain.txt", b"y".to_vec())
        .await
        .unwrap();
    let output = run_exit(
        &*workspace,
        argv(&[
            "stat",
            "-c",
            "%U",
            "made",
            "made/by",
            "made/by/quire",
            "plain.txt",
        ]),
        0,
    )
    .await;
    assert_eq!(output.text(), "person\n".repeat(4));
    run_exit(
        &*workspace,
        CommandSpec {
            cwd: Some("made/by".into()),
            ..shell("echo more >>quire")
        },
        0,
    )
    .await;
    assert_eq!(
        workspace.read_file("made/by/quire").await.unwrap(),
        b"xmore\n"
    );
    finish(&*workspace).await;
}
