//! Changes to a message that a gate must not be misled by.

use super::random::Random;

/// One to three changes.
pub fn mutated(mut message: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..*random.pick(&[1, 1, 1, 2, 3]) {
        message = change(message, random);
    }
    message
}

fn change(mut message: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let len = message.len();
    let at = random.below(len + 1);
    match random.below(16) {
        0 => message.make_ascii_uppercase(),
        1 => message.make_ascii_lowercase(),
        2 => {
            for byte in &mut message {
                if byte.is_ascii_alphabetic() && random.percent(30) {
                    *byte ^= 0x20;
                }
            }
        }
        3 => return spaced(&message, random),
        4 => {
            message.insert(at, *random.pick(b"\t\r\n \x0c"));
        }
        5 | 6 => {
            for _ in 0..random.between(1, 4) {
                let at = random.below(message.len() + 1);
                message.insert(at, 0x80 | random.next() as u8);
            }
        }
        7 => {
            // Dropped by the normaliser, but text.
            message.insert(at, *random.pick(&[7, 8, 0x1b]));
        }
        8 => {
            message.insert(at, *random.pick(&[0, 1, 0x0b, 0x0e, 0x1f, 0x7f]));
        }
        9 | 10 => {
            let cut = random.below(len.min(12) + 1);
            message.truncate(len - cut);
        }
        11 | 12 => {
            let cut = random.below(len.min(12) + 1);
            message.drain(..cut);
        }
        13 => {
            let start = random.below(len + 1);
            let end = (start + random.below(200)).min(len);
            let copy = message[start..end].to_vec();
            let at = random.below(len + 1);
            message.splice(at..at, copy);
        }
        14 => {
            if len > 0 && len <= 1024 {
                return spaced_out(&message, random);
            }
        }
        _ => {
            if len > 0 {
                let at = random.below(len);
                message[at] = random.next() as u8;
            }
        }
    }
    message
}

/// Every space as a run of white space.
fn spaced(message: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in message {
        if byte == b' ' {
            for _ in 0..random.between(1, 3) {
                out.push(*random.pick(b"  \t\n\r\x0c"));
            }
        } else {
            out.push(byte);
        }
    }
    out
}

/// A byte with an empty low half after each: libclamav takes it for UTF-16.
pub fn spaced_out(message: &[u8], random: &mut Random) -> Vec<u8> {
    let between = *random.pick(b"   0@P`p\x80\xf0");
    let mut out = Vec::new();
    if random.percent(30) {
        out.push(*random.pick(b"x <"));
    }
    let inside_tags = random.percent(30);
    for &byte in message {
        out.extend([byte, between]);
        if byte == b'<' && inside_tags {
            // In this reading a byte that normalisation drops; elsewhere it would break the text that a signature has.
            out.extend(b"p!");
        }
    }
    out
}
