//! Bytes that arrive over time, held until they can be scanned.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::clam::{Engine, Payload};
use crate::error::ScanError;

/// What errors and libclamav are told as the name of what was spooled to a file.
const NAME: &str = "spooled data";
/// How much is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// An object that comes from a reader or in pieces: libclamav needs all of it before it can look.
///
/// 1. Up to [`Spool::memory_bytes`] are held in memory, more in a file without a name, which vanishes with the spool,
///    and with the process however that ends.
/// 2. No more than the limit and one byte is kept, so that a scan of a larger object says
///    [`FileTooLarge`](crate::Incomplete::FileTooLarge) and never "clean".
///
/// ```
/// use scanlib::{Detector, EngineBuilder, Library, Request, eicar};
///
/// let engine = EngineBuilder::new(Library::init()?)?.builtin_signatures()?.compile()?;
/// let mut spool = engine.spool();
/// spool.read_from(eicar::text().as_bytes())?; // or a socket, a decoder, standard input
/// let detector = Detector::builder().engine(engine).build()?;
/// let report = detector.scanner().scan(spool.payload()?, &Request::new())?;
/// assert_eq!(report.verdict.detections().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Spool {
    memory_bytes: usize,
    max_bytes: u64,
    dir: PathBuf,
    len: u64,
    held: Held,
    /// Something that came was not kept, and not because it was too much.
    torn: bool,
}

enum Held {
    Memory(Vec<u8>),
    File(File),
}

impl Spool {
    /// An empty spool for objects of up to `max_bytes`; larger ones than [`Spool::memory_bytes`] go to a file in `dir`.
    /// [`Engine::spool`] knows both.
    pub fn new(max_bytes: u64, dir: impl Into<PathBuf>) -> Spool {
        Spool {
            memory_bytes: 1 << 20,
            max_bytes,
            dir: dir.into(),
            len: 0,
            held: Held::Memory(Vec::new()),
            torn: false,
        }
    }

    /// How many bytes are held in memory before a file is used. Default: 1 MiB.
    pub fn memory_bytes(mut self, bytes: usize) -> Spool {
        self.memory_bytes = bytes;
        self
    }

    /// Adds all that the reader gives; stops reading once the object is larger than the limit.
    ///
    /// # Errors
    ///
    /// [`ScanError::Read`] if the reader fails, [`ScanError::Spool`] if there is no room for what it gave. The spool then
    /// gives no payload any more, because a part of an object is not the object.
    pub fn read_from(&mut self, mut reader: impl Read) -> Result<(), ScanError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        while !self.is_too_large() {
            match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => self.write_all(&chunk[..count]).map_err(|error| {
                    let dir = self.dir.clone();
                    ScanError::Spool { dir, error }
                })?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.torn = true;
                    let path = PathBuf::from("the reader");
                    return Err(ScanError::Read { path, error });
                }
            }
        }
        Ok(())
    }

    /// The object so far, in bytes; the limit and one if it is larger than that.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Nothing has arrived yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The object is larger than the limit; what more comes is not kept.
    pub fn is_too_large(&self) -> bool {
        self.len > self.max_bytes
    }

    /// What to scan.
    ///
    /// # Errors
    ///
    /// [`ScanError::Spool`] if reading or writing failed earlier.
    pub fn payload(&self) -> Result<Payload<'_>, ScanError> {
        if self.torn {
            let dir = self.dir.clone();
            let error = io::Error::other("a part of it was lost to an earlier error");
            return Err(ScanError::Spool { dir, error });
        }
        Ok(match &self.held {
            Held::Memory(bytes) => Payload::Bytes(bytes),
            Held::File(file) => Payload::File {
                file,
                path: Path::new(NAME),
            },
        })
    }

    /// Keeps as much as there may be.
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.max_bytes.saturating_add(1) - self.len;
        let bytes = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if let Held::Memory(memory) = &self.held
            && memory.len() + bytes.len() > self.memory_bytes
            && !bytes.is_empty()
        {
            let mut file = tempfile::tempfile_in(&self.dir)?;
            file.write_all(memory)?;
            self.held = Held::File(file);
        }
        match &mut self.held {
            Held::Memory(memory) => memory.extend_from_slice(bytes),
            Held::File(file) => file.write_all(bytes)?,
        }
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// Takes everything, so that a sender can be heard to its end; keeps no more than the limit and one byte.
impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let added = self.add(bytes);
        self.torn |= added.is_err();
        added.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Without the data.
impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool")
            .field("len", &self.len)
            .field("max_bytes", &self.max_bytes)
            .field("in_memory", &matches!(self.held, Held::Memory(_)))
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An empty [`Spool`] with this engine's limit on an object's size, and its directory for temporary files; fill it
    /// while the engine lives.
    pub fn spool(&self) -> Spool {
        Spool::new(self.limits().max_file_bytes, &self.info().tmp_dir)
    }
}
