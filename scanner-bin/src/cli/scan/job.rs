//! One file, or one batch of lines, on its way through the pool.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use scanlib::{
    Detector, FileState, Parser, Payload, Report, Request, ScanError, ScanOptions, Scanner, View,
    Work, Worker,
};

use super::quarantine::{self, ScannedFile};
use super::walk::{LeftOut, Target};
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
    /// A file.
    File(Target),
    /// An object that was read from standard input.
    Bytes(Arc<Path>, Vec<u8>),
    /// Lines of a file, and how many bytes of it they took.
    Lines(Arc<Path>, LineBatch, u64),
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
    /// The file that was scanned, as it was after the scan. `None` if it changed meanwhile.
    pub file: Option<ScannedFile>,
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
    /// The file changed while it was read.
    Changed,
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
            Item::Lines(_, batch, _) => batch.bytes() as u64,
        }
    }

    fn receipt(&self) -> Self::Receipt {
        let (Item::File(Target { path, .. }) | Item::Bytes(path, _) | Item::Lines(path, _, _)) =
            &self.item;
        (self.number, Arc::clone(path))
    }

    fn run(self, worker: &mut Worker) -> Answer {
        let settings = &*self.settings;
        let rows = match self.item {
            Item::File(target) => vec![file(worker, settings, target)],
            Item::Bytes(path, bytes) => vec![object(worker, settings, path, &bytes)],
            Item::Lines(path, batch, bytes) => lines(worker, settings, &batch)
                .into_iter()
                .zip(batch.iter())
                // The first one stands for all of them.
                .zip(std::iter::once(bytes).chain(std::iter::repeat(0)))
                .map(|((outcome, (number, _, _)), bytes)| Row {
                    line: Some(number),
                    bytes,
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

/// Scans an object that is in memory.
fn object(worker: &mut Worker, settings: &Settings, path: Arc<Path>, bytes: &[u8]) -> Row {
    let outcome = match bytes {
        [] => Outcome::Empty,
        bytes => outcome(worker.scan(|scanner| whole(scanner, settings, bytes).map(Some))),
    };
    Row {
        bytes: bytes.len() as u64,
        ..Row::plain(path, outcome)
    }
}

/// Scans a file.
fn file(worker: &mut Worker, settings: &Settings, target: Target) -> Row {
    let path = Arc::clone(&target.path);
    let file = match target.open() {
        Ok(file) => file,
        Err(error) => return Row::plain(path, Outcome::Error(error.to_string())),
    };
    let before = match FileState::settled(&file) {
        Ok(state) => state,
        Err(error) => return Row::plain(path, Outcome::Error(error.to_string())),
    };
    let scanned = worker.scan(|scanner| {
        // Files of /proc and the like have bytes and no length.
        if before.is_empty() && file.read_at(&mut [0], 0).is_ok_and(|read| read == 0) {
            return Ok(None);
        }
        contents(scanner, settings, &path, &file).map(Some)
    });
    let mut outcome = outcome(scanned);
    let after = FileState::of(&file).ok();
    if after != Some(before) || target.is_replaced_by(&before) {
        outcome = outcome.changed();
    }
    let is_still = |after: &FileState| quarantine::is_still(&before, after);
    let file = after
        .filter(is_still)
        .map(|state| ScannedFile { target, state });
    Row {
        bytes: before.len(),
        file,
        ..Row::plain(path, outcome)
    }
}

fn outcome(scanned: Result<Option<Report>, ScanError>) -> Outcome {
    match scanned {
        Ok(Some(report)) => Outcome::Scanned(report),
        Ok(None) => Outcome::Empty,
        // The row names the file already.
        Err(ScanError::Read { error, .. }) => Outcome::Error(error.to_string()),
        Err(error) => Outcome::Error(error.to_string()),
    }
}

impl Outcome {
    /// What becomes of a file that changed meanwhile.
    fn changed(self) -> Outcome {
        match self {
            Outcome::Scanned(mut report) => {
                report.verdict = report.verdict.changed();
                Outcome::Scanned(report)
            }
            Outcome::Empty => Outcome::Changed,
            other => other,
        }
    }
}

fn contents(
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
        Err(error) => Err(ScanError::Read {
            path: PathBuf::from(path),
            error,
        }),
    }
}
