//! A target of any kind.

use super::commit_status::CommitStatusTarget;
use super::email::EmailTarget;
use super::git_notes::{GitNotesTarget, RunNote};
use super::github_push::GithubPushTarget;
use super::gotify::GotifyTarget;
use super::http_target::HttpTarget;
use super::matrix::MatrixTarget;
use super::ntfy::NtfyTarget;
use super::slack::SlackTarget;
use super::smtp::{OutgoingMail, SmtpServer};
use super::webhook::WebhookTarget;
use crate::notify::delivery_context::DeliveryContext;
use crate::notify::delivery_error::DeliveryError;
use crate::notify::message::Message;
use crate::notify::outgoing_request::{MessageConnection, OutgoingRequest};
use quire_runtime::blocking::run_blocking;
use quire_types::secret::Redactor;

/// How a target is told.
#[derive(Clone)]
pub enum TargetService {
    Webhook(WebhookTarget),
    Ntfy(NtfyTarget),
    Gotify(GotifyTarget),
    Slack(SlackTarget),
    Matrix(MatrixTarget),
    CommitStatus(CommitStatusTarget),
    GitNotes(GitNotesTarget),
    GithubPush(GithubPushTarget),
    Email(EmailTarget),
}

/// How a message reaches a target.
enum Transport<'a> {
    Http(&'a dyn HttpTarget),
    Smtp(&'a EmailTarget),
    Git(&'a GitNotesTarget),
}

/// A message that is ready to be sent.
enum PreparedMessage {
    Http(OutgoingRequest),
    Smtp(SmtpServer, OutgoingMail),
    /// `None` for a test.
    Git(Option<RunNote>),
}

impl TargetService {
    fn transport(&self) -> Transport<'_> {
        match self {
            Self::Webhook(target) => Transport::Http(target),
            Self::Ntfy(target) => Transport::Http(target),
            Self::Gotify(target) => Transport::Http(target),
            Self::Slack(target) => Transport::Http(target),
            Self::Matrix(target) => Transport::Http(target),
            Self::CommitStatus(target) => Transport::Http(target),
            Self::GithubPush(target) => Transport::Http(target),
            Self::GitNotes(target) => Transport::Git(target),
            Self::Email(target) => Transport::Smtp(target),
        }
    }

    /// What is wrong with the settings or with a secret that they name. Blocks.
    pub(in crate::notify) fn check(&self) -> Result<(), String> {
        match self.transport() {
            Transport::Http(target) => target.check(),
            Transport::Smtp(target) => target.check(),
            Transport::Git(_) => Ok(()),
        }
    }

    /// Makes what is sent of a message, on a thread that may wait.
    async fn prepare(
        &self,
        message: &Message,
        redactor: &Redactor,
    ) -> Result<PreparedMessage, DeliveryError> {
        let (target, message, known) = (self.clone(), message.clone(), redactor.clone());
        run_blocking(move || target.outgoing(&message, &known))
            .await?
            .map_err(DeliveryError::Settings)
    }

    /// Sends a message, over the kept connection if that is possible. Returns once the receiver has confirmed it.
    pub(in crate::notify) async fn send(
        &self,
        message: &Message,
        connection: &mut MessageConnection,
        context: DeliveryContext<'_>,
    ) -> Result<(), DeliveryError> {
        let DeliveryContext {
            redactor, allowed, ..
        } = context;
        match self.prepare(message, redactor).await? {
            PreparedMessage::Http(request) => request.send(connection, redactor, allowed).await,
            PreparedMessage::Smtp(server, mail) => server.submit(&mail, redactor, allowed).await,
            PreparedMessage::Git(Some(note)) => note.write(context).await,
            PreparedMessage::Git(None) => Ok(()),
        }
    }

    /// Whether messages go to another machine or program.
    pub(in crate::notify) fn has_receiver(&self) -> bool {
        !matches!(self.transport(), Transport::Git(_))
    }

    /// Connects to the receiver as for this message, logs in where that is a step of its own, and sends nothing.
    pub(in crate::notify) async fn reach(
        &self,
        message: &Message,
        context: DeliveryContext<'_>,
    ) -> Result<(), DeliveryError> {
        let DeliveryContext {
            redactor, allowed, ..
        } = context;
        match self.prepare(message, redactor).await? {
            PreparedMessage::Http(request) => request.reach(allowed).await,
            PreparedMessage::Smtp(server, _) => server.reach(redactor, allowed).await,
            PreparedMessage::Git(_) => Ok(()),
        }
    }

    fn outgoing(&self, message: &Message, redactor: &Redactor) -> Result<PreparedMessage, String> {
        Ok(match self.transport() {
            Transport::Http(target) => PreparedMessage::Http(target.request(message, redactor)?),
            Transport::Smtp(target) => {
                PreparedMessage::Smtp(target.server()?, target.mail(message, redactor)?)
            }
            Transport::Git(target) => PreparedMessage::Git(target.note(message, redactor)),
        })
    }
}
