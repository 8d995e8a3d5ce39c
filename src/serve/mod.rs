//! `quire serve`: creates the parts of the server, starts them in order, and stops them in order.
//!
//! Start: configuration, the address of the web server (which answers `starting` from here on),
//! database (copied and migrated if necessary), interrupted renames, sockets, pages; then, side by
//! side, the intake (records the spool, compares refs, listens) and the runner (reconciles, then
//! claims). TERM: the web server ends its streams, the runner ends its runs, and the intake finishes
//! the events that it has begun.

mod bind;
mod certificate_health;
mod error;
mod executors;
mod first_doctor;
mod health_findings;
mod health_probes;
mod hooks_settings;
mod known_secrets;
mod mirror_settings;
mod notify_settings;
mod outside;
mod program_file;
mod reload;
mod runtime_files;
mod secret_sources;
mod server;
mod signals;
mod wiring;

use std::time::Duration;

use quire_runtime::malloc;
use quire_types::memory_protection::protect_memory;
use quire_types::paths::Paths;

pub use error::ServeError;
use error::system;
use server::Server;
pub(crate) use wiring::resource_limits;

/// How long blocking calls of the web server may continue after the end.
const WEB_SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);
/// How long other blocking calls may continue after the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs the server until TERM or INT.
///
/// # Errors
/// The server cannot start, or a part of it has panicked.
pub fn run(paths: &Paths) -> Result<(), ServeError> {
    protect_memory().map_err(|error| system("forbid to be traced")(error.into()))?;
    malloc::limit_arenas();
    wiring::init_tracing();
    let config = reload::load_at_start(paths)?;
    let runtime = runtime("work")?;
    let web_runtime = self::runtime("web")?;
    let result = runtime.block_on(async {
        Server::start(paths, &config, web_runtime.handle())
            .await?
            .run()
            .await
    });
    // A blocking call that hangs (on a disk or an engine) must not keep the process alive.
    web_runtime.shutdown_timeout(WEB_SHUTDOWN_TIMEOUT);
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

/// The web server has threads of its own. The threads for the work write logs, and hang with a disk
/// that hangs; health must be answered all the same.
fn runtime(name: &str) -> Result<tokio::runtime::Runtime, ServeError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(1 << 20)
        .thread_name(name)
        .build()
        .map_err(system("start threads"))
}
