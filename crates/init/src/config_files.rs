//! The configuration files that sshd and git read, written to the runtime folder at each start.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::accounts::Account;
use super::error::InitError;
use super::settings::InitSettings;
use quire_types::fsutil;

const SSHD_TEMPLATE: &str = include_str!("../../../image/sshd_config");
const GIT_TEMPLATE: &str = include_str!("../../../image/gitconfig");

/// Writes all files except the authorized keys, and creates the folder of the marks of pushes.
pub(super) fn write(
    settings: &InitSettings,
    account: &Account,
    binary: &Path,
    host_keys: &[PathBuf],
) -> Result<(), InitError> {
    let paths = &settings.paths;
    write_file(
        &paths.sshd_config(),
        &sshd_config(settings, account, binary, host_keys),
    )
    .map_err(InitError::io("write", paths.sshd_config()))?;
    write_file(&paths.git_config(), &git_config(settings))
        .map_err(InitError::io("write", paths.git_config()))?;
    let marks = paths.push_marks();
    create_push_marks(&marks, account).map_err(InitError::io("create the folder", marks))?;
    link_hooks(&paths.hooks(), binary).map_err(InitError::io("link the hook in", paths.hooks()))
}

/// Creates the folder of the marks of pushes. Sessions write it as the user of the data, who can create nothing in the runtime folder.
fn create_push_marks(path: &Path, account: &Account) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    lchown(path, Some(account.uid), Some(account.gid))
}

/// Creates the runtime folder, which every user can read and only its owner can change.
pub(super) fn create_runtime_dir(path: &Path) -> Result<(), InitError> {
    let create = || {
        DirBuilder::new().recursive(true).create(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))
    };
    create().map_err(InitError::io("create the folder", path))
}

fn sshd_config(
    settings: &InitSettings,
    account: &Account,
    binary: &Path,
    host_keys: &[PathBuf],
) -> String {
    let mut keys = String::new();
    for key in host_keys {
        let _ = writeln!(keys, "HostKey {}", double_quoted(key));
    }
    let mut command = format!("{} exec", shell_quoted(&binary.to_string_lossy()));
    for flag in settings.folder_flags() {
        command = format!("{command} {}", shell_quoted(&flag));
    }
    let strict_modes = if only_writable_by(settings.paths.runtime(), account.uid) {
        "yes"
    } else {
        "no"
    };
    let values = [
        ("@PORT@", settings.ssh_port.to_string()),
        (
            "@LISTEN@",
            listen_address(settings, Path::new("/proc/net/if_inet6").exists()),
        ),
        ("@HOST_KEYS@", keys.trim_end().to_owned()),
        ("@USER@", account.name.clone()),
        (
            "@AUTHORIZED_KEYS@",
            double_quoted(&settings.paths.merged_authorized_keys()),
        ),
        ("@STRICT_MODES@", strict_modes.to_owned()),
        ("@FORCE_COMMAND@", command),
    ];
    render(SSHD_TEMPLATE, &values)
}

fn git_config(settings: &InitSettings) -> String {
    let values = [("@HOOKS@", &settings.paths.hooks())];
    render(
        GIT_TEMPLATE,
        &values.map(|(placeholder, path)| (placeholder, double_quoted(path))),
    )
}

fn render(template: &str, values: &[(&str, String)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (placeholder, value)| {
            text.replace(placeholder, value)
        })
}

/// All addresses in the container, where Docker decides which ports are published; natively the
/// address of `--listen`.
fn listen_address(settings: &InitSettings, has_ipv6: bool) -> String {
    match (settings.native, has_ipv6) {
        (true, _) => settings.listen.to_string(),
        (false, true) => "0.0.0.0\nListenAddress ::".to_owned(),
        (false, false) => IpAddr::V4(Ipv4Addr::UNSPECIFIED).to_string(),
    }
}

/// Whether no user but root and `uid` can replace a file in this folder.
fn only_writable_by(path: &Path, uid: u32) -> bool {
    path.ancestors().all(|folder| {
        fs::metadata(folder).is_ok_and(|found| {
            (found.uid() == 0 || found.uid() == uid) && found.mode() & 0o022 == 0
        })
    })
}

/// Quotes a path for sshd and git; the settings rejected paths that contain quotes.
fn double_quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// Quotes a word for the shell of the user, which runs the forced command.
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

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    fsutil::replace_file(path, text.as_bytes(), 0o644)
}

fn link_hooks(folder: &Path, binary: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for name in ["pre-receive", "proc-receive", "post-receive"] {
        let hook = folder.join(name);
        match fs::remove_file(&hook) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(binary, hook)?;
    }
    Ok(())
}

/// Creates the folder that sshd needs when it runs as root. Where there is no init system, no package
/// creates it.
pub(super) fn create_privilege_separation_dir() -> Result<(), InitError> {
    let path = "/run/sshd";
    if !Uid::effective().is_root() || Path::new(path).exists() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(InitError::io("create the folder", path))
}

#[cfg(test)]
mod tests {
    use super::super::settings::InitOptions;
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
    fn every_placeholder_of_the_templates_is_replaced() {
        let settings = InitSettings::new(InitOptions::default(), |_| None).unwrap();
        let text = sshd_config(
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
        assert!(git_config(&settings).contains("hooksPath = \"/run/quire/hooks\"\n"));
    }

    #[test]
    fn other_folders_and_paths_with_blanks_are_quoted() {
        let options = InitOptions {
            native: true,
            data: Some("/home/a b/data".into()),
            ..InitOptions::default()
        };
        let settings = InitSettings::new(options, |_| None).unwrap();
        let text = sshd_config(&settings, &account(), Path::new("/opt/my bin/quire"), &[]);
        let command = "ForceCommand '/opt/my bin/quire' exec --data '/home/a b/data' --runtime '/home/a b/data/runtime'\n";
        assert!(text.contains(command), "{text}");
        assert!(
            text.contains("\nListenAddress 127.0.0.1\n")
                && text.contains("AuthorizedKeysFile \"/home/a b/data/runtime/authorized_keys\"\n")
        );
    }

    #[test]
    fn strict_modes_need_folders_that_only_the_user_can_change() {
        assert!(only_writable_by(Path::new("/usr/bin"), 12345));
        assert!(!only_writable_by(Path::new("/tmp"), 12345));
        assert!(!only_writable_by(Path::new("/no/such/folder"), 12345));
    }

    #[test]
    fn the_hooks_are_links_to_the_binary() {
        let folder = tempfile::tempdir().unwrap();
        let hooks = folder.path().join("hooks");
        link_hooks(&hooks, Path::new("/old")).unwrap();
        link_hooks(&hooks, Path::new("/new")).unwrap();
        for name in ["pre-receive", "proc-receive", "post-receive"] {
            assert_eq!(
                fs::read_link(hooks.join(name)).unwrap(),
                Path::new("/new"),
                "{name}"
            );
        }
    }
}
