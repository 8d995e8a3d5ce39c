//! The state of a commit at a service to which the repository is mirrored:
//! GitHub (<https://docs.github.com/en/rest/commits/statuses>), GitLab
//! (<https://docs.gitlab.com/api/commits/#set-commit-pipeline-status>), and Forgejo and Gitea (`/api/swagger` of each server).

use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::http_target::HttpTarget;
use crate::notify::message::{Message, RunEnded};
use crate::notify::outgoing_request::{OutgoingRequest, UnknownObject};
use crate::notify::readers::SecretReader;
use crate::notify::summary::Summary;
use quire_types::http_url::HttpUrl;
use quire_types::run::RunState;
use quire_types::secret::Redactor;
use quire_types::status_service::StatusService;
use quire_types::text::{excerpt, format_elapsed};

/// The longest description, in characters. That of GitHub.
const MAX_DESCRIPTION: usize = 140;
/// How long a commit may be unknown to the service after the end of its run. A mirror may be slower than a run.
const MAX_MIRROR_DELAY_MS: u64 = 10 * 60 * 1000;

#[derive(Clone)]
pub struct CommitStatusTarget {
    pub service: StatusService,
    /// The URL of the API at GitHub, else of the server.
    pub url: HttpUrl,
    /// The name of the repository there.
    pub repo: String,
    pub token: SecretReader,
}

impl HttpTarget for CommitStatusTarget {
    fn check(&self) -> Result<(), String> {
        (self.token)().map(drop)
    }

    fn request(&self, message: &Message, redactor: &Redactor) -> Result<OutgoingRequest, String> {
        let token = (self.token)()?;
        let request = match message.run_ended() {
            Some(event) => {
                let url = self.url.join(&self.status_path(event.run.sha.as_str()));
                let body = self.status(event, &Summary::new(message, redactor));
                let is_expected = message.sent_at.since(message.time) < MAX_MIRROR_DELAY_MS;
                OutgoingRequest::post(url, body.to_string().into_bytes()).unknown_object(
                    match is_expected {
                        true => UnknownObject::Expected,
                        false => UnknownObject::Final,
                    },
                )
            }
            // A test reads the repository, since there is no commit whose state could be set.
            None => OutgoingRequest::new(Method::GET, self.url.join(&self.repo_path()), Vec::new()),
        };
        let request = request.bearer(&token)?;
        match self.service {
            StatusService::Github => request.header("accept", "application/vnd.github+json"),
            StatusService::Gitlab | StatusService::Forgejo => Ok(request),
        }
    }
}

impl CommitStatusTarget {
    fn repo_path(&self) -> String {
        match self.service {
            StatusService::Github => format!("repos/{}", self.repo),
            StatusService::Forgejo => format!("api/v1/repos/{}", self.repo),
            StatusService::Gitlab => format!(
                "api/v4/projects/{}",
                utf8_percent_encode(&self.repo, NON_ALPHANUMERIC)
            ),
        }
    }

    fn status_path(&self, sha: &str) -> String {
        format!("{}/statuses/{sha}", self.repo_path())
    }

    fn status(&self, event: &RunEnded, summary: &Summary) -> Value {
        let description = excerpt(&description(event, summary), MAX_DESCRIPTION);
        let name = match self.service {
            StatusService::Gitlab => "name",
            StatusService::Github | StatusService::Forgejo => "context",
        };
        // A commit has one status of each name, and the newest counts.
        json!({
            "state": state(self.service, event.run.state),
            name: event.run.source,
            "description": description,
            "target_url": summary.url,
        })
    }
}

/// The word of a service for the state. Only GitLab has one for canceled runs.
fn state(service: StatusService, state: RunState) -> &'static str {
    match (state, service) {
        (RunState::Complete, _) => "success",
        (RunState::Failed, StatusService::Gitlab) => "failed",
        (RunState::Failed, _) => "failure",
        (_, StatusService::Gitlab) => "canceled",
        (_, _) => "error",
    }
}

fn description(event: &RunEnded, summary: &Summary) -> String {
    let number = event.run.number;
    let first_failed = summary.failed_jobs.first().map(|job| &job.heading);
    match event.run.state {
        RunState::Failed => match first_failed.or(summary.facts.get(1)) {
            Some(what) => format!("#{number} failed: {what}"),
            None => format!("#{number} failed"),
        },
        RunState::Complete => match event.run.started_at_ms.zip(event.run.finished_at_ms) {
            Some((started, ended)) => {
                format!(
                    "#{number} is complete after {}",
                    format_elapsed(ended.since(started))
                )
            }
            None => format!("#{number} is complete"),
        },
        RunState::Canceled => format!("#{number} was canceled"),
        RunState::Superseded => format!("#{number} was superseded by a newer run"),
        RunState::Pending | RunState::Active => format!("#{number} has not ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::outgoing_request::sample::{reader, shown};

    fn target(service: StatusService, url: &str, repo: &str) -> CommitStatusTarget {
        CommitStatusTarget {
            service,
            url: url.parse().unwrap(),
            repo: repo.to_owned(),
            token: reader("t0ken-1234567890"),
        }
    }

    #[test]
    fn requests_for_the_state_of_a_commit() {
        let requests = [
            target(StatusService::Github, "https://api.github.com", "you/shop"),
            target(
                StatusService::Gitlab,
                "https://gitlab.example.org",
                "group/team/shop",
            ),
            target(
                StatusService::Forgejo,
                "https://git.example.org/forgejo/",
                "you/shop",
            ),
        ]
        .map(|target| shown(&target));
        insta::assert_snapshot!(requests.join("\n\n---\n\n"));
    }
}
