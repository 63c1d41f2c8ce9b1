//! Compressed logs as the lines that they hold: gzip, bzip2, xz and zstd, known by their first bytes.
//!
//! A stream is unpacked while it is read, in the memory that its window needs and [`MAX_WINDOW_BYTES`] allows. Data that is
//! compressed in another way is refused: its bytes are no lines.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;
use std::rc::Rc;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// Most memory that a stream may ask for. The largest preset of xz needs 65 MiB, that of zstd 128 MiB, without `--long`.
const MAX_WINDOW_BYTES: u64 = 128 << 20;
/// How much is unpacked at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// A stream of lines, unpacked if it was compressed.
pub(super) struct Unpacked<'r> {
    /// What is to be read.
    pub(super) reader: Box<dyn BufRead + 'r>,
    /// For a compressed stream: the bytes that were read of it so far.
    pub(super) consumed: Option<Rc<Cell<u64>>>,
}

/// Looks at the first bytes of a stream, and at the name of its file if it has one.
///
/// # Errors
/// The stream cannot be read, is damaged at its beginning, or is compressed in a way that is not supported.
pub(super) fn unpack<'r>(
    stream: impl BufRead + 'r,
    name: Option<&Path>,
) -> io::Result<Unpacked<'r>> {
    let (kind, stream) = examine(stream)?;
    let Some(kind) = kind else {
        if let Some(extension) = name.and_then(compressed_extension) {
            return Err(io::Error::other(format!(
                "is named .{extension}, and its contents are not: it is damaged, empty, or compressed in a way that is not \
                 supported; if it is text, give it another name"
            )));
        }
        return Ok(Unpacked {
            reader: Box::new(stream),
            consumed: None,
        });
    };
    let format = match kind {
        Kind::Supported(format) => format,
        Kind::Unsupported(what) => return Err(unsupported(what)),
    };
    let consumed = Rc::default();
    let stream = Counted {
        stream,
        consumed: Rc::clone(&consumed),
    };
    let decoder: Box<dyn Read + 'r> = match format {
        Format::Gzip => Box::new(MultiGzDecoder::new(stream)),
        Format::Bzip2 => Box::new(MultiBzDecoder::new(stream)),
        Format::Xz => {
            let decoder = Stream::new_stream_decoder(MAX_WINDOW_BYTES, CONCATENATED)?;
            Box::new(XzDecoder::new_stream(stream, decoder))
        }
        // Its own limit is as large: 2^27 bytes.
        Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
    };
    let lines = BufReader::with_capacity(CHUNK_BYTES, Decoded { decoder, format });
    let (kind, lines) = examine(lines)?;
    match kind {
        None => Ok(Unpacked {
            reader: Box::new(lines),
            consumed: Some(consumed),
        }),
        Some(Kind::Supported(inner)) => Err(io::Error::other(format!(
            "holds {inner} data inside {format} data: unpack it once, and scan what comes out"
        ))),
        Some(Kind::Unsupported(inner)) => Err(unsupported(inner)),
    }
}

fn unsupported(what: &str) -> io::Error {
    io::Error::other(format!(
        "holds no lines but {what}: only gzip, bzip2, xz and zstd are unpacked; unpack it first, or scan it without --lines"
    ))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Gzip => "gzip",
            Format::Bzip2 => "bzip2",
            Format::Xz => "xz",
            Format::Zstd => "zstd",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Supported(Format),
    Unsupported(&'static str),
}

/// How a kind of data begins.
struct Magic {
    bytes: &'static [u8],
    /// The byte at this place may be greater by up to so much.
    spread: (usize, u8),
    kind: Kind,
}

const fn magic(bytes: &'static [u8], kind: Kind) -> Magic {
    Magic {
        bytes,
        spread: (0, 0),
        kind,
    }
}

const fn other(bytes: &'static [u8], what: &'static str) -> Magic {
    magic(bytes, Kind::Unsupported(what))
}

const MAGICS: &[Magic] = &[
    magic(b"\x1f\x8b\x08", Kind::Supported(Format::Gzip)),
    // A block, or the end of a stream without one; the digit is the size of the blocks.
    Magic {
        spread: (3, 8),
        ..magic(b"BZh11AY&SY", Kind::Supported(Format::Bzip2))
    },
    Magic {
        spread: (3, 8),
        ..magic(
            b"BZh1\x17\x72\x45\x38\x50\x90",
            Kind::Supported(Format::Bzip2),
        )
    },
    magic(b"\xfd7zXZ\0", Kind::Supported(Format::Xz)),
    magic(b"\x28\xb5\x2f\xfd", Kind::Supported(Format::Zstd)),
    // A frame to be skipped, as pzstd begins.
    Magic {
        spread: (0, 15),
        ..magic(b"\x50\x2a\x4d\x18", Kind::Supported(Format::Zstd))
    },
    other(b"\x04\x22\x4d\x18", "lz4 data"),
    other(b"\x02\x21\x4c\x18", "lz4 data"),
    other(b"\x5d\x00\x00", "lzma data"),
    other(b"LZIP\x01", "lzip data"),
    other(b"\x89LZO\0\r\n\x1a\n", "lzop data"),
    other(b"\x1f\x9d", "data of compress"),
    other(b"\x1f\xa0", "data of compress"),
    other(b"\x1f\x1e", "data of pack"),
    other(b"\xff\x06\x00\x00sNaPpY", "snappy data"),
    other(b"PK\x03\x04", "a ZIP archive"),
    other(b"PK\x05\x06", "a ZIP archive"),
    other(b"PK\x07\x08", "a ZIP archive"),
    other(b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    other(b"Rar!\x1a\x07", "a RAR archive"),
    other(b"MSCF\0\0\0\0", "a cabinet"),
    other(
        b"LPKSHHRH",
        "a journal of systemd, which journalctl gives as lines",
    ),
];

/// Names of files that hold compressed data.
const EXTENSIONS: &[&str] = &[
    "gz", "tgz", "bz2", "tbz2", "xz", "txz", "zst", "zstd", "tzst", // read
    "7z", "br", "lz", "lz4", "lzma", "lzo", "rar", "sz", "z", "zip", "zz", // refused
];

fn compressed_extension(name: &Path) -> Option<&'static str> {
    let extension = name.extension()?;
    EXTENSIONS
        .iter()
        .find(|known| extension.eq_ignore_ascii_case(known))
        .copied()
}

impl Magic {
    /// Whether the data begins like this, as far as both go.
    fn agrees(&self, data: &[u8]) -> bool {
        let (place, spread) = self.spread;
        self.bytes
            .iter()
            .zip(data)
            .enumerate()
            .all(|(at, (want, have))| {
                have == want
                    || at == place && have.checked_sub(*want).is_some_and(|more| more <= spread)
            })
    }
}

type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// What a stream begins as. No more is read than it takes to tell, so that a line that has come is not kept waiting.
fn examine<R: BufRead>(mut stream: R) -> io::Result<(Option<Kind>, Whole<R>)> {
    let mut head = Vec::new();
    let kind = loop {
        let mut likely = MAGICS.iter().filter(|magic| magic.agrees(&head)).peekable();
        if likely.peek().is_none() {
            break None;
        }
        if let Some(magic) = likely.find(|magic| magic.bytes.len() <= head.len()) {
            break Some(magic.kind);
        }
        let byte = match stream.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => match other?.first() {
                None => break None,
                Some(byte) => *byte,
            },
        };
        head.push(byte);
        stream.consume(1);
    };
    Ok((kind, Cursor::new(head).chain(stream)))
}

/// Counts what is read.
struct Counted<R> {
    stream: R,
    consumed: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.consumed.set(self.consumed.get() + count as u64);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.consumed.set(self.consumed.get() + count as u64);
        self.stream.consume(count);
    }
}

/// Names the format in errors about the data.
struct Decoded<'r> {
    decoder: Box<dyn Read + 'r>,
    format: Format,
}

impl Read for Decoded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).map_err(|error| {
            if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let format = self.format;
            io::Error::new(
                error.kind(),
                format!("the {format} data is damaged, cut off, or needs too much memory: {error}"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pack(format: Format, bytes: &[u8]) -> Vec<u8> {
        let done = match format {
            Format::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Format::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), Default::default());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Format::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Format::Zstd => zstd::stream::encode_all(bytes, 3),
        };
        done.unwrap()
    }

    fn read(packed: &[u8], name: Option<&str>) -> (Vec<u8>, io::Result<()>) {
        let mut out = Vec::new();
        let read = unpack(BufReader::with_capacity(7, packed), name.map(Path::new))
            .and_then(|mut unpacked| unpacked.reader.read_to_end(&mut out).map(drop));
        (out, read)
    }

    const FORMATS: [Format; 4] = [Format::Gzip, Format::Bzip2, Format::Xz, Format::Zstd];

    #[test]
    fn each_format_is_known_by_its_first_bytes_and_streams_follow_each_other() {
        let text = b"one\ntwo\n".repeat(1000);
        for format in FORMATS {
            let packed = pack(format, &text);
            for name in [None, Some("log"), Some("log.gz")] {
                let (out, read) = read(&packed, name);
                assert!(read.is_ok() && out == text, "{format}: {read:?}");
            }
            let (out, read) = read(&[&packed[..], &pack(format, b"three")].concat(), None);
            assert!(read.is_ok(), "{format}: {read:?}");
            assert_eq!(out, [&text[..], b"three"].concat(), "{format}");
            let (out, read) = read_empty(format);
            assert!(read.is_ok() && out.is_empty(), "{format}: {read:?}");
        }
    }

    fn read_empty(format: Format) -> (Vec<u8>, io::Result<()>) {
        read(&pack(format, b""), None)
    }

    #[test]
    fn a_stream_that_is_cut_off_anywhere_or_followed_by_something_else_is_an_error() {
        let text: Vec<u8> = (0..400u32)
            .flat_map(|n| format!("{}\n", n * n).into_bytes())
            .collect();
        for format in FORMATS {
            let packed = pack(format, &text);
            for end in 0..packed.len() {
                let (out, read) = read(&packed[..end], Some("log.gz"));
                assert!(read.is_err(), "{format}, {end} bytes");
                assert!(text.starts_with(&out), "{format}, {end} bytes");
            }
            let (out, read) = read(&[&packed[..], b"more"].concat(), None);
            assert!(read.is_err(), "{format}");
            assert_eq!(out, text, "{format}");
        }
    }

    #[test]
    fn what_is_compressed_otherwise_or_twice_is_refused_and_text_is_not() {
        for magic in MAGICS {
            if let Kind::Unsupported(what) = magic.kind {
                let (_, read) = read(&[magic.bytes, b"..."].concat(), None);
                assert!(read.unwrap_err().to_string().contains(what));
            }
        }
        let twice = pack(Format::Xz, &pack(Format::Gzip, b"text"));
        assert!(read(&twice, None).1.is_err());
        for name in ["log.gz", "a/log.BR", "log.zip", "log.1.xz"] {
            assert!(read(b"text\n", Some(name)).1.is_err(), "{name}");
            assert!(read(b"", Some(name)).1.is_err(), "{name}");
        }
        for text in [
            &b""[..],
            b"B",
            b"BZh",
            b"BZh9 is how bzip2 begins\n",
            b"PK\n",
            b"7z is an archive",
        ] {
            let (out, read) = read(text, Some("log.gz.txt"));
            assert!(read.is_ok() && out == text, "{text:?}");
        }
    }

    #[test]
    fn a_stream_may_not_ask_for_any_amount_of_memory() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(1 << 30);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(b"text").unwrap();
        let xz = encoder.finish().unwrap();
        assert!(read(&xz, None).1.is_err());

        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(30).unwrap();
        encoder.write_all(b"text").unwrap();
        let zst = encoder.finish().unwrap();
        assert!(read(&zst, None).1.is_err());
    }
}
