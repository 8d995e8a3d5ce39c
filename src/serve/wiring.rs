//! From the configuration to the settings of each part of the server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quire_config::CiConfig;
use quire_config::{Auth, Config, RunGrant};
use quire_executor::ResourceLimits;
use quire_git::ForgeAddress;
use quire_pipeline::driver::allow_unsandboxed;
use quire_server::backup::BackupPlan;
use quire_server::housekeeping::RetentionLimits;
use quire_server::runner::{RunGrants, RunSecretResolver, RunnerConfig, SecretNames};
use quire_store::Journal;
use quire_types::base_url::{BaseUrl, UrlHost};
use quire_types::keep_times::KeepTimes;
use quire_types::run::ExecutorName;
use quire_types::url_host::{host_in_url, host_of_url};
use quire_web::WebConfig;

/// The shortest time between two backups; a shorter one in the configuration is raised to it.
const MIN_BACKUP_INTERVAL: Duration = Duration::from_secs(60);

/// Writes the log to standard error, where `init` tags its lines. `QUIRE_LOG` filters it, as in
/// `debug` or `quire::runner=debug`.
pub(super) fn init_tracing() {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("QUIRE_LOG").unwrap_or_else(|_| "info".into());
    // Can be set only once: a second server in the same process (in tests) uses the first one's.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}

/// An environment variable; `None` if it is not set or not UTF-8.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `init` requests a rollback journal if the file system of the volume needs one.
pub(super) fn journal() -> Journal {
    match variable("QUIRE_SQLITE_JOURNAL").as_deref() {
        Some("delete") => Journal::Delete,
        _ => Journal::Wal,
    }
}

/// Where the web server listens; natively `init` restricts it to one address.
pub(super) fn listen_address(config: &Config) -> SocketAddr {
    let ip = variable("QUIRE_HTTP_LISTEN").and_then(|text| text.parse().ok());
    SocketAddr::new(
        ip.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
        config.http.port,
    )
}

/// The address that links begin with.
pub(super) fn base_url(config: &Config) -> BaseUrl {
    let host = config.ssh.host.as_deref();
    // Docker may publish another port than the one in the container.
    let port = variable("QUIRE_PUBLISHED_HTTP_PORT")
        .and_then(|text| text.parse().ok())
        .unwrap_or(config.http.port);
    let local = || format!("http://{}:{port}", host_in_url(host.unwrap_or("localhost")));
    // Natively `init` sets the address to listen on.
    let is_native = variable("QUIRE_HTTP_LISTEN").is_some();
    BaseUrl {
        url: config.http.url.clone().unwrap_or_else(local),
        host: match (&config.http.url, host) {
            (None, None) if is_native => UrlHost::Connection,
            (None, None) => UrlHost::Unknown,
            _ => UrlHost::Configured,
        },
    }
}

pub(super) fn web_config(config: &Config) -> WebConfig {
    let BaseUrl { url, host } = base_url(config);
    let host_is_configured = host == UrlHost::Configured;
    let host = config.ssh.host.clone();
    let host = host
        .or_else(|| host_of_url(&url))
        .unwrap_or_else(|| "localhost".to_owned());
    let auth = match config.http.auth {
        Auth::Open => quire_web::SignInMethod::Open,
        // Identity headers are not read yet; until then the users of a proxy sign in like all others.
        Auth::Ssh | Auth::Proxy => quire_web::SignInMethod::Ssh,
    };
    let ssh_user = variable("QUIRE_SSH_USER").unwrap_or_else(|| "git".to_owned());
    WebConfig {
        url,
        auth,
        ssh_user,
        ssh_host: host,
        host_is_configured,
        ssh_port: config.ssh.port,
        strangers: quire_web::StrangerSettings {
            access: config.http.strangers,
            ..quire_web::StrangerSettings::default()
        },
    }
}

/// What the health page says about the configuration in force.
pub(super) fn config_message(config: &Config) -> String {
    let mut message = "loaded".to_owned();
    if allow_unsandboxed() {
        message += "; pipelines are evaluated without a filter of system calls";
    }
    if runs_reach_open_pages(config, listen_address(config).ip()) {
        message += "; runs can reach pages that need no sign-in";
    }
    message
}

/// Warns about pages that need no sign-in and that runs can reach.
pub(super) fn warn_about_open_pages(config: &Config) {
    if runs_reach_open_pages(config, listen_address(config).ip()) {
        tracing::warn!(
            hint = "keep the default :auth :ssh, or set :ci {:network false}; in Docker it is enough to publish the port \
                    to 127.0.0.1 only",
            "no sign-in is needed (:http {{:auth :open}}) and runs have a network, so a pipeline can read every page, and start, \
             cancel and retry runs of every repository"
        );
    }
}

/// Whether a container of a run can open the pages of an appliance that needs no sign-in. In a container the server cannot
/// know to which addresses of the host its port is published. Runs on the host can read the volume anyway.
fn runs_reach_open_pages(config: &Config, listen: IpAddr) -> bool {
    let on_host = config.ci.executor == Some(ExecutorName::HOST);
    config.http.auth == Auth::Open && config.ci.network && !on_host && !listen.is_loopback()
}

/// How many connections one address may hold, unless it is that of a proxy.
pub(super) fn web_limits(config: &Config) -> quire_web::ConnectionLimits {
    let proxies = config.http.trusted_proxies.clone();
    let is_proxy = move |address: IpAddr| {
        address.is_loopback() || proxies.iter().any(|network| network.contains(address))
    };
    quire_web::ConnectionLimits {
        trusted_proxies: quire_web::TrustedProxies::new(is_proxy),
        ..quire_web::ConnectionLimits::default()
    }
}

/// What the configuration allows one run to use.
pub(crate) fn resource_limits(ci: &CiConfig) -> ResourceLimits {
    ResourceLimits {
        memory: ci.memory,
        milli_cpus: ci.cpus,
        pids: ci.pids,
        network: ci.network,
    }
}

pub(super) fn runner_config(
    config: &Config,
    secrets: RunSecretResolver,
    secret_names: SecretNames,
) -> RunnerConfig {
    let docker_socket = config.ci.docker_socket.clone();
    let privileges = config.ci.privileges.clone();
    RunnerConfig {
        concurrent_runs: config.ci.concurrent_runs as usize,
        parallel_jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        default_image: config.ci.image.clone(),
        run_timeout: config.ci.timeout,
        is_timeout_of_repo: false,
        limits: resource_limits(&config.ci),
        retry_orphaned: config.ci.retry_orphaned,
        keep_failed: config.ci.keep_failed,
        log_cap: config.ci.max_log,
        artifact_cap: config.ci.max_artifacts,
        addresses: forge_addresses(config),
        grants: Arc::new(move |repo, ref_name| {
            let covers = |grants: &[RunGrant]| grants.iter().any(|g| g.covers(repo, ref_name));
            RunGrants {
                docker_socket: covers(&docker_socket),
                privileges: covers(&privileges),
            }
        }),
        secrets,
        secret_names,
    }
}

/// The configured names of this forge. Without any, no URL of a submodule but a relative one is one of this forge.
fn forge_addresses(config: &Config) -> Vec<ForgeAddress> {
    let web = config.http.url.as_deref().and_then(host_of_url);
    let hosts = config.ssh.host.clone().into_iter().chain(web);
    let port = config.ssh.port;
    hosts.map(|host| ForgeAddress { host, port }).collect()
}

pub(super) fn retention(config: &Config) -> RetentionLimits {
    let keep = &config.keep;
    RetentionLimits {
        runs: keep.runs,
        days: keep.days,
        logs: keep.logs,
        artifacts: keep.artifacts,
        caches: keep.caches,
        times: keep_times(config),
        operations: keep.operations,
    }
}

/// How long removed things can be brought back.
pub(super) fn keep_times(config: &Config) -> KeepTimes {
    KeepTimes {
        trash: config.keep.trash,
        undo: config.keep.undo,
    }
}

/// When and where backups are made; `None` if no folder is configured.
pub(super) fn backup_plan(config: &Config) -> Option<BackupPlan> {
    let backup = &config.backup;
    Some(BackupPlan {
        folder: backup.to.clone()?,
        every: backup.every.max(MIN_BACKUP_INTERVAL),
        keep: backup.keep as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_pages_are_reported_if_runs_can_reach_them() {
        let reached = |auth, network, executor, listen: &str| {
            let mut config = Config::default();
            config.http.auth = auth;
            config.ci.network = network;
            config.ci.executor = executor;
            runs_reach_open_pages(&config, listen.parse().unwrap())
        };
        assert!(reached(Auth::Open, true, None, "0.0.0.0"));
        assert!(reached(Auth::Open, true, None, "192.168.1.4"));
        assert!(!reached(Auth::Ssh, true, None, "0.0.0.0"));
        assert!(!reached(Auth::Open, false, None, "0.0.0.0"));
        assert!(!reached(Auth::Open, true, None, "127.0.0.1"));
        assert!(!reached(
            Auth::Open,
            true,
            Some(ExecutorName::HOST),
            "0.0.0.0"
        ));
    }
}
