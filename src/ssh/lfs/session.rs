//! A session of git-lfs: answers requests one by one until the client quits. Objects pass through in pieces, whatever their size.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use quire_git::PushLock;
use quire_git::lfs::{LfsLocks, LfsOid, LfsStore, LfsUpload};
use quire_types::disk_space::free_bytes;
use quire_types::error_chain;
use quire_types::text::format_bytes;

use super::answer::{LfsAnswer, Refusal};
use super::lock_answers;
use super::request::{LfsRequest, ObjectSpec, RequestHead, read_head, read_objects};
use crate::ssh::command::LfsOperation;
use crate::ssh::git_session::SessionError;
use quire_git::lfs::packets::{Packet, PacketError, PacketReader, PacketWriter};

/// The protocol's version. There is no other.
const VERSION: &str = "1";
/// The ids of objects are hashes of this kind.
const HASH: &str = "sha256";
/// How many bytes of an upload pass between two looks at the free space.
const SPACE_CHECK_INTERVAL: u64 = 64 << 20;

/// What a client may do, and with which objects.
pub(super) struct LfsAccess<'a> {
    pub(super) store: OpenStore,
    /// Creates the store, if the repository does not exist yet.
    pub(super) create: Option<CreateStore<'a>>,
    pub(super) operation: LfsOperation,
    /// The name of the client's key.
    pub(super) owner: String,
    /// A folder of the volume, whose free space counts.
    pub(super) volume: PathBuf,
    /// How many bytes have to stay free.
    pub(super) min_free: u64,
}

/// A connection to a client.
pub(super) struct LfsSession<'a, R, W> {
    packets: PacketReader<R>,
    answers: PacketWriter<W>,
    access: LfsAccess<'a>,
}

/// The objects of a repository.
pub(super) struct OpenStore {
    pub(super) store: LfsStore,
    /// While it is held, the repository is not removed because it is empty.
    #[expect(dead_code, reason = "held for its lock")]
    pub(super) lock: Option<PushLock>,
}

/// Creates the repository of an upload to a new name. It is called before something is stored: a push that is only tried
/// leaves no repository.
pub(super) type CreateStore<'a> = Box<dyn FnOnce() -> Result<OpenStore, SessionError> + 'a>;

impl<'a, R: BufRead, W: Write> LfsSession<'a, R, W> {
    pub(super) fn new(input: R, output: W, access: LfsAccess<'a>) -> Self {
        Self {
            packets: PacketReader::new(input),
            answers: PacketWriter::new(output),
            access,
        }
    }

    fn store(&self) -> &LfsStore {
        &self.access.store.store
    }

    /// Answers until the client quits or closes the connection.
    ///
    /// # Errors
    /// The connection cannot be used further.
    pub(super) fn run(mut self) -> Result<(), PacketError> {
        self.answers.line(&format!("version={VERSION}"))?;
        self.answers.line("locking")?;
        self.answers.flush()?;
        while let Some(head) = read_head(&mut self.packets)? {
            if head.request == Ok(LfsRequest::Quit) {
                self.skip_body(head.has_body)?;
                return self.succeed();
            }
            self.answer(head)?;
        }
        Ok(())
    }

    fn answer(&mut self, head: RequestHead) -> Result<(), PacketError> {
        let is_upload = self.access.operation == LfsOperation::Upload;
        match head.request {
            Ok(LfsRequest::Batch { hash }) if head.has_body => {
                let objects = read_objects(&mut self.packets)?;
                let answer = objects
                    .map_err(Refusal::from)
                    .and_then(|objects| self.batch(hash.as_deref(), &objects));
                self.lines(answer)
            }
            Ok(LfsRequest::PutObject(object)) if is_upload => {
                match self.put_object(&object, head.has_body)? {
                    Ok(()) => self.succeed(),
                    Err(refusal) => self.refuse(&refusal),
                }
            }
            request => {
                self.skip_body(head.has_body)?;
                match request {
                    Err(error) => self.refuse(&error.into()),
                    Ok(request) => self.answer_without_body(request),
                }
            }
        }
    }

    fn answer_without_body(&mut self, request: LfsRequest) -> Result<(), PacketError> {
        let is_upload = self.access.operation == LfsOperation::Upload;
        if is_upload
            && matches!(request, LfsRequest::Lock { .. })
            && let Err(refusal) = self.create_store()
        {
            return self.refuse(&refusal);
        }
        let locks = LfsLocks::of(self.store());
        match request {
            LfsRequest::Version(version) if version == VERSION => self.succeed(),
            LfsRequest::Version(_) => self.refuse(&Refusal::new(
                400,
                format!("only version {VERSION} of the protocol is supported"),
            )),
            LfsRequest::VerifyObject(object) if is_upload => match self.verify_object(&object) {
                Ok(()) => self.succeed(),
                Err(refusal) => self.refuse(&refusal),
            },
            LfsRequest::GetObject(oid) => self.get_object(&oid),
            LfsRequest::ListLocks(query) => {
                let found = locks.list().map_err(Refusal::from);
                self.lines(found.map(|found| lock_answers::list(found, &query, &self.access.owner)))
            }
            LfsRequest::Lock { path } if is_upload => {
                let answer = lock_answers::lock(&locks, &path, &self.access.owner);
                self.lines(Ok(answer))
            }
            LfsRequest::Unlock { id } if is_upload => {
                let unlocked = locks.unlock(&id).map_err(Refusal::from);
                self.lines(unlocked.map(|lock| lock_answers::unlocked(&lock)))
            }
            LfsRequest::Batch { .. } => self.refuse(&Refusal::new(400, "a batch without objects")),
            LfsRequest::PutObject(_)
            | LfsRequest::VerifyObject(_)
            | LfsRequest::Lock { .. }
            | LfsRequest::Unlock { .. }
            | LfsRequest::Quit => self.refuse(&Refusal::new(
                403,
                "this session is one of downloads, which changes nothing",
            )),
        }
    }

    /// Creates the repository, if it does not exist yet.
    fn create_store(&mut self) -> Result<(), Refusal> {
        if let Some(create) = self.access.create.take() {
            let created = create();
            self.access.store =
                created.map_err(|error| Refusal::new(500, error_chain::chain(&error)))?;
        }
        Ok(())
    }

    /// What has to be done for each object.
    fn batch(&self, hash: Option<&str>, objects: &[ObjectSpec]) -> Result<LfsAnswer, Refusal> {
        if hash.is_some_and(|hash| hash != HASH) {
            let message = format!("the ids of objects have to be of the kind {HASH}");
            return Err(Refusal::new(409, message));
        }
        let mut answer = LfsAnswer::new(200);
        answer.arguments.push(format!("hash-algo={HASH}"));
        let mut missing = 0u64;
        for ObjectSpec { oid, size } in objects {
            let found = self.store().size(oid);
            let found = found.map_err(|error| Refusal::unreadable(&error))?;
            let action = match (self.access.operation, found) {
                (LfsOperation::Upload, Some(found)) if found == *size => "noop",
                (LfsOperation::Upload, _) => {
                    missing = missing.saturating_add(*size);
                    "upload"
                }
                // Of an object that is not here, `get-object` says so: the client passes over one without an action.
                (LfsOperation::Download, _) => "download",
            };
            answer.lines.push(format!("{oid} {size} {action}"));
        }
        if missing > 0 {
            self.check_space(missing)?;
        }
        Ok(answer)
    }

    /// Whether this many bytes fit on the disk, with what has to stay free.
    fn check_space(&self, size: u64) -> Result<(), Refusal> {
        // Where it cannot be told, writing will.
        let Ok(free) = free_bytes(&self.access.volume) else {
            return Ok(());
        };
        if size.saturating_add(self.access.min_free) <= free {
            return Ok(());
        }
        let what = match size {
            0 => "the disk is nearly full".to_owned(),
            size => format!("the disk has no room for {}", format_bytes(size)),
        };
        let message = format!(
            "{what}: {} are free, and {} have to stay free; nothing was stored",
            format_bytes(free),
            format_bytes(self.access.min_free)
        );
        Err(Refusal::new(507, message))
    }

    /// Stores an object. The request is read to its end in any case: the client reads no answer before.
    fn put_object(
        &mut self,
        object: &ObjectSpec,
        has_body: bool,
    ) -> Result<Result<(), Refusal>, PacketError> {
        let room = self.check_space(object.size);
        let ready = room.and_then(|()| self.create_store());
        let mut upload = ready.and_then(|()| {
            let upload = self.store().upload(&object.oid, object.size);
            upload.map_err(Refusal::from)
        });
        if has_body {
            self.receive(&mut upload)?;
        }
        Ok(upload.and_then(|upload| upload.finish().map_err(Refusal::from)))
    }

    /// Passes the body of a request on to an upload, until it fails; the rest is read all the same.
    fn receive(&mut self, upload: &mut Result<LfsUpload, Refusal>) -> Result<(), PacketError> {
        let mut unchecked = 0;
        loop {
            match self.packets.read()? {
                Packet::Flush => return Ok(()),
                Packet::Delimiter => {}
                Packet::Data(data) => {
                    unchecked += data.len() as u64;
                    let written = upload.as_mut().map(|upload| upload.write(data));
                    if let Ok(Err(error)) = written {
                        *upload = Err(error.into());
                    }
                }
            }
            if unchecked >= SPACE_CHECK_INTERVAL && upload.is_ok() {
                unchecked = 0;
                if let Err(refusal) = self.check_space(0) {
                    *upload = Err(refusal);
                }
            }
        }
    }

    fn verify_object(&self, object: &ObjectSpec) -> Result<(), Refusal> {
        let found = self.store().size(&object.oid);
        match found.map_err(|error| Refusal::unreadable(&error))? {
            Some(size) if size == object.size => Ok(()),
            Some(size) => {
                let message = format!("the object has {size} bytes, not {}", object.size);
                Err(Refusal::new(409, message))
            }
            None => Err(not_here(&object.oid)),
        }
    }

    fn get_object(&mut self, oid: &LfsOid) -> Result<(), PacketError> {
        let (file, size) = match self.store().open(oid) {
            Ok(Some(found)) => found,
            Ok(None) => return self.refuse(&not_here(oid)),
            Err(error) => return self.refuse(&Refusal::unreadable(&error)),
        };
        self.answers.line("status 200")?;
        self.answers.line(&format!("size={size}"))?;
        self.answers.delimiter()?;
        if self.answers.data(file)? != size {
            return Err(PacketError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(self.answers.flush()?)
    }

    /// Reads what follows the head of a request, and ignores it.
    fn skip_body(&mut self, has_body: bool) -> Result<(), PacketError> {
        while has_body && self.packets.read()? != Packet::Flush {}
        Ok(())
    }

    fn succeed(&mut self) -> Result<(), PacketError> {
        self.answers.line("status 200")?;
        Ok(self.answers.flush()?)
    }

    fn refuse(&mut self, refusal: &Refusal) -> Result<(), PacketError> {
        self.lines(Err(Refusal::new(refusal.status, refusal.message.as_str())))
    }

    fn lines(&mut self, answer: Result<LfsAnswer, Refusal>) -> Result<(), PacketError> {
        let answer = answer.unwrap_or_else(|refusal| LfsAnswer {
            status: refusal.status,
            arguments: Vec::new(),
            lines: vec![quire_types::text::single_line(&refusal.message)],
        });
        self.answers.line(&format!("status {}", answer.status))?;
        for argument in &answer.arguments {
            self.answers.line(argument)?;
        }
        self.answers.delimiter()?;
        for line in &answer.lines {
            self.answers.line(line)?;
        }
        Ok(self.answers.flush()?)
    }
}

fn not_here(oid: &LfsOid) -> Refusal {
    let message = format!(
        "the object {oid} is not on this forge; `git lfs push --all REMOTE` from a clone that has it sends it"
    );
    Refusal::new(404, message)
}
