//! Base64 in either alphabet, padded or not, inside other text.

use ::base64::Engine as _;
use ::base64::alphabet;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decode::{Payloads, may_be_payload};

/// Shorter runs, padding included, are words. Without padding this many letters hold 12 bytes.
const MIN_RUN: usize = 16;

const MAX_PADDING: usize = 2;

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

/// What a letter of either alphabet stands for; [`NONE`] for every other byte.
const VALUES: [u8; 256] = {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < letters.len() {
        values[letters[value] as usize] = value as u8;
        value += 1;
    }
    values[b'-' as usize] = 62;
    values[b'_' as usize] = 63;
    values
};
const NONE: u8 = 0xff;

fn is_letter(byte: u8) -> bool {
    VALUES[usize::from(byte)] != NONE
}

/// Letters that other text uses to join words.
const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'+' | b'/' | b'-' | b'_')
}

pub(super) fn carve(text: &[u8], payloads: &mut Payloads) {
    let mut at = 0;
    while let Some((start, end)) = next_run(text, at) {
        let padding = text[end..]
            .iter()
            .take(MAX_PADDING)
            .take_while(|&&b| b == b'=')
            .count();
        carve_run(&text[start..end], MIN_RUN - padding, payloads);
        at = end;
    }
}

/// The next run of letters that may be long enough with its padding. It looks at a window from
/// its end, so that most of a text of short words is never touched.
fn next_run(text: &[u8], from: usize) -> Option<(usize, usize)> {
    const WINDOW: usize = MIN_RUN - MAX_PADDING;
    let mut start = from;
    loop {
        let window = text.get(start..start.checked_add(WINDOW)?)?;
        match window.iter().rposition(|&b| !is_letter(b)) {
            Some(other) => start += other + 1,
            None => {
                let rest = &text[start + WINDOW..];
                let more = rest.iter().take_while(|&&b| is_letter(b)).count();
                return Some((start, start + WINDOW + more));
            }
        }
    }
}

/// The whole run; else what follows a separator, because a path or a name may stand in front; else
/// the parts between separators. Where a payload may begin and is not tried, that is said.
fn carve_run(run: &[u8], min: usize, payloads: &mut Payloads) {
    if probe(run, min) && offer(run, payloads) {
        return;
    }
    let separators = run.iter().enumerate().filter(|(_, b)| is_separator(**b));
    let starts = separators.map(|(at, _)| at + 1);
    let (mut tried, mut last) = (0, 0);
    for start in starts
        .filter(|start| probe(&run[*start..], min))
        .take(MAX_STARTS)
    {
        if offer(&run[start..], payloads) {
            return;
        }
        (tried, last) = (tried + 1, start);
    }
    let mut start = 0;
    for part in run.split(|b| is_separator(*b)) {
        let accepted = part.len() < run.len() && probe(part, MIN_RUN) && offer(part, payloads);
        let untried = tried == MAX_STARTS && start > last;
        if !accepted && untried && probe(&run[start..], min) {
            payloads.leave_out();
        }
        start += part.len() + 1;
    }
}

/// Decodes the beginning by hand: for a few bytes, most often in vain, the engines are slow.
fn probe(run: &[u8], min: usize) -> bool {
    if run.len() < min {
        return false;
    }
    let mut start = [0; PROBE / 4 * 3];
    let (fours, _) = run.as_chunks::<4>();
    let (threes, _) = start.as_chunks_mut::<3>();
    let mut length = 0;
    for (four, three) in fours.iter().zip(threes) {
        let bits = four
            .iter()
            .fold(0, |bits, &b| bits << 6 | u32::from(VALUES[usize::from(b)]));
        let [_, bytes @ ..] = bits.to_be_bytes();
        *three = bytes;
        length += 3;
    }
    may_be_payload(&start[..length])
}

fn offer(run: &[u8], payloads: &mut Payloads) -> bool {
    payloads.offer(|out, room| {
        let cut = run.len() / 4 * 3 + 2 > room;
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
