//! What the service does when libclamav found something in a message that the prefilter had cleared.
//!
//! The prefilter is off from that moment on, by itself. Here it is said, counted, and the message kept for a report, once
//! for each detector, however many workers see it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use scanlib::prefilter::DisabledReason;
use scanlib::{Detector, Generation};
use sha2::{Digest, Sha256};

use crate::files;
use crate::metrics::Metrics;

/// Reports wrong decisions.
#[derive(Debug)]
pub struct WrongReports {
    dir: Option<PathBuf>,
    metrics: Arc<Metrics>,
    reported: Mutex<BTreeSet<Generation>>,
}

impl WrongReports {
    /// Messages are kept in `dir`, which is made when there is one to keep; `None` keeps none.
    pub fn new(dir: Option<PathBuf>, metrics: Arc<Metrics>) -> WrongReports {
        WrongReports {
            dir,
            metrics,
            reported: Mutex::default(),
        }
    }

    /// Looks whether the detector's prefilter was wrong. It costs nothing if it was not.
    pub fn look(&self, detector: &Detector) {
        let Some(DisabledReason::FalseNegative { message, names }) = detector.prefilter().off()
        else {
            return;
        };
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if !reported.insert(detector.generation()) {
            return;
        }
        drop(reported);
        self.metrics.prefilter_wrong.inc();
        let sha256 = hex::encode(Sha256::digest(message));
        let kept = match &self.dir {
            None => "no: scan.wrong_dir is not set".to_owned(),
            Some(dir) => match keep(dir, &sha256, message) {
                Ok(path) => path.display().to_string(),
                Err(error) => format!("no: {}: {error}", dir.display()),
            },
        };
        let digest = detector.engine().map(|engine| engine.info().digest);
        tracing::error!(
            names = names.join(", "),
            sha256,
            bytes = message.len(),
            kept,
            digest = digest.map(|digest| digest.to_string()),
            "The prefilter was wrong: libclamav is asked about every message from now on; please report it"
        );
    }
}

/// Writes the message into a file of its own, whole or not at all.
fn keep(dir: &Path, sha256: &str, message: &[u8]) -> io::Result<PathBuf> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(format!("prefilter-wrong-{sha256}"));
    files::replace(&path, message)?;
    Ok(path)
}
