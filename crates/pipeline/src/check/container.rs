//! Checks the settings of a run's container.

use super::checker::{Checker, quoted};
use super::settings::cache_path;
use crate::diagnostic::Location;
use crate::registration::{Cache, ContainerOptions};

const MAX_TMPFS: usize = 20;
const MAX_PRIVILEGES: usize = 64;
/// The longest name of a user or capability, in bytes.
const MAX_NAME: usize = 128;

const EXAMPLE: &str = "use an absolute path such as \"/tmp\"";

impl Checker<'_> {
    pub(super) fn container(
        &mut self,
        calls: &[(ContainerOptions, Location)],
        caches: &[Cache],
    ) -> ContainerOptions {
        for (options, location) in calls {
            if let Some(user) = &options.user
                && !is_user(user)
            {
                let message = format!("`{}` is not a user", quoted(user));
                let hint = "write it like \"node\", \"1000\" or \"1000:1000\"";
                self.problem_with_hint(message, location, hint);
            }
            if options.shm_size == Some(0) {
                let message = "the :shm-size of `ci.container` is below the minimum";
                self.problem_with_hint(message, location, "use at least \"1m\"");
            }
            for (path, size) in options.tmpfs.iter().take(MAX_TMPFS) {
                self.tmpfs(path, *size, caches, location);
            }
            if options.tmpfs.len() > MAX_TMPFS {
                let message = format!("`ci.container` has more than {MAX_TMPFS} folders in :tmpfs");
                self.problem(message, location, None);
            }
            let wrong = options.privileges.iter().find(|name| !is_capability(name));
            if let Some(name) = wrong {
                let message = format!("`{}` is not a capability", quoted(name));
                let hint = "write :privileges like [\"SYS_PTRACE\"], or true for all";
                self.problem_with_hint(message, location, hint);
            }
            if options.privileges.len() > MAX_PRIVILEGES {
                let message = format!("`ci.container` has more than {MAX_PRIVILEGES} capabilities");
                self.problem(message, location, None);
            }
        }
        self.only_once("ci.container", calls).unwrap_or_default()
    }

    fn tmpfs(&mut self, path: &str, size: Option<u64>, caches: &[Cache], location: &Location) {
        let shown = quoted(path);
        let plain = match cache_path(path) {
            Ok(plain) if plain.starts_with('/') => plain,
            Ok(_) => {
                let message = format!("`{shown}` in :tmpfs is not outside of the workspace");
                return self.problem_with_hint(message, location, EXAMPLE);
            }
            Err((reason, _)) => {
                let message = format!("`{shown}` cannot be a folder of :tmpfs: {reason}");
                return self.problem_with_hint(message, location, EXAMPLE);
            }
        };
        if plain != path {
            let message = format!("`{shown}` in :tmpfs has another spelling");
            return self.problem_with_hint(message, location, format!("write it as \"{plain}\""));
        }
        if caches.iter().any(|cache| cache.path == plain) {
            let message = format!("`{shown}` is both a cache and a folder of :tmpfs");
            self.problem(message, location, None);
        }
        if size == Some(0) {
            let message = format!("the size of `{shown}` in :tmpfs is below the minimum");
            self.problem_with_hint(message, location, "use at least \"1m\"");
        }
    }
}

fn is_user(user: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    !user.is_empty()
        && user.len() <= MAX_NAME
        && user.chars().all(plain)
        && user.matches(':').count() <= 1
        && !user.starts_with(':')
}

fn is_capability(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_uppercase() || b == b'_';
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_capabilities() {
        for user in ["node", "0", "1000:1000", "www-data:adm", "a.b"] {
            assert!(is_user(user), "{user}");
        }
        for user in ["", ":1", "a b", "a:b:c", "ü", "$USER"] {
            assert!(!is_user(user), "{user}");
        }
        assert!(is_capability("SYS_PTRACE"));
        for name in ["", "sys_ptrace", "CAP SYS", "A,B"] {
            assert!(!is_capability(name), "{name}");
        }
    }
}
