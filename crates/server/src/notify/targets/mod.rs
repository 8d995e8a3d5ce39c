//! The kinds of targets: what each is sent, and how.

mod commit_status;
mod email;
mod escape;
mod git_notes;
mod github_push;
mod gotify;
mod greeted_stream;
mod http_target;
mod matrix;
mod ntfy;
mod service;
mod slack;
mod smtp;
mod starttls;
mod webhook;
mod webhook_document;

#[cfg(test)]
pub(in crate::notify) use http_target::HttpTarget;

pub use commit_status::CommitStatusTarget;
pub use email::EmailTarget;
pub use git_notes::GitNotesTarget;
pub use github_push::GithubPushTarget;
pub use gotify::GotifyTarget;
pub use matrix::MatrixTarget;
pub use ntfy::NtfyTarget;
pub use service::TargetService;
pub use slack::SlackTarget;
pub use webhook::WebhookTarget;
