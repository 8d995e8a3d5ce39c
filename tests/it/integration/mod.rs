//! The real server, the real git, the real hook: from a push to what a person sees of its run.
//!
//! Runs are executed on the host, so this needs git and nothing else; `native` adds a real sshd.

mod alternation;
mod backup;
mod changes;
mod client;
mod config;
mod config_set;
mod corpus;
mod day;
mod doctor;
mod files;
mod foreign;
mod github_push;
mod history;
mod hooks;
mod hostile;
mod housekeeping;
mod imports;
mod kept_pages;
mod keys;
mod kinds;
mod landing;
mod links;
mod mirror_lfs;
mod mirrors;
mod native;
mod notifications;
mod notify_choices;
mod notify_email;
mod notify_health;
mod notify_kinds;
mod odd_repositories;
mod operations;
mod outcomes;
mod own_settings;
mod protection;
mod pull_mirrors;
mod pushes;
mod reached;
mod rebinding;
mod redaction;
mod refs;
mod renames;
mod replaced;
mod repo_description;
mod repo_show;
mod restarts;
mod run_names;
mod run_notes;
mod runs;
mod secrets;
mod starts;
mod strangers;
mod submodules;
mod transitions;
mod trash;
mod undo;
mod unfinished;
mod unreadable;
mod upgrade;
mod upkeep;
mod values;

use quire_testkit::{TestForge, wait_for};

/// A pipeline whose one job prints a line.
pub(crate) const GREEN: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo all is well")))
"#;

/// A pipeline whose one job runs this command.
pub(crate) fn one(command: &str) -> String {
    format!(
        "(local ci (require :quire.ci))\n(ci.job :test [:quire/push] (fn [{{: sh}}] (sh {command:?})))\n"
    )
}

/// A command that makes `FOLDER/started`, then waits until there is `FOLDER/go`.
pub(crate) fn gate(folder: &std::path::Path) -> String {
    std::fs::create_dir_all(folder).unwrap();
    let folder = folder.display();
    format!("touch {folder}/started; while [ ! -e {folder}/go ]; do sleep 0.01; done; echo through")
}

/// Writes a configuration in which `keep` has this value under `key`, a literal of Fennel.
pub(crate) fn set_keep(forge: &TestForge, key: &str, value: &str) {
    let text = format!("{{:keep {{:{key} {value}}}}}");
    std::fs::write(forge.paths.config_fennel(), text).unwrap();
}

/// How many bytes of a kind are kept, by the metrics.
pub(crate) fn kept_bytes(forge: &TestForge, kind: &str) -> u64 {
    let start = format!("quire_kept_bytes{{kind=\"{kind}\"}} ");
    let text = forge.get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap().parse().unwrap()
}

/// Calls `gc` until it removes something, and returns what it says then.
pub(crate) fn removed_by_gc(forge: &TestForge) -> String {
    wait_for("something to be removed", || {
        Some(forge.ssh_ok("gc")).filter(|text| text != "nothing to remove\n")
    })
}
