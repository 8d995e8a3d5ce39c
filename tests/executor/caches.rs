//! Caches: kept from run to run, of one repository, under both executors.

use quire_executor::{
    CacheInfo, CacheMount, CommandSpec, ExecutorError, ImageSource, StartSpec, Tree, Workspace,
};

use crate::support::{Fixture, IMAGE, argv, finish, run_exit, shell, small_tree};
use crate::under_both;

under_both!(
    caches_live_from_run_to_run,
    caches_take_what_the_tree_has,
    caches_are_listed_and_cleared
);

fn with(
    fixture: &Fixture,
    tree: impl Tree + 'static,
    repo: &str,
    caches: &[(&str, &str)],
) -> StartSpec {
    let mount = |(name, path): &(&str, &str)| CacheMount {
        name: (*name).to_owned(),
        path: (*path).to_owned(),
    };
    StartSpec {
        repo: repo.parse().unwrap(),
        caches: caches.iter().map(mount).collect(),
        ..fixture.spec(tree)
    }
}

async fn start(fixture: &Fixture, repo: &str, caches: &[(&str, &str)]) -> Box<dyn Workspace> {
    fixture
        .start_with(with(fixture, small_tree(), repo, caches))
        .await
        .unwrap()
}

async fn caches_live_from_run_to_run(fixture: Fixture) {
    let cache = [("build", "out/target")];
    let workspace = start(&fixture, "app", &cache).await;
    // Also where the command fails, and through the tools as well as through commands.
    run_exit(&*workspace, shell("echo kept >out/target/file; exit 3"), 3).await;
    workspace
        .write_file("out/target/made/by", b"a tool".to_vec())
        .await
        .unwrap();
    run_exit(
        &*workspace,
        CommandSpec {
            cwd: Some("out/target/made".into()),
            ..shell("echo >>by")
        },
        0,
    )
    .await;
    finish(&*workspace).await;
    // The second at the same place, the third at another, both at once.
    let (second, third) = (
        start(&fixture, "app", &cache).await,
        start(&fixture, "app", &[("build", "elsewhere")]).await,
    );
    assert_eq!(
        second.read_file("out/target/file").await.unwrap(),
        b"kept\n"
    );
    assert_eq!(
        run_exit(&*third, shell("cat elsewhere/file elsewhere/made/by"), 0)
            .await
            .text(),
        "kept\na tool\n"
    );
    // No other repository, and no other name, has it.
    for (repo, name) in [
        ("other", "build"),
        ("app", "build2"),
        ("group/app", "build"),
    ] {
        let stranger = start(&fixture, repo, &[(name, "out/target")]).await;
        assert_eq!(
            run_exit(&*stranger, argv(&["ls", "-A", "out/target"]), 0)
                .await
                .text(),
            "",
            "{repo} {name}"
        );
        finish(&*stranger).await;
    }
    finish(&*second).await;
    finish(&*third).await;
    // What sweeps and clears leaves caches alone.
    fixture.executor.sweep(&[]).await.unwrap();
    let again = start(&fixture, "app", &cache).await;
    assert_eq!(again.read_file("out/target/file").await.unwrap(), b"kept\n");
    finish(&*again).await;
}

async fn caches_take_what_the_tree_has(fixture: Fixture) {
    let cache = [("build", "target")];
    let first = start(&fixture, "app", &cache).await;
    run_exit(
        &*first,
        shell("mkdir target/sub; echo kept >target/sub/old; echo before >target/sub/new"),
        0,
    )
    .await;
    finish(&*first).await;
    let tree = small_tree().with("target/sub/new", "tree\n");
    let second = fixture
        .start_with(with(&fixture, tree, "app", &cache))
        .await
        .unwrap();
    assert_eq!(
        run_exit(
            &*second,
            shell("cat target/sub/old target/sub/new plain.txt"),
            0
        )
        .await
        .text(),
        "kept\ntree\nplain\n"
    );
    finish(&*second).await;
    // Where the commit has something else than a folder.
    for path in ["plain.txt", "link", "plain.txt/below"] {
        let error = fixture
            .start_with(with(&fixture, small_tree(), "app", &[("c", path)]))
            .await
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "the commit has a file or a link at `{}`, where a cache is to be; give the cache another path, or remove the file",
                path.trim_end_matches("/below")
            )
        );
    }
    for path in ["", ".", "..", "/", "/work", "a/../.."] {
        let error = fixture
            .start_with(with(&fixture, small_tree(), "app", &[("c", path)]))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, ExecutorError::Command(_)),
            "{path}: {error:?}"
        );
    }
}

async fn caches_are_listed_and_cleared(fixture: Fixture) {
    let info = |repo: &str, name: &str| CacheInfo {
        repo: repo.parse().unwrap(),
        name: name.into(),
    };
    assert_eq!(fixture.executor.caches().unwrap().list().await.unwrap(), []);
    let workspace = start(
        &fixture,
        "group/app",
        &[("build", "target"), ("deps", "deps")],
    )
    .await;
    let first = start(&fixture, "app", &[("build", "target")]).await;
    finish(&*first).await;
    drop(first);
    assert_eq!(
        fixture.executor.caches().unwrap().list().await.unwrap(),
        [
            info("app", "build"),
            info("group/app", "build"),
            info("group/app", "deps")
        ]
    );
    let remove = async |repo: &str, name: &str| {
        fixture
            .executor
            .caches()
            .unwrap()
            .remove(&repo.parse().unwrap(), name)
            .await
    };
    match remove("group/app", "build").await {
        Err(error @ ExecutorError::CacheInUse { .. }) => {
            assert_eq!(
                error.to_string(),
                "the cache `build` of `group/app` is in use by a run; try again when the run has finished"
            )
        }
        other => panic!("{other:?}"),
    }
    assert!(remove("app", "build").await.unwrap());
    assert!(!remove("app", "build").await.unwrap());
    finish(&*workspace).await;
    drop(workspace);
    assert!(remove("group/app", "build").await.unwrap());
    assert_eq!(
        fixture.executor.caches().unwrap().list().await.unwrap(),
        [info("group/app", "deps")]
    );
    let again = start(&fixture, "group/app", &[("build", "target")]).await;
    assert_eq!(
        run_exit(&*again, argv(&["ls", "-A", "target"]), 0)
            .await
            .text(),
        ""
    );
    finish(&*again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_belong_to_the_images_user() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let recipe = format!(
        "FROM {IMAGE}\nRUN useradd -m person && mkdir /home/person/deps && chown person /home/person/deps\nUSER person\n"
    );
    for round in 0..2 {
        let tree = small_tree().with(".quire/Dockerfile", recipe.clone());
        let spec = with(
            &fixture,
            tree,
            "app",
            &[("build", "target"), ("deps", "/home/person/deps")],
        );
        let workspace = fixture
            .start_with(StartSpec {
                image: ImageSource::Dockerfile,
                ..spec
            })
            .await
            .unwrap();
        let script = format!(
            "touch target/{round} /home/person/deps/{round}; stat -c %U target target/*; ls /home/person/deps"
        );
        let output = run_exit(&*workspace, shell(&script), 0).await;
        assert_eq!(
            output.text(),
            ["person\nperson\n0\n", "person\nperson\nperson\n0\n1\n"][round]
        );
        finish(&*workspace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_somebody_elses_is_nobodys_cache() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let first = start(&fixture, "app", &[("build", "target")]).await;
    finish(&*first).await;
    drop(first);
    let engine = crate::support::engine();
    let own = vec![("io.quire.instance".to_owned(), fixture.instance.clone())];
    let name = engine.volumes(&own).await.unwrap().pop().unwrap().name;
    assert!(engine.remove_volume(&name).await.unwrap());
    engine.ensure_volume(&name, &own).await.unwrap();
    let error = fixture
        .start_with(with(&fixture, small_tree(), "app", &[("build", "target")]))
        .await
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("which has the name of the cache `build` of `app`"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_path_is_the_machines_own_on_the_host() {
    let fixture = Fixture::host();
    let folder = fixture.folder.path().join("deps");
    let mut seen = crate::support::Seen::default();
    let spec = with(
        &fixture,
        small_tree(),
        "app",
        &[("deps", folder.to_str().unwrap())],
    );
    let workspace = fixture
        .executor
        .start_workspace(spec, &mut seen, tokio_util::sync::CancellationToken::new())
        .await
        .unwrap();
    assert!(
        seen.log().contains(&format!(
            "the cache `deps` is the folder {} of this machine",
            folder.display()
        )),
        "{}",
        seen.log()
    );
    finish(&*workspace).await;
}
