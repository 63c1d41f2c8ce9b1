//! Any bytes are a signature file, and what libclamav reports of a message is not cleared, however strange the signature is.
//!
//! The input is a byte for the kind of file, the file, a zero byte, and a message.

use scanlib::prefilter::{Gate, Prefilter, Scratch};

use crate::verdict;

/// What is read, by the ending of its name.
const ENDINGS: &[&str] = &[
    "ndb", "ldb", "yar", "hdb", "hsb", "db", "sdb", "ftm", "ndu", "ldu", "cbc", "ioc", "hdu",
    "hsu", "cvd", "cld", "crb", "xyz",
];

/// With these it is worth asking libclamav; a larger file is a larger way to the same answer.
const JUDGED: &[&str] = &["ndb", "ldb", "hdb", "hsb", "db", "sdb", "ndu", "ldu"];
const JUDGED_BYTES: usize = 1024;

/// Always there: libclamav takes no directory without a signature.
const OTHER: &[u8] = b"Other:0:*:736f6d657468696e67206f74686572\n";

/// Panics unless the file is read, and the message judged, as promised.
pub fn check(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    let ending = ENDINGS[usize::from(*kind) % ENDINGS.len()];
    let end = rest
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(rest.len());
    let message = rest.get(end + 1..).unwrap_or_default();
    // A container is binary: all of it is the file.
    let file = match ending {
        "cvd" | "cld" => rest,
        _ => &rest[..end],
    };
    let name = format!("a.{ending}");

    let prefilter = Prefilter::unproven(&name, file);
    let gate = prefilter.check(message, &mut Scratch::default());
    verdict::is_explained(&prefilter, message, gate);

    // With libclamav's names less is cleared, never more; what is not cleared alone need not be asked about.
    let is_cleared = gate == Gate::Cleared && message.len() > verdict::NOT_LOOKED_AT;
    let is_judged = JUDGED.contains(&ending) && file.len() <= JUDGED_BYTES && is_tame(file);
    if !is_cleared || !is_judged {
        return;
    }
    let files = [(name, file), ("other.ndb".to_owned(), OTHER)];
    if let Ok(engine) = verdict::engine(&files) {
        verdict::is_sound(&engine, message, &mut Scratch::default());
    }
}

/// Whether libclamav survives it. It does not if an alternative or a marker stands before the first fixed bytes of a pattern, and it
/// never comes back from a regular expression that is to be found again and again and matches nothing.
fn is_tame(file: &[u8]) -> bool {
    file.split(|byte| *byte == b'\n').all(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b';').collect();
        // An expression has parentheses of its own.
        let whole = [line];
        let patterns = fields.get(3..).unwrap_or(&whole);
        patterns.iter().all(|pattern| {
            let is_regex = pattern.contains(&b'/');
            let is_comparison = pattern.contains(&b'#');
            match is_regex {
                true => !pattern
                    .rsplit(|byte| *byte == b'/')
                    .any(|part| part.contains(&b'g')),
                false => is_comparison || starts_are_fixed(pattern),
            }
        })
    })
}

/// In front of each parenthesis, from the start of the pattern or the last gap on, stand three bytes.
fn starts_are_fixed(pattern: &[u8]) -> bool {
    let parts = pattern.split(|byte| b":*}=".contains(byte));
    let is_fixed = |part: &[u8]| {
        let start = part.get(..6).unwrap_or_default();
        start.len() == 6 && start.iter().all(u8::is_ascii_hexdigit)
    };
    parts.filter(|part| part.contains(&b'(')).all(is_fixed)
}
