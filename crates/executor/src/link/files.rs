//! Files of a workspace, through the helper: it acts with the rights of the commands' user, and
//! resolves every path below the workspace in one system call.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use quire_step::{FileTask, ToHelper};

use super::failure::file_failure;
use super::frame::HelperEvent;
use super::session::HelperSession;
use super::task::{HelperTask, TaskEnd};
use crate::error::ExecutorError;
use crate::file_path::{self, MAX_READ, too_large};
use crate::tar_stream::TarStream;

const READ: &str = "read a file of the workspace";
const WRITE: &str = "write a file of the workspace";
const EXPORT: &str = "export a file of the workspace";

impl HelperSession {
    pub(super) async fn read_file(&self, path: &str) -> Result<Vec<u8>, ExecutorError> {
        let relative = self.relative(path)?;
        let mut task = self
            .begin(&ToHelper::Read {
                file: self.file(&relative),
                limit: MAX_READ,
            })
            .await?;
        let mut content = Vec::new();
        let mut failure = None;
        loop {
            match task.next().await {
                Some(HelperEvent::Data(bytes)) => {
                    if (content.len() + bytes.len()) as u64 > MAX_READ {
                        return Err(too_large(path));
                    }
                    content.extend_from_slice(&bytes);
                    task.consumed(bytes.len());
                }
                Some(HelperEvent::Failed(error)) => failure = Some(error),
                Some(HelperEvent::Done) => break,
                Some(_) => {}
                None => return Err(self.explain_loss().await),
            }
        }
        match failure {
            None => Ok(content),
            Some(failure) => Err(file_failure(READ, path, &failure)),
        }
    }

    pub(super) async fn write_file(
        &self,
        path: &str,
        content: Vec<u8>,
    ) -> Result<(), ExecutorError> {
        let relative = self.relative(path)?;
        let mut task = self.begin(&ToHelper::Write(self.file(&relative))).await?;
        let input = task.input();
        let sending = async {
            if input.send(Bytes::from(content)).await.is_ok() {
                input.close().await;
            }
            Ok(())
        };
        match task.finish(sending).await {
            Ok(TaskEnd::Succeeded) => Ok(()),
            Ok(TaskEnd::Failed(failure)) => Err(file_failure(WRITE, path, &failure)),
            Ok(TaskEnd::Lost) => Err(self.explain_loss().await),
            Err(error) => Err(ExecutorError::caused_by(WRITE, &error)),
        }
    }

    pub(super) async fn export_archive(&self, path: &str) -> Result<TarStream, ExecutorError> {
        let relative = self.relative(path)?;
        let mut task = self.begin(&ToHelper::Export(self.file(&relative))).await?;
        // Whether there is something to export is known from the first frame.
        let first = match task.next().await {
            Some(HelperEvent::Data(bytes)) => Some(bytes),
            Some(HelperEvent::Failed(error)) => return Err(file_failure(EXPORT, path, &error)),
            Some(_) => None,
            None => return Err(self.explain_loss().await),
        };
        let Some(first) = first else {
            return Ok(stream::empty().boxed());
        };
        task.consumed(first.len());
        let rest = stream::unfold(Some(task), next_chunk);
        Ok(stream::iter([Ok(first)]).chain(rest).boxed())
    }

    fn file<'a>(&'a self, path: &'a str) -> FileTask<'a> {
        FileTask {
            ids: self.user.ids.clone(),
            folder: self.folder.as_bytes(),
            path: path.as_bytes(),
        }
    }

    fn relative(&self, path: &str) -> Result<String, ExecutorError> {
        let relative = file_path::parse(path)?;
        Ok(relative.to_string_lossy().into_owned())
    }

    async fn begin(&self, request: &ToHelper<'_>) -> Result<HelperTask, ExecutorError> {
        if self.stopped.is_cancelled() {
            return Err(ExecutorError::Cancelled);
        }
        match self.connection.begin(request) {
            Some(task) => Ok(task),
            None => Err(self.explain_loss().await),
        }
    }
}

/// Returns the next chunk of an export. An archive that is not complete ends with an error.
async fn next_chunk(
    task: Option<HelperTask>,
) -> Option<(std::io::Result<Bytes>, Option<HelperTask>)> {
    let mut task = task?;
    loop {
        match task.next().await {
            Some(HelperEvent::Data(bytes)) => {
                task.consumed(bytes.len());
                return Some((Ok(bytes), Some(task)));
            }
            Some(HelperEvent::Done) => return None,
            Some(HelperEvent::Failed(error)) => {
                return Some((Err(std::io::Error::other(error.detail)), None));
            }
            Some(_) => {}
            None => {
                let lost = "the connection to the container was lost";
                return Some((Err(std::io::Error::other(lost)), None));
            }
        }
    }
}
