//! Views are bounded, differ from each other, invent nothing and miss no payload.

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{self, GeneralPurpose, GeneralPurposeConfig};
use scanlib::View;
use scanlib::message::{MAX_DECODED_BYTES, MAX_DECODED_PAYLOADS, Parser, ViewBuffers, ViewSet};

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
        left_out: views.payloads_left_out(),
        list: views.map(|view| (view.view, view.data.to_vec())).collect(),
    }
}

fn bounds_hold(record: &[u8], views: &Views) {
    assert_eq!(views.list[0], (View::Raw, record.to_vec()));
    for (place, (_, data)) in views.list.iter().enumerate().skip(1) {
        assert!(!data.is_empty());
        assert!(views.list[..place].iter().all(|(_, other)| other != data));
    }
    assert!(views.decoded().count() <= MAX_DECODED_PAYLOADS);
    assert!(views.decoded().map(<[u8]>::len).sum::<usize>() <= MAX_DECODED_BYTES);
}

/// Each payload is what some run of letters stands for, of the text or of another payload.
fn every_payload_stands_in_the_text(record: &[u8], views: &Views) {
    let message = Parser::default().parse(record);
    let mut sources: Vec<&[u8]> = vec![message.text()];
    sources.extend(views.decoded());
    for payload in views.decoded() {
        let other = |source: &&&[u8]| **source != payload;
        let found = sources
            .iter()
            .filter(other)
            .any(|source| runs(source).any(|run| decodes_to(run, payload)));
        assert!(found, "nothing stands for {:?}", payload.escape_ascii());
    }
}

/// Every place at which a payload may start, with what follows it.
fn runs(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || b"+/-_".contains(b);
    let whole = text.split(move |b| !letter(b));
    whole.flat_map(|run| {
        let inner = (1..run.len()).filter(|at| b"+/-_".contains(&run[at - 1]));
        let starts = [0].into_iter().chain(inner);
        // A part may end at each separator, too.
        starts.flat_map(|start| {
            let rest = &run[start..];
            let ends = (0..rest.len()).filter(|at| b"+/-_".contains(&rest[*at]));
            [rest.len()].into_iter().chain(ends).map(|end| &rest[..end])
        })
    })
}

fn decodes_to(run: &[u8], payload: &[u8]) -> bool {
    let whole = if run.len() % 4 == 1 {
        &run[..run.len() - 1]
    } else {
        run
    };
    [STANDARD, URL_SAFE].iter().any(|alphabet| {
        let bytes = lenient(alphabet).decode(whole).unwrap_or_default();
        bytes == payload || utf16(&bytes).as_deref() == Some(payload)
    })
}

fn lenient(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

fn utf16(bytes: &[u8]) -> Option<Vec<u8>> {
    let units = bytes
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let text = String::from_utf16_lossy(&units.collect::<Vec<_>>());
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Some(text.as_bytes().to_vec())
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
        assert!(found || views.left_out || is_wide(text), "{record:?}");
    }
}

/// Text that is itself UTF-16 of some other text is shown as that.
fn is_wide(text: &str) -> bool {
    text.contains('\0')
}
