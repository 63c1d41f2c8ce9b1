//! The files that libclamav loads: the sources as they are, or what the profile keeps of them.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use super::EngineBuilder;
use crate::clam::handle::c_path;
use crate::clam::load::Loading;
use crate::database::{Contents, Excluded, Kept, Part, Profile, Source, SourceState};
use crate::error::{LoadError, LoadErrorKind};

/// What libclamav is to load.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) parts: Vec<Part>,
    /// Every file of them, for the prefilter.
    pub(super) files: Vec<PathBuf>,
    pub(super) excluded: Excluded,
    /// What libclamav said meanwhile.
    pub(super) log: Vec<String>,
    /// Holds what was written for it, until it is loaded.
    pub(super) dir: Option<PathBuf>,
}

impl EngineBuilder {
    /// What libclamav is to load: the sources as they are, or what the profile keeps of them.
    pub(super) fn choose(
        &self,
        engine: &mut Loading,
        tmp_dir: &Path,
        contents: &mut Contents,
    ) -> Result<Chosen, LoadError> {
        let Profile::LogOnly { max_message_bytes } = self.profile else {
            let parts = self.sources.iter().map(|source| as_it_is(source.path()));
            return Ok(Chosen {
                parts: parts.collect(),
                files: self.files()?,
                ..Chosen::default()
            });
        };
        let dir = tmp_dir.join("kept");
        let mut chosen = Chosen::default();
        for (number, source) in self.sources.iter().enumerate() {
            let to = dir.join(number.to_string());
            let official_only = self.database_options.official_only;
            // First: nothing is taken out of a container that is not whole.
            for container in Kept::containers(source, official_only)? {
                chosen.log.append(&mut self.verify(engine, &container)?);
            }
            let mut kept = Kept::write(
                source,
                official_only,
                (engine, &to),
                max_message_bytes,
                contents,
            )?;
            chosen.parts.append(&mut kept.parts);
            chosen.files.append(&mut kept.files);
            chosen.excluded.merge(&kept.excluded);
        }
        // It does not exist if the sources hold no file.
        chosen.dir = dir.exists().then_some(dir);
        Ok(chosen)
    }

    /// Has libclamav check a container in whole, and load nothing of it: the signature of the whole, or that of its list of digests and
    /// each member's digest. Returns what it says besides.
    pub(super) fn verify(
        &self,
        engine: &mut Loading,
        container: &Path,
    ) -> Result<Vec<String>, LoadError> {
        let c_path = to_c_path(container)?;
        let (verified, log) = engine.verify(&c_path, self.database_options.to_c());
        match verified {
            Ok(()) => Ok(log.lines),
            Err(failure) => Err(LoadError {
                log: log.lines,
                ..LoadError::new(container, failure.kind(LoadErrorKind::Refused))
            }),
        }
    }

    /// Every file that libclamav loads.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, LoadError> {
        let mut files = Vec::new();
        for source in &self.sources {
            files.append(&mut source.files()?);
        }
        Ok(files)
    }

    pub(super) fn states(&self) -> Result<Vec<SourceState>, LoadError> {
        self.sources.iter().map(Source::state).collect()
    }
}

pub(super) fn as_it_is(path: &Path) -> Part {
    Part {
        path: path.to_owned(),
        of: path.to_owned(),
        container: None,
    }
}

pub(super) fn to_c_path(path: &Path) -> Result<CString, LoadError> {
    c_path(path).ok_or_else(|| {
        let problem = io::Error::new(io::ErrorKind::InvalidInput, "the path holds a NUL byte");
        LoadError::new(path, LoadErrorKind::Io(problem))
    })
}
