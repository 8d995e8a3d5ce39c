//! What a person can do with the forge, each operation once: typed request in, typed result out.
//!
//! Commands, pages and schedules parse their input, call these functions and print the result. An
//! operation asks the supersede policy, writes the store, and notifies the running server.
//! Operations are synchronous and short, except [`runs::start`], which asks git.

mod access;
pub mod caches;
pub mod configuration;
pub mod doctor;
mod error;
pub mod gc;
pub mod imports;
pub mod inverse;
mod inverse_error;
pub mod keys;
pub mod landing_json;
pub mod landings;
pub mod login;
pub mod mirrors;
pub mod notifications;
mod notifier;
pub mod operation_log;
pub mod protection;
pub mod reconcile;
pub mod repo_details;
mod repo_setting_error;
pub mod repos;
pub mod run_details;
pub mod runs;
pub mod secrets;
mod setting_error;
pub mod tokens;
pub mod trash;
pub mod undo;
pub mod views;

pub use access::Forge;
pub use error::ForgeError;
pub use inverse_error::{InverseError, NoInverse};
pub use keys::KeyError;
pub use notifier::Notifier;
pub use repo_setting_error::RepoSettingError;
pub use setting_error::SettingError;
