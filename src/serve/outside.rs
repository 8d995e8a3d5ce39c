//! The parts that exchange messages with other machines: notifications, mirrors and incoming webhooks.

use std::sync::Arc;

use quire_git::Git;
use quire_runtime::changes::ChangeNotifier;
use quire_server::findings::Findings;
use quire_server::forge::{Forge, Notifier};
use quire_server::hooks::{Hooks, HooksDeps};
use quire_server::intake::Intake;
use quire_server::metrics::Metrics;
use quire_server::mirror::{MirrorDeps, MirrorService};
use quire_server::notify::{Notifications, NotifyDeps};
use quire_server::queue::Queue;
use quire_server::repo_settings::{RepoSettingsReader, SettingsWatch, SettingsWatchDeps};
use quire_store::Store;
use quire_types::paths::Paths;

use super::reload::ConfigReload;

#[derive(Clone)]
pub(super) struct OutsideParts {
    pub(super) notifications: Notifications,
    pub(super) mirrors: MirrorService,
    pub(super) hooks: Hooks,
    pub(super) repo_settings: RepoSettingsReader,
    pub(super) settings_watch: SettingsWatch,
}

impl OutsideParts {
    pub(super) fn new(
        paths: &Paths,
        (store, queue, live): (&Store, &Queue, &ChangeNotifier),
        intake: &Intake,
        reload: &ConfigReload,
        (metrics, findings): (&Arc<Metrics>, &Findings),
    ) -> Self {
        let repo_settings = RepoSettingsReader::new(paths.clone());
        let settings_watch = SettingsWatch::new(SettingsWatchDeps {
            git: Git::new(paths),
            changes: live.clone(),
            findings: findings.clone(),
            reader: repo_settings.clone(),
            notify: reload.notify_settings(),
            runner: reload.runner_config(),
            mirrors: reload.mirror_settings(),
        });
        let notifier = Notifier::Server {
            queue: queue.clone(),
            changes: live.clone(),
        };
        Self {
            notifications: Notifications::new(NotifyDeps {
                store: store.clone(),
                paths: paths.clone(),
                git: Git::new(paths),
                changes: live.clone(),
                settings: reload.notify_settings(),
                metrics: metrics.clone(),
                repo_settings: repo_settings.clone(),
            }),
            mirrors: MirrorService::new(MirrorDeps {
                store: store.clone(),
                paths: paths.clone(),
                changes: live.clone(),
                intake: intake.clone(),
                settings: settings_watch.mirror_settings(),
                metrics: metrics.clone(),
            }),
            hooks: Hooks::new(HooksDeps {
                forge: Forge::in_server(paths.clone(), store.clone(), notifier),
                settings: reload.hooks_settings(),
                metrics: metrics.clone(),
            }),
            repo_settings,
            settings_watch,
        }
    }
}
