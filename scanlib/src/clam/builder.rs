//! From signature files and settings to an engine.

use std::ffi::CString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::beside::beside;
use super::engine::{Engine, EngineInfo};
use super::handle::c_path;
use super::isolation::{Failure, Isolation, IsolationOptions};
use super::leave_out::LeaveOut;
use super::library::Library;
use super::limits::Limits;
use super::load::Loading;
use super::names::Names;
use super::progress::{BuildStep, Listener, Progress};
use super::tmp;
use crate::database::{
    self, Contents, DigestBuilder, Kept, Outside, Part, Profile, Source, SourceState, Store,
};
use crate::error::{ClamCode, InitError, LoadError, LoadErrorKind};
use clamav_prefilter::{Prefilter, Reading, ScanLimits, TextModel};
use clamav_sys as sys;

/// Which signatures of a database are used. The defaults are `clamscan`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseOptions {
    /// Signatures of possibly unwanted applications, names starting with `PUA.`; off by default.
    pub pua: bool,
    /// Bytecode that nobody signed; off by default. It is a program: run it only if you trust its author as you
    /// trust the one of this crate.
    pub bytecode_unsigned: bool,
    /// Only what carries the official signature; off by default.
    pub official_only: bool,
    /// Phishing signatures and the check of links in mail; on by default.
    pub phishing: bool,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        DatabaseOptions {
            pua: false,
            bytecode_unsigned: false,
            official_only: false,
            phishing: true,
        }
    }
}

impl DatabaseOptions {
    fn to_c(self) -> u32 {
        let flag = |on: bool, bits: u32| if on { bits } else { 0 };
        sys::CL_DB_BYTECODE
            | flag(
                self.phishing,
                sys::CL_DB_PHISHING | sys::CL_DB_PHISHING_URLS,
            )
            | flag(self.pua, sys::CL_DB_PUA)
            | flag(self.bytecode_unsigned, sys::CL_DB_BYTECODE_UNSIGNED)
            | flag(self.official_only, sys::CL_DB_OFFICIAL_ONLY)
    }
}

/// Collects signature files and settings, in any order, for an [`Engine`]. Nothing is loaded before
/// [`EngineBuilder::compile`], and nothing can be changed after it.
///
/// Can be sent to another thread, but not shared.
///
/// ```
/// use scanlib::{EngineBuilder, Library, Payload, Request};
///
/// let engine = EngineBuilder::new(Library::init()?)?.builtin_signatures()?.compile()?;
/// let scan = engine.scan(Payload::Bytes(b"a harmless line"), &Request::new())?;
/// assert!(scan.names.is_empty() && scan.incomplete.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EngineBuilder {
    library: Library,
    isolation: Option<(Isolation, IsolationOptions)>,
    sources: Vec<Source>,
    builtin: bool,
    database_options: DatabaseOptions,
    limits: Limits,
    tmp_base: Option<PathBuf>,
    cache_entries: Option<u32>,
    listener: Listener,
    prefilter: bool,
    text_model: Option<TextModel>,
    leave_out: Vec<String>,
    profile: Profile,
}

impl EngineBuilder {
    /// Starts with no signatures, [`Limits::default`] and no memory of earlier scans.
    ///
    /// # Errors
    ///
    /// None today; memory that is short shows in [`EngineBuilder::compile`].
    pub fn new(library: Library) -> Result<EngineBuilder, InitError> {
        Ok(EngineBuilder {
            library,
            isolation: None,
            sources: Vec::new(),
            builtin: false,
            database_options: DatabaseOptions::default(),
            limits: Limits::default(),
            tmp_base: None,
            cache_entries: None,
            listener: Listener::default(),
            prefilter: true,
            text_model: None,
            leave_out: Vec::new(),
            profile: Profile::Full,
        })
    }

    /// Adds a signature file, or every signature file of a directory (not of those below it).
    ///
    /// # Errors
    ///
    /// The path cannot be read, or the directory holds no signature file.
    pub fn database(mut self, path: impl AsRef<Path>) -> Result<EngineBuilder, LoadError> {
        self.sources.push(Source::new(path.as_ref())?);
        Ok(self)
    }

    /// Adds the signature that ships with this crate: `Embedded.Test.Eicar`, which finds the EICAR
    /// test string at any offset, where the usual signatures want it at the very beginning.
    ///
    /// # Errors
    ///
    /// None today; loading it is part of [`EngineBuilder::compile`].
    pub fn builtin_signatures(mut self) -> Result<EngineBuilder, LoadError> {
        self.builtin = true;
        Ok(self)
    }

    /// Which signatures of the databases are used.
    pub fn database_options(mut self, options: DatabaseOptions) -> EngineBuilder {
        self.database_options = options;
        self
    }

    /// Bounds for every scan.
    pub fn limits(mut self, limits: Limits) -> EngineBuilder {
        self.limits = limits;
        self
    }

    /// Where the engine makes its private directory for temporary files; it must exist. It is removed with the
    /// last clone of the engine; what a killed process left is removed when the next engine is
    /// built there.
    ///
    /// The default is `/dev/shm` if that is memory-backed, writable and has at least
    /// [`Limits::max_scan_bytes`] free, and 400 MiB in any case, else the system's temporary directory. Each scan makes and removes a
    /// directory there, which costs more than the scan of a small object if it is on a disk. With less than 1 MiB
    /// or 64 files to spare, scans are incomplete.
    pub fn tmp_dir(mut self, dir: impl Into<PathBuf>) -> EngineBuilder {
        self.tmp_base = Some(dir.into());
        self
    }

    /// Loads the signatures, and scans, in processes of their own instead of this one. It changes no verdict, but a scan whose process
    /// crashes twice is [`crate::Incomplete::Crashed`] where it would have ended this process.
    pub fn isolation(mut self, isolation: &Isolation, options: IsolationOptions) -> EngineBuilder {
        self.isolation = Some((isolation.clone(), options));
        self
    }

    /// How many clean objects libclamav remembers, by hash, so as not to scan them again; `None`, the default,
    /// turns that off.
    ///
    /// libclamav remembers as clean also what it could not examine. To keep it from that, an engine with a cache
    /// ends a scan at the first error, where one without goes on and may still find something.
    pub fn clean_cache(mut self, entries: Option<u32>) -> EngineBuilder {
        self.cache_entries = entries.filter(|&entries| entries > 0);
        self
    }

    /// Whether to read the signatures a second time, for a [`Prefilter`] that clears most messages without
    /// libclamav; on by default. It changes no verdict.
    pub fn prefilter(mut self, prefilter: bool) -> EngineBuilder {
        self.prefilter = prefilter;
        self
    }

    /// How often a text stands in the messages that will be scanned, for the prefilter to choose by. The default is
    /// [`TextModel::built_in`].
    pub fn text_model(mut self, model: impl Into<Option<TextModel>>) -> EngineBuilder {
        self.text_model = model.into();
        self
    }

    /// Keeps the signatures of these names out of the engine, whatever file they stand in. For those that turn the prefilter
    /// off, see [`crate::prefilter::Off`], or that are wrong too often: **what only they find, is not found**.
    ///
    /// A name is written as it is reported, or as it stands in its file: `YARA.Rule.UNOFFICIAL`, `Rule`. One that is not there is
    /// no error, as signatures come and go; [`EngineInfo::not_there`] says so. Names of `.sdb`, `.ftm` and `.ioc` files
    /// are never there, and a bytecode goes by the name of its file.
    ///
    /// ```
    /// use scanlib::{EngineBuilder, Library, Payload, Request};
    ///
    /// let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join("my.ndb"), "My.Needle:0:*:6e6565646c65\nMy.Straw:0:*:73747261773a\n")?;
    /// let builder = EngineBuilder::new(Library::init()?)?.database(dir.path())?;
    /// let engine = builder.leave_out(["My.Needle", "My.Haystack"]).compile()?;
    /// assert!(engine.scan(Payload::Bytes(b"a needle"), &Request::new())?.names.is_empty());
    /// assert_eq!(engine.info().left_out, ["My.Needle"]);
    /// assert_eq!(engine.info().not_there[0].name, "My.Haystack");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leave_out(
        mut self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> EngineBuilder {
        self.leave_out.extend(names.into_iter().map(Into::into));
        self
    }

    /// Which of the files' signatures are loaded; all by default. What is left out is counted in [`EngineInfo::outside`].
    ///
    /// For [`Profile::LogOnly`] what stays is written into the directory for temporary files while it is loaded. Containers are verified
    /// by libclamav first.
    ///
    /// ```
    /// use scanlib::{EngineBuilder, Library, Payload, Profile, Request};
    ///
    /// let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join("my.ndb"), "My.Text:7:*:6e6565646c65\nMy.Program:1:*:6e6565646c65\n")?;
    /// let builder = EngineBuilder::new(Library::init()?)?.database(dir.path())?;
    /// let engine = builder.profile(Profile::LogOnly { max_message_bytes: 1 << 20 }).compile()?;
    /// assert_eq!(engine.info().signatures, 1);
    /// assert_eq!(engine.info().outside.total(), 1);
    /// assert_eq!(engine.scan(Payload::Bytes(b"a needle"), &Request::new())?.names, ["My.Text.UNOFFICIAL"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn profile(mut self, profile: Profile) -> EngineBuilder {
        self.profile = profile;
        self
    }

    /// Is told how far [`EngineBuilder::compile`] has come, on the thread that runs it. It holds that thread up while it
    /// runs, and is called often for a large database: draw every tenth of a second, not every time.
    ///
    /// A panic in it goes on in [`EngineBuilder::compile`] after libclamav has returned.
    ///
    /// ```
    /// use scanlib::{EngineBuilder, Library};
    ///
    /// let builder = EngineBuilder::new(Library::init()?)?.builtin_signatures()?;
    /// let engine = builder.progress(|at| eprint!("\r{:?}: {} of {}", at.step, at.done, at.total)).compile()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn progress(
        mut self,
        callback: impl FnMut(Progress<'_>) + Send + 'static,
    ) -> EngineBuilder {
        self.listener = Listener::new(callback);
        self
    }

    /// Loads the signatures and freezes the engine.
    ///
    /// # Errors
    ///
    /// See [`LoadErrorKind`]; [`LoadError::library_log`] names the file and line of a bad signature.
    /// An engine without a single signature is refused: it would call everything clean.
    pub fn compile(self) -> Result<Engine, LoadError> {
        let wanted = self.prefilter || !self.leave_out.is_empty();
        let mut names = wanted.then(Names::default);
        self.compile_and_name(&mut names)
    }

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
            names.leave_out = LeaveOut::new(&self.leave_out);
            let named = engine.name(&self.leave_out);
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
        let at_once = self.leave_out.is_empty();
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
                let whole = || pass.read(&LeaveOut::default());
                let (read, loaded) = beside(whole, &mut load);
                (Some(read), loaded)
            }
            false => (None, load()),
        };
        let signatures = loaded?;
        let read = read.unwrap_or_else(|| match names.as_ref() {
            Some(names) => pass.read(&names.leave_out),
            None => pass.read(&LeaveOut::default()),
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
            let kind = match chosen.outside.total() {
                0 => LoadErrorKind::Empty,
                left_out => LoadErrorKind::Outside(left_out),
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
        let (left_out, not_there) = match names {
            Some(names) => {
                let loaded = names.loaded.signatures.iter().map(|named| &*named.name);
                (names.leave_out.names(), names.leave_out.not_there(loaded))
            }
            None => (Vec::new(), Vec::new()),
        };
        for name in &left_out {
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
            left_out,
            not_there,
            profile: self.profile,
            outside: chosen.outside,
            tmp_dir,
        };
        Ok(Engine::new(place, info, self.limits, prefilter))
    }

    /// Has libclamav load everything; returns how many signatures that are.
    fn load_all(
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

    /// What libclamav is to load: the sources as they are, or what the profile keeps of them.
    fn choose(
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
            chosen.outside.merge(&kept.outside);
        }
        // It does not exist if the sources hold no file.
        chosen.dir = dir.exists().then_some(dir);
        Ok(chosen)
    }

    /// Has libclamav check a container in whole, and load nothing of it: the signature of the whole, or that of its list of digests and
    /// each member's digest. Returns what it says besides.
    fn verify(&self, engine: &mut Loading, container: &Path) -> Result<Vec<String>, LoadError> {
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
    fn files(&self) -> Result<Vec<PathBuf>, LoadError> {
        let mut files = Vec::new();
        for source in &self.sources {
            files.append(&mut source.files()?);
        }
        Ok(files)
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

    fn states(&self) -> Result<Vec<SourceState>, LoadError> {
        self.sources.iter().map(Source::state).collect()
    }
}

/// Where signatures go, and what is noted meanwhile.
struct Target<'i> {
    engine: &'i mut Loading,
    names: Option<&'i mut Names>,
    log: &'i mut Vec<String>,
}

/// What libclamav is to load.
#[derive(Debug, Default)]
struct Chosen {
    parts: Vec<Part>,
    /// Every file of them, for the prefilter.
    files: Vec<PathBuf>,
    outside: Outside,
    /// What libclamav said meanwhile.
    log: Vec<String>,
    /// Holds what was written for it, until it is loaded.
    dir: Option<PathBuf>,
}

fn as_it_is(path: &Path) -> Part {
    Part {
        path: path.to_owned(),
        of: path.to_owned(),
        container: None,
    }
}

fn to_c_path(path: &Path) -> Result<CString, LoadError> {
    c_path(path).ok_or_else(|| {
        let problem = io::Error::new(io::ErrorKind::InvalidInput, "the path holds a NUL byte");
        LoadError::new(path, LoadErrorKind::Io(problem))
    })
}

/// The one pass over the files besides libclamav's own: parses them for the prefilter, and hashes them.
#[derive(Clone, Copy)]
struct Pass<'f> {
    builtin: bool,
    files: &'f [PathBuf],
    hashes: bool,
    parses: bool,
}

impl Pass<'_> {
    /// Returns what was parsed, if anything is, and the hashes.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn read(
        &self,
        leave_out: &LeaveOut,
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
        reading.leave_out(leave_out.kept_out());
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

impl LoadError {
    fn new(path: &Path, kind: LoadErrorKind) -> LoadError {
        LoadError {
            path: path.to_owned(),
            kind,
            log: Vec::new(),
        }
    }
}
