//! The responses that report health: to programs in JSON, to signed-in users as a page.
//!
//! The addresses that are open to everyone name no repository.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::error::WebError;
use super::health_registry::{CheckResult, HealthRegistry, Overall, Status, overall};
use super::html as pieces;
use super::layout::{Layout, html};
use super::response_format::ResponseFormat;
use super::state::SharedApp;
use super::viewer::Viewer;
use quire_types::text::format_elapsed;

fn no_store(response: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], response).into_response()
}

/// `GET /healthz`, `GET /livez`: all there is to know, 503 only when the appliance is down.
pub(super) async fn healthz(axum::extract::State(app): SharedApp) -> Response {
    live(&app.web.health)
}

fn live(registry: &HealthRegistry) -> Response {
    let readings = registry.readings();
    let overall = overall(&readings);
    let parts: serde_json::Map<_, _> = readings
        .iter()
        .map(|r| (r.part.as_str().to_owned(), json!(r)))
        .collect();
    let status = if overall == Overall::Down {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let body = json!({
        "status": overall,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": registry.uptime().as_secs(),
        "parts": parts,
    });
    no_store((status, Json(body)))
}

/// `GET /readyz`: 200 when pushes lead to runs, else 503 and why not.
pub(super) async fn readyz(axum::extract::State(app): SharedApp) -> Response {
    ready(&app.web.health)
}

fn ready(registry: &HealthRegistry) -> Response {
    let reasons = registry.not_ready_reasons();
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    no_store((
        status,
        Json(json!({ "ready": reasons.is_empty(), "reasons": reasons })),
    ))
}

/// What is answered while the database is opened and migrated: health, and a word for everybody else.
pub(super) fn starting_response(registry: &HealthRegistry, path: &str) -> Response {
    match path {
        "/healthz" | "/livez" => live(registry),
        "/readyz" => ready(registry),
        _ => {
            let again = [(header::RETRY_AFTER, "1")];
            no_store((
                StatusCode::SERVICE_UNAVAILABLE,
                again,
                "quire is starting; try again in a moment\n",
            ))
        }
    }
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    layout: Layout,
    overall: Overall,
    uptime: String,
    readings: Vec<CheckResult>,
}

impl HealthPage {
    fn sign(status: Status) -> String {
        pieces::step_sign(match status {
            Status::Ok => "complete",
            Status::Degraded => "pending",
            Status::Down => "failed",
        })
    }

    fn age(reading: &CheckResult) -> String {
        format_elapsed(reading.age_ms / 1000 * 1000)
    }
}

/// `GET /-/health`: the same for people.
pub(super) async fn page(
    axum::extract::State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    format: ResponseFormat,
) -> Result<Response, WebError> {
    if format == ResponseFormat::Json {
        return Ok(healthz(axum::extract::State(app)).await);
    }
    let registry = &app.web.health;
    let readings = registry.readings();
    let uptime = format_elapsed(u64::try_from(registry.uptime().as_millis()).unwrap_or(u64::MAX));
    html(&HealthPage {
        layout: Layout::new(&app, Some(&viewer), "Health"),
        overall: overall(&readings),
        uptime,
        readings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health_registry::{Component, Measurement};
    use quire_server::part_problem::PartProblem;
    use quire_types::clock::Millis;

    #[test]
    fn page_of_a_degraded_appliance() {
        let result = |component, status, message: &str| CheckResult {
            part: component,
            status,
            message: message.to_owned(),
            figure: Some(Measurement {
                what: "ms",
                value: 3,
            }),
            details: vec![PartProblem::new("app", "git gc of app failed")],
            is_stale: false,
            checked_at_ms: Millis(0),
            age_ms: 4_200,
        };
        let page = HealthPage {
            layout: Layout::sample("Health"),
            overall: Overall::Degraded,
            uptime: "3 min 20 s".to_owned(),
            readings: vec![
                result(Component::Database, Status::Ok, "readable and writable"),
                result(Component::Docker, Status::Down, "no answer for 3 s"),
            ],
        };
        insta::assert_snapshot!(page.render().unwrap());
    }
}
