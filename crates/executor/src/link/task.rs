//! One task of the helper: a command, a file that is read or written, an export, the tree.
//!
//! Both directions have a window. Output counts from when the helper sends it until the caller has
//! dealt with it; input from when it is sent until the helper's side has taken it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quire_step::{INPUT_CREDIT, OUTPUT_CREDIT, TerminalSize, ToHelper};
use tokio::sync::{Semaphore, mpsc};

use super::frame::{HelperEvent, HelperFailure};
use super::writer::FrameSender;

/// After how many bytes of output the helper is granted more.
const GRANT_STEP: u32 = OUTPUT_CREDIT / 4;

/// How many bytes of input a frame has: so much may be before a frame that is urgent.
const MAX_INPUT: usize = 256 << 10;

/// The tasks of a connection that have not ended. Clones share them.
#[derive(Clone, Default)]
pub(super) struct TaskTable(Arc<Mutex<OpenTasks>>);

#[derive(Default)]
struct OpenTasks {
    last_id: u32,
    open: HashMap<u32, TaskEntry>,
    closed: bool,
}

/// The end of a task that is kept by the connection.
struct TaskEntry {
    /// `None` once the caller is gone: what still comes is dropped.
    events: Option<mpsc::UnboundedSender<HelperEvent>>,
    /// How many bytes of output the helper may still send.
    output_credit: u64,
    /// How many bytes of input may still be sent.
    input_credit: Arc<Semaphore>,
}

/// A task that was begun. Dropping it before its end kills what it does.
pub(crate) struct HelperTask {
    id: u32,
    sender: FrameSender,
    table: TaskTable,
    events: mpsc::UnboundedReceiver<HelperEvent>,
    /// Bytes that were dealt with, and not yet granted again.
    consumed: u32,
    has_ended: bool,
    input_credit: Arc<Semaphore>,
}

/// Sends the input of a task.
pub(crate) struct InputSender {
    id: u32,
    sender: FrameSender,
    credit: Arc<Semaphore>,
}

/// How a task ended.
pub(crate) enum TaskEnd {
    Succeeded,
    Failed(HelperFailure),
    /// The connection is lost.
    Lost,
}

/// The task takes no more input: it has ended, or the connection is lost.
#[derive(Debug)]
pub(crate) struct TaskEnded;

/// Acts on a task from elsewhere.
pub(crate) struct TaskControl {
    id: u32,
    sender: FrameSender,
}

impl TaskControl {
    /// The end comes as a frame of the task.
    pub(crate) fn kill(&self) {
        self.sender.send(self.id, &ToHelper::Kill);
    }

    /// Changes the size of the task's terminal.
    pub(crate) fn resize(&self, size: TerminalSize) {
        self.sender.send(self.id, &ToHelper::Resize(size));
    }
}

impl TaskTable {
    fn tasks(&self) -> MutexGuard<'_, OpenTasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_any_open(&self) -> bool {
        !self.tasks().open.is_empty()
    }

    /// Enters a new task; `None` if there are no new ones.
    pub(super) fn begin(&self, sender: &FrameSender) -> Option<HelperTask> {
        let mut tasks = self.tasks();
        if tasks.closed {
            return None;
        }
        let id = tasks.last_id.checked_add(1)?;
        tasks.last_id = id;
        let (entry, task) = HelperTask::new(id, sender.clone(), self.clone());
        tasks.open.insert(id, entry);
        Some(task)
    }

    /// Ends all tasks; there are no new ones.
    pub(super) fn close(&self) {
        let mut tasks = self.tasks();
        tasks.closed = true;
        tasks.open.clear();
    }

    /// Hands a frame to its task.
    pub(super) fn deliver(&self, id: u32, frame: HelperEvent) -> Result<(), String> {
        let mut tasks = self.tasks();
        let Entry::Occupied(mut task) = tasks.open.entry(id) else {
            return Err(format!("a frame of the unknown task {id}"));
        };
        let is_last = matches!(frame, HelperEvent::Done);
        task.get_mut().deliver(frame)?;
        if is_last {
            task.remove();
        }
        Ok(())
    }

    /// Grants the helper more bytes of output on a task.
    fn grant(&self, id: u32, bytes: u64) {
        if let Some(task) = self.tasks().open.get_mut(&id) {
            task.grant_output(bytes);
        }
    }

    /// The caller of a task is gone. Returns whether the task has not ended.
    fn abandon(&self, id: u32) -> bool {
        match self.tasks().open.get_mut(&id) {
            Some(task) => {
                task.abandon();
                true
            }
            None => false,
        }
    }
}

impl HelperTask {
    fn new(id: u32, sender: FrameSender, table: TaskTable) -> (TaskEntry, Self) {
        let (events_sender, events) = mpsc::unbounded_channel();
        let input_credit = Arc::new(Semaphore::new(INPUT_CREDIT as usize));
        let entry = TaskEntry {
            events: Some(events_sender),
            output_credit: u64::from(OUTPUT_CREDIT),
            input_credit: Arc::clone(&input_credit),
        };
        let task = Self {
            id,
            sender,
            table,
            events,
            consumed: 0,
            has_ended: false,
            input_credit,
        };
        (entry, task)
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn input(&self) -> InputSender {
        InputSender {
            id: self.id,
            sender: self.sender.clone(),
            credit: Arc::clone(&self.input_credit),
        }
    }

    /// Returns the next frame of the task; the last one is [`HelperEvent::Done`]. `None` if the
    /// connection is lost.
    pub(crate) async fn next(&mut self) -> Option<HelperEvent> {
        let frame = self.events.recv().await?;
        self.has_ended |= matches!(frame, HelperEvent::Done);
        Some(frame)
    }

    /// Waits for the end of the task while its input is sent. Fails if the input cannot be read.
    pub(crate) async fn finish(
        &mut self,
        sending: impl Future<Output = std::io::Result<()>>,
    ) -> std::io::Result<TaskEnd> {
        let mut sending = std::pin::pin!(sending);
        let mut sent = false;
        let mut failure = None;
        loop {
            tokio::select! {
                frame = self.next() => match frame {
                    Some(HelperEvent::Failed(error)) => failure = Some(error),
                    Some(HelperEvent::Done) => {
                        return Ok(failure.map_or(TaskEnd::Succeeded, TaskEnd::Failed));
                    }
                    Some(_) => {}
                    None => return Ok(TaskEnd::Lost),
                },
                result = &mut sending, if !sent => {
                    result?;
                    sent = true;
                }
            }
        }
    }

    /// The caller has dealt with so many bytes of output.
    pub(crate) fn consumed(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.consumed = self.consumed.saturating_add(bytes);
        if self.consumed >= GRANT_STEP {
            let granted = std::mem::take(&mut self.consumed);
            self.table.grant(self.id, u64::from(granted));
            self.sender.send(self.id, &ToHelper::Credit(granted));
        }
    }

    pub(crate) fn control(&self) -> TaskControl {
        TaskControl {
            id: self.id,
            sender: self.sender.clone(),
        }
    }
}

impl Drop for HelperTask {
    fn drop(&mut self) {
        if !self.has_ended && self.table.abandon(self.id) {
            self.control().kill();
        }
    }
}

impl InputSender {
    /// Sends input as the task takes it. Waits for good if it takes no more; fails once it has ended, or
    /// the connection is lost.
    pub(crate) async fn send(&self, mut bytes: Bytes) -> Result<(), TaskEnded> {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(MAX_INPUT));
            let wanted = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let permit = self.credit.acquire_many(wanted).await;
            permit.map_err(|_| TaskEnded)?.forget();
            self.sender.send_input(self.id, chunk).await;
        }
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.sender.send_end_of_input(self.id).await;
    }
}

impl TaskEntry {
    /// Hands a frame to the caller.
    fn deliver(&mut self, frame: HelperEvent) -> Result<(), String> {
        if let HelperEvent::Credit(bytes) = frame {
            return self.add_input_credit(bytes);
        }
        let length = frame.output_len();
        self.output_credit = self
            .output_credit
            .checked_sub(length)
            .ok_or("more output than was granted")?;
        if let Some(events) = &self.events {
            // The caller may be about to drop its end.
            let _ = events.send(frame);
        }
        Ok(())
    }

    fn add_input_credit(&self, bytes: u32) -> Result<(), String> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let granted = self.input_credit.available_permits().saturating_add(bytes);
        if granted > INPUT_CREDIT as usize {
            return Err("more credit than input was sent".to_owned());
        }
        self.input_credit.add_permits(bytes);
        Ok(())
    }

    fn grant_output(&mut self, bytes: u64) {
        self.output_credit = self.output_credit.saturating_add(bytes);
    }

    /// The caller is gone.
    fn abandon(&mut self) {
        self.events = None;
    }
}

impl Drop for TaskEntry {
    fn drop(&mut self) {
        // Input that waits for credit would wait for good.
        self.input_credit.close();
    }
}
