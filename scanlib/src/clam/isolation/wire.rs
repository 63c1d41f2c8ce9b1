//! What the processes say to each other.

use std::time::Duration;

use clamav_sys as sys;
use serde::{Deserialize, Serialize};

use super::confine::Confinement;
use crate::clam::engine::EngineScan;
use crate::clam::options::ScanOptions;
use crate::report::Incomplete;
use clamav_prefilter::names::NamedKind;

/// To the spawner. A [`Nursery::Start`] comes with the template's end of its channel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Nursery {
    Start,
    End { pid: i32 },
}

/// From whoever has children: the spawner and a template.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Child {
    Started {
        pid: i32,
    },
    NotStarted {
        error: String,
    },
    Ended {
        how: String,
    },
    /// An [`Order`] about files was carried out. With [`Order::Create`] the file is attached.
    Done,
    /// An [`Order`] about files failed.
    Failed {
        error: String,
    },
    /// The path of the engine's directory for temporary files, which was created.
    Directory {
        path: Vec<u8>,
    },
    /// Another directory is now at the path of the base directory for temporary files. This process can never write there.
    Replaced {
        error: String,
    },
}

/// To a template: what would be calls of its engine, and its scanning processes. Each is answered once it is done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Create the engine's own directory for temporary files below `tmp_base`, then give up the rights that loading does not need.
    Confine {
        sources: Vec<Vec<u8>>,
        tmp_base: Vec<u8>,
    },
    Number {
        field: u32,
        value: i64,
    },
    CacheEntries(u32),
    TmpDir(Vec<u8>),
    /// One name of [`crate::EngineBuilder::exclude`].
    Exclude(String),
    /// Name the signatures that are loaded from now on.
    Names,
    Verify {
        path: Vec<u8>,
        options: u32,
    },
    Load {
        path: Vec<u8>,
        options: u32,
    },
    Compile,
    /// Create a file below the engine's directory, with the directories above it, and pass it on. The main process may be unable to write
    /// there: its own rights belong to the directory that was at the path when it started.
    Create {
        path: Vec<u8>,
    },
    /// Remove a file or a directory, with its contents, below the engine's directory.
    Remove {
        path: Vec<u8>,
    },
    /// Create and remove a directory and a file below the engine's directory, as a scan does.
    Check,
    /// Comes with the scanning process's end of each lane, and says what it is to scan with. A directory of this number is made for it.
    Start {
        number: u64,
        bounds: Bounds,
    },
    /// Ends a scanning process and removes its directory.
    End {
        pid: i32,
        number: u64,
    },
    /// End all scanning processes and remove the engine's directory.
    Leave,
}

/// The name of a scanning process's directory below the engine's.
pub(super) fn directory(number: u64) -> String {
    format!("scan-{number}")
}

/// What a scanning process is held to, besides the settings of its engine.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Bounds {
    /// Memory beyond what it is forked with.
    pub(super) memory_bytes: u64,
    pub(super) max_file_bytes: u64,
    pub(super) max_scan_time: Duration,
    /// libclamav remembers clean objects.
    pub(super) caches: bool,
}

/// From a template while it carries out an [`Order`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Event {
    Named(Vec<(Kind, Vec<u8>)>),
    NamesIncomplete,
    /// A signature that was left out, and how often.
    LeftOut(Option<Kind>, Vec<u8>, u64),
    Progress {
        done: u64,
        total: u64,
    },
    Log {
        line: String,
        error: bool,
    },
    /// The last one: the code, and the number of signatures of a load. Of [`Order::Compile`] the memory that is resident, in bytes.
    Done {
        code: u32,
        signatures: u64,
    },
}

/// [`NamedKind`], as it travels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Kind {
    Plain,
    Body,
    Logical,
    Bytecode,
    Yara,
    Hash,
    Other,
}

impl From<NamedKind> for Kind {
    fn from(kind: NamedKind) -> Kind {
        match kind {
            NamedKind::Plain => Kind::Plain,
            NamedKind::Body => Kind::Body,
            NamedKind::Logical => Kind::Logical,
            NamedKind::Bytecode => Kind::Bytecode,
            NamedKind::Yara => Kind::Yara,
            NamedKind::Hash => Kind::Hash,
            NamedKind::Other => Kind::Other,
        }
    }
}

impl From<Kind> for NamedKind {
    fn from(kind: Kind) -> NamedKind {
        match kind {
            Kind::Plain => NamedKind::Plain,
            Kind::Body => NamedKind::Body,
            Kind::Logical => NamedKind::Logical,
            Kind::Bytecode => NamedKind::Bytecode,
            Kind::Yara => NamedKind::Yara,
            Kind::Hash => NamedKind::Hash,
            Kind::Other => NamedKind::Other,
        }
    }
}

/// To a thread of a scanning process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task<'t> {
    Scan {
        name: Option<&'t str>,
        options: Options,
        /// Until the deadline of the request, if it has one.
        time_left: Option<Duration>,
        object: Object,
    },
    /// The scan is not wanted any more. Meaningless once it is answered.
    Cancel,
}

/// Where the bytes are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Object {
    /// Behind the header.
    Body,
    /// In the descriptor, which is memory of this length that does not change.
    Memory { len: u64 },
    /// In the descriptor, which is a regular file.
    File,
}

/// [`ScanOptions`], as they travel.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Options([bool; 6]);

impl From<ScanOptions> for Options {
    fn from(options: ScanOptions) -> Options {
        let ScanOptions {
            all_matches,
            heuristics,
            parse,
            alert_encrypted,
            alert_macros,
            alert_broken,
        } = options;
        Options([
            all_matches,
            heuristics,
            parse,
            alert_encrypted,
            alert_macros,
            alert_broken,
        ])
    }
}

impl From<Options> for ScanOptions {
    fn from(options: Options) -> ScanOptions {
        let [
            all_matches,
            heuristics,
            parse,
            alert_encrypted,
            alert_macros,
            alert_broken,
        ] = options.0;
        ScanOptions {
            all_matches,
            heuristics,
            parse,
            alert_encrypted,
            alert_macros,
            alert_broken,
        }
    }
}

/// From a scanning process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Once, on the first lane: it serves its lanes from now on.
    Ready(Confinement),
    /// Names that were found; more may follow.
    Found(Vec<String>),
    /// The scan is over.
    Scanned {
        incomplete: Option<Reason>,
        type_ignored: bool,
        /// The place in [`FileFamily::ALL`].
        failed_in: Option<u8>,
    },
    /// A callback panicked: a defect of this crate.
    Panicked(String),
}

/// [`Incomplete`], as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reason {
    Cancelled,
    Deadline,
    EngineTimeLimit,
    FileTooLarge { len: u64, max: u64 },
    MemberTooLarge { max: u64 },
    ScanBytes,
    FileCount,
    Recursion,
    OtherLimit(String),
    TemporaryRoom,
    Malformed { code: Option<i32>, log: Vec<String> },
    EngineError { code: Option<i32>, log: Vec<String> },
}

impl Reason {
    /// What libclamav's answer may be incomplete for.
    pub(super) fn of(incomplete: Incomplete) -> Reason {
        match incomplete {
            Incomplete::Cancelled => Reason::Cancelled,
            Incomplete::Deadline => Reason::Deadline,
            Incomplete::EngineTimeLimit => Reason::EngineTimeLimit,
            Incomplete::FileTooLarge { len, max } => Reason::FileTooLarge { len, max },
            Incomplete::MemberTooLarge { max } => Reason::MemberTooLarge { max },
            Incomplete::ScanBytes => Reason::ScanBytes,
            Incomplete::FileCount => Reason::FileCount,
            Incomplete::Recursion => Reason::Recursion,
            Incomplete::OtherLimit(name) => Reason::OtherLimit(name),
            Incomplete::TemporaryRoom => Reason::TemporaryRoom,
            Incomplete::Malformed { code, log } => Reason::Malformed { code, log },
            Incomplete::EngineError { code, log } => Reason::EngineError { code, log },
            other @ (Incomplete::Changed
            | Incomplete::DecodedPayloads
            | Incomplete::DecodeDepth
            | Incomplete::Crashed { .. }) => Reason::OtherLimit(other.to_string()),
        }
    }
}

impl From<Reason> for Incomplete {
    fn from(reason: Reason) -> Incomplete {
        match reason {
            Reason::Cancelled => Incomplete::Cancelled,
            Reason::Deadline => Incomplete::Deadline,
            Reason::EngineTimeLimit => Incomplete::EngineTimeLimit,
            Reason::FileTooLarge { len, max } => Incomplete::FileTooLarge { len, max },
            Reason::MemberTooLarge { max } => Incomplete::MemberTooLarge { max },
            Reason::ScanBytes => Incomplete::ScanBytes,
            Reason::FileCount => Incomplete::FileCount,
            Reason::Recursion => Incomplete::Recursion,
            Reason::OtherLimit(name) => Incomplete::OtherLimit(name),
            Reason::TemporaryRoom => Incomplete::TemporaryRoom,
            Reason::Malformed { code, log } => Incomplete::Malformed { code, log },
            Reason::EngineError { code, log } => Incomplete::EngineError { code, log },
        }
    }
}

/// Longest line of a log, name or message that travels, in bytes; libclamav's log is cut to a quarter of it before.
const MAX_TEXT_BYTES: usize = 4 << 10;
/// Lines of libclamav's log that travel with one answer.
const MAX_LOG_LINES: usize = 12;
/// Names in one packet: together they fit.
pub(super) const NAMES_AT_A_TIME: usize = 12;

/// Cuts a text to what may travel.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES)
            .rev()
            .find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or_default());
    }
    text
}

/// The packets that answer a scan.
pub(super) fn answers(scan: EngineScan) -> impl Iterator<Item = Answer> {
    let EngineScan {
        names,
        incomplete,
        type_ignored,
        failed_in,
    } = scan;
    let names: Vec<String> = names.into_iter().map(cut).collect();
    let chunks: Vec<Answer> = names
        .chunks(NAMES_AT_A_TIME)
        .map(|names| Answer::Found(names.to_vec()))
        .collect();
    let incomplete = incomplete.map(Reason::of).map(|reason| match reason {
        Reason::EngineError { code, log } => Reason::EngineError {
            code,
            log: log.into_iter().take(MAX_LOG_LINES).map(cut).collect(),
        },
        Reason::Malformed { code, log } => Reason::Malformed {
            code,
            log: log.into_iter().take(MAX_LOG_LINES).map(cut).collect(),
        },
        Reason::OtherLimit(name) => Reason::OtherLimit(cut(name)),
        other => other,
    });
    let last = Answer::Scanned {
        incomplete,
        type_ignored,
        failed_in: failed_in.map(|family| family as u8),
    };
    chunks.into_iter().chain([last])
}

/// A code of libclamav; what is none of its codes is an error of no kind.
pub(super) fn code(number: u32) -> sys::cl_error_t {
    number as sys::cl_error_t
}

#[cfg(test)]
mod tests {
    use super::super::channel::MAX_PACKET_BYTES;
    use super::*;

    #[test]
    fn every_answer_fits_into_packets() {
        let long = "ä".repeat(1 << 20);
        let scan = EngineScan {
            names: vec![long.clone(); 100],
            incomplete: Some(Incomplete::EngineError {
                code: Some(1),
                log: vec![long; 64],
            }),
            type_ignored: true,
            failed_in: None,
        };
        let mut names = 0;
        for answer in answers(scan) {
            assert!(postcard::to_stdvec(&answer).unwrap().len() <= MAX_PACKET_BYTES);
            if let Answer::Found(found) = answer {
                names += found.len();
            }
        }
        assert_eq!(names, 100);
    }

    #[test]
    fn options_survive_the_way() {
        for bits in 0..64_u8 {
            let sent = ScanOptions::from(Options(std::array::from_fn(|at| bits >> at & 1 == 1)));
            assert_eq!(ScanOptions::from(Options::from(sent)), sent);
        }
    }
}
