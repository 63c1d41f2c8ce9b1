//! Where is libclamav? Either a pair of variables says so, or pkg-config does.
//!
//! What this file decides depends on its arguments alone, so that a test can ask it.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const LIB_DIR: &str = "CLAMAV_LIB_DIR";
pub(crate) const INCLUDE_DIR: &str = "CLAMAV_INCLUDE_DIR";
pub(crate) const INSTALL: &str =
    "on Debian and Ubuntu install it with: apt-get install libclamav-dev";

/// Headers and library, and whether cargo already knows how to link it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) include_dirs: Vec<PathBuf>,
    /// A directory to search when linking; `None` if pkg-config has told cargo.
    pub(crate) lib_dir: Option<PathBuf>,
    /// For messages: who said so.
    pub(crate) found_by: String,
}

/// `pkg_config` answers with the include directories, or with what it tried and why that failed.
pub(crate) fn locate(
    var: impl Fn(&str) -> Option<OsString>,
    pkg_config: impl FnOnce() -> Result<Vec<PathBuf>, String>,
) -> Result<Located, String> {
    match (var(LIB_DIR), var(INCLUDE_DIR)) {
        (Some(lib), Some(include)) => declared(lib.into(), include.into()),
        (None, None) => match pkg_config() {
            Ok(include_dirs) => Ok(Located {
                include_dirs,
                lib_dir: None,
                found_by: "pkg-config".to_owned(),
            }),
            Err(reason) => Err(format!(
                "libclamav was not found. Tried: {LIB_DIR} and {INCLUDE_DIR} (not set); pkg-config ({reason}). \
                 To build, {INSTALL}, or set both variables"
            )),
        },
        (Some(_), None) => Err(half(LIB_DIR, INCLUDE_DIR)),
        (None, Some(_)) => Err(half(INCLUDE_DIR, LIB_DIR)),
    }
}

fn half(set: &str, missing: &str) -> String {
    format!(
        "{set} is set but {missing} is not: set both, or neither to let pkg-config find libclamav"
    )
}

/// The two directories must hold what they are said to hold: a header of one version with the
/// library of another links without complaint and sets the wrong limits.
fn declared(lib: PathBuf, include: PathBuf) -> Result<Located, String> {
    const LIBRARIES: [&str; 3] = ["libclamav.so", "libclamav.dylib", "libclamav.a"];
    let mut missing = Vec::new();
    if !LIBRARIES.iter().any(|name| lib.join(name).exists()) {
        missing.push(format!(
            "{LIB_DIR}={} holds none of {}",
            lib.display(),
            LIBRARIES.join(", ")
        ));
    }
    for header in ["clamav.h", "clamav-version.h"] {
        if !include.join(header).exists() {
            missing.push(format!(
                "{INCLUDE_DIR}={} holds no {header}",
                include.display()
            ));
        }
    }
    if missing.is_empty() {
        let found_by = format!("{LIB_DIR} and {INCLUDE_DIR}");
        Ok(Located {
            include_dirs: vec![include],
            lib_dir: Some(lib),
            found_by,
        })
    } else {
        Err(format!(
            "libclamav was not found. Tried: {}. Correct or unset both variables; {INSTALL}",
            missing.join("; ")
        ))
    }
}
