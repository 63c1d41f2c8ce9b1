//! The settings of an engine. `sources` chooses the files, `load` has libclamav load them, and `compile` makes the engine.

mod compile;
mod load;
mod options;
mod pass;
mod sources;

use std::path::{Path, PathBuf};

use super::engine::Engine;
use super::isolation::{Isolation, IsolationOptions};
use super::library::Library;
use super::limits::Limits;
use super::names::Names;
use super::progress::{Listener, Progress};
use crate::database::{Profile, Source};
use crate::error::{InitError, LoadError, LoadErrorKind};
use clamav_prefilter::TextModel;

pub use options::DatabaseOptions;

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
    exclusions: Vec<String>,
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
            exclusions: Vec::new(),
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

    /// Whether to read the signatures a second time, for a [`clamav_prefilter::Prefilter`] that clears most messages without
    /// libclamav; on by default. It changes no verdict.
    pub fn prefilter(mut self, prefilter: bool) -> EngineBuilder {
        self.prefilter = prefilter;
        self
    }

    /// The frequency of texts in the messages to scan, by which the prefilter chooses literals. The default is
    /// [`TextModel::built_in`].
    pub fn text_model(mut self, model: impl Into<Option<TextModel>>) -> EngineBuilder {
        self.text_model = model.into();
        self
    }

    /// Excludes the signatures with these names, in every file. Use it for signatures that disable the prefilter (see
    /// [`crate::prefilter::DisabledReason`]) or cause many false positives. **Content that only an excluded signature detects is not
    /// detected.**
    ///
    /// A name is written as it is reported (`YARA.Rule.UNOFFICIAL`) or as in its file (`Rule`). A name that matches no signature is not
    /// an error, because updates remove signatures; [`crate::EngineInfo::unmatched_exclusions`] lists it. Signatures in `.sdb`, `.ftm`
    /// and `.ioc` files cannot be excluded. A bytecode has the name of its file.
    ///
    /// ```
    /// use scanlib::{EngineBuilder, Library, Payload, Request};
    ///
    /// let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join("my.ndb"), "My.Needle:0:*:6e6565646c65\nMy.Straw:0:*:73747261773a\n")?;
    /// let builder = EngineBuilder::new(Library::init()?)?.database(dir.path())?;
    /// let engine = builder.exclude(["My.Needle", "My.Haystack"]).compile()?;
    /// assert!(engine.scan(Payload::Bytes(b"a needle"), &Request::new())?.names.is_empty());
    /// assert_eq!(engine.info().excluded, ["My.Needle"]);
    /// assert_eq!(engine.info().unmatched_exclusions[0].name, "My.Haystack");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exclude(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> EngineBuilder {
        self.exclusions.extend(names.into_iter().map(Into::into));
        self
    }

    /// Which of the files' signatures are loaded; all by default. [`crate::EngineInfo::excluded_by_profile`] counts the others.
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
    /// assert_eq!(engine.info().excluded_by_profile.total(), 1);
    /// assert_eq!(engine.scan(Payload::Bytes(b"a needle"), &Request::new())?.names, ["My.Text.UNOFFICIAL"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn profile(mut self, profile: Profile) -> EngineBuilder {
        self.profile = profile;
        self
    }

    /// Calls `callback` with the progress of [`EngineBuilder::compile`], on the thread that compiles. The callback delays that thread
    /// and is called often for a large database, so a display should limit its refresh rate.
    ///
    /// A panic in the callback propagates from [`EngineBuilder::compile`] after libclamav has returned.
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
    /// An engine without a signature is an error, because it would report every object as clean.
    pub fn compile(self) -> Result<Engine, LoadError> {
        let wanted = self.prefilter || !self.exclusions.is_empty();
        let mut names = wanted.then(Names::default);
        self.compile_and_name(&mut names)
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
