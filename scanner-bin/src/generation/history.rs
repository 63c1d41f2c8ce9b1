//! What happened to the signatures of a replica: one JSON object a line, the newest at the end, the oldest forgotten.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Id;
use crate::files::replace;

/// So many lines are kept, and as many more before the older ones go.
const KEPT: usize = 500;
/// A reason is cut to so many bytes.
const REASON_BYTES: usize = 2000;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, RFC 3339.
    pub at: String,
    /// What.
    pub event: What,
    /// Of which generation; missing where the files could not be read.
    pub generation: Option<Id>,
    /// How results name it.
    pub db_digest: Option<String>,
    /// How many signatures it has.
    pub signatures: Option<u64>,
    /// Seconds that it took to load and try out.
    pub seconds: Option<f64>,
    /// Why, or by whom.
    pub reason: Option<String>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It is in use from now on.
    Activated,
    /// It was tried, and is not tried again.
    Refused,
    /// It could not be tried, and is tried again.
    Failed,
    /// An operator asked for it.
    Requested,
    /// An operator asked for it, and it is in use already.
    Unchanged,
    /// The process ended while it was loaded.
    Ended,
}

impl What {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Activated => "activated",
            What::Refused => "refused",
            What::Failed => "failed",
            What::Requested => "requested",
            What::Unchanged => "unchanged",
            What::Ended => "ended",
        }
    }
}

/// Adds a line; the caller holds the lock for changes.
pub(super) fn append(path: &Path, event: &Event) -> io::Result<()> {
    let mut event = event.clone();
    if let Some(reason) = &mut event.reason {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES));
    }
    let mut line = serde_json::to_vec(&event)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&line)?;
    file.sync_data()?;
    let events = read(path)?;
    if let Some(old) = events.len().checked_sub(KEPT).filter(|old| *old > KEPT) {
        let mut text = Vec::new();
        for event in events.iter().skip(old) {
            serde_json::to_writer(&mut text, event)?;
            text.push(b'\n');
        }
        replace(path, &text)?;
    }
    Ok(())
}

/// All lines, the oldest first. One that was cut short by the end of a machine is passed over.
pub(super) fn read(path: &Path) -> io::Result<Vec<Event>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
