//! Turns what the walk finds into jobs, one at a time.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;
use scanlib::{FileState, Pool};

use super::job::{self, Answer, Item, Job, Outcome, Row, Settings};
use super::order::Tickets;
use super::walk::{Found, Target};
use crate::cli::lines::LineBatches;
use crate::cli::unpack::{Unpacked, unpack};

/// How much of a file is read at once for its lines, in bytes.
const READ_BYTES: usize = 256 << 10;

/// Nobody is left to print to.
#[derive(Debug)]
pub(super) struct PrinterGone;

/// Feeds the pool. What cannot even be opened is answered here, in its place.
#[derive(Debug)]
pub(super) struct Feeder<'a> {
    /// Where jobs go.
    pub pool: &'a Pool<Job>,
    /// Where answers go that need no scan.
    pub answers: &'a Sender<Answer>,
    /// Numbers for both.
    pub tickets: Tickets,
    /// Shared by the jobs.
    pub settings: Arc<Settings>,
    /// Lines are messages.
    pub lines: bool,
    /// Most of standard input that is scanned as one object, in bytes.
    pub max_object_bytes: u64,
    /// Longest line that is read to its end from a compressed file, in bytes.
    pub max_line_bytes: u64,
    /// Set when nobody is left to print to: a line that unpacks without an end would never find out.
    pub stop: &'a AtomicBool,
}

/// Ends a stream when it is to stop.
struct Stoppable<'s, R> {
    reader: R,
    stop: &'s AtomicBool,
}

impl<R: BufRead> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Stoppable<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }
}

impl Feeder<'_> {
    /// Feeds what was found.
    ///
    /// # Errors
    /// There is no use in going on.
    pub(super) fn feed(&mut self, found: Found<'_>) -> Result<(), PrinterGone> {
        match found {
            Found::File(target) => self.file(target),
            Found::Stdin => self.stdin(&Arc::from(Path::new("-"))),
            Found::Directory(path) => self.answer(path, Outcome::Directory),
            Found::LeftOut(path, why) => self.answer(path, Outcome::LeftOut(why)),
            Found::TooDeep(path) => self.answer(path, Outcome::TooDeep),
            Found::Refused(path, error) => self.answer(path, Outcome::Error(error)),
        }
    }

    fn file(&mut self, target: Target) -> Result<(), PrinterGone> {
        if !self.lines {
            return self.submit(Item::File(target));
        }
        let path = &Arc::clone(&target.path);
        let opened = target.open().and_then(|file| {
            let before = FileState::settled(&file)?;
            Ok((file, before))
        });
        let (file, before) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.answer(path, Outcome::Error(error.to_string())),
        };
        self.line_batches(path, &file)?;
        if FileState::of(&file).ok() != Some(before) || target.is_replaced_by(&before) {
            self.answer(path, Outcome::Changed)?;
        }
        Ok(())
    }

    fn stdin(&mut self, path: &Arc<Path>) -> Result<(), PrinterGone> {
        let stdin = io::stdin().lock();
        if self.lines {
            return self.line_batches(path, stdin);
        }
        match job::read(stdin, path, self.max_object_bytes) {
            Ok(bytes) => self.submit(Item::Bytes(Arc::clone(path), bytes)),
            Err(error) => self.answer(path, Outcome::Error(error.to_string())),
        }
    }

    fn line_batches(&mut self, path: &Arc<Path>, stream: impl Read) -> Result<(), PrinterGone> {
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let name = (path.as_os_str() != "-").then_some(&**path);
        let Unpacked { reader, consumed } = match unpack(stream, name) {
            Ok(unpacked) => unpacked,
            Err(error) => return self.answer(path, Outcome::Error(error.to_string())),
        };
        let reader = Stoppable {
            reader,
            stop: self.stop,
        };
        let mut batches = LineBatches::new(reader, self.settings.max_message_bytes);
        if consumed.is_some() {
            batches = batches.longest(self.max_line_bytes);
        }
        let mut counted = 0;
        loop {
            match batches.next_batch() {
                Ok(Some(batch)) => {
                    let bytes = match &consumed {
                        None => batch.stream_bytes(),
                        Some(consumed) => consumed.get() - counted,
                    };
                    counted += bytes;
                    self.submit(Item::Lines(Arc::clone(path), batch, bytes))?;
                }
                Ok(None) => return Ok(()),
                Err(error) => return self.answer(path, Outcome::Error(error.to_string())),
            }
        }
    }

    fn submit(&mut self, item: Item) -> Result<(), PrinterGone> {
        let number = self.tickets.take().ok_or(PrinterGone)?;
        let job = Job {
            number,
            item,
            settings: Arc::clone(&self.settings),
        };
        self.pool.submit(job).map_err(|_| PrinterGone)
    }

    fn answer(&mut self, path: &Path, outcome: Outcome) -> Result<(), PrinterGone> {
        let number = self.tickets.take().ok_or(PrinterGone)?;
        let rows = vec![Row::plain(Arc::from(path), outcome)];
        self.answers
            .send(Answer { number, rows })
            .map_err(|_| PrinterGone)
    }
}
