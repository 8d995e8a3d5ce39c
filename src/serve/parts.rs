//! From the configuration to the parts: what each of them is told.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Auth, Config};
use crate::driver::unconfined;
use crate::executor::{
    DockerConfig, DockerExecutor, Executor, HostConfig, HostExecutor, ResourceLimits,
};
use crate::housekeeping::Kept;
use crate::paths::Paths;
use crate::run::ExecutorKind;
use crate::runner::RunnerConfig;
use crate::store::Journal;
use crate::web::{self, WebConfig};

/// Log lines go to standard error, where `init` tags them. `QUIRE_LOG` filters, as in `debug` or `quire::runner=debug`.
pub(super) fn start_log() {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("QUIRE_LOG").unwrap_or_else(|_| "info".into());
    // Set once per process; a second server in one process (tests) shares the first one's.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}

/// A variable of the environment, where it is set and text.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Makes the folders of the volume that are missing. `quire init` has made them where it runs as root.
pub(super) fn make_folders(paths: &Paths) -> Result<(), (PathBuf, std::io::Error)> {
    for folder in [
        paths.repos(),
        paths.spool(),
        paths.backups(),
        paths.data().join("runs"),
    ] {
        std::fs::create_dir_all(&folder).map_err(|error| (folder, error))?;
    }
    Ok(())
}

/// The push path reads no configuration: a file that git includes, one with the floor of the disk and a marker
/// tell it what it has to know.
pub(super) fn tell_push_path(paths: &Paths, config: &Config) -> std::io::Result<()> {
    replace(
        &paths.git_limits(),
        &format!("[receive]\n\tmaxInputSize = {}\n", config.git.max_push),
    )?;
    replace(&paths.min_free(), &config.keep.min_free.to_string())?;
    let marker = paths.no_push_to_create();
    if config.git.push_to_create {
        match std::fs::remove_file(marker) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    } else {
        std::fs::write(marker, "")
    }
}

/// Notes whose the repositories are that are made from now on.
pub(super) fn note_instance(paths: &Paths, instance: &str) -> std::io::Result<()> {
    replace(&paths.instance(), instance)
}

/// Notes where the server listens and what people type, for commands that load no configuration.
pub(super) fn note_endpoint(paths: &Paths, address: SocketAddr, url: &str) -> std::io::Result<()> {
    let reached = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv6() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port()))
        }
        ip if ip.is_unspecified() => {
            SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, address.port()))
        }
        _ => address,
    };
    let file = paths.endpoint();
    replace(
        &file,
        &serde_json::json!({ "listen": reached, "url": url }).to_string(),
    )
}

/// Replaces a small file, so that a reader sees the old text or the new one. One that says so already is
/// left alone: a disk that is full must not keep the server from starting.
fn replace(file: &std::path::Path, text: &str) -> std::io::Result<()> {
    if std::fs::read(file).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let partial = file.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, file)
}

/// `init` asks for a rollback journal where the volume's file system needs one.
pub(super) fn journal() -> Journal {
    match variable("QUIRE_SQLITE_JOURNAL").as_deref() {
        Some("delete") => Journal::Delete,
        _ => Journal::Wal,
    }
}

/// Where the web listens; natively `init` narrows it to its own address.
pub(super) fn listen_address(config: &Config) -> SocketAddr {
    let ip = variable("QUIRE_HTTP_LISTEN").and_then(|text| text.parse().ok());
    SocketAddr::new(
        ip.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
        config.http.port,
    )
}

pub(super) fn web_config(config: &Config) -> WebConfig {
    let host = config.ssh.host.clone();
    let url = config.http.url.clone();
    // The port that Docker publishes may be another than the one in the container.
    let port = variable("QUIRE_PUBLISHED_HTTP_PORT")
        .and_then(|text| text.parse().ok())
        .unwrap_or(config.http.port);
    let url =
        url.unwrap_or_else(|| format!("http://{}:{port}", host.as_deref().unwrap_or("localhost")));
    let host = host
        .or_else(|| host_of(&url))
        .unwrap_or_else(|| "localhost".to_owned());
    let auth = match config.http.auth {
        Auth::Open => web::Auth::Open,
        // Identity headers are not read yet; until then a proxy's visitors sign in like everybody.
        Auth::Ssh | Auth::Proxy => web::Auth::Ssh,
    };
    let ssh_user = variable("QUIRE_SSH_USER").unwrap_or_else(|| "git".to_owned());
    WebConfig {
        url,
        auth,
        ssh_user,
        ssh_host: host,
        ssh_port: config.ssh.port,
    }
}

/// What the health page says of a configuration in force.
pub(super) fn loaded() -> &'static str {
    if unconfined() {
        "loaded; pipelines are evaluated without a filter of system calls around them"
    } else {
        "loaded"
    }
}

/// How many connections one address may hold, unless it speaks for many.
pub(super) fn web_limits(config: &Config) -> web::Limits {
    let proxies = config.http.trusted_proxies.clone();
    let speaks_for_many = move |address: IpAddr| {
        address.is_loopback() || proxies.iter().any(|network| network.contains(address))
    };
    web::Limits {
        uncounted: web::Uncounted::new(speaks_for_many),
        ..web::Limits::default()
    }
}

/// The host name in a URL.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}

pub(super) fn runner_config(config: &Config) -> RunnerConfig {
    let secrets = config.clone();
    RunnerConfig {
        concurrent_runs: config.ci.concurrent_runs as usize,
        parallel_jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        default_image: config.ci.image.clone(),
        run_timeout: config.ci.timeout,
        limits: ResourceLimits {
            memory: config.ci.memory,
            milli_cpus: config.ci.cpus,
            pids: config.ci.pids,
            network: config.ci.network,
        },
        retry_orphaned: config.ci.retry_orphaned,
        keep_failed: config.ci.keep_failed,
        log_cap: config.ci.max_log,
        artifact_cap: config.ci.max_artifacts,
        secrets: Arc::new(move |repo, ref_name, name| {
            secrets
                .secret(name, (repo, ref_name), variable)
                .map_err(|error| error.to_string())
        }),
    }
}

pub(super) fn kept(config: &Config) -> Kept {
    let keep = &config.keep;
    Kept {
        runs: keep.runs,
        days: keep.days,
        logs: keep.logs,
        artifacts: keep.artifacts,
        caches: keep.caches,
    }
}

/// The executor that is asked for first; the other one only cleans up after a change of mind.
pub(super) fn executors(config: &Config, instance: &str, paths: &Paths) -> Vec<Arc<dyn Executor>> {
    let docker: Arc<dyn Executor> = Arc::new(DockerExecutor::new(DockerConfig::new(
        &config.ci.engine,
        instance,
    )));
    let host: Arc<dyn Executor> = Arc::new(HostExecutor::new(HostConfig::new(
        instance,
        Some(paths.data().join("runs")),
        Some(paths.caches()),
    )));
    match config.ci.executor {
        Some(ExecutorKind::Host) => vec![host, docker],
        // Without isolation only where somebody asked for it: an engine that is away is waited for.
        Some(ExecutorKind::Docker) | None => vec![docker, host],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls() {
        for (url, host) in [
            ("https://git.example.org", Some("git.example.org")),
            ("http://[::1]:3000/x", Some("::1")),
            ("http://h:1/", Some("h")),
            ("nonsense", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host);
        }
    }
}
