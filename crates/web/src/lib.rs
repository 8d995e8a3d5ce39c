//! The web: pages, live streams, health and metrics. All routes stand in [`router`].
//!
//! Pages read the store and the log files and render them; what is live follows the wake-ups of
//! [`quire_runtime::changes::ChangeNotifier`] and reads again. Nothing here starts a process or talks to Docker. What a path or
//! query names is parsed into the types of `names` before anything is looked up.
//!
//! ```text
//! response_middleware (headers, errors as pages, time limit)
//!   ├── health, metrics, assets, login        for everybody
//!   ├── incoming webhooks                     for programs that know the secret
//!   ├── guard (session) ── lists of all runs, health for people, cancel and retry
//!   └── admit (session, or a stranger) ── home, repositories, runs: each page asks what its viewer may see
//! ```

mod access;
mod allowed_hosts;
mod ansi;
mod artifacts;
mod assets;
mod client_address;
mod connection_limit;
mod credentials;
mod error;
mod frame;
mod git_http;
mod health;
mod health_checks;
mod health_registry;
mod home;
mod hooks;
mod html;
mod kept_bodies;
mod keys;
mod layout;
mod log;
mod metrics;
mod page;
mod repo;
mod request_config;
mod response_format;
mod run;
mod run_data;
mod run_updates;
mod run_views;
mod runs;
mod server;
mod session;
mod startup_gate;
mod state;
mod stream;
mod transfer;
mod viewer;
mod visibility;
mod written_body;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

pub use connection_limit::TrustedProxies;
pub use error::WebError;
pub use health_checks::watch;
pub use health_registry::{Component, HealthRegistry, Measurement, Overall, Status};
pub use server::{ConnectionLimits, serve};
pub use startup_gate::StartupGate;
pub use state::{SignInMethod, WebConfig, WebState};

use state::App;

/// The largest request body. No page sends one; forms carry all in their path.
const MAX_BODY_BYTES: usize = 16 << 10;

/// All routes.
pub fn router(state: WebState) -> Router {
    let app = Arc::new(App::new(state));
    let guarded = Router::new()
        .route("/events", get(stream::states))
        .route("/runs", get(runs::all))
        .route("/runs/{id}/cancel", post(run::cancel))
        .route("/runs/{id}/release", post(run::release))
        .route("/runs/{id}/retry", post(run::retry))
        .route("/runs/{id}/retry-failed", post(run::retry_failed))
        .route("/-/health", get(health::page))
        .route("/-/hook/{name}", get(hooks::nothing))
        .route("/logout", post(session::logout))
        .layer(from_fn_with_state(app.clone(), session::guard));
    // Each of these asks what its viewer may see.
    let shown = Router::new()
        .route("/", get(home::page))
        .route("/runs/{id}", get(run::page))
        .route("/runs/{id}/events", get(stream::run))
        .route("/runs/{id}/log.txt", get(log::raw))
        .route("/runs/{id}/artifacts/{*name}", get(artifacts::download))
        .fallback(get(repo::dispatch).post(git_http::post))
        .layer(from_fn_with_state(app.clone(), session::admit));
    let open = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/livez", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/login", get(session::login_help))
        .route(
            "/login/{token}",
            get(session::confirm_page).post(session::sign_in),
        )
        .route("/assets/{name}", get(assets::serve))
        .route("/robots.txt", get(assets::robots));
    // No page of another site knows the secret of a webhook.
    let hooks = Router::new()
        .route("/-/hook/{name}", post(hooks::receive))
        .layer(DefaultBodyLimit::max(hooks::MAX_BODY_BYTES));
    guarded
        .merge(shown)
        .merge(open)
        .layer(from_fn_with_state(app.clone(), session::same_origin_only))
        .merge(hooks)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(app.clone(), page::response_middleware))
        .with_state(app)
}
