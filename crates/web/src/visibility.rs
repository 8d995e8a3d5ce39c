//! What repositories show to clients that are not signed in, as the files of their default branches say at this moment.
//!
//! The default branch is looked up at each request. What its commit says is remembered by the id of the commit, so there is nothing to invalidate.
//! A thread of its own reads for clients that are signed in, and one for the others, so that live logs and git never wait behind a page. What cannot be read is private.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use quire_config::MAX_REPO_CONFIG_BYTES;
use quire_git::read::{Budget, CpuTimeObserver, ReadError, ReadPool, Reader};
use quire_server::repo_settings::{
    RepoSettingsReader, RepoShown, SettingsFileKey, SettingsOfCommit,
};
use quire_types::names::{ObjectId, RepoName};
use quire_types::paths::Paths;
use tokio::sync::Mutex;

/// Threads that read settings, of each kind of client.
const THREADS: usize = 1;
/// Time to read the settings of one repository.
const READ_TIME: Duration = Duration::from_secs(2);
/// How many commits are remembered.
const MAX_REMEMBERED: usize = 1000;

/// What the default branch has.
enum SettingsRead {
    Known(Arc<RepoShown>),
    Found(ObjectId, SettingsOfCommit),
}

/// What all repositories show.
pub(super) struct Visibilities {
    pool: ReadPool,
    pool_for_strangers: ReadPool,
    by_commit: Arc<Cache<ObjectId, Arc<RepoShown>>>,
    /// Evaluates files, and remembers what each says.
    settings: RepoSettingsReader,
    /// Held by the one evaluation for a page that is under way, so that those which wait for their turn occupy no threads: a file may take
    /// seconds until it has reached its limit.
    evaluating: Mutex<()>,
}

impl Visibilities {
    /// Nothing is remembered yet. The observer is told of the time that is used for strangers.
    pub(super) fn new(settings: RepoSettingsReader, observer: &CpuTimeObserver) -> Self {
        Self {
            pool: ReadPool::start(THREADS),
            pool_for_strangers: ReadPool::start_in_background(THREADS)
                .observed_by(observer.clone()),
            by_commit: Arc::new(Cache::new(MAX_REMEMBERED)),
            settings,
            evaluating: Mutex::default(),
        }
    }

    /// What a repository shows now.
    pub(super) async fn of(
        &self,
        paths: &Paths,
        repo: &RepoName,
        is_stranger: bool,
    ) -> Result<Arc<RepoShown>, ReadError> {
        let budget = Budget::new(READ_TIME, 1, MAX_REPO_CONFIG_BYTES);
        let known = self.by_commit.clone();
        let pool = match is_stranger {
            true => &self.pool_for_strangers,
            false => &self.pool,
        };
        let read = pool
            .read(paths.repo(repo), budget, move |reader, _| {
                read_settings(reader, &known)
            })
            .await?;
        let (commit, shown) = match read {
            SettingsRead::Known(shown) => return Ok(shown),
            SettingsRead::Found(commit, SettingsOfCommit::None) => (commit, Arc::default()),
            SettingsRead::Found(commit, SettingsOfCommit::Wrong(problem)) => {
                (commit, Arc::new(RepoShown::wrong(problem)))
            }
            SettingsRead::Found(commit, SettingsOfCommit::File { key, text }) => {
                (commit, self.of_file(key, text).await?)
            }
        };
        self.by_commit.insert(commit, shown.clone());
        Ok(shown)
    }

    async fn of_file(
        &self,
        key: SettingsFileKey,
        text: String,
    ) -> Result<Arc<RepoShown>, ReadError> {
        let _turn = self.evaluating.lock().await;
        let settings = self.settings.clone();
        let evaluate = move || RepoShown::from(&*settings.evaluate(key, &text));
        let shown = tokio::task::spawn_blocking(evaluate)
            .await
            .map_err(|_| ReadError::Panicked)?;
        Ok(Arc::new(shown))
    }
}

fn read_settings(
    reader: &Reader,
    known: &Cache<ObjectId, Arc<RepoShown>>,
) -> Result<SettingsRead, ReadError> {
    let Some(head) = reader.head()? else {
        return Ok(SettingsRead::Known(Arc::default()));
    };
    let commit = head.commit;
    if let Some(shown) = known.get(&commit) {
        return Ok(SettingsRead::Known(shown));
    }
    let settings = SettingsOfCommit::find(reader, &commit)?;
    Ok(SettingsRead::Found(commit, settings))
}
