//! Loading the chosen files into libclamav.

use std::io::Write;
use std::path::Path;

use clamav_sys as sys;

use super::EngineBuilder;
use super::sources::{as_it_is, to_c_path};
use crate::clam::load::Loading;
use crate::clam::names::Names;
use crate::clam::progress::BuildStep;
use crate::database::{self, Part, Store};
use crate::error::{LoadError, LoadErrorKind};

/// Where signatures go, and what is noted meanwhile.
pub(super) struct Target<'i> {
    pub(super) engine: &'i mut Loading,
    pub(super) names: Option<&'i mut Names>,
    pub(super) log: &'i mut Vec<String>,
}

impl EngineBuilder {
    /// Has libclamav load everything; returns how many signatures that are.
    pub(super) fn load_all(
        &mut self,
        tmp_dir: &Path,
        parts: &[Part],
        into: &mut Target<'_>,
    ) -> Result<u64, LoadError> {
        let mut signatures = 0;
        if self.builtin {
            let no_room = |error| LoadError::new(tmp_dir, LoadErrorKind::TmpDir(error));
            // libclamav loads files only.
            let path = tmp_dir.join("builtin.ndb");
            let file = into.engine.create(&path);
            let written =
                file.and_then(|mut file| file.write_all(database::builtin_text().as_bytes()));
            written.map_err(no_room)?;
            signatures += self.load(&as_it_is(&path), into)?;
            into.engine.remove(&path).map_err(no_room)?;
        }
        for part in parts {
            signatures += self.load(part, into)?;
        }
        Ok(signatures)
    }

    fn load(&mut self, part: &Part, into: &mut Target<'_>) -> Result<u64, LoadError> {
        let path = &part.of;
        let c_path = to_c_path(&part.path)?;
        let options = self.database_options.to_c()
            | match &part.container {
                Some(container) if database::format_of(container).counts_as_official() => {
                    sys::CL_DB_OFFICIAL | sys::CL_DB_SIGNED
                }
                Some(_) => sys::CL_DB_UNSIGNED,
                None => 0,
            };
        let listener = (&mut self.listener, BuildStep::Load(path));
        let names = into.names.as_deref_mut();
        let (loaded, log) = into.engine.load(&c_path, options, listener, names);
        match loaded {
            Ok(signatures) => {
                into.log
                    .extend(log.lines.into_iter().map(|line| part.told(line)));
                Ok(signatures)
            }
            Err(failure) => Err(LoadError {
                log: log.lines.into_iter().map(|line| part.told(line)).collect(),
                ..LoadError::new(path, failure.kind(LoadErrorKind::Refused))
            }),
        }
    }
}
