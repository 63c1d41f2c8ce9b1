//! Turns what the walk finds into jobs, one at a time.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;
use scanlib::Pool;

use super::job::{self, Answer, Item, Job, Outcome, Row, Settings};
use super::order::Tickets;
use super::walk::Found;
use crate::cli::lines::LineBatches;

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
}

impl Feeder<'_> {
    /// Feeds what was found.
    ///
    /// # Errors
    /// There is no use in going on.
    pub(super) fn feed(&mut self, found: Found<'_>) -> Result<(), PrinterGone> {
        match found {
            Found::File(path) => self.file(Arc::from(path)),
            Found::Stdin => self.stdin(&Arc::from(Path::new("-"))),
            Found::Directory(path) => self.answer(path, Outcome::Directory),
            Found::LeftOut(path, why) => self.answer(path, Outcome::LeftOut(why)),
            Found::TooDeep(path) => self.answer(path, Outcome::TooDeep),
            Found::Refused(path, error) => self.answer(path, Outcome::Error(error)),
        }
    }

    fn file(&mut self, path: Arc<Path>) -> Result<(), PrinterGone> {
        if !self.lines {
            return self.submit(Item::File(path));
        }
        match job::open(&path) {
            Ok(file) => self.line_batches(&path, BufReader::with_capacity(READ_BYTES, file)),
            Err(error) => self.answer(&path, Outcome::Error(error.to_string())),
        }
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

    fn line_batches(&mut self, path: &Arc<Path>, reader: impl BufRead) -> Result<(), PrinterGone> {
        let mut batches = LineBatches::new(reader, self.settings.max_message_bytes);
        loop {
            match batches.next_batch() {
                Ok(Some(batch)) => self.submit(Item::Lines(Arc::clone(path), batch))?,
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
