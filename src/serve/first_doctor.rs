//! The check of everything, as the server does it by itself after the first start of a volume.

use std::sync::Arc;
use std::time::Duration;

use quire_executor::Executor;
use quire_server::doctor::DoctorDeps;
use quire_store::Store;
use quire_types::base_url::BaseUrl;
use quire_types::paths::Paths;

use super::outside::OutsideParts;
use super::reload::ConfigReload;
use super::wiring::variable;

/// By then sshd answers, keys are mounted, and the engine of a machine that has just started is there.
const DELAY: Duration = Duration::from_secs(30);

/// How long after the start the check is done: `QUIRE_DOCTOR_AFTER` in seconds.
pub(super) fn delay() -> Duration {
    let seconds = variable("QUIRE_DOCTOR_AFTER").and_then(|text| text.parse().ok());
    seconds.map_or(DELAY, Duration::from_secs)
}

pub(super) fn deps(
    (paths, store, url): (&Paths, &Store, &BaseUrl),
    executors: &[Arc<dyn Executor>],
    reload: &ConfigReload,
    outside: &OutsideParts,
) -> DoctorDeps {
    DoctorDeps {
        paths: paths.clone(),
        store: store.clone(),
        executor: executors.first().cloned(),
        config: reload.runner_config(),
        url: url.clone(),
        notifications: outside.notifications.clone(),
    }
}
