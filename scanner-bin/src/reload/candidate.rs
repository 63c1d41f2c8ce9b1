//! Files that may take over: where they lie while they are loaded, and whether they may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use scanlib::database::has_digital_signature;
use scanlib::{Detector, Isolation, Library, LoadError};

use super::{DetectorError, Fingerprint, build};
use crate::config::ScanConfig;
use crate::generation::canary::Measure;
use crate::generation::snapshot::Snapshot;
use crate::generation::state::Staged;

/// Files that may take over.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) snapshot: Snapshot,
    pub(super) files: Files,
}

/// Where they are loaded from.
#[derive(Debug)]
pub(super) enum Files {
    /// From where they were found, as they looked when they were.
    InPlace(Vec<PathBuf>, Fingerprint),
    /// From a copy that becomes a generation if it does.
    Staged(Staged),
    /// From a generation that is kept.
    Kept(Vec<PathBuf>),
}

impl Candidate {
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        match &self.files {
            Files::InPlace(paths, _) | Files::Kept(paths) => paths.clone(),
            Files::Staged(staged) => staged.paths(),
        }
    }
}

impl Candidate {
    /// An error in a copy, told of the files that were copied: the copy is gone when somebody reads it.
    pub(super) fn of_the_files(&self, error: DetectorError) -> DetectorError {
        let Files::Staged(staged) = &self.files else {
            return error;
        };
        let mut text = error.to_string();
        for (copy, part) in staged.paths().iter().zip(&staged.snapshot.parts) {
            let (copy, file) = (copy.to_string_lossy(), part.path.to_string_lossy());
            text = text.replace(&*copy, &file);
        }
        DetectorError::InCopy {
            text,
            is_in_the_files: error.is_in_the_files(),
        }
    }
}

/// What came of trying a candidate.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) detector: Detector,
    pub(super) measure: Measure,
}

/// Verifies, loads, and tries out.
///
/// # Errors
/// It may not take over, whatever is in use.
pub(super) fn load(
    scan: &ScanConfig,
    paths: &[PathBuf],
    isolation: Option<&Isolation>,
) -> Result<Tried, DetectorError> {
    let work = || {
        verify(paths)?;
        let detector = build(scan, paths, isolation)?;
        let measure = Measure::of(&detector)?;
        Ok(Tried { detector, measure })
    };
    // Unwind safe: nothing outside is changed before the detector is complete.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(DetectorError::Panicked))
}

/// Has libclamav check every digital signature, before it loads anything.
fn verify(paths: &[PathBuf]) -> Result<(), DetectorError> {
    let library = Library::init().map_err(LoadError::from)?;
    for path in paths {
        for file in scanlib::database::signature_files(path)? {
            if has_digital_signature(&file) {
                library.verify(&file)?;
            }
        }
    }
    Ok(())
}
