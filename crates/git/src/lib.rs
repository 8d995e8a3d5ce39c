//! Git, through the git program. Nothing else in quire starts it.
//!
//! Owns: how a git process is started ([`Git::command`]: a clean environment, the appliance's
//! configuration, no prompts), bare repositories on disk, and the few queries quire makes of
//! them. Everything takes typed names, so no input can be mistaken for an option. Functions that only
//! `quire exec` and commands call are synchronous; `serve` calls those through [`Git::call`], since a disk
//! may hang. A user's own checkout ([`Checkout`]) is read with that user's configuration instead.

mod archive;
mod assembled_tree;
mod blob_copy;
mod checkout;
mod command;
mod commits;
mod default_branch;
mod description;
mod error;
mod fetch;
mod fetched_objects;
mod file_ages;
mod first_push;
mod foreign_tips;
mod git;
mod history;
mod import_draft;
mod landing;
pub mod lfs;
mod listing;
mod maintenance;
mod mirror_mark;
mod object_batch;
mod object_cache;
mod object_format;
mod pipeline_files;
mod pipeline_folder;
mod protected_refs;
mod push_mark;
mod pushed_commits;
mod raw_object;
pub mod read;
mod redirects;
mod ref_folders;
mod refs;
mod remote;
mod remote_access;
mod remote_fetch;
mod remote_key;
mod remote_output;
mod remote_progress;
mod remote_refs;
mod remote_ssh;
mod repo;
mod run_notes;
mod scratch_repo;
mod submodules;
mod trash;
mod trash_entry;
mod undo_refs;
mod upload_pack;
mod workspace_repo;

pub use assembled_tree::{AssembledTree, FilledSubmodule};
pub use blob_copy::BlobCopy;
pub use checkout::Checkout;
pub use commits::{CommitInfo, PushInfo, contains_word};
pub use error::GitError;
pub use fetch::FetchedRepo;
pub use fetched_objects::FetchedObjects;
pub use first_push::FirstLine;
pub use foreign_tips::TipOrigin;
pub use git::Git;
pub use import_draft::ImportDraft;
pub use landing::{LandingCommit, RemadeCommit};
pub use listing::{RepoListing, UnreadableEntry};
pub use maintenance::{MaintenanceOutcome, PushLock};
pub use object_format::ObjectFormat;
pub use pipeline_files::{PipelineFile, PipelineFiles};
pub use pipeline_folder::{
    EntryKind, FolderEntry, Misnamed, PipelineContents, TreeReader, UnusableFile, UnusableReason,
    find_pipeline_folder,
};
pub use protected_refs::{ForbiddenChange, ForbiddenMove, has_protected_refs};
pub use push_mark::{PUSH_MARK_VARIABLE, PushMark};
pub use pushed_commits::{ChangedFiles, CommitPerson, PushedCommit, PushedCommits};
pub use redirects::{PathState, move_leaving_link, relative_link};
pub use ref_folders::sync_ref_folders;
pub use refs::{RefMove, Refs};
pub use remote::RefPush;
pub use remote_access::{RemoteAccess, RemoteLogin};
pub use remote_fetch::{MAX_PACK_MEMORY, RemoteFetch};
pub use remote_key::KnownHostsFile;
pub use remote_output::{PushedRef, RemoteError};
pub use remote_progress::ProgressLine;
pub use remote_refs::{OtherRefs, RemoteRefs, is_fetched};
pub use repo::closest_name;
pub use run_notes::{NoteEdit, NoteError, RUN_NOTES_REF};
pub use submodules::{ForgeAddress, Submodule, SubmoduleOrigin};
pub use trash_entry::{TrashEntry, TrashId, TrashState};
pub use upload_pack::ProtocolVersion;
pub use workspace_repo::{WorkspaceHistory, WorkspaceRepo};

#[cfg(test)]
mod tests;
