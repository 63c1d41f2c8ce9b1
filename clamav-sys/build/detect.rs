//! Which libclamav do the headers belong to? The preprocessor is asked, because the numbers of
//! enums moved between versions and a wrong guess sets a different limit without failing to link.

use std::path::{Path, PathBuf};

/// The families this crate was written for, as (major, minor).
pub(crate) const FAMILIES: [(u32, u32); 3] = [(1, 0), (1, 4), (1, 5)];

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl Version {
    /// From `CLAMAV_VERSION_NUM`: eight bits each.
    pub(crate) fn from_number(number: u32) -> Version {
        Version {
            major: number >> 16 & 0xff,
            minor: number >> 8 & 0xff,
            patch: number & 0xff,
        }
    }

    pub(crate) fn number(self) -> u32 {
        self.major << 16 | self.minor << 8 | self.patch
    }

    /// `Err` with a sentence for a family whose numbers nobody has checked.
    pub(crate) fn supported(self, found_by: &str) -> Result<Version, String> {
        if FAMILIES.contains(&(self.major, self.minor)) {
            return Ok(self);
        }
        let known: Vec<String> = FAMILIES
            .iter()
            .map(|(major, minor)| format!("{major}.{minor}"))
            .collect();
        Err(format!(
            "libclamav {self} was found (by {found_by}), but this crate is written for {}: \
             install one of these (Debian: apt-get install libclamav-dev), or point CLAMAV_LIB_DIR and \
             CLAMAV_INCLUDE_DIR at one",
            known.join(", ")
        ))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Runs the C preprocessor over a file of one line.
pub(crate) fn ask(include_dirs: &[PathBuf], out_dir: &Path) -> Result<Version, String> {
    let question = out_dir.join("version.c");
    std::fs::write(
        &question,
        "#include <clamav-version.h>\nSCANNER_CLAMAV_VERSION CLAMAV_VERSION_NUM\n",
    )
    .map_err(|error| format!("{} cannot be written: {error}", question.display()))?;
    let expanded = cc::Build::new()
        .includes(include_dirs)
        .cargo_metadata(false)
        .cargo_warnings(false)
        .file(&question)
        .try_expand()
        .map_err(|error| {
            format!(
                "the C preprocessor could not read clamav-version.h ({error}): a C compiler and the \
                 headers are needed (Debian: apt-get install build-essential libclamav-dev)"
            )
        })?;
    parse(&String::from_utf8_lossy(&expanded))
        .ok_or_else(|| "clamav-version.h does not define CLAMAV_VERSION_NUM".to_owned())
}

/// Finds the number behind the marker in preprocessed text. The preprocessor may put a macro's
/// expansion on another line, with line markers between.
pub(crate) fn parse(expanded: &str) -> Option<Version> {
    let mut words = expanded
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace);
    words.find(|word| *word == "SCANNER_CLAMAV_VERSION")?;
    let digits = words.next()?.strip_prefix("0x")?;
    u32::from_str_radix(digits, 16)
        .ok()
        .map(Version::from_number)
}
