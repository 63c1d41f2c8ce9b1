//! How much of one object libclamav examines.

use std::time::Duration;

use clamav_sys as sys;

/// Bounds for one scan. The defaults are libclamav's own.
///
/// Whoever meets one of the first five gets [`crate::Incomplete`], never "clean". The others bound one *step* of an
/// examination: what is larger is not normalised, searched or unpacked any further, everything else still is, and
/// libclamav as a rule does not say so. Lower them only for objects in which you do not need that step.
///
/// Every bound is at least 1, because to libclamav zero means "no limit".
///
/// ```
/// use std::time::Duration;
/// use scanlib::Limits;
///
/// let limits = Limits { max_file_bytes: 8 << 20, max_scan_time: Duration::from_secs(5), ..Limits::default() };
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One object, in bytes, or one member of it; up to [`Limits::MAX_FILE_BYTES`]. A larger object is not examined at
    /// all. Default: 100 MiB.
    pub max_file_bytes: u64,
    /// Everything together that is examined for one object, in bytes, with what was extracted from it. Default: 400 MiB.
    pub max_scan_bytes: u64,
    /// Nesting of containers. Default: 17.
    pub max_recursion: u32,
    /// Number of files in one container. Default: 10,000.
    pub max_files: u32,
    /// Wall time of one scan, in steps of a millisecond; up to about 49 days. Default: 120 s.
    pub max_scan_time: Duration,
    /// Step: larger files, in bytes, are not searched for executables hidden inside them. Default: 40 MiB.
    pub max_embedded_pe_bytes: u64,
    /// Step: larger HTML files, in bytes, are not normalised. Default: 40 MiB.
    pub max_html_normalize_bytes: u64,
    /// Step: larger normalised HTML, in bytes, is not scanned once more without its tags. Default: 8 MiB.
    pub max_html_no_tags_bytes: u64,
    /// Step: larger scripts, in bytes, are not normalised. Default: 20 MiB.
    pub max_script_normalize_bytes: u64,
    /// Step: larger members of a ZIP archive, in bytes, are not examined for being another type than they seem.
    /// Default: 1 MiB.
    pub max_zip_type_recognition_bytes: u64,
    /// Step: number of partitions of a disk image that are examined. Default: 50.
    pub max_partitions: u32,
    /// Step: number of icons of an executable that are examined. Default: 100.
    pub max_icons_pe: u32,
    /// Step: nesting of the parser of HWP3 documents. Default: 16.
    pub max_recursion_hwp3: u32,
    /// Step: how often one regular expression of a signature may call its matcher. Default: 100,000.
    pub pcre_match_limit: u32,
    /// Step: how deep one regular expression of a signature may recurse. Default: 2,000.
    pub pcre_recursion_limit: u32,
    /// Step: regular expressions of signatures do not run on larger files, in bytes. Default: 100 MiB.
    pub pcre_max_file_bytes: u64,
    /// Step: wall time of one bytecode program, in steps of a millisecond; up to about 49 days. Default: 60 s.
    pub bytecode_timeout: Duration,
}

/// A bound as libclamav is told it.
pub(super) struct Setting {
    /// The field of [`Limits`].
    pub(super) name: &'static str,
    pub(super) field: sys::cl_engine_field,
    /// In libclamav's own unit.
    pub(super) value: i64,
    max: i64,
}

impl Setting {
    fn new(name: &'static str, field: sys::cl_engine_field, value: u64, max: i64) -> Setting {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        Setting {
            name,
            field,
            value,
            max,
        }
    }

    /// What is wrong with the value, if something is.
    pub(super) fn problem(&self) -> Option<String> {
        let Setting { value, max, .. } = self;
        (!(1..=*max).contains(value)).then(|| format!("{value} is not between 1 and {max}"))
    }
}

impl Limits {
    /// libclamav does not look at larger objects, whatever the limits say: two bytes less than 2 GiB − 1.
    pub const MAX_FILE_BYTES: u64 = i32::MAX as u64 - 2;

    /// Every bound, whether it is in range or not.
    pub(super) fn settings(&self) -> [Setting; 17] {
        let bytes = |name, field, value| Setting::new(name, field, value, i64::MAX);
        let count =
            |name, field, value: u32| Setting::new(name, field, value.into(), u32::MAX.into());
        let millis = |name, field, time: Duration, more: Duration| {
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let (time, max) = (millis(time), u64::from(u32::MAX));
            // What is out of range by itself stays so.
            let value = time.max((time.saturating_add(millis(more))).min(max));
            Setting::new(name, field, value, max as i64)
        };
        [
            Setting::new(
                "max_file_bytes",
                sys::CL_ENGINE_MAX_FILESIZE,
                self.max_file_bytes,
                Limits::MAX_FILE_BYTES as i64,
            ),
            bytes(
                "max_scan_bytes",
                sys::CL_ENGINE_MAX_SCANSIZE,
                self.max_scan_bytes,
            ),
            count(
                "max_recursion",
                sys::CL_ENGINE_MAX_RECURSION,
                self.max_recursion,
            ),
            count("max_files", sys::CL_ENGINE_MAX_FILES, self.max_files),
            // A little more than what ends the scan between two layers, so that this comes first: see `call`.
            millis(
                "max_scan_time",
                sys::CL_ENGINE_MAX_SCANTIME,
                self.max_scan_time,
                self.max_scan_time / 8,
            ),
            bytes(
                "max_embedded_pe_bytes",
                sys::CL_ENGINE_MAX_EMBEDDEDPE,
                self.max_embedded_pe_bytes,
            ),
            bytes(
                "max_html_normalize_bytes",
                sys::CL_ENGINE_MAX_HTMLNORMALIZE,
                self.max_html_normalize_bytes,
            ),
            bytes(
                "max_html_no_tags_bytes",
                sys::CL_ENGINE_MAX_HTMLNOTAGS,
                self.max_html_no_tags_bytes,
            ),
            bytes(
                "max_script_normalize_bytes",
                sys::CL_ENGINE_MAX_SCRIPTNORMALIZE,
                self.max_script_normalize_bytes,
            ),
            bytes(
                "max_zip_type_recognition_bytes",
                sys::CL_ENGINE_MAX_ZIPTYPERCG,
                self.max_zip_type_recognition_bytes,
            ),
            count(
                "max_partitions",
                sys::CL_ENGINE_MAX_PARTITIONS,
                self.max_partitions,
            ),
            count(
                "max_icons_pe",
                sys::CL_ENGINE_MAX_ICONSPE,
                self.max_icons_pe,
            ),
            count(
                "max_recursion_hwp3",
                sys::CL_ENGINE_MAX_RECHWP3,
                self.max_recursion_hwp3,
            ),
            count(
                "pcre_match_limit",
                sys::CL_ENGINE_PCRE_MATCH_LIMIT,
                self.pcre_match_limit,
            ),
            count(
                "pcre_recursion_limit",
                sys::CL_ENGINE_PCRE_RECMATCH_LIMIT,
                self.pcre_recursion_limit,
            ),
            bytes(
                "pcre_max_file_bytes",
                sys::CL_ENGINE_PCRE_MAX_FILESIZE,
                self.pcre_max_file_bytes,
            ),
            millis(
                "bytecode_timeout",
                sys::CL_ENGINE_BYTECODE_TIMEOUT,
                self.bytecode_timeout,
                Duration::ZERO,
            ),
        ]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_file_bytes: 100 << 20,
            max_scan_bytes: 400 << 20,
            max_recursion: 17,
            max_files: 10_000,
            max_scan_time: Duration::from_secs(120),
            max_embedded_pe_bytes: 40 << 20,
            max_html_normalize_bytes: 40 << 20,
            max_html_no_tags_bytes: 8 << 20,
            max_script_normalize_bytes: 20 << 20,
            max_zip_type_recognition_bytes: 1 << 20,
            max_partitions: 50,
            max_icons_pe: 100,
            max_recursion_hwp3: 16,
            pcre_match_limit: 100_000,
            pcre_recursion_limit: 2_000,
            pcre_max_file_bytes: 100 << 20,
            bytecode_timeout: Duration::from_secs(60),
        }
    }
}
