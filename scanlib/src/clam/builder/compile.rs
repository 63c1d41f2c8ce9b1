//! From chosen files to a compiled engine and its prefilter.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clamav_sys as sys;

use super::EngineBuilder;
use super::load::Target;
use super::pass::Pass;
use crate::clam::engine::{Engine, EngineInfo};
use crate::clam::exclusions::Exclusions;
use crate::clam::handle::c_path;
use crate::clam::isolation::Failure;
use crate::clam::join::join;
use crate::clam::limits::Limits;
use crate::clam::load::Loading;
use crate::clam::names::Names;
use crate::clam::tmp;
use crate::database::{self, Contents, DigestBuilder, Profile, Store};
use crate::error::{ClamCode, LoadError, LoadErrorKind};
use clamav_prefilter::{Prefilter, ScanLimits, TextModel};

impl EngineBuilder {
    /// As [`EngineBuilder::compile`]; if there are `names`, notes down in them which signatures were loaded, keeps out those that
    /// are to be left out, and builds a prefilter that is held to them if one is wanted.
    pub(crate) fn compile_and_name(
        mut self,
        names: &mut Option<Names>,
    ) -> Result<Engine, LoadError> {
        let bases = self.tmp_bases();
        let paths: Vec<PathBuf> = self
            .sources
            .iter()
            .map(|source| source.path().to_owned())
            .collect();
        let isolation = self.isolation.as_ref().map(|(isolation, _)| isolation);
        let mut engine = Loading::new(self.library, isolation, &paths, &bases).map_err(|kind| {
            let base = bases.last().map_or(Path::new(""), PathBuf::as_path);
            LoadError::new(base, kind)
        })?;
        let tmp_dir = engine.tmp_dir().to_owned();
        self.apply_settings(&mut engine, &tmp_dir)?;

        if let Some(names) = names {
            names.exclusions = Exclusions::new(&self.exclusions);
            let named = engine.name(&self.exclusions);
            named.map_err(|failure| {
                LoadError::new(&tmp_dir, failure.kind(LoadErrorKind::Refused))
            })?;
        }
        // Before the first read, and again after the last: libclamav read what was hashed.
        let before = self.states()?;
        let mut contents = Contents::default();
        let mut chosen = self.choose(&mut engine, &tmp_dir, &mut contents)?;
        let mut load_log = std::mem::take(&mut chosen.log);
        let (files, builtin) = (&chosen.files, self.builtin);
        let with_prefilter = self.prefilter && names.is_some();
        // What libclamav passes over is known only when it has passed over it.
        let at_once = self.exclusions.is_empty();
        // What a profile selects was hashed when it was read from the files.
        let is_selected = self.profile != Profile::Full;
        let mut load = || {
            let mut into = Target {
                engine: &mut engine,
                names: names.as_mut(),
                log: &mut load_log,
            };
            self.load_all(&tmp_dir, &chosen.parts, &mut into)
        };
        let pass = Pass {
            builtin,
            files,
            hashes: !is_selected,
            parses: with_prefilter,
        };
        let (read, loaded) = match at_once {
            true => {
                let whole = || pass.read(&Exclusions::default());
                let (read, loaded) = join(whole, &mut load);
                (Some(read), loaded)
            }
            false => (None, load()),
        };
        let signatures = loaded?;
        let read = read.unwrap_or_else(|| match names.as_ref() {
            Some(names) => pass.read(&names.exclusions),
            None => pass.read(&Exclusions::default()),
        });
        let after = self.states()?;
        if let Some((changed, _)) = paths
            .iter()
            .zip(before.iter().zip(&after))
            .find(|(_, (before, after))| before != after)
        {
            return Err(LoadError::new(changed, LoadErrorKind::Changed));
        }
        let (reading, hashed) =
            read.map_err(|(path, error)| LoadError::new(&path, LoadErrorKind::Io(error)))?;
        contents.merge(hashed);
        let reading = names.as_ref().zip(reading).map(|(names, mut reading)| {
            let started = Instant::now();
            reading.compare(&names.loaded);
            reading.took += started.elapsed();
            reading
        });
        // It may lie in memory, which compiling needs.
        if let Some(dir) = chosen.dir.take() {
            let removed = engine.remove(&dir);
            removed.map_err(|error| LoadError::new(&dir, LoadErrorKind::TmpDir(error)))?;
        }
        if signatures == 0 {
            let path = paths
                .first()
                .map_or(Path::new("no database was given"), PathBuf::as_path);
            let kind = match chosen.excluded.total() {
                0 => LoadErrorKind::Empty,
                excluded => LoadErrorKind::AllExcluded(excluded),
            };
            return Err(LoadError {
                log: load_log,
                ..LoadError::new(path, kind)
            });
        }

        let (compiled, log) = engine.compile(&mut self.listener);
        load_log.extend(log.lines);
        let options = self.isolation.as_ref().map(|(_, options)| *options);
        let place = compiled.and_then(|()| {
            let options = options.unwrap_or_default();
            engine.place(options, &self.limits, self.cache_entries.is_some())
        });
        let place = match place {
            Ok(place) => place,
            Err(failure) => {
                let path = paths.first().unwrap_or(&tmp_dir);
                return Err(LoadError {
                    log: load_log,
                    ..LoadError::new(path, failure.kind(LoadErrorKind::Compile))
                });
            }
        };

        let library = self.library.version();
        let prefilter = match reading {
            Some(reading) => {
                let model = self
                    .text_model
                    .as_ref()
                    .unwrap_or_else(|| TextModel::built_in());
                let limits = ScanLimits {
                    max_file_bytes: self.limits.max_file_bytes,
                    max_scan_bytes: self.limits.max_scan_bytes,
                };
                Prefilter::build(reading, &limits, &library.text, model)
            }
            None => Prefilter::disabled(),
        };
        let mut digest = DigestBuilder::default();
        if self.builtin {
            digest.add(database::BUILTIN_NAME, database::builtin_text().as_bytes());
        }
        for (source, state) in self.sources.iter().zip(&before) {
            digest.add_digest(&source.digest(state, &mut contents)?);
        }
        let (excluded, unmatched_exclusions) = match names {
            Some(names) => {
                let loaded = names.loaded.signatures.iter().map(|named| &*named.name);
                (names.exclusions.names(), names.exclusions.unmatched(loaded))
            }
            None => (Vec::new(), Vec::new()),
        };
        for name in &excluded {
            digest.add("left out", name.as_bytes());
        }
        if let Profile::LogOnly { max_message_bytes } = self.profile {
            digest.add(self.profile.name(), &max_message_bytes.to_le_bytes());
        }
        let info = EngineInfo {
            signatures,
            builtin_only: paths.is_empty(),
            builtin: self.builtin,
            sources: paths,
            library,
            digest: digest.finish(),
            load_log,
            excluded,
            unmatched_exclusions,
            profile: self.profile,
            excluded_by_profile: chosen.excluded,
            tmp_dir,
        };
        Ok(Engine::new(place, info, self.limits, prefilter))
    }

    /// Where the engine's directory for temporary files is to be, tried in turn.
    fn tmp_bases(&self) -> Vec<PathBuf> {
        match &self.tmp_base {
            Some(base) => vec![base.clone()],
            // Several threads scan at a time: low limits are no reason to take a place that is nearly full.
            None => tmp::default_bases(
                self.limits
                    .max_scan_bytes
                    .max(Limits::default().max_scan_bytes),
            ),
        }
    }

    fn apply_settings(&self, engine: &mut Loading, tmp_dir: &Path) -> Result<(), LoadError> {
        let refused = |setting, failure: Failure| {
            let kind = failure.kind(|code| LoadErrorKind::Setting { setting, code });
            LoadError::new(tmp_dir, kind)
        };

        for setting in self.limits.settings() {
            if let Some(problem) = setting.problem() {
                let kind = LoadErrorKind::OutOfRange {
                    setting: setting.name,
                    problem,
                };
                return Err(LoadError::new(Path::new("Limits"), kind));
            }
            engine
                .set_number(setting.field, setting.value)
                .map_err(|failure| refused(setting.name, failure))?;
        }
        match self.cache_entries {
            None => engine.set_number(sys::CL_ENGINE_DISABLE_CACHE, 1),
            Some(entries) => engine.set_cache_entries(entries),
        }
        .map_err(|failure| refused("clean_cache", failure))?;

        let path = c_path(tmp_dir)
            .ok_or_else(|| refused("tmp_dir", ClamCode::new(sys::CL_EARG).into()))?;
        engine
            .set_tmp_dir(&path)
            .map_err(|failure| refused("tmp_dir", failure))
    }
}
