//! Names, states and other values that every part of quire shares. No async runtime, and no loop over I/O.
#![warn(missing_docs)]

pub mod ansi;
pub mod backoff;
pub mod base_url;
pub mod callback_address;
pub mod clock;
pub mod disk_space;
pub mod error_chain;
#[cfg(test)]
mod error_messages;
pub mod failpoint;
pub mod file_stamp;
pub mod finding;
pub mod fsutil;
pub mod git_remote_url;
pub mod http_url;
pub mod image_reference;
pub mod init_status;
pub mod keep_times;
pub mod landing;
pub mod leaky_bucket;
pub mod mail_address;
pub mod memory_protection;
pub mod mirror;
pub mod name_pattern;
pub mod names;
pub mod network;
pub mod occasion;
pub mod operation;
pub mod paths;
pub mod pull_policy;
pub mod push_event;
pub mod ref_pattern;
pub mod run;
pub mod secret;
pub mod smtp_url;
pub mod ssh_keys;
pub mod status_service;
pub mod supersede;
pub mod sync;
pub mod text;
pub mod thread_time;
pub mod token;
pub mod url_host;
