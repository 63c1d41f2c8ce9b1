//! What the tests themselves know of bytes: the normaliser of libclamav, the bytes it takes for text, and how to print any.

pub use crate::support::hex;

/// libclamav's normalised text: letters in lower case, a run of white space as one space, nothing outside of ASCII.
pub fn normalised(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut after_space = false;
    for &byte in message {
        match byte {
            b'\t'..=b'\r' | b' ' => {
                if !after_space {
                    out.push(b' ');
                }
                after_space = true;
            }
            0x21..=0x7f => {
                out.push(byte.to_ascii_lowercase());
                after_space = false;
            }
            _ => {}
        }
    }
    out
}

/// libclamav calls a buffer with such a byte near its start something else than text.
pub fn is_foreign(byte: u8) -> bool {
    matches!(byte, 0..=6 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f)
}

/// Whether normalised text can hold it.
pub fn is_normal(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && !byte.is_ascii_uppercase()
}

/// As a Rust byte string, so that it can be pasted into a test.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::from("b\"");
    for byte in bytes {
        out.extend(byte.escape_ascii().map(char::from));
    }
    out.push('"');
    out
}
