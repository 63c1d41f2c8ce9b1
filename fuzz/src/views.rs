//! Views are bounded, differ from each other, invent nothing and miss no payload.

use base64::Engine as _;
use base64::engine::general_purpose;
use scanlib::View;
use scanlib::message::{DecodeLimits, MAX_DECODED_BYTES, Parser, ViewBuffers, ViewSet};

/// Panics unless the views of the record, and of a record with the input inside, are as promised.
pub fn check(input: &[u8]) {
    let views = views_of(input);
    bounds_hold(input, &views);
    every_payload_stands_in_the_text(input, &views);
    used_buffers_change_nothing(input, &views);
    an_encoded_text_is_found(input);
}

struct Views {
    list: Vec<(View, Vec<u8>)>,
    left_out: bool,
}

impl Views {
    fn decoded(&self) -> impl Iterator<Item = &[u8]> {
        let decoded = self.list.iter().filter(|(view, _)| *view == View::Decoded);
        decoded.map(|(_, data)| data.as_slice())
    }
}

fn views_of(record: &[u8]) -> Views {
    views_with(&mut ViewBuffers::default(), record)
}

fn views_with(buffers: &mut ViewBuffers, record: &[u8]) -> Views {
    let message = Parser::default().parse(record);
    let views = buffers.views(&message, ViewSet::ALL);
    Views {
        left_out: views.limit().is_some(),
        list: views.map(|view| (view.view, view.data.to_vec())).collect(),
    }
}

fn bounds_hold(record: &[u8], views: &Views) {
    assert_eq!(views.list[0], (View::Raw, record.to_vec()));
    for (place, (_, data)) in views.list.iter().enumerate().skip(1) {
        assert!(!data.is_empty());
        assert!(views.list[..place].iter().all(|(_, other)| other != data));
    }
    assert!(views.decoded().count() <= DecodeLimits::default().payloads as usize);
    assert!(views.decoded().map(<[u8]>::len).sum::<usize>() <= MAX_DECODED_BYTES);
}

/// Each payload is what letters of the text, or of another payload, stand for.
fn every_payload_stands_in_the_text(record: &[u8], views: &Views) {
    let message = Parser::default().parse(record);
    let mut sources: Vec<&[u8]> = vec![message.text()];
    sources.extend(views.decoded());
    for payload in views.decoded() {
        // Where the letters go on behind the payload, half a character at its end may be a whole one.
        let whole = payload
            .strip_suffix("\u{fffd}".as_bytes())
            .unwrap_or(payload);
        let other = |source: &&&[u8]| **source != payload;
        let found = sources.iter().filter(other).any(|source| {
            // At a separator or behind any other byte a payload may start.
            let starts = (0..source.len()).filter(|at| {
                let before = at.checked_sub(1).map(|before| source[before]);
                before.is_none_or(|b| !b.is_ascii_alphanumeric())
            });
            starts
                .map(|at| &source[at..])
                .any(|rest| begins(bytes(rest), payload) || begins(utf16(bytes(rest)), whole))
        });
        assert!(found, "nothing stands for {}", payload.escape_ascii());
    }
}

fn begins(mut bytes: impl Iterator<Item = u8>, payload: &[u8]) -> bool {
    payload.iter().all(|byte| bytes.next() == Some(*byte))
}

/// What the letters of either alphabet at the start of a text stand for, one byte after the other.
fn bytes(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut values = text.iter().map_while(|letter| {
        Some(match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        })
    });
    let (mut bits, mut count) = (0_u32, 0);
    std::iter::from_fn(move || {
        while count < 8 {
            bits = bits << 6 | u32::from(values.next()?);
            count += 6;
        }
        count -= 8;
        let [.., byte] = (bits >> count).to_be_bytes();
        Some(byte)
    })
}

/// Text of two bytes a unit, little end first, in UTF-8.
fn utf16(mut bytes: impl Iterator<Item = u8>) -> impl Iterator<Item = u8> {
    let units =
        std::iter::from_fn(move || Some(u16::from_le_bytes([bytes.next()?, bytes.next()?])));
    let text =
        char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER));
    // A mark of the byte order at the start is no part of the text.
    let text = text
        .enumerate()
        .filter(|(at, letter)| *at > 0 || *letter != '\u{feff}');
    text.flat_map(|(_, letter)| letter.to_string().into_bytes())
}

fn used_buffers_change_nothing(record: &[u8], fresh: &Views) {
    let mut buffers = ViewBuffers::default();
    let other = general_purpose::STANDARD.encode("left over from another record");
    views_with(&mut buffers, other.as_bytes());
    let again = views_with(&mut buffers, record);
    assert_eq!((&again.list, again.left_out), (&fresh.list, fresh.left_out));
}

/// Whatever the text is, its encoding is found among other words, in each form that is in use.
fn an_encoded_text_is_found(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let is_text = |c: char| !c.is_control() || "\t\r\n".contains(c);
    if !(12..4096).contains(&text.len()) || !text.chars().all(is_text) {
        return;
    }
    for engine in [
        general_purpose::STANDARD,
        general_purpose::STANDARD_NO_PAD,
        general_purpose::URL_SAFE,
        general_purpose::URL_SAFE_NO_PAD,
    ] {
        let record = format!("cron: run {} now", engine.encode(text));
        let views = views_of(record.as_bytes());
        let found = views.decoded().any(|payload| payload == text.as_bytes());
        assert!(found || views.left_out, "{record:?}");
    }
}
