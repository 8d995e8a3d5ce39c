//! The threads on which repositories are read.
//!
//! A pool is a number of threads. Calls that must not wait for each other have pools of their own. Each
//! thread keeps a few repositories open, made from handles that the threads of a pool share. A call whose caller has
//! gone away ends soon, by the interrupt of its budget; a panic ends the call and the handles of its thread, not the thread.

use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quire_runtime::thread_priority::enter_background;
use quire_types::sync::lock;
use quire_types::thread_time::thread_cpu_time;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::budget::Budget;
use super::error::ReadError;
use super::reader::Reader;

/// Threads that read for pages.
const PAGE_THREADS: usize = 2;
/// How long a call waits for a thread.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Open repositories of a thread.
const MAX_LOCAL: usize = 8;
/// Handles that the threads share.
const MAX_SHARED: usize = 64;

/// What tells whether a folder still is the repository that was opened: device, inode, and when its configuration and its
/// packs changed. An open handle would go on reading packs that `git gc` has deleted.
type Identity = (u64, u64, ChangeTime, ChangeTime);

/// Seconds and nanoseconds.
type ChangeTime = (i64, i64);

type ReadJob = Box<dyn FnOnce(&mut Handles) + Send>;

/// Is told of the processor time that each call has used.
pub type CpuTimeObserver = Arc<dyn Fn(Duration) + Send + Sync>;

/// The reading threads. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct ReadPool {
    jobs: Sender<ReadJob>,
    free: Arc<Semaphore>,
    observer: Option<CpuTimeObserver>,
}

/// One of the threads, for one call.
pub struct ReadTurn {
    pool: ReadPool,
    permits: Vec<OwnedSemaphorePermit>,
}

/// Ends a call when its caller goes away.
struct InterruptOnDrop(Arc<AtomicBool>);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Default for ReadPool {
    fn default() -> Self {
        Self::start(PAGE_THREADS)
    }
}

impl ReadPool {
    /// Starts so many threads.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::start_with(count, || {})
    }

    /// Starts so many threads that let others have the processor first.
    #[must_use]
    pub fn start_in_background(count: usize) -> Self {
        Self::start_with(count, enter_background)
    }

    /// Starts so many threads, each of which calls `begin` first.
    fn start_with(count: usize, begin: fn()) -> Self {
        let (jobs, queue) = channel::<ReadJob>();
        let queue = Arc::new(Mutex::new(queue));
        let shared = Arc::new(Mutex::new(HandleList::new(MAX_SHARED)));
        let mut threads = 0;
        for number in 1..=count {
            let (queue, shared) = (queue.clone(), shared.clone());
            let started = std::thread::Builder::new()
                .name(format!("read-{number}"))
                .spawn(move || {
                    begin();
                    work(&queue, shared);
                });
            threads += usize::from(started.is_ok());
        }
        Self {
            jobs,
            free: Arc::new(Semaphore::new(threads)),
            observer: None,
        }
    }

    /// The same pool, whose calls an observer is told of.
    #[must_use]
    pub fn observed_by(self, observer: CpuTimeObserver) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// Waits for a thread.
    pub async fn turn(&self, max_wait: Duration) -> Result<ReadTurn, ReadError> {
        let turn = tokio::time::timeout(max_wait, self.free.clone().acquire_owned()).await;
        match turn {
            Ok(Ok(permit)) => Ok(ReadTurn {
                pool: self.clone(),
                permits: vec![permit],
            }),
            _ => Err(ReadError::Busy),
        }
    }

    /// Waits for a thread, and reads the repository in a folder.
    pub async fn read<T, F>(&self, folder: PathBuf, budget: Budget, call: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader, &Budget) -> Result<T, ReadError> + Send + 'static,
    {
        let turn = self.turn(MAX_WAIT).await?;
        turn.read(folder, budget, call).await
    }
}

impl ReadTurn {
    /// Holds a permit until the call has ended, also if its caller is gone.
    #[must_use]
    pub fn holding(mut self, permit: OwnedSemaphorePermit) -> Self {
        self.permits.push(permit);
        self
    }

    /// Reads the repository in a folder.
    pub async fn read<T, F>(self, folder: PathBuf, budget: Budget, call: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader, &Budget) -> Result<T, ReadError> + Send + 'static,
    {
        let Self { pool, permits } = self;
        let observer = pool.observer;
        let _interrupt = InterruptOnDrop(budget.interrupt());
        let (answer, answered) = oneshot::channel();
        let job: ReadJob = Box::new(move |handles| {
            let begin = thread_cpu_time();
            let result = catch_unwind(AssertUnwindSafe(|| {
                let reader = handles.open(&folder)?;
                budget.check()?;
                call(reader, &budget)
            }));
            let result = result.unwrap_or_else(|_| {
                handles.local.clear();
                Err(ReadError::Panicked)
            });
            if let Some(observer) = observer {
                observer(thread_cpu_time().saturating_sub(begin));
            }
            drop(permits);
            // The caller may be gone.
            let _ = answer.send(result);
        });
        pool.jobs.send(job).map_err(|_| ReadError::Busy)?;
        answered.await.map_err(|_| ReadError::Panicked)?
    }
}

fn work(
    queue: &Mutex<Receiver<ReadJob>>,
    shared: Arc<Mutex<HandleList<gix::ThreadSafeRepository>>>,
) {
    let mut handles = Handles {
        local: HandleList::new(MAX_LOCAL),
        shared,
    };
    loop {
        let job = lock(queue).recv();
        match job {
            Ok(job) => job(&mut handles),
            Err(_) => return,
        }
    }
}

/// The repositories that a thread has open.
struct Handles {
    local: HandleList<Reader>,
    shared: Arc<Mutex<HandleList<gix::ThreadSafeRepository>>>,
}

impl Handles {
    fn open(&mut self, folder: &Path) -> Result<&Reader, ReadError> {
        let identity = identity(folder)?;
        if !self.local.has(folder, identity) {
            let known = lock(&self.shared).get(folder, identity).cloned();
            let handle = match known {
                Some(handle) => handle,
                None => {
                    let handle = Reader::open_shared(folder)?;
                    lock(&self.shared).put(folder, identity, handle.clone());
                    handle
                }
            };
            self.local.put(folder, identity, Reader::new(&handle));
        }
        self.local.get(folder, identity).ok_or(ReadError::Panicked)
    }
}

fn identity(folder: &Path) -> Result<Identity, ReadError> {
    let failed = |source: std::io::Error| ReadError::Open {
        path: folder.to_owned(),
        source: gix::Error::from_error(source),
    };
    let repository = std::fs::metadata(folder).map_err(failed)?;
    let changed = |name: &str| {
        let found = std::fs::metadata(folder.join(name));
        found.map_or((0, 0), |found| (found.mtime(), found.mtime_nsec()))
    };
    let (config, packs) = (changed("config"), changed("objects/pack"));
    Ok((repository.dev(), repository.ino(), config, packs))
}

/// A few values by folder; the one that was used longest ago is dropped first.
struct HandleList<T> {
    max: usize,
    /// The last one was used last.
    items: Vec<(PathBuf, Identity, T)>,
}

impl<T> HandleList<T> {
    fn new(max: usize) -> Self {
        Self {
            max,
            items: Vec::new(),
        }
    }

    fn has(&self, folder: &Path, identity: Identity) -> bool {
        self.items
            .iter()
            .any(|(known, id, _)| known == folder && *id == identity)
    }

    fn get(&mut self, folder: &Path, identity: Identity) -> Option<&T> {
        let at = self
            .items
            .iter()
            .position(|(known, id, _)| known == folder && *id == identity)?;
        let item = self.items.remove(at);
        self.items.push(item);
        self.items.last().map(|(_, _, value)| value)
    }

    fn put(&mut self, folder: &Path, identity: Identity, value: T) {
        self.items.retain(|(known, _, _)| known != folder);
        if self.items.len() >= self.max {
            self.items.remove(0);
        }
        self.items.push((folder.to_owned(), identity, value));
    }

    fn clear(&mut self) {
        self.items.clear();
    }
}
