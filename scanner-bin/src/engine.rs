//! From settings to the libclamav engine that `run`, `scan` and `demo` share.

use std::io;
use std::path::{Path, PathBuf};

use scanlib::prefilter::TextModel;
use scanlib::{
    DatabaseOptions, Engine, EngineBuilder, Isolation, IsolationOptions, Library, Limits,
    LoadError, Profile,
};

use crate::config::text;

/// Which engine to build.
#[derive(Clone, Debug, Default)]
pub struct EngineSettings {
    /// Signature files and directories; none means the built-in signature alone.
    pub database: Vec<PathBuf>,
    /// Run bytecode signatures that nobody signed.
    pub bytecode_unsigned: bool,
    /// Where libclamav puts temporary files; `None` for the library's own choice.
    pub tmp_dir: Option<PathBuf>,
    /// How much of one object is examined.
    pub limits: Limits,
    /// Use signatures of possibly unwanted applications too.
    pub pua: bool,
    /// Use only what carries the official signature.
    pub official_only: bool,
    /// Which of the files' signatures are loaded.
    pub profile: Profile,
    /// Names of signatures that are kept out.
    pub leave_out: Vec<String>,
    /// Ask libclamav about every message, also where it would certainly find nothing.
    pub no_prefilter: bool,
    /// Counts of the user's own messages, as `db tune` writes them, for the prefilter to choose by; `None` for the built-in ones.
    pub text_model: Option<PathBuf>,
    /// Run libclamav in processes of its own; `None` for this one.
    pub isolation: Option<(Isolation, IsolationOptions)>,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// libclamav does not load the signatures.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The counts of the user's messages cannot be used.
    #[error("text model {}: {problem}; write it with 'scanner-bin db tune'", path.display())]
    TextModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: TextModelProblem,
    },
}

/// What is wrong with a text model's file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextModelProblem {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A line is no count.
    #[error("line {0} is not three characters, a space and a number")]
    Line(usize),
    /// It counts nothing.
    #[error("it is empty")]
    Empty,
}

/// No model is longer, in bytes: one of every three characters has some ten million.
const MAX_MODEL_BYTES: u64 = 32 << 20;

/// Loads and compiles the signatures.
///
/// # Errors
/// A path cannot be read, libclamav refuses what it holds, or the text model is none.
pub fn build(settings: &EngineSettings) -> Result<Engine, EngineError> {
    let options = DatabaseOptions {
        bytecode_unsigned: settings.bytecode_unsigned,
        pua: settings.pua,
        official_only: settings.official_only,
        ..DatabaseOptions::default()
    };
    // First, as it is quick: the signatures may take long.
    let model = settings.text_model.as_deref().map(text_model).transpose()?;
    let library = Library::init().map_err(LoadError::from)?;
    let mut builder = EngineBuilder::new(library)
        .map_err(LoadError::from)?
        .database_options(options)
        .limits(settings.limits)
        .profile(settings.profile)
        .exclude(&settings.leave_out)
        .prefilter(!settings.no_prefilter)
        .text_model(model);
    if let Some((isolation, options)) = &settings.isolation {
        builder = builder.isolation(isolation, *options);
    }
    if let Some(dir) = &settings.tmp_dir {
        builder = builder.tmp_dir(dir);
    }
    if settings.database.is_empty() {
        builder = builder.builtin_signatures()?;
    }
    for path in &settings.database {
        builder = builder.database(path)?;
    }
    Ok(builder.compile()?)
}

/// The text of a text model's file.
///
/// # Errors
/// It cannot be read, or is no text of a model's length.
pub fn read_text_model(path: &Path) -> io::Result<String> {
    text::read(path, MAX_MODEL_BYTES)
}

fn text_model(path: &Path) -> Result<TextModel, EngineError> {
    let read = || -> Result<TextModel, TextModelProblem> {
        let text = read_text_model(path)?;
        if text.is_empty() {
            return Err(TextModelProblem::Empty);
        }
        TextModel::parse(&text).map_err(TextModelProblem::Line)
    };
    read().map_err(|problem| EngineError::TextModel {
        path: path.to_owned(),
        problem,
    })
}
