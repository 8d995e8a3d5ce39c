//! What `quire exec` may still do when it becomes git, or serves Git LFS.
//!
//! Git reads packs and names that a client made, as the user who owns the whole volume and the server. So before it starts,
//! the process gives up what a push or a fetch does not need, and all its children with it: it can read the system, the
//! runtime folder, and what `run logs` needs; it can write its one repository and the spool. It cannot read the
//! configuration, secrets, other repositories, caches or artifacts, trace or signal other processes, or open
//! network connections. This needs Landlock (Linux 5.19 and newer); a kernel without it leaves the user's rights as they are.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use quire_types::memory_protection::protect_memory;
use quire_types::names::RepoName;
use quire_types::paths::Paths;

use super::command::LfsOperation;

/// The newest version of the interface that is used; an older kernel enforces what it knows.
const NEWEST_ABI: ABI = ABI::V6;

/// Programs and libraries, and what they read.
const SYSTEM: [&str; 9] = [
    "/bin",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/sbin",
    "/usr",
    "/sys/devices/system/cpu",
];

/// Devices that programs open.
const DEVICES: [&str; 5] = [
    "/dev/full",
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
];

/// Gives up the privileges that no session needs: those of set-user-id programs, to be traced by other processes, and to leave core files.
pub fn drop_privileges() {
    // Neither can fail on a kernel that runs this program.
    let _ = nix::sys::prctl::set_no_new_privs();
    let _ = protect_memory();
}

/// Confines this process to one repository, for the rest of its life. Returns whether the kernel enforces it.
///
/// # Errors
/// The kernel knows Landlock, but did not accept the rules.
pub fn confine(paths: &Paths, repo: &RepoName) -> Result<bool, RulesetError> {
    if !is_git_of_the_system() {
        return Ok(false);
    }
    let read = AccessFs::from_read(NEWEST_ABI);
    let all = AccessFs::from_all(NEWEST_ABI);
    let mut rules = Rules::new()?;
    for path in SYSTEM {
        rules.allow(path.as_ref(), read)?;
    }
    for path in DEVICES {
        rules.allow(path.as_ref(), read | AccessFs::WriteFile)?;
    }
    rules.allow(&paths.repo(repo), all)?;
    // A spool that is missing cannot be made later. The hook reports one that cannot be made now.
    let _ = std::fs::create_dir_all(paths.spool());
    rules.allow(&paths.spool(), all)?;
    // The hook removes the mark of its push.
    let _ = std::fs::create_dir_all(paths.push_marks());
    rules.allow(&paths.push_marks(), all)?;
    // The configuration of git, the hooks, and where the server listens.
    rules.allow(paths.runtime(), read)?;
    if let Ok(program) = std::env::current_exe() {
        rules.allow(&program, read)?;
    }
    // The hook of a push that waits for its run shows the log.
    rules.allow(&paths.runs_dir(), read)?;
    for path in database_files(&paths.database()) {
        rules.allow(&path, read)?;
    }
    rules.enforce()
}

/// Confines this process to the objects of one repository in Git LFS: a download reads them, an upload also writes them. Nothing
/// else is needed, since no program is executed. Returns whether the kernel enforces it.
///
/// # Errors
/// The kernel knows Landlock, but did not accept the rules.
pub fn confine_lfs(folder: &Path, operation: LfsOperation) -> Result<bool, RulesetError> {
    let mut rules = Rules::new()?;
    let access = match operation {
        LfsOperation::Upload => AccessFs::from_all(NEWEST_ABI) & !AccessFs::Execute,
        LfsOperation::Download => AccessFs::ReadFile | AccessFs::ReadDir,
    };
    rules.allow(folder, access)?;
    rules.enforce()
}

/// The database, and the two files that SQLite keeps beside it.
fn database_files(database: &Path) -> [PathBuf; 3] {
    let beside = |suffix: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    [database.to_owned(), beside("-wal"), beside("-shm")]
}

/// Whether the git that will be executed is one that the rules let run. Natively it may lie anywhere.
fn is_git_of_the_system() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let git = std::env::split_paths(&path)
        .map(|folder| folder.join("git"))
        .find(|program| program.is_file());
    git.and_then(|program| program.canonicalize().ok())
        .is_some_and(|program| SYSTEM.iter().any(|folder| program.starts_with(folder)))
}

struct Rules(RulesetCreated);

impl Rules {
    /// Rules that allow nothing.
    fn new() -> Result<Self, RulesetError> {
        let ruleset = Ruleset::default()
            // Without the right to link across folders git cannot store a pack, and before Linux 5.19 it cannot be granted.
            .set_compatibility(CompatLevel::SoftRequirement)
            .handle_access(AccessFs::Refer)?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST_ABI))?
            .handle_access(AccessNet::from_all(NEWEST_ABI))?
            .scope(Scope::from_all(NEWEST_ABI))?
            .create()?;
        Ok(Self(ruleset))
    }

    /// Enforces the rules on this process. Returns whether the kernel does.
    fn enforce(self) -> Result<bool, RulesetError> {
        #[cfg(feature = "faults")]
        let this = self.with_faults()?;
        #[cfg(not(feature = "faults"))]
        let this = self;
        let status = this.0.restrict_self()?;
        Ok(status.ruleset != RulesetStatus::NotEnforced)
    }

    /// Allows what the failpoints of tests need.
    #[cfg(feature = "faults")]
    fn with_faults(mut self) -> Result<Self, RulesetError> {
        if let Some(mark) = std::env::var_os("QUIRE_FAULT_ONCE")
            && let Some(folder) = Path::new(&mark).parent()
        {
            self.allow(folder, AccessFs::from_all(NEWEST_ABI))?;
        }
        if let Some(clock) = std::env::var_os("QUIRE_FAULT_CLOCK") {
            self.allow(Path::new(&clock), AccessFs::from_read(NEWEST_ABI))?;
        }
        Ok(self)
    }

    /// Allows access to a file or folder and what is below; one that does not exist needs no rule.
    fn allow(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        let Ok(opened) = PathFd::new(path) else {
            return Ok(());
        };
        let access = if path.is_dir() {
            access
        } else {
            access & AccessFs::from_file(NEWEST_ABI)
        };
        (&mut self.0).add_rule(PathBeneath::new(opened, access))?;
        Ok(())
    }
}
