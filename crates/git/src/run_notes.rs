//! Notes of commits in `refs/notes/ci`: what became of their runs, as `git log --notes=ci` shows it.
//!
//! ```text
//! read the ref ─► git notes in a scratch repository, with the objects of this one ─► objects on the disk ─► compare-and-swap
//!      ▲                                                                                                        │
//!      └─────────────────────────────── the ref has moved: a client pushed to it ◄─────────────────────────────┘
//! ```
//! `git notes` moves its ref without looking at what is there, so it works on a ref of its own. It alone knows how a tree of
//! notes is laid out, by git or by other clients. What a client pushed in between is read again, and nothing of it is lost.

use std::path::Path;
use std::process::Command;

use super::command::{checked, with_input};
use super::error::{GitError, excerpt, stderr_tail};
use super::git::Git;
use super::ref_folders::sync_ref_folders;
use super::refs::RefMove;
use super::scratch_repo::ScratchRepo;
use quire_types::clock::Millis;
use quire_types::failpoint;
use quire_types::names::{ObjectId, RefName};

/// The ref of the notes.
pub const RUN_NOTES_REF: &str = "refs/notes/ci";
/// The part of its name that `git notes` is told.
const SHORT_REF: &str = "--ref=ci";
/// How often the ref may move between reading and writing.
const MAX_ATTEMPTS: u32 = 10;
/// The longest note that is read, in bytes.
const MAX_NOTE: u64 = 1 << 20;

/// What became of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteEdit {
    Written,
    /// It was as it has to be.
    Unchanged,
    /// The repository does not have the commit.
    NoCommit,
}

/// Why a note was not written.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// What the ref has cannot be added to.
    #[error("no notes can be added to {RUN_NOTES_REF}: {0}")]
    Unusable(String),
    #[error("{RUN_NOTES_REF} was changed by others {MAX_ATTEMPTS} times in a row")]
    Contended,
    #[error(transparent)]
    Git(#[from] GitError),
}

impl Git {
    /// Changes the note of a commit to what `edit` makes of it. Blocks.
    pub fn edit_run_note(
        &self,
        repo: &Path,
        commit: &ObjectId,
        now: Millis,
        edit: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Result<NoteEdit, NoteError> {
        if !self.object_exists(repo, commit)? {
            return Ok(NoteEdit::NoCommit);
        }
        let notes = NotesRepo::open(self, repo, commit, now)?;
        for _ in 0..MAX_ATTEMPTS {
            let from = self.ref_value(repo, &notes.name)?;
            if from.is_none() {
                notes.check_name()?;
            }
            notes.set_ref(from.as_ref())?;
            let before = notes.read()?;
            let after = edit(&before);
            if after == before {
                return Ok(NoteEdit::Unchanged);
            }
            let to = Some(notes.write(&after)?);
            // The objects are on the disk before the ref is.
            self.sync_file_system(repo)?;
            let moved = RefMove {
                ref_name: notes.name.clone(),
                from,
                to,
            };
            failpoint::hit("run-note-before-ref");
            if self.move_refs(repo, &[moved], "quire: the outcome of a run")? {
                let _ = sync_ref_folders(repo, [RUN_NOTES_REF]);
                return Ok(NoteEdit::Written);
            }
        }
        Err(NoteError::Contended)
    }

    fn object_exists(&self, repo: &Path, id: &ObjectId) -> Result<bool, GitError> {
        const VERB: &str = "cat-file";
        let mut command = self.command_in(repo);
        command.args([VERB, "-e", id.as_str()]);
        let output = output(&mut command, VERB)?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => checked(VERB, output).map(|_| false),
        }
    }
}

/// A scratch repository for the notes of a commit in another repository, whose objects it uses.
struct NotesRepo<'a> {
    git: &'a Git,
    repo: &'a Path,
    scratch: ScratchRepo,
    commit: &'a ObjectId,
    name: RefName,
    now: Millis,
}

impl<'a> NotesRepo<'a> {
    fn open(
        git: &'a Git,
        repo: &'a Path,
        commit: &'a ObjectId,
        now: Millis,
    ) -> Result<Self, GitError> {
        let unexpected = |_| GitError::Unexpected {
            verb: "notes",
            output: RUN_NOTES_REF.to_owned(),
        };
        Ok(Self {
            git,
            repo,
            scratch: git.scratch_repo(commit)?,
            commit,
            name: RUN_NOTES_REF.parse().map_err(unexpected)?,
            now,
        })
    }

    fn command(&self) -> Command {
        let objects = self.repo.join("objects");
        let objects = std::path::absolute(&objects).unwrap_or(objects);
        let date = format!("@{} +0000", self.now.0.div_euclid(1000).max(0));
        let mut command = self.git.command_in(self.scratch.path());
        command
            .env("GIT_OBJECT_DIRECTORY", objects)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .args(["-c", "user.name=quire", "-c", "user.email=quire@localhost"]);
        command
    }

    /// Git cannot have both `refs/notes/ci` and `refs/notes/ci/x`.
    fn check_name(&self) -> Result<(), NoteError> {
        const VERB: &str = "for-each-ref";
        let mut command = self.git.command_in(self.repo);
        command.args([VERB, "--format=%(refname)", "refs/notes/ci/", "refs/notes"]);
        let found = Git::run(&mut command, VERB)?;
        let found = String::from_utf8_lossy(&found);
        let is_in_the_way =
            |name: &&str| *name == "refs/notes" || name.starts_with(&format!("{RUN_NOTES_REF}/"));
        match found.lines().find(is_in_the_way) {
            Some(name) => Err(NoteError::Unusable(format!("{name} is in the way"))),
            None => Ok(()),
        }
    }

    /// Makes the ref of the scratch repository that of the other one.
    fn set_ref(&self, to: Option<&ObjectId>) -> Result<(), GitError> {
        const VERB: &str = "update-ref";
        let mut command = self.command();
        command.args([VERB, "--no-deref"]);
        match to {
            Some(to) => command.args([RUN_NOTES_REF, to.as_str()]),
            None => command.args(["-d", RUN_NOTES_REF]),
        };
        Git::run(&mut command, VERB).map(drop)
    }

    /// The note of the commit; empty if it has none.
    fn read(&self) -> Result<Vec<u8>, NoteError> {
        const VERB: &str = "notes";
        let mut command = self.command();
        command.args([VERB, SHORT_REF, "list", self.commit.as_str()]);
        let listed = output(&mut command, VERB)?;
        let note = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
        match listed.status.code() {
            Some(0) => {}
            Some(1) => return Ok(Vec::new()),
            _ => return Err(NoteError::Unusable(stderr_tail(&listed.stderr))),
        }
        let mut command = self.command();
        command.args(["cat-file", "-s", &note]);
        let size = Git::run(&mut command, "cat-file")?;
        let size = String::from_utf8_lossy(&size).trim().parse::<u64>();
        if size.map_or(true, |size| size > MAX_NOTE) {
            let problem = format!("the note of {} has more than 1 MiB", self.commit.short());
            return Err(NoteError::Unusable(problem));
        }
        let mut command = self.command();
        command.args(["cat-file", "blob", &note]);
        Ok(Git::run(&mut command, "cat-file")?)
    }

    /// Writes the note of the commit. Returns what the ref has to refer to.
    fn write(&self, note: &[u8]) -> Result<ObjectId, GitError> {
        let mut command = self.command();
        command.args(["hash-object", "-w", "--stdin"]);
        let blob = with_input(command, "hash-object", note)?;
        let blob = String::from_utf8_lossy(&blob).trim().to_owned();
        let mut command = self.command();
        // A blob is taken as it is; a text would be changed by git.
        command.args(["notes", SHORT_REF, "add", "--force", "--reuse-message"]);
        command.args([&blob, self.commit.as_str()]);
        Git::run(&mut command, "notes")?;
        let mut command = self.command();
        command.args(["rev-parse", "--verify", RUN_NOTES_REF]);
        let tip = Git::run(&mut command, "rev-parse")?;
        let tip = String::from_utf8_lossy(&tip);
        tip.trim().parse().map_err(|_| GitError::Unexpected {
            verb: "rev-parse",
            output: excerpt(&tip),
        })
    }
}

fn output(command: &mut Command, verb: &'static str) -> Result<std::process::Output, GitError> {
    command
        .output()
        .map_err(|source| GitError::Start { verb, source })
}
