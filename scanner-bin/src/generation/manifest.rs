//! What is known of a generation that is kept.

use serde::{Deserialize, Serialize};

use super::canary::Measure;
use super::snapshot::Snapshot;

/// Stands beside the files of a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The files.
    pub snapshot: Snapshot,
    /// How results name it (`engines.clamav.db_digest`).
    pub db_digest: String,
    /// The libclamav that loaded it last.
    pub libclamav: String,
    /// When it was put in use last, RFC 3339.
    pub activated_at: String,
    /// How it did when it was tried out last.
    pub measure: Measure,
}
