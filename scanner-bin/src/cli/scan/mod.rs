//! `scan`: files, or lines of files, through the engine of the service, in the order of the input.
//!
//! A reader thread feeds the pool; this thread prints. Between them lies a window of jobs, so that
//! memory does not grow with the input.

mod args;
mod at;
mod color;
mod foreign;
mod job;
mod order;
mod print;
mod progress;
mod quarantine;
mod source;
mod totals;
mod walk;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use scanlib::{Detector, DetectorSlot, Parser, Pool, PoolStats, RuleSet, Shutdown};

pub use args::{Format, ScanArgs, Switch};

use super::engine::{BUILTIN_ONLY, say_not_there};
use super::{MAX_MESSAGE_BYTES, say};
use crate::engine::{self, EngineSettings};
use job::{Answer, Job, Settings};
use order::Tickets;
use print::{Printer, Targets};
use progress::Progress;
use source::{Feeder, PrinterGone};
use totals::{About, Totals, Unit};
use walk::Walk;

/// Jobs that each thread may be ahead of the printer.
const WINDOW_PER_THREAD: usize = 64;

/// Runs `scan`.
pub fn run(args: &ScanArgs) -> ExitCode {
    match scan(args) {
        Ok(totals) => ExitCode::from(totals.exit_status()),
        Err(error) => super::fail(&*error),
    }
}

fn scan(args: &ScanArgs) -> Result<Totals, Box<dyn std::error::Error>> {
    args.check()?;
    for flag in args.foreign.ignored() {
        say(format_args!(
            "scanner-bin: warning: clamscan's --{flag} is ignored"
        ));
    }
    // Before the engine, whose signatures may take long to load: what is wrong is said at once.
    let targets = Targets::open(args)?;
    let list = FileList::open(args)?;
    let loading = Instant::now();
    let detector = detector(args)?;
    let loaded = loading.elapsed();
    let threads = args
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN);
    let (tickets, ordered) = order::window(threads.get() * WINDOW_PER_THREAD);
    let (answers, arriving) = crossbeam_channel::bounded(threads.get());
    let prefilter = detector.prefilter().clone();
    let pool = Pool::builder(DetectorSlot::new(detector.clone()))
        .workers(threads)
        .start(answers.clone())?;

    let stdout = io::stdout().lock();
    let color = args.output.color.for_stream(&stdout);
    let progress = Progress::new(!args.output.no_progress && !args.output.quiet);
    let totals = Totals::new(about(args, &detector, threads, loaded));
    let mut printer = Printer::new(stdout, color, args, targets, progress.clone(), totals)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if progress.is_shown() {
            scope.spawn(|| {
                let counted = walk::count(args, || done.load(Ordering::Relaxed));
                if let Some(bytes) = counted {
                    progress.total(bytes);
                }
            });
        }
        let stop = &done;
        let reader = scope.spawn(move || feed(args, list, &detector, pool, tickets, answers, stop));
        let printed = {
            // Both are dropped on the way out: that is what stops the reader, and after it the pool.
            let (arriving, mut ordered) = (arriving, ordered);
            (|| {
                for answer in &arriving {
                    for answer in ordered.accept(answer.number, answer) {
                        answer.rows.iter().try_for_each(|row| printer.row(row))?;
                    }
                    if arriving.is_empty() {
                        printer.flush()?;
                    }
                }
                printer.flush()
            })()
        };
        done.store(true, Ordering::Relaxed);
        let worked = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        printer.worked(worked, prefilter.off());
        printed
    })
    .or_else(|error: io::Error| match error.kind() {
        // Whoever reads has seen enough.
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })?;
    Ok(printer.finish(args)?)
}

/// What the summary says of the scanner itself.
fn about(args: &ScanArgs, detector: &Detector, threads: NonZeroUsize, loaded: Duration) -> About {
    let info = detector.engine().map(scanlib::Engine::info);
    About {
        known_signatures: info.map_or(0, |info| info.signatures),
        builtin_only: info.is_some_and(|info| info.builtin_only),
        signatures_left_out: info.map_or(0, |info| {
            info.excluded.len() as u64 + info.excluded_by_profile.total()
        }),
        engine_version: info.map_or_else(String::new, |info| info.library.text.to_string()),
        load_seconds: loaded.as_secs_f64(),
        threads: threads.get(),
        unit: if args.lines { Unit::Lines } else { Unit::Files },
    }
}

fn detector(args: &ScanArgs) -> Result<Detector, Box<dyn std::error::Error>> {
    let engine = engine::build(&EngineSettings {
        database: args.database.clone(),
        bytecode_unsigned: args.signatures.bytecode_unsigned,
        tmp_dir: args.tmp_dir.clone(),
        limits: args.limits.limits(),
        pua: args.signatures.detect_pua,
        official_only: args.signatures.official_db_only,
        profile: args.profile.for_lines(),
        leave_out: args.leave_out.clone(),
        no_prefilter: args.prefilter == Switch::Off,
        text_model: args.text_model.clone(),
        isolation: None,
    })?;
    say_not_there(&engine);
    if args.database.is_empty() {
        say(format_args!("{BUILTIN_ONLY}"));
    }
    let rules = args.rules().then(RuleSet::builtin);
    Ok(Detector::builder()
        .engine(engine)
        .rules(rules)
        .views(args.views())
        .build()?)
}

/// The file with more paths.
#[derive(Debug)]
enum FileList {
    None,
    Stdin,
    File(BufReader<File>),
}

impl FileList {
    fn open(args: &ScanArgs) -> Result<FileList, String> {
        match &args.files.file_list {
            None => Ok(FileList::None),
            Some(path) if path.as_os_str() == "-" => Ok(FileList::Stdin),
            Some(path) => match File::open(path) {
                Ok(file) => Ok(FileList::File(BufReader::new(file))),
                Err(error) => Err(format!("--file-list {}: {error}", path.display())),
            },
        }
    }
}

/// The reader thread: everything on the command line, in order. Says what the pool did.
fn feed(
    args: &ScanArgs,
    list: FileList,
    detector: &Detector,
    pool: Pool<Job>,
    tickets: Tickets,
    answers: Sender<Answer>,
    stop: &AtomicBool,
) -> PoolStats {
    let settings = Settings {
        options: args.scan_options(),
        parser: Parser::default(),
        max_message_bytes: MAX_MESSAGE_BYTES,
    };
    let mut feeder = Feeder {
        pool: &pool,
        answers: &answers,
        tickets,
        settings: Arc::new(settings),
        lines: args.lines,
        max_object_bytes: job::max_object_bytes(detector),
        max_line_bytes: args.limits.limits().max_scan_bytes,
        stop,
    };
    let fed = feed_all(args, list, &mut feeder);
    pool.shutdown(match fed {
        Ok(()) => Shutdown::FinishQueued,
        Err(PrinterGone) => Shutdown::DropQueued,
    })
}

fn feed_all(args: &ScanArgs, list: FileList, feeder: &mut Feeder<'_>) -> Result<(), PrinterGone> {
    let walk = Walk::new(args);
    let mut visit = |found: walk::Found<'_>| feeder.feed(found);
    for path in &args.paths {
        walk.argument(path, &mut visit)?;
    }
    let lines: Box<dyn BufRead> = match list {
        FileList::None => return Ok(()),
        FileList::Stdin => Box::new(io::stdin().lock()),
        FileList::File(file) => Box::new(file),
    };
    let name = args.files.file_list.as_deref().unwrap_or("-".as_ref());
    walk.list(name, lines, &mut visit)
}
