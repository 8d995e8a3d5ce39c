//! The stream to and from the runner: standard input and output of the helper.

use alloc::vec::Vec;

use quire_step::{FrameDecoder, FromHelper};
use rustix::fd::BorrowedFd;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;

use crate::stdio::PIPE_SIZE;
use crate::sys;

/// Output of commands is read only while less than this is queued.
const MAX_QUEUED_OUTPUT: usize = 256 << 10;

/// Frames are read only while less than this is queued, so that a runner that does not read cannot
/// make the answers grow without bound.
const MAX_QUEUED: usize = 4 << 20;

pub(crate) struct RunnerLink {
    decoder: FrameDecoder,
    queue: Vec<u8>,
    /// How much of the queue is written.
    written: usize,
    input: BorrowedFd<'static>,
    output: BorrowedFd<'static>,
    /// Where the peer is gone, output is dropped.
    output_open: bool,
    input_open: bool,
}

impl RunnerLink {
    pub(crate) fn open() -> Result<Self, Errno> {
        let [input, output, _] = sys::standard_fds();
        for fd in [input, output] {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        // Fewer and larger reads; where this is denied, or the input is no pipe, it works as well.
        let _ = fcntl_setpipe_size(input, PIPE_SIZE);
        Ok(Self {
            decoder: FrameDecoder::new(),
            queue: Vec::new(),
            written: 0,
            input,
            output,
            output_open: true,
            input_open: true,
        })
    }

    pub(crate) fn send(&mut self, id: u32, frame: &FromHelper<'_>) {
        if self.output_open {
            let tail = frame.encode(id, &mut self.queue);
            self.queue.extend_from_slice(tail);
        }
    }

    /// Writes as much as the peer takes now.
    pub(crate) fn flush(&mut self) {
        while let Some(rest) = self
            .queue
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match rustix::io::write(self.output, rest) {
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.output_open = false;
                    self.written = self.queue.len();
                }
            }
        }
        if self.written == self.queue.len() {
            self.queue.clear();
            self.written = 0;
        } else if self.written > MAX_QUEUED_OUTPUT {
            self.queue.drain(..self.written);
            self.written = 0;
        }
    }

    /// Reads what is there into the decoder. Returns false at the end of the input.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> bool {
        match rustix::io::read(self.input, &mut *buffer) {
            Ok(0) => self.input_open = false,
            Ok(count) => self.decoder.add(buffer.get(..count).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.input_open = false,
        }
        self.input_open
    }

    /// Takes the decoder out, so that its frames can be obeyed without a copy; it has to be put back.
    pub(crate) fn take_decoder(&mut self) -> FrameDecoder {
        core::mem::take(&mut self.decoder)
    }

    pub(crate) fn put_decoder_back(&mut self, decoder: FrameDecoder) {
        self.decoder = decoder;
    }

    /// The descriptor to wait for input on, unless none is to be read now.
    pub(crate) fn wants_input(&self) -> Option<BorrowedFd<'static>> {
        (self.input_open && self.queued() < MAX_QUEUED).then_some(self.input)
    }

    pub(crate) fn wants_output(&self) -> Option<BorrowedFd<'static>> {
        (self.queued() > 0).then_some(self.output)
    }

    pub(crate) fn takes_task_output(&self) -> bool {
        self.queued() < MAX_QUEUED_OUTPUT
    }

    pub(crate) fn is_output_open(&self) -> bool {
        self.output_open
    }

    fn queued(&self) -> usize {
        self.queue.len() - self.written
    }
}
