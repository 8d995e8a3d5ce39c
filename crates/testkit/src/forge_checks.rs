//! What must hold of a forge at rest, and what must not be left of it.

use std::fs;
use std::process::Command;

use quire_git::{Git, RUN_NOTES_REF};
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use quire_types::run::Run;

use crate::forge::TestForge;
use crate::program::transcript;
use crate::wait::wait_for;

impl TestForge {
    /// Processes that bear a trace of this forge: its folder in environment, arguments or working folder.
    pub fn processes(&self) -> Vec<i32> {
        let folder = self.file("");
        let folder = folder.to_str().unwrap().trim_end_matches('/');
        let holds = |bytes: Vec<u8>| {
            bytes
                .windows(folder.len())
                .any(|part| part == folder.as_bytes())
        };
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let is_ours = |pid: &i32| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let inside =
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
            // A zombie has none of these.
            inside || holds(read("environ")) || holds(read("cmdline"))
        };
        pids.filter(|pid| *pid != std::process::id().cast_signed())
            .filter(is_ours)
            .collect()
    }

    /// Checks what must hold at rest: rows, database, repositories, and nothing left on the machine.
    #[track_caller]
    pub fn check_whole(&self) {
        let database = rusqlite::Connection::open(self.paths.database()).unwrap();
        let verdict: String = database
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
        let mut broken = database.prepare("PRAGMA foreign_key_check").unwrap();
        assert_eq!(
            broken.query_map([], |_| Ok(())).unwrap().count(),
            0,
            "foreign keys"
        );
        for run in self.runs() {
            assert!(run.state.is_final(), "{run:?}");
            assert!(run.container_id.is_none(), "{run:?}");
            // It is removed after the end of the run.
            let workspace = Paths::workspace(&self.run_folder(&run));
            wait_for("the removal of the workspace", || {
                (!workspace.exists()).then_some(())
            });
            let open = |run: &Run| self.jobs(run.id).iter().any(|job| !job.state.is_final());
            assert!(!open(&run), "{:?}", self.jobs(run.id));
            assert!(
                self.steps(run.id)
                    .iter()
                    .all(|step| step.finished_at_ms.is_some()),
                "{:?}",
                self.steps(run.id)
            );
        }
        let repos = Git::new(&self.paths).list().unwrap().repos;
        for repo in repos {
            let folder = self.paths.repo(&repo);
            let fsck = Command::new("git")
                .args(["-c", "safe.directory=*", "-C"])
                .arg(&folder)
                .args(["fsck", "--full", "--strict", "--no-dangling"])
                .output()
                .unwrap();
            assert!(fsck.status.success(), "{repo}: {}", transcript(&fsck));
            // What the ref comparison would find at the next start: nothing.
            let (now, seen) = self.refs_and_recorded(&repo);
            assert_eq!(now, seen, "refs of {repo}");
        }
    }

    /// Waits until what git holds is recorded: a server that has just started may still compare it.
    #[track_caller]
    pub fn wait_for_recorded_refs(&self) {
        for repo in Git::new(&self.paths).list().unwrap().repos {
            wait_for("the comparison of refs", || {
                let (now, seen) = self.refs_and_recorded(&repo);
                (now == seen).then_some(())
            });
        }
    }

    /// The refs of a repository, and those that the database knows, sorted. Hidden refs, which keep what pushes overwrote,
    /// and notes of runs are not compared.
    fn refs_and_recorded(&self, repo: &RepoName) -> (Vec<String>, Vec<String>) {
        let refs = Command::new("git")
            .args(["-c", "safe.directory=*", "-C"])
            .arg(self.paths.repo(repo))
            .args(["show-ref"])
            .output()
            .unwrap();
        let mut now: Vec<String> = String::from_utf8_lossy(&refs.stdout)
            .lines()
            .filter(|line| !line.contains(" refs/quire/") && !line.ends_with(RUN_NOTES_REF))
            .map(str::to_owned)
            .collect();
        let seen = self.store().seen_refs().list(repo).unwrap();
        let mut seen: Vec<String> = seen
            .iter()
            .map(|seen| format!("{} {}", seen.sha, seen.ref_name))
            .collect();
        now.sort();
        seen.sort();
        (now, seen)
    }
}
