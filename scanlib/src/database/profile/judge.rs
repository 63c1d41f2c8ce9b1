//! Whether a line of a signature file can concern a log message. What is not understood can.

use super::LONGEST_HASHED_BYTES;
use super::excluded::{ExcludedKind, ExcludedReason};
use clamav_prefilter::Offset;
use clamav_prefilter::formats::{Format, body, hash, lines, logical};

/// libclamav's numbers for types of files that are no text: programs (1 PE, 6 ELF, 9 Mach-O, 12 Java), documents (2 OLE2, 10 PDF),
/// graphics (5) and Flash (11). Any (0), HTML (3), mail (4) and text (7) are not among them, nor what a later libclamav may add.
const NO_TEXT: [u32; 8] = [1, 2, 5, 6, 9, 10, 11, 12];

/// Why a line cannot concern a message of at most so many bytes, if it cannot.
pub(super) type Judge = fn(&[u8], u64) -> Option<ExcludedReason>;

/// What becomes of one file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// It stays as it is.
    Keep,
    /// Each of its lines is judged.
    Lines {
        kind: ExcludedKind,
        /// Bytes of libclamav's buffer for a line.
        most: usize,
        judge: Judge,
    },
}

pub(super) fn rule(format: Format) -> Rule {
    let (kind, most, judge): (_, _, Judge) = match format {
        Format::Hash => (ExcludedKind::Hash, lines::SHORT, file_hash),
        Format::Body | Format::UnnamedBody => (ExcludedKind::Body, lines::SHORT, body_signature),
        Format::Logical => (ExcludedKind::Logical, lines::LONG, logical_signature),
        Format::ExecutablePart => (ExcludedKind::Section, lines::SHORT, executable),
        Format::Icon => (ExcludedKind::Icon, lines::SHORT, executable),
        _ => return Rule::Keep,
    };
    Rule::Lines { kind, most, judge }
}

fn executable(_: &[u8], _: u64) -> Option<ExcludedReason> {
    Some(ExcludedReason::Executable)
}

fn file_hash(line: &[u8], max: u64) -> Option<ExcludedReason> {
    let size = u64::from(hash::parse(line).ok()?.size?);
    (size > max.min(LONGEST_HASHED_BYTES)).then_some(ExcludedReason::LongFile)
}

fn body_signature(line: &[u8], max: u64) -> Option<ExcludedReason> {
    let body = body::parse(line).ok()?;
    match body.offset {
        // A part of logical signatures, which may count on it not to match.
        Offset::Macro => None,
        _ if NO_TEXT.contains(&body.target) => Some(ExcludedReason::FileType),
        Offset::Absolute { at, .. } if u64::from(at) >= max => Some(ExcludedReason::LongText),
        _ => None,
    }
}

fn logical_signature(line: &[u8], max: u64) -> Option<ExcludedReason> {
    let (target, size) = logical::reach(line)?;
    if NO_TEXT.contains(&target) {
        return Some(ExcludedReason::FileType);
    }
    (size.min > max).then_some(ExcludedReason::LongText)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use clamav_prefilter::signature::Kind;

    const MAX: u64 = 1 << 20;

    proptest! {
        /// The prefilter, which libclamav itself holds to the truth, knows of no plain text that they match.
        #[test]
        fn what_is_left_out_for_its_type_matches_no_plain_text(
            target in "[0-9]{1,2}|\\*|x|",
            attribute in "|,Engine:51-255|,FileSize:1-9|,FileSize:x|,Target:0|,Container:CL_TYPE_ZIP",
            offset in "\\*|0|EP\\+0|\\$1\\$|EOF-9|1048576",
        ) {
            let line = format!("N:{target}:{offset}:6e6565646c65");
            if body_signature(line.as_bytes(), MAX) == Some(ExcludedReason::FileType) {
                prop_assert!(body::parse(line.as_bytes()).unwrap().signature().is_none());
            }
            let line = format!("N;Target:{target}{attribute};0;6e6565646c65");
            if logical_signature(line.as_bytes(), MAX) == Some(ExcludedReason::FileType) {
                prop_assert!(logical::logical(line.as_bytes(), Kind::Logical).is_none());
            }
        }

        #[test]
        fn what_is_not_understood_stays(line in "[a-f0-9:;*,N\\$=]{0,60}") {
            let line = line.as_bytes();
            if hash::parse(line).is_err() {
                prop_assert_eq!(file_hash(line, MAX), None);
            }
            if body::parse(line).is_err() {
                prop_assert_eq!(body_signature(line, MAX), None);
            }
            if logical::reach(line).is_none() {
                prop_assert_eq!(logical_signature(line, MAX), None);
            }
        }
    }
}
