//! The entries of the configuration whose names are chosen by the owner, for display: targets of notifications, mirrors and incoming
//! webhooks. Of a secret it shows where its value is.

use super::entry::ConfigEntry;
use super::hooks::HookConfig;
use super::mirrors::MirrorRemote;
use super::notify::{NotifyService, TargetSettings, UrlSource};
use super::sections::Config;
use super::settings::{HOOKS, MIRROR_REPOS, NOTIFY_TARGETS};
use quire_types::mail_address::MailAddress;

/// Path and value of each entry.
pub(super) fn shown_entries(config: &Config) -> Vec<(String, String)> {
    let targets = config.notify.targets.iter().map(|(name, entry)| {
        let path = format!("{}.{}.{name}", NOTIFY_TARGETS.0, NOTIFY_TARGETS.1);
        (path, shown(entry, target))
    });
    let of_repos = config.mirrors.repos.iter();
    let mirrors = of_repos.flat_map(|(repo, mirrors)| {
        mirrors.iter().map(move |(name, entry)| {
            let path = format!("{}.{}.{repo}.{name}", MIRROR_REPOS.0, MIRROR_REPOS.1);
            (path, shown(entry, mirror))
        })
    });
    let hooks = config.hooks.iter();
    let hooks = hooks.map(|(name, entry)| (format!("{HOOKS}.{name}"), shown(entry, hook)));
    targets.chain(mirrors).chain(hooks).collect()
}

fn shown<T>(entry: &ConfigEntry<T>, show: fn(&T) -> String) -> String {
    match &entry.settings {
        Ok(settings) => show(settings),
        Err(problem) => format!("has no effect: {problem}"),
    }
}

fn target(settings: &TargetSettings) -> String {
    match &settings.service {
        NotifyService::Webhook { url, .. } => format!("webhook {}", from(url)),
        NotifyService::Ntfy { url, .. } => format!("ntfy {}", from(url)),
        NotifyService::Gotify { url, .. } => format!("gotify {}", url.origin()),
        NotifyService::Slack { url } => format!("slack {}", from(url)),
        NotifyService::Matrix { url, room, .. } => format!("matrix {}, room {room}", url.origin()),
        NotifyService::GithubPush { url, .. } => format!("pushes to {}", from(url)),
        NotifyService::GitNotes => "notes of commits in refs/notes/ci".to_owned(),
        NotifyService::CommitStatus {
            service, url, repo, ..
        } => format!("states of commits of {repo} at {service}, {}", url.origin()),
        NotifyService::Email { to, smtp, .. } => {
            let to: Vec<String> = to.iter().map(MailAddress::to_string).collect();
            format!("mail to {} by {smtp}", to.join(", "))
        }
    }
}

fn mirror(settings: &MirrorRemote) -> String {
    settings.url.to_string()
}

fn hook(settings: &HookConfig) -> String {
    let secret = &settings.secret;
    match &settings.ref_name {
        Some(ref_name) => format!("starts {} at {ref_name}, secret {secret}", settings.repo),
        None => format!("starts {}, secret {secret}", settings.repo),
    }
}

fn from(url: &UrlSource) -> String {
    match url {
        // The rest of the address may be as good as a secret.
        UrlSource::Plain(url) => url.origin(),
        UrlSource::Secret(secret) => secret.to_string(),
    }
}
