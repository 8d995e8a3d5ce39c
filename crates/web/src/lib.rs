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
//!   └── admit (session, or a stranger) ── charge (strangers) ── home, repositories, runs: each page asks what its viewer may see
//! ```

mod access;
mod allowed_hosts;
mod ansi;
mod artifacts;
mod assets;
mod client_address;
mod client_network;
mod connection_limit;
mod cookies;
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
mod places;
mod repo;
mod request_config;
mod response_format;
mod return_path;
mod robots;
mod routes;
mod run;
mod run_data;
mod run_updates;
mod run_views;
mod runs;
mod server;
mod session;
mod startup_gate;
mod state;
mod strangers;
mod stream;
mod transfer;
mod viewer;
mod visibility;
mod visit;
mod written_body;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

pub use connection_limit::TrustedProxies;
pub use error::WebError;
pub use health_checks::watch;
pub use health_registry::{CheckResult, Component, HealthRegistry, Measurement, Overall, Status};
pub use server::{ConnectionLimits, serve};
pub use startup_gate::StartupGate;
pub use state::{SignInMethod, WebConfig, WebState};
pub use strangers::{StrangerLimits, StrangerRefused, StrangerSettings};

use routes::Routes;
use state::App;
use strangers::CostClass;

/// The largest request body. No page sends one; forms carry all in their path.
const MAX_BODY_BYTES: usize = 16 << 10;

/// All routes.
pub fn router(state: WebState) -> Router {
    let app = Arc::new(App::new(state));
    // No stranger comes so far.
    let guarded = Routes::new(&app)
        .route("/events", CostClass::Free, get(stream::states))
        .route("/runs", CostClass::Free, get(runs::all))
        .route("/runs/{id}/cancel", CostClass::Free, post(run::cancel))
        .route("/runs/{id}/release", CostClass::Free, post(run::release))
        .route("/runs/{id}/retry", CostClass::Free, post(run::retry))
        .route(
            "/runs/{id}/retry-failed",
            CostClass::Free,
            post(run::retry_failed),
        )
        .route("/-/health", CostClass::Free, get(health::page))
        .route("/-/hook/{name}", CostClass::Free, get(hooks::nothing))
        .route("/logout", CostClass::Free, post(session::logout))
        .into_router()
        .layer(from_fn_with_state(app.clone(), session::guard));
    // Each of these asks what its viewer may see.
    let shown = Routes::new(&app)
        .route("/", CostClass::Light, get(home::page))
        .route("/runs/{id}", CostClass::Light, get(run::page))
        .route("/runs/{id}/events", CostClass::Light, get(stream::run))
        .route("/runs/{id}/log.txt", CostClass::Light, get(log::raw))
        .route(
            "/runs/{id}/artifacts/{*name}",
            CostClass::Light,
            get(artifacts::download),
        )
        .fallback(repo::cost, get(repo::dispatch).post(git_http::post))
        .into_router()
        .layer(from_fn_with_state(app.clone(), session::admit));
    let open = Routes::new(&app)
        .route("/healthz", CostClass::Free, get(health::healthz))
        .route("/livez", CostClass::Free, get(health::healthz))
        .route("/readyz", CostClass::Free, get(health::readyz))
        .route("/metrics", CostClass::Free, get(metrics::metrics))
        .route("/login", CostClass::Free, get(session::login_help))
        .route(
            "/login/{token}",
            CostClass::Free,
            get(session::confirm_page).post(session::sign_in),
        )
        .route("/-/visit", CostClass::Free, post(visit::press))
        .route("/assets/{name}", CostClass::Free, get(assets::serve))
        .route("/robots.txt", CostClass::Free, get(robots::text))
        .into_router();
    // No page of another site knows the secret of a webhook.
    let hooks = Routes::new(&app)
        .route("/-/hook/{name}", CostClass::Free, post(hooks::receive))
        .into_router()
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
