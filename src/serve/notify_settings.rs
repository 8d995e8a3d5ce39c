//! From `:notify` of the configuration to the settings of notifications.

use std::sync::Arc;

use quire_config::{Config, ConfigEntry, NotifyService, TargetSettings, UrlSource};
use quire_server::notify::{
    CommitStatusTarget, EmailTarget, GitNotesTarget, GithubPushTarget, GotifyTarget, MatrixTarget,
    NotifySettings, NtfyTarget, RepoFilter, RunSelection, SlackTarget, TargetConfig, TargetService,
    UrlReader, WebhookTarget,
};
use quire_server::secrets::StoredSecrets;
use quire_types::names::{RefName, RepoName};

use super::known_secrets::{known_secrets_redactor, reader};
use super::wiring::{base_url, web_config};

pub(super) fn notify_settings(config: &Config, stored: &StoredSecrets) -> NotifySettings {
    let targets = config.notify.targets.iter();
    let web = web_config(config);
    NotifySettings {
        clone_url: Arc::new(move |repo| web.clone_url(repo)),
        targets: targets
            .map(|(name, target)| (name.clone(), target_config(target)))
            .collect(),
        allowed_networks: config.notify.allowed_networks.clone(),
        give_up_after: config.notify.give_up_after,
        health_after: config.notify.health_after,
        url: base_url(config),
        redactor: known_secrets_redactor(config, stored),
    }
}

fn target_config(target: &ConfigEntry<TargetSettings>) -> TargetConfig {
    TargetConfig {
        location: target.location.clone(),
        settings: target
            .settings
            .as_ref()
            .map(|settings| (selection(settings), service(&settings.service)))
            .map_err(Clone::clone),
    }
}

fn selection(settings: &TargetSettings) -> RunSelection {
    let runs = settings.runs.clone();
    RunSelection {
        on: settings.on.clone(),
        covers: Arc::new(move |repo: &RepoName, ref_name: &RefName| {
            runs.as_ref()
                .is_none_or(|grants| grants.iter().any(|grant| grant.covers(repo, ref_name)))
        }),
        triggers: settings.triggers.clone(),
        cron_failures: settings.cron_failures,
        cron_changes: settings.cron_changes,
        of_pushes: matches!(settings.service, NotifyService::GithubPush { .. }),
        health: settings.health,
        chosen_by: settings
            .service
            .takes_messages()
            .then(|| repo_filter(settings)),
    }
}

/// The repositories of whose runs a target is told, at least at some refs.
fn repo_filter(settings: &TargetSettings) -> RepoFilter {
    let runs = settings.runs.clone();
    Arc::new(move |repo: &RepoName| {
        runs.as_ref()
            .is_none_or(|grants| grants.iter().any(|grant| grant.covers_some_of(repo)))
    })
}

fn service(service: &NotifyService) -> TargetService {
    match service {
        NotifyService::Webhook { url, key } => TargetService::Webhook(WebhookTarget {
            url: url_reader(url),
            key: key.as_ref().map(|source| reader("key", source)),
        }),
        NotifyService::Ntfy { url, token } => TargetService::Ntfy(NtfyTarget {
            url: url_reader(url),
            token: token.as_ref().map(|source| reader("token", source)),
        }),
        NotifyService::Gotify { url, token } => TargetService::Gotify(GotifyTarget {
            url: url.clone(),
            token: reader("token", token),
        }),
        NotifyService::Slack { url } => TargetService::Slack(SlackTarget {
            url: url_reader(url),
        }),
        NotifyService::Matrix { url, room, token } => TargetService::Matrix(MatrixTarget {
            url: url.clone(),
            room: room.clone(),
            token: reader("token", token),
        }),
        NotifyService::CommitStatus {
            service,
            url,
            repo,
            token,
        } => TargetService::CommitStatus(CommitStatusTarget {
            service: *service,
            url: url.clone(),
            repo: repo.clone(),
            token: reader("token", token),
        }),
        NotifyService::GithubPush { url, key } => TargetService::GithubPush(GithubPushTarget {
            url: url_reader(url),
            key: key.as_ref().map(|source| reader("key", source)),
        }),
        NotifyService::GitNotes => TargetService::GitNotes(GitNotesTarget),
        NotifyService::Email {
            to,
            from,
            smtp,
            starttls,
            login,
        } => TargetService::Email(EmailTarget {
            to: to.clone(),
            from: from.clone(),
            smtp: smtp.clone(),
            starttls: *starttls,
            login: login
                .as_ref()
                .map(|login| (login.user.clone(), reader("password", &login.password))),
        }),
    }
}

fn url_reader(url: &UrlSource) -> UrlReader {
    match url {
        UrlSource::Plain(url) => UrlReader::Plain(url.clone()),
        UrlSource::Secret(source) => UrlReader::Secret(reader("url", source)),
    }
}
