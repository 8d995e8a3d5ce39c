//! What repositories say in `.quire/config.fnl` or `.quire/config.lua` on their default branches.
//!
//! Who may push to a default branch writes the file, so it takes away from what the owner's configuration permits and adds nothing to it. A part
//! that needs a setting reads it at that moment; [`SettingsWatch`] finds what is wrong, and which mirrors there are, in the background.

mod current;
mod file;
mod own_mirrors;
mod shown;
mod watch;

pub use current::{CurrentSettings, RepoSettingsReader};
pub use file::{SettingsFileKey, SettingsOfCommit};
pub use shown::RepoShown;
pub use watch::{SettingsWatch, SettingsWatchDeps};
