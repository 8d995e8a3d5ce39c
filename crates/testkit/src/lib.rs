//! What the tests of the workspace share: waiting, ports, programs and their output, keys and
//! hermetic git, a browser.
//!
//! A test fails by panicking, so these functions panic where something is not as it should be.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "tests start real programs and fail by panicking"
)]

mod authority;
mod browser;
mod files;
mod forge;
mod forge_checks;
mod forge_runs;
mod forge_web;
mod git;
mod git_http_server;
mod git_user;
mod http;
mod keys;
mod loader;
mod mail;
mod name_server;
mod needs;
mod net;
mod program;
mod receiver;
mod ssh_forge;
mod tree;
mod wait;

pub use authority::CertificateAuthority;
pub use browser::Browser;
pub use files::files_below;
pub use forge::TestForge;
pub use git::{git_in, hermetic_git};
pub use git_http_server::GitHttpServer;
pub use git_user::{GIT_UID, own};
pub use http::Response;
pub use keys::{HostKeys, generate_key, ssh_options};
pub use loader::{newest_glibc, versions_loaded};
pub use mail::{MailServer, MailTls};
pub use name_server::RebindingNameServer;
pub use needs::skipped;
pub use net::free_port;
pub use program::{run, run_ok, stderr, stdout, text, transcript};
pub use receiver::{Answer, HttpReceiver, ReceivedRequest};
pub use ssh_forge::SshForge;
pub use tree::Tree;
pub use wait::{WAIT_TIMEOUT, wait_for, wait_for_async, wait_for_or_report, wait_until};
