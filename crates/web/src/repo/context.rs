//! What every page of a repository needs: who asks, for what, and the reading of the repository.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Redirect, Response};

use super::super::error::WebError;
use super::super::layout::Layout;
use super::super::response_format::ResponseFormat;
use super::super::state::{App, WebConfig};
use super::super::viewer::Viewer;
use super::address::{View, link, query_value};
use quire_git::read::{Budget, MAX_BLOB_BYTES, ReadError, Reader, ResolvedRev, RevPath, TreePath};
use quire_types::names::RepoName;

/// How long a page reads a repository.
const READ_TIME: Duration = Duration::from_secs(5);

/// One request for a page of a repository.
pub(super) struct RepoContext {
    pub(super) app: Arc<App>,
    pub(super) viewer: Viewer,
    pub(super) config: WebConfig,
    pub(super) format: ResponseFormat,
    pub(super) repo: RepoName,
    /// The path of the repository's page.
    pub(super) base: String,
    pub(super) query: String,
}

/// What reading a revision came to.
pub(super) enum RevRead<T> {
    Page(ResolvedRev, TreePath, T),
    /// The same content has another address.
    Elsewhere(View, ResolvedRev, TreePath),
}

impl RepoContext {
    pub(super) fn wants_json(&self) -> bool {
        self.format == ResponseFormat::Json
    }

    pub(super) fn layout(&self, title: impl Into<String>) -> Layout {
        Layout::new(&self.app, Some(&self.viewer), title)
    }

    /// A value of the query, as bytes.
    pub(super) fn query_bytes(&self, name: &str) -> Option<Vec<u8>> {
        query_value(&self.query, name)
    }

    pub(super) fn query_text(&self, name: &str) -> Option<String> {
        String::from_utf8(self.query_bytes(name)?).ok()
    }

    /// A number of the query. What is no number is 404, as any other address of nothing.
    pub(super) fn query_number(&self, name: &str) -> Result<Option<usize>, WebError> {
        self.query_text(name)
            .map(|text| text.parse().map_err(|_| WebError::NotFound))
            .transpose()
    }

    pub(super) fn link(&self, view: View, rev: &[u8], path: &TreePath) -> String {
        link(&self.base, view, rev, path)
    }

    /// Reads the repository; `lines` is the size of a page.
    pub(super) async fn read<T, F>(&self, lines: usize, call: F) -> Result<T, WebError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader, &Budget) -> Result<T, ReadError> + Send + 'static,
    {
        let folder = self.app.web.paths.repo(&self.repo);
        let budget = Budget::new(READ_TIME, lines, MAX_BLOB_BYTES);
        Ok(self.app.reading.read(folder, budget, call).await?)
    }

    /// Resolves a revision and reads what its page shows. `call` may say that another page shows it.
    pub(super) async fn read_rev<T, F>(
        &self,
        view: View,
        wanted: RevPath,
        lines: usize,
        call: F,
    ) -> Result<Result<(ResolvedRev, TreePath, T), Response>, WebError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader, ResolvedRev, TreePath, &Budget) -> Result<RevRead<T>, ReadError>
            + Send
            + 'static,
    {
        let found = self
            .read(lines, move |reader, budget| {
                let (rev, path) = reader.resolve(&wanted)?;
                if rev.is_abbreviated {
                    return Ok(RevRead::Elsewhere(view, rev, path));
                }
                call(reader, rev, path, budget)
            })
            .await?;
        Ok(match found {
            RevRead::Page(rev, path, page) => Ok((rev, path, page)),
            RevRead::Elsewhere(view, rev, path) => {
                let target = self.link(view, &rev.spelled, &path);
                let target = match self.query.as_str() {
                    "" => target,
                    query => format!("{target}?{query}"),
                };
                Err(Redirect::temporary(&target).into_response())
            }
        })
    }
}
