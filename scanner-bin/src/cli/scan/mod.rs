//! `scan`: files, or lines of files, through the engine of the service, in the order of the input.
//!
//! A reader thread feeds the pool; this thread prints. Between them lies a window of jobs, so that
//! memory does not grow with the input.

mod args;
mod job;
mod lines;
mod order;
mod print;
mod source;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use crossbeam_channel::Sender;
use scanlib::{Detector, DetectorSlot, Parser, Pool, RuleSet, ScanOptions, Shutdown};

pub use args::{Format, ScanArgs, Switch};

use crate::engine::{self, EngineSettings};
use job::{Answer, Job, Settings};
use order::Tickets;
use print::{Printer, Totals};
use source::{Feeder, PrinterGone};

/// Jobs that each thread may be ahead of the printer.
const WINDOW_PER_THREAD: usize = 64;

/// Longest line that is scanned, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Runs `scan`.
pub fn run(args: &ScanArgs) -> ExitCode {
    match scan(args) {
        Ok(totals) => ExitCode::from(totals.exit_status()),
        Err(error) => super::fail(&*error),
    }
}

fn scan(args: &ScanArgs) -> Result<Totals, Box<dyn std::error::Error>> {
    let detector = detector(args)?;
    let threads = args
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN);
    let (tickets, ordered) = order::window(threads.get() * WINDOW_PER_THREAD);
    let (answers, arriving) = crossbeam_channel::bounded(threads.get());
    let pool = Pool::builder(DetectorSlot::new(detector.clone()))
        .workers(threads)
        .start(answers.clone())?;

    let mut printer = Printer::new(io::stdout().lock(), args.format, args.infected);
    std::thread::scope(|scope| {
        scope.spawn(move || feed(args, &detector, pool, tickets, &answers));
        // Both are dropped on the way out: that is what stops the reader, and after it the pool.
        let (arriving, mut ordered) = (arriving, ordered);
        for answer in &arriving {
            for answer in ordered.accept(answer.number, answer) {
                answer.rows.iter().try_for_each(|row| printer.row(row))?;
            }
            if arriving.is_empty() {
                printer.flush()?;
            }
        }
        printer.flush()
    })
    .or_else(|error| match error.kind() {
        // Whoever reads has seen enough.
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })?;
    let totals = printer.into_totals();
    if args.format == Format::Table {
        write!(io::stderr().lock(), "{totals}")?;
    }
    Ok(totals)
}

fn detector(args: &ScanArgs) -> Result<Detector, Box<dyn std::error::Error>> {
    let engine = engine::build(&EngineSettings {
        database: args.database.clone(),
        bytecode_unsigned: args.bytecode_unsigned,
        tmp_dir: args.tmp_dir.clone(),
    })?;
    if args.database.is_empty() {
        eprintln!(
            "scanner-bin: no --database given: libclamav knows the built-in test signature only"
        );
    }
    let rules = args.rules().then(RuleSet::builtin);
    Ok(Detector::builder()
        .engine(engine)
        .rules(rules)
        .views(args.views())
        .build()?)
}

/// The reader thread: everything on the command line, in order.
fn feed(
    args: &ScanArgs,
    detector: &Detector,
    pool: Pool<Job>,
    tickets: Tickets,
    answers: &Sender<Answer>,
) {
    let options = ScanOptions {
        all_matches: args.allmatch,
        ..ScanOptions::default()
    };
    let settings = Settings {
        options,
        parser: Parser::default(),
        max_message_bytes: MAX_MESSAGE_BYTES,
    };
    let mut feeder = Feeder {
        pool: &pool,
        answers,
        tickets,
        settings: Arc::new(settings),
        lines: args.lines,
        recursive: args.recursive,
        max_object_bytes: job::max_object_bytes(detector),
    };
    let fed = args.paths.iter().try_for_each(|path| feeder.path(path));
    pool.shutdown(match fed {
        Ok(()) => Shutdown::FinishQueued,
        Err(PrinterGone) => Shutdown::DropQueued,
    });
}
