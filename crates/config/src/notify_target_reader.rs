//! Reads one target of `:notify {:targets …}`. The first problem takes the place of its settings.

use serde_json::Value;

use super::entry_fields::{EntryFields, ReadEntry, SECRET, is_entry_name};
use super::notify::{MailLogin, NotifyService, TargetSettings, UrlSource};
use super::secrets::SecretSource;
use super::setting_types::{Grants, Positive, SettingType as _};
use quire_types::http_url::HttpUrl;
use quire_types::mail_address::MailAddress;
use quire_types::occasion::Occasion;
use quire_types::run::Trigger;
use quire_types::smtp_url::SmtpUrl;
use quire_types::status_service::StatusService;

/// How many changes within a day make a schedule alternate, unless the target says otherwise.
const USUAL_CRON_CHANGES: u32 = 4;
/// The most runs or changes that a target can wait for.
const MAX_COUNT: u32 = 100;
/// The longest id of a room, in bytes. That of Matrix's specification.
const MAX_ROOM: usize = 255;
/// How many recipients a mail has.
const MAX_RECIPIENTS: usize = 20;
/// The longest name of a user of a mail server, in bytes.
const MAX_USER: usize = 255;

/// Reads a target.
pub(super) fn read_target(name: &str, value: &Value) -> ReadEntry<TargetSettings> {
    let mut fields = EntryFields::of(value);
    if !is_entry_name(name) {
        fields.fail(
            None,
            "the name of a target consists of letters, digits, `-` and `_`, 64 at most".to_owned(),
        );
    } else if !value.is_object() {
        fields.fail(
            None,
            "a target must be a table such as {:type :webhook :url \"https://host.example/path\"}"
                .to_owned(),
        );
    }
    let mut reader = TargetReader { fields };
    let settings = reader.settings();
    reader.fields.finish(settings, "the target is not complete")
}

/// Takes the fields of a target.
struct TargetReader {
    fields: EntryFields,
}

impl TargetReader {
    fn settings(&mut self) -> Option<TargetSettings> {
        let service = self.service();
        let on = self.fields.optional("on", OCCASIONS, occasions);
        let runs = self.fields.optional("runs", Grants::EXPECTED, Grants::data);
        let triggers = self.fields.optional("triggers", TRIGGERS, triggers);
        let cron_failures = count(&mut self.fields, "cron-failures", 1);
        let cron_changes = count(&mut self.fields, "cron-changes", 2);
        let health = self
            .fields
            .optional("health", "true or false", Value::as_bool);
        if health.is_some() && service.as_ref().is_some_and(|of| !of.takes_messages()) {
            let message =
                "`health` is for targets that show messages, and this one has another use";
            self.fields.fail(Some("health"), message.to_owned());
        }
        if let Some(NotifyService::GithubPush { .. }) = service {
            let occasions = [
                ("on", on.is_some()),
                ("triggers", triggers.is_some()),
                ("cron-failures", cron_failures.is_some()),
                ("cron-changes", cron_changes.is_some()),
            ];
            for (key, _) in occasions.into_iter().filter(|(_, is_set)| *is_set) {
                let message =
                    format!("`{key}` is for ends of runs, and `:github-push` is told of each push");
                self.fields.fail(Some(key), message);
            }
        }
        let usual = match &service {
            // The newest state of a commit counts, so each end of a run has to be told.
            Some(NotifyService::CommitStatus { .. } | NotifyService::GitNotes) => {
                vec![Occasion::Every]
            }
            _ => vec![Occasion::Failed, Occasion::Fixed],
        };
        let service = service?;
        let on = on.unwrap_or(usual);
        // One that is told of some runs only is not the one that looks after the appliance.
        let is_of_all = runs.is_none() && triggers.is_none() && on != [Occasion::Never];
        Some(TargetSettings {
            on,
            runs,
            triggers,
            cron_failures: cron_failures.unwrap_or(1),
            cron_changes: cron_changes.unwrap_or(USUAL_CRON_CHANGES),
            health: health.unwrap_or(is_of_all && service.takes_messages()),
            service,
        })
    }

    fn service(&mut self) -> Option<NotifyService> {
        const SERVICES: &str = ":webhook, :github-push, :email, :ntfy, :gotify, :slack, :matrix, :github-status, :gitlab-status, :forgejo-status or :git-notes";
        let name = self
            .fields
            .required("type", SERVICES, |value| value.as_str().map(str::to_owned))?;
        let of_status = |service: &StatusService| service.target_type() == name;
        if let Some(service) = StatusService::ALL.into_iter().find(of_status) {
            return self.commit_status(service);
        }
        match name.as_str() {
            "webhook" => {
                let (url, key) = self.url_and_key();
                Some(NotifyService::Webhook { url: url?, key })
            }
            "github-push" => {
                let (url, key) = self.url_and_key();
                Some(NotifyService::GithubPush { url: url?, key })
            }
            "ntfy" => {
                let url = self.fields.required("url", TOPIC_URL, topic_source);
                let token = self
                    .fields
                    .optional("token", SECRET, SecretSource::from_data);
                Some(NotifyService::Ntfy { url: url?, token })
            }
            "slack" => {
                let url = self.fields.required("url", URL, url_source);
                Some(NotifyService::Slack { url: url? })
            }
            "gotify" => {
                let (url, token) = self.server_and_token();
                Some(NotifyService::Gotify {
                    url: url?,
                    token: token?,
                })
            }
            "matrix" => {
                let (url, token) = self.server_and_token();
                let room = self.fields.required("room", ROOM, room);
                Some(NotifyService::Matrix {
                    url: url?,
                    room: room?,
                    token: token?,
                })
            }
            "email" => self.email(),
            "git-notes" => Some(NotifyService::GitNotes),
            other => {
                let other = quire_types::text::excerpt(other, 40);
                self.fields.fail(
                    Some("type"),
                    format!("`type` must be {SERVICES}, not \"{other}\""),
                );
                None
            }
        }
    }

    fn commit_status(&mut self, service: StatusService) -> Option<NotifyService> {
        let url = match service.public_url() {
            Some(public) => {
                let url = self.fields.optional("url", SERVER_URL, server_url);
                url.or_else(|| public.parse().ok())
            }
            None => self.fields.required("url", SERVER_URL, server_url),
        };
        let repo = self.fields.required("repo", REMOTE_REPO, |value| {
            let is_name = |name: &&str| service.is_repo(name);
            value.as_str().filter(is_name).map(str::to_owned)
        });
        let token = self
            .fields
            .required("token", SECRET, SecretSource::from_data);
        Some(NotifyService::CommitStatus {
            service,
            url: url?,
            repo: repo?,
            token: token?,
        })
    }

    fn email(&mut self) -> Option<NotifyService> {
        let to = self.fields.required("to", RECIPIENTS, recipients);
        let from = self.fields.required("from", ADDRESS, mail_address);
        let smtp: Option<SmtpUrl> = self
            .fields
            .required("smtp", SMTP_URL, |value| value.as_str()?.parse().ok());
        let starttls = self
            .fields
            .optional("starttls", "true or false", Value::as_bool);
        let user = self.fields.optional("user", "the name of a user", user);
        let password = self
            .fields
            .optional("password", SECRET, SecretSource::from_data);
        let login = match (user, password) {
            (Some(user), Some(password)) => Some(MailLogin { user, password }),
            (None, None) => None,
            _ => {
                let message = "`user` and `password` need each other";
                self.fields.fail(None, message.to_owned());
                None
            }
        };
        let smtp = smtp?;
        if starttls.is_some() && smtp.is_implicit_tls() {
            let message = "`starttls` is for a server at `smtp://`; with `smtps://` the connection begins with TLS";
            self.fields.fail(Some("starttls"), message.to_owned());
        } else if starttls == Some(false) && login.is_some() {
            let message =
                "without TLS no password is sent; remove `starttls`, or `user` and `password`";
            self.fields.fail(Some("starttls"), message.to_owned());
        }
        Some(NotifyService::Email {
            to: to?,
            from: from?,
            smtp,
            starttls: starttls.unwrap_or(true),
            login,
        })
    }

    fn url_and_key(&mut self) -> (Option<UrlSource>, Option<SecretSource>) {
        let url = self.fields.required("url", URL, url_source);
        let key = self.fields.optional("key", SECRET, SecretSource::from_data);
        (url, key)
    }

    fn server_and_token(&mut self) -> (Option<HttpUrl>, Option<SecretSource>) {
        let url = self.fields.required("url", SERVER_URL, server_url);
        let token = self
            .fields
            .required("token", SECRET, SecretSource::from_data);
        (url, token)
    }
}

pub(super) const OCCASIONS: &str = "a list of :failed, :fixed, :every and :never";
pub(super) const TRIGGERS: &str = "a list of :push, :manual and :cron";
const URL: &str =
    "a URL such as \"https://host.example/path\", {:file \"/path\"} or {:env \"NAME\"}";
const TOPIC_URL: &str =
    "the URL of a topic such as \"https://ntfy.sh/topic\", {:file \"/path\"} or {:env \"NAME\"}";
const SERVER_URL: &str = "the URL of a server such as \"https://host.example\", without a query";
const ADDRESS: &str = "an address such as \"quire <ci@host.example>\"";
const RECIPIENTS: &str = "an address such as \"you@host.example\", or a list of them, 20 at most";
const SMTP_URL: &str =
    "the URL of a mail server such as \"smtps://host.example:465\" or \"smtp://host.example:587\"";
const REMOTE_REPO: &str = "the name of a repository there, such as \"you/app\"";
const ROOM: &str = "the id of a room such as \"!id:host.example\" (an alias is none)";

fn url_source(value: &Value) -> Option<UrlSource> {
    match value.as_str() {
        Some(text) => text.parse().ok().map(UrlSource::Plain),
        None => SecretSource::from_data(value).map(UrlSource::Secret),
    }
}

fn mail_address(value: &Value) -> Option<MailAddress> {
    value.as_str()?.parse().ok()
}

/// A list of addresses, or one address.
fn recipients(value: &Value) -> Option<Vec<MailAddress>> {
    let addresses = match value.as_array() {
        Some(list) => list.iter().map(mail_address).collect(),
        None => mail_address(value).map(|address| vec![address]),
    };
    addresses.filter(|list: &Vec<_>| (1..=MAX_RECIPIENTS).contains(&list.len()))
}

fn user(value: &Value) -> Option<String> {
    let is_user = |text: &&str| {
        (1..=MAX_USER).contains(&text.len()) && !text.contains(|c: char| c.is_control())
    };
    value.as_str().filter(is_user).map(str::to_owned)
}

/// The value of a secret is judged when it is read.
fn topic_source(value: &Value) -> Option<UrlSource> {
    url_source(value).filter(|source| match source {
        UrlSource::Plain(url) => url.split_last_name().is_some(),
        UrlSource::Secret(_) => true,
    })
}

fn server_url(value: &Value) -> Option<HttpUrl> {
    let url: HttpUrl = value.as_str()?.parse().ok()?;
    Some(url).filter(|url| !url.has_query())
}

fn room(value: &Value) -> Option<String> {
    let is_id = |text: &str| {
        (2..=MAX_ROOM).contains(&text.len())
            && text.starts_with('!')
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    value.as_str().filter(|text| is_id(text)).map(str::to_owned)
}

/// A number of runs or changes, 100 at most.
pub(super) fn count(fields: &mut EntryFields, key: &'static str, least: u32) -> Option<u32> {
    let expected = format!("a number from {least} to {MAX_COUNT}");
    fields.optional(key, &expected, |value| {
        Positive::data(value).filter(|count| (least..=MAX_COUNT).contains(count))
    })
}

pub(super) fn occasions(value: &Value) -> Option<Vec<Occasion>> {
    words(value, Occasion::from_word)
}

pub(super) fn triggers(value: &Value) -> Option<Vec<Trigger>> {
    let sources = [Trigger::Push, Trigger::Manual, Trigger::Cron];
    words(value, |word| {
        sources.into_iter().find(|source| source.as_str() == word)
    })
}

/// A list of words, or one word.
fn words<T>(value: &Value, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    match value {
        Value::String(word) => Some(vec![read(word)?]),
        Value::Array(words) => words.iter().map(|word| read(word.as_str()?)).collect(),
        _ => None,
    }
}
