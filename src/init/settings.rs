//! What `init` is told by its command line and its environment, checked.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::paths::{DATA_VARIABLE, Paths, RUNTIME_VARIABLE};

use super::error::BootError;

/// Where programs are found.
pub(super) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
pub(super) const DEFAULT_DATA: &str = "/var/quire";
pub(super) const DEFAULT_RUNTIME: &str = "/run/quire";
/// Where compose mounts keys from the host.
const MOUNTED_KEYS: &str = "/etc/quire/authorized_keys";
const DEFAULT_GRACE: Duration = Duration::from_secs(8);

/// The command line of `quire init`.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Run without a container, as the present user, on unprivileged ports.
    pub native: bool,
    /// The data folder.
    pub data: Option<PathBuf>,
    /// sshd's port (native).
    pub ssh_port: Option<u16>,
    /// The web's port (native).
    pub http_port: Option<u16>,
    /// The address that both listen on (native).
    pub listen: Option<IpAddr>,
    /// A further file of public keys.
    pub keys: Option<PathBuf>,
    /// For tests: `name=script` runs that script under `sh` instead of the child of that name.
    pub children: Vec<String>,
    /// For tests: leave adopted processes unreaped, to show that reaping is what removes them.
    pub leave_zombies: bool,
}

/// Both children, by what they do.
#[derive(Debug, Clone, Default)]
pub(super) struct Scripts {
    pub(super) sshd: Option<String>,
    pub(super) serve: Option<String>,
}

/// The checked settings.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) native: bool,
    pub(super) paths: Paths,
    pub(super) ssh_port: u16,
    pub(super) http_port: u16,
    /// Where both listen (native); in the appliance, everywhere.
    pub(super) listen: IpAddr,
    pub(super) mounted_keys: Option<PathBuf>,
    pub(super) inline_keys: String,
    pub(super) user_id: Option<u32>,
    pub(super) group_id: Option<u32>,
    pub(super) grace: Duration,
    pub(super) scripts: Scripts,
    pub(super) leave_zombies: bool,
}

impl Settings {
    /// Takes the options, then the environment, then the defaults.
    pub(super) fn new(
        options: Options,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, BootError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text =
            |name: &str| variable(name).map(|value| value.to_string_lossy().trim().to_owned());
        let native = options.native;
        let data = match options
            .data
            .or_else(|| variable(DATA_VARIABLE).map(PathBuf::from))
        {
            Some(data) => data,
            None if native => home_data(&variable).ok_or(BootError::NoDataFolder)?,
            None => DEFAULT_DATA.into(),
        };
        let data = usable(
            std::path::absolute(&data).map_err(BootError::io("find", data))?,
            "--data",
        )?;
        let runtime = match variable(RUNTIME_VARIABLE).map(PathBuf::from) {
            Some(runtime) => usable(
                std::path::absolute(&runtime).map_err(BootError::io("find", runtime))?,
                RUNTIME_VARIABLE,
            )?,
            None if native => data.join("runtime"),
            None => DEFAULT_RUNTIME.into(),
        };
        let port =
            |option: Option<u16>, name: &'static str, default| match (option, text(name)) {
                (Some(port), _) => Ok(port),
                (None, Some(value)) if native => value
                    .parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or(BootError::Setting {
                        name,
                        value,
                        expected: "a port number",
                    }),
                _ => Ok(default),
            };
        let id = |name: &'static str| match text(name) {
            Some(value) => match value.parse() {
                Ok(id) if id != 0 && id != u32::MAX => Ok(Some(id)),
                _ => Err(BootError::Setting {
                    name,
                    value,
                    expected: "the numeric id of a user other than root",
                }),
            },
            None => Ok(None),
        };
        Ok(Self {
            native,
            paths: Paths::new(data, runtime),
            ssh_port: port(
                options.ssh_port,
                "QUIRE_SSH_PORT",
                if native { 2222 } else { 22 },
            )?,
            http_port: port(options.http_port, "QUIRE_HTTP_PORT", 3000)?,
            listen: options.listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            mounted_keys: options
                .keys
                .or_else(|| (!native).then(|| MOUNTED_KEYS.into())),
            inline_keys: variable("QUIRE_AUTHORIZED_KEYS")
                .map(|value| value.to_string_lossy().into_owned())
                .unwrap_or_default(),
            user_id: id("PUID")?,
            group_id: id("PGID")?,
            grace: grace(text("QUIRE_GRACE"))?,
            scripts: scripts(options.children)?,
            leave_zombies: options.leave_zombies,
        })
    }

    /// What `quire exec` and the like are told, unless it is what they assume.
    pub(super) fn folder_flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        for (flag, path, default) in [
            ("--data", self.paths.data(), DEFAULT_DATA),
            ("--runtime", self.paths.runtime(), DEFAULT_RUNTIME),
        ] {
            if path != Path::new(default) {
                flags.push(flag.to_owned());
                flags.push(path.to_string_lossy().into_owned());
            }
        }
        flags
    }
}

fn grace(value: Option<String>) -> Result<Duration, BootError> {
    let Some(value) = value else {
        return Ok(DEFAULT_GRACE);
    };
    let seconds = value
        .trim_end_matches('s')
        .parse::<f64>()
        .ok()
        .filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or(BootError::Setting {
            name: "QUIRE_GRACE",
            value,
            expected: "a number of seconds up to 3600",
        })
}

fn scripts(children: Vec<String>) -> Result<Scripts, BootError> {
    let mut scripts = Scripts::default();
    for child in children {
        match child.split_once('=') {
            Some(("sshd", script)) => scripts.sshd = Some(script.to_owned()),
            Some(("serve", script)) => scripts.serve = Some(script.to_owned()),
            _ => {
                return Err(BootError::Setting {
                    name: "--child",
                    value: child,
                    expected: "sshd=SCRIPT or serve=SCRIPT",
                });
            }
        }
    }
    Ok(scripts)
}

fn home_data(variable: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let share = variable("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let share = share.or_else(|| Some(Path::new(&variable("HOME")?).join(".local/share")));
    share.map(|share| share.join("quire"))
}

/// Paths stand in sshd's and git's configuration and in a forced command: what would need
/// three kinds of quoting there is refused here.
fn usable(path: PathBuf, setting: &'static str) -> Result<PathBuf, BootError> {
    let why = match path.to_str() {
        None => Some("it is not UTF-8"),
        Some(text)
            if text.contains(['"', '\'', '\\', '%', '$', '`', '#', ';'])
                || text.contains(char::is_control) =>
        {
            Some("it contains a quote, \\, %, $, `, #, ; or a control character")
        }
        Some(_) => None,
    };
    match why {
        Some(why) => Err(BootError::Path { path, why, setting }),
        None => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: Options, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let find = |name: &str| {
            environment
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| OsString::from(value))
        };
        Settings::new(options, find).map_err(|error| error.to_string())
    }

    #[test]
    fn the_appliance_needs_nothing() {
        let s = settings(Options::default(), &[]).unwrap();
        assert_eq!(
            (s.paths.data(), s.paths.runtime()),
            (Path::new("/var/quire"), Path::new("/run/quire"))
        );
        assert_eq!(
            (s.ssh_port, s.http_port, s.grace),
            (22, 3000, Duration::from_secs(8))
        );
        assert_eq!(
            (s.user_id, s.mounted_keys.as_deref()),
            (None, Some(Path::new("/etc/quire/authorized_keys")))
        );
        assert!(s.folder_flags().is_empty());
    }

    #[test]
    fn native_lives_in_one_folder() {
        let native = Options {
            native: true,
            ..Options::default()
        };
        let s = settings(
            native.clone(),
            &[("HOME", "/home/me"), ("QUIRE_HTTP_PORT", "4000")],
        )
        .unwrap();
        assert_eq!(s.paths.data(), Path::new("/home/me/.local/share/quire"));
        assert_eq!((s.ssh_port, s.http_port), (2222, 4000));
        let flags = [
            "--data",
            "/home/me/.local/share/quire",
            "--runtime",
            "/home/me/.local/share/quire/runtime",
        ];
        assert_eq!(s.folder_flags(), flags);
        assert!(
            settings(native.clone(), &[])
                .unwrap_err()
                .contains("--data")
        );
        assert_eq!(
            settings(
                Options {
                    data: Some("/x".into()),
                    ..native
                },
                &[("QUIRE_DATA", "/y")]
            )
            .unwrap()
            .paths
            .data(),
            Path::new("/x")
        );
    }

    #[test]
    fn bad_settings_are_named() {
        for (name, value) in [
            ("PUID", "0"),
            ("PUID", "root"),
            ("PGID", "-1"),
            ("PGID", "4294967295"),
            ("QUIRE_GRACE", "soon"),
            ("QUIRE_GRACE", "-1"),
            ("QUIRE_GRACE", "NaN"),
        ] {
            let error = settings(Options::default(), &[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        assert!(
            settings(
                Options {
                    children: vec!["x=y".into()],
                    ..Options::default()
                },
                &[]
            )
            .is_err()
        );
        assert_eq!(
            settings(
                Options::default(),
                &[("QUIRE_GRACE", "1.5"), ("PUID", "1005")]
            )
            .unwrap()
            .grace,
            Duration::from_millis(1500)
        );
        for path in ["/a\"b", "/a'b", "/100%", "/a\nb", "/a#b", "/a;b"] {
            assert!(
                settings(
                    Options {
                        data: Some(path.into()),
                        ..Options::default()
                    },
                    &[]
                )
                .unwrap_err()
                .contains("--data"),
                "{path}"
            );
        }
        assert!(
            settings(
                Options {
                    data: Some("/a b/ü".into()),
                    ..Options::default()
                },
                &[]
            )
            .is_ok()
        );
    }
}
