//! Turns the paths on the command line into jobs, one at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;
use scanlib::Pool;
use walkdir::WalkDir;

use super::job::{self, Answer, Item, Job, Outcome, Row, Settings};
use super::lines::LineBatches;
use super::order::Tickets;

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
    /// Descend into directories.
    pub recursive: bool,
    /// Most of standard input that is scanned as one object, in bytes.
    pub max_object_bytes: u64,
}

impl Feeder<'_> {
    /// Feeds one path of the command line.
    ///
    /// # Errors
    /// There is no use in going on.
    pub(super) fn path(&mut self, path: &Path) -> Result<(), PrinterGone> {
        if path.as_os_str() == "-" {
            return self.stdin(&Arc::from(path));
        }
        match path.metadata() {
            Err(error) => self.refuse(Arc::from(path), error.to_string()),
            Ok(metadata) if metadata.is_dir() => self.directory(path),
            Ok(metadata) if metadata.is_file() => self.file(Arc::from(path)),
            Ok(_) => self.refuse(
                Arc::from(path),
                "is neither a file nor a directory".to_owned(),
            ),
        }
    }

    fn directory(&mut self, root: &Path) -> Result<(), PrinterGone> {
        // As clamscan does: symbolic links are followed on the command line, not inside.
        let depth = if self.recursive { usize::MAX } else { 1 };
        for entry in WalkDir::new(root).follow_root_links(true).max_depth(depth) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => self.file(Arc::from(entry.path()))?,
                Ok(_) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(root);
                    let what = error
                        .io_error()
                        .map_or_else(|| error.to_string(), ToString::to_string);
                    self.refuse(Arc::from(path), what)?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, path: Arc<Path>) -> Result<(), PrinterGone> {
        if !self.lines {
            return self.submit(Item::File(path));
        }
        match File::open(&path) {
            Ok(file) => self.line_batches(&path, BufReader::with_capacity(READ_BYTES, file)),
            Err(error) => self.refuse(path, error.to_string()),
        }
    }

    fn stdin(&mut self, path: &Arc<Path>) -> Result<(), PrinterGone> {
        let stdin = io::stdin().lock();
        if self.lines {
            return self.line_batches(path, stdin);
        }
        match job::read(stdin, path, self.max_object_bytes) {
            Ok(bytes) => self.submit(Item::Bytes(Arc::clone(path), bytes)),
            Err(error) => self.refuse(Arc::clone(path), error.to_string()),
        }
    }

    fn line_batches(&mut self, path: &Arc<Path>, reader: impl BufRead) -> Result<(), PrinterGone> {
        let mut batches = LineBatches::new(reader, self.settings.max_message_bytes);
        loop {
            match batches.next_batch() {
                Ok(Some(batch)) => self.submit(Item::Lines(Arc::clone(path), batch))?,
                Ok(None) => return Ok(()),
                Err(error) => return self.refuse(Arc::clone(path), error.to_string()),
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

    fn refuse(&mut self, path: Arc<Path>, error: String) -> Result<(), PrinterGone> {
        let number = self.tickets.take().ok_or(PrinterGone)?;
        let rows = vec![Row {
            path,
            line: None,
            outcome: Outcome::Error(error),
        }];
        self.answers
            .send(Answer { number, rows })
            .map_err(|_| PrinterGone)
    }
}
