//! The one pass over the files besides libclamav's own: parses them for the prefilter, and hashes them.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use clamav_prefilter::Reading;

use crate::clam::exclusions::Exclusions;
use crate::database::{self, Contents};

/// The one pass over the files besides libclamav's own: parses them for the prefilter, and hashes them.
#[derive(Clone, Copy)]
pub(super) struct Pass<'f> {
    pub(super) builtin: bool,
    pub(super) files: &'f [PathBuf],
    pub(super) hashes: bool,
    pub(super) parses: bool,
}

impl Pass<'_> {
    /// Returns what was parsed, if anything is, and the hashes.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn read(
        &self,
        exclusions: &Exclusions,
    ) -> Result<(Option<Reading>, Contents), (PathBuf, io::Error)> {
        let mut contents = Contents::default();
        let failed = |file: &PathBuf| {
            let file = file.clone();
            |error| (file, error)
        };
        if !self.parses {
            for file in self.files.iter().filter(|_| self.hashes) {
                contents.hash(file).map_err(failed(file))?;
            }
            return Ok((None, contents));
        }
        let started = Instant::now();
        let mut reading = Reading::new();
        reading.leave_out(exclusions.excluded());
        if self.builtin {
            reading.text(database::BUILTIN_NAME, database::builtin_text());
        }
        for file in self.files {
            let name = file.file_name().unwrap_or_default();
            let parse = |content: &mut dyn io::BufRead| {
                reading.file(name, content);
                Ok(())
            };
            contents.read(file, parse).map_err(failed(file))?;
        }
        reading.took = started.elapsed();
        Ok((Some(reading), contents))
    }
}
