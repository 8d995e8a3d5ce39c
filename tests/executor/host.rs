//! What only the host executor does: folders on disk, strangers in an archive, sweeping.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use quire_executor::{Executor, ExecutorError, HostConfig, HostExecutor, SweepReport, Tree};
use quire_testkit::wait_for_async;
use quire_types::names::RunId;
use tokio_util::sync::CancellationToken;

use crate::support::{Files, Fixture, Seen, argv, finish, run, run_exit, shell, small_tree};

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_that_there_is_no_isolation() {
    let fixture = Fixture::host();
    let mut seen = Seen::default();
    let workspace = fixture
        .executor
        .start_workspace(
            fixture.spec(small_tree()),
            &mut seen,
            CancellationToken::new(),
        )
        .await
        .unwrap();
    assert!(seen.log().contains("without isolation"), "{}", seen.log());
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_removes_read_only_folders_and_strays() {
    let fixture = Fixture::host();
    let spec = fixture.spec(small_tree());
    let path = spec.workspace.clone();
    let workspace = fixture.start_with(spec).await.unwrap();
    let script = "mkdir -p ro/in && touch ro/in/file && chmod 500 ro/in ro && (setsid env -i sleep 300 >/dev/null 2>&1 &) ; echo $$";
    run_exit(&*workspace, shell(script), 0).await;
    finish(&*workspace).await;
    assert!(!path.exists());
    let in_folder = || {
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(Result::ok)
            .any(|entry| {
                fs::read_link(entry.path().join("cwd"))
                    .is_ok_and(|cwd| cwd.to_string_lossy().contains(&path.display().to_string()))
            })
    };
    wait_for_async("no process stands in the folder", || async {
        (!in_folder()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_does_not_lead_out() {
    let fixture = Fixture::host();
    let workspace = fixture.start().await;
    run_exit(&*workspace, shell("ln -s / out; ln -s a in"), 0).await;
    let at = |cwd: &str| quire_executor::CommandSpec {
        cwd: Some(cwd.into()),
        ..argv(&["pwd"])
    };
    run_exit(&*workspace, at("in/deep"), 0).await;
    for outside in ["out", "out/etc"] {
        let (end, _) = run(&*workspace, at(outside)).await;
        assert!(matches!(end, Err(ExecutorError::Command(_))), "{end:?}");
    }
    finish(&*workspace).await;
}

/// An archive that somebody made to write elsewhere.
struct Hostile(Vec<u8>);

impl Tree for Hostile {
    fn archive(&self) -> futures_util::stream::BoxStream<'static, std::io::Result<bytes::Bytes>> {
        let bytes = bytes::Bytes::copy_from_slice(&self.0);
        Box::pin(futures_util::stream::iter([Ok(bytes)]))
    }

    fn has_dockerfile(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_stays_in_its_folder() {
    let fixture = Fixture::host();
    let victim = fixture.folder.path().join("victim");
    fs::create_dir(&victim).unwrap();
    let file = |builder: &mut tar::Builder<Vec<u8>>, path: &str| {
        let mut header = tar::Header::new_gnu();
        // Written by hand: the library refuses to make such a name.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(3);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, &b"bad"[..]).unwrap();
    };
    let link = |builder: &mut tar::Builder<Vec<u8>>, to: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "way", to).unwrap();
    };
    let mut climbing = tar::Builder::new(Vec::new());
    file(&mut climbing, "../../../../victim/one");
    let mut linked = tar::Builder::new(Vec::new());
    link(&mut linked, &victim.display().to_string());
    file(&mut linked, "way/two");
    let mut absolute = tar::Builder::new(Vec::new());
    file(&mut absolute, &victim.join("three").display().to_string());
    for builder in [climbing, linked, absolute] {
        if let Ok(workspace) = fixture
            .start_with(fixture.spec(Hostile(builder.into_inner().unwrap())))
            .await
        {
            finish(&*workspace).await;
        }
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_takes_processes_and_folders_of_its_own() {
    let fixture = Fixture::host();
    let (dead, alive) = (fixture.spec(small_tree()), fixture.spec(small_tree()));
    let (dead_path, alive_path, alive_run) =
        (dead.workspace.clone(), alive.workspace.clone(), alive.run);
    let config = HostConfig::new(
        &fixture.instance,
        Some(fixture.folder.path().to_owned()),
        None,
    );
    let crashed = HostExecutor::new(config);
    let mut pids = Vec::new();
    for spec in [dead, alive] {
        let workspace = crashed
            .start_workspace(spec, &mut Seen::default(), CancellationToken::new())
            .await
            .unwrap();
        let output = run_exit(
            &*workspace,
            shell("setsid sleep 300 >/dev/null 2>&1 & echo $!"),
            0,
        )
        .await;
        pids.push(output.text().trim().parse::<i32>().unwrap());
    }
    for pid in &pids {
        // A process that is becoming another program shows no environment for a moment.
        let comm = format!("/proc/{pid}/comm");
        wait_for_async("its program", || async {
            (fs::read_to_string(&comm).unwrap() == "sleep\n").then_some(())
        })
        .await;
    }
    let lives = |pid: i32| {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
    };
    let swept = fixture.executor.sweep(&[alive_run]).await.unwrap();
    assert!(
        swept.removed >= 2 && swept.remaining.is_empty(),
        "{swept:?}"
    );
    assert_eq!((lives(pids[0]), lives(pids[1])), (false, true));
    assert_eq!((dead_path.exists(), alive_path.exists()), (false, true));
    assert!(
        fixture
            .executor
            .sweep(&[RunId::new()])
            .await
            .unwrap()
            .removed
            >= 2
    );
    assert_eq!((lives(pids[1]), alive_path.exists()), (false, false));
    assert_eq!(
        fixture.executor.sweep(&[]).await.unwrap(),
        SweepReport::default()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_goes_on_past_what_cannot_be_removed() {
    let fixture = Fixture::host();
    let runs: Vec<RunId> = (0..3).map(|_| RunId::new()).collect();
    for run in &runs {
        fs::create_dir_all(fixture.workspace_path(*run)).unwrap();
    }
    // A file system of its own keeps a folder from being removed, also for root.
    let stuck = fixture.workspace_path(runs[1]).join("mounted");
    fs::create_dir(&stuck).unwrap();
    let flags = nix::mount::MsFlags::empty();
    if nix::mount::mount(Some("none"), &stuck, Some("tmpfs"), flags, None::<&str>).is_err() {
        eprintln!("skipped: mounting is not allowed here");
        return;
    }
    let swept = fixture.executor.sweep(&[]).await;
    let cleared = fixture.executor.destroy_run(runs[1]).await;
    nix::mount::umount(&stuck).unwrap();
    assert_eq!(
        swept.unwrap(),
        SweepReport {
            removed: 2,
            remaining: vec![runs[1]],
            ..SweepReport::default()
        }
    );
    assert!(cleared.is_err());
    assert_eq!(
        runs.iter()
            .map(|run| fixture.workspace_path(*run).exists())
            .collect::<Vec<_>>(),
        [false, true, false]
    );
    fixture.executor.destroy_run(runs[1]).await.unwrap();
    assert!(!fixture.workspace_path(runs[1]).exists());
    // In this process's hands, though nobody names it.
    let spec = fixture.spec(small_tree());
    let run = spec.run;
    let workspace = fixture.start_with(spec).await.unwrap();
    assert_eq!(
        fixture.executor.sweep(&[]).await.unwrap(),
        SweepReport {
            removed: 0,
            remaining: vec![run],
            ..SweepReport::default()
        }
    );
    run_exit(&*workspace, argv(&["true"]), 0).await;
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_attempt_left_is_not_seen() {
    let fixture = Fixture::host();
    let spec = fixture.spec(Files::default().with("only", "this"));
    fs::create_dir_all(spec.workspace.join("old/closed")).unwrap();
    fs::set_permissions(
        spec.workspace.join("old"),
        fs::Permissions::from_mode(0o500),
    )
    .unwrap();
    let workspace = fixture.start_with(spec).await.unwrap();
    assert_eq!(
        run_exit(&*workspace, argv(&["ls"]), 0).await.text(),
        "link\nonly\n"
    );
    finish(&*workspace).await;
}
