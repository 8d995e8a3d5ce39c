//! The configuration: loaded at the start, and again after a HUP.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch::{self, Receiver, Sender};

use quire_config::{Config, ConfigError, LoadedConfig, SettingChange, SettingsInForce};
use quire_pipeline::Diagnostic;
use quire_server::backup::BackupPlan;
use quire_server::control::protocol::{ReloadReport, ReloadedSetting};
use quire_server::hooks::HooksSettings;
use quire_server::housekeeping::RetentionLimits;
use quire_server::intake::IntakeSettings;
use quire_server::mirror::MirrorSettings;
use quire_server::notify::NotifySettings;
use quire_server::part_problem::PartProblem;
use quire_server::runner::RunnerConfig;
use quire_server::secrets::StoredSecrets;
use quire_types::landing::LandingMethod;
use quire_types::paths::Paths;
use quire_web::{Component, HealthRegistry, Status};

use super::hooks_settings::hooks_settings;
use super::mirror_settings::mirror_settings;
use super::notify_settings::notify_settings;
use super::{runtime_files, secret_sources, wiring};
use quire_types::error_chain::with_sources;

/// How many keys without effect the health page names.
const MAX_NAMED_WARNINGS: usize = 10;

/// The configuration at a start.
pub(super) struct StartConfig {
    pub(super) loaded: LoadedConfig,
    /// Why the file does not load, if the last one that did is in force in its place.
    pub(super) replaced: Option<ConfigError>,
}

/// Loads the configuration at a start. If the file is wrong, the last one that loaded is in force.
pub(super) fn load_at_start(paths: &Paths) -> Result<StartConfig, ConfigError> {
    let error = match load(paths) {
        Ok(loaded) => {
            keep(&loaded, &SettingsInForce::from(&loaded), paths);
            return Ok(StartConfig {
                loaded,
                replaced: None,
            });
        }
        Err(error) => error,
    };
    // A wrong variable of the environment is refused by the copy as well.
    match Config::load_last_good(paths, wiring::variable) {
        Ok(Some(loaded)) => {
            note_in_force(&SettingsInForce::from(&loaded), paths);
            log_error(
                &error,
                "the configuration does not load; the last one that loaded is in force",
            );
            Ok(StartConfig {
                loaded,
                replaced: Some(error),
            })
        }
        Ok(None) | Err(_) => Err(error),
    }
}

fn keep(loaded: &LoadedConfig, settings: &SettingsInForce, paths: &Paths) {
    note_in_force(settings, paths);
    if let Err(error) = loaded.keep_as_last_good(paths) {
        tracing::error!(%error, "cannot keep a copy of the configuration");
    }
}

fn note_in_force(settings: &SettingsInForce, paths: &Paths) {
    if let Err(error) = settings.write(paths) {
        tracing::error!(%error, "cannot note the settings that are in force");
    }
}

fn log_error(error: &ConfigError, message: &str) {
    tracing::error!(error = with_sources(error), "{message}");
    for diagnostic in error.diagnostics() {
        tracing::error!(
            hint = diagnostic.hint.as_deref().unwrap_or_default(),
            "configuration: {diagnostic}"
        );
    }
}

/// Sets the health of the configuration at a start.
pub(super) fn report_start(health: &HealthRegistry, start: &StartConfig) {
    match &start.replaced {
        None => report_loaded(health, &start.loaded),
        Some(error) => health.set_with_details(
            Component::Config,
            Status::Degraded,
            "the configuration does not load; the last one that loaded is in force",
            None,
            vec![PartProblem::of_part(error.to_string())],
        ),
    }
}

/// Sets the health of a configuration that was loaded. Keys that are not known are named.
fn report_loaded(health: &HealthRegistry, loaded: &LoadedConfig) {
    let mut message = wiring::config_message(&loaded.config);
    match loaded.warnings.len() {
        0 => {}
        1 => message += "; a key has no effect",
        count => message += &format!("; {count} keys have no effect"),
    }
    let named = loaded.warnings.iter().take(MAX_NAMED_WARNINGS);
    let details = named.map(|warning| match &warning.hint {
        Some(hint) => PartProblem::of_part(format!("{warning}; {hint}")),
        None => PartProblem::of_part(warning.to_string()),
    });
    health.set_with_details(
        Component::Config,
        Status::Ok,
        message,
        None,
        details.collect(),
    );
}

fn load(paths: &Paths) -> Result<LoadedConfig, ConfigError> {
    let loaded = Config::load(paths, wiring::variable)?;
    for warning in &loaded.warnings {
        tracing::warn!(
            hint = warning.hint.as_deref().unwrap_or_default(),
            "configuration: {warning}"
        );
    }
    Ok(loaded)
}

/// Passes a changed configuration on to the parts that can use it while they run.
pub(super) struct ConfigReload {
    paths: Paths,
    health: HealthRegistry,
    runner: Sender<Arc<RunnerConfig>>,
    retention: Sender<RetentionLimits>,
    max_runs_per_push: Sender<usize>,
    landing: Sender<LandingMethod>,
    backup: Sender<Option<BackupPlan>>,
    notify: Sender<Arc<NotifySettings>>,
    mirrors: Sender<Arc<MirrorSettings>>,
    hooks: Sender<Arc<HooksSettings>>,
    stored: StoredSecrets,
    /// The settings at the start.
    started: SettingsInForce,
    /// The settings since the last reload. One reload at a time changes them.
    in_force: Mutex<SettingsInForce>,
}

impl ConfigReload {
    pub(super) fn new(
        paths: &Paths,
        loaded: &LoadedConfig,
        health: &HealthRegistry,
        stored: StoredSecrets,
    ) -> Self {
        let config = &loaded.config;
        let started = SettingsInForce::from(loaded);
        Self {
            paths: paths.clone(),
            health: health.clone(),
            runner: watch::Sender::new(Arc::new(runner_config(config, &stored))),
            retention: watch::Sender::new(wiring::retention(config)),
            max_runs_per_push: watch::Sender::new(config.ci.max_runs_per_push as usize),
            landing: watch::Sender::new(config.ci.land),
            backup: watch::Sender::new(wiring::backup_plan(config)),
            notify: watch::Sender::new(Arc::new(notify_settings(config, &stored))),
            mirrors: watch::Sender::new(Arc::new(mirror_settings(config, &stored))),
            hooks: watch::Sender::new(Arc::new(hooks_settings(config))),
            stored,
            in_force: Mutex::new(started.clone()),
            started,
        }
    }

    pub(super) fn runner_config(&self) -> Receiver<Arc<RunnerConfig>> {
        self.runner.subscribe()
    }

    pub(super) fn retention(&self) -> Receiver<RetentionLimits> {
        self.retention.subscribe()
    }

    pub(super) fn intake_settings(&self) -> IntakeSettings {
        IntakeSettings {
            max_runs: self.max_runs_per_push.subscribe(),
            landing: self.landing.subscribe(),
            retention: self.retention(),
        }
    }

    pub(super) fn backup_plan(&self) -> Receiver<Option<BackupPlan>> {
        self.backup.subscribe()
    }

    pub(super) fn notify_settings(&self) -> Receiver<Arc<NotifySettings>> {
        self.notify.subscribe()
    }

    pub(super) fn mirror_settings(&self) -> Receiver<Arc<MirrorSettings>> {
        self.mirrors.subscribe()
    }

    pub(super) fn hooks_settings(&self) -> Receiver<Arc<HooksSettings>> {
        self.hooks.subscribe()
    }

    /// Loads the configuration again. If it does not load, the previous one stays in force.
    pub(super) fn reload(&self) -> ReloadReport {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        match load(&self.paths) {
            Ok(loaded) => {
                let new = self.started.reloaded(&loaded);
                let changed = in_force.changes(&new);
                self.apply(&loaded, &new);
                *in_force = new;
                ReloadReport {
                    is_loaded: true,
                    changed: changed.into_iter().map(reloaded_setting).collect(),
                    problems: loaded.warnings.iter().map(Diagnostic::one_line).collect(),
                }
            }
            Err(error) => {
                self.report(&error);
                let diagnostics = error.diagnostics().iter().map(Diagnostic::one_line);
                let mut problems: Vec<String> = diagnostics.collect();
                if problems.is_empty() {
                    problems.push(with_sources(&error).to_string());
                }
                ReloadReport {
                    problems,
                    ..ReloadReport::default()
                }
            }
        }
    }

    fn apply(&self, loaded: &LoadedConfig, settings: &SettingsInForce) {
        let config = &loaded.config;
        keep(loaded, settings, &self.paths);
        if let Err(error) = runtime_files::write_push_limits(&self.paths, config) {
            tracing::error!(%error, "cannot write the limits of pushes");
        }
        self.retention.send_replace(wiring::retention(config));
        self.max_runs_per_push
            .send_replace(config.ci.max_runs_per_push as usize);
        self.landing.send_replace(config.ci.land);
        self.backup.send_replace(wiring::backup_plan(config));
        self.runner
            .send_replace(Arc::new(runner_config(config, &self.stored)));
        self.notify
            .send_replace(Arc::new(notify_settings(config, &self.stored)));
        self.mirrors
            .send_replace(Arc::new(mirror_settings(config, &self.stored)));
        self.hooks.send_replace(Arc::new(hooks_settings(config)));
        report_loaded(&self.health, loaded);
        wiring::warn_about_open_pages(config);
        let pending = settings.settings.iter().filter(|one| one.pending.is_some());
        let pending: Vec<&str> = pending.map(|one| one.setting.as_str()).collect();
        match pending.is_empty() {
            true => tracing::info!("configuration reloaded"),
            false => tracing::info!(
                "configuration reloaded; changes of {} take effect after a restart",
                pending.join(", ")
            ),
        }
    }

    fn report(&self, error: &ConfigError) {
        self.health.set(
            Component::Config,
            Status::Degraded,
            "the changed configuration does not load; the previous one stays in force; the log says why",
            None,
        );
        log_error(
            error,
            "the configuration does not load; the previous one stays in force",
        );
    }
}

fn runner_config(config: &Config, stored: &StoredSecrets) -> RunnerConfig {
    let secrets = secret_sources::resolver(config, stored);
    let names = secret_sources::names_of_repo(config, stored);
    wiring::runner_config(config, secrets, names)
}

fn reloaded_setting(change: SettingChange) -> ReloadedSetting {
    let SettingChange {
        setting,
        before,
        after,
        needs_restart,
    } = change;
    ReloadedSetting {
        setting,
        before,
        after,
        needs_restart,
    }
}
