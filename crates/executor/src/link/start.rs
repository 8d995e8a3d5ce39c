//! The start of a workspace: who its user is, and the tree of the commit.

use std::sync::Arc;

use futures_util::StreamExt;
use quire_step::ToHelper;

use super::connection::HelperLink;
use super::failure::{identity_failure, tree_failure};
use super::frame::{CommandUser, HelperEvent};
use super::place::HelperPlace;
use super::session::{HelperSession, explain_loss};
use super::task::{InputSender, TaskEnd};
use crate::error::ExecutorError;
use crate::tar_stream::TarStream;

/// What a workspace is started from.
pub(crate) struct WorkspaceStart {
    pub(crate) place: Arc<dyn HelperPlace>,
    pub(crate) connection: HelperLink,
    /// Where commands see the workspace: an absolute path.
    pub(crate) folder: String,
    /// The user of the commands, in Docker's notation; empty for root.
    pub(crate) user: String,
    /// Groups of the commands beside those of the user.
    pub(crate) groups: Vec<u32>,
    /// The environment of every command; of two entries of one name the last counts.
    pub(crate) env: Vec<(String, String)>,
    /// Where the caches are: absolute paths. Those that belong to root are given to the user.
    pub(crate) caches: Vec<String>,
}

impl WorkspaceStart {
    /// Makes the workspace; without a tree, it exists already.
    pub(crate) async fn start(
        self,
        tree: Option<TarStream>,
    ) -> Result<HelperSession, ExecutorError> {
        let mut user = self.identify().await?;
        user.ids.groups.extend(&self.groups);
        if let Some(tree) = tree {
            self.unpack(&user, tree).await?;
        }
        let Self {
            place,
            connection,
            folder,
            mut env,
            ..
        } = self;
        env.insert(0, ("HOME".to_owned(), user.home.clone()));
        Ok(HelperSession::new(place, connection, folder, user, env))
    }

    /// Asks who the user of the commands is.
    async fn identify(&self) -> Result<CommandUser, ExecutorError> {
        let request = ToHelper::Who {
            user: self.user.as_bytes(),
        };
        let Some(mut task) = self.connection.begin(&request) else {
            return Err(self.loss().await);
        };
        let mut found = None;
        loop {
            match task.next().await {
                Some(HelperEvent::User(user)) => found = Some(user),
                Some(HelperEvent::Failed(error)) => {
                    return Err(identity_failure(&self.user, &error));
                }
                Some(HelperEvent::Done) => break,
                Some(_) => {}
                None => return Err(self.loss().await),
            }
        }
        found.ok_or_else(|| ExecutorError::failed("find the user of the image", &"no answer"))
    }

    /// Sends the tree.
    async fn unpack(&self, user: &CommandUser, tree: TarStream) -> Result<(), ExecutorError> {
        let request = ToHelper::Tree {
            uid: user.ids.uid,
            gid: user.ids.gid,
            folder: self.folder.as_bytes(),
            caches: self.caches.iter().map(String::as_bytes).collect(),
        };
        let Some(mut task) = self.connection.begin(&request) else {
            return Err(self.loss().await);
        };
        let input = task.input();
        match task.finish(send_chunks(&input, tree)).await {
            Ok(TaskEnd::Succeeded) => Ok(()),
            Ok(TaskEnd::Failed(failure)) => Err(tree_failure(&self.folder, &self.caches, &failure)),
            Ok(TaskEnd::Lost) => Err(self.loss().await),
            Err(error) => Err(ExecutorError::caused_by("read the tree", &error)),
        }
    }

    async fn loss(&self) -> ExecutorError {
        explain_loss(self.place.as_ref(), &self.connection).await
    }
}

/// Sends the chunks of the tree, as long as the task that unpacks it has not ended.
async fn send_chunks(input: &InputSender, mut tree: TarStream) -> std::io::Result<()> {
    while let Some(chunk) = tree.next().await {
        if input.send(chunk?).await.is_err() {
            return Ok(());
        }
    }
    input.close().await;
    Ok(())
}
