//! From settings to the libclamav engine that `run`, `scan` and `demo` share.

use std::path::PathBuf;

use scanlib::error::LoadError;
use scanlib::{DatabaseOptions, Engine, EngineBuilder, Library};

/// Which engine to build.
#[derive(Clone, Debug, Default)]
pub struct EngineSettings {
    /// Signature files and directories; none means the built-in signature alone.
    pub database: Vec<PathBuf>,
    /// Run bytecode signatures that nobody signed.
    pub bytecode_unsigned: bool,
    /// Where libclamav puts temporary files; `None` for the library's own choice.
    pub tmp_dir: Option<PathBuf>,
}

/// Loads and compiles the signatures.
///
/// # Errors
/// A path cannot be read, or libclamav refuses what it holds.
pub fn build(settings: &EngineSettings) -> Result<Engine, LoadError> {
    let mut options = DatabaseOptions::default();
    options.bytecode_unsigned = settings.bytecode_unsigned;
    let library = Library::init()?;
    let mut builder = EngineBuilder::new(library)?.database_options(options);
    if let Some(dir) = &settings.tmp_dir {
        builder = builder.tmp_dir(dir);
    }
    if settings.database.is_empty() {
        builder = builder.builtin_signatures()?;
    }
    for path in &settings.database {
        builder = builder.database(path)?;
    }
    builder.compile()
}
