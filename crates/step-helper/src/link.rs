//! The stream to and from the runner: standard input and output of the helper, or a connection in
//! their place. What passes through a connection is encrypted.

use alloc::vec::Vec;

use quire_step::{ChannelError, FrameDecoder, FromHelper, SecureChannel};
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

/// How many bytes are encrypted at once, for one write.
const MAX_SEALED: usize = 256 << 10;

pub(crate) struct RunnerLink {
    decoder: FrameDecoder,
    queue: OutputQueue,
    secure: Option<SecureLink>,
    input: BorrowedFd<'static>,
    output: BorrowedFd<'static>,
    /// Where the peer is gone, output is dropped.
    output_open: bool,
    input_open: bool,
}

/// What a link has in addition if it is a connection.
struct SecureLink {
    channel: SecureChannel,
    /// Records of what was in the queue.
    sealed: OutputQueue,
}

/// Bytes that are written when the peer takes them.
#[derive(Default)]
struct OutputQueue {
    bytes: Vec<u8>,
    /// How much of them is written.
    written: usize,
}

impl RunnerLink {
    /// With a channel the standard input and output are its connection.
    pub(crate) fn open(channel: Option<SecureChannel>) -> Result<Self, Errno> {
        let [input, output, _] = sys::standard_fds();
        for fd in [input, output] {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        // Fewer and larger reads; where this is denied, or the input is no pipe, it works as well.
        let _ = fcntl_setpipe_size(input, PIPE_SIZE);
        Ok(Self {
            decoder: FrameDecoder::new(),
            queue: OutputQueue::default(),
            secure: channel.map(|channel| SecureLink {
                channel,
                sealed: OutputQueue::default(),
            }),
            input,
            output,
            output_open: true,
            input_open: true,
        })
    }

    pub(crate) fn send(&mut self, id: u32, frame: &FromHelper<'_>) {
        if self.output_open {
            let tail = frame.encode(id, &mut self.queue.bytes);
            self.queue.bytes.extend_from_slice(tail);
        }
    }

    /// Writes as much as the peer takes now.
    pub(crate) fn flush(&mut self) {
        loop {
            let (queue, result) = match &mut self.secure {
                None => (&mut self.queue, Ok(())),
                Some(secure) => {
                    let result = secure.seal(&mut self.queue);
                    (&mut secure.sealed, result.map_err(|_| Errno::PIPE))
                }
            };
            if result.is_ok() && queue.len() == 0 {
                break;
            }
            match result.and_then(|()| rustix::io::write(self.output, queue.rest())) {
                Ok(count) => queue.take(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.output_open = false;
                    queue.take(queue.len());
                    self.queue.take(self.queue.len());
                    break;
                }
            }
        }
    }

    /// Reads what is there into the decoder. Returns false at the end of the input. Bytes that are
    /// no records of the channel are the end as well: they are not from the runner.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> bool {
        match rustix::io::read(self.input, &mut *buffer) {
            Ok(0) => self.input_open = false,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                match &mut self.secure {
                    None => self.decoder.add(bytes),
                    Some(secure) => {
                        let receiver = &mut secure.channel.receiver;
                        let opened = self.decoder.add_by(|to| receiver.open(bytes, to));
                        self.input_open = opened.is_ok();
                    }
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.input_open = false,
        }
        self.input_open
    }

    /// Whether a lease keeps the helper after the end of the input. A runner comes back to standard
    /// streams, but the token of a connection is of use only once.
    pub(crate) fn outlives_input(&self) -> bool {
        self.secure.is_none()
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
        let sealed = self.secure.as_ref().map(|secure| secure.sealed.len());
        self.queue.len() + sealed.unwrap_or_default()
    }
}

impl SecureLink {
    /// Makes records from what is in the queue if none are left to be written.
    fn seal(&mut self, queue: &mut OutputQueue) -> Result<(), ChannelError> {
        if self.sealed.len() > 0 {
            return Ok(());
        }
        let rest = queue.rest();
        let piece = rest.get(..MAX_SEALED).unwrap_or(rest);
        self.channel.sender.seal(piece, &mut self.sealed.bytes)?;
        queue.take(piece.len());
        Ok(())
    }
}

impl OutputQueue {
    fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Removes bytes from the front.
    fn take(&mut self, count: usize) {
        self.written += count;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        } else if self.written > MAX_QUEUED_OUTPUT {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}
