//! Whether a file that came may take its name.

use std::path::Path;

use scanlib::database::{self, Container};
use scanlib::{EngineBuilder, Library, LoadError, LoadErrorKind};
use thiserror::Error;

/// How a detached signature begins.
const SIGN: &[u8] = b"#clamsign-";

/// Why not.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It is no good.
    #[error("{0}")]
    Bad(String),
    /// That could not be found out.
    #[error("{0}")]
    Unknown(String),
}

impl From<LoadError> for CheckError {
    fn from(error: LoadError) -> CheckError {
        let text = match error.library_log().last() {
            Some(line) => format!("{} ({line})", error.kind()),
            None => error.kind().to_string(),
        };
        match error.kind() {
            LoadErrorKind::Empty
            | LoadErrorKind::Refused(_)
            | LoadErrorKind::Unverified(_)
            | LoadErrorKind::Compile(_) => CheckError::Bad(text),
            _ => CheckError::Unknown(text),
        }
    }
}

/// What a file says of itself, if it is a container.
///
/// # Errors
/// It is named like one and is none, or it cannot be read.
pub fn container(path: &Path) -> Result<Option<Container>, CheckError> {
    let found = Container::read(path).map_err(|error| CheckError::Unknown(error.to_string()))?;
    match found {
        None if database::is_container(path) => Err(CheckError::Bad(
            "it does not begin as a signature container does (ClamAV-VDB)".to_owned(),
        )),
        found => Ok(found),
    }
}

/// Has libclamav look: at the digital signature of a `.cvd`, and at every line of anything else, which carries none.
///
/// # Errors
/// See [`CheckError`].
pub fn verify(library: Library, path: &Path) -> Result<(), CheckError> {
    if database::has_digital_signature(path) {
        return Ok(library.verify(path)?);
    }
    let builder = EngineBuilder::new(library).map_err(LoadError::from)?;
    // Some files hold no signature of their own, as lists of exceptions.
    let builder = builder.prefilter(false).builtin_signatures()?;
    let engine = builder.database(path)?.compile()?;
    // Of YARA rules libclamav passes over what it does not understand, if need be all of it.
    match database::is_yara(path) && engine.info().signatures <= 1 {
        true => Err(CheckError::Bad(
            "libclamav finds no rule in it that it understands".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Whether this is a detached signature. libclamav makes more of it when it verifies the container.
///
/// # Errors
/// See [`CheckError`].
pub fn sign(path: &Path) -> Result<(), CheckError> {
    let text = std::fs::read(path).map_err(|error| CheckError::Unknown(error.to_string()))?;
    match text.starts_with(SIGN) {
        true => Ok(()),
        false => Err(CheckError::Bad(
            "it does not begin as a detached signature does (#clamsign-)".to_owned(),
        )),
    }
}
