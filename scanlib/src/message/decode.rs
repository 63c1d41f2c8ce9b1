//! Payloads carved out of a text and decoded.
//!
//! Most runs that look encoded are not, and each payload costs a full scan. So a result is kept
//! only if it is text, or starts like a known file; see [`is_payload`].

use super::base64;

/// How far the payloads of one message are decoded. What exceeds a limit makes the scan incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// How often one within the other payloads are decoded, from 1, which is those that stand in the message itself, to
    /// [`DecodeLimits::MAX_DEPTH`]. Default: 3.
    pub depth: u32,
    /// How many different payloads of one message are decoded, from 1 to [`DecodeLimits::MAX_PAYLOADS`]. Each may cost a scan.
    /// Default: 8.
    pub payloads: u32,
}

impl DecodeLimits {
    /// The highest [`DecodeLimits::depth`]; a higher one counts as this.
    pub const MAX_DEPTH: u32 = 16;
    /// The highest [`DecodeLimits::payloads`]; a higher one counts as this.
    pub const MAX_PAYLOADS: u32 = 64;
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits {
            depth: 3,
            payloads: 8,
        }
    }
}

/// At most so many bytes of one message's payloads are kept, all together; the last one is cut.
pub const MAX_DECODED_BYTES: usize = 1 << 20;

/// With less room left than this nothing more is decoded.
const MIN_ROOM: usize = 16;

/// Buffers that grew beyond this are given back instead of being kept for the next message.
const KEPT_CAPACITY: usize = 64 << 10;

/// Offers what it finds in a text to [`Payloads::offer`], in time linear in the text.
type Decoder = fn(&[u8], &mut Payloads);

/// Every encoding that is looked for, in this order.
const DECODERS: [Decoder; 1] = [base64::carve];

/// Beginnings of files, four bytes or more: shorter ones turn up by chance.
const MAGICS: [&[u8]; 31] = [
    b"\x7fELF",
    b"MZ\x90\0",
    b"MZP\0",
    b"MZ\0\0",
    b"MZAR",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"%PDF",
    b"Rar!",
    b"7z\xbc\xaf",
    b"\xfd7zX",
    b"\x1f\x8b\x08\0",
    b"\x1f\x8b\x08\x08",
    b"BZh91AY&SY",
    b"BZh61AY&SY",
    b"\x28\xb5\x2f\xfd",
    b"MSCF",
    b"ITSF",
    b"\xd0\xcf\x11\xe0",
    b"\xca\xfe\xba\xbe",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\0asm",
    b"dex\n",
    b"L\0\0\0\x01\x14\x02\0",
    b"\x89PNG",
    b"\xff\xd8\xff\xe0",
    b"\xff\xd8\xff\xe1",
    b"GIF8",
];

/// The payloads of one message. Its buffers stay for the next one.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    /// The first `used` hold a payload, the others are spare.
    buffers: Vec<Vec<u8>>,
    used: usize,
    bytes: usize,
    limits: DecodeLimits,
    left_out: bool,
    /// The payloads that are looked for now lie deeper than the limit allows: none is kept.
    is_probe: bool,
    too_deep: bool,
    scratch: Vec<u8>,
    /// Bytes that were decoded, kept or not.
    #[cfg(test)]
    work: usize,
}

impl Payloads {
    pub(super) fn new(limits: DecodeLimits) -> Payloads {
        let DecodeLimits { depth, payloads } = limits;
        Payloads {
            limits: DecodeLimits {
                depth: depth.clamp(1, DecodeLimits::MAX_DEPTH),
                payloads: payloads.clamp(1, DecodeLimits::MAX_PAYLOADS),
            },
            ..Payloads::default()
        }
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.bytes = 0;
        self.left_out = false;
        self.too_deep = false;
        for buffer in self.buffers.iter_mut().chain([&mut self.scratch]) {
            buffer.clear();
            if buffer.capacity() > KEPT_CAPACITY {
                *buffer = Vec::new();
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.buffers.iter().take(self.used).map(Vec::as_slice)
    }

    /// True if something was not decoded because of a bound on number or bytes.
    pub(super) fn left_out(&self) -> bool {
        self.left_out
    }

    /// True if a payload holds another one that was not decoded because it lies too deep.
    pub(super) fn too_deep(&self) -> bool {
        self.too_deep
    }

    pub(super) fn as_slice(&self) -> &[Vec<u8>] {
        self.buffers.get(..self.used).unwrap_or_default()
    }

    /// Says that something that may be a payload was not decoded.
    pub(super) fn leave_out(&mut self) {
        if self.is_probe {
            self.too_deep = true;
        } else {
            self.left_out = true;
        }
    }

    /// Looks for payloads in a text, then in what was found. The last layer is only asked whether it holds more.
    pub(super) fn carve(&mut self, text: &[u8]) {
        DECODERS.iter().for_each(|decoder| decoder(text, self));
        let (mut first, mut depth) = (0, 1);
        while depth <= self.limits.depth && first < self.used {
            let layer = first..self.used;
            first = self.used;
            self.is_probe = depth == self.limits.depth;
            depth += 1;
            for place in layer {
                // One is enough to know.
                if self.too_deep {
                    break;
                }
                // Out of its place, so that its text can be read while others are added.
                let payload = std::mem::take(&mut self.buffers[place]);
                DECODERS.iter().for_each(|decoder| decoder(&payload, self));
                self.buffers[place] = payload;
            }
        }
        self.is_probe = false;
    }

    /// Keeps what `decode` writes into a buffer if it is a payload and there is a place for it, and
    /// says whether it is one.
    ///
    /// `decode` gets the bytes that it may write, and returns true if it had to cut.
    pub(super) fn offer(&mut self, decode: impl FnOnce(&mut Vec<u8>, usize) -> bool) -> bool {
        let room = match self.is_probe {
            // Nothing is kept, and a payload shows at its beginning as well as anywhere.
            true => MAX_DECODED_BYTES,
            false => MAX_DECODED_BYTES - self.bytes,
        };
        if room < MIN_ROOM {
            self.leave_out();
            return false;
        }
        if self.used == self.buffers.len() {
            self.buffers.push(Vec::new());
        }
        let mut buffer = std::mem::take(&mut self.buffers[self.used]);
        buffer.clear();
        let mut cut = decode(&mut buffer, room);
        #[cfg(test)]
        {
            self.work += buffer.len();
        }
        if is_utf16(&buffer) {
            self.scratch.clear();
            utf16_to_utf8(&buffer, &mut self.scratch);
            std::mem::swap(&mut buffer, &mut self.scratch);
            // Some scripts take more bytes in UTF-8.
            cut |= buffer.len() > room;
            buffer.truncate(room);
        }
        let accepted = is_payload(&buffer);
        // The same payload twice takes one place.
        let new = accepted && self.iter().all(|other| other != buffer);
        let length = buffer.len();
        self.buffers[self.used] = buffer;
        if new && (self.is_probe || self.used == self.limits.payloads as usize) {
            self.leave_out();
        } else if new {
            self.used += 1;
            self.bytes += length;
            self.left_out |= cut;
        }
        accepted
    }
}

/// True for text, and for what starts like a file.
///
/// A cut text at the end of which a character is incomplete is still text; so is a longer one with
/// a few bytes of an older character set.
fn is_payload(data: &[u8]) -> bool {
    is_text(data, data.len() >= LENIENT_LENGTH) || starts_like_file(data)
}

/// False if the whole cannot be a payload, by its first bytes; most words are rejected here.
pub(super) fn may_be_payload(start: &[u8]) -> bool {
    is_text(start, true) || is_utf16(start) || starts_like_file(start)
}

/// Bytes from which on a result that happens to look like text is no longer a coincidence.
const LENIENT_LENGTH: usize = 32;

fn starts_like_file(data: &[u8]) -> bool {
    const FIRST_BYTES: [bool; 256] = {
        let mut first = [false; 256];
        let mut place = 0;
        while place < MAGICS.len() {
            first[MAGICS[place][0] as usize] = true;
            place += 1;
        }
        first
    };
    let plausible = data
        .first()
        .is_some_and(|byte| FIRST_BYTES[usize::from(*byte)]);
    plausible && MAGICS.iter().any(|magic| data.starts_with(magic))
}

fn is_text(data: &[u8], lenient: bool) -> bool {
    let control = |b: &u8| (*b < b' ' && !b"\t\r\n".contains(b)) || *b == 0x7f;
    if data.is_empty() || data.iter().any(control) {
        return false;
    }
    match std::str::from_utf8(data) {
        Ok(_) => true,
        Err(error) if error.error_len().is_none() => true,
        Err(_) => lenient && data.iter().filter(|b| !b.is_ascii()).count() * 8 <= data.len(),
    }
}

/// UTF-16 of mostly western text, little end first: most second bytes are zero, and hardly any
/// first byte is.
fn is_utf16(data: &[u8]) -> bool {
    let units = data.len() / 2;
    let (pairs, _) = data.as_chunks::<2>();
    let western = pairs
        .iter()
        .filter(|pair| pair[0] != 0 && pair[1] == 0)
        .count();
    units >= 4 && western * 2 > units && !starts_like_file(data)
}

fn utf16_to_utf8(data: &[u8], out: &mut Vec<u8>) {
    let data = data.strip_prefix(b"\xff\xfe").unwrap_or(data);
    let (pairs, _) = data.as_chunks::<2>();
    for letter in char::decode_utf16(pairs.iter().map(|pair| u16::from_le_bytes(*pair))) {
        let letter = letter.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    /// Each run at most once as a whole, four times from a later start and once in parts, and each
    /// payload the same: the work is bounded by the length, whatever the text.
    fn assert_linear(text: &[u8]) -> Result<(), TestCaseError> {
        let mut payloads = Payloads::default();
        payloads.carve(text);
        let bound = 6 * (text.len() + payloads.bytes);
        prop_assert!(payloads.work <= bound, "{} of {bound}", payloads.work);
        Ok(())
    }

    proptest! {
        #[test]
        fn hostile_text_takes_linear_work(
            pieces in prop::collection::vec(("[ -~]{3,30}", "[/+_ -]?"), 1..4),
            repeat in 1_usize..500,
        ) {
            let pieces = pieces.iter().map(|(text, end)| STANDARD.encode(text) + end);
            let text = pieces.collect::<String>().repeat(repeat);
            assert_linear(text.as_bytes())?;
        }
    }

    /// A long run with a separator everywhere, each part beginning like text.
    #[test]
    fn a_run_of_many_beginnings_takes_linear_work() {
        let piece = STANDARD.encode("abcdefghijklmnopqr") + "/";
        for repeat in [10, 100, 1000] {
            assert!(assert_linear(piece.repeat(repeat).as_bytes()).is_ok());
        }
    }
}
