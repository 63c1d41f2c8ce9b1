//! One file, or one batch of lines, on its way through the pool.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use scanlib::{
    Detector, Parser, Payload, Report, Request, ScanError, ScanOptions, Scanner, View, Work, Worker,
};

use super::quarantine::FileId;
use super::walk::LeftOut;
use crate::cli::lines::LineBatch;

/// What every job needs to know.
#[derive(Debug)]
pub(super) struct Settings {
    /// Report every signature.
    pub options: ScanOptions,
    /// How a line becomes a message.
    pub parser: Parser,
    /// Longest line that is scanned, in bytes.
    pub max_message_bytes: usize,
}

/// A question for the pool.
#[derive(Debug)]
pub(super) struct Job {
    /// Place in the order of the input.
    pub number: u64,
    /// What to scan.
    pub item: Item,
    /// Shared by all jobs.
    pub settings: Arc<Settings>,
}

/// What to scan.
#[derive(Debug)]
pub(super) enum Item {
    /// A file, by its path.
    File(Arc<Path>),
    /// An object that was read from standard input.
    Bytes(Arc<Path>, Vec<u8>),
    /// Lines of a file.
    Lines(Arc<Path>, LineBatch),
}

/// The answer to a [`Job`]: a row for the file, or one for each line.
#[derive(Debug)]
pub(super) struct Answer {
    /// Place in the order of the input.
    pub number: u64,
    /// In the order of the input.
    pub rows: Vec<Row>,
}

/// What is known about one file or line.
#[derive(Debug)]
pub(super) struct Row {
    /// The file.
    pub path: Arc<Path>,
    /// Number of the line, from 1.
    pub line: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
    /// Its share of the input, in bytes.
    pub bytes: u64,
    /// Which file was scanned under that path.
    pub file: Option<FileId>,
}

impl Row {
    /// A row about something that needs no scan.
    pub(super) fn plain(path: Arc<Path>, outcome: Outcome) -> Row {
        Row {
            path,
            line: None,
            outcome,
            bytes: 0,
            file: None,
        }
    }

    /// Whether it is about standard input.
    pub(super) fn is_stdin(&self) -> bool {
        // A file of that name is ./- here.
        self.path.as_os_str() == "-"
    }
}

/// What became of a file or line.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was scanned.
    Scanned(Report),
    /// There is nothing in it to scan.
    Empty,
    /// A line is longer than the limit: it was not scanned.
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A directory that lies too deep to be entered.
    TooDeep,
    /// It could not be scanned.
    Error(String),
    /// It was not to be scanned.
    LeftOut(LeftOut),
    /// A directory that was entered.
    Directory,
}

impl Work for Job {
    type Output = Answer;
    type Receipt = (u64, Arc<Path>);

    fn cost_bytes(&self) -> u64 {
        match &self.item {
            Item::File(_) => 0,
            Item::Bytes(_, bytes) => bytes.len() as u64,
            Item::Lines(_, batch) => batch.bytes() as u64,
        }
    }

    fn receipt(&self) -> Self::Receipt {
        let (Item::File(path) | Item::Bytes(path, _) | Item::Lines(path, _)) = &self.item;
        (self.number, Arc::clone(path))
    }

    fn run(self, worker: &mut Worker) -> Answer {
        let settings = &*self.settings;
        let rows = match self.item {
            Item::File(path) => vec![object(worker, settings, path, None)],
            Item::Bytes(path, bytes) => vec![object(worker, settings, path, Some(&bytes))],
            Item::Lines(path, batch) => lines(worker, settings, &batch)
                .into_iter()
                .zip(batch.iter())
                .map(|(outcome, (number, _, len))| Row {
                    line: Some(number),
                    bytes: len + 1,
                    ..Row::plain(Arc::clone(&path), outcome)
                })
                .collect(),
        };
        Answer {
            number: self.number,
            rows,
        }
    }

    fn panicked((number, path): Self::Receipt, message: String) -> Answer {
        let outcome = Outcome::Error(format!("the scan panicked: {message}"));
        Answer {
            number,
            rows: vec![Row::plain(path, outcome)],
        }
    }
}

/// Scans one file, or what stands for it.
fn object(worker: &mut Worker, settings: &Settings, path: Arc<Path>, bytes: Option<&[u8]>) -> Row {
    let (mut len, mut id) = (0, None);
    let outcome = worker.scan(|scanner| match bytes {
        Some([]) => Ok(None),
        Some(bytes) => {
            len = bytes.len() as u64;
            whole(scanner, settings, bytes).map(Some)
        }
        None => {
            let file = open(&path).map_err(|source| read_error(&path, source))?;
            let metadata = file
                .metadata()
                .map_err(|source| read_error(&path, source))?;
            (len, id) = (metadata.len(), Some(FileId::of(&metadata)));
            // Files of /proc and the like have bytes and no length.
            if len == 0 && file.read_at(&mut [0], 0).is_ok_and(|read| read == 0) {
                return Ok(None);
            }
            self::file(scanner, settings, &path, &file).map(Some)
        }
    });
    let outcome = match outcome {
        Ok(Some(report)) => Outcome::Scanned(report),
        Ok(None) => Outcome::Empty,
        // The row names the file already.
        Err(ScanError::Read { source, .. }) => Outcome::Error(source.to_string()),
        Err(error) => Outcome::Error(error.to_string()),
    };
    Row {
        bytes: len,
        file: id,
        ..Row::plain(path, outcome)
    }
}

/// Opens a regular file. What has become a FIFO since it was found must not keep the thread waiting for a writer.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("is not a regular file any more"))
    }
}

fn read_error(path: &Path, source: io::Error) -> ScanError {
    ScanError::Read {
        path: path.to_owned(),
        source,
    }
}

fn file(
    scanner: &mut Scanner,
    settings: &Settings,
    path: &Path,
    file: &File,
) -> Result<Report, ScanError> {
    let views = scanner.detector().views();
    if !views.contains(View::Body) && !views.contains(View::Decoded) {
        // libclamav reads the file itself, however large.
        let payload = Payload::File { file, path };
        let report = scanner.scan(payload, &Request::new().options(settings.options))?;
        if !(report.type_ignored && views.contains(View::Guarded)) {
            return Ok(report);
        }
    }
    let bytes = read(file, path, max_object_bytes(scanner.detector()))?;
    whole(scanner, settings, &bytes)
}

/// Scans an object in memory, in every view that is asked for.
fn whole(scanner: &mut Scanner, settings: &Settings, bytes: &[u8]) -> Result<Report, ScanError> {
    let request = Request::new().options(settings.options);
    scanner.scan_message(&settings.parser.parse(bytes), &request)
}

/// What becomes of a line that is not scanned.
fn not_scanned(settings: &Settings, line: &[u8], len: u64) -> Option<Outcome> {
    if len > line.len() as u64 {
        let max = settings.max_message_bytes as u64;
        return Some(Outcome::TooLong { len, max });
    }
    line.is_empty().then_some(Outcome::Empty)
}

/// Scans lines, in one go.
fn lines(worker: &mut Worker, settings: &Settings, batch: &LineBatch) -> Vec<Outcome> {
    let request = Request::new().options(settings.options);
    let is_scanned =
        |(_, line, len): &(u64, &[u8], u64)| not_scanned(settings, line, *len).is_none();
    let scanned = batch.iter().filter(is_scanned);
    let messages: Vec<_> = scanned
        .map(|(_, line, _)| settings.parser.parse(line))
        .collect();
    let in_one_go = worker.scan(|scanner| {
        let reports = scanner.scan_messages(&messages, &request);
        Ok(reports.collect::<Vec<_>>())
    });
    let reports = in_one_go.unwrap_or_else(|_| {
        // A panic, which is to cost one line its answer and not all.
        let one = |message| worker.scan(|scanner| scanner.scan_message(message, &request));
        messages.iter().map(one).collect()
    });
    let mut reports = reports.into_iter();
    let outcome = |(_, line, len)| match not_scanned(settings, line, len) {
        Some(outcome) => outcome,
        None => match reports.next() {
            Some(Ok(report)) => Outcome::Scanned(report),
            Some(Err(error)) => Outcome::Error(error.to_string()),
            None => Outcome::Error("the scan has no report".to_owned()),
        },
    };
    batch.iter().map(outcome).collect()
}

/// The most of an object that a view other than `raw` is made of.
pub(super) fn max_object_bytes(detector: &Detector) -> u64 {
    detector
        .engine()
        .map_or(100 << 20, |engine| engine.limits().max_file_bytes)
}

/// Reads an object whole; one byte past `max` tells the engine that it is too large.
pub(super) fn read(mut reader: impl Read, path: &Path, max: u64) -> Result<Vec<u8>, ScanError> {
    let mut bytes = Vec::new();
    match reader
        .by_ref()
        .take(max.saturating_add(1))
        .read_to_end(&mut bytes)
    {
        Ok(_) => Ok(bytes),
        Err(source) => Err(ScanError::Read {
            path: PathBuf::from(path),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_has_become_a_fifo_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        // Nobody will ever write to it.
        assert!(open(&path).is_err());
        std::fs::write(dir.path().join("file"), "text").unwrap();
        assert!(open(&dir.path().join("file")).is_ok());
        assert!(open(dir.path()).is_err());
    }
}
