//! Scan messages and files in this process, with libclamav and severity rules, over many threads.
//!
//! A [`Detector`] is everything that judges: a libclamav [`Engine`], the severity rules
//! ([`RuleSet`]), or both. It is built once and never changes, so any number of threads share it,
//! each through a [`Scanner`] of its own. Long-running programs keep the current detector in a
//! [`DetectorSlot`], and let a [`Pool`] of workers do the scanning.
//!
//! ```
//! use scanlib::{Detector, EngineBuilder, Library, Parser, Request, RuleSet, Verdict, eicar};
//!
//! let engine = EngineBuilder::new(Library::init()?)?.builtin_signatures()?.compile()?;
//! let detector = Detector::builder().engine(engine).rules(RuleSet::builtin()).build()?;
//! let line = format!("<13>Oct 20 02:44:02 web app: {}", eicar::text());
//! let report = detector.scanner().scan_message(&Parser::default().parse(line.as_bytes()), &Request::new())?;
//! let Verdict::Infected(found) = report.verdict else { panic!("EICAR is a test for scanners") };
//! assert_eq!(found.headline().name, "Malicious pattern: eicar_test");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Objects come as bytes, files or paths ([`Payload`]), from a reader ([`Spool`]) or mapped into memory
//! ([`FileMap`]). New signatures take over with [`DetectorSlot::reload_with`], while scans go on. The folder
//! `examples/` has a program for each of these, and one for asynchronous callers.
//!
//! A [`Verdict`] is `Clean` only if every enabled engine examined everything. What met a limit,
//! was cancelled, or could not be looked at is [`Verdict::Incomplete`], with the reason.
//!
//! # Features
//!
//! All are enabled by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `pool` | [`Pool`]: worker threads over a bounded queue |
//! | `rules` | [`RuleSet`]: severity rules |
//! | `syslog` | [`Parser`]: syslog and JSON records; without it, [`Message::plain`] takes a record as plain text |

#![deny(missing_docs)]

#[allow(unsafe_code)]
mod clam;
pub mod database;
mod detector;
pub mod eicar;
pub mod error;
mod file_state;
pub mod message;
#[cfg(feature = "pool")]
pub mod pool;
pub mod prefilter;
pub mod report;
#[cfg(feature = "rules")]
pub mod rules;
mod scanner;
mod signature;
mod slot;
mod spool;

pub use clam::{
    BuildStep, CancelToken, Confinement, DatabaseOptions, Engine, EngineBuilder, EngineInfo,
    EngineScan, FileMap, Isolation, IsolationError, IsolationOptions, IsolationStatus, Library,
    LibraryVersion, Limits, Payload, ProcessRights, Progress, Request, SCAN_STACK_BYTES,
    ScanOptions, UnmatchedExclusion, confine_process, hold_little_memory,
};
/// The channels that a [`Pool`] answers on.
#[cfg(feature = "pool")]
pub use crossbeam_channel;
pub use database::{Digest, Profile};
pub use detector::{Detector, DetectorBuilder};
pub use error::{
    ClamCode, DrainError, InitError, LoadError, LoadErrorKind, NothingEnabled, RuleError, ScanError,
};
pub use file_state::FileState;
pub use message::{DecodeLimits, Message, ViewBuffers, ViewSet};
#[cfg(feature = "syslog")]
pub use message::{FieldNames, Parser};
#[cfg(feature = "pool")]
pub use pool::{Pool, PoolBuilder, PoolStats, Shutdown, SubmitError, TrySubmitError, Work, Worker};
pub use report::{
    Detection, DetectionSource, Detections, FileFamily, Generation, Incomplete, Report, Severity,
    Stage, ThreatType, Verdict, View, headline,
};
#[cfg(feature = "rules")]
pub use rules::RuleSet;
pub use scanner::{CauseCounts, PendingScan, Scanner, ScannerStats, Screened};
pub use slot::DetectorSlot;
pub use spool::Spool;
