//! The files of the runtime folder that sshd and git read, made anew at each boot.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::accounts::Account;
use super::error::BootError;
use super::settings::Settings;

const SSHD_TEMPLATE: &str = include_str!("../../image/sshd_config");
const GIT_TEMPLATE: &str = include_str!("../../image/gitconfig");

/// Writes all but the keys.
pub(super) fn write(
    settings: &Settings,
    account: &Account,
    binary: &Path,
    host_keys: &[PathBuf],
) -> Result<(), BootError> {
    let paths = &settings.paths;
    put(
        &paths.sshd_config(),
        &sshd(settings, account, binary, host_keys),
    )
    .map_err(BootError::io("write", paths.sshd_config()))?;
    put(&paths.git_config(), &git(settings)).map_err(BootError::io("write", paths.git_config()))?;
    link_hook(&paths.hooks(), binary).map_err(BootError::io("link the hook in", paths.hooks()))
}

/// Makes the runtime folder: readable by all, writable by its owner alone.
pub(super) fn make_runtime_folder(path: &Path) -> Result<(), BootError> {
    let make = || {
        DirBuilder::new().recursive(true).create(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))
    };
    make().map_err(BootError::io("make the folder", path))
}

fn sshd(settings: &Settings, account: &Account, binary: &Path, host_keys: &[PathBuf]) -> String {
    let mut keys = String::new();
    for key in host_keys {
        let _ = writeln!(keys, "HostKey {}", double_quoted(key));
    }
    let mut command = format!("{} exec", shell_quoted(&binary.to_string_lossy()));
    for flag in settings.folder_flags() {
        command = format!("{command} {}", shell_quoted(&flag));
    }
    let strict = if only_ours(settings.paths.runtime(), account.uid) {
        "yes"
    } else {
        "no"
    };
    let words = [
        ("@PORT@", settings.ssh_port.to_string()),
        (
            "@LISTEN@",
            listen(settings, Path::new("/proc/net/if_inet6").exists()),
        ),
        ("@HOST_KEYS@", keys.trim_end().to_owned()),
        ("@USER@", account.name.clone()),
        (
            "@AUTHORIZED_KEYS@",
            double_quoted(&settings.paths.effective_keys()),
        ),
        ("@STRICT_MODES@", strict.to_owned()),
        ("@FORCE_COMMAND@", command),
    ];
    fill(SSHD_TEMPLATE, &words)
}

fn git(settings: &Settings) -> String {
    let words = [
        ("@HOOKS@", &settings.paths.hooks()),
        ("@LIMITS@", &settings.paths.git_limits()),
    ];
    fill(
        GIT_TEMPLATE,
        &words.map(|(word, path)| (word, double_quoted(path))),
    )
}

fn fill(template: &str, words: &[(&str, String)]) -> String {
    words
        .iter()
        .fold(template.to_owned(), |text, (word, value)| {
            text.replace(word, value)
        })
}

/// Everywhere in the appliance, where Docker decides what is published; natively where it was asked for.
fn listen(settings: &Settings, six: bool) -> String {
    match (settings.native, six) {
        (true, _) => settings.listen.to_string(),
        (false, true) => "0.0.0.0\nListenAddress ::".to_owned(),
        (false, false) => IpAddr::V4(Ipv4Addr::UNSPECIFIED).to_string(),
    }
}

/// Whether nobody but root and the user could put another file in the place of one below this folder.
fn only_ours(path: &Path, uid: u32) -> bool {
    path.ancestors().all(|folder| {
        fs::metadata(folder).is_ok_and(|found| {
            (found.uid() == 0 || found.uid() == uid) && found.mode() & 0o022 == 0
        })
    })
}

/// As sshd and git read it; paths with quotes in them were refused.
fn double_quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// As the user's shell reads it, which runs the forced command.
fn shell_quoted(word: &str) -> String {
    let plain = word
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    if plain {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    fs::write(&beside, text)?;
    fs::set_permissions(&beside, Permissions::from_mode(0o644))?;
    fs::rename(&beside, path)
}

fn link_hook(folder: &Path, binary: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let hook = folder.join("post-receive");
    match fs::remove_file(&hook) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(binary, hook)
}

/// As root sshd wants its folder; it is part of no package in a container that has no init system.
pub(super) fn make_privilege_separation_folder() -> Result<(), BootError> {
    let path = "/run/sshd";
    if !Uid::effective().is_root() || Path::new(path).exists() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(BootError::io("make the folder", path))
}

#[cfg(test)]
mod tests {
    use super::super::settings::Options;
    use super::*;

    fn account() -> Account {
        Account {
            name: "git".into(),
            uid: 1000,
            gid: 1000,
            home: "/".into(),
        }
    }

    #[test]
    fn every_word_of_the_templates_is_filled() {
        let settings = Settings::new(Options::default(), |_| None).unwrap();
        let text = sshd(
            &settings,
            &account(),
            Path::new("/usr/local/bin/quire"),
            &[
                "/run/quire/host_keys/a".into(),
                "/run/quire/host_keys/b".into(),
            ],
        );
        for line in [
            "Port 22",
            "HostKey \"/run/quire/host_keys/b\"",
            "AllowUsers git",
            "AuthorizedKeysFile \"/run/quire/authorized_keys\"",
            "ForceCommand /usr/local/bin/quire exec",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(
            !text
                .lines()
                .any(|line| !line.starts_with('#') && line.contains('@')),
            "{text}"
        );
        assert!(git(&settings).contains("hooksPath = \"/run/quire/hooks\"\n"));
    }

    #[test]
    fn folders_that_are_not_the_default_and_blanks_in_them() {
        let options = Options {
            native: true,
            data: Some("/home/a b/data".into()),
            ..Options::default()
        };
        let settings = Settings::new(options, |_| None).unwrap();
        let text = sshd(&settings, &account(), Path::new("/opt/my bin/quire"), &[]);
        let command = "ForceCommand '/opt/my bin/quire' exec --data '/home/a b/data' --runtime '/home/a b/data/runtime'\n";
        assert!(text.contains(command), "{text}");
        assert!(
            text.contains("\nListenAddress 127.0.0.1\n")
                && text.contains("AuthorizedKeysFile \"/home/a b/data/runtime/authorized_keys\"\n")
        );
    }

    #[test]
    fn strict_modes_only_where_they_hold() {
        assert!(only_ours(Path::new("/usr/bin"), 12345));
        assert!(!only_ours(Path::new("/tmp"), 12345));
        assert!(!only_ours(Path::new("/no/such/folder"), 12345));
    }

    #[test]
    fn the_hook_follows_the_binary() {
        let folder = tempfile::tempdir().unwrap();
        let hooks = folder.path().join("hooks");
        link_hook(&hooks, Path::new("/old")).unwrap();
        link_hook(&hooks, Path::new("/new")).unwrap();
        assert_eq!(
            fs::read_link(hooks.join("post-receive")).unwrap(),
            Path::new("/new")
        );
    }
}
