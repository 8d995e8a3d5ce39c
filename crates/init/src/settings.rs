//! The settings of `init`: its command line and its environment, checked.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quire_types::paths::{DATA_VARIABLE, Paths, RUNTIME_VARIABLE};

use super::error::InitError;

/// The `PATH` in which programs are searched.
pub(super) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
pub(super) const DEFAULT_DATA: &str = "/var/quire";
pub(super) const DEFAULT_RUNTIME: &str = "/run/quire";
/// Where the compose file mounts public keys from the host.
const MOUNTED_KEYS: &str = "/etc/quire/authorized_keys";
const DEFAULT_GRACE: Duration = Duration::from_secs(8);
/// Longer than any pause that a machine with too little memory makes.
const DEFAULT_UNRESPONSIVE_AFTER: Duration = Duration::from_secs(120);

/// The command line of `quire init`.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// Run without a container, as the current user, on unprivileged ports.
    pub native: bool,
    /// The data folder.
    pub data: Option<PathBuf>,
    /// The port of sshd (native only).
    pub ssh_port: Option<u16>,
    /// The port of the web server (native only).
    pub http_port: Option<u16>,
    /// The address that both servers listen on (native only).
    pub listen: Option<IpAddr>,
    /// An additional file of public keys.
    pub keys: Option<PathBuf>,
    /// For tests: `NAME=SCRIPT` runs that script with `sh` in place of the child of that name.
    pub children: Vec<String>,
    /// For tests: does not reap adopted processes, to prove that reaping is what removes them.
    pub leave_zombies: bool,
}

/// Scripts that replace the children in tests.
#[derive(Debug, Clone, Default)]
pub(super) struct ChildScripts {
    pub(super) sshd: Option<String>,
    pub(super) serve: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct InitSettings {
    pub(super) native: bool,
    pub(super) paths: Paths,
    pub(super) ssh_port: u16,
    pub(super) http_port: u16,
    /// The address that both servers listen on, natively. In the container they listen on all.
    pub(super) listen: IpAddr,
    pub(super) mounted_keys: Option<PathBuf>,
    pub(super) inline_keys: String,
    pub(super) user_id: Option<u32>,
    pub(super) group_id: Option<u32>,
    /// How long a stop may take.
    pub(super) grace: Duration,
    /// How long a child that has answered before may be silent until it is killed and restarted; zero for ever.
    pub(super) unresponsive_after: Duration,
    pub(super) scripts: ChildScripts,
    pub(super) leave_zombies: bool,
}

impl InitSettings {
    /// An option takes precedence over an environment variable, and that over the default.
    pub(super) fn new(
        options: InitOptions,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, InitError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text =
            |name: &str| variable(name).map(|value| value.to_string_lossy().trim().to_owned());
        let native = options.native;
        let data = match options
            .data
            .or_else(|| variable(DATA_VARIABLE).map(PathBuf::from))
        {
            Some(data) => data,
            None if native => default_native_data(&variable).ok_or(InitError::NoDataFolder)?,
            None => DEFAULT_DATA.into(),
        };
        let data = check_path(
            std::path::absolute(&data).map_err(InitError::io("find", data))?,
            "--data",
        )?;
        let runtime = match variable(RUNTIME_VARIABLE).map(PathBuf::from) {
            Some(runtime) => check_path(
                std::path::absolute(&runtime).map_err(InitError::io("find", runtime))?,
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
                    .ok_or(InitError::Setting {
                        name,
                        value,
                        expected: "a port number",
                    }),
                _ => Ok(default),
            };
        let id = |name| parse_id(name, text(name));
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
            grace: parse_seconds("QUIRE_GRACE", text("QUIRE_GRACE"), DEFAULT_GRACE)?,
            unresponsive_after: parse_seconds(
                "QUIRE_UNRESPONSIVE_AFTER",
                text("QUIRE_UNRESPONSIVE_AFTER"),
                DEFAULT_UNRESPONSIVE_AFTER,
            )?,
            scripts: parse_scripts(options.children)?,
            leave_zombies: options.leave_zombies,
        })
    }

    /// The flags that tell `quire exec` where the folders are; empty if they are the default ones.
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

/// Parses the id of the user or group that git runs as.
fn parse_id(name: &'static str, text: Option<String>) -> Result<Option<u32>, InitError> {
    let Some(value) = text else {
        return Ok(None);
    };
    match value.parse() {
        Ok(id) if id != 0 && id != u32::MAX => Ok(Some(id)),
        _ => Err(InitError::Setting {
            name,
            value,
            expected: "the numeric id of a user other than root",
        }),
    }
}

fn parse_seconds(
    name: &'static str,
    value: Option<String>,
    default: Duration,
) -> Result<Duration, InitError> {
    let Some(value) = value else {
        return Ok(default);
    };
    let seconds = value
        .trim_end_matches('s')
        .parse::<f64>()
        .ok()
        .filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or(InitError::Setting {
            name,
            value,
            expected: "a number of seconds up to 3600",
        })
}

fn parse_scripts(children: Vec<String>) -> Result<ChildScripts, InitError> {
    let mut scripts = ChildScripts::default();
    for child in children {
        match child.split_once('=') {
            Some(("sshd", script)) => scripts.sshd = Some(script.to_owned()),
            Some(("serve", script)) => scripts.serve = Some(script.to_owned()),
            _ => {
                return Err(InitError::Setting {
                    name: "--child",
                    value: child,
                    expected: "sshd=SCRIPT or serve=SCRIPT",
                });
            }
        }
    }
    Ok(scripts)
}

fn default_native_data(variable: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let share = variable("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let share = share.or_else(|| Some(Path::new(&variable("HOME")?).join(".local/share")));
    share.map(|share| share.join("quire"))
}

/// Paths are written into the configuration of sshd and git and into a forced command. Characters
/// that would need three kinds of quoting are rejected here.
fn check_path(path: PathBuf, setting: &'static str) -> Result<PathBuf, InitError> {
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
        Some(why) => Err(InitError::Path { path, why, setting }),
        None => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(
        options: InitOptions,
        environment: &[(&str, &str)],
    ) -> Result<InitSettings, String> {
        let find = |name: &str| {
            environment
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| OsString::from(value))
        };
        InitSettings::new(options, find).map_err(|error| error.to_string())
    }

    #[test]
    fn the_container_needs_no_settings() {
        let s = settings(InitOptions::default(), &[]).unwrap();
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
    fn a_native_appliance_has_one_folder() {
        let native = InitOptions {
            native: true,
            ..InitOptions::default()
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
                InitOptions {
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
    fn an_invalid_setting_is_named() {
        for (name, value) in [
            ("PUID", "0"),
            ("PUID", "root"),
            ("PGID", "-1"),
            ("PGID", "4294967295"),
            ("QUIRE_GRACE", "soon"),
            ("QUIRE_GRACE", "-1"),
            ("QUIRE_GRACE", "NaN"),
        ] {
            let error = settings(InitOptions::default(), &[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        assert!(
            settings(
                InitOptions {
                    children: vec!["x=y".into()],
                    ..InitOptions::default()
                },
                &[]
            )
            .is_err()
        );
        assert_eq!(
            settings(
                InitOptions::default(),
                &[("QUIRE_GRACE", "1.5"), ("PUID", "1005")]
            )
            .unwrap()
            .grace,
            Duration::from_millis(1500)
        );
        for path in ["/a\"b", "/a'b", "/100%", "/a\nb", "/a#b", "/a;b"] {
            assert!(
                settings(
                    InitOptions {
                        data: Some(path.into()),
                        ..InitOptions::default()
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
                InitOptions {
                    data: Some("/a b/ü".into()),
                    ..InitOptions::default()
                },
                &[]
            )
            .is_ok()
        );
    }
}
