//! One file, or one batch of lines, on its way through the pool.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use scanlib::{
    Detector, Parser, Payload, Report, Request, ScanError, ScanOptions, Scanner, View, Work, Worker,
};

use super::lines::LineBatch;

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
    /// It could not be scanned.
    Error(String),
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
            Item::Lines(path, batch) => batch
                .iter()
                .map(|(number, line, len)| Row {
                    path: Arc::clone(&path),
                    line: Some(number),
                    outcome: self::line(worker, settings, line, len),
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
            rows: vec![Row {
                path,
                line: None,
                outcome,
            }],
        }
    }
}

/// Scans one file, or what stands for it.
fn object(worker: &mut Worker, settings: &Settings, path: Arc<Path>, bytes: Option<&[u8]>) -> Row {
    let outcome = worker.scan(|scanner| match bytes {
        Some([]) => Ok(None),
        Some(bytes) => whole(scanner, settings, bytes).map(Some),
        None => file(scanner, settings, &path),
    });
    let outcome = match outcome {
        Ok(Some(report)) => Outcome::Scanned(report),
        Ok(None) => Outcome::Empty,
        Err(error) => Outcome::Error(error.to_string()),
    };
    Row {
        path,
        line: None,
        outcome,
    }
}

/// `None` for an empty file.
fn file(
    scanner: &mut Scanner,
    settings: &Settings,
    path: &Path,
) -> Result<Option<Report>, ScanError> {
    let read_error = |source| ScanError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read_error)?;
    if file.metadata().map_err(read_error)?.len() == 0 {
        return Ok(None);
    }
    let views = scanner.detector().views();
    if !views.contains(View::Body) && !views.contains(View::Decoded) {
        // libclamav reads the file itself, however large.
        let payload = Payload::File { file: &file, path };
        let report = scanner.scan(payload, &Request::new().options(settings.options))?;
        if !(report.type_ignored && views.contains(View::Guarded)) {
            return Ok(Some(report));
        }
    }
    let bytes = read(&file, path, max_object_bytes(scanner.detector()))?;
    whole(scanner, settings, &bytes).map(Some)
}

/// Scans an object in memory, in every view that is asked for.
fn whole(scanner: &mut Scanner, settings: &Settings, bytes: &[u8]) -> Result<Report, ScanError> {
    let request = Request::new().options(settings.options);
    scanner.scan_message(&settings.parser.parse(bytes), &request)
}

/// Scans one line.
fn line(worker: &mut Worker, settings: &Settings, line: &[u8], len: u64) -> Outcome {
    if len > line.len() as u64 {
        return Outcome::TooLong {
            len,
            max: settings.max_message_bytes as u64,
        };
    }
    if line.is_empty() {
        return Outcome::Empty;
    }
    let request = Request::new().options(settings.options);
    let message = settings.parser.parse(line);
    match worker.scan(|scanner| scanner.scan_message(&message, &request)) {
        Ok(report) => Outcome::Scanned(report),
        Err(error) => Outcome::Error(error.to_string()),
    }
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
