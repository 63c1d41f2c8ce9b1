//! The library itself: initialised once per process, which can fail.

use std::io;
use std::path::Path;

use once_cell::sync::OnceCell;

use clamav_sys as sys;

use super::code::string;
use super::handle::c_path;
use super::log;
use crate::error::{ClamCode, InitError, LoadError, LoadErrorKind};

/// Proof that libclamav is initialised. Copy it; there is nothing to free.
///
/// # Thread safety
///
/// The first call initialises, the others wait for it. libclamav's log belongs to this crate from
/// then on: it is attached to errors, and never reaches standard error.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    _private: (),
}

/// What is loaded, which may be newer than what the program was built with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LibraryVersion {
    /// For example `1.4.6`.
    pub text: String,
    /// The number that signatures ask for; it grows with every feature of the engine.
    pub functionality_level: u32,
}

static LIBRARY: OnceCell<Library> = OnceCell::new();

impl Library {
    /// Initialises libclamav, once per process; later calls are cheap. A failure is not remembered.
    ///
    /// # Errors
    ///
    /// The library refused, or it is of another family than the headers of the build (the numbers of
    /// settings differ between families, so going on would set the wrong limits).
    ///
    /// ```
    /// let library = scanlib::Library::init()?;
    /// println!("libclamav {}", library.version().text);
    /// # Ok::<(), scanlib::InitError>(())
    /// ```
    pub fn init() -> Result<Library, InitError> {
        LIBRARY.get_or_try_init(init).copied()
    }

    /// Version of the loaded library.
    pub fn version(&self) -> LibraryVersion {
        // SAFETY: returns a string constant.
        let text = unsafe { sys::cl_retver() };
        // SAFETY: returns a number.
        let functionality_level = unsafe { sys::cl_retflevel() };
        LibraryVersion {
            text: string(text).unwrap_or_default(),
            functionality_level,
        }
    }

    /// Has libclamav check the digital signature of a `.cvd`. Loading checks it too, but only after what was loaded before it.
    ///
    /// A `.cld` or `.cud` carries no signature of the whole: `freshclam` made it here, of parts that it had checked. Loose files carry
    /// none at all.
    ///
    /// # Errors
    ///
    /// The signature is not good, or the file cannot be read.
    pub fn verify(&self, path: impl AsRef<Path>) -> Result<(), LoadError> {
        let path = path.as_ref();
        let failed = |kind, log| LoadError {
            path: path.to_owned(),
            kind,
            log,
        };
        // libclamav says of a file that is not there what it says of one that is no container.
        std::fs::File::open(path).map_err(|error| failed(LoadErrorKind::Io(error), Vec::new()))?;
        let Some(c_path) = c_path(path) else {
            let problem = io::Error::new(io::ErrorKind::InvalidInput, "the path holds a NUL byte");
            return Err(failed(LoadErrorKind::Io(problem), Vec::new()));
        };
        let (code, log) = log::capture(|| {
            // SAFETY: the library is initialised, as `self` shows; the string lives and ends in NUL.
            unsafe { sys::cl_cvdverify(c_path.as_ptr()) }
        });
        ClamCode::check(code).map_err(|code| failed(LoadErrorKind::Unverified(code), log.lines))
    }
}

fn init() -> Result<Library, InitError> {
    log::install();
    // SAFETY: called once at a time, under the lock of `LIBRARY`; the argument is not used.
    let code = unsafe { sys::cl_init(sys::CL_INIT_DEFAULT) };
    ClamCode::check(code).map_err(InitError::Init)?;
    let library = Library { _private: () };
    let running = library.version().text;
    if compatible(sys::FAMILY, family(&running)) {
        Ok(library)
    } else {
        let (major, minor) = sys::FAMILY;
        Err(InitError::VersionMismatch {
            built: format!("{major}.{minor}"),
            running,
        })
    }
}

/// Major and minor version out of `1.4.6`, `1.4.6-beta`.
fn family(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// 1.4 and 1.5 share their numbers and their soname: a program built for 1.4 runs with 1.5.
fn compatible(built: (u32, u32), running: Option<(u32, u32)>) -> bool {
    running == Some(built) || (built == (1, 4) && running == Some((1, 5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_of_another_family_is_refused() {
        assert!(compatible((1, 4), family("1.4.6")));
        assert!(compatible((1, 4), family("1.5.0-rc")));
        assert!(
            !compatible((1, 5), family("1.4.6")),
            "1.5 calls functions that 1.4 lacks"
        );
        assert!(
            !compatible((1, 4), family("1.0.9")),
            "the numbers of settings differ"
        );
        assert!(!compatible((1, 4), family("1.6.0")));
        assert!(!compatible((1, 4), family("devel")));
    }
}
