//! The hook `proc-receive`: pushes to `refs/for-green/BRANCH`.
//!
//! Git asks it instead of changing the ref. The hook creates `refs/for-green/BRANCH/COMMIT` and tells git and the client so;
//! for everything that follows this ref was pushed. Thus several commits can wait for one branch, each with its ref.
//!
//! ```text
//! git  ► version=1, then OLD NEW REF for each command
//! hook ► version=1, then `ok REF` with `option refname REF/COMMIT`, or `ng REF WHY`
//! ```

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::this_repository;
use quire_git::lfs::packets::{Packet, PacketError, PacketReader, PacketWriter};
use quire_git::{Git, GitError, RefMove};
use quire_types::failpoint;
use quire_types::landing::{LandingRef, pushed_branch};
use quire_types::names::{ObjectId, RefName};
use quire_types::paths::Paths;
use quire_types::text::{excerpt, single_line};

/// Why git's side of the conversation cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProcReceiveError {
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error("the answer to git cannot be written")]
    Answer(#[from] io::Error),
}

/// A command of the client for a ref below `refs/for-green`.
struct LandingCommand {
    ref_name: String,
    /// `None` if the ref is to be deleted.
    commit: Option<ObjectId>,
}

/// Answers git for one push.
///
/// # Errors
/// What git sends is not of the protocol, or the connection to it ended.
pub fn proc_receive(
    paths: &Paths,
    input: impl Read,
    output: impl Write,
) -> Result<(), ProcReceiveError> {
    let mut reader = PacketReader::new(BufReader::new(input));
    let mut writer = PacketWriter::new(output);
    // Its version and what it can do. Push options are not asked for: `post-receive` has them.
    while reader.read()? != Packet::Flush {}
    writer.line("version=1")?;
    writer.flush()?;
    let mut commands = Vec::new();
    while let Packet::Data(line) = reader.read()? {
        commands.extend(parse(line));
    }
    let folder = this_repository(paths).map(|repo| paths.repo(&repo));
    let git = Git::new(paths);
    for command in commands {
        let taken = folder
            .clone()
            .and_then(|folder| take(&git, &folder, &command));
        match taken {
            Ok(created) => {
                writer.line(&format!("ok {}", command.ref_name))?;
                writer.line(&format!("option refname {created}"))?;
            }
            Err(why) => {
                let why = single_line(&excerpt(&why, 300));
                writer.line(&format!("ng {} {why}", command.ref_name))?;
            }
        }
    }
    writer.flush()?;
    Ok(())
}

/// `OLD NEW REF`
fn parse(line: &[u8]) -> Option<LandingCommand> {
    let line = std::str::from_utf8(line).ok()?.trim_end_matches('\n');
    let mut fields = line.splitn(3, ' ').skip(1);
    let commit: ObjectId = fields.next()?.parse().ok()?;
    Some(LandingCommand {
        ref_name: fields.next()?.to_owned(),
        commit: Some(commit).filter(|commit| !commit.is_zero()),
    })
}

/// Creates the ref of a commit. Returns its name, or in a few words why it is not created.
fn take(git: &Git, folder: &Path, command: &LandingCommand) -> Result<RefName, String> {
    let Some(commit) = &command.commit else {
        return Err("`run cancel RUN` takes a commit back that waits to land".to_owned());
    };
    let branch = pushed_branch(&command.ref_name)
        .ok_or_else(|| "a branch is expected: refs/for-green/BRANCH".to_owned())?;
    let landing = LandingRef {
        branch,
        commit: commit.clone(),
    };
    let name = landing.name().map_err(|error| error.to_string())?;
    let failed = |error: GitError| error.to_string();
    if !git.is_commit(folder, commit).map_err(failed)? {
        return Err("only a commit can land on a branch".to_owned());
    }
    let created = RefMove {
        ref_name: name.clone(),
        from: None,
        to: Some(commit.clone()),
    };
    match git.move_refs(folder, &[created], "push") {
        Ok(true) => {
            failpoint::hit("hook-landing-created");
            Ok(name)
        }
        Ok(false) => Err(format!(
            "this commit waits to land on {} already",
            landing.branch.short()
        )),
        Err(error) => Err(error.to_string()),
    }
}
