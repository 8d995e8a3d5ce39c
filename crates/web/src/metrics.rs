//! `GET /metrics`: figures as OpenMetrics text, for everybody, without a repository's name.

use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::health_registry::{Component, Status};
use super::state::{App, SharedApp};
use quire_server::metrics::{BUCKETS, Histogram, Metrics};
use quire_store::{RunCounts, Store};
use quire_types::disk_space::free_bytes;
use quire_types::init_status::InitStatus;
use quire_types::paths::Paths;

/// How long a source of figures may take; what is late is left out.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes metric families in order, each with its type and help line.
#[derive(Default)]
struct OpenMetricsWriter(String);

impl OpenMetricsWriter {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let safe = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(
                self.0,
                "{}{label}=\"{safe}\"",
                if i == 0 { "{" } else { "," }
            );
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.family(name, "counter", help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let counted = histogram.cumulative();
        let bounds = BUCKETS
            .iter()
            .map(ToString::to_string)
            .chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(counted) {
            self.sample(&format!("{name}_bucket"), &[("le", &bound)], count);
        }
        self.sample(&format!("{name}_sum"), &[], histogram.sum());
        self.sample(&format!("{name}_count"), &[], counted[BUCKETS.len()]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(app): SharedApp) -> Response {
    let mut text = OpenMetricsWriter::default();
    process_metrics(&mut text, &app);
    counters(&mut text, &app.web.metrics);
    let counted = app
        .web
        .store
        .call(|s: &Store| Ok((s.runs().counts()?, s.database_bytes())));
    if let Ok(Ok((counts, bytes))) = tokio::time::timeout(SOURCE_TIMEOUT, counted).await {
        runs(&mut text, &counts, app.web.clock.now());
        text.gauge("quire_database_bytes", "Size of the database.", bytes);
    }
    let paths = app.web.paths.clone();
    let asked = tokio::task::spawn_blocking(move || files(&paths));
    if let Ok(Ok(more)) = tokio::time::timeout(SOURCE_TIMEOUT, asked).await {
        text.0.push_str(&more.0);
    }
    text.0.push_str("# EOF\n");
    let headers = [
        (
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text.0).into_response()
}

fn process_metrics(text: &mut OpenMetricsWriter, app: &App) {
    text.family("quire_build", "info", "Which quire this is.");
    text.sample(
        "quire_build_info",
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("revision", app.web.commit),
        ],
        1,
    );
    text.gauge(
        "quire_uptime_seconds",
        "Time since serve started.",
        app.web.health.uptime().as_secs(),
    );
    text.gauge(
        "quire_sse_clients",
        "Live streams being followed.",
        app.follower_count(),
    );
    text.family(
        "quire_part_health",
        "gauge",
        "Health of a part: 2 ok, 1 degraded, 0 down.",
    );
    let readings = app.web.health.readings();
    for reading in &readings {
        let value = match reading.status {
            Status::Ok => 2,
            Status::Degraded => 1,
            Status::Down => 0,
        };
        text.sample(
            "quire_part_health",
            &[("part", reading.part.as_str())],
            value,
        );
    }
    for (part, name, help) in [
        (
            Component::Maintenance,
            "quire_maintenance_problems",
            "Repositories that git could not pack, and things that could not be removed.",
        ),
        (
            Component::Schedules,
            "quire_schedules_unread",
            "Repositories whose schedules are those of an older commit.",
        ),
        (
            Component::Repositories,
            "quire_repositories_unreadable",
            "Problems with repositories that cannot be read.",
        ),
        (
            Component::Notifications,
            "quire_notification_targets_failing",
            "Targets of notifications that fail.",
        ),
        (
            Component::Mirrors,
            "quire_mirrors_failing",
            "Mirrors that fail for a while, or that need their owner.",
        ),
    ] {
        if let Some(figure) = app
            .web
            .health
            .readings()
            .into_iter()
            .find(|reading| reading.part == part)
            .and_then(|reading| reading.figure)
        {
            text.gauge(name, help, figure.value);
        }
    }
}

/// What was counted since the start.
fn counters(text: &mut OpenMetricsWriter, metrics: &Metrics) {
    text.histogram(
        "quire_run_duration_seconds",
        "From a run's start to its end.",
        &metrics.run,
    );
    text.histogram(
        "quire_job_duration_seconds",
        "From a job's start to its end.",
        &metrics.job,
    );
    text.histogram(
        "quire_run_wait_seconds",
        "What runs waited in the queue.",
        &metrics.wait,
    );
    text.counter(
        "quire_pushes",
        "Push events taken.",
        metrics.pushes.load(Ordering::Relaxed),
    );
    text.counter(
        "quire_log_bytes",
        "Bytes written to the logs of runs.",
        metrics.log_bytes.load(Ordering::Relaxed),
    );
    outside_counters(text, metrics);
    text.family(
        "quire_stranger_requests_refused",
        "counter",
        "Requests of clients that are not signed in that were not served, by the limit that they had reached.",
    );
    for (limit, count) in [
        ("client", &metrics.strangers_refused_client),
        ("processor", &metrics.strangers_refused_processor),
        ("places", &metrics.strangers_refused_busy),
    ] {
        let count = count.load(Ordering::Relaxed);
        let name = "quire_stranger_requests_refused_total";
        text.sample(name, &[("limit", limit)], count);
    }
    text.family(
        "quire_kept_bytes",
        "gauge",
        "Space that removed things take, by kind, as housekeeping measured it last.",
    );
    for (kind, bytes) in [
        ("trash", &metrics.trash_bytes),
        ("undo", &metrics.undo_bytes),
    ] {
        let bytes = bytes.load(Ordering::Relaxed);
        text.sample("quire_kept_bytes", &[("kind", kind)], bytes);
    }
    let engine = Duration::from_micros(metrics.engine_micros.load(Ordering::Relaxed));
    if !engine.is_zero() {
        text.gauge(
            "quire_engine_latency_seconds",
            "What the engine took to answer last.",
            engine.as_secs_f64(),
        );
    }
}

/// What was exchanged with other machines since the start.
fn outside_counters(text: &mut OpenMetricsWriter, metrics: &Metrics) {
    for (name, help, count) in [
        (
            "quire_notifications_delivered",
            "Notifications that a receiver confirmed.",
            &metrics.notifications_delivered,
        ),
        (
            "quire_notification_failures",
            "Attempts to deliver a notification that failed.",
            &metrics.notification_failures,
        ),
        (
            "quire_notifications_given_up",
            "Notifications that are not attempted any more.",
            &metrics.notifications_given_up,
        ),
        (
            "quire_hooks_accepted",
            "Requests to incoming webhooks that were accepted.",
            &metrics.hooks_accepted,
        ),
        (
            "quire_hooks_refused",
            "Requests to incoming webhooks that were not accepted.",
            &metrics.hooks_refused,
        ),
        (
            "quire_mirror_syncs",
            "Attempts that found or made a remote of a mirror equal.",
            &metrics.mirror_syncs,
        ),
        (
            "quire_mirror_failures",
            "Attempts to make a remote of a mirror equal that failed.",
            &metrics.mirror_failures,
        ),
    ] {
        text.counter(name, help, count.load(Ordering::Relaxed));
    }
}

fn runs(text: &mut OpenMetricsWriter, counts: &RunCounts, now: quire_types::clock::Millis) {
    text.family(
        "quire_runs",
        "gauge",
        "Recorded runs by state and kind of failure.",
    );
    text.sample("quire_runs", &[("state", "pending")], counts.pending);
    text.sample("quire_runs", &[("state", "active")], counts.active);
    for (state, kind, count) in &counts.by_outcome {
        match kind {
            Some(kind) => text.sample(
                "quire_runs",
                &[("state", state.as_str()), ("failure_kind", kind.as_str())],
                count,
            ),
            None => text.sample("quire_runs", &[("state", state.as_str())], count),
        }
    }
    text.gauge("quire_queue_depth", "Runs that wait.", counts.pending);
    let waited = counts.oldest_pending_ms.map_or(0, |at| now.since(at));
    text.gauge(
        "quire_queue_oldest_wait_seconds",
        "How long the oldest of them has waited.",
        waited as f64 / 1000.0,
    );
    text.gauge("quire_events", "Recorded push events.", counts.events);
}

fn files(paths: &Paths) -> OpenMetricsWriter {
    let mut text = OpenMetricsWriter::default();
    if let Ok(free) = free_bytes(paths.data()) {
        text.gauge(
            "quire_disk_free_bytes",
            "Free space of the data volume.",
            free,
        );
    }
    if let Ok(Some(status)) = InitStatus::read(&paths.init_status()) {
        text.family(
            "quire_child_restarts",
            "counter",
            "Restarts by quire init since boot.",
        );
        for name in ["sshd", "serve"] {
            if let Some(child) = status.children.get(name) {
                text.sample(
                    "quire_child_restarts_total",
                    &[("child", name)],
                    child.restarts,
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::clock::Millis;
    use quire_types::run::{FailureKind, RunState};

    #[test]
    fn samples_are_written_as_openmetrics_has_them() {
        let mut text = OpenMetricsWriter::default();
        text.sample("a", &[("x", "1\"\\\n"), ("y", "2")], 1.5);
        assert_eq!(text.0, "a{x=\"1\\\"\\\\\\n\",y=\"2\"} 1.5\n");
        let counts = RunCounts {
            pending: 1,
            active: 2,
            by_outcome: vec![
                (RunState::Complete, None, 3),
                (RunState::Failed, Some(FailureKind::Job), 4),
            ],
            oldest_pending_ms: Some(Millis(500)),
            events: 9,
        };
        let mut text = OpenMetricsWriter::default();
        runs(&mut text, &counts, Millis(2000));
        for line in [
            "quire_runs{state=\"complete\"} 3",
            "quire_runs{state=\"failed\",failure_kind=\"job\"} 4",
            "quire_queue_oldest_wait_seconds 1.5",
            "quire_events 9",
        ] {
            assert!(text.0.lines().any(|l| l == line), "{line} in {}", text.0);
        }
    }
}
