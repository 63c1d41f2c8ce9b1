//! What one scan looks for.

use clamav_sys as sys;

/// What one scan looks for. The defaults find what `clamscan` finds without options.
///
/// There is no switch for alerts about limits: they are always on, because without them libclamav
/// calls an object clean that it did not examine. They never appear as names; they become
/// [`crate::Incomplete`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Go on after the first match and report every name. Cancelling or a deadline then marks the
    /// result but does not end the scan early.
    pub all_matches: bool,
    /// libclamav's own heuristics, whose names start with `Heuristics.`.
    pub heuristics: bool,
    /// Look inside archives, documents, mail and executables, and at normalised text and HTML.
    pub parse: bool,
    /// Alert on encrypted archives and documents, which cannot be examined.
    pub alert_encrypted: bool,
    /// Alert on documents that hold macros.
    pub alert_macros: bool,
    /// Alert on executables and media that are damaged.
    pub alert_broken: bool,
}

impl Default for ScanOptions {
    fn default() -> Self {
        ScanOptions {
            all_matches: false,
            heuristics: true,
            parse: true,
            alert_encrypted: false,
            alert_macros: false,
            alert_broken: false,
        }
    }
}

/// Every parser that `clamscan` uses by default.
const PARSE_ALL: u32 = sys::CL_SCAN_PARSE_ARCHIVE
    | sys::CL_SCAN_PARSE_ELF
    | sys::CL_SCAN_PARSE_PDF
    | sys::CL_SCAN_PARSE_SWF
    | sys::CL_SCAN_PARSE_HWP3
    | sys::CL_SCAN_PARSE_XMLDOCS
    | sys::CL_SCAN_PARSE_MAIL
    | sys::CL_SCAN_PARSE_OLE2
    | sys::CL_SCAN_PARSE_HTML
    | sys::CL_SCAN_PARSE_PE
    | sys::CL_SCAN_PARSE_ONENOTE
    | sys::CL_SCAN_PARSE_IMAGE
    | sys::CL_SCAN_PARSE_IMAGE_FUZZY_HASH;

impl ScanOptions {
    /// One bit each.
    pub(super) fn to_bits(self) -> u8 {
        let ScanOptions {
            all_matches,
            heuristics,
            parse,
            alert_encrypted,
            alert_macros,
            alert_broken,
        } = self;
        let options = [
            all_matches,
            heuristics,
            parse,
            alert_encrypted,
            alert_macros,
            alert_broken,
        ];
        options
            .into_iter()
            .fold(0, |bits, option| bits << 1 | u8::from(option))
    }

    pub(super) fn to_c(self) -> sys::cl_scan_options {
        let flag = |on: bool, bits: u32| if on { bits } else { 0 };
        sys::cl_scan_options {
            general: flag(self.all_matches, sys::CL_SCAN_GENERAL_ALLMATCHES)
                | flag(self.heuristics, sys::CL_SCAN_GENERAL_HEURISTICS),
            parse: flag(self.parse, PARSE_ALL),
            heuristic: sys::CL_SCAN_HEURISTIC_EXCEEDS_MAX
                | flag(
                    self.alert_encrypted,
                    sys::CL_SCAN_HEURISTIC_ENCRYPTED_ARCHIVE | sys::CL_SCAN_HEURISTIC_ENCRYPTED_DOC,
                )
                | flag(self.alert_macros, sys::CL_SCAN_HEURISTIC_MACROS)
                | flag(
                    self.alert_broken,
                    sys::CL_SCAN_HEURISTIC_BROKEN | sys::CL_SCAN_HEURISTIC_BROKEN_MEDIA,
                ),
            mail: 0,
            dev: 0,
        }
    }
}
