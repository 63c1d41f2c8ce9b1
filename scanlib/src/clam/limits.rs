//! How much of one object libclamav examines.

use std::time::Duration;

use clamav_sys as sys;

/// Bounds for one scan. Whoever meets one gets [`crate::Incomplete`], never "clean".
///
/// The defaults are libclamav's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One object, in bytes, or one member of it; 1 to [`Limits::MAX_FILE_BYTES`]. A larger object is not examined at all.
    pub max_file_bytes: u64,
    /// Everything together that is examined for one object, in bytes, with what was extracted from it; at least 1.
    pub max_scan_bytes: u64,
    /// Nesting of containers; at least 1.
    pub max_recursion: u32,
    /// Number of files in one container; at least 1.
    pub max_files: u32,
    /// Wall time of one scan, in steps of a millisecond; 1 ms to about 49 days.
    pub max_scan_time: Duration,
}

impl Limits {
    /// libclamav does not look at larger objects, whatever the limits say: two bytes less than 2 GiB − 1.
    pub const MAX_FILE_BYTES: u64 = i32::MAX as u64 - 2;

    /// What libclamav is told, by name, in its own units; or the name of the field that is out of range.
    /// To libclamav zero means "no limit", which cannot be asked for here.
    pub(super) fn settings(
        &self,
    ) -> Result<[(&'static str, sys::cl_engine_field, i64); 5], &'static str> {
        let time = i64::try_from(self.max_scan_time.as_millis()).unwrap_or(i64::MAX);
        let scan_bytes = i64::try_from(self.max_scan_bytes).unwrap_or(i64::MAX);
        let file_bytes = i64::try_from(self.max_file_bytes).unwrap_or(i64::MAX);
        let settings = [
            (
                "max_file_bytes",
                sys::CL_ENGINE_MAX_FILESIZE,
                file_bytes,
                Limits::MAX_FILE_BYTES as i64,
            ),
            (
                "max_scan_bytes",
                sys::CL_ENGINE_MAX_SCANSIZE,
                scan_bytes,
                i64::MAX,
            ),
            (
                "max_recursion",
                sys::CL_ENGINE_MAX_RECURSION,
                self.max_recursion.into(),
                u32::MAX.into(),
            ),
            (
                "max_files",
                sys::CL_ENGINE_MAX_FILES,
                self.max_files.into(),
                u32::MAX.into(),
            ),
            (
                "max_scan_time",
                sys::CL_ENGINE_MAX_SCANTIME,
                time,
                u32::MAX.into(),
            ),
        ];
        match settings
            .iter()
            .find(|(_, _, value, max)| !(1..=*max).contains(value))
        {
            Some((name, ..)) => Err(name),
            None => Ok(settings.map(|(name, field, value, _)| (name, field, value))),
        }
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
        }
    }
}
