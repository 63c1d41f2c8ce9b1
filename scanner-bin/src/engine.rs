//! From settings to the libclamav engine that `run`, `scan` and `demo` share.

use std::path::PathBuf;

use scanlib::{
    DatabaseOptions, Detector, Engine, EngineBuilder, Incomplete, Library, Limits, LoadError,
    Payload, Request, ScanError, Verdict, eicar,
};

/// Which engine to build.
#[derive(Clone, Debug, Default)]
pub struct EngineSettings {
    /// Signature files and directories; none means the built-in signature alone.
    pub database: Vec<PathBuf>,
    /// Run bytecode signatures that nobody signed.
    pub bytecode_unsigned: bool,
    /// Where libclamav puts temporary files; `None` for the library's own choice.
    pub tmp_dir: Option<PathBuf>,
    /// How much of one object is examined.
    pub limits: Limits,
    /// Use signatures of possibly unwanted applications too.
    pub pua: bool,
    /// Use only what carries the official signature.
    pub official_only: bool,
    /// Ask libclamav about every message, also where it would certainly find nothing.
    pub no_prefilter: bool,
}

/// Loads and compiles the signatures.
///
/// # Errors
/// A path cannot be read, or libclamav refuses what it holds.
pub fn build(settings: &EngineSettings) -> Result<Engine, LoadError> {
    let options = DatabaseOptions {
        bytecode_unsigned: settings.bytecode_unsigned,
        pua: settings.pua,
        official_only: settings.official_only,
        ..DatabaseOptions::default()
    };
    let library = Library::init()?;
    let mut builder = EngineBuilder::new(library)?
        .database_options(options)
        .limits(settings.limits)
        .prefilter(!settings.no_prefilter);
    if let Some(dir) = &settings.tmp_dir {
        builder = builder.tmp_dir(dir);
    }
    if settings.database.is_empty() {
        builder = builder.builtin_signatures()?;
    }
    for path in &settings.database {
        builder = builder.database(path)?;
    }
    builder.compile()
}

/// Scans the EICAR test string, to see that the engine really looks.
///
/// # Errors
/// libclamav could not look, or it looked and did not find what the built-in signature describes.
pub fn self_scan(detector: &Detector) -> Result<(), SelfScanError> {
    let text = format!("self-scan: {}", eicar::text());
    let report = detector
        .scanner()
        .scan(Payload::Bytes(text.as_bytes()), &Request::new())?;
    if let Verdict::Incomplete { cause, .. } = report.verdict {
        return Err(SelfScanError::Incomplete(cause));
    }
    let knows_it = detector
        .engine()
        .is_some_and(|engine| engine.info().builtin);
    let found = report
        .verdict
        .detections()
        .iter()
        .any(scanlib::Detection::is_clamav);
    if knows_it && !found {
        Err(SelfScanError::NotFound)
    } else {
        Ok(())
    }
}

/// A loaded engine does not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelfScanError {
    /// The scan failed.
    #[error("the engine cannot scan its test data: {0}")]
    Failed(#[from] ScanError),
    /// libclamav could not look.
    #[error("the engine cannot scan its test data: {0}")]
    Incomplete(Incomplete),
    /// It found nothing.
    #[error("the engine does not find the EICAR test string with its built-in signature")]
    NotFound,
}
