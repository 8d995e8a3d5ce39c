//! What every page of a repository needs: who asks, for what, and the reading of the repository.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::super::access::RepoAccess;
use super::super::error::WebError;
use super::super::layout::Layout;
use super::super::places::Place;
use super::super::response_format::ResponseFormat;
use super::super::state::{App, WebConfig};
use super::super::strangers::{CostClass, Pace};
use super::super::viewer::Viewer;
use super::address::{View, link, query_value};
use super::page_identity::{KnownPage, PageIdentity};
use quire_git::read::{
    Budget, EntryMode, MAX_BLOB_BYTES, NamedRefs, ReadError, Reader, ResolvedRev, RevPath,
    TreeItem, TreePath,
};
use quire_types::names::{ObjectId, RepoName};

/// How many branches, and how many tags, the list of revisions names.
pub(super) const MAX_LISTED_REFS: usize = 50;
/// How long a browser keeps what was asked for by the id of a commit.
pub(super) const FIXED_MAX_AGE: &str = "private, max-age=86400, immutable";
/// How long a search lasts.
pub(super) const SEARCH_TIME: Duration = Duration::from_secs(2);
/// How long a client waits for its turn to download something that is written for it.
const MAX_DOWNLOAD_WAIT: Duration = Duration::from_secs(2);
/// How long a page reads a repository.
const READ_TIME: Duration = Duration::from_secs(5);

/// One request for a page of a repository.
pub(super) struct RepoContext {
    pub(super) app: Arc<App>,
    pub(super) viewer: Viewer,
    pub(super) access: RepoAccess,
    /// What the request costs.
    pub(super) cost: CostClass,
    /// Whether a stranger has pressed the button.
    pub(super) has_pass: bool,
    pub(super) config: WebConfig,
    pub(super) format: ResponseFormat,
    pub(super) repo: RepoName,
    /// The path of the repository's page.
    pub(super) base: String,
    pub(super) query: String,
    /// The value of `Range`, and that of `If-Range`.
    pub(super) range: Option<(String, Option<String>)>,
    /// The tags of the copies that the client has.
    pub(super) known: Vec<String>,
    /// Whether the client reads gzip.
    pub(super) accepts_gzip: bool,
}

/// A page of a revision, before it is rendered.
pub(super) struct RevPage<T> {
    pub(super) rev: ResolvedRev,
    pub(super) path: TreePath,
    /// Other revisions, for a page with a head.
    pub(super) choices: Option<NamedRefs>,
    pub(super) content: T,
    /// Which page it is.
    pub(super) identity: PageIdentity,
}

impl<T> RevPage<T> {
    /// Tags a response, so that the client asks next time whether its copy is still right.
    pub(super) fn tag(&self, mut response: Response) -> Response {
        if let Ok(tag) = HeaderValue::from_str(&self.identity.tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

impl<T> RevPage<T> {
    /// The part of its content that the client asks for; the whole if it has another version of the rest.
    pub(super) fn wanted_range<'a>(&self, context: &'a RepoContext) -> Option<&'a str> {
        let (range, of_version) = context.range.as_ref()?;
        let is_current = of_version
            .as_ref()
            .is_none_or(|tag| *tag == self.identity.tag);
        is_current.then_some(range.as_str())
    }
}

/// What a page shows, or the page that shows it.
pub(super) enum RevContent<T> {
    Here(T),
    At(View),
}

/// What reading a revision came to.
enum RevRead<T> {
    Page(RevPage<T>),
    /// The same content has another address.
    Elsewhere(View, ResolvedRev, TreePath),
    /// There is nothing to read.
    Known(KnownPage),
}

impl RepoContext {
    pub(super) fn wants_json(&self) -> bool {
        self.format == ResponseFormat::Json
    }

    /// The frame of a page that does not change with time.
    pub(super) fn layout(&self, title: impl Into<String>) -> Layout {
        Layout {
            now: None,
            ..self.live_layout(title)
        }
    }

    /// The frame of a page that shows how long ago something was.
    pub(super) fn live_layout(&self, title: impl Into<String>) -> Layout {
        Layout {
            feeds_of: Some(self.base.clone()),
            has_runs_feed: self.access.sees_runs(),
            ..Layout::new(&self.app, Some(&self.viewer), title)
        }
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

    /// The place of a download that is written while the client reads it.
    pub(super) async fn download_turn(&self) -> Result<Place, WebError> {
        let (app, is_stranger) = (&self.app, self.access.is_stranger);
        app.place(&app.downloads, is_stranger, MAX_DOWNLOAD_WAIT)
            .await
    }

    /// The pace of what is written for the client; `None` if it has no limit.
    pub(super) fn pace(&self) -> Option<Pace> {
        self.access.is_stranger.then(|| self.app.strangers.pace())
    }

    /// Reads the repository; `lines` is the size of a page.
    pub(super) async fn read<T, F>(&self, lines: usize, call: F) -> Result<T, WebError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader, &Budget) -> Result<T, ReadError> + Send + 'static,
    {
        let folder = self.app.web.paths.repo(&self.repo);
        let budget = Budget::new(READ_TIME, lines, MAX_BLOB_BYTES);
        let (app, strangers) = (&self.app, &self.app.strangers);
        Ok(match self.access.is_stranger {
            true => {
                let turn = strangers.turn(self.cost).await?;
                turn.read(folder, budget, call).await
            }
            false => app.reading.read(folder, budget, call).await,
        }?)
    }

    /// Resolves a revision and reads what its page shows. `call` may say that another page shows it. A copy that the client or
    /// quire has is right as long as the commit, the names of the refs and what surrounds the page are the same.
    pub(super) async fn read_rev<T, F>(
        &self,
        view: View,
        wanted: RevPath,
        lines: usize,
        call: F,
    ) -> Result<Result<RevPage<T>, Response>, WebError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader, &ResolvedRev, &TreePath, &Budget) -> Result<RevContent<T>, ReadError>
            + Send
            + 'static,
    {
        let wants_head = !self.wants_json() && view != View::Raw;
        let address = self.link(view, b"", &TreePath::default());
        let identifier = match view {
            View::Raw => self.file_identifier(&address),
            _ => self.identifier(&address),
        };
        let read = self
            .read(lines, move |reader, budget| {
                let (rev, path) = reader.resolve(&wanted)?;
                if rev.is_abbreviated {
                    return Ok(RevRead::Elsewhere(view, rev, path));
                }
                let choices = wants_head
                    .then(|| reader.named_refs(MAX_LISTED_REFS, budget))
                    .transpose()?;
                // The default branch says which commits a blame passes over.
                let is_blame = view == View::Blame;
                let head = is_blame.then(|| reader.head()).transpose()?;
                let identity = match identifier.identify(&(&rev, &path, &choices, head)) {
                    Ok(identity) => identity,
                    Err(known) => return Ok(RevRead::Known(known)),
                };
                Ok(match call(reader, &rev, &path, budget)? {
                    RevContent::Here(content) => RevRead::Page(RevPage {
                        rev,
                        path,
                        choices,
                        content,
                        identity,
                    }),
                    RevContent::At(view) => RevRead::Elsewhere(view, rev, path),
                })
            })
            .await?;
        Ok(match read {
            RevRead::Page(page) => Ok(page),
            RevRead::Known(known) => Err(self.send_known(known)?),
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

/// The entry of a file at a path; `None` if there is a folder.
pub(super) fn file_entry(
    reader: &Reader,
    commit: &ObjectId,
    path: &TreePath,
) -> Result<Option<TreeItem>, ReadError> {
    let entry = reader.entry(commit, path)?;
    match entry.mode {
        EntryMode::Folder => Ok(None),
        EntryMode::Submodule => Err(ReadError::NoPath),
        _ => Ok(Some(entry)),
    }
}

/// A revision without a path.
pub(super) fn whole_rev(reader: &Reader, wanted: &RevPath) -> Result<ResolvedRev, ReadError> {
    let (rev, path) = reader.resolve(wanted)?;
    match path.is_root() {
        true => Ok(rev),
        false => Err(ReadError::NoRevision),
    }
}
