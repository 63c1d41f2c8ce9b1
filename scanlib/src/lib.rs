//! Scan messages and files in-process with libclamav and severity rules, over many threads.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod clam;
mod database;
pub mod error;
pub mod message;
pub mod report;

pub use clam::{
    CancelToken, DatabaseOptions, Engine, EngineBuilder, EngineInfo, EngineScan, Library,
    LibraryVersion, Limits, Payload, Request, ScanOptions,
};
pub use database::Digest;
pub use error::{ClamCode, InitError, LoadError, LoadErrorKind, RuleError, ScanError};
pub use message::{FieldNames, Message, Parser, ViewBuffers, ViewSet};
pub use report::{
    Detection, DetectionSource, Detections, Generation, Incomplete, Report, Severity, Stage,
    ThreatType, Verdict, View, headline,
};
