//! Base64 in either alphabet, padded or not, inside other text.

use ::base64::Engine as _;
use ::base64::alphabet;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decode::{Payloads, may_be_payload};

/// Shorter runs are words. This many letters hold 12 bytes.
const MIN_RUN: usize = 16;

/// So many letters, 18 bytes, are decoded first; hardly any word passes for text.
const PROBE: usize = 24;

/// A run with other text in front of it is tried from so many places in full. Together with one
/// pass over the whole and one over its parts this bounds the work per letter.
const MAX_STARTS: usize = 4;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// Which bytes are letters of one of the alphabets.
const LETTERS: [bool; 256] = {
    let mut letters = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        letters[byte] = (byte as u8).is_ascii_alphanumeric() || is_separator(byte as u8);
        byte += 1;
    }
    letters
};

/// Letters that other text uses to join words.
const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'+' | b'/' | b'-' | b'_')
}

pub(super) fn carve(text: &[u8], payloads: &mut Payloads) {
    let mut at = 0;
    while let Some((start, end)) = next_run(text, at) {
        carve_run(&text[start..end], payloads);
        at = end;
    }
}

/// The next run of [`MIN_RUN`] letters or more. It looks at a window from its end, so that most of
/// a text of short words is never touched.
fn next_run(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut start = from;
    loop {
        let window = text.get(start..start.checked_add(MIN_RUN)?)?;
        match window.iter().rposition(|&b| !LETTERS[usize::from(b)]) {
            Some(other) => start += other + 1,
            None => {
                let rest = &text[start + MIN_RUN..];
                let more = rest
                    .iter()
                    .take_while(|&&b| LETTERS[usize::from(b)])
                    .count();
                return Some((start, start + MIN_RUN + more));
            }
        }
    }
}

/// The whole run; else what follows a separator, because a path or a name may stand in front; else
/// the parts between separators.
fn carve_run(run: &[u8], payloads: &mut Payloads) {
    if probe(run) && offer(run, payloads) {
        return;
    }
    let separators = run.iter().enumerate().filter(|(_, b)| is_separator(**b));
    let starts = separators.map(|(at, _)| &run[at + 1..]);
    for rest in starts.filter(|rest| probe(rest)).take(MAX_STARTS) {
        if offer(rest, payloads) {
            return;
        }
    }
    for part in run
        .split(|b| is_separator(*b))
        .filter(|part| part.len() < run.len())
    {
        if probe(part) {
            offer(part, payloads);
        }
    }
}

fn probe(run: &[u8]) -> bool {
    if run.len() < MIN_RUN {
        return false;
    }
    let mut start = [0; PROBE / 4 * 3];
    let letters = whole_bytes(&run[..run.len().min(PROBE)]);
    // An error is a letter of the other alphabet.
    engine(letters)
        .decode_slice(letters, &mut start)
        .is_ok_and(|n| may_be_payload(&start[..n]))
}

fn offer(run: &[u8], payloads: &mut Payloads) -> bool {
    payloads.offer(|out, room| {
        let cut = run.len() / 4 * 3 > room;
        let letters = whole_bytes(if cut { &run[..room / 3 * 4] } else { run });
        if engine(letters).decode_vec(letters, out).is_err() {
            out.clear();
        }
        cut
    })
}

/// Without the one letter at the end that completes no byte.
fn whole_bytes(run: &[u8]) -> &[u8] {
    if run.len() % 4 == 1 {
        &run[..run.len() - 1]
    } else {
        run
    }
}

fn engine(run: &[u8]) -> &'static GeneralPurpose {
    if memchr::memchr2(b'-', b'_', run).is_some() {
        &URL_SAFE
    } else {
        &STANDARD
    }
}
